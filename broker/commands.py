"""What an operator asks of the running broker from the console: `stations`, `show`, `tail`, `limit`, `clear`, `release`, `alarms`,
`shadow-report`, `dead-letters`.

Each command finds the broker by its configuration (`--config`), asks its admin side and prints what it says, for people or with
`--json` for machines. Exit codes: 0 done, 1 it failed (one line on stderr says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO
from urllib.parse import quote, urlencode

from broker.alarms import lines
from broker.config import Mistakes
from broker.config_table import SECONDS, amount
from broker.net.admin_client import AdminClient, Unanswered, path_of
from broker.net.files import load
from broker.shown import left_lines, letter_lines, report_page, station_page, stations_table, tail_line

PAGE = 1000  # stations asked for at a time
LOOK_S = 1.0  # how often it is asked whether all is gone
SILENCE_S = 45.0  # a stream says every 15 s that it lives
HOW = {
    "heard": "`{show}` says what comes of it",
    "away": "the station is away: it holds as soon as it comes",
    "deaf": "the station speaks no OCPP version that we know: nothing can be sent to it",
}
UNSTORED = "not on disk: a restart may forget this order. See `ocppbroker alarms`; give it again when the disk is well"

Asked = Callable[[AdminClient, argparse.Namespace], int]


def add(commands: Any) -> None:
    """All of them, for the console script's parser."""
    stations = _command(commands, "stations", stations_of, "which stations are listed and connected")
    stations.add_argument("--tenant", default="", help="only this one's")
    stations.add_argument("--state", choices=("connected", "away"), default="", help="only these")
    _of_station(_command(commands, "show", show, "what is known of one station: what was asked, allowed and sent, why and until when"))
    watching = _command(commands, "alarms", alarms, "what is wrong now, whose fault it is and what to do")
    watching.add_argument("--test", action="store_true", help="send a test message to everybody who is told of alarms")
    reporting = _command(commands, "shadow-report", shadow_report, "what shadow mode would have sent, and what that would have moved")
    reporting.add_argument("tenant", metavar="TENANT")
    burying = _command(commands, "dead-letters", dead_letters, "what the engine refused: when, of which station, what, and why")
    burying.add_argument("tenant", metavar="TENANT")
    either = burying.add_mutually_exclusive_group()
    either.add_argument("--replay", metavar="ID", type=letter, nargs="?", const="all", help="tell it the engine again; without ID all")
    either.add_argument("--drop", metavar="ID", type=letter, nargs="?", const="all", help="throw it away; without ID all")
    tailing = _of_station(_command(commands, "tail", tail, "one station's frames, live, id tokens masked, until Ctrl-C"))
    tailing.add_argument("--record", metavar="FILE", help="write them to this new file too, one JSON object a line")
    limiting = _of_station(_command(commands, "limit", limit, "an operator's own limit, never above what the CPMS allows, with an end"))
    limiting.add_argument("--evse", type=int, metavar="N", help="only this one; without, each of the station's")
    limiting.add_argument("--amps", type=float, required=True, help="per phase; 0 pauses")
    limiting.add_argument("--for", dest="for_s", type=duration, required=True, metavar="15m", help="then it ends by itself")
    _of_station(_command(commands, "clear", clear, "takes an operator's limit back"))
    letting = _command(commands, "release", release, "clears every profile of ours, waits until all are gone, and sends no more")
    letting.add_argument("tenant", metavar="TENANT")
    letting.add_argument("station", metavar="STATION", nargs="?", help="without it all of the tenant's")
    letting.add_argument("--undo", action="store_true", help="from now on profiles of ours may be sent again")
    letting.add_argument("--wait", type=duration, metavar="1h", help="how long to wait, at most; without it for as long as it takes")


def _command(commands: Any, name: str, run: Asked, what: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    command.add_argument("--config", "-c", metavar="broker.toml", default="broker.toml", help="the running broker's own configuration")
    command.add_argument("--json", action="store_true", help="for machines: JSON on stdout")
    command.set_defaults(run=lambda chosen: _asked(run, chosen))
    return command


def _of_station(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("tenant", metavar="TENANT")
    command.add_argument("station", metavar="STATION")
    return command


def duration(said: str) -> float:
    """`15m` in seconds, as in broker.toml. Raises ArgumentTypeError."""
    seconds = amount(said, SECONDS)
    if seconds is None:
        raise argparse.ArgumentTypeError('must be a duration like "30s" or "15m"')
    return seconds


def letter(said: str) -> str:
    """A dead letter's id, or all. Raises ArgumentTypeError."""
    if said != "all" and not (said.isascii() and said.isdigit() and len(said) <= 15):
        raise argparse.ArgumentTypeError("must be an id that `ocppbroker dead-letters` lists, or all")
    return said


def _asked(run: Asked, chosen: argparse.Namespace) -> int:
    try:
        return run(AdminClient(load(chosen.config)), chosen)
    except Mistakes as problem:
        several = f"{chosen.config} has mistakes: `ocppbroker check {chosen.config}` lists them"
        why = problem.lines[0] if len(problem.lines) == 1 else several
    except Unanswered as problem:
        why = str(problem)
    print(f"ocppbroker: {why}", file=sys.stderr)
    return 1


def _print(chosen: argparse.Namespace, said: Any, lines: list[str]) -> None:
    print(json.dumps(said, indent=2, ensure_ascii=False) if chosen.json else "\n".join(lines))


# ---------------------------------------------------------------- looking


def stations_of(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """Every listed and connected station, page by page."""
    found: list[Any] = []
    after: str | None = ""
    while after is not None:
        asked = {"after": after, "limit": PAGE, "tenant": chosen.tenant, "state": chosen.state}
        page = broker.get(f"/api/v1/stations?{urlencode(asked)}")
        found += page["stations"]
        after = page["next"]
    if not found and chosen.tenant and chosen.tenant not in broker.get("/api/v1/status")["tenants"]:
        raise Unanswered(f"there is no tenant {chosen.tenant}")
    _print(chosen, {"stations": found}, stations_table(found))
    return 0


def show(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """One station's view."""
    one = broker.get(path_of(chosen.tenant, chosen.station))
    _print(chosen, one, station_page(one))
    return 0


def alarms(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """All that stand; or whether those who are told can be."""
    if chosen.test:
        told = broker.ask("POST", "/api/v1/alarms/test")["told"]
        _print(chosen, {"told": told}, [f"{name}: {what}" for name, what in told.items()])
        return 0 if all(what == "sent" for what in told.values()) else 1
    said = broker.get("/api/v1/alarms")
    _print(chosen, said, lines(said["alarms"]))
    return 0


def shadow_report(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """Of the last eight days."""
    said = broker.get(f"/api/v1/tenants/{quote(chosen.tenant, safe='')}/shadow-report")
    _print(chosen, said, report_page(said))
    return 0


def dead_letters(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """All of a tenant's, page by page; or they are told again, or thrown away."""
    path = f"/api/v1/tenants/{quote(chosen.tenant, safe='')}/dead-letters"
    if chosen.replay or chosen.drop:
        said = broker.ask("POST" if chosen.replay else "DELETE", f"{path}?id={chosen.replay or chosen.drop}")
        done = f"{said['replayed']} wait to be told again" if chosen.replay else f"{said['dropped']} thrown away"
        _print(chosen, said, [f"{done}, {said['left']} dead letters left"])
        return 0
    found: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = broker.get(f"{path}?after={after}&limit={PAGE}")
        found += page["letters"]
        after = page["next"]
    _print(chosen, {"letters": found}, letter_lines(found))
    return 0


def tail(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """Frames as they go by; Ctrl-C is its proper end."""
    with contextlib.ExitStack() as open_files:
        record: TextIO | None = None
        if chosen.record:
            try:
                record = open_files.enter_context(open(chosen.record, "x", encoding="utf-8"))
            except OSError as problem:
                raise Unanswered(f"--record {chosen.record}: {problem.strerror}") from None
        try:
            for one in broker.stream(path_of(chosen.tenant, chosen.station, "tail"), SILENCE_S):
                line = json.dumps(one)
                print(line if chosen.json else tail_line(one), flush=True)
                if record is not None:
                    print(line, file=record, flush=True)
        except KeyboardInterrupt:
            return 0
    raise Unanswered("the broker ended the stream: it stopped")


# ---------------------------------------------------------------- ordering


def limit(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """The operator's limit; it is kept by the broker from now on, whether the station is there or not."""
    body = {"amps": chosen.amps, "for_s": chosen.for_s, "evse": chosen.evse}
    said = broker.ask("POST", path_of(chosen.tenant, chosen.station, "limit"), body)
    evses = ", ".join(map(str, said["evses"]))
    _print(chosen, said, [f"{said['station']}: at most {said['amps']:g} A on EVSE {evses} until {said['until']}", *_how(said)])
    return 0


def clear(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """No operator's limit any more."""
    said = broker.ask("DELETE", path_of(chosen.tenant, chosen.station, "limit"))
    _print(chosen, said, [f"{said['station']}: no operator's limit", *_how(said)])
    return 0


def _how(said: Any) -> list[str]:
    name = said["station"].partition("/")
    return [HOW[said["state"]].format(show=f"ocppbroker show {name[0]} {name[2]}"), *_unstored(said)]


def _unstored(said: Any) -> list[str]:
    return [] if said["stored"] else [UNSTORED]


def release(broker: AdminClient, chosen: argparse.Namespace) -> int:
    """Asks for it, then waits until nothing of ours is left; a station that is away is released when it comes, or when ours has ended."""
    of_tenant = f"/api/v1/tenants/{quote(chosen.tenant, safe='')}/release"
    path = path_of(chosen.tenant, chosen.station, "release") if chosen.station else of_tenant
    said = broker.ask("DELETE" if chosen.undo else "POST", path)
    if chosen.undo:
        _print(chosen, said, ["profiles of ours may be sent again", *_unstored(said)])
        return 0
    if not said["stored"]:
        _print(chosen, said, ["stations that are connected were told to clear every profile of ours", *_unstored(said)])
        raise Unanswered("without the store it is not known what of ours is left, and at which stations")
    ends = None if chosen.wait is None else time.monotonic() + chosen.wait
    before = ""
    while said["left"] and (ends is None or time.monotonic() < ends):
        now = "; ".join(left_lines(said))
        if not chosen.json and now != before:
            print(now, flush=True)
        before = now
        time.sleep(LOOK_S if ends is None else max(0.0, min(LOOK_S, ends - time.monotonic())))
        said = broker.get(path)
    if said["left"]:
        if chosen.json:
            print(json.dumps(said, indent=2))
        raise Unanswered(f"profiles of ours are left at {said['left']} stations: they are cleared when these come, and end by themselves")
    _print(chosen, said, ["all profiles of ours are gone, and no more are sent"])
    return 0
