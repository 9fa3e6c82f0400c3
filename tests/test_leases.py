"""Leases survive a restart as they were, and are held against what the CPMS allows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.leases import Lease, lease_of
from broker.model.observations import ClearSeen
from broker.model.records import Fact
from broker.model.schedules import ChargingProfile, Period, Step
from broker.profiles.composite import Span
from broker.profiles.decide import Limit

NOW = 1_780_000_000.0
numbers = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=9)
steps = st.lists(st.builds(Step, numbers, numbers), max_size=5).map(tuple)
leases = st.builds(
    Lease,
    profile_id=st.integers(1, 2**31 - 1),
    evse=st.integers(0, 99),
    purpose=st.sampled_from(["max", "tx", "default"]),
    stack_level=st.integers(0, 99),
    until=numbers,
    schedule_id=words,
    steps=steps,
    tail=numbers,
    most=steps,
    begun=numbers,
    unit=st.sampled_from(["A", "W"]),
    transaction_id=st.none() | words,
    sure=st.booleans(),
    skew=numbers,
)
LEASE = Lease(
    profile_id=9_120_011,
    evse=1,
    purpose="max",
    stack_level=8,
    until=NOW + 900,
    schedule_id="s-1",
    steps=(Step(NOW, 16.0), Step(NOW + 300, 10.0)),
    tail=32.0,
    most=(Step(NOW, 16.0), Step(NOW + 300, 10.0), Step(NOW + 900, 32.0)),
    begun=NOW,
    sure=True,
)


@settings(max_examples=100)
@given(leases)
def test_a_restart_finds_a_lease_as_it_was(lease: Lease) -> None:
    fact = lease.fact()
    assert lease_of(Fact(fact.topic, fact.name, json.loads(json.dumps(fact.value)))) == lease
    assert (lease.gone().topic, lease.gone().name, lease.gone().value) == (fact.topic, fact.name, None)


def test_a_lease_that_does_not_say_why_is_one_all_the_same() -> None:
    value = {name: what for name, what in LEASE.fact().value.items() if name != "why"}
    assert lease_of(Fact("lease", "9120011", value)) == LEASE
    why = replace(LEASE, why=("cpms-lower", "unit"))
    assert lease_of(why.fact()) == why


@pytest.mark.parametrize("field", sorted({*LEASE.fact().value} - {"why"}))
def test_a_fact_of_another_version_is_no_lease(field: str) -> None:
    value = {name: what for name, what in LEASE.fact().value.items() if name != field}
    assert lease_of(Fact("lease", "9120011", value)) is None


@pytest.mark.parametrize(
    "fact",
    [
        Fact("boot", "1", {}),
        Fact("fallback", "9120011", LEASE.fact().value),
        Fact("lease", "1", None),
        Fact("lease", "x", {}),
        Fact("lease", "1", []),
    ],
)
def test_what_is_no_lease_is_none(fact: Fact) -> None:
    assert lease_of(fact) is None


def test_it_is_renewed_when_a_third_is_left_and_over_when_the_profile_itself_has_ended() -> None:
    assert LEASE.renew_at == NOW + 600
    assert not LEASE.over(NOW + 1200)
    assert LEASE.over(NOW + 1201)


def allows(*limits: tuple[float, float]) -> Limit:
    spans = tuple(Span(NOW + at, low, low) for at, low in limits)
    return Limit(True, spans[0].low, "", spans)


FREE = Limit(True, None)


@pytest.mark.parametrize(
    ("limit", "above"),
    [
        (FREE, False),
        (Limit(False, None), True),
        (allows((0, 15.9)), True),
        (allows((0, 16.0)), True),  # its tail says 32
        (allows((0, 32.0)), False),
        (allows((0, 16.0), (900, 32.0)), False),
        (allows((0, 16.0), (300, 10.0), (900, 32.0)), False),
        (allows((0, 16.0), (299, 10.0), (900, 32.0)), True),
        (allows((0, 16.0), (901, 32.0)), True),
        (allows((0, 32.0), (1201, 6.0)), False),  # it is over by then
        (allows((0, 32.0), (1199, 6.0)), True),
    ],
)
def test_it_is_held_against_what_the_cpms_allows_at_each_moment(limit: Limit, above: bool) -> None:
    assert LEASE.above(limit, NOW) is above
    late = replace(LEASE, skew=50.0)
    assert late.above(limit._replace(spans=tuple(span._replace(at=span.at + 50) for span in limit.spans)), NOW + 50) is above


def test_what_is_past_does_not_count() -> None:
    assert not LEASE.above(allows((0, 10.0), (900, 32.0)), NOW + 300)


def test_one_of_which_nothing_is_known_is_above_any_limit() -> None:
    assert replace(LEASE, most=()).above(allows((0, 80.0)), NOW)
    assert not replace(LEASE, most=()).above(FREE, NOW)


def test_while_nobody_knows_which_stands_the_higher_counts() -> None:
    old = replace(LEASE, most=(Step(NOW - 60, 8.0), Step(NOW + 400, 20.0)))
    both = (Step(NOW - 60, 16.0), Step(NOW, 16.0), Step(NOW + 300, 10.0), Step(NOW + 400, 20.0), Step(NOW + 900, 32.0))
    assert LEASE.or_(old).most == both
    assert LEASE.or_(replace(old, skew=10.0)).most[0].at == NOW - 50
    assert replace(LEASE, skew=4.0).or_(replace(old, skew=10.0)).most[0].at == NOW - 54
    assert LEASE.or_(replace(old, profile_id=5)) == LEASE
    assert LEASE.or_(replace(old, most=())).most == ()
    assert LEASE.or_(None) == LEASE


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"until": NOW + 1200}, True),
        ({"schedule_id": "s-2"}, True),
        ({"skew": 60.0}, True),
        ({"steps": (Step(NOW, 16.0), Step(NOW + 300, 10.0), Step(NOW + 950, 6.0)), "until": NOW + 1200}, True),
        ({"steps": (Step(NOW, 16.0), Step(NOW + 300, 10.0), Step(NOW + 900, 6.0)), "until": NOW + 1200}, True),
        ({"skew": 61.0}, False),
        ({"skew": -61.0}, False),
        ({"stack_level": 7}, False),
        ({"purpose": "default"}, False),
        ({"unit": "W"}, False),
        ({"transaction_id": "7"}, False),
        ({"steps": (Step(NOW, 16.0),)}, False),
        ({"steps": (Step(NOW, 16.0), Step(NOW + 300, 9.9))}, False),
        ({"steps": (Step(NOW, 16.0), Step(NOW + 301, 10.0))}, False),
    ],
)
def test_it_says_the_same_or_not(change: dict[str, object], same: bool) -> None:
    assert LEASE.same(replace(LEASE, **change), NOW) is same  # type: ignore[arg-type]
    assert not replace(LEASE, sure=False).same(LEASE, NOW)


def test_what_has_passed_does_not_count() -> None:
    assert LEASE.same(replace(LEASE, steps=(Step(NOW + 400, 10.0),)), NOW + 400)


@pytest.mark.parametrize(
    ("seen", "matches"),
    [
        (ClearSeen(True), True),
        (ClearSeen(True, profile_id=9_120_011), True),
        (ClearSeen(True, profile_id=5), False),
        (ClearSeen(True, evse=0, purpose="max"), True),
        (ClearSeen(True, evse=1), False),
        (ClearSeen(True, purpose="tx"), False),
        (ClearSeen(True, purpose="max", stack_level=8), True),
        (ClearSeen(True, purpose="max", stack_level=0), False),
    ],
)
def test_a_clears_criteria_are_a_logical_and(seen: ClearSeen, matches: bool) -> None:
    assert LEASE.matches(seen) is matches


@pytest.mark.parametrize(
    ("id", "purpose", "level", "collides"),
    [(5, "max", 8, True), (9_120_011, "tx", 0, True), (5, "max", 7, False), (5, "default", 8, False)],
)
def test_there_is_room_for_one_of_the_same_id_or_rung(id: int, purpose: str, level: int, collides: bool) -> None:
    assert LEASE.collides(ChargingProfile(id, level, purpose, "Absolute", "A", (Period(0, 10.0),))) is collides
