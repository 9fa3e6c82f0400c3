"""What a reload changes: the settings that run and the ones just read go in, a plain list of differences comes out.

Every difference is named by its place in the operator's words, with the old and the new value where it is no secret. What only a
restart can change (the store, the admin side) keeps its old value in `effective`, and is named again at each reload until then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, fields, replace
from typing import Any, Final, NamedTuple

from broker.model.basics import Key
from broker.passlines import followed
from broker.settings import (
    AlarmSettings,
    ChargingSettings,
    EngineSettings,
    ListenSettings,
    MailSettings,
    Quirk,
    Settings,
    StationSettings,
    TenantSettings,
)

Part = EngineSettings | ChargingSettings | AlarmSettings | MailSettings
"""What has a place of its own in the list."""
AT_A_RESTART: Final = frozenset({"state", "admin", "admin_token_file"})
MOST_SHOWN: Final = 100  # lines of one reload in the log; a station list of ten thousand rows must not be a log of ten thousand lines
MOST_VALUE: Final = 80  # characters of a value
NO_CHARGING: Final = ChargingSettings()


class Change(NamedTuple):
    """One difference."""

    place: str
    """`broker`, `listen tcp:9000`, `tenant acme`, `tenant acme engine`, `station acme/CS-7`, `station acme/CS-7 evse 1`."""
    what: str
    """`added`, `removed`, or `<key>: <old> → <new>`; of a secret only that it changed."""
    at_a_restart: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.what}{' (only at a restart)' if self.at_a_restart else ''}"


class Place(NamedTuple):
    """What of the settings an open link follows. A difference here means a new observer; the CPMS and what it is shown are not in it."""

    station: StationSettings
    name: str = ""
    """Its tenant's."""
    engine: EngineSettings | None = None
    """Its tenant's; None for a station that is relayed only."""
    charging: ChargingSettings = NO_CHARGING
    quirks: tuple[Quirk, ...] = ()
    judged: bool = False
    """Its password is judged here."""

    @property
    def tenant(self) -> TenantSettings | None:
        """Of its tenant what matters here, made when it is asked for. None for a station that is relayed only."""
        if self.engine is None:
            return None
        return TenantSettings(self.name, "", self.station.mode, engine=self.engine, charging=self.charging)


def place(settings: Settings, key: Key) -> Place | None:
    """Where this station belongs now; None if it is not allowed any more."""
    tenant = settings.tenants.get(key.tenant)
    station = tenant.station(key.station) if tenant is not None else None
    return None if tenant is None or station is None else placed(tenant, station, settings.quirks)


def placed(tenant: TenantSettings, station: StationSettings, quirks: tuple[Quirk, ...] = ()) -> Place:
    """The same from its parts."""
    if station.mode == "relay" or tenant.engine is None or station.site is None:
        return Place(StationSettings(station.id, "relay"))
    shown = replace(station, password_hash="") if station.password_hash else station
    return Place(shown, tenant.name, tenant.engine, tenant.charging, quirks, followed(tenant, station))


def effective(old: Settings, new: Settings) -> Settings:
    """`new`, but for what needs a restart."""
    kept = {name: getattr(old.broker, name) for name in AT_A_RESTART}
    return replace(new, broker=replace(new.broker, **kept))


def differences(old: Settings, new: Settings) -> tuple[Change, ...]:
    """Everything that differs, in the order of the file; empty if nothing does."""
    return (
        *_fields("broker", old.broker, new.broker),
        *_fields("broker alarms", old.broker.alarms, new.broker.alarms),
        *_part("broker alarms mail", old.broker.alarms.mail, new.broker.alarms.mail),
        *_ports(old.listen, new.listen),
        *([Change("quirks", f"{len(old.quirks)} lines → {len(new.quirks)} lines")] if old.quirks != new.quirks else ()),
        *_named("tenant", old.tenants, new.tenants, _tenant),
    )


def shown(changes: Sequence[Change]) -> list[str]:
    """Lines for a log, not too many."""
    lines = [str(change) for change in changes[:MOST_SHOWN]]
    more = len(changes) - len(lines)
    return [*lines, f"and {more} more"] if more else lines


def _ports(old: Sequence[ListenSettings], new: Sequence[ListenSettings]) -> Iterator[Change]:
    for port in old:
        if old.count(port) > new.count(port):
            yield Change(_port(port), "removed")
    for port in new:
        if new.count(port) > old.count(port):
            yield Change(_port(port), "added")


def _port(port: ListenSettings) -> str:
    return f"listen {port.endpoint}{f' (only {port.tenant})' if port.tenant else ''}"


def _named(kind: str, old: Mapping[str, Any], new: Mapping[str, Any], within: Any, prefix: str = "") -> Iterator[Change]:
    """Things by name: gone, new, or changed within."""
    for name in {**old, **new}:
        at = f"{kind} {prefix}{name}"
        if name not in new:
            yield Change(at, "removed")
        elif name not in old:
            yield Change(at, "added")
        elif old[name] != new[name]:
            yield from within(at, old[name], new[name])


def _tenant(at: str, old: TenantSettings, new: TenantSettings) -> Iterator[Change]:
    yield from _fields(at, old, new)
    yield from _part(f"{at} engine", old.engine, new.engine)
    yield from _part(f"{at} charging", old.charging, new.charging)
    yield from _named("station", old.stations, new.stations, _station, f"{new.name}/")


def _station(at: str, old: StationSettings, new: StationSettings) -> Iterator[Change]:
    yield from _fields(at, old, new)
    before, after = ({str(evse.number): evse for evse in one.evses} for one in (old, new))
    yield from _named(f"{at} evse", before, after, _fields)
    if before == after and old.evses != new.evses:
        yield Change(at, "evses: another order")


def _part(at: str, old: Part | None, new: Part | None) -> Iterator[Change]:
    if old is None and new is not None:
        yield Change(at, "added")
    elif new is None and old is not None:
        yield Change(at, "removed")
    elif old is not None and new is not None:
        yield from _fields(at, old, new)


def _fields(at: str, old: Any, new: Any) -> Iterator[Change]:
    """Key by key; what has places of its own is left to them."""
    for one in fields(old):
        before, after = getattr(old, one.name), getattr(new, one.name)
        if before != after and not _apart(one, before, after):
            values = f"{one.name}: {_value(before)} → {_value(after)}" if one.repr else f"{one.name}: changed"
            yield Change(at, values, at == "broker" and one.name in AT_A_RESTART)


def _apart(one: Field[Any], before: Any, after: Any) -> bool:
    return one.name in ("stations", "evses") or any(isinstance(value, Part) for value in (before, after))


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        value = ", ".join(map(str, value))
    text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= MOST_VALUE else f"{text[: MOST_VALUE - 1]}…"
