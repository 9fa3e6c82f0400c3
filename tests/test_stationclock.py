"""The station's clock against ours: what live messages say is believed, late ones are not, and a jump is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.basics import Instant
from broker.model.observations import Boot, Metered, Observation, Reading, StatusSeen, TransactionSeen
from broker.stationclock import StationClock

WALL = 1_780_000_000.0


def status(at: float | None) -> StatusSeen:
    return StatusSeen(1, 1, "Charging", at)


def heard(clock: StationClock, *said: tuple[float, float]) -> StationClock:
    """(seconds after the beginning, how far the time in it is from ours)."""
    for after, skew in said:
        clock.observe(status(WALL + after + skew), Instant(after, WALL + after))
    return clock


def test_nothing_is_known_until_the_station_says_a_time() -> None:
    clock = StationClock()
    clock.observe(status(None), Instant(0, WALL))
    assert clock.skew is None
    assert not clock.jumped


@pytest.mark.parametrize("skew", [-59.0, -1.5, 0.0, 60.0])
def test_a_clock_that_is_nearly_right_is_believed_at_once(skew: float) -> None:
    assert heard(StationClock(), (0, skew)).skew == pytest.approx(skew)


@pytest.mark.parametrize("skew", [-7200.0, -61.0, 61.0, 3600.0, -1.7e9])
def test_a_clock_that_is_far_off_is_believed_when_it_says_so_twice(skew: float) -> None:
    clock = heard(StationClock(), (0, skew))
    assert clock.skew is None
    heard(clock, (1.9, skew))
    assert clock.skew is None, "in one go"
    heard(again := heard(StationClock(), (0, skew)), (2, skew))
    assert again.skew == pytest.approx(skew)
    assert heard(clock, (5, skew + 0.5)).skew == pytest.approx(skew + 0.5)


@pytest.mark.parametrize(("apart", "agree"), [(10.0, True), (-10.0, True), (11.0, False)])
def test_two_times_agree_within_ten_seconds(apart: float, agree: bool) -> None:
    assert (heard(StationClock(), (0, 7200.0), (5, 7200.0 + apart)).skew is not None) is agree


def test_an_emptied_queue_of_old_messages_says_nothing_of_the_clock() -> None:
    clock = heard(StationClock(), *((nth * 0.2, -3600.0 + 60 * nth) for nth in range(50)))
    assert clock.skew is None
    assert heard(clock, (20, -0.5)).skew == pytest.approx(-0.5)


def test_a_queue_that_is_emptied_slowly_says_nothing_either() -> None:
    assert heard(StationClock(), *((nth * 3.0, -3600.0 + 57 * nth) for nth in range(50))).skew is None


def test_old_messages_do_not_move_a_known_clock_nor_make_it_jump() -> None:
    clock = heard(StationClock(), (0, 0.0), *((10 + nth, -3600.0 + 60 * nth) for nth in range(20)))
    assert clock.skew == pytest.approx(0.0)
    assert not clock.jumped


def test_old_messages_and_nothing_else_for_long_are_a_jump() -> None:
    clock = heard(StationClock(), (0, 0.0), (100, -3600.0), (301, -1800.0))
    assert clock.jumped
    assert not heard(clock, (302, 0.0)).jumped


def test_a_jump_ahead_is_one_until_it_is_confirmed() -> None:
    clock = heard(StationClock(), (0, 0.0), (10, 3600.0))
    assert clock.jumped
    heard(clock, (20, 3600.0))
    assert not clock.jumped
    assert clock.skew == pytest.approx(3600.0)


def test_a_minute_is_no_jump_and_a_second_more_is_one() -> None:
    known = heard(StationClock(), (0, 0.0), (10, 60.0))
    assert (known.skew, known.jumped) == (60.0, False)
    assert heard(StationClock(), (0, 0.0), (10, 61.0)).jumped


def test_a_boot_ends_a_jump() -> None:
    clock = heard(StationClock(), (0, 0.0), (10, 3600.0))
    clock.observe(Boot("Accepted"), Instant(11, WALL + 11))
    assert (clock.skew, clock.jumped) == (None, False)


def test_a_jump_back_is_believed_when_confirmed() -> None:
    assert heard(StationClock(), (0, 0.0), (10, -3600.0), (20, -3600.0)).skew == pytest.approx(-3600.0)


def test_a_clock_that_came_back_has_not_jumped() -> None:
    clock = heard(StationClock(), (0, 0.0), (10, 3600.0), (11, 0.0))
    assert not clock.jumped
    assert clock.skew == pytest.approx(0.0)


def test_slow_messages_weigh_less_than_fast_ones() -> None:
    clock = heard(StationClock(), (0, -1.0), (1, -30.0))
    assert clock.skew == pytest.approx(-3.9)
    assert heard(clock, (2, 0.5)).skew == pytest.approx(0.5)


def test_a_boot_forgets_and_the_cpms_clock_is_where_the_station_is_expected() -> None:
    clock = heard(StationClock(), (0, 0.0))
    clock.observe(Boot("Accepted", clock=WALL + 10 + 7200), Instant(10, WALL + 10))
    assert clock.skew is None
    assert heard(clock, (11, 7199.0)).skew == pytest.approx(7199.0)


@pytest.mark.parametrize(("off", "believed"), [(-60.0, True), (60.0, True), (61.0, False)])
def test_within_a_minute_of_where_it_is_expected_it_is_believed_at_once(off: float, believed: bool) -> None:
    clock = StationClock()
    clock.observe(Boot("Accepted", clock=WALL + 7200), Instant(0, WALL))
    assert (heard(clock, (0, 7200 + off)).skew is not None) is believed


def test_a_boot_that_was_not_accepted_changes_nothing() -> None:
    clock = heard(StationClock(), (0, 5.0))
    clock.observe(Boot("Pending", clock=WALL + 7200), Instant(10, WALL + 10))
    assert clock.skew == pytest.approx(5.0)


@pytest.mark.parametrize(
    "seen",
    [
        TransactionSeen("started", "1", 1, 1, WALL - 20, "", offline=True),
        TransactionSeen("ended", "1", 1, 1, WALL - 20, ""),
        TransactionSeen("updated", "1", 1, 1, None, ""),
        Metered(1, (Reading(WALL - 20, context="Sample.Clock"),)),
        Metered(1, ()),
        Boot("Accepted"),
    ],
)
def test_what_is_not_of_now_says_nothing(seen: Observation) -> None:
    clock = StationClock()
    clock.observe(seen, Instant(0, WALL))
    assert clock.skew is None


@pytest.mark.parametrize(
    "seen",
    [
        TransactionSeen("started", "1", 1, 1, WALL - 20, ""),
        Metered(1, (Reading(WALL - 900), Reading(WALL - 20))),
    ],
)
def test_events_and_the_newest_reading_are_of_now(seen: Observation) -> None:
    clock = StationClock()
    clock.observe(seen, Instant(0, WALL))
    assert clock.skew == pytest.approx(-20.0)


@settings(max_examples=100)
@given(st.floats(-1e6, 1e6), st.lists(st.floats(0, 5), min_size=3, max_size=20))
def test_a_steady_clock_is_known_to_within_the_slowest_message(skew: float, delays: list[float]) -> None:
    clock = heard(StationClock(), *((30.0 * nth, skew - delay) for nth, delay in enumerate(delays)))
    assert clock.skew is not None
    assert skew - max(delays) - 1e-3 <= clock.skew <= skew + 1e-3
    assert not clock.jumped
