"""The console script `ocppbroker`. Exit codes: 0 done, 1 it failed (stderr says why), 2 wrong usage.

Each command is one function that takes the parsed arguments and returns its exit code, and one entry in `commands`.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from getpass import getpass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from broker import commands as operator
from broker import meaning
from broker import replay as replaying
from broker.config import Mistakes
from broker.net import probing
from broker.net.admin_client import AdminClient, Unanswered
from broker.net.cpms import basic
from broker.net.expiry import Findings, examine
from broker.net.files import load, read
from broker.net.once import once
from broker.net.online import compare_all
from broker.ocpp.dialects import BY_NAME
from broker.passwords import hashed
from broker.settings import Settings
from broker.sim import simulate

RELOAD_S = 60.0  # a thousand stations' settings and every certificate are read again

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    chosen = parser().parse_args(arguments)
    run: Command = chosen.run
    try:
        return run(chosen)
    except KeyboardInterrupt:
        return failed("interrupted")
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output left; there is nobody to tell
        return 1


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="ocppbroker", description="A transparent OCPP broker.", epilog="Exit: 0 done, 1 failed, 2 usage.")
    whole.add_argument("--version", action="version", version=f"ocppbroker {our_version()}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    add_check(commands)
    add_reload(commands)
    add_probe(commands)
    add_replay(commands)
    add_hash_password(commands)
    operator.add(commands)
    simulate.add(commands)
    return whole


def our_version() -> str:
    try:
        return version("ocppbroker")
    except PackageNotFoundError:
        return "(not installed)"


def failed(why: str) -> int:
    print(f"ocppbroker: {why}", file=sys.stderr)
    return 1


# ---------------------------------------------------------------- check


def add_check(commands: Any) -> None:
    command = commands.add_parser("check", help="read a configuration and say what it means, or every mistake with its place")
    command.add_argument("config", metavar="broker.toml", nargs="?", default="broker.toml")
    command.add_argument("--online", action="store_true", help="also log in at each engine, and compare its sites' assets with ours")
    command.add_argument("--json", action="store_true", help="for machines: one JSON object on stdout")
    command.set_defaults(run=check)


def check(chosen: argparse.Namespace) -> int:
    """What the configuration means, certificates included; or every mistake, one a line."""
    now = datetime.now(UTC)
    try:
        settings = load(chosen.config)
        found = examine(settings, now)
        mistakes: Sequence[str] = found.mistakes
    except Mistakes as problem:
        settings, found, mistakes = Settings(), Findings([], [], []), problem.lines
    online = once(lambda reactor: compare_all(settings, reactor)) if chosen.online and not mistakes else {}
    if chosen.json:
        means = {} if mistakes else meaning.for_machines(settings, found)
        if chosen.online and not mistakes:
            means["online"] = online
        print(json.dumps({"config": chosen.config, "mistakes": list(mistakes), **means}, indent=2))
    elif not mistakes:
        print("\n".join([*meaning.in_words(chosen.config, settings, found, now), *meaning.engines_in_words(online)]))
    at_odds = [line for lines in online.values() for line in lines]
    for line in () if chosen.json else (*mistakes, *at_odds):
        print(line, file=sys.stderr)
    return 1 if mistakes or at_odds else 0


# ---------------------------------------------------------------- reload


def add_reload(commands: Any) -> None:
    command = commands.add_parser("reload", help="the running broker reads its configuration again, all or nothing, and says what changed")
    command.add_argument("--config", "-c", metavar="broker.toml", default="broker.toml")
    command.add_argument("--json", action="store_true", help="for machines: one JSON object on stdout")
    command.set_defaults(run=reload)


def reload(chosen: argparse.Namespace) -> int:
    """As SIGHUP, and says what came of it."""
    try:
        changes = AdminClient(load(chosen.config)).ask("POST", "/api/v1/reload", patience_s=RELOAD_S)["changes"]
    except Mistakes as mistakes:
        return failed("\n".join([*mistakes.lines, "nothing was reloaded"]))
    except Unanswered as why:
        return failed(str(why))
    print(json.dumps({"changes": changes}, indent=2) if chosen.json else "\n".join(changes) or "nothing changed")
    return 0


# ---------------------------------------------------------------- probe


def add_probe(commands: Any) -> None:
    command = commands.add_parser("probe", help="dial a station's CPMS as the station would, and say what it answered")
    command.add_argument("config", metavar="broker.toml")
    command.add_argument("tenant", metavar="TENANT")
    command.add_argument("station", metavar="STATION", help="not one that is connected: most CPMS end the older of two connections")
    command.add_argument("--protocols", default="ocpp2.1,ocpp2.0.1,ocpp1.6", help="what the station offers, the most wanted first")
    command.add_argument("--user", help="for the password; the station's id without")
    command.add_argument("--password-file", metavar="FILE", help="the station's password; without, what the broker itself shows, if so")
    command.add_argument("--json", action="store_true", help="for machines: one JSON object on stdout")
    command.set_defaults(run=probe)


def probe(chosen: argparse.Namespace) -> int:
    """One dial."""
    try:
        settings = load(chosen.config)
        password = read(chosen.password_file).rstrip("\r\n") if chosen.password_file else None
    except Mistakes as mistakes:
        return failed("\n".join(mistakes.lines))
    except (OSError, ValueError) as error:
        return failed(f"{chosen.password_file}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}")
    tenant = settings.tenants.get(chosen.tenant)
    if tenant is None or tenant.station(chosen.station) is None:
        return failed(f"{chosen.tenant}/{chosen.station}: the broker itself would refuse it: no such tenant, or unlisted")
    if wrong := probing.unfit(tenant.name, chosen.station, protocols := tuple(filter(None, map(str.strip, chosen.protocols.split(","))))):
        return failed(f"{chosen.tenant}/{chosen.station}: the broker itself would refuse it: {wrong}")
    if password is None and tenant.credentials == "replace":
        chosen.user, password = chosen.user or tenant.cpms_user, tenant.cpms_password
    headers = (basic(chosen.user or chosen.station, password),) if password is not None else ()
    found = once(
        lambda reactor: probing.probe(
            tenant, chosen.station, settings.broker, reactor, protocols=protocols, headers=headers, seconds=time.monotonic
        )
    )
    print(json.dumps(found.for_machines(), indent=2) if chosen.json else f"{found.url}: {found.said}")
    return 0 if found.accepted else 1


# ---------------------------------------------------------------- replay


def add_replay(commands: Any) -> None:
    command = commands.add_parser("replay", help="a recorded conversation again: what the tap would have learned from it")
    command.add_argument("file", metavar="FILE", help='one JSON object a line: {"at": seconds, "leg": "station" or "cpms", "text": "…"}')
    command.add_argument("--ocpp", choices=sorted(BY_NAME), help="the version spoken; told by the station's messages without")
    command.add_argument("--json", action="store_true", help="for machines: one JSON object on stdout")
    command.set_defaults(run=replay)


def replay(chosen: argparse.Namespace) -> int:
    """Nothing is sent anywhere."""
    try:
        said = replaying.read_transcript(read(chosen.file))
    except OSError as error:
        return failed(f"{chosen.file}: {error.strerror}")
    except ValueError as error:  # the text of a file that is none may not be repeated
        return failed(f"{chosen.file}: {'is not UTF-8 text' if isinstance(error, UnicodeDecodeError) else error}")
    replayed = replaying.replay(said, BY_NAME[chosen.ocpp] if chosen.ocpp else replaying.dialect_of(said))
    if chosen.json:
        print(json.dumps(replaying.for_machines(replayed), indent=2))
        return 0
    for line in replaying.in_words(replayed.learned):
        print(line)
    print(f"{len(replayed.told)} frames passed, {len(replayed.learned)} things learned, {replayed.unreadable} exchanges could not be read")
    return 0


# ---------------------------------------------------------------- hash-password


def add_hash_password(commands: Any) -> None:
    command = commands.add_parser("hash-password", help='the password_hash of a station, for credentials = "check"')
    command.add_argument("--password-file", metavar="FILE", help="the station's password; without, it is asked for or read from stdin")
    command.set_defaults(run=hash_password)


def hash_password(chosen: argparse.Namespace) -> int:
    """In quotes, as the station list and TOML need it."""
    try:
        if chosen.password_file:
            password = read(chosen.password_file)
        else:
            password = getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline()
    except (OSError, EOFError, ValueError) as error:
        return failed(f"{chosen.password_file or 'stdin'}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}")
    password = password.rstrip("\r\n")
    if not password:
        return failed("the password is empty: a station without a password cannot be checked")
    print(f'"{hashed(password.encode(), secrets.token_bytes(16))}"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
