"""Two readings decide whether a limit was obeyed; without any, nothing can be said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.basics import Instant
from broker.model.observations import Reading
from broker.model.schedules import Step
from broker.obedience import Limit, Obedience, Verdict

WALL = 1_780_000_000.0
AMPS = Limit((Step(WALL, 10.0),), WALL + 900, "A")
WATTS = Limit((Step(WALL, 6900.0),), WALL + 900, "W")
ABOVE = Verdict("not-obeyed", "16.0 A where 10 A was accepted")


def at(seconds: float) -> Instant:
    return Instant(50.0 + seconds, WALL + seconds)


def amps(seconds: float | None, *currents: float | None, **more: Any) -> Reading:
    three = (*currents, None, None, None)[:3]
    return Reading(None if seconds is None else WALL + seconds, currents_a=three, **more)  # type: ignore[arg-type]


def watching(limit: Limit = AMPS) -> Obedience:
    watch = Obedience()
    watch.watch(limit, at(0))
    return watch


def judged(watch: Obedience, *said: tuple[float, float], skew: float = 0.0) -> list[Verdict | None]:
    """(seconds after the answer, amperes on each phase)."""
    return [watch.metered(amps(after + skew, used, used, used), skew, at(after)) for after, used in said]


def test_two_readings_above_are_not_obeyed() -> None:
    assert judged(watching(), (61, 16.0), (121, 16.0)) == [None, ABOVE]


@pytest.mark.parametrize("by", [86_400.0, -86_400.0])
def test_a_clock_that_is_set_changes_no_verdict(by: float) -> None:
    """Two readings, before and after: the station's clock, which did not jump, is as much further from ours."""
    watch = watching()
    assert judged(watch, (61, 16.0)) == [None]
    watch.stepped(by)
    after = Instant(50.0 + 121, WALL + 121 + by)
    assert watch.metered(amps(121, 16.0, 16.0, 16.0), -by, after) == ABOVE
    late = watching()
    late.stepped(by)
    assert late.tick(Instant(50.0 + 100, WALL + 100 + by)) is None
    assert not late.idle, "it has not run out"


@pytest.mark.parametrize("second", [10.0, 11.0, 0.0])
def test_one_above_and_one_that_is_not_are(second: float) -> None:
    assert judged(watching(), (61, 16.0), (121, second)) == [None, Verdict("obeyed")]
    assert judged(watching(), (61, second), (121, 16.0)) == [None, Verdict("obeyed")]


def test_the_highest_of_the_minute_before_a_reading_counts_its_ends_too() -> None:
    limit = Limit((Step(WALL, 10.0), Step(WALL + 100, 20.0), Step(WALL + 200, 6.0)), WALL + 900, "A")
    assert [limit.at(WALL + since, WALL + moment) for since, moment in ((0, 99), (0, 100), (100, 199), (140, 200), (200, 260))] == [
        10.0,
        20.0,
        20.0,
        20.0,
        6.0,
    ]
    assert limit.at(WALL - 1, WALL) is None
    assert limit.at(WALL + 840, WALL + 900) is None


@pytest.mark.parametrize(("phases", "used", "above"), [(1, 1230.0, False), (1, 1231.0, True), (3, 1690.0, False), (3, 1691.0, True)])
def test_an_ampere_is_one_of_each_phase_also_in_watts(phases: int, used: float, above: bool) -> None:
    assert Limit((Step(WALL, 1000.0),), WALL + 900, "W", phases).exceeded(1000.0, used) is above


def test_a_reading_of_more_than_a_minute_ahead_is_not_believed() -> None:
    watch = watching()
    for ahead in (61.0, 60.0, 60.0):
        said = watch.metered(amps(100 + ahead, 16.0), 0.0, at(100))
    assert said == Verdict("not-obeyed", "16.0 A where 10 A was accepted")
    again = watching()
    assert [again.metered(amps(100 + ahead, 16.0), 0.0, at(100)) for ahead in (61.0, 60.0)] == [None, None]


def test_when_the_limit_is_over_it_is_judged_no_more() -> None:
    watch = watching()
    assert watch.tick(at(899)) == Verdict("unverified", "no usable meter value")
    late = watching()
    assert late.tick(at(900)) is None
    assert late.idle


@pytest.mark.parametrize(("gap", "patience"), [(900.0, 2760.0), (901.0, 240.0)])
def test_a_quarter_of_an_hour_is_the_longest_interval(gap: float, patience: float) -> None:
    watch = watching()
    for after in (0.0, gap):
        watch.metered(Reading(None), 0.0, at(after))
    watch.watch(AMPS, at(0))
    assert watch.wake_at == 50.0 + patience


def test_when_our_clock_is_set_the_limit_goes_with_it() -> None:
    watch = watching(Limit((Step(WALL, 10.0), Step(WALL + 400, 6.0)), WALL + 900, "A"))
    watch.stepped(3600.0)
    assert judged(watch, (3661, 9.0), (3721, 9.0)) == [None, Verdict("obeyed")]
    lower = watching(Limit((Step(WALL, 10.0), Step(WALL + 400, 6.0)), WALL + 900, "A"))
    lower.stepped(3600.0)
    assert judged(lower, (4061, 9.0), (4121, 9.0)) == [None, Verdict("not-obeyed", "9.0 A where 6 A was accepted")]


def test_the_first_minute_does_not_count() -> None:
    assert judged(watching(), (10, 16.0), (30, 16.0), (59, 16.0), (60, 9.0), (70, 9.0)) == [None, None, None, None, Verdict("obeyed")]


def test_after_the_verdict_nothing_more_is_said() -> None:
    watch = watching()
    judged(watch, (61, 16.0), (121, 16.0))
    assert judged(watch, (181, 16.0), (241, 16.0)) == [None, None]
    assert watch.wake_at is None
    assert watch.tick(at(600)) is None


@pytest.mark.parametrize(
    ("limit", "used", "kind"),
    [
        (10.0, 11.0, "obeyed"),
        (10.0, 11.1, "not-obeyed"),
        (32.0, 35.2, "obeyed"),
        (32.0, 35.3, "not-obeyed"),
        (0.0, 1.0, "obeyed"),
        (0.0, 1.1, "not-obeyed"),
    ],
)
def test_clearly_above_is_a_tenth_and_an_ampere(limit: float, used: float, kind: str) -> None:
    watch = watching(Limit((Step(WALL, limit),), WALL + 900, "A"))
    verdict = judged(watch, (61, used), (121, used))[1]
    assert verdict is not None
    assert verdict.kind == kind


@pytest.mark.parametrize(("power", "kind"), [(7590.0, "obeyed"), (7591.0, "not-obeyed")])
def test_watts_are_held_against_watts(power: float, kind: str) -> None:
    watch = watching(WATTS)
    watch.metered(Reading(WALL + 61, power_w=power), 0, at(61))
    verdict = watch.metered(Reading(WALL + 121, power_w=power), 0, at(121))
    assert verdict is not None
    assert verdict.kind == kind


@pytest.mark.parametrize(
    ("limit", "reading", "used"),
    [
        (AMPS, amps(0, 6.0, None, 9.0), 9.0),
        (AMPS, Reading(WALL, power_w=6900.0), 10.0),
        (AMPS, Reading(WALL, energy_wh=5.0, offered_a=10.0), None),
        (WATTS, amps(0, 10.0, 10.0, voltages_v=(230.0, 220.0, None)), 4500.0),
        (WATTS, amps(0, 10.0, 10.0, voltages_v=(230.0, None, None)), None),
        (WATTS, amps(0, 10.0), None),
    ],
)
def test_what_is_used_is_never_made_more_than_it_was(limit: Limit, reading: Reading, used: float | None) -> None:
    assert limit.used(reading) == used


def test_nothing_usable_within_three_intervals_is_unverified() -> None:
    watch = watching()
    assert watch.wake_at == at(240).mono
    for after in (61, 121, 181):
        assert watch.metered(Reading(WALL + after, energy_wh=5.0), 0, at(after)) is None
    assert watch.tick(at(239)) is None
    assert watch.tick(at(240)) == Verdict("unverified", "no usable meter value")
    assert watch.tick(at(241)) is None


def test_a_slow_meter_is_given_its_time() -> None:
    watch = Obedience()
    watch.watch(AMPS, at(-600))
    watch.metered(amps(-580, 9.0), 0, at(-580))
    watch.metered(amps(-280, 9.0), 0, at(-280))
    watch.watch(AMPS, at(0))
    assert watch.wake_at == at(60 + 3 * 300).mono


def test_readings_that_come_at_once_are_no_interval() -> None:
    watch = watching()
    for _ in range(3):
        watch.metered(amps(5, 9.0), 0, at(5))
    assert watch.wake_at == at(240).mono


def test_one_reading_alone_waits_for_the_second() -> None:
    watch = watching()
    judged(watch, (61, 16.0))
    assert watch.tick(at(300)) is None
    assert judged(watch, (400, 16.0)) == [ABOVE]


def test_what_a_transaction_begins_and_ends_with_is_no_use() -> None:
    watch = watching()
    for context in ("Transaction.Begin", "Transaction.End", "Interruption.Begin"):
        assert watch.metered(amps(61, 16.0, context=context), 0, at(61)) is None
    assert judged(watch, (121, 16.0)) == [None]


def test_a_lower_limit_is_given_a_minute() -> None:
    watch = watching(Limit((Step(WALL, 16.0), Step(WALL + 100, 6.0)), WALL + 900, "A"))
    assert judged(watch, (130, 16.0), (159, 16.0)) == [None, Verdict("obeyed")]
    watch.watch(Limit((Step(WALL, 16.0), Step(WALL + 100, 6.0)), WALL + 900, "A"), at(0))
    assert judged(watch, (161, 16.0), (221, 16.0))[1] == Verdict("not-obeyed", "16.0 A where 6 A was accepted")


def test_the_tail_is_not_ours_to_judge() -> None:
    assert judged(watching(), (901, 32.0), (961, 32.0)) == [None, None]
    watch = watching()
    assert watch.tick(at(901)) is None
    assert watch.wake_at is None


def test_the_stations_clock_is_reckoned_with() -> None:
    assert judged(watching(), (61, 16.0), (121, 16.0), skew=-3600.0) == [None, ABOVE]


def test_late_messages_are_about_the_time_before() -> None:
    watch = watching()
    assert [watch.metered(amps(after, 16.0), 0, at(200)) for after in (-300, 0, 30)] == [None, None, None]
    assert [watch.metered(amps(None, 16.0), 0, at(after)) for after in (201, 261)] == [None, ABOVE]


def test_a_newer_limit_begins_anew_and_a_forgotten_one_is_gone() -> None:
    watch = watching()
    judged(watch, (61, 16.0))
    watch.watch(AMPS, at(70))
    assert judged(watch, (131, 16.0), (191, 9.0)) == [None, Verdict("obeyed")]
    watch.watch(AMPS, at(200))
    watch.forget()
    assert judged(watch, (300, 16.0), (400, 16.0)) == [None, None]
    assert watch.tick(at(700)) is None


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.floats(0, 120), st.none() | st.floats(0, 40)), max_size=20),
    st.lists(st.tuples(st.integers(1, 800), st.floats(0, 32)), max_size=5, unique_by=lambda step: step[0]),
)
def test_at_most_one_verdict_and_never_not_obeyed_by_a_car_that_keeps_below(
    said: list[tuple[float, float | None]], later: list[tuple[int, float]]
) -> None:
    limit = Limit((Step(WALL, 20.0), *(Step(WALL + after, most) for after, most in sorted(later))), WALL + 900, "A")
    watch = watching(limit)
    verdicts: list[Verdict] = []
    after = 0.0
    kept = True
    for pause, used in said:
        after += pause
        allowed = limit.at(WALL + max(0.0, after - 60), WALL + after)
        kept = kept and (used is None or allowed is None or used <= allowed)
        reading = Reading(WALL + after, energy_wh=1.0) if used is None else amps(after, used)
        verdicts += [one for one in (watch.metered(reading, 0, at(after)), watch.tick(at(after))) if one is not None]
        assert watch.wake_at is None or watch.wake_at > at(after).mono
    assert len(verdicts) <= 1
    assert not kept or "not-obeyed" not in [one.kind for one in verdicts]
