"""What one station's learning takes of memory: a fleet has ten thousand of them, so what is added to each is seen here."""

from __future__ import annotations

import itertools
import sys
from types import FunctionType, ModuleType
from typing import Any

import pytest
from reachable import reachable
from test_observer import START, VERSIONS, Link, charge, seat, stop

from broker.model.basics import Instant
from broker.model.observations import ProfileSeen, StatusSeen
from broker.model.schedules import ChargingProfile, Period
from broker.net import link as whole
from broker.observer import Identifying, Seat, Watching

BESIDES = (type, FunctionType, ModuleType)
MOST = {"smart-charging": 6600, "shadow": 7200, "driver-identification": 1200}
"""Bytes, in the middle of a charge. It was 8,300 in smart-charging mode while its parts had dictionaries and sets of their own."""


def made(place: Seat, mode: str) -> Link:
    if mode == "driver-identification":
        return Link(Identifying(place, ()))
    tokens = itertools.count(1)
    life: dict[str, Any] = {"opened": Instant(100.0, START), "flapping": False, "new_token": lambda: next(tokens)}
    return Link(Watching(place, (), shadow=mode == "shadow", **life))


def own(link: Link, other: Link) -> list[Any]:
    """What is this one's alone."""
    shared = reachable(other.observer, BESIDES)
    return [one for at, one in reachable(link.observer, BESIDES).items() if at not in shared]


@pytest.mark.parametrize("mode", MOST)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_station_takes_little_and_its_parts_have_no_dictionaries_of_their_own(version: str, mode: str) -> None:
    place = seat(version, mode)
    link, other = made(place, mode), made(place, mode)
    charge(link, version)
    mine = own(link, other)
    ours = [one for one in mine if type(one).__module__.startswith("broker.")]
    assert len(ours) >= 5, "it was looked at"
    assert [type(one).__name__ for one in ours if getattr(type(one), "__dictoffset__", 0)] == []
    assert sum(map(sys.getsizeof, mine)) <= MOST[mode]


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_left_behind_by_charge_after_charge(version: str) -> None:
    """What is remembered of ends has a bound of its own; it was reached before the first look."""
    place = seat(version)
    link, other = made(place, "shadow"), made(place, "shadow")
    weights = []
    for _ in range(2):
        for _ in range(40):
            charge(link, version)
            stop(link, version)
            link.wait(60.0)
        weights.append(sum(map(sys.getsizeof, own(link, other))))
    assert abs(weights[1] - weights[0]) <= 700


def test_a_thousand_evses_that_a_station_speaks_of_are_not_remembered() -> None:
    link = made(seat("ocpp1.6"), "smart-charging")
    injector = link.observer._injector
    for evse in range(1000):
        injector.observe(StatusSeen(evse, 1, "Available"), link.now)
    assert len(injector._places) <= 2


@pytest.mark.parametrize(("seen", "single"), [((), True), ((1,), True), ((0, 1, 1, 0), True), ((2,), False), ((1, 2), False)])
def test_a_station_that_speaks_of_one_evse_only_is_a_single_one(seen: tuple[int, ...], single: bool) -> None:
    """Its first rung is the whole station's profile (a second EVSE would share it)."""
    link = made(seat("ocpp1.6"), "smart-charging")
    injector = link.observer._injector
    for evse in seen:
        injector.observe(StatusSeen(evse, 1, "Available"), link.now)
    rung = injector._rung(injector._sockets[1])
    assert (rung is not None and rung != "wait" and rung.purpose == "max") is single


def test_what_all_share_is_nobodys_to_change() -> None:
    """One station's refused rung, taken id and released EVSE are not another's."""
    place = seat("ocpp1.6")
    one, other = (made(place, "smart-charging").observer._injector for _ in range(2))
    one._ladder.refuse(next(one._ladder.rungs(None, lambda _: None)))
    one._named_like_ours(7)
    one._only_operators |= {1}
    assert (other._ladder._refused, other._taken, other._only_operators) == (frozenset(), frozenset(), frozenset())
    one._engine_hears(1)
    assert one._only_operators is other._only_operators


def test_a_profile_is_a_station_s_own() -> None:
    place = seat("ocpp1.6")
    one, other = (made(place, "smart-charging").observer._injector for _ in range(2))
    profile = ChargingProfile(5, 0, "default", "Absolute", "A", (Period(0, 10.0),))
    one.observe(ProfileSeen(1, profile, True), Instant(101.0, START + 1))
    assert [len(each._limits._shadow.entries) for each in (one, other)] == [1, 0]


def test_nor_has_a_link() -> None:
    """It has thirty attributes, as many as CPython shares the names of: with one more, each link would have a table of its own."""
    assert whole.Link.__dictoffset__ == 0
