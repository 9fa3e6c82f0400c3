"""Ours beside limits that the station tells of, as conversations."""

from __future__ import annotations

from test_injector import CLEAR, SET, settled

from broker.model.observations import LimitCleared, LimitTold, ProfileReported
from broker.model.schedules import ChargingProfile, Period
from broker.profiles.ladder import profile_id


def allowing(limit: float, id: int = 0, purpose: str = "max") -> ChargingProfile:
    return ChargingProfile(id, 0, purpose, "Absolute", "A", (Period(0, limit),))


def test_ours_is_lowered_under_a_limit_from_elsewhere_and_everything_is_asked_again_when_that_is_gone() -> None:
    talk = settled()
    assert talk.sees(LimitTold(1, "EMS", (allowing(10.0),))) == [SET]
    assert {limit for _, limit in talk.limits} == {10}
    talk.accepts()
    assert talk.sees(LimitCleared(0, "EMS")) == [CLEAR]  # what the station reads out would have ours in it
    assert talk.accepts() == ["GetCompositeSchedule"]
    assert talk.allows(20) == ["GetCompositeSchedule"]
    talk.allows(63)
    talk.waits(300)
    assert talk.limits[0] == (0, 16)


def test_ours_is_cleared_where_nobody_knows_how_low_the_limit_is() -> None:
    talk = settled()
    assert CLEAR in talk.sees(LimitTold(0, "SO", (), "no schedule"))
    talk.accepts()
    assert talk.leases() == []
    assert SET not in talk.waits(900)


def test_ours_in_a_report_is_ours_and_one_of_the_cpms_lowers_it() -> None:
    talk = settled()
    ours, known = profile_id("default", 1, None), dict(talk.facts)
    assert talk.sees(ProfileReported(1, ours, allowing(6.0, ours, "default"))) == []
    assert talk.facts == known
    assert talk.sees(ProfileReported(1, 3, allowing(6.0, 3, "default"))) == [SET]
    assert {limit for _, limit in talk.limits} == {6}


def test_one_of_ours_that_is_to_be_cleared_is_not_taken_for_the_cpms_s() -> None:
    talk = settled()
    taken = profile_id("default", 1, None)
    assert CLEAR in talk.sees(LimitTold(0, "SO", (), "no schedule"))
    old = taken + 1
    talk.injector._clears.add(old)
    known = dict(talk.facts)
    assert talk.sees(ProfileReported(1, old, allowing(6.0, old, "default"))) == []
    assert talk.facts == known
