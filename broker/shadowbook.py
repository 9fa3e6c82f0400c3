"""What would have been: per EVSE and day, what a station in shadow mode would have been told, and what that would have done.

In: decisions that were not sent, and the meter's power. Out: facts, and the report over a tenant's facts. Power is taken to stay as
the meter said until it says something else, 15 min at most; under a limit a car would have taken the lower of the two, and what it
did not take it would have taken later: that energy is *moved*. Peaks are means over 15 min, as grids bill them. W, Wh, seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from broker.model.records import Fact
from broker.ocpp.times import text

TOPIC: Final = "shadow"
SLOT_S: Final = 900.0
DAY_S: Final = 86_400.0
DAYS: Final = 8  # kept: a week, and the day that runs
REASONS: Final = 16  # different ones counted in a day; further ones are "other"
WRITE_S: Final = 60.0  # at least so long between two writes of one day: what a crash may cost


class ShadowBook:
    """One EVSE's. `facts`: what it gave before a restart. Times are seconds since 1970 UTC."""

    __slots__ = ("_days", "_evse", "_power", "_written")

    def __init__(self, evse: int, facts: Iterable[Fact]) -> None:
        self._evse = evse
        self._days: dict[int, dict[str, Any]] = {}
        for fact in facts:
            number, _, day = fact.name.partition("-")
            if fact.topic == TOPIC and number == str(evse) and day.isdecimal() and _is_day(fact.value):
                self._days[int(day)] = _copy({**_empty(), **fact.value})
        self._power: tuple[float, float, float] | None = None  # since when, measured W, would-be W
        self._written = float("-inf")

    def decided(self, at: float, changes: Iterable[str], refused: str) -> tuple[Fact, ...]:
        """A schedule of the engine came: it would have been sent, changed in these ways, or refused for this reason."""
        day = self._day(at)
        day["schedules"] += 1
        counted = day["refused"] if refused else day["changed"]
        for reason in [refused] if refused else changes:
            name = reason if reason in counted or len(counted) < REASONS else "other"
            counted[name] = counted.get(name, 0) + 1
        day["clamped"] += not refused and bool({"cpms-lower", "max-amps", "operator-lower"} & set(changes))
        day["sent"] += not refused
        return self._fact(at)

    def metered(self, at: float, watts: float, most: float | None) -> tuple[Fact, ...]:
        """The meter's power from now on, and what our limit would have been; None: none."""
        self._account(at)
        self._power = (at, watts, watts if most is None else min(watts, most))
        return self._fact(at) if at - self._written >= WRITE_S else ()

    def _account(self, at: float) -> None:
        """What was taken since the last reading, and would have been, by slots."""
        if self._power is None:
            return
        since, watts, would = self._power
        end = min(at, since + SLOT_S)
        while since < end:
            part = min(end, (since // SLOT_S + 1) * SLOT_S)
            slots = self._day(since)["slots"]
            name = str(int(since % DAY_S // SLOT_S))
            taken, instead = slots.get(name, (0.0, 0.0))
            hours = (part - since) / 3600
            slots[name] = [round(taken + watts * hours, 3), round(instead + would * hours, 3)]
            since = part

    def _day(self, at: float) -> dict[str, Any]:
        return self._days.setdefault(int(at // DAY_S), _empty())

    def _fact(self, at: float) -> tuple[Fact, ...]:
        self._written = at
        today = int(at // DAY_S)
        old = [day for day in self._days if day <= today - DAYS or day > today]
        for day in old:
            del self._days[day]
        gone = [Fact(TOPIC, f"{self._evse}-{day}", None) for day in old]
        kept = [Fact(TOPIC, f"{self._evse}-{day}", _copy(self._days[day])) for day in (today - 1, today) if day in self._days]
        return (*gone, *kept)


def report(tenant: str, found: Iterable[tuple[str, Fact]]) -> dict[str, Any]:
    """Over all of a tenant's stations: what would have been sent, clamped, refused; energy and peak that it would have moved."""
    stations: dict[str, dict[str, float]] = {}
    slots: dict[float, float] = {}
    instead: dict[float, float] = {}
    changed: dict[str, float] = {}
    refused: dict[str, float] = {}
    for station, fact in found:
        _, _, day = fact.name.partition("-")
        if not day.isdecimal() or not _is_day(fact.value):
            continue
        of = stations.setdefault(station, dict.fromkeys(("schedules", "sent", "clamped", "energy_wh", "moved_wh"), 0.0))
        _add(of, {name: fact.value.get(name, 0) for name in ("schedules", "sent", "clamped")})
        _add(changed, fact.value.get("changed", {}))
        _add(refused, fact.value.get("refused", {}))
        for slot, (taken, would) in fact.value["slots"].items():
            at = int(day) * DAY_S + int(slot) * SLOT_S
            _add(slots, {at: taken})
            _add(instead, {at: would})
            _add(of, {"energy_wh": taken, "moved_wh": taken - would})
    return {
        "tenant": tenant,
        "from": text(min(slots)) if slots else None,
        "until": text(max(slots) + SLOT_S) if slots else None,
        "schedules": round(sum(of["schedules"] for of in stations.values())),
        "would_send": round(sum(of["sent"] for of in stations.values())),
        "clamped": round(sum(of["clamped"] for of in stations.values())),
        "changed": {name: round(n) for name, n in sorted(changed.items())},
        "refused": {name: round(n) for name, n in sorted(refused.items())},
        "energy_wh": round(sum(slots.values()), 1),
        "moved_wh": round(sum(slots.values()) - sum(instead.values()), 1),
        "peak_w": round(max(slots.values(), default=0.0) * 3600 / SLOT_S, 1),
        "peak_with_ours_w": round(max(instead.values(), default=0.0) * 3600 / SLOT_S, 1),
        "stations": {name: {key: round(value, 1) for key, value in of.items()} for name, of in sorted(stations.items())},
    }


def _add(to: dict[Any, float], what: Mapping[Any, Any]) -> None:
    for name, amount in what.items():
        to[name] = to.get(name, 0.0) + float(amount)


def _empty() -> dict[str, Any]:
    return {"schedules": 0, "sent": 0, "clamped": 0, "changed": {}, "refused": {}, "slots": {}}


def _copy(day: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in day.items()}


def _is_day(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("slots"), Mapping)
