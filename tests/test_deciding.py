"""When it is looked again, though nothing comes: what the clock alone brings about."""

from __future__ import annotations

from test_injector import CLEAR, SET, Talk, capability, profile, settled

from broker.deciding import LOOK_AGAIN_S
from broker.model.basics import Instant
from broker.ocpp import times


def test_what_stands_and_nobody_wants_is_looked_at_a_second_after_its_own_end() -> None:
    old = settled()
    talk = Talk(facts=old.all_facts(), at=old.now)
    talk.waits(11)
    assert talk.injector.wake_at == old.now.mono + 900 + 300 + 1, "its lease, what a profile lasts longer, and a second"


def test_where_the_cpms_has_precedence_it_is_looked_every_minute_whether_a_profile_of_its_began() -> None:
    talk = settled(conflict="cpms")
    later = profile(32.0)
    later["csChargingProfiles"]["chargingSchedule"]["startSchedule"] = times.text(talk.now.wall + 150)
    assert talk.cpms(5, SET, later) == ["pass 5"]
    assert talk.cpms_done(SET, later, "Accepted") == []
    assert talk.injector.wake_at == talk.now.mono + LOOK_AGAIN_S == talk.now.mono + 60
    assert talk.waits(145) == []
    assert talk.waits(50) == ["s1 not-sent cpms-in-force", CLEAR]


def test_what_the_cpms_says_is_held_against_what_the_clock_says_then() -> None:
    """Nothing woke the injector since: it must not reckon with the time of the last that did."""
    talk = settled()
    over = profile(6.0)
    over["csChargingProfiles"]["chargingSchedule"] |= {"startSchedule": times.text(talk.now.wall), "duration": 100}
    talk._to(talk.now.mono + 300)
    assert talk.cpms(5, SET, over) == ["pass 5"]


def test_a_profile_that_began_since_anybody_looked_is_in_force_when_the_cpms_speaks() -> None:
    talk = Talk(conflict="cpms", baseline="none", facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0)
    assert talk.waits(11) == [SET]
    assert talk.accepts() == ["s1 accepted"]
    soon = profile(32.0)
    soon["csChargingProfiles"]["chargingSchedule"]["startSchedule"] = times.text(talk.now.wall + 30)
    assert talk.cpms(5, SET, soon) == ["pass 5"]
    assert talk.cpms_done(SET, soon, "Accepted") == []
    talk._to(talk.now.mono + 40)
    assert talk.cpms(6, CLEAR, {"id": 77}) == ["s1 not-sent cpms-in-force", CLEAR], "ours makes way first"
    assert talk.accepts() == ["pass 6"]


def test_a_limit_above_what_the_operator_allows_now_is_lowered_at_once() -> None:
    """`max_amps` was lowered while it stood."""
    old = settled()
    talk = Talk(facts=old.all_facts(), at=old.now, max_amps=10.0)
    talk.live()
    talk.wants("s1", 16.0)
    assert talk.waits(11) == [SET]
    assert talk.limits[0] == (0, 10.0)


def test_a_clock_that_stays_unknown_is_told_after_five_minutes() -> None:
    talk = Talk(baseline="none", at=Instant(1000.0, 1_768_046_400.0))
    talk.wants("s1", 16.0)
    assert talk.waits(11) == ["GetConfiguration"]
    talk.hears({"configurationKey": []})
    assert talk.waits(285) == []
    assert talk.waits(10) == ["s1 not-sent clock", "alarm clock"]


def test_where_the_cpms_is_in_force_it_is_looked_every_minute_whether_it_still_is() -> None:
    talk = settled(conflict="cpms")
    talk.cpms(5, SET, profile(32.0))
    talk.accepts()
    talk.cpms_done(SET, profile(32.0), "Accepted")
    assert talk.injector.wake_at == talk.now.mono + 60


def test_where_no_level_is_left_above_the_cpms_s_it_is_said() -> None:
    talk = Talk(baseline="none", purposes=("default",), facts=(capability(),))
    talk.live()
    talk.cpms_done(SET, profile(32.0, level=8), "Accepted")
    talk.wants("s1", 16.0)
    assert talk.waits(11) == ["s1 not-sent unmanaged: no kind of profile is left that it takes"]


def test_before_the_whole_station_is_asked_what_stands_on_any_evse_is_cleared() -> None:
    """What it reads out would contain ours."""
    old = Talk(evses=2, purposes=("default",), facts=(capability(),))
    old.live()
    old.wants("s2", 16.0, evse=2)
    assert old.waits(11) == ["GetCompositeSchedule"]
    assert old.allows(20) == ["GetCompositeSchedule"]
    assert old.allows(63) == [SET]
    assert old.accepts() == ["s2 accepted"]
    known = tuple(fact for fact in old.all_facts() if fact.name != "read-0")
    talk = Talk(evses=2, purposes=("default",), facts=known, at=old.now)
    talk.live()
    talk.wants("s2", 16.0, evse=2)
    assert talk.waits(11) == [CLEAR]
    assert talk.accepts() == ["GetCompositeSchedule"]
    assert talk.inject is not None
    assert talk.inject.payload["connectorId"] == 0
