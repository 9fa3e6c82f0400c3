"""`fallback_amps`: a limit without an end, only where the CPMS has none in its place, and gone when it should be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_injector import CLEAR, KEYS, NOON, SET, Talk, capability, profile

from broker.fallback import FOREVER, Backed
from broker.leaving import standing
from broker.model.basics import Instant
from broker.model.observations import Boot, ClearSeen
from broker.model.records import Fact
from broker.operating import release_fact
from broker.steering import Steered

ID = 9_120_014


class Backing(Talk):
    kind = Steered


def backed(**how: Any) -> Backing:
    """A station with 8 A for ever."""
    talk = Backing(**{"baseline": "none", "fallback_amps": 8.0, "facts": (capability(),), **how})
    talk.live()
    assert talk.waits(11) == [SET]
    sent = talk.sent
    assert (sent["chargingProfileId"], sent["stackLevel"], sent["chargingProfilePurpose"]) == (ID, 0, "TxDefaultProfile")
    assert talk.limits == [(0, 8.0)]
    assert talk.accepts() == []
    assert talk.leases() == [str(ID)]
    return talk


def test_it_has_no_end_and_begins_in_the_past() -> None:
    talk = Backing(baseline="none", fallback_amps=8.0, facts=(capability(),))
    talk.live()
    talk.waits(11)
    assert "validTo" not in talk.sent
    assert "duration" not in talk.sent["chargingSchedule"]
    assert talk.sent["chargingSchedule"]["startSchedule"] < "2026-01-10T12:00:00Z"
    assert talk.sent["chargingProfileKind"] == "Absolute"


def test_it_is_put_once_and_outlives_days_and_a_restart() -> None:
    talk = backed()
    assert talk.waits(3 * 86_400.0) == []
    again = Backing(baseline="none", fallback_amps=8.0, facts=talk.all_facts(), at=Instant(1000.0, NOON + 40 * 86_400.0))
    again.live()
    assert again.waits(100) == []
    assert again.leases() == [str(ID)]


def test_another_amount_is_put_in_its_place_and_none_takes_it_away() -> None:
    talk = backed()
    more = Backing(baseline="none", fallback_amps=10.0, facts=talk.all_facts())
    more.live()
    assert more.waits(11) == [SET]
    assert more.limits == [(0, 10.0)]
    none = Backing(baseline="none", facts=talk.all_facts())
    none.live()
    assert none.waits(11) == [CLEAR]
    assert none.inject is not None
    assert none.inject.payload == {"id": ID}
    none.accepts()
    assert none.leases() == []


def test_it_is_never_above_max_amps() -> None:
    talk = Backing(baseline="none", fallback_amps=100.0, facts=(capability(),))
    talk.live()
    talk.waits(11)
    assert talk.limits == [(0, 32.0)]


@pytest.mark.parametrize("how", [{"shadow": True}, {"fallback_amps": None}, {"proven": False}])
def test_when_it_is_not_put(how: dict[str, Any]) -> None:
    talk = Backing(**{"baseline": "none", "fallback_amps": 8.0, "facts": (capability(),), **how})
    talk.live()
    assert talk.waits(100) == []


def test_only_where_the_station_reads_out_no_limit() -> None:
    talk = Backing(fallback_amps=8.0)
    talk.live()
    assert talk.waits(11) == ["GetConfiguration"]
    assert talk.hears(KEYS) == ["GetCompositeSchedule"]
    assert talk.allows(20) == ["GetCompositeSchedule"]
    assert talk.allows(63) == [], "somebody limits it: at level 0 ours might replace what nobody saw"


def missing(talk: Backing) -> Any:
    return talk.injector.explain()["1"].get("no_fallback")


def test_where_it_does_not_stand_it_is_said_why() -> None:
    assert missing(Backing(baseline="none", facts=(capability(),))) is None, "nobody wants one"
    assert missing(backed()) is None
    assert "clock" in missing(Backing(baseline="none", fallback_amps=8.0, facts=(capability(),)))
    assert "this mode" in missing(Backing(shadow=True, fallback_amps=8.0))
    released = Backing(baseline="none", fallback_amps=8.0, facts=(capability(), release_fact(NOON)))
    assert "released" in missing(released)
    asked = Backing(fallback_amps=8.0, facts=(capability(),))
    asked.live()
    assert "not said yet" in missing(asked)
    asked.waits(11)
    asked.allows(32.0)
    asked.allows(32.0)
    assert missing(asked) == "the station has a limit that may be a profile nobody saw, and that ours would replace"
    theirs = backed()
    theirs.cpms_done("SetChargingProfile", profile(20.0), "Accepted")
    theirs.accepts()
    assert "TxDefaultProfile of the CPMS" in missing(theirs)


def test_a_default_of_the_cpms_goes_in_its_place_and_ours_makes_way_first() -> None:
    talk = backed()
    assert talk.cpms(1, SET, profile(12)) == [CLEAR]
    assert talk.inject is not None
    assert talk.inject.payload == {"id": ID}
    assert talk.accepts() == ["pass 1"]
    assert talk.leases() == []
    assert talk.cpms_done(SET, profile(12), "Accepted") == []
    assert talk.waits(86_400.0) == [], "it is the CPMS's now"


def test_beside_a_lease_that_makes_way_too_the_call_waits_for_both() -> None:
    talk = backed(purposes=("default",))
    talk.wants("s1", 16.0)
    talk.accepts()
    cleared = []
    assert talk.cpms(1, SET, profile(12, level=8)) == [CLEAR]
    while talk.inject is not None and "pass 1" not in talk.said:
        cleared.append(talk.inject.payload["id"])
        talk.accepts()
    assert cleared == [ID, 9_120_013]
    assert "pass 1" in talk.said


def test_a_default_that_the_station_refuses_lets_ours_come_back() -> None:
    talk = backed()
    talk.cpms(1, SET, profile(12))
    talk.accepts()
    talk.cpms_done(SET, profile(12), "Rejected")
    assert talk.waits(61) == [SET]
    assert talk.limits == [(0, 8.0)]


def test_another_kind_of_profile_of_the_cpms_does_not_disturb_it() -> None:
    talk = backed()
    assert talk.cpms(1, SET, profile(20, purpose="ChargePointMaxProfile")) == ["pass 1"]


def test_a_clear_of_everything_takes_it_along_and_it_is_put_back() -> None:
    talk = backed()
    assert talk.sees(ClearSeen(True, None, None, None, None)) == [SET]
    assert talk.limits == [(0, 8.0)]


def test_a_boot_clears_it_and_it_is_put_again() -> None:
    talk = backed()
    assert talk.sees(Boot("Accepted")) == [CLEAR]
    assert talk.accepts() == [], "its clock must be known again first"
    assert talk.live() == [SET]


def test_release_takes_it_away_and_it_stays_away() -> None:
    talk = backed()
    assert talk.take(talk.injector.release(talk.now)) == [CLEAR]
    injector = talk.injector
    assert isinstance(injector, Steered)
    talk.take(injector.steer([release_fact(talk.now.wall)], talk.now))
    talk.accepts()
    assert talk.leases() == []
    assert talk.waits(7200) == []


def test_a_lease_of_ours_stands_above_it_and_its_tail_is_no_higher() -> None:
    talk = backed(purposes=("default",))
    assert talk.wants("s1", 16.0) == [SET]
    assert talk.sent["stackLevel"] == 8
    assert talk.limits[-1][1] == 8.0, "the end of a lease must not burn the fuse"
    assert talk.accepts() == ["s1 accepted"]
    assert sorted(talk.leases()) == ["9120013", str(ID)]


def test_on_a_station_of_one_level_the_lease_has_no_room_beside_it() -> None:
    talk = backed(purposes=("default",), facts=(Fact("capability", "capability", {"max_stack_level": 0}),))
    assert [said for said in talk.wants("s1", 16.0) if said == SET] == []


def test_a_refusal_is_told_and_tried_again_in_an_hour() -> None:
    talk = Backing(baseline="none", fallback_amps=8.0, facts=(capability(),))
    talk.live()
    talk.waits(11)
    assert talk.hears({"status": "Rejected"}) == ["alarm fallback"]
    assert talk.leases() == []
    assert talk.waits(3500) == []
    assert talk.waits(200) == [SET]


def test_without_an_answer_it_may_stand_and_is_put_again() -> None:
    talk = Backing(baseline="none", fallback_amps=8.0, facts=(capability(),))
    talk.live()
    talk.waits(11)
    talk.hears(outcome="timeout")
    assert talk.leases() == [str(ID)]
    assert talk.waits(3700) == [SET]


def test_a_station_that_leaves_smart_charging_is_told_to_clear_it_however_late() -> None:
    talk = backed()
    assert standing(talk.all_facts())[ID] >= FOREVER


@pytest.mark.parametrize("version", ["ocpp2.0.1", "ocpp2.1"])
def test_in_2_x_too(version: str) -> None:
    talk = Backing(version, baseline="none", fallback_amps=8.0, facts=(capability(),))
    talk.live()
    assert talk.waits(11) == [SET]
    assert talk.inject is not None
    sent = talk.inject.payload["chargingProfile"]
    assert (sent["id"], sent["stackLevel"], sent["chargingProfilePurpose"]) == (ID, 0, "TxDefaultProfile")
    assert talk.accepts() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["set", "refused", "clear", "wait", "wish", "boot", "max"]), max_size=8))
def test_it_never_stands_beside_a_default_of_the_cpms(story: list[str]) -> None:
    talk = backed()
    theirs = False
    for number, what in enumerate(story):
        if what in ("set", "refused"):
            talk.cpms(number, SET, profile(12, id=number + 1))
            settle(talk)
            assert str(ID) not in talk.leases() or f"pass {number}" not in talk.said
            talk.cpms_done(SET, profile(12, id=number + 1), "Accepted" if what == "set" else "Rejected")
            theirs = theirs or what == "set"
        elif what == "clear":
            talk.sees(ClearSeen(True, None, None, None, None))
            theirs = False
        elif what == "wish":
            talk.wants(f"s{number}", 10.0)
        elif what == "boot":
            talk.sees(Boot("Accepted"))
        elif what == "max":
            talk.cpms_done(SET, profile(20, purpose="ChargePointMaxProfile", id=90), "Accepted")
        talk.waits(70)
        settle(talk)
        assert not theirs or str(ID) not in talk.leases()


def settle(talk: Talk) -> None:
    """The station says yes to everything."""
    for _ in range(20):
        if talk.inject is None:
            return
        talk.hears({**KEYS, "status": "Accepted"})


def test_it_is_part_of_every_steered_station() -> None:
    assert issubclass(Steered, Backed)
