"""Shadow mode: nothing is sent, and what would have been is counted in schedules, energy and peaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_injector import NOON, Talk

from broker.model.basics import Instant
from broker.model.observations import Metered, Reading, TransactionSeen
from broker.model.records import Fact
from broker.shadowbook import DAYS, REASONS, ShadowBook, report
from broker.shadowed import Shadowed

HOUR = 3600.0


class Shade(Talk):
    """A station in shadow mode."""

    kind = Shadowed

    def __init__(self, **more: Any) -> None:
        super().__init__(shadow=True, **more)

    def meters(self, watts: float) -> list[str]:
        return self.sees(Metered(1, (Reading(self.now.wall, power_w=watts),), "7"))

    def report(self) -> dict[str, Any]:
        found = [("CS", Fact(fact.topic, fact.name, json.loads(json.dumps(fact.value)))) for fact in self.all_facts()]
        return report("acme", found)


def test_an_hour_above_what_the_engine_wanted() -> None:
    talk = Shade()
    talk.live()
    talk.starts()
    talk.meters(11_040)
    assert talk.wants("s1", 10.0) == ["s1 not-sent shadow"]
    for _ in range(60):
        talk.meters(11_040)
        talk.waits(60)
    talk.ends()
    said = talk.report()
    assert (said["schedules"], said["would_send"], said["clamped"], said["refused"]) == (1, 1, 0, {})
    assert said["energy_wh"] == pytest.approx(11_040, rel=0.01)
    assert said["moved_wh"] == pytest.approx(11_040 - 6_900, rel=0.01)
    assert (said["peak_w"], said["peak_with_ours_w"]) == (pytest.approx(11_040, rel=0.001), pytest.approx(6_900, rel=0.01))
    assert said["from"] == "2026-01-10T12:00:00.000Z"
    assert said["stations"]["CS"]["schedules"] == 1
    assert talk.inject is None


def test_what_the_cpms_was_seen_to_allow_clamps_and_what_nobody_could_follow_is_refused() -> None:
    talk = Shade()
    talk.live()
    limit = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 8.0}]}
    profile = {"chargingProfileId": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute"}
    set_profile = {"connectorId": 1, "csChargingProfiles": {**profile, "chargingSchedule": limit}}
    talk.cpms_done("SetChargingProfile", set_profile, "Accepted")
    talk.wants("s1", 16.0)
    limit["chargingSchedulePeriod"] = [{"startPeriod": 0, "limit": 3.0}]
    talk.cpms_done("SetChargingProfile", set_profile, "Accepted")
    talk.wants("s2", 16.0)
    said = talk.report()
    assert (said["schedules"], said["would_send"], said["clamped"]) == (2, 1, 1)
    assert said["changed"]["cpms-lower"] == 1
    assert said["refused"] == {"cpms-lower": 1}


def test_what_would_be_sent_now_is_shown_and_why_nothing_would() -> None:
    talk = Shade()
    talk.live()
    talk.wants("s1", 10.0)
    assert talk.injector.explain()["1"]["would"] == {"limit": 10.0, "unit": "A", "why": []}
    period = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 8.0}]}
    profile = {"chargingProfileId": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute"}
    talk.cpms_done("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": {**profile, "chargingSchedule": period}}, "Accepted")
    assert talk.injector.explain()["1"]["would"] == {"limit": 8.0, "unit": "A", "why": ["cpms-lower"]}
    period["chargingSchedulePeriod"] = [{"startPeriod": 0, "limit": 3.0}]
    talk.cpms_done("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": {**profile, "chargingSchedule": period}}, "Accepted")
    assert talk.injector.explain()["1"]["would"] == {"refused": "cpms-lower"}


def test_it_goes_on_after_a_restart() -> None:
    before = Shade()
    before.live()
    before.wants("s1", 10.0)
    facts = tuple(Fact(fact.topic, fact.name, json.loads(json.dumps(fact.value))) for fact in before.all_facts())
    after = Shade(facts=facts, at=Instant(9.0, NOON + 60))
    after.wants("s2", 10.0)
    assert after.report()["schedules"] == 2


def test_a_transaction_that_ends_takes_no_more() -> None:
    talk = Shade()
    talk.live()
    talk.starts()
    talk.meters(6900)
    talk.waits(600)
    talk.ends()
    talk.waits(600)
    talk.sees(TransactionSeen("started", "8", 1, 1, talk.now.wall, ""))
    talk.meters(0)
    assert talk.report()["energy_wh"] == pytest.approx(1150)


@given(powers=st.lists(st.tuples(st.floats(1, 3000), st.floats(0, 22_000), st.none() | st.floats(0, 22_000)), max_size=30))
def test_energy_is_the_sum_of_what_was_held_and_never_less_than_what_would_be(powers: list[tuple[float, float, float | None]]) -> None:
    book = ShadowBook(1, ())
    at, expected, instead, held = NOON, 0.0, 0.0, (0.0, 0.0)
    facts: dict[str, Fact] = {}
    for gap, watts, most in powers:
        at += gap
        expected += held[0] * min(gap, 900.0) / HOUR
        instead += held[1] * min(gap, 900.0) / HOUR
        held = (watts, watts if most is None else min(watts, most))
        facts |= {fact.name: fact for fact in book.metered(at, watts, most)}
    facts |= {fact.name: fact for fact in book.decided(at, (), "")}
    said = report("t", [("CS", fact) for fact in facts.values()])
    assert said["energy_wh"] == pytest.approx(expected, abs=1.0)
    assert said["energy_wh"] - said["moved_wh"] == pytest.approx(instead, abs=1.0)
    assert said["peak_with_ours_w"] <= said["peak_w"] <= max([watts for _, watts, _ in powers], default=0.0) + 1.0


def test_only_so_much_is_kept() -> None:
    book = ShadowBook(1, ())
    kept: dict[str, Any] = {}
    for day in range(3 * DAYS):
        for n in range(2 * REASONS):
            for fact in book.decided(NOON + day * 86_400.0, (), f"why {n}"):
                kept[fact.name] = fact.value
    assert len([value for value in kept.values() if value is not None]) == DAYS
    assert all(len(value["refused"]) <= REASONS + 1 for value in kept.values() if value is not None)


@pytest.mark.parametrize("value", [None, [], {}, {"slots": 1}])
def test_a_fact_of_another_version_of_us_is_left_out(value: Any) -> None:
    assert report("t", [("CS", Fact("shadow", "1-20000", value)), ("CS", Fact("shadow", "x", value))])["stations"] == {}
    assert ShadowBook(1, [Fact("shadow", "1-20000", value)]).decided(NOON, (), "")[0].value["schedules"] == 1


def test_a_day_that_a_clock_set_back_has_made_the_future_is_forgotten() -> None:
    book = ShadowBook(1, ())
    book.decided(NOON + 5 * 86_400.0, (), "")
    facts = book.decided(NOON, (), "")
    ahead = f"1-{int(NOON // 86_400) + 5}"
    assert [fact.value for fact in facts if fact.name == ahead] == [None]
    assert [fact.value["sent"] for fact in facts if fact.name != ahead] == [1]
