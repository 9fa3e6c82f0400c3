"""Limits that a 2.x station has from elsewhere and tells of (NotifyChargingLimit): an energy manager's, a system operator's, others'.

Each is one more limit beside the CPMS's profiles, until the station says that it is gone (ClearedChargingLimit; 2.x K11 to K13) or its own
schedule ends. Of one that came without a readable schedule nobody knows how low it is, so until then the limit there is unknown. The
station keeps to them without us; that one is in force is therefore no reason to leave ours out, and only its `low` is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from broker.model.observations import LimitCleared, LimitTold
from broker.model.records import Fact
from broker.model.schedules import ChargingProfile
from broker.profiles.composite import Course, Place, Placed, course
from broker.profiles.shadowfacts import TOPIC, Unread, entry_of, fact_of

PREFIX: Final = "external-"
MOST: Final = 32  # a station has a handful of sources and EVSEs; more is nobody's plan, and then the limit is unknown
OVERFLOW: Final = f"{PREFIX}overflow"

Facts = tuple[Fact, ...]


class External:
    """One station's. `facts`: what `told` and `cleared` gave before a restart."""

    __slots__ = ("_table",)

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        known = [fact for fact in facts if fact.topic == TOPIC and fact.name.startswith(PREFIX) and fact.value is not None]
        self._table: dict[str, LimitTold] = {fact.name: _read(fact.value) for fact in known}

    def told(self, seen: LimitTold) -> Facts:
        """In the place of what the same source said of the same EVSE."""
        name = f"{PREFIX}{seen.source}@{seen.evse}"
        if name not in self._table and len(self._table) >= MOST:
            name, seen = OVERFLOW, LimitTold(0, "", (), "more limits from elsewhere than we remember")
        if self._table.get(name) == seen:
            return ()
        self._table[name] = seen
        return (Fact(TOPIC, name, _written(seen)),)

    def cleared(self, seen: LimitCleared) -> Facts:
        """No EVSE: all of that source. What did not fit is gone with the last of those that did."""
        gone = [name for name, one in self._table.items() if name != OVERFLOW and one.source == seen.source and seen.evse in (0, one.evse)]
        for name in gone:
            del self._table[name]
        if self._table.keys() == {OVERFLOW}:
            del self._table[OVERFLOW]
            gone.append(OVERFLOW)
        return tuple(Fact(TOPIC, name, None) for name in gone)

    def expire(self, at: float) -> Facts:
        """Forget what ended by its own schedules. `at`: the station's clock."""
        gone = [name for name, one in self._table.items() if not one.why and all(_end(each) <= at for each in one.schedules)]
        for name in gone:
            del self._table[name]
        return tuple(Fact(TOPIC, name, None) for name in gone)

    def unknown(self, evse: int) -> str:
        """Why it is not known what is allowed there; "" if it is."""
        return next((one.why for one in self._here(evse) if one.why), "")

    def courses(self, place: Place, begin: float, end: float) -> list[Course]:
        """What each of those that can be read allows there within [begin, end), in the station's clock."""
        placed = [Placed(0, each) for one in self._here(place.evse) for each in one.schedules]
        found = [course([one], place, None, begin, end) for one in placed]
        return [one._replace(spans=tuple(span._replace(high=math.inf) for span in one.spans)) for one in found]

    def _here(self, evse: int) -> list[LimitTold]:
        return [one for one in self._table.values() if one.evse in (0, evse)]


def _end(one: ChargingProfile) -> float:
    """Without a start nobody knows when it is over."""
    return math.inf if one.start is None or one.duration_s is None else one.start + one.duration_s


def _written(one: LimitTold) -> dict[str, Any]:
    schedules = [fact_of("", Placed(0, each)).value for each in one.schedules]
    return {"evse": one.evse, "source": one.source, "schedules": schedules, "why": one.why}


def _read(value: object) -> LimitTold:
    """What `_written` gave, checked field by field."""
    said = value if isinstance(value, Mapping) else {}
    evse, source, listed, why = (said.get(name) for name in ("evse", "source", "schedules", "why"))
    entries = [entry_of(one) for one in listed] if isinstance(listed, list) else [Unread(0, None, "")]
    placed = tuple(one.profile for one in entries if isinstance(one, Placed))
    if isinstance(evse, int) and isinstance(source, str) and isinstance(why, str) and len(placed) == len(entries):
        return LimitTold(evse, source, placed, why)
    place, name = evse if isinstance(evse, int) else 0, source if isinstance(source, str) else ""
    return LimitTold(place, name, (), "a limit from elsewhere, remembered by another version")
