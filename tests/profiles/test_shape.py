"""A wish of the engine becomes a profile: never above anybody's limit at any second, with its own end, in few periods."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.schedules import ChargingProfile, Schedule, Step
from broker.profiles import shape
from broker.profiles.shape import Plan, plan, wrap
from broker.settings import ChargingSettings, EvseSettings, StationSettings

NOON = 1768046400.0
AC = StationSettings("CS-7", "smart-charging")
DC = replace(AC, current="dc")
SOCKET = EvseSettings(1, "CS-7-1")
RULES = ChargingSettings()


def wish(*steps: tuple[float, float], unit: str = "A", until: float = NOON + 7200) -> Schedule:
    """Steps as (seconds after noon, limit)."""
    return Schedule("s1", "CS-7-1", NOON, until, unit, tuple(Step(NOON + at, limit) for at, limit in steps))


def planned(schedule: Schedule, **how: Any) -> Plan:
    rules = replace(RULES, **{name: how.pop(name) for name in ("min_amps", "below_min") if name in how})
    evse = replace(SOCKET, **{name: how.pop(name) for name in ("max_amps", "phases") if name in how})
    station = how.pop("station", AC)
    asked: dict[str, Any] = {"unit": "A", "now": NOON, "lease_until": NOON + 900, "max_periods": 20, **how}
    bound = asked.get("ceiling")
    asked["ceiling"] = bound if isinstance(bound, tuple) else () if bound is None else (Step(NOON, bound),)
    return plan(schedule, evse, station, rules, **asked)


def profile(found: Plan, **how: Any) -> ChargingProfile:
    asked: dict[str, Any] = {
        "id": 9_120_011, "stack_level": 3, "purpose": "max", "unit": "A", "phases": 3, "transaction_id": None, "skew": 0.0, "now": NOON,
        **how,
    }  # fmt: skip
    return wrap(found, **asked)


def limits(found: Plan) -> list[tuple[float, float]]:
    return [(at - NOON, limit) for at, limit in found.steps]


# ---------------------------------------------------------------- one thing at a time


def test_a_plain_wish_ends_with_what_the_cpms_allows() -> None:
    found = planned(wish((-300, 16.0)), ceiling=25.0)
    assert found == Plan((Step(NOON, 16.0),), NOON + 900, 25.0, (Step(NOON, 16.0), Step(NOON + 900, 25.0)), NOON + 900, ())


def test_a_lower_limit_that_is_over_holds_nothing_back() -> None:
    ceiling = (Step(NOON - 600, 8.0), Step(NOON - 60, 20.0), Step(NOON + 300, 10.0))
    found = planned(wish((-300, 16.0)), ceiling=ceiling)
    assert limits(found) == [(0, 16.0), (300, 10.0)]
    assert found.tail == 10.0


@pytest.mark.parametrize(
    ("asked", "how", "limit", "changes"),
    [
        (16.0, {}, 16.0, ()),
        (16.09, {}, 16.0, ("rounded",)),
        (5.9, {}, 0.0, ("paused",)),
        (0.0, {}, 0.0, ()),
        (-4.0, {}, 0.0, ()),
        (5.9, {"below_min": "min"}, 6.0, ("minimum",)),
        (0.0, {"below_min": "min"}, 0.0, ()),
        (5.9, {"below_min": "min", "ceiling": 5.95}, 0.0, ("paused",)),
        (5.9, {"below_min": "min", "max_amps": 5.95}, 0.0, ("paused",)),
        (20.0, {"ceiling": 10.0}, 10.0, ("cpms-lower",)),
        (20.0, {"ceiling": -10.0}, 0.0, ("cpms-lower",)),
        (20.0, {"ceiling": 0.0, "below_min": "min"}, 0.0, ("cpms-lower",)),
        (20.0, {"max_amps": 16.0}, 16.0, ("max-amps",)),
        (20.0, {"max_amps": 16.0, "ceiling": 10.0}, 10.0, ("cpms-lower",)),
        (20.0, {"max_amps": 10.0, "ceiling": 16.0}, 10.0, ("max-amps",)),
        (6.28, {"min_amps": 6.25}, 0.0, ("paused", "rounded")),  # 6.2 is less than the car needs
        (6.3, {"unit": "W", "min_amps": 6.3}, 4347.0, ()),  # 6.3 * 690 is not quite 4347 in floats
        (10.0, {"unit": "W"}, 6900.0, ()),
        (10.0, {"unit": "W", "phases": 1}, 2300.0, ()),
    ],
)
def test_a_limit_in_amperes(asked: float, how: dict[str, Any], limit: float, changes: tuple[str, ...]) -> None:
    found = planned(wish((0, asked)), **how)
    assert (limits(found), found.changes) == ([(0, limit)], changes)


@pytest.mark.parametrize(
    ("asked", "how", "limit", "changes"),
    [
        (11040.0, {}, 16.0, ("unit",)),
        (11039.0, {}, 15.9, ("rounded", "unit")),
        (3680.0, {"phases": 1}, 16.0, ("unit",)),
        (4139.0, {}, 0.0, ("paused", "unit")),
        (4140.0, {}, 6.0, ("unit",)),
        (4347.0, {}, 6.3, ("unit",)),
        (11040.0, {"station": DC, "unit": "W"}, 11040.0, ()),
        (50000.05, {"station": DC, "unit": "W"}, 50000.0, ("rounded",)),
        (50000.0, {"station": DC, "unit": "W", "max_amps": 32.0}, 22080.0, ("max-amps",)),
        (50000.0, {"station": DC, "unit": "W", "ceiling": 20000.0}, 20000.0, ("cpms-lower",)),
        (4100.0, {"station": DC, "unit": "W"}, 0.0, ("paused",)),
        (50000.0, {"station": DC, "unit": "A"}, 50.0, ()),  # at 1000 V; at a lower voltage it is less, never more
        (4140.0, {"station": DC, "unit": "A"}, 0.0, ("paused", "rounded")),
    ],
)
def test_a_limit_in_watts(asked: float, how: dict[str, Any], limit: float, changes: tuple[str, ...]) -> None:
    found = planned(wish((0, asked), unit="W"), **how)
    assert (limits(found), found.changes) == ([(0, limit)], changes)


def test_a_dc_wish_in_amperes_is_per_phase_of_the_grid() -> None:
    found = planned(wish((0, 16.0)), station=DC, unit="W")
    assert (limits(found), found.changes) == ([(0, 11040.0)], ("unit",))


def test_what_is_past_is_dropped_and_what_is_equal_is_merged() -> None:
    found = planned(wish((-600, 8.0), (-300, 16.0), (60, 16.0), (120, 10.0), (180, 10.0), (900, 9.0)))
    assert limits(found) == [(0, 16.0), (120, 10.0)]
    assert found.changes == ("merged",)


def test_what_only_the_past_or_the_time_after_the_lease_needed_is_no_change() -> None:
    assert planned(wish((-600, 3.3), (-300, 16.0), (1000, 99.0)), ceiling=20.0).changes == ()


def test_before_its_first_period_the_engine_says_nothing() -> None:
    assert limits(planned(wish((100, 8.0)), ceiling=20.0)) == [(0, 20.0), (100, 8.0)]
    assert limits(planned(wish((100, 8.0)), max_amps=16.0, ceiling=20.0)) == [(0, 16.0), (100, 8.0)]
    assert limits(planned(wish((5000, 8.0)), ceiling=20.0)) == [(0, 20.0)]


def test_the_tail_begins_when_the_lease_or_the_schedule_ends() -> None:
    assert planned(wish((0, 8.0), until=NOON + 300.7)).tail_at == NOON + 300
    assert planned(wish((0, 8.0)), lease_until=NOON + 900.9).tail_at == NOON + 900


@pytest.mark.parametrize(
    ("how", "tail"),
    [
        ({"ceiling": 20.0}, 20.0),
        ({"ceiling": 3.33}, 3.3),  # the CPMS's own, though no car can charge with it
        ({"max_amps": 16.0}, 16.0),
        ({"ceiling": 20.0, "max_amps": 16.0}, 16.0),
        ({"ceiling": 20.0, "unit": "W"}, 13800.0),
        ({}, 1000.0),
        ({"unit": "W"}, 1e6),
    ],
)
def test_the_tail_is_what_the_cpms_alone_allows(how: dict[str, Any], tail: float) -> None:
    assert planned(wish((0, 8.0)), **how).tail == tail


def test_a_station_of_few_periods_gets_a_rolling_window() -> None:
    found = planned(wish((0, 8.0), (60, 9.0), (120, 10.0), (180, 11.0)), ceiling=20.0, max_periods=3)
    assert limits(found) == [(0, 8.0), (60, 9.0)]
    assert (found.tail_at, found.until, found.changes) == (NOON + 120, NOON + 120, ("window",))
    assert len(profile(found).periods) == 3


@pytest.mark.parametrize("few", [-1, 0, 1, 2])
def test_there_is_always_room_for_one_wish_and_its_end(few: int) -> None:
    found = planned(wish((0, 8.0), (60, 9.0)), ceiling=20.0, max_periods=few)
    assert (limits(found), found.until) == ([(0, 8.0)], NOON + 60)


def test_a_lower_limit_is_never_late_and_a_higher_one_never_early() -> None:
    found = planned(wish((0, 16.0), (60.5, 10.0), (120.5, 16.0)))
    assert limits(found) == [(0, 16.0), (60, 10.0), (121, 16.0)]


def test_a_dip_within_a_second_holds_for_the_whole_of_it() -> None:
    assert limits(planned(wish((0, 16.0), (60.2, 8.0), (60.4, 12.0)))) == [(0, 16.0), (60, 8.0), (61, 12.0)]
    assert limits(planned(wish((-1, 16.0), (0.7, 8.0)), now=NOON + 0.5)) == [(0.5, 8.0)]


def test_a_profile_begins_a_little_in_the_past_in_the_stations_clock() -> None:
    found = profile(planned(wish((0, 8.0), (60, 9.0)), ceiling=20.0), skew=7.0)
    assert (found.kind, found.start, found.duration_s) == ("Absolute", NOON - 60 + 7, 1260)
    assert [period[:2] for period in found.periods] == [(0, 8.0), (120, 9.0), (960, 20.0)]
    assert found.valid_to == NOON + 7 + 1200
    assert {period.phases for period in found.periods} == {3}
    assert (found.id, found.stack_level, found.purpose, found.unit) == (9_120_011, 3, "max", "A")


def test_a_profile_of_a_transaction_has_no_validity_of_its_own() -> None:
    found = profile(planned(wish((0, 8.0))), purpose="tx", transaction_id="12", phases=None)
    assert (found.valid_from, found.valid_to, found.transaction_id) == (None, None, "12")
    assert {period.phases for period in found.periods} == {None}


def test_a_wish_that_is_over_leaves_what_the_cpms_allows() -> None:
    found = planned(wish((-900, 8.0), until=NOON - 600), ceiling=20.0)
    assert [period.limit for period in profile(found).periods] == [8.0, 20.0]
    assert profile(found).periods[1].start_s == 1


# ---------------------------------------------------------------- the law, at every second

amps = st.one_of(st.sampled_from([0.0, 5.9, 6.0, 6.05, 16.0, 32.0]), st.floats(0, 80))
seconds = st.one_of(st.integers(-600, 1500).map(float), st.floats(-100, 1500))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schedule, dict[str, Any]]:
    dc = draw(st.booleans())
    unit = draw(st.sampled_from("AW"))
    phases = draw(st.sampled_from([1, 2, 3]))
    ats = sorted(draw(st.lists(seconds, min_size=1, max_size=12, unique=True)))
    per_amp = 230.0 * phases if unit == "W" else 1.0
    steps = [(at, draw(amps) * per_amp) for at in ats]
    marks = sorted(draw(st.lists(seconds, max_size=4, unique=True)))
    ceiling = tuple(Step(NOON + at, draw(amps | st.just(math.inf))) for at in [-601.0, *marks])
    how: dict[str, Any] = {
        "station": DC if dc else AC,
        "unit": draw(st.sampled_from("AW")),
        "phases": phases,
        "ceiling": tuple(Step(at, limit * 230.0 * phases if dc else limit) for at, limit in ceiling),
        "max_amps": draw(st.none() | st.floats(6, 80)),
        "min_amps": draw(st.sampled_from([6.0, 6.0, 6.3, 8.05])),
        "below_min": draw(st.sampled_from(["pause", "min"])),
        "now": NOON + draw(st.one_of(st.just(0.0), st.floats(0, 2))),
        "max_periods": draw(st.integers(2, 20)),
    }
    how["lease_until"] = how["now"] + draw(st.one_of(st.just(900.0), st.floats(1, 1000)))
    until = NOON + draw(st.floats(max(2.0, ats[-1]) + 1, 4000))
    return wish(*steps, unit=unit, until=until), how


def bound(how: dict[str, Any], begin: float, end: float) -> float:
    """The least that the CPMS alone allows in [begin, end)."""
    steps = how["ceiling"]
    ends = [step.at for step in steps[1:]] + [math.inf]
    return min(step.limit for step, over in zip(steps, ends, strict=True) if step.at < end and begin < over)


def own(said: float, how: dict[str, Any]) -> float:
    """What the station gives at most for a limit on the wire: A per phase for ac, W for dc."""
    if how["station"].current == "ac":
        return said if how["unit"] == "A" else said / (230.0 * how["phases"])
    return said if how["unit"] == "W" else said * shape.DC_V


def asked_at(schedule: Schedule, how: dict[str, Any], at: float) -> float:
    """The engine's wish at a moment, in the station's unit; before its first period everything."""
    begun = [step.limit for step in schedule.steps if step.at <= at]
    if not begun:
        return math.inf
    per_amp = 230.0 * how["phases"]
    if how["station"].current == "ac":
        return begun[-1] / per_amp if schedule.unit == "W" else begun[-1]
    return begun[-1] if schedule.unit == "W" else begun[-1] * per_amp


@settings(max_examples=200, deadline=None)
@given(case=cases(), skew=st.integers(-5000, 5000))
def test_never_above_anybody_at_any_moment(case: tuple[Schedule, dict[str, Any]], skew: int) -> None:
    schedule, how = case
    dc = how["station"].current == "dc"
    per_amp = 230.0 * how["phases"] if dc else 1.0
    found = planned(schedule, **how)
    told = profile(found, unit=how["unit"], skew=float(skew), now=how["now"])
    assert told.start is not None
    start, periods = told.start - skew, told.periods

    assert periods[0].start_s == 0
    assert all(before.start_s < after.start_s for before, after in pairwise(periods))
    assert 2 <= len(periods) <= how["max_periods"]
    assert start <= how["now"] - 60
    assert found.until == found.tail_at <= min(how["lease_until"], schedule.valid_until)
    assert told.duration_s == periods[-1].start_s + 300
    assert told.valid_to == told.start + told.duration_s

    least = how["min_amps"] * per_amp
    ends = [start + period.start_s for period in periods[1:]] + [found.tail_at + 86_400]
    for period, step, end in zip(periods, found.most, ends, strict=True):
        limit = own(period.limit, how)
        allowed = min(bound(how, max(how["now"], start + period.start_s), end), (how["max_amps"] or math.inf) * per_amp)
        assert step.limit == pytest.approx(limit)
        assert round(period.limit * 10) / 10 == period.limit
        assert limit <= allowed + 1e-6 or period.limit == shape.BOUNDLESS[how["unit"]]
    for period in periods[:-1]:
        limit = own(period.limit, how)
        assert limit == 0 or limit >= least - 1e-6 or schedule.steps[0].at > max(how["now"], start + period.start_s)

    moments = [step.at for step in schedule.steps] + [start + period.start_s for period in periods]
    for moment in {how["now"], *(at + by for at in moments for by in (-1.0, -0.01, 0.0, 0.01, 0.5, 1.0))}:
        if not how["now"] <= moment < found.tail_at:
            continue
        said = own([period.limit for period in periods if start + period.start_s <= moment][-1], how)
        asked = asked_at(schedule, how, moment)
        if said > asked + 1e-6:
            assert how["below_min"] == "min"
            assert asked > 0
            assert said <= least + 1e-6
    assert "window" not in found.changes or len(periods) == how["max_periods"]


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_nothing_is_lost_but_what_must_be(case: tuple[Schedule, dict[str, Any]]) -> None:
    """Where nobody limits, and rounding and the minimum do not bite, the station hears exactly the engine's wish."""
    schedule = case[0]
    whole = tuple(Step(float(math.floor(step.at)), float(6 + math.floor(step.limit) % 26)) for step in schedule.steps)
    steps = {step.at: step for step in whole}
    exact = replace(schedule, unit="A", steps=tuple(steps.values()))
    found = planned(exact, now=NOON, lease_until=NOON + 900, max_periods=30)
    for second in {0.0, *(step.at - NOON for step in exact.steps), 899.0}:
        at = NOON + second
        if NOON <= at < found.tail_at and exact.steps[0].at <= at:
            told = [step.limit for step in found.steps if step.at <= at][-1]
            assert told == [step.limit for step in exact.steps if step.at <= at][-1]
