"""The composite schedule: against an evaluator that is slow and obviously right, second by second; and one example for each rule."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise, product
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.schedules import ChargingProfile, Period
from broker.profiles.composite import MOST_WORK, Course, Place, Placed, Running, course

T = 1_768_046_400  # the moment that everything is about
DAY, WEEK = 86_400, 604_800
AHEAD = 30
FREE = math.inf
SEVEN = Running("7", T)
SOCKET = Place(1)


def profile(id: int = 1, *limits: float, level: int = 0, purpose: str = "default", every: int = 10, **more: Any) -> ChargingProfile:
    periods = more.pop("periods", None) or tuple(Period(every * nth, limit) for nth, limit in enumerate(limits or (10.0,)))
    more.setdefault("start", None if more.get("kind") == "Relative" else float(T))
    return ChargingProfile(id, level, purpose, more.pop("kind", "Absolute"), more.pop("unit", "A"), periods, **more)


# ---------------------------------------------------------------- slow, and obviously right


class Choice(NamedTuple):
    """What one profile says in one possible world."""

    low: float
    high: float
    phases: int | None


def options(one: Placed, second: int, place: Place, running: Running | None) -> set[Choice | None]:
    """All that a profile may say in a second; None: nothing."""
    told = one.profile
    if (told.valid_from is not None and second < told.valid_from) or (told.valid_to is not None and second >= told.valid_to):
        return {None}
    return {spoken(told, elapsed, place) for elapsed in ages(told, second, running)} | (set() if one.sure else {None})


def ages(told: ChargingProfile, second: int, running: Running | None) -> set[int | None]:
    """How old the schedule may be, in seconds; None: not begun."""
    if told.kind == "Relative" and told.start is None:
        first = int(running.started) if running else T
        last = second if running is None or running.ready is None else min(second, int(running.ready))
        return {second - origin for origin in range(first, max(first, last) + 1)}
    if told.kind == "Relative" or told.start is None:
        return set(range(2 * AHEAD + 30))
    age = second - int(told.start)
    if told.kind == "Recurring":
        turn = DAY if told.recurrency == "Daily" else WEEK
        while age < 0:
            return {None, *[age + n * turn for n in range(1, 30) if 0 <= age + n * turn < turn]}
        while age >= turn:
            age -= turn
        return {age}
    return {age if age >= 0 else None}


def spoken(told: ChargingProfile, age: int | None, place: Place) -> Choice | None:
    if age is None or (told.duration_s is not None and age >= told.duration_s):
        return None
    in_force = [period for period in told.periods if period.start_s <= age][-1]
    if told.unit == "A":
        return Choice(in_force.limit, in_force.limit, in_force.phases)
    sharing = in_force.phases or 3
    return Choice(in_force.limit / (230 * sharing), in_force.limit / (230 * min(sharing, place.phases)), in_force.phases)


def winners(said: list[tuple[Placed, Choice | None]]) -> list[Choice]:
    """Of one purpose, in one world: those of the highest level that say something."""
    speaking = [((one.profile.stack_level, one.evse > 0), what) for one, what in said if what is not None]
    return [what for rank, what in speaking if rank == max(rank for rank, _ in speaking)]


def every_world(
    placed: list[Placed], second: int, place: Place, running: Running | None, own_first: bool, outlives: bool
) -> tuple[Any, ...]:
    """The least and the most over all that may be, and the fewest phases."""
    here = [one for one in placed if one.evse in (0, place.evse)]
    running = running._replace(ready=None) if running and outlives else running
    lows, highs, phases = [], [], []
    doubted = []
    for one in here:
        of_it = running is not None and running.id is not None and one.evse > 0 and one.profile.transaction_id == running.id
        doubted.append(one._replace(sure=one.sure and (one.profile.purpose != "tx" or (of_it and not outlives))))
    for said in product(*(sorted(options(one, second, place, running), key=str) for one in doubted)):
        world = list(zip(doubted, said, strict=True))
        part = {name: [(one, what) for one, what in world if one.profile.purpose == name] for name in ("max", "default", "tx")}
        replaced = own_first and any(one.evse > 0 and one.sure for one, _ in part["default"])
        less = [(one, what) for one, what in part["default"] if one.evse > 0 or not replaced]
        tx, whole = winners(part["tx"]), winners(part["max"]) or [Choice(FREE, FREE, None)]
        nothing = [Choice(FREE, FREE, None)]
        owns = [tx] if tx else [winners(part["default"]) or nothing, winners(less) or nothing, *([nothing] if part["tx"] else [])]
        for mine, all_of_it in product((choice for own in owns for choice in own), whole):
            lows.append(min(mine.low, all_of_it.low))
            highs.append(min(mine.high, all_of_it.high))
            phases += [mine.phases, all_of_it.phases]
    return min(lows), max(highs), min((some for some in phases if some is not None), default=None)


def at(found: Course, second: float) -> tuple[float, float, int | None]:
    span = [span for span in found.spans if span.at <= second][-1]
    return span.low, span.high, span.phases


limits = st.sampled_from([0.0, 6.0, 7.5, 10.0, 16.0, 32.0])
places = st.sampled_from([Place(1), Place(1, phases=1), Place(2)])
runnings = st.one_of(
    st.none(),
    st.builds(Running, st.sampled_from(["7", None]), st.integers(-40, 0).map(lambda s: float(T + s)), st.none()),
    st.builds(Running, st.just("7"), st.just(float(T - 20)), st.integers(-20, 0).map(lambda s: float(T + s))),
)


@st.composite
def profiles(draw: st.DrawFn) -> Placed:
    purpose = draw(st.sampled_from(["max", "default", "default", "tx", "tx"]))
    kind = draw(st.sampled_from(["Absolute", "Absolute", "Recurring", "Relative"]))
    starts = sorted({0, *draw(st.lists(st.integers(1, 40), max_size=3))})
    watts = draw(st.booleans())
    periods = tuple(Period(s, draw(limits) * (230 if watts else 1), draw(st.sampled_from([None, None, 1, 2, 3]))) for s in starts)
    start: float | None = float(T + draw(st.integers(-50, 20)))
    recurrency = draw(st.sampled_from(["Daily", "Weekly"])) if kind == "Recurring" else None
    if kind == "Recurring":
        start = (start or 0) - draw(st.integers(-1, 2)) * (DAY if recurrency == "Daily" else WEEK)
    elif kind == "Relative" or draw(st.integers(0, 5)) == 0:
        start = None
    moment = st.one_of(st.none(), st.none(), st.integers(-20, 40).map(lambda s: float(T + s)))
    told = ChargingProfile(
        1, draw(st.integers(0, 2)), purpose, kind, "W" if watts else "A", periods, start,
        draw(st.one_of(st.none(), st.integers(1, 60))), recurrency,
        draw(st.sampled_from(["7", "7", "8", None])) if purpose == "tx" else None, draw(moment), draw(moment),
    )  # fmt: skip
    evse = 0 if purpose == "max" else draw(st.sampled_from([0, 1, 1, 2] if purpose == "default" else [0, 1, 1, 1, 2]))
    return Placed(evse, told, draw(st.integers(0, 3)) > 0)


@settings(max_examples=400, deadline=None)
@given(st.lists(profiles(), max_size=4), places, runnings, st.booleans(), st.booleans())
def test_as_the_slow_evaluator_says_in_every_second(
    placed: list[Placed], place: Place, running: Running | None, own_first: bool, outlives: bool
) -> None:
    found = course(placed, place, running, float(T), float(T + AHEAD), own_first=own_first, outlives=outlives)
    assert found.why == ""
    for second in range(T, T + AHEAD):
        low, high, phases = at(found, second)
        expected = every_world(placed, second, place, running, own_first, outlives)
        assert (low, high) == pytest.approx(expected[:2]), (second - T, placed)
        assert phases == expected[2]


@settings(max_examples=100, deadline=None)
@given(st.lists(profiles(), max_size=5), places, runnings)
def test_spans_follow_each_other_and_each_says_something_new(placed: list[Placed], place: Place, running: Running | None) -> None:
    found = course(placed, place, running, float(T), float(T + WEEK))
    assert found.spans[0].at == T
    assert all(a.at < b.at < found.end and a[1:] != b[1:] for a, b in pairwise(found.spans))
    assert all(0 <= span.low <= span.high for span in found.spans)


@settings(max_examples=100, deadline=None)
@given(st.lists(profiles(), max_size=4), profiles(), places, runnings)
def test_what_may_be_there_or_not_never_raises_the_low_nor_lowers_the_high(
    placed: list[Placed], more: Placed, place: Place, running: Running | None
) -> None:
    either = course([*placed, more._replace(sure=False)], place, running, float(T), float(T + AHEAD))
    for one in (placed, [*placed, more]):
        sure = course(one, place, running, float(T), float(T + AHEAD))
        for second in range(T, T + AHEAD):
            assert at(either, second)[0] <= at(sure, second)[0]
            assert at(either, second)[1] >= at(sure, second)[1]


@settings(max_examples=200, deadline=None)
@given(profiles(), st.lists(profiles(), max_size=2), places, runnings, st.integers(1, 30), st.data())
def test_times_that_may_be_read_otherwise_are_bounded_by_every_reading(
    floating: Placed, more: list[Placed], place: Place, running: Running | None, slack: int, data: st.DataObject
) -> None:
    told = replace(floating.profile, slack_s=float(slack))
    found = course([floating._replace(profile=told), *more], place, running, float(T), float(T + AHEAD))
    for shift in {-slack, slack, data.draw(st.integers(-slack, slack))}:
        read = {name: value + shift for name in ("start", "valid_from", "valid_to") if (value := getattr(told, name)) is not None}
        one = floating._replace(profile=replace(told, slack_s=0.0, **read))
        meant = course([one, *more], place, running, float(T), float(T + AHEAD))
        for second in range(T, T + AHEAD):
            assert at(found, second)[0] <= at(meant, second)[0] + 1e-9
            assert at(found, second)[1] >= at(meant, second)[1] - 1e-9


@pytest.mark.parametrize("slack", [0.0, 20.0])
def test_where_it_cannot_be_read_otherwise_it_is_as_certain_as_any(slack: float) -> None:
    below = Placed(1, profile(1, 10.0))
    above = Placed(1, replace(profile(2, 32.0, level=1), start=float(T - 100), slack_s=slack))
    assert lows(below, above) == [(0, 32.0)]
    soon = Placed(1, replace(profile(2, 32.0, level=1), start=float(T + 5), slack_s=slack))
    assert lows(below, soon) == [(0, 10.0), (5 + slack, 32.0)]


# ---------------------------------------------------------------- rule by rule


def lows(*placed: Placed, running: Running | None = SEVEN, place: Place = SOCKET, seconds: int = AHEAD, **more: Any) -> list[Any]:
    found = course(placed, place, running, float(T), float(T + seconds), **more)
    return [(int(span.at - T), span.low) for span in found.spans]


def test_no_profile_is_no_limit() -> None:
    assert lows() == [(0, FREE)]


def test_the_highest_level_wins_whatever_its_value() -> None:
    assert lows(Placed(1, profile(1, 10.0, level=0)), Placed(1, profile(2, 32.0, level=1))) == [(0, 32.0)]


def test_beneath_a_higher_level_the_lower_one_comes_to_light_when_that_is_over() -> None:
    assert lows(Placed(1, profile(1, 10.0)), Placed(1, profile(2, 32.0, level=1, duration_s=12))) == [(0, 32.0), (12, 10.0)]


def test_across_purposes_the_least_holds() -> None:
    cap = Placed(0, profile(1, 20.0, 8.0, purpose="max"))
    assert lows(cap, Placed(1, profile(2, 16.0, purpose="tx", transaction_id="7", level=5))) == [(0, 16.0), (10, 8.0)]


def test_a_tx_profile_goes_before_a_tx_default_profile_of_any_level() -> None:
    assert lows(Placed(1, profile(1, 6.0, level=8)), Placed(1, profile(2, 16.0, purpose="tx", transaction_id="7"))) == [(0, 16.0)]


def test_in_a_gap_of_the_tx_profile_either_reading_may_hold() -> None:
    placed = [Placed(1, profile(1, 10.0)), Placed(1, profile(2, 16.0, purpose="tx", transaction_id="7", duration_s=5))]
    found = course(placed, Place(1), Running("7", T), T, T + 10)
    assert [(span.low, span.high) for span in found.spans] == [(16.0, 16.0), (10.0, FREE)]


def test_another_transactions_profile_is_not_relied_on() -> None:
    placed = [Placed(1, profile(1, 10.0)), Placed(1, profile(2, 16.0, purpose="tx", transaction_id="6"))]
    assert course(placed, Place(1), Running("7", T), T, T + 10).spans[0][1:3] == (10.0, FREE)


def test_for_what_outlives_the_transaction_its_profile_may_be_gone() -> None:
    placed = [Placed(1, profile(1, 10.0)), Placed(1, profile(2, 16.0, purpose="tx", transaction_id="7"))]
    assert course(placed, Place(1), Running("7", T), T, T + 10, outlives=True).spans[0].low == 10.0


def test_on_the_other_socket_it_says_nothing() -> None:
    assert lows(Placed(2, profile(1, 6.0))) == [(0, FREE)]


def test_a_default_for_all_holds_where_there_is_no_own() -> None:
    everywhere, own = Placed(0, profile(1, 10.0)), Placed(1, profile(2, 16.0))
    assert lows(everywhere, own) == [(0, 16.0)]
    assert lows(everywhere, own, place=Place(2)) == [(0, 10.0)]


def test_in_16_an_own_default_may_replace_a_higher_one_for_all() -> None:
    placed = [Placed(0, profile(1, 20.0, level=3)), Placed(1, profile(2, 16.0))]
    assert lows(*placed) == [(0, 20.0)]
    assert lows(*placed, own_first=True) == [(0, 16.0)]


@pytest.mark.parametrize(("recurrency", "turn"), [("Daily", DAY), ("Weekly", WEEK)])
def test_recurring_turns_over_and_cuts_off_what_is_longer(recurrency: str, turn: int) -> None:
    periods = (Period(0, 10.0), Period(turn - 100, 16.0), Period(turn + 50, 6.0))
    told = profile(1, periods=periods, kind="Recurring", recurrency=recurrency, start=T - turn + 120.0)
    assert lows(Placed(1, told), seconds=200) == [(0, 10.0), (20, 16.0), (120, 10.0)]


def test_recurring_with_a_duration_leaves_gaps() -> None:
    told = profile(1, 10.0, kind="Recurring", recurrency="Daily", start=T - DAY - 20.0, duration_s=30)
    assert lows(Placed(1, told), seconds=DAY) == [(0, 10.0), (10, FREE), (DAY - 20, 10.0)]


def test_relative_begins_with_the_transaction_not_now() -> None:
    told = profile(1, 6.0, 16.0, kind="Relative", every=60)
    assert lows(Placed(1, told), running=Running("7", T - 50.0, T - 50.0)) == [(0, 6.0), (10, 16.0)]


def test_relative_from_when_energy_flows_somewhere_between_start_and_then() -> None:
    told = profile(1, 16.0, 6.0, 20.0, kind="Relative", every=10)
    found = course([Placed(1, told)], Place(1), Running("7", T - 5.0, T + 5.0), T, T + 40)
    assert [(int(span.at - T), span.low, span.high) for span in found.spans] == [(0, 16, 16), (5, 6, 16), (15, 6, 20), (25, 20, 20)]


def test_before_a_transaction_a_relative_one_may_begin_at_any_time() -> None:
    assert lows(Placed(1, profile(1, 16.0, 6.0, kind="Relative")), running=None) == [(0, 16.0), (10, 6.0)]


def test_absolute_without_a_start_may_be_anywhere_in_its_course() -> None:
    found = course([Placed(1, profile(1, 16.0, 6.0, 10.0, start=None))], Place(1), None, T, T + 40)
    assert [span[1:3] for span in found.spans] == [(6.0, 16.0)]


def test_validity() -> None:
    told = profile(1, 10.0, valid_from=T + 5.0, valid_to=T + 15.0)
    assert lows(Placed(1, told)) == [(0, FREE), (5, 10.0), (15, FREE)]


def test_watts_are_shared_by_three_phases_unless_the_period_says_otherwise() -> None:
    three, one = profile(1, 6900.0, unit="W"), profile(1, unit="W", periods=(Period(0, 2300.0, 1),))
    assert course([Placed(1, three)], Place(1), None, T, T + 9).spans[0][1:] == (10.0, 10.0, None)
    assert course([Placed(1, three)], Place(1, phases=1), None, T, T + 9).spans[0][1:] == (10.0, 30.0, None)
    assert course([Placed(1, one)], Place(1), None, T, T + 9).spans[0][1:] == (10.0, 10.0, 1)


def test_dc_counts_watts() -> None:
    assert lows(Placed(1, profile(1, 50_000.0, unit="W")), place=Place(1, ac=False)) == [(0, 50_000.0)]
    assert lows(Placed(1, profile(1, 100.0)), place=Place(1, ac=False)) == [(0, pytest.approx(23_000.0))]


def test_the_fewest_phases_count() -> None:
    placed = [Placed(0, profile(1, periods=(Period(0, 20.0, 1),), purpose="max")), Placed(1, profile(2, periods=(Period(0, 16.0, 3),)))]
    assert course(placed, Place(1), None, T, T + 9).spans[0].phases == 1


@pytest.mark.parametrize("kind", ["Absolute", "Recurring"])
def test_times_with_a_fraction_fall_where_they_should(kind: str) -> None:
    for ms in range(1, 1000, 13):
        start = T - (3 * DAY if kind == "Recurring" else 0) + ms / 1000
        told = profile(1, 10.0, 6.0, 20.0, every=600, kind=kind, recurrency="Daily", start=start)
        found = course([Placed(1, told)], Place(1), None, T + 1.5, T + 2000.0)
        turns = [(1.5, 10.0), (600 + ms / 1000, 6.0), (1200 + ms / 1000, 20.0)]
        assert [(round(span.at - T, 3), span.low) for span in found.spans] == turns


def test_what_lies_beyond_the_duration_is_never_said() -> None:
    told = profile(1, 16.0, 10.0, 6.0, start=None, duration_s=15)
    assert lows(Placed(1, told)) == [(0, 10.0)]


@pytest.mark.parametrize(
    ("placed", "why"),
    [
        (Placed(1, profile(4, purpose="PriorityCharging")), "kind that we do not model"),
        (Placed(1, profile(4, kind="Dynamic")), "kind that we do not model"),
        (Placed(1, profile(4, kind="Recurring")), "kind that we do not model"),
        (Placed(1, profile(4, more_schedules=True)), "not one schedule"),
        (Placed(1, profile(4, periods=(Period(5, 6.0),))), "do not follow each other"),
        (Placed(1, profile(4, periods=(Period(0, 6.0), Period(0, 7.0)))), "do not follow each other"),
        (Placed(1, profile(4, purpose="max")), "on one EVSE"),
    ],
)
def test_what_is_not_modelled_makes_that_evse_unknown(placed: Placed, why: str) -> None:
    found = course([placed, Placed(1, profile(5, 6.0))], Place(1), None, T, T + 9)
    assert "profile 4 " in found.why
    assert why in found.why
    assert course([placed], Place(2), None, T, T + 9).why == ""


def test_more_changes_than_anybody_plans_come_to_the_least_of_all() -> None:
    many = tuple(Period(nth, 16.0 if nth % 2 else 10.0, 2) for nth in range(MOST_WORK // 2 + 2))
    found = course([Placed(1, profile(1, periods=many)), Placed(1, profile(2, 7.0, level=1))], Place(1), None, T, T + DAY)
    assert found.spans == ((T, 7.0, FREE, 2),)


def test_the_least_of_a_time() -> None:
    found = course([Placed(1, profile(1, 10.0, 6.0, 20.0))], Place(1), None, T, T + AHEAD)
    assert [found.low(T, T + 10), found.low(T + 5, T + 11), found.low(T + 20, T + 99)] == [10.0, 6.0, 20.0]
