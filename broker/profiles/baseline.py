"""What a station said is in force (GetCompositeSchedule), from before our time or beside what we saw: a further bound on the CPMS's limit.

What was read while the transaction ran holds period by period. What was read before it is kept at its lowest, for a Relative
schedule begins anew with a transaction; so is what the CPMS asked for itself: it may have asked for the next minute only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from broker.model.observations import CompositeSeen
from broker.model.records import Fact
from broker.model.schedules import ChargingProfile, Period
from broker.profiles.composite import Course, Place, Placed, course
from broker.profiles.saying import meant, unclear
from broker.profiles.shadowfacts import TOPIC

MOST: Final = 64  # EVSEs


class Read(NamedTuple):
    """An answer to our own question."""

    told: ChargingProfile | None
    """None: it was refused, so the limit is unknown."""
    exact: bool = False
    """It holds period by period, as long as it is remembered."""


class Baseline:
    """One station's. `ask`: whether the station is asked; `facts`: what was given before a restart."""

    __slots__ = ("_ac", "_ask", "_heard", "_read")

    def __init__(self, ask: bool, ac: bool, facts: Iterable[Fact] = ()) -> None:
        self._ask, self._ac = ask, ac
        self._read: dict[int, Read] = {}
        self._heard: dict[int, float] = {}
        for fact in facts:
            if fact.topic == TOPIC:
                self._recall(fact)

    def answered(self, seen: CompositeSeen, exact: bool) -> tuple[Fact, ...]:
        """The answer to our own question. Refused or empty: unknown, until it is forgotten."""
        told = _profile(seen) if seen.accepted and seen.periods else None
        self._read[seen.evse] = Read(told, exact and told is not None and told.start is not None and unclear(_as_cap(told)) == "")
        lowest = None if told is None else self._lowest(told)
        return (Fact(TOPIC, f"read-{seen.evse}", {"lowest": lowest}),)

    def overheard(self, seen: CompositeSeen) -> tuple[Fact, ...]:
        """The answer to the CPMS's question; nothing of ours was in it."""
        if not seen.accepted or not seen.periods or (seen.evse not in self._heard and len(self._heard) >= MOST):
            return ()
        self._heard[seen.evse] = lowest = min(self._lowest(_profile(seen)), self._heard.get(seen.evse, math.inf))
        return (Fact(TOPIC, f"heard-{seen.evse}", {"lowest": lowest}),)

    def forget(self, evse: int = 0) -> tuple[Fact, ...]:
        """To be asked again; 0: everywhere. What is never asked for is not forgotten either, for nothing would come in its place."""
        if evse:
            return (Fact(TOPIC, f"read-{evse}", None),) if self._read.pop(evse, None) is not None else ()
        return (*_forget("read", self._read), *(_forget("heard", self._heard) if self._ask else ()))

    def cleared(self) -> tuple[Fact, ...]:
        """The CPMS cleared everything."""
        return (*_forget("read", self._read), *_forget("heard", self._heard))

    def to_ask(self, evse: int) -> tuple[int, ...]:
        """Where the station must still be asked before anything may be sent on `evse`."""
        return tuple(place for place in (evse, 0) if place not in self._read) if self._ask else ()

    def varies(self, evse: int) -> bool:
        """It says different limits, and is kept at its lowest."""
        read = self._read.get(evse)
        return read is not None and read.told is not None and not read.exact and len({period.limit for period in read.told.periods}) > 1

    def courses(self, place: Place, begin: float, end: float) -> list[Course] | None:
        """None: not known."""
        found: list[Course] = []
        if self.to_ask(place.evse):
            return None
        for where in (place.evse, 0):
            read = self._read.get(where)
            if read is not None and read.told is None:
                return None
            if read is not None and read.told is not None:
                flat = _flat(self._lowest(read.told), self._ac)
                found.append(course([_as_cap(read.told if read.exact else flat)], place, None, begin, end))
            if where in self._heard:
                found.append(course([_as_cap(_flat(self._heard[where], self._ac))], place, None, begin, end))
        return found

    def _lowest(self, told: ChargingProfile) -> float:
        """In the socket's unit, as low as it can be meant: three phases share watts."""
        whole = told if not self._ac else _without_phases(told)
        return meant(whole, 0, len(told.periods), Place(0, self._ac), True).low

    def _recall(self, fact: Fact) -> None:
        kind, _, place = fact.name.partition("-")
        if fact.value is None or not place.isdecimal():
            return
        lowest = fact.value.get("lowest") if isinstance(fact.value, Mapping) else None
        number = float(lowest) if isinstance(lowest, int | float) and lowest == lowest else None
        if kind == "read":
            self._read[int(place)] = Read(None if number is None else _flat(number, self._ac))
        elif kind == "heard" and number is not None:
            self._heard[int(place)] = number


def _profile(seen: CompositeSeen) -> ChargingProfile:
    return ChargingProfile(0, 0, "max", "Absolute", seen.unit, seen.periods, seen.start)


def _flat(lowest: float, ac: bool) -> ChargingProfile:
    return ChargingProfile(0, 0, "max", "Absolute", "A" if ac else "W", (Period(0, lowest),))


def _as_cap(told: ChargingProfile) -> Placed:
    """A bound, whatever else holds."""
    return Placed(0, told)


def _without_phases(told: ChargingProfile) -> ChargingProfile:
    return ChargingProfile(0, 0, "max", "Absolute", told.unit, tuple(Period(one.start_s, one.limit) for one in told.periods))


def _forget(kind: str, table: dict[int, Any]) -> tuple[Fact, ...]:
    gone = tuple(Fact(TOPIC, f"{kind}-{evse}", None) for evse in table)
    table.clear()
    return gone
