"""What the injector says, as conversations: what happens on the left, what it wants done on the right."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from broker.injector import Injector
from broker.model.basics import Instant
from broker.model.observations import Boot, Capabilities, ClearSeen, Proven, Reading, StatusSeen, TransactionSeen
from broker.model.observations import Metered as MeteredSeen
from broker.model.orders import Inject, Pass, Remember, Report
from broker.model.records import Fact, OpenTransaction
from broker.model.schedules import Schedule, Step
from broker.model.traffic import Exchange
from broker.ocpp import times
from broker.ocpp.dialects import BY_NAME
from broker.settings import ChargingSettings, EvseSettings, StationSettings

NOON = 1_768_046_400.0
START = Instant(1000.0, NOON)
KEYS = {"configurationKey": [{"key": "ChargeProfileMaxStackLevel", "readonly": True, "value": "8"}]}
SET = "SetChargingProfile"
CLEAR = "ClearChargingProfile"


class Talk:
    """A station's injector, and everything it said so far, in words."""

    kind: type[Injector] = Injector
    engine_heard: Any = None

    def __init__(
        self,
        version: str = "ocpp1.6",
        *,
        facts: tuple[Fact, ...] = (),
        evses: int = 1,
        shadow: bool = False,
        flapping: bool = False,
        proven: bool = True,
        at: Instant = START,
        max_amps: float = 32.0,
        **charging: Any,
    ) -> None:
        self.now = at
        self.open: dict[int, OpenTransaction] = {}
        self.tokens = iter(range(1, 10_000))
        self.facts: dict[tuple[str, str], Fact] = {(fact.topic, fact.name): fact for fact in facts}
        self.inject: Inject | None = None
        self.said: list[str] = []
        sockets = tuple(EvseSettings(n, f"asset-{n}", max_amps, 3) for n in range(1, evses + 1))
        self.injector = self.kind(
            StationSettings("CS", "smart-charging", "site", "ac", sockets),
            ChargingSettings(**charging),
            BY_NAME[version],
            facts=facts,
            opened=self.now,
            flapping=flapping,
            shadow=shadow,
            new_token=lambda: next(self.tokens),
            open_transaction=self.open.get,
            engine_heard=self.engine_heard,
        )
        if proven:
            self.sees(Proven("Heartbeat"))

    def take(self, effects: Any) -> list[str]:
        """What it wants done, in words; facts are kept aside."""
        before = len(self.said)
        for effect in effects:
            if isinstance(effect, Remember):
                self.facts[effect.fact.topic, effect.fact.name] = effect.fact
            elif isinstance(effect, Inject):
                assert self.inject is None
                self.inject = effect
                self.said.append(effect.action)
            elif isinstance(effect, Report):
                self.said.append(" ".join(f"{effect.outcome.schedule} {effect.outcome.status} {effect.outcome.detail}".split()))
            elif isinstance(effect, Pass):
                self.said.append(f"pass {effect.token}")
            else:
                self.said.append(f"alarm {effect.name}")
        return self.said[before:]

    def sees(self, *observations: Any) -> list[str]:
        before = len(self.said)
        for seen in observations:
            self.take(self.injector.observe(seen, self.now))
        return self.said[before:]

    def live(self) -> list[str]:
        """A status with a time: the station's clock is known."""
        return self.sees(StatusSeen(1, 1, "Available", self.now.wall))

    def wants(self, id: str, *limits: float, evse: int = 1, valid_s: float = 3600.0, every_s: float = 300.0, **more: Any) -> list[str]:
        steps = tuple(Step(self.now.wall + every_s * n - (n == 0), limit) for n, limit in enumerate(limits))
        wanted = Schedule(id, f"asset-{evse}", self.now.wall, self.now.wall + valid_s, "A", steps, **more)
        return self.take(self.injector.wish(wanted, self.now))

    def waits(self, seconds: float) -> list[str]:
        """Time passes, and it is woken whenever it wants to be."""
        before, end = len(self.said), self.now.mono + seconds
        for _ in range(200):
            at = self.injector.wake_at
            if at is None or at > end or self.inject is not None:
                break
            self._to(max(at, self.now.mono))
            self.take(self.injector.tick(self.now))
        self._to(end)
        self.take(self.injector.tick(self.now))
        return self.said[before:]

    def _to(self, mono: float) -> None:
        self.now = Instant(mono, self.now.wall + mono - self.now.mono)

    def hears(self, payload: Any = None, outcome: str = "answer") -> list[str]:
        """The station answers what it was asked last."""
        ours, self.inject = self.inject, None
        assert ours is not None
        kind = 4 if outcome == "error" else 3
        text = None if payload is None else json.dumps([kind, "o", payload] if kind == 3 else [4, "o", payload, "", {}]).encode()
        return self.take(self.injector.answered(ours.token, outcome, text, self.now))

    def accepts(self) -> list[str]:
        return self.hears({"status": "Accepted"})

    def allows(self, amps: float) -> list[str]:
        periods = [{"startPeriod": 0, "limit": amps}]
        return self.hears({"status": "Accepted", "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": periods}})

    def starts(self, id: str = "7", evse: int = 1, live: bool = True) -> list[str]:
        self.open[evse] = OpenTransaction(f"uid-{id}", evse, 1, self.now.wall, id, live=live)
        seen = TransactionSeen("started", id, evse, 1, self.now.wall, times.text(self.now.wall), offline=not live)
        return self.sees(seen)

    def ends(self, evse: int = 1) -> list[str]:
        gone = self.open.pop(evse)
        return self.sees(TransactionSeen("ended", gone.ocpp_id, None, None, self.now.wall, ""))

    def cpms(self, token: int, action: str, payload: Any) -> list[str]:
        """A CPMS CALL that waits under law 8."""
        text = json.dumps([2, "c", action, payload]).encode()
        return self.take(self.injector.guarded(token, Exchange("cpms", action, text, None, 0, None), self.now))

    def cpms_done(self, action: str, payload: Any, status: str) -> list[str]:
        text = json.dumps([2, "c", action, payload]).encode()
        exchange = Exchange("cpms", action, text, None, 3, None)
        return self.sees(*BY_NAME["ocpp1.6"].charging.observe(exchange, payload, {"status": status}))

    @property
    def sent(self) -> dict[str, Any]:
        """The profile that is on its way."""
        assert self.inject is not None
        assert self.inject.action == SET
        found = self.inject.payload["csChargingProfiles"]
        assert isinstance(found, dict)
        return found

    @property
    def limits(self) -> list[tuple[int, float]]:
        return [(p["startPeriod"], p["limit"]) for p in self.sent["chargingSchedule"]["chargingSchedulePeriod"]]

    def leases(self) -> list[str]:
        return [name for (topic, name), fact in self.facts.items() if topic == "lease" and fact.value is not None]

    def all_facts(self) -> tuple[Fact, ...]:
        return tuple(fact for fact in self.facts.values() if fact.value is not None)


def profile(limit: float, level: int = 0, purpose: str = "TxDefaultProfile", id: int = 1) -> dict[str, Any]:
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}]}
    said = {"chargingProfileId": id, "stackLevel": level, "chargingProfilePurpose": purpose, "chargingProfileKind": "Absolute"}
    return {"connectorId": 1 if purpose != "ChargePointMaxProfile" else 0, "csChargingProfiles": {**said, "chargingSchedule": schedule}}


def settled(**how: Any) -> Talk:
    """A station with a limit of ours: 16 A, of the CPMS's 20."""
    talk = Talk(**how)
    talk.live()
    talk.wants("s1", 16.0)
    assert talk.waits(11) == ["GetConfiguration"]
    assert talk.hears(KEYS) == ["GetCompositeSchedule"]
    assert talk.allows(20) == ["GetCompositeSchedule"]
    assert talk.allows(63) == [SET]
    assert talk.accepts() == ["s1 accepted"]
    return talk


# ------------------------------------------------------------------------------------------------ from a wish to a limit


def test_a_wish_becomes_a_limit_once_it_is_known_what_the_station_can_and_the_cpms_allows() -> None:
    talk = Talk()
    talk.live()
    assert talk.wants("s1", 16.0, 40.0, 5.0, 5.5) == []
    assert talk.waits(11) == ["GetConfiguration"]
    assert talk.hears(KEYS) == ["GetCompositeSchedule"]
    assert talk.inject is not None
    assert talk.inject.payload == {"connectorId": 1, "duration": 86_400}
    assert talk.allows(20) == ["GetCompositeSchedule"]
    assert talk.inject.payload == {"connectorId": 0, "duration": 86_400}
    assert talk.allows(63) == [SET]
    assert talk.inject.payload["connectorId"] == 0
    assert talk.sent["chargingProfilePurpose"] == "ChargePointMaxProfile"
    assert (talk.sent["stackLevel"], talk.sent["chargingProfileId"]) == (8, 9_120_011)
    # 16, then what the CPMS allows of 40, then a pause instead of 5 (and 5.5), then the CPMS's own 20.
    assert talk.limits == [(0, 16), (349, 20), (649, 0), (960, 20)]
    assert talk.sent["chargingSchedule"]["duration"] > talk.limits[-1][0]
    assert talk.accepts() == ["s1 accepted cpms-lower, merged, paused"]
    assert talk.injector.explain()["1"]["status"] == "accepted"


def test_nothing_before_the_cpms_answered_and_the_link_is_10_s_old() -> None:
    talk = Talk(proven=False)
    talk.live()
    assert talk.wants("s1", 16.0) == []
    assert talk.waits(30) == []
    assert talk.sees(Boot("Pending")) == []
    assert talk.sees(Proven("Heartbeat")) == ["GetConfiguration"]
    fresh = Talk()
    fresh.live()
    fresh.wants("s1", 16.0)
    assert fresh.waits(9.9) == []
    assert fresh.waits(0.2) == ["GetConfiguration"]


def test_a_boot_that_was_accepted_is_proof_too() -> None:
    talk = Talk(proven=False)
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(20)
    assert talk.sees(Boot("Accepted")) == ["GetConfiguration"]


def test_none_while_the_station_comes_and_goes() -> None:
    talk = Talk(flapping=True)
    talk.live()
    talk.wants("s1", 16.0)
    assert talk.waits(299) == []
    assert talk.waits(2) == ["GetConfiguration"]


def test_in_shadow_it_only_says_so() -> None:
    talk = Talk(shadow=True)
    talk.live()
    assert talk.wants("s1", 16.0) == ["s1 not-sent shadow"]
    assert talk.waits(30) == []
    assert talk.cpms(77, SET, profile(8)) == ["pass 77"]
    assert talk.wants("s2", 10.0) == ["s2 not-sent shadow"]


@pytest.mark.parametrize("answer", [{"status": "Rejected"}, {"status": "Accepted"}])
def test_a_station_that_does_not_say_what_is_in_force_gets_nothing_of_ours(answer: Any) -> None:
    talk = Talk()
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    talk.hears(KEYS)
    assert talk.hears(answer) == ["GetCompositeSchedule"]
    (said,) = talk.allows(63)
    assert said.startswith("s1 not-sent cpms-limits-unknown")
    assert "GetCompositeSchedule" not in talk.waits(1800)
    assert talk.wants("s2", 16.0)[0].startswith("s2 not-sent cpms-limits-unknown")
    assert talk.waits(1900)[-1] == "GetCompositeSchedule", "it is asked again, in time"


def test_without_a_baseline_nothing_is_asked_and_max_amps_bounds() -> None:
    talk = Talk(baseline="none")
    talk.live()
    talk.wants("s1", 40.0)
    talk.waits(11)
    assert talk.hears(KEYS) == [SET]
    assert [limit for _, limit in talk.limits] == [32, 32]


def test_a_clock_that_is_not_known_sends_nothing_and_somebody_is_told() -> None:
    talk = Talk(baseline="none")
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.hears(KEYS) == []
    assert talk.waits(400) == ["s1 not-sent clock", "alarm clock"]


def test_times_are_written_in_the_stations_clock() -> None:
    talk = Talk(baseline="none")
    for _ in range(4):
        talk.sees(MeteredSeen(1, (Reading(talk.now.wall + 7200, 1.0),)))
        talk.waits(20)
    talk.wants("s1", 16.0)
    assert talk.inject is not None
    talk.hears(KEYS)
    start = times.parse(talk.sent["chargingSchedule"]["startSchedule"])
    assert start is not None
    assert 0 <= talk.now.wall + 7200 - start <= 62


# ------------------------------------------------------------------------------------------------ on a lease


def test_a_limit_is_renewed_when_a_third_is_left_and_cleared_when_the_wish_ends() -> None:
    talk = settled()
    assert talk.waits(590) == []
    assert talk.waits(20) == [SET]
    assert talk.accepts() == []
    for _ in range(5):
        talk.waits(601)
        if talk.inject is not None and talk.inject.action == SET:
            talk.accepts()
    assert talk.said[-2:] == ["s1 lapsed", CLEAR]
    assert talk.inject is not None
    assert talk.inject.payload == {"id": 9_120_011}
    talk.accepts()
    assert talk.leases() == []
    assert talk.waits(4000) == []


def test_what_is_unchanged_is_not_sent_again() -> None:
    talk = settled()
    talk.waits(100)
    assert talk.wants("s2", 16.0, 16.0) == ["s2 accepted unchanged"]
    assert talk.wants("s2", 16.0, 16.0) == []
    assert talk.waits(300) == []


def test_a_lease_is_not_renewed_while_the_cpms_alone_gives_the_same() -> None:
    talk = Talk()
    talk.live()
    talk.wants("s1", 30.0)
    talk.waits(11)
    talk.hears(KEYS)
    talk.allows(20)
    talk.allows(63)
    talk.accepts()
    assert talk.waits(3000) == []


def test_between_wishes_lies_the_write_interval_and_the_newest_wins() -> None:
    talk = settled()
    assert talk.wants("s2", 10.0) == []
    talk.waits(30)
    assert talk.wants("s3", 12.0) == ["s2 superseded"]
    assert talk.waits(25) == []
    assert talk.waits(10) == [SET]
    assert talk.limits[0] == (0, 12)
    assert talk.accepts() == ["s3 accepted"]


def test_a_transactions_first_limit_does_not_wait() -> None:
    talk = settled(purposes=("default",))
    assert talk.wants("s2", 10.0) == []
    assert talk.starts() == [SET]


def test_a_schedule_that_soon_ends_is_not_sent_over_and_over() -> None:
    talk = settled()
    talk.waits(100)
    talk.wants("s2", 12.0, valid_s=120.0)
    assert talk.accepts() == ["s2 accepted"]
    for _ in range(20):
        assert talk.waits(5) == []
        assert talk.live() == []


def test_more_periods_than_the_station_takes_roll_on() -> None:
    talk = Talk(baseline="none")
    talk.live()
    talk.wants("s1", *[10.0 + n % 7 for n in range(60)], every_s=30.0)
    talk.waits(11)
    talk.hears(KEYS)
    assert len(talk.limits) <= 16
    assert talk.limits[-1][1] == 32
    covered = talk.limits[-1][0] - 60
    talk.accepts()
    assert talk.waits(covered - 60) == [SET]


# ------------------------------------------------------------------------------------------------ transactions and rungs


def test_several_sockets_are_limited_in_their_transactions() -> None:
    talk = Talk(evses=2, baseline="none")
    talk.live()
    talk.wants("s1", 16.0, evse=2)
    talk.waits(11)
    assert talk.hears(KEYS) == []
    assert talk.starts("123", evse=2) == [SET]
    assert (talk.sent["chargingProfilePurpose"], talk.sent["transactionId"]) == ("TxProfile", 123)
    assert "validTo" not in talk.sent
    assert talk.accepts() == ["s1 accepted"]
    assert talk.leases() == ["9120022"]
    assert talk.ends(evse=2) == []
    assert talk.leases() == []


@pytest.mark.parametrize("id", ["-1", "0", "9223372036854775807"])
def test_ids_that_name_no_transaction_are_never_used(id: str) -> None:
    talk = Talk(baseline="none", purposes=("tx", "default"))
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    talk.hears(KEYS)
    assert talk.starts(id) == [SET]
    assert talk.sent["chargingProfilePurpose"] == "TxDefaultProfile"


def test_an_old_start_gets_nothing_until_it_is_seen_to_run() -> None:
    talk = Talk(baseline="none", purposes=("tx", "default"))
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    talk.hears(KEYS)
    assert talk.starts(live=False) == []
    talk.open[1] = replace(talk.open[1], live=True)
    assert talk.live() == [SET]


def test_a_wish_for_another_transaction_is_not_sent() -> None:
    talk = Talk(baseline="none")
    talk.live()
    talk.starts("5")
    talk.wants("s1", 16.0, transaction="uid-4")
    talk.waits(11)
    assert talk.hears(KEYS) == ["s1 not-sent other transaction"]
    assert talk.wants("s2", 16.0, transaction="uid-5") == [SET]


def test_a_second_socket_that_was_not_configured_forbids_the_stations_sum() -> None:
    talk = Talk(baseline="none", purposes=("max", "default"))
    talk.live()
    talk.sees(StatusSeen(2, 1, "Available", talk.now.wall))
    talk.wants("s1", 16.0)
    talk.waits(11)
    talk.hears(KEYS)
    assert talk.sent["chargingProfilePurpose"] == "TxDefaultProfile"


def test_refused_it_climbs_down_remembers_and_rests_at_the_end() -> None:
    talk = Talk(baseline="none", purposes=("max", "default"))
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    talk.hears(KEYS)
    rungs = []
    for _ in range(3):
        rungs.append((talk.sent["chargingProfilePurpose"], talk.sent["stackLevel"]))
        talk.hears({"status": "NotSupported"})
    rungs.append((talk.sent["chargingProfilePurpose"], talk.sent["stackLevel"]))
    assert rungs == [("ChargePointMaxProfile", 8), ("ChargePointMaxProfile", 0), ("TxDefaultProfile", 8), ("TxDefaultProfile", 0)]
    assert talk.facts["quirk", "rung"].value == ["default:8", "max:0", "max:8"]
    assert talk.hears("NotSupported", "error") == ["alarm unmanaged"]
    assert [said for said in talk.said if "rejected" in said] == ["s1 rejected NotSupported"]
    assert talk.waits(3500) == []
    again = Talk(baseline="none", purposes=("max", "default"), facts=(Fact("quirk", "rung", ["max:8", "max:0"]), capability()))
    again.live()
    again.wants("s1", 16.0)
    assert again.waits(11) == [SET]
    assert again.sent["chargingProfilePurpose"] == "TxDefaultProfile"


def capability() -> Fact:
    return Fact("capability", "capability", {"max_stack_level": 8})


@pytest.mark.parametrize("outcome", ["answer", "timeout"])
def test_the_rung_below_takes_the_earlier_profile_away_answered_or_not(outcome: str) -> None:
    talk = Talk(baseline="none", purposes=("tx", "default"), facts=(capability(),))
    talk.live()
    talk.starts("0")
    talk.wants("s1", 16.0)
    assert talk.waits(11) == [SET]
    assert talk.sent["chargingProfilePurpose"] == "TxDefaultProfile"
    talk.accepts()
    assert talk.starts("8") == [SET]
    assert talk.sent["chargingProfilePurpose"] == "TxProfile"
    assert talk.hears({"status": "Accepted"} if outcome == "answer" else None, outcome)[-1:] == [CLEAR]
    assert talk.inject is not None
    assert talk.inject.payload == {"id": 9_120_013}
    talk.accepts()
    assert talk.leases() == ["9120012"]


def test_a_refusal_because_the_transaction_is_over_is_not_held_against_the_station() -> None:
    talk = Talk(baseline="none", purposes=("tx",), facts=(capability(),))
    talk.live()
    talk.starts()
    talk.wants("s1", 16.0)
    assert talk.waits(11) == [SET]
    talk.ends()
    talk.hears({"status": "Rejected"})
    assert ("quirk", "rung") not in talk.facts


def test_no_answer_means_later_and_each_time_later() -> None:
    talk = Talk(baseline="none", facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0, valid_s=86_400)
    talk.waits(11)
    for pause in (60, 120, 240):
        assert talk.inject is not None
        said = talk.hears(outcome="timeout")
        assert said == (["s1 no-answer timeout"] if pause == 60 else [])
        assert talk.leases() == ["9120011"], "it may stand all the same"
        assert talk.waits(pause - 5) == []
        assert talk.waits(10) == [SET]


def test_a_station_without_smart_charging_is_left_alone() -> None:
    talk = Talk(baseline="none")
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    features = {"configurationKey": [{"key": "SupportedFeatureProfiles", "readonly": True, "value": "Core"}]}
    assert talk.hears(features) == ["s1 not-sent unmanaged: the station has no smart charging"]


def test_what_the_cpms_learned_need_not_be_asked() -> None:
    talk = Talk(baseline="none")
    talk.live()
    talk.sees(Capabilities(max_stack_level=3, units=frozenset("W")))
    talk.wants("s1", 16.0)
    assert talk.waits(11) == [SET]
    assert talk.sent["stackLevel"] == 3
    assert talk.sent["chargingSchedule"]["chargingRateUnit"] == "W"
    assert talk.limits[0] == (0, 11_040)


def test_above_the_cpmss_own_level() -> None:
    talk = Talk(baseline="none", purposes=("default", "max"), facts=(capability(),))
    talk.live()
    talk.cpms_done(SET, profile(20, level=8), "Accepted")
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.sent["chargingProfilePurpose"] == "ChargePointMaxProfile", "no level is left above its TxDefaultProfile"


# ------------------------------------------------------------------------------------------------ two masters


def test_a_lower_limit_of_the_cpms_waits_until_ours_is_lower() -> None:
    talk = settled()
    assert talk.cpms(77, SET, profile(8)) == [SET]
    assert [limit for _, limit in talk.limits] == [8, 8]
    assert talk.accepts() == ["pass 77"]
    assert talk.cpms_done(SET, profile(8), "Accepted") == []


def test_if_the_station_does_not_lower_ours_the_call_goes_and_ours_is_cleared_right_after() -> None:
    talk = settled()
    assert talk.cpms(77, SET, profile(8)) == [SET]
    assert talk.hears(outcome="given-up") == ["pass 77", CLEAR]


def test_a_refused_limit_of_the_cpms_is_forgotten() -> None:
    talk = settled()
    talk.cpms(77, SET, profile(8))
    talk.accepts()
    assert talk.cpms_done(SET, profile(8), "Rejected") == []
    assert talk.waits(61) == [SET]
    assert talk.limits[0] == (0, 16)


def test_a_higher_limit_goes_at_once() -> None:
    talk = settled()
    assert talk.cpms(77, SET, profile(32)) == ["pass 77"]
    assert talk.cpms_done(SET, profile(32), "Accepted") == []


def test_what_was_lower_before_still_counts_while_a_higher_one_is_on_its_way() -> None:
    talk = settled()
    talk.cpms(77, SET, profile(10))
    talk.accepts()
    talk.cpms_done(SET, profile(10), "Accepted")
    talk.waits(61)
    assert talk.cpms(78, SET, profile(32)) == ["pass 78"]
    assert talk.wants("s2", 30.0) == ["s2 accepted unchanged"]
    assert talk.cpms_done(SET, profile(32), "Accepted") == [SET]
    assert talk.limits[0] == (0, 20)


def test_a_profile_in_the_place_of_ours_waits_until_ours_is_gone_and_ours_moves() -> None:
    talk = settled()
    theirs = profile(25, level=8, purpose="ChargePointMaxProfile")
    assert talk.cpms(77, SET, theirs) == [CLEAR]
    assert talk.accepts() == ["pass 77"]
    talk.cpms_done(SET, theirs, "Accepted")
    assert talk.waits(61) == []
    assert talk.injector.explain()["1"]["status"] == "waiting", "the place is taken, and no transaction runs"


def test_what_cannot_be_read_takes_ours_away() -> None:
    talk = settled()
    odd = profile(25)
    odd["csChargingProfiles"]["chargingSchedule"]["chargingRateUnit"] = "?"
    assert talk.cpms(77, SET, odd) == [CLEAR]
    assert talk.accepts() == ["pass 77"], "nothing takes its place before it is known what came of that CALL"
    (said,) = talk.cpms_done(SET, odd, "Accepted")
    assert said.startswith("s1 not-sent cpms-limits-unknown")


def test_a_clear_may_uncover_what_nobody_saw_so_it_is_asked_again() -> None:
    talk = settled()
    assert talk.cpms(77, CLEAR, {"id": 5}) == [CLEAR]
    assert talk.accepts() == ["pass 77"]
    assert talk.cpms_done(CLEAR, {"id": 5}, "Accepted") == ["GetCompositeSchedule"]


def test_a_clear_of_everything_takes_ours_along_and_it_is_put_back() -> None:
    talk = settled()
    assert talk.cpms(77, CLEAR, {}) == ["pass 77"]
    assert talk.sees(ClearSeen(True)) == ["GetCompositeSchedule"]
    assert talk.leases() == []
    talk.allows(20)
    assert talk.allows(63) == [SET]


def test_one_that_is_under_way_already_is_not_what_the_cpms_waits_for() -> None:
    talk = settled()
    talk.waits(61)
    assert talk.wants("s2", 18.0) == [SET]
    assert talk.cpms(77, SET, profile(8)) == []
    assert talk.accepts() == ["s2 accepted", SET]
    assert talk.limits[0] == (0, 8)
    assert talk.accepts() == ["pass 77"]


def test_rubbish_of_the_cpms_just_goes() -> None:
    talk = settled()
    text = b'[2,"c","SetChargingProfile",'
    assert talk.take(talk.injector.guarded(5, Exchange("cpms", SET, text, None, 0, None), talk.now)) == ["pass 5"]


# ------------------------------------------------------------------------------------------------ boots, restarts, going


def test_after_a_boot_ours_is_cleared_and_everything_asked_again() -> None:
    talk = settled()
    assert talk.sees(Boot("Accepted")) == [CLEAR]
    assert talk.accepts() == ["GetCompositeSchedule"]
    assert talk.allows(12) == ["GetCompositeSchedule"]
    assert talk.allows(63) == [], "its clock is to be learned again, too"
    talk.live()
    assert talk.waits(61) == [SET]
    assert [limit for _, limit in talk.limits] == [12, 12]


def test_a_restart_finds_what_stands_and_leaves_it() -> None:
    old = settled()
    talk = Talk(facts=old.all_facts(), at=old.now)
    talk.live()
    assert talk.wants("s1", 16.0) == []
    assert talk.waits(11) == ["s1 accepted unchanged"]
    assert talk.waits(500) == []


def test_a_meter_that_speaks_first_wakes_what_a_restart_found() -> None:
    old = settled()
    talk = Talk(facts=old.all_facts(), at=old.now, proven=False)
    talk._to(talk.now.mono + 11)
    talk.sees(MeteredSeen(1, (Reading(talk.now.wall, power_w=1.0),)))
    assert talk.injector.wake_at is not None, "what stands is to be judged, renewed or cleared"


def test_after_any_number_of_meter_values_a_wish_is_heard() -> None:
    talk = Talk()
    talk.live()
    talk.waits(11)
    for _ in range(3):
        assert talk.sees(MeteredSeen(1, (Reading(talk.now.wall, power_w=1.0),))) == []
    assert talk.injector.wake_at is None, "it rests"
    assert talk.wants("s1", 16.0) != []
    assert talk.inject is not None
    talk.sees(MeteredSeen(1, (Reading(talk.now.wall, power_w=1.0),)))
    assert talk.accepts() != [], "and goes on"


def test_a_restart_during_a_write_reckons_with_both() -> None:
    old = settled()
    old.waits(61)
    old.wants("s2", 10.0)
    old.cpms_done(SET, profile(12), "Accepted")
    talk = Talk(facts=old.all_facts())
    talk.live()
    talk.waits(11)
    assert talk.said[-1] == CLEAR, "16 A may still stand where 12 are allowed"


def test_of_two_that_a_restart_finds_one_is_cleared() -> None:
    old = settled()
    lease = old.facts["lease", "9120011"]
    assert isinstance(lease.value, dict)
    talk = Talk(
        facts=(*old.all_facts(), Fact("lease", "9120013", {**lease.value, "purpose": "default"}), Fact("lease", "9120012", {"?": 1}))
    )
    talk.live()
    talk.waits(11)
    cleared = []
    while talk.inject is not None:
        cleared.append(talk.inject.payload)
        talk.hears({"status": "Unknown"})
    assert len(cleared) >= 2
    assert talk.leases() in (["9120011"], [])


def test_release_clears_by_id_and_tries_until_it_is_gone() -> None:
    talk = settled()
    assert talk.take(talk.injector.release(talk.now)) == [CLEAR]
    assert talk.hears(outcome="timeout") == []
    assert talk.leases() == ["9120011"]
    assert talk.waits(65) == [CLEAR]
    talk.hears({"status": "Unknown"})
    assert talk.leases() == []
    assert talk.waits(5000) == []


def test_a_station_that_never_clears_is_reported() -> None:
    talk = settled()
    talk.take(talk.injector.release(talk.now))
    for _ in range(3):
        talk.hears("InternalError", "error")
        talk.waits(250)
    assert talk.said.count("alarm release") == 1


def test_on_a_closed_link_it_is_silent() -> None:
    talk = Talk(baseline="none", facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.hears(outcome="closed") == []
    assert talk.waits(100) == []
    assert talk.wants("s2", 10.0) == ["s1 superseded"]
    assert talk.leases() == ["9120011"], "it may have taken it"


def test_a_rate_limit_is_waited_out() -> None:
    talk = Talk("ocpp2.1", baseline="none", facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0)
    assert talk.waits(11) == [SET]
    limited = {"status": "Rejected", "statusInfo": {"reasonCode": "RateLimitExceeded", "additionalInfo": "90 seconds"}}
    assert talk.hears(limited) == ["s1 rejected Rejected RateLimitExceeded 90 seconds"]
    assert talk.waits(85) == []
    assert talk.waits(10) == [SET]
    assert ("quirk", "rung") not in talk.facts


def test_what_was_never_answered_may_stand_when_the_cpms_lowers() -> None:
    talk = Talk(baseline="none", facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    talk.hears(outcome="timeout")
    assert talk.cpms(77, SET, profile(8)) == [CLEAR]
    assert talk.accepts() == ["pass 77"]


def test_what_has_ended_by_itself_is_tidied_away_though_no_wish_comes() -> None:
    old = settled()
    talk = Talk(facts=old.all_facts(), at=Instant(5000.0, old.now.wall + 4000))
    assert talk.waits(11) == [CLEAR]
    talk.hears({"status": "Unknown"})
    assert talk.leases() == []


def test_a_boot_that_was_refused_closes_the_gate_again() -> None:
    talk = Talk()
    talk.live()
    talk.sees(Boot("Rejected"))
    talk.wants("s1", 16.0)
    assert talk.waits(60) == []


def test_a_question_that_was_never_sent_is_asked_again() -> None:
    talk = Talk(baseline="none")
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.hears(outcome="no-slot") == ["GetConfiguration"]


def test_a_baseline_that_is_not_answered_is_said_and_asked_later() -> None:
    talk = Talk(facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.hears(outcome="timeout") == ["s1 no-answer GetCompositeSchedule"]
    assert talk.waits(55) == []
    assert talk.waits(10) == ["GetCompositeSchedule"]


def test_what_the_cpms_allows_below_the_least_is_left_to_it() -> None:
    talk = settled()
    assert talk.cpms(77, SET, profile(4)) == ["s1 not-sent cpms-lower", CLEAR]
    assert talk.accepts() == ["pass 77"]
    assert talk.cpms_done(SET, profile(4), "Accepted") == []


# ---------------------------------------------------------------- between the chairs


def test_what_cannot_be_read_holds_ours_back_until_its_answer() -> None:
    talk = Talk(baseline="none", facts=(Fact("capability", "capability", {"max_stack_level": 8}),))
    talk.live()
    talk.waits(11)
    odd = profile(8)
    odd["csChargingProfiles"]["chargingSchedule"]["chargingRateUnit"] = "X"
    assert talk.cpms(77, SET, odd) == ["pass 77"]
    assert talk.wants("s1", 16.0) == []
    (said,) = talk.cpms_done(SET, odd, "Accepted")
    assert said.startswith("s1 not-sent cpms-limits-unknown")


def test_what_is_nested_too_deep_just_goes() -> None:
    talk = settled()
    deep = Exchange("cpms", SET, b'[2,"c","SetChargingProfile",' + b'{"a":' * 100_000, None, 0, None)
    assert talk.take(talk.injector.guarded(78, deep, talk.now)) == ["pass 78"]


def test_what_a_restart_finds_is_cleared_when_it_is_over_and_nobody_wants_it() -> None:
    old = settled()
    talk = Talk(facts=old.all_facts(), at=old.now)
    assert talk.waits(1150) == []
    assert talk.waits(60) == [CLEAR]


def test_a_limit_is_written_again_when_the_stations_clock_was_set() -> None:
    talk = settled()
    talk.sees(StatusSeen(1, 1, "Charging", talk.now.wall + 3600))
    talk.waits(5)
    assert talk.sees(StatusSeen(1, 1, "Charging", talk.now.wall + 3600)) == []
    assert talk.waits(61) == [SET]
    start = times.parse(talk.sent["chargingSchedule"]["startSchedule"])
    assert start is not None
    assert start > talk.now.wall + 3500
    talk.accepts()
    assert talk.waits(61) == []


def test_a_wish_that_ends_while_it_is_under_way_is_cleared_at_once() -> None:
    talk = Talk(baseline="none", facts=(Fact("capability", "capability", {"max_stack_level": 8}),))
    talk.live()
    talk.waits(11)
    assert talk.wants("s1", 16.0, valid_s=20.0) == [SET]
    assert talk.waits(25) == ["s1 lapsed"]
    assert talk.accepts() == [CLEAR]
    talk.accepts()
    assert talk.leases() == []


def test_a_wish_for_much_later_waits_until_a_lease_reaches_it() -> None:
    talk = Talk(baseline="none", facts=(Fact("capability", "capability", {"max_stack_level": 8}),))
    talk.live()
    talk.waits(11)
    later = Schedule("s1", "asset-1", talk.now.wall, talk.now.wall + 7200, "A", (Step(talk.now.wall + 3600, 10.0),))
    assert talk.take(talk.injector.wish(later, talk.now)) == []
    talk.live()
    assert talk.waits(2690) == []
    assert talk.waits(20) == [SET]
    assert [limit for _, limit in talk.limits] == [32, 10, 32] or [limit for _, limit in talk.limits] == [32, 32]


def test_an_id_that_the_cpms_uses_is_never_ours_again() -> None:
    talk = settled()
    theirs = profile(13, id=9_120_011)
    assert talk.cpms(77, SET, theirs) == [CLEAR]
    assert talk.accepts() == ["pass 77"]
    talk.cpms_done(SET, theirs, "Accepted")
    talk.waits(120)
    assert talk.sent["chargingProfileId"] == 9_121_011
    talk.accepts()
    again = Talk(facts=talk.all_facts(), at=talk.now)
    again.live()
    again.wants("s2", 9.0)
    assert again.waits(70) == [SET]
    assert again.sent["chargingProfileId"] == 9_121_011


# ---------------------------------------------------------------- whether it is obeyed


def says(talk: Talk, amps: float | None) -> list[str]:
    """The meter, in a running transaction."""
    used = () if amps is None else (amps, amps, amps)
    reading = Reading(talk.now.wall, 5.0, currents_a=(*used, *(None,) * (3 - len(used))))  # type: ignore[arg-type]
    return talk.sees(MeteredSeen(1, (reading,)))


def test_a_station_that_does_not_keep_to_its_limit_is_found_out_once() -> None:
    talk = settled()
    talk.starts()
    assert says(talk, 20.0) == []
    talk.waits(61)
    assert says(talk, 20.0) == []
    talk.waits(60)
    assert says(talk, 20.0) == ["s1 not-obeyed 20.0 A where 16 A was accepted"]
    assert talk.injector.explain()["1"]["status"] == "not-obeyed"
    assert talk.waits(480) == [SET], "it is renewed all the same"
    assert talk.accepts() == []
    for _ in range(3):
        talk.waits(61)
        assert says(talk, 20.0) == []


def test_a_station_that_keeps_to_it_is_not_spoken_of() -> None:
    talk = settled()
    talk.starts()
    for _ in range(4):
        talk.waits(61)
        assert says(talk, 15.9) == []


def test_without_a_usable_value_it_is_unverified_and_climbs_no_ladder() -> None:
    talk = settled()
    talk.starts()
    assert says(talk, None) == []
    assert talk.waits(241) == ["s1 unverified no usable meter value"]
    assert talk.inject is None


def test_where_nobody_charges_nothing_is_watched() -> None:
    talk = settled()
    assert talk.waits(500) == []
    talk.starts()
    talk.waits(30)
    talk.ends()
    assert "unverified" not in " ".join(talk.waits(500))


def test_a_limit_that_is_accepted_while_a_car_charges_is_watched() -> None:
    talk = settled()
    talk.starts()
    for _ in range(2):
        talk.waits(61)
        says(talk, 10.0)
    talk.wants("s2", 8.0)
    assert talk.accepts() == ["s2 accepted"]
    talk.waits(61)
    assert says(talk, 10.0) == []
    talk.waits(61)
    assert says(talk, 10.0) == ["s2 not-obeyed 10.0 A where 8 A was accepted"]


def test_what_may_stand_is_cleared_though_nothing_is_wished_for() -> None:
    talk = Talk(facts=(Fact("lease", "9120012", {"?": 1}),))
    talk.live()
    talk.waits(11)
    assert talk.inject is not None
    assert (talk.inject.action, talk.inject.payload) == (CLEAR, {"id": 9120012})
    talk.hears({"status": "Accepted"})
    assert talk.leases() == []


def test_a_meters_time_alone_lets_a_wish_go() -> None:
    """Many stations say no time but with their meter values."""
    talk = Talk(baseline="none")
    talk.wants("s1", 16.0)
    assert talk.waits(11) == ["GetConfiguration"]
    assert talk.hears(KEYS) == [], "its clock is not known"
    assert talk.sees(MeteredSeen(1, (Reading(talk.now.wall, power_w=7000.0),))) == [SET]


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
@pytest.mark.parametrize("first", ["status", "meter", "transaction", "nothing"])
def test_a_second_evse_is_known_after_a_restart_so_that_no_limit_for_one_holds_for_both(version: str, first: str) -> None:
    talk = Talk(version, baseline="none", facts=(capability(),))
    now = talk.now.wall
    seen: dict[str, Any] = {
        "status": StatusSeen(2, 1, "Available", now),
        "meter": MeteredSeen(2, (Reading(now, power_w=0.0),)),
        "transaction": TransactionSeen("started", "8", 2, 1, now, ""),
    }
    talk.sees(*(one for name, one in seen.items() if name == first))
    after = Talk(version, baseline="none", facts=talk.all_facts(), at=Instant(5000.0, now + 60))
    after.live()
    after.waits(11)
    assert after.wants("s1", 10.0) == ([SET] if first == "nothing" else []), "the whole station's limit needs no transaction"
    if first == "nothing":
        assert "max" in json.dumps(after.facts["lease", after.leases()[0]].value)
    else:
        assert after.starts() == [SET]
        assert '"tx"' in json.dumps(after.facts["lease", after.leases()[0]].value)


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
def test_a_limit_for_the_whole_station_goes_when_a_second_evse_shows_itself(version: str) -> None:
    talk = Talk(version, baseline="none", facts=(capability(),))
    talk.live()
    talk.waits(11)
    assert talk.wants("s1", 10.0) == [SET]
    talk.accepts()
    assert talk.sees(StatusSeen(2, 1, "Available", talk.now.wall)) == [CLEAR]
    assert talk.accepts() == []
    assert talk.leases() == []
    assert talk.starts() == [SET]
    talk.accepts()
    assert talk.facts["lease", talk.leases()[0]].value["purpose"] == "tx"


def test_only_so_many_evses_are_told_apart() -> None:
    talk = Talk()
    for evse in range(1, 200):
        talk.sees(StatusSeen(evse, 1, "Available", talk.now.wall))
    assert len(talk.injector._places) == 2
