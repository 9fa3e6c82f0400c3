"""The operator's text in, Settings out; or every mistake at once, each as `tenants[1].cpms_url: must start with ws:// or wss://`.

Nothing is opened here: `read` brings the files that the text names (secrets, station lists, included tenants), `find` the files
that fit a pattern. Whether certificates and keys are there and fit is asked by whoever opens the ports (`net.tls`, `check`).
Relative paths start from the file that names them; in Settings they are absolute if `place` was.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from broker.config_alarms import read_alarms
from broker.config_endpoints import endpoint_text, take_apart
from broker.config_quirks import read_quirks
from broker.config_table import Reading, Table, guess
from broker.config_tenants import read_tenant
from broker.settings import BrokerSettings, ListenSettings, Quirk, Settings, TenantSettings


class Mistakes(ValueError):
    """Everything that is wrong with a configuration, in the order it was found; `lines` are `place: what`."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


def literally(pattern: str) -> Sequence[str]:
    """A `find` for those who have no folder to look into: the pattern is the file."""
    return (pattern,)


def parse(
    text: str,
    place: str,
    read: Callable[[str], str],
    env: Mapping[str, str],
    find: Callable[[str], Sequence[str]] = literally,
) -> Settings:
    """Settings from the text of `place` (its path). `read(path)` gives a file's text or raises OSError. Raises Mistakes."""
    main = Reading(posixpath.dirname(place), read, env, [])
    root = Table(toml(text, posixpath.basename(place), main.mistakes), "", main)
    readable = not main.mistakes
    service = root.table("broker") or Table({}, "broker", main)
    broker, quirks = read_broker(service), own_quirks(service)
    tenants = [read_tenant(table) for table in root.tables("tenants")]
    for pattern in root.strings("include") or ():
        tenants += read_included(pattern, root, find)
    listen = tuple(read_listen(table) for table in root.tables("listen"))
    root.end()
    if readable:
        check_names(listen, tenants, main)
        check_profiles(listen, tenants, main)
    if main.mistakes:
        raise Mistakes(main.mistakes)
    return Settings(broker, listen, {tenant.name: tenant for tenant in tenants}, quirks)


def toml(text: str, name: str, mistakes: list[str]) -> dict[str, Any]:
    """The text's tables; empty after noting `broker.toml:3: …` when it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        where = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", str(problem))
        line = (where[1] if where and where[1] else None) or str(text.count("\n") + 1)
        mistakes.append(f"{name}:{line}: {str(problem)[: where.start()] if where else problem}")
    except (RecursionError, ValueError):
        mistakes.append(f"{name}:1: cannot be read as TOML")
    return {}


def read_included(pattern: str, root: Table, find: Callable[[str], Sequence[str]]) -> list[TenantSettings]:
    """The tenants of every file that fits `pattern`."""
    main = root.reading
    paths = sorted(find(main.path(pattern)))
    if not paths:
        root.wrong("include", f"no file fits {pattern}")
    tenants = []
    for path in paths:
        name = posixpath.relpath(path, main.base or ".")
        text = main.contents("include", name)
        if text is not None:
            reading = Reading(posixpath.dirname(path), main.read, main.env, main.mistakes, included=name)
            table = Table(toml(text, name, main.mistakes), "", reading)
            tenants += [read_tenant(tenant) for tenant in table.tables("tenants")]
            table.end()
    return tenants


def read_broker(table: Table) -> BrokerSettings:
    table.known.append("quirks_file")  # read by `own_quirks`
    plain = BrokerSettings()
    settings = BrokerSettings(
        state=table.path("state", plain.state),
        admin=endpoint_text(table, "admin", plain.admin),
        admin_token_file=table.path("admin_token_file", plain.admin_token_file),
        hold_s=table.seconds("hold", plain.hold_s, "0s", "60s"),
        dial_timeout_s=table.seconds("dial_timeout", plain.dial_timeout_s, "100ms", "60s"),
        ping_s=table.seconds("ping", plain.ping_s, "1s", "1h"),
        drain_s=table.seconds("drain", plain.drain_s, "0s", "10m"),
        max_message=table.size("max_message", plain.max_message, "1KiB", "64MiB"),
        max_links=table.whole("max_links", plain.max_links, 1, 1_000_000),
        rate=table.whole("rate", plain.rate, 0, 1_000_000),
        burst=table.whole("burst", plain.burst, 1, 1_000_000),
        alarms=read_alarms(table.table("alarms")),
    )
    table.end()
    return settings


def own_quirks(table: Table) -> tuple[Quirk, ...]:
    """What `quirks_file` says; a line of it goes before what we know of that make."""
    name = table.text("quirks_file", "")
    text = table.reading.contents(table.at("quirks_file"), name) if name else None
    if text is None:
        return ()
    main, place = table.reading, table.reading.path(name)
    reading = Reading(posixpath.dirname(place), main.read, main.env, main.mistakes, included=name)
    return read_quirks(Table(toml(text, name, main.mistakes), "", reading))


def read_listen(table: Table) -> ListenSettings:
    endpoint = endpoint_text(table, "endpoint")
    settings = ListenSettings(endpoint, table.text("tenant", "") or None)
    table.end()
    return settings


def check_names(listen: Sequence[ListenSettings], tenants: Sequence[TenantSettings], main: Reading) -> None:
    """There is a port and a tenant, none of them twice, and a port's tenant exists."""
    if not listen:
        main.wrong("listen", "is missing: without a [[listen]] no station can dial")
    if not tenants:
        main.wrong("tenants", "is missing: without a [[tenants]] no station is let in")
    names = [tenant.name for tenant in tenants]
    for name in sorted({name for name in names if name and names.count(name) > 1}):
        main.wrong("tenants", f"{name} is here {names.count(name)} times")
    for number, port in enumerate(listen):
        if port.tenant is not None and port.tenant not in names:
            main.wrong(f"listen[{number}].tenant", f"{port.tenant} is not a tenant{guess(port.tenant, names)}")
        first = [other.endpoint for other in listen].index(port.endpoint)
        if first < number and port.endpoint and take_apart(port.endpoint).positional[:1] != ("0",):
            main.wrong(f"listen[{number}].endpoint", f"is the same as listen[{first}].endpoint")


def check_profiles(listen: Sequence[ListenSettings], tenants: Sequence[TenantSettings], main: Reading) -> None:
    """A tenant that asks for TLS (security profile 2) or client certificates (3) has a port where its stations find that."""
    for tenant in tenants:
        doors = [take_apart(port.endpoint) for port in listen if port.endpoint and port.tenant in (None, tenant.name)]
        place = f"tenants {tenant.name}"
        if tenant.security_profile >= 2 and doors and not any(door.encrypted for door in doors):
            main.wrong(place, f"security_profile = {tenant.security_profile}, but each [[listen]] it may use is without TLS")
        elif tenant.security_profile == 3 and doors and not any(door.files("clientCAs") for door in doors):
            main.wrong(place, "security_profile = 3, but no [[listen]] it may use asks for client certificates (ocpps: with clientCAs=)")
