"""What all profiles together allow: the standard's rules by example, and a schedule that says at every second what holds then."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.sim.cars import Socket
from broker.sim.composite import Limit, Profile, Running, allowed, schedule

T = 1_767_225_600.0  # 2026-01-01, midnight
SOCKET, ONE, DC = Socket(1), Socket(1, phases=1), Socket(1, phases=1, max_amps=125, dc=True)
TX = Running("7", T)


def profile(id: int, purpose: Any, limit: float, **more: Any) -> Profile:
    plain = {"evse": 0, "stack_level": 0, "kind": "Absolute", "unit": "A", "periods": (Limit(0, limit),), "start": T}
    return Profile(id=id, purpose=purpose, **{**plain, **more})


def amps(*profiles: Profile, at: float = T, running: Running | None = TX, socket: Socket = SOCKET, charging: int = 1) -> float:
    return allowed(profiles, socket, at, running, charging).amps


def test_nothing_held_is_hardware() -> None:
    assert allowed([], SOCKET, T, TX) == (32.0, None)


def test_the_highest_level_wins_whatever_its_value() -> None:
    low, high = profile(1, "default", 10, stack_level=0), profile(2, "default", 20, stack_level=3)
    assert amps(low, high) == amps(high, low) == 20


def test_a_higher_level_that_is_not_valid_is_passed_over() -> None:
    low, high = profile(1, "default", 10), profile(2, "default", 20, stack_level=3, valid_to=T + 60)
    assert (amps(low, high, at=T + 59), amps(low, high, at=T + 60)) == (20, 10)
    later = profile(3, "default", 8, stack_level=5, valid_from=T + 30)
    assert (amps(low, later, at=T + 29), amps(low, later, at=T + 30)) == (10, 8)


def test_the_transactions_profile_takes_the_defaults_place_upwards_too() -> None:
    default, tx = profile(1, "default", 10), profile(2, "tx", 25, evse=1, transaction="7")
    assert amps(default, tx) == 25
    assert amps(default, tx, running=Running("8", T)) == 10
    assert amps(default, tx, running=None) == 10
    assert amps(default, profile(2, "tx", 25, evse=1, duration_s=60), at=T + 60) == 10  # over: the default again


def test_across_purposes_the_least_wins() -> None:
    default, tx, top = profile(1, "default", 10), profile(2, "tx", 25, evse=1), profile(3, "max", 16)
    assert amps(default, tx, top) == 16
    assert amps(default, top) == 10


def test_a_profile_of_the_socket_outranks_the_one_for_all_at_the_same_level() -> None:
    everywhere, here, there = profile(1, "default", 10), profile(2, "default", 20, evse=1), profile(3, "default", 30, evse=2)
    assert amps(everywhere, here, there) == amps(here, everywhere) == 20


def test_the_stations_maximum_is_shared_by_who_charges() -> None:
    top = profile(1, "max", 32)
    assert (amps(top, charging=1), amps(top, charging=2)) == (32, 16)
    assert amps(top, profile(2, "default", 10), charging=2) == 10


@pytest.mark.parametrize(
    ("socket", "phases", "amps_"), [(SOCKET, None, 10), (SOCKET, 3, 10), (SOCKET, 1, 30), (ONE, None, 30), (DC, None, 17.25)]
)
def test_watts_are_of_all_phases(socket: Socket, phases: int | None, amps_: float) -> None:
    assert amps(profile(1, "default", 0, unit="W", periods=(Limit(0, 6900, phases),)), socket=socket) == pytest.approx(amps_)


def test_periods_duration_and_start() -> None:
    steps = profile(1, "default", 0, start=T + 10, duration_s=100, periods=(Limit(0, 10), Limit(50, 20)))
    assert [amps(steps, at=T + s) for s in (9, 10, 59, 60, 109, 110)] == [32, 10, 10, 20, 20, 32]


def test_relative_counts_from_the_transactions_begin() -> None:
    steps = profile(1, "default", 0, kind="Relative", start=None, periods=(Limit(0, 10), Limit(60, 20)))
    assert (amps(steps, at=T + 59), amps(steps, at=T + 60)) == (10, 20)
    assert amps(steps, at=T + 60, running=None) == 10


def test_recurring_daily_and_weekly() -> None:
    night = {"kind": "Recurring", "duration_s": 3600, "periods": (Limit(0, 10), Limit(1800, 20))}
    daily, weekly = profile(1, "default", 0, recurrency="Daily", **night), profile(2, "default", 0, recurrency="Weekly", **night)
    day = 86_400
    assert [amps(daily, at=T + s) for s in (day, day + 1800, day + 3600)] == [10, 20, 32]
    assert [amps(weekly, at=T + s) for s in (day, 7 * day + 1800)] == [32, 20]


def test_a_pause_is_a_limit() -> None:
    assert amps(profile(1, "default", 0)) == 0


def test_a_schedule_of_the_whole_station() -> None:
    whole = Socket(0, max_amps=64)
    assert schedule([profile(1, "default", 10)], whole, T, 100, None, whole=True) == (Limit(0, 64),)
    assert schedule([profile(1, "max", 20, valid_to=T + 30)], whole, T, 100, None, whole=True) == (Limit(0, 20), Limit(30, 64))


seconds = st.integers(-200, 200)
profiles = st.builds(
    lambda id, evse, level, kind, limits, begin, lasts, ends, purpose: Profile(
        id,
        0 if purpose == "max" else 1 if purpose == "tx" else evse,
        purpose,
        level,
        kind,
        "A",
        tuple(Limit(30 * n, limit) for n, limit in enumerate(limits)),
        start=None if kind == "Relative" else T + begin,
        duration_s=lasts,
        recurrency="Daily" if kind == "Recurring" else "",
        valid_to=T + ends if ends is not None else None,
    ),
    st.integers(1, 99),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 2),
    st.sampled_from(["Absolute", "Relative", "Recurring"]),
    st.lists(st.integers(0, 32), min_size=1, max_size=4),
    seconds,
    st.none() | st.integers(1, 200),
    st.none() | seconds,
    st.sampled_from(["max", "default", "tx"]),
)


@settings(max_examples=150)
@given(st.lists(profiles, max_size=5), st.none() | st.builds(lambda s: Running("7", T + s), st.integers(-100, 0)))
def test_a_schedule_says_at_every_second_what_holds_then(held: list[Profile], running: Running | None) -> None:
    steps = schedule(held, SOCKET, T, 240, running)
    assert steps[0].start_s == 0
    assert [step.start_s for step in steps] == sorted({step.start_s for step in steps})
    for s in range(240):
        said = [step for step in steps if step.start_s <= s][-1].limit
        # A Relative profile without a transaction begins whenever one does; a schedule can only show it from its own begin on.
        if running is not None or all(p.kind != "Relative" for p in held):
            assert said == allowed(held, SOCKET, T + s, running).amps
