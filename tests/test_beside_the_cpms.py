"""Ours beside the CPMS's own profiles, as conversations: who has precedence, who needs the room, how many phases."""

from __future__ import annotations

from test_injector import CLEAR, KEYS, SET, Talk, profile, settled

from broker.model.observations import Capabilities

TIGHT = {"key": "MaxChargingProfilesInstalled", "readonly": True, "value": "1"}


def test_where_the_cpms_has_precedence_ours_goes_before_its_profile_comes_and_returns_when_that_is_over() -> None:
    talk = settled(conflict="cpms")
    assert talk.cpms(5, SET, profile(32.0)) == ["s1 not-sent cpms-in-force", CLEAR]
    assert talk.accepts() == ["pass 5"]
    assert talk.cpms_done(SET, profile(32.0), "Accepted") == []
    assert talk.waits(300) == []
    assert talk.cpms(6, CLEAR, {}) == ["pass 6"]
    assert talk.cpms_done(CLEAR, {}, "Accepted") == ["GetCompositeSchedule"]


def test_else_the_smallest_holds() -> None:
    talk = settled()
    assert talk.cpms(5, SET, profile(32.0)) == ["pass 5"]
    assert talk.cpms_done(SET, profile(32.0), "Accepted") == []
    assert talk.cpms(6, SET, profile(10.0)) == [SET]
    assert talk.limits == [(0, 10), (960, 10)]


def test_where_a_station_holds_no_more_profiles_the_cpms_has_the_room() -> None:
    talk = settled()
    assert talk.sees(Capabilities(max_profiles=2)) == []
    assert talk.cpms(5, SET, profile(32.0)) == ["pass 5"]
    assert talk.cpms_done(SET, profile(32.0), "Accepted") == []
    assert talk.cpms(6, SET, profile(32.0, level=1, id=2)) == [CLEAR]
    assert talk.accepts()[0] == "pass 6"
    assert talk.cpms_done(SET, profile(32.0, level=1, id=2), "Accepted") == [
        "s1 not-sent no-room: the CPMS needs all the profiles that the station holds"
    ]
    assert talk.cpms_done(CLEAR, {"id": 2}, "Accepted") == ["GetCompositeSchedule"]


def test_ours_alone_fits_where_one_profile_fits() -> None:
    talk = Talk(baseline="seen")
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.hears({"configurationKey": [*KEYS["configurationKey"], TIGHT]}) == [SET]


def test_a_limit_for_one_phase_is_not_made_one_for_three() -> None:
    talk = Talk(baseline="seen", purposes=("default",))
    talk.live()
    one_phase = profile(20.0)
    one_phase["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"][0]["numberPhases"] = 1
    talk.cpms_done(SET, one_phase, "Accepted")
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.hears(KEYS) == [SET]
    assert [period["numberPhases"] for period in talk.sent["chargingSchedule"]["chargingSchedulePeriod"]] == [1, 1]
    assert talk.limits == [(0, 16), (960, 20)]


def test_in_watts_one_phase_carries_a_third() -> None:
    talk = Talk(baseline="seen", purposes=("default",))
    talk.live()
    one_phase = profile(20.0)
    one_phase["csChargingProfiles"]["chargingSchedule"]["chargingSchedulePeriod"][0]["numberPhases"] = 1
    talk.cpms_done(SET, one_phase, "Accepted")
    talk.sees(Capabilities(units=frozenset({"W"})))
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.hears(KEYS) == [SET]
    assert talk.limits == [(0, 3680), (960, 4600)]
