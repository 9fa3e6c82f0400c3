"""What ours may be, over time: never more than the least of what the CPMS allows by any reading."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from broker.model.schedules import Step
from broker.profiles.composite import Course, Span
from broker.profiles.decide import Limit, exceeds, higher, limit_of, says_no_less

FREE = math.inf
values = st.sampled_from([0.0, 6.0, 10.0, 16.0, 32.0])
marks = st.lists(st.integers(1, 30), max_size=4, unique=True).map(sorted)


def course(*spans: tuple[float, float, float]) -> Course:
    return Course(tuple(Span(*span) for span in spans), 100.0)


@st.composite
def courses(draw: st.DrawFn) -> Course:
    return Course(tuple(Span(float(at), draw(values), FREE, draw(st.sampled_from([None, 1, 3]))) for at in [0, *draw(marks)]), 100.0)


@st.composite
def stairs(draw: st.DrawFn) -> tuple[Step, ...]:
    return tuple(Step(float(at), draw(values)) for at in [0, *draw(marks)])


def at(steps: tuple[Step, ...], second: float) -> float:
    return [step.limit for step in steps if step.at <= second][-1]


def low(found: Course | Limit, second: float) -> float:
    return [span.low for span in found.spans if span.at <= second][-1]


@given(st.lists(courses(), min_size=1, max_size=4), st.integers(0, 20))
def test_of_several_bounds_the_least_holds_at_each_moment(found: list[Course], begin: int) -> None:
    limit = limit_of(found, float(begin))
    assert limit.known
    assert limit.spans[0].at == begin
    assert limit.value == low(limit, begin)
    for second in range(begin, 40):
        assert low(limit, second) == min(low(one, second) for one in found)
    assert limit.steps(5.0)[0] == Step(begin - 5.0, limit.spans[0].low)


@given(stairs(), courses(), st.integers(0, 20), st.integers(0, 20))
def test_ours_exceeds_if_it_does_so_in_any_second(ours: tuple[Step, ...], bound: Course, begin: int, long: int) -> None:
    limit = Limit(True, 0.0, "", bound.spans)
    seconds = range(begin, begin + long + 1)
    assert exceeds(ours, limit, begin, begin + long) is any(at(ours, second) > low(bound, second) for second in seconds)


@given(stairs(), stairs())
def test_of_two_that_may_stand_the_higher_counts(one: tuple[Step, ...], other: tuple[Step, ...]) -> None:
    both = higher(one, other)
    assert all(at(both, second) == max(at(one, second), at(other, second)) for second in range(40))
    assert higher(one, ()) == higher((), one) == ()


def test_what_is_unknown_in_one_is_unknown_in_all() -> None:
    unknown = Course((Span(0, FREE, FREE),), 100.0, "profile 4 is odd")
    assert limit_of([course((0, 6, 6)), unknown], 0.0) == Limit(False, None, "cpms-limits-unknown: profile 4 is odd")
    assert exceeds((Step(0, 0.0),), Limit(False, None), 0, 1)


def test_no_limit() -> None:
    assert limit_of([], 3.0) == limit_of([course((0, FREE, FREE))], 3.0) == Limit(True, None)
    assert not exceeds((Step(0, 1000.0),), Limit(True, None), 0, 1)
    assert exceeds((), Limit(True, 6.0, "", (Span(0, 6, 6),)), 0, 1)


def test_the_fewest_phases_and_the_next_change() -> None:
    limit = limit_of([Course((Span(0, 16, 16, 3), Span(9, 10, 10, 1)), 100.0), course((0, 32, 32))], 2.0)
    assert limit.phases == 1
    assert (limit.next_change(2.0), limit.next_change(9.0)) == (9, None)
    assert limit_of([course((0, FREE, FREE), (9, 10, 10))], 2.0).value is None


def test_ours_is_not_needed_while_the_cpms_alone_gives_no_more_by_every_reading() -> None:
    ours = (Step(0, 16.0), Step(50, 10.0))
    assert says_no_less(ours, limit_of([course((0, 16, 16), (50, 10, 10))], 0), 0, 90)
    assert says_no_less(ours, limit_of([course((0, 16.09, 16.09), (50, 10, 10))], 0), 0, 90)
    assert not says_no_less(ours, limit_of([course((0, 16, 16), (50, 10, 11))], 0), 0, 90)
    assert not says_no_less(ours, limit_of([course((0, 16, FREE))], 0), 0, 90)
    assert not says_no_less(ours, Limit(True, None), 0, 90)
    assert not says_no_less(ours, Limit(False, None), 0, 90)


def test_the_operators_most_bounds_every_span_and_is_all_there_is_where_nobody_else_limits() -> None:
    spans = (Span(0, 16, 16), Span(10, 40, 40, 1))
    limit = Limit(True, 16.0, "", spans)
    assert limit.capped(5.0, None) is limit
    assert limit.capped(5.0, 32.0) == Limit(True, 16.0, "", (Span(0, 16, 16), Span(10, 32, 40, 1)))
    assert limit.capped(5.0, 10.0).value == 10.0
    assert Limit(True, None).capped(5.0, 32.0) == Limit(True, 32.0, "", (Span(5.0, 32.0, math.inf),))
    unknown = Limit(False, None, "why")
    assert unknown.capped(5.0, 32.0) is unknown


def test_the_next_change_is_the_first_span_after() -> None:
    limit = Limit(True, 16.0, "", (Span(0, 16, 16), Span(10, 40, 40), Span(20, 6, 6)))
    assert [limit.next_change(at) for at in (-1, 0, 9.9, 10, 19, 20)] == [0, 10, 10, 20, 20, None]
    assert limit.steps(3.0) == (Step(-3, 16), Step(7, 40), Step(17, 6))
