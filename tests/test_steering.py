"""An operator's limit beside the engine's schedule, as conversations; and as a law: what is sent is never above any of the three."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_injector import CLEAR, KEYS, NOON, SET, START, Talk

from broker.decisions import DECISIONS
from broker.model.basics import Instant
from broker.model.observations import Boot
from broker.model.records import Fact
from broker.operating import OwnLimit, release_fact
from broker.steering import Steered


class Steering(Talk):
    """A station whose injector an operator steers."""

    kind = Steered

    def operator(self, amps: float, for_s: float = 600.0, evse: int = 1) -> list[str]:
        """He limits; as the broker does it: on disk first, then to the link."""
        return self.told(OwnLimit(evse, amps, self.now.wall, self.now.wall + for_s).fact())

    def takes_back(self, evse: int = 1) -> list[str]:
        return self.told(OwnLimit(evse, 0, 0, 0).gone())

    def releases(self) -> list[str]:
        return self.told(OwnLimit(1, 0, 0, 0).gone(), release_fact(self.now.wall))

    def told(self, *facts: Fact) -> list[str]:
        for fact in facts:
            self.facts[fact.topic, fact.name] = fact
        assert isinstance(self.injector, Steered)
        return self.take(self.injector.steer(facts, self.now))

    @property
    def amps(self) -> float:
        return self.limits[0][1]

    def shows(self) -> dict[str, Any]:
        found = self.injector.explain()["1"]
        assert isinstance(found, dict)
        return found


def station(talk: Steering | None = None) -> Steering:
    """One whose capabilities and limits (20 A) are known; nothing is wished yet."""
    talk = talk or Steering()
    talk.live()
    talk.operator(32.0)
    assert talk.waits(11) == ["GetConfiguration"]
    assert talk.hears(KEYS) == ["GetCompositeSchedule"]
    assert talk.allows(20) == ["GetCompositeSchedule"]
    assert talk.allows(63) == [SET]
    talk.accepts()
    assert talk.takes_back() == [CLEAR]
    assert talk.accepts() == []
    return talk


def limited() -> Steering:
    """The engine wants 16 A and got it."""
    talk = station()
    talk.waits(61)
    assert talk.wants("s1", 16.0) == [SET]
    assert talk.accepts() == ["s1 accepted"]
    return talk


# ------------------------------------------------------------------------------------------------ beside the engine's


def test_the_lower_of_the_two_holds_at_once_and_the_engine_hears_of_it() -> None:
    talk = limited()
    assert talk.operator(8.0) == [SET]
    assert talk.limits == [(0, 8.0), (660, 16.0), (960, 20.0)]
    assert talk.accepts() == ["s1 accepted operator-lower"]
    shown = talk.shows()
    assert (shown["asked"], shown["operator"]["amps"]) == ({"schedule": "s1", "limit": 16.0, "unit": "A"}, 8.0)
    assert (shown["allowed"]["limit"], shown["sent"]["limit"]) == (20.0, 8.0)


def test_an_operators_limit_above_the_engines_changes_nothing() -> None:
    talk = limited()
    assert talk.operator(18.0) == ["s1 accepted unchanged"]
    assert talk.shows()["sent"]["limit"] == 16.0


def test_when_it_ends_the_engines_holds_again() -> None:
    talk = limited()
    talk.operator(8.0, for_s=300.0)
    assert talk.limits == [(0, 8.0), (360, 16.0), (960, 20.0)]
    talk.accepts()
    assert talk.waits(301) == ["s1 accepted unchanged"]  # the station knows already
    assert talk.shows()["operator"] is None
    assert talk.facts["operator", "limit-1"].value is None


def test_taken_back_the_engines_holds_at_once() -> None:
    talk = limited()
    talk.operator(8.0)
    talk.accepts()
    assert talk.takes_back() == [SET]
    assert talk.amps == 16.0


def test_a_newer_schedule_of_the_engine_is_bounded_too_and_the_old_one_is_superseded() -> None:
    talk = limited()
    talk.operator(8.0)
    assert talk.wants("s2", 12.0) == ["s1 superseded"]  # the last answer is still awaited
    assert talk.accepts() == []
    assert talk.waits(61) == [SET]
    assert talk.limits[0] == (0, 8.0)
    assert talk.accepts() == ["s2 accepted operator-lower"]


def test_the_engines_ends_first_and_the_operators_goes_on_alone() -> None:
    talk = limited()
    talk.operator(8.0, for_s=7200.0)
    talk.accepts()
    said = talk.waits(300)
    while talk.now.wall < NOON + 3800:
        said += talk.accepts() if talk.inject is not None else talk.waits(300)
    assert said.count("s1 lapsed") == 1
    assert talk.shows()["sent"]["limit"] == 8.0
    assert talk.shows()["asked"] is None


def test_what_the_engine_wants_of_another_transaction_does_not_lift_the_operators() -> None:
    talk = station()
    talk.waits(61)
    talk.starts("7")
    talk.operator(8.0)
    assert talk.amps == 8.0
    talk.accepts()
    assert talk.wants("s1", 16.0, transaction="uid-6") == []
    talk.waits(120)
    assert talk.shows()["sent"]["limit"] == 8.0


# ------------------------------------------------------------------------------------------------ alone


def test_alone_it_is_clamped_by_what_the_cpms_allows_and_the_engine_hears_nothing() -> None:
    talk = station()
    talk.waits(61)
    assert talk.operator(40.0) == [SET]
    assert talk.amps == 20.0
    assert talk.accepts() == []
    assert talk.operator(10.0) == [SET]
    assert talk.amps == 10.0
    assert talk.accepts() == []
    assert talk.waits(601) == [CLEAR]
    assert talk.accepts() == []
    assert talk.leases() == []


def test_below_the_least_a_car_can_charge_with_it_pauses() -> None:
    talk = station()
    talk.waits(61)
    assert talk.operator(3.0) == [SET]
    assert talk.amps == 0.0


def test_told_twice_it_changes_nothing() -> None:
    talk = station()
    talk.waits(61)
    own = OwnLimit(1, 10.0, talk.now.wall, talk.now.wall + 600)
    assert talk.told(own.fact()) == [SET]
    talk.accepts()
    assert talk.told(own.fact()) == []


def test_it_outlives_a_restart() -> None:
    before = limited()
    before.operator(8.0)
    before.accepts()
    after = Steering(facts=before.all_facts(), at=Instant(5000.0, before.now.wall + 30))
    after.live()
    assert after.wants("s1", 16.0) == []
    assert after.waits(11) == ["s1 accepted unchanged"]
    assert after.shows()["operator"]["amps"] == 8.0
    assert after.shows()["sent"]["limit"] == 8.0


def test_one_that_ended_while_the_broker_was_away_is_forgotten_and_what_stands_goes() -> None:
    before = station()
    before.waits(61)
    before.operator(8.0)
    before.accepts()
    after = Steering(facts=before.all_facts(), at=Instant(5000.0, before.now.wall + 700))
    after.live()
    assert after.waits(11) == [CLEAR]
    assert after.shows()["operator"] is None


def test_after_a_boot_it_is_set_again() -> None:
    talk = limited()
    talk.operator(8.0)
    talk.accepts()
    assert talk.sees(Boot("Accepted")) == [CLEAR]
    talk.live()
    assert talk.accepts() == ["GetCompositeSchedule"]
    assert talk.allows(20) == ["GetCompositeSchedule"]
    assert talk.allows(63) == []  # a boot is no reason to write more often
    assert talk.waits(61) == [SET]
    assert talk.amps == 8.0


# ------------------------------------------------------------------------------------------------ release


def test_released_all_is_cleared_and_nothing_is_sent_any_more() -> None:
    talk = limited()
    talk.operator(8.0)
    talk.accepts()
    assert talk.releases() == ["s1 not-sent released", CLEAR]
    talk.accepts()
    assert talk.leases() == []
    assert talk.wants("s2", 12.0) == ["s2 not-sent released"]
    assert talk.waits(4000) == []
    assert talk.shows()["released"]


def test_a_limit_that_is_on_its_way_when_the_station_is_released_is_cleared_once_it_is_answered() -> None:
    talk = station()
    talk.waits(61)
    assert talk.wants("s1", 16.0) == [SET]
    assert talk.releases() == ["s1 not-sent released"]
    assert talk.accepts() == [CLEAR]
    assert talk.accepts() == []
    assert talk.leases() == []


def test_released_while_it_was_away_it_is_cleared_when_it_comes() -> None:
    before = limited()
    facts = (*before.all_facts(), release_fact(before.now.wall))
    after = Steering(facts=facts, at=Instant(5000.0, before.now.wall + 60))
    after.live()
    assert after.wants("s1", 16.0) == ["s1 not-sent released"]
    assert after.waits(11) == [CLEAR]
    assert after.accepts() == []
    assert after.leases() == []
    assert after.waits(4000) == []


def test_taken_back_the_engine_is_followed_again() -> None:
    talk = limited()
    talk.releases()
    talk.accepts()
    assert talk.told(release_fact(None)) == []
    assert talk.waits(61) == [SET]
    assert talk.amps == 16.0


def test_taken_back_where_nobody_asks_anything_it_is_released_no_more() -> None:
    talk = station()
    talk.releases()
    assert (talk.shows()["status"], bool(talk.shows()["released"])) == ("released", True)
    talk.told(release_fact(None))
    assert (talk.shows()["status"], talk.shows()["released"]) == ("idle", None)


# ------------------------------------------------------------------------------------------------ why


def test_each_profile_leaves_behind_why_and_only_so_many_are_kept() -> None:
    talk = limited()
    for n in range(DECISIONS + 3):
        talk.operator(6.5 + n / 2)
        talk.accepts()
        talk.waits(61)
    kept = talk.shows()["decisions"]
    assert len(kept) == DECISIONS
    last = kept[-1]
    assert (last["asked"]["schedule"], last["allowed"], last["outcome"]) == ("s1", 20.0, "accepted")
    assert last["sent"]["limit"] == last["operator"]["amps"]
    talk.operator(7.0)
    talk.hears({"status": "Rejected"})
    assert [one["outcome"] for one in talk.shows()["decisions"][-2:]] == ["rejected", "sent"]  # the next rung is on its way


def test_in_shadow_nothing_is_sent_for_an_operator_either() -> None:
    talk = Steering(shadow=True)
    talk.live()
    talk.operator(8.0)
    assert talk.waits(400) == []


# ------------------------------------------------------------------------------------------------ the law

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("wants"), st.sampled_from([6.0, 10.0, 16.0, 31.0]), st.sampled_from([120.0, 600.0, 3600.0])),
        st.tuples(st.just("limits"), st.sampled_from([0.0, 7.0, 12.0, 30.0]), st.sampled_from([60.0, 400.0, 3000.0])),
        st.tuples(st.just("back"), st.just(0.0), st.just(0.0)),
        st.tuples(st.just("waits"), st.sampled_from([1.0, 59.0, 300.0, 1500.0]), st.just(0.0)),
        st.tuples(st.just("releases"), st.just(0.0), st.sampled_from([0.0, 1.0])),
    ),
    max_size=20,
)


class Judge(Steering):
    """Answers whatever it is asked, and holds each profile against everybody's word at that moment."""

    def __init__(self) -> None:
        self.engine = (float("inf"), 0.0)
        self.own = (float("inf"), 0.0)
        self.free = True
        super().__init__()

    def settles(self) -> None:
        while self.inject is not None:
            if self.inject.action == SET:
                assert self.free, "sent to a released station"
                most = min([20.0, *(limit for limit, until in (self.engine, self.own) if until > self.now.wall)])
                assert self.amps <= most, (self.amps, most)
            self.accepts()


@settings(max_examples=150, deadline=None)
@given(acts=ACTS)
def test_what_is_sent_is_never_above_engine_operator_or_cpms(acts: list[tuple[str, float, float]]) -> None:
    talk = Judge()
    station(talk)
    for n, (act, amount, seconds) in enumerate(acts):
        until = talk.now.wall + seconds
        if act == "wants":
            talk.engine = (amount, until)
            talk.wants(f"e{n}", amount, valid_s=seconds)
        elif act == "limits" and talk.free:
            talk.own = (amount, until)
            talk.operator(amount, seconds)
        elif act == "back":
            talk.own = (float("inf"), 0.0)
            talk.takes_back()
        elif act == "releases":
            talk.free = seconds == 1.0
            talk.own = (float("inf"), 0.0)
            talk.releases() if not talk.free else talk.told(release_fact(None))
        else:
            end = talk.now.mono + amount
            while talk.now.mono < end:
                talk.waits(end - talk.now.mono)
                talk.settles()
        talk.settles()
    talk.releases()
    talk.free = False
    talk.settles()
    assert talk.leases() == []
    assert START.mono < talk.now.mono


@pytest.mark.parametrize("value", [None, {}, {"amps": "x"}, [1], {"amps": 1, "since": 1}])
def test_a_fact_of_another_version_of_us_is_no_limit(value: Any) -> None:
    talk = Steering(facts=(Fact("operator", "limit-1", value), Fact("operator", "released", value), Fact("operator", "limit-x", value)))
    assert talk.shows()["operator"] is None
    assert talk.shows()["released"] is None


def test_why_what_stands_is_what_it_is_outlives_the_next_schedule_and_a_restart() -> None:
    talk = limited()
    assert talk.operator(4.0) == [SET]
    talk.accepts()
    assert talk.wants("s2", 16.0) == ["s2 accepted unchanged"]
    assert talk.shows()["sent"]["why"] == ["paused", "operator-lower"]
    after = Steering(facts=talk.all_facts(), at=Instant(5.0, talk.now.wall + 60))
    assert after.shows()["sent"]["why"] == ["paused", "operator-lower"]
    assert talk.shows()["decisions"][-1]["why"] == ["paused", "operator-lower"]
