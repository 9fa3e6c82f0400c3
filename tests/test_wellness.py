"""A station's alarm is over when something shows that it is well again, after it was told, and not before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_fallback import Backing
from test_injector import CLEAR, SET, Talk, capability, profile, settled
from test_leaving import accepted, at, injected, lease, leaving

from broker.model.observations import StatusSeen
from broker.observer import Identifying
from broker.operating import release_fact
from broker.standing import SETTLE_S
from broker.wellness import Wellness


def well(talk: Talk, name: str, raised_at: float | None = None) -> bool:
    """As the watchman asks: with the moment at which the alarm was last told."""
    return talk.injector.well(name, talk.now.mono if raised_at is None else raised_at)


def refused() -> Talk:
    """A station that refuses whatever it is sent: the alarm was just raised."""
    talk = Talk(baseline="none", purposes=("max",), facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0, valid_s=9000.0)
    assert talk.waits(11) == [SET]
    talk.hears({"status": "NotSupported"})
    assert "alarm unmanaged" in talk.hears({"status": "NotSupported"})
    return talk


@given(st.lists(st.tuples(st.sampled_from(["ill", "well"]), st.integers(1, 3), st.floats(0, 10)), max_size=30), st.floats(0, 100))
def test_well_means_that_the_last_part_was_seen_to_be_well_after_the_alarm(steps: list[tuple[str, int, float]], raised_at: float) -> None:
    one, now, ill, seen = Wellness(), 0.0, set[int](), float("-inf")
    for what, part, wait in steps:
        now += wait
        if what == "ill":
            one.ill("x", part)
            ill.add(part)
        else:
            one.well("x", now, part)
            ill.discard(part)
            seen = seen if ill else now
    assert one.since("x", raised_at) == (seen > raised_at)
    assert not one.since("y", -1.0)


def test_a_clock_is_well_when_a_live_time_shows_it() -> None:
    talk = Talk(baseline="none", facts=(capability(),))
    talk.wants("s1", 16.0)
    assert "alarm clock" in talk.waits(400)
    assert not well(talk, "clock")
    talk.sees(StatusSeen(1, 1, "Available", talk.now.wall - 7200.0))
    assert not well(talk, "clock"), "it may be an old message"
    talk.sees(StatusSeen(1, 1, "Available", talk.now.wall - 30.0))
    assert well(talk, "clock")
    talk.waits(1)
    talk.sees(StatusSeen(1, 1, "Available", talk.now.wall + 7200.0))
    assert not well(talk, "clock"), "it jumped"


def test_a_station_that_takes_a_profile_again_is_managed() -> None:
    talk = refused()
    assert not well(talk, "unmanaged")
    raised_at = talk.now.mono
    assert talk.waits(3700) == [SET]
    assert not well(talk, "unmanaged", raised_at)
    talk.accepts()
    assert well(talk, "unmanaged", raised_at)


def test_an_earlier_success_proves_nothing() -> None:
    talk = settled()
    assert not well(talk, "unmanaged")


def test_what_could_not_be_cleared_is_over_when_it_is_cleared_and_nothing_else_waits() -> None:
    talk = settled()
    talk.take(talk.injector.release(talk.now))
    for _ in range(3):
        talk.hears("InternalError", "error")
        talk.waits(250)
    raised_at = talk.now.mono
    assert not well(talk, "release")
    talk.waits(1000)
    talk.injector._clears.add(5)
    talk.hears({"status": "Accepted"})
    assert not well(talk, "release", raised_at), "another one waits"
    talk.waits(1)
    talk.hears({"status": "Unknown"})
    assert well(talk, "release", raised_at)


def test_the_cpms_may_have_cleared_it_as_well() -> None:
    talk = settled()
    raised_at = talk.now.mono
    talk.waits(1)
    talk.cpms_done(CLEAR, {}, "Accepted")
    assert well(talk, "release", raised_at)


def backed(evses: int = 1) -> Backing:
    talk = Backing(baseline="none", fallback_amps=8.0, facts=(capability(),), evses=evses)
    talk.live()
    assert talk.waits(11) == [SET]
    return talk


def test_a_fallback_is_well_when_every_evse_that_refused_it_has_taken_it() -> None:
    talk = backed(evses=2)
    assert "alarm fallback" in talk.hears({"status": "Rejected"})
    talk.waits(1)
    raised_at = talk.now.mono
    talk.waits(1)
    talk.accepts()
    assert not well(talk, "fallback", raised_at), "only the other has"
    assert talk.waits(3700) == [SET]
    talk.accepts()
    assert well(talk, "fallback", raised_at)


def test_a_fallback_that_nobody_wants_any_more_is_not_missed() -> None:
    talk = backed()
    talk.hears({"status": "Rejected"})
    assert not well(talk, "fallback")
    talk.take(talk.injector.steer((release_fact(1.0),), talk.now))
    assert well(talk, "fallback")


@pytest.mark.parametrize("name", ["clock", "unmanaged", "release", "fallback"])
def test_where_nothing_is_sent_nothing_of_ours_is_wrong(name: str) -> None:
    assert well(Talk(shadow=True), name)
    assert Identifying.well(None, name, 0.0)  # type: ignore[arg-type]
    gone: Any = leaving(lease(7))
    assert gone.well(name, 0.0) == (name != "release")
    (ours,) = injected(gone.tick(at(SETTLE_S)))
    gone.answered(ours.token, "answer", accepted(), at(SETTLE_S + 1))
    assert gone.well(name, 0.0)


def test_a_profile_of_the_cpms_is_no_proof() -> None:
    talk = refused()
    raised_at = talk.now.mono
    talk.waits(1)
    talk.cpms_done(SET, profile(12), "Accepted")
    talk.live()
    assert not well(talk, "unmanaged", raised_at)
