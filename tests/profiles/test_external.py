"""Limits that a station has from elsewhere: beside all others until they are cleared or end, and the same after a restart."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.limits import Limits
from broker.model.observations import LimitCleared, LimitTold, Observation, ProfileReported, ProfileSeen
from broker.model.records import Fact
from broker.model.schedules import ChargingProfile, Period
from broker.profiles.external import MOST, External
from broker.profiles.saying import Placed
from broker.profiles.shadow import Shadow
from broker.settings import EvseSettings, StationSettings

T = 1_768_046_400.0
SOURCES = ("EMS", "SO", "Other")


def profile(*limits: float, id: int = 0, level: int = 0, purpose: str = "max", start: float | None = T, **more: Any) -> ChargingProfile:
    periods = tuple(Period(600 * nth, limit) for nth, limit in enumerate(limits))
    return ChargingProfile(id, level, purpose, "Absolute", "A", periods, start, **more)


def told(*limits: float, evse: int = 1, source: str = "EMS", **more: Any) -> LimitTold:
    return LimitTold(evse, source, (profile(*limits, **more),))


def unknown(evse: int = 1, source: str = "EMS") -> LimitTold:
    return LimitTold(evse, source, (), "nobody knows")


class Known:
    """One station's limits, made anew from their facts at every step."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.limits = self.again()

    def again(self) -> Limits:
        sockets = tuple(EvseSettings(n, f"asset-{n}", 32.0, 3) for n in (1, 2))
        station = StationSettings("CS", "smart-charging", "site", "ac", sockets)
        facts = [Fact("cpms-limit", name, json.loads(value)) for name, value in self.facts.items()]
        limits = Limits(station, "none", facts, 0.0, "ocpp2.0.1", lambda _: None)
        limits.at(T + 1)
        return limits

    def sees(self, *observations: Observation) -> Known:
        for seen in observations:
            self.keep(self.limits.observe(seen, False))
            self.limits = self.again()
        return self

    def keep(self, facts: tuple[Fact, ...]) -> None:
        for fact in facts:
            self.facts.pop(fact.name, None)
            if fact.value is not None:
                self.facts[fact.name] = json.dumps(fact.value)

    def value(self, evse: int = 1) -> float | str | None:
        limit = self.limits.limit(evse)
        return limit.value if limit.known else limit.why


def test_it_holds_beside_the_cpms_s_until_it_is_cleared() -> None:
    known = Known().sees(ProfileSeen(1, profile(20.0, id=3, purpose="default"), True))
    assert known.sees(told(10.0)).value() == 10.0
    assert known.sees(told(12.0)).value() == 12.0
    assert known.sees(told(32.0, source="SO")).value() == 12.0
    assert known.sees(LimitCleared(1, "SO")).value() == 12.0
    assert known.sees(LimitCleared(2, "EMS")).value() == 12.0
    assert known.sees(LimitCleared(1, "EMS")).value() == 20.0


def test_one_for_the_station_holds_everywhere_and_one_for_an_evse_there() -> None:
    known = Known().sees(told(10.0, evse=0), told(6.0, evse=2))
    assert (known.value(1), known.value(2)) == (10.0, 6.0)
    assert known.sees(LimitCleared(0, "EMS")).facts == {}


def test_without_a_schedule_the_limit_is_unknown_until_it_is_cleared_or_said() -> None:
    known = Known().sees(unknown())
    assert (known.value(1), known.value(2)) == ("cpms-limits-unknown: nobody knows", None)
    assert known.sees(told(9.0)).value() == 9.0
    assert known.sees(unknown()).sees(LimitCleared(1, "EMS")).value() is None


def test_a_schedule_of_periods_that_do_not_follow_each_other_is_unknown() -> None:
    odd = ChargingProfile(0, 0, "max", "Absolute", "A", (Period(5, 16.0), Period(0, 8.0)), T)
    assert str(Known().sees(LimitTold(1, "EMS", (odd,))).value()).startswith("cpms-limits-unknown")


def test_period_by_period_to_its_own_end_and_without_a_start_at_its_lowest() -> None:
    known = Known().sees(told(16.0, 8.0, duration_s=1200))
    assert [(span.at - T, span.low) for span in known.limits.limit(1).spans] == [(1, 16.0), (600, 8.0), (1200, math.inf)]
    assert Known().sees(told(16.0, 8.0, start=None)).value() == 8.0


def test_it_is_forgotten_when_it_is_over_and_what_has_no_end_is_not() -> None:
    external = External()
    for seen in (told(16.0, duration_s=60), told(9.0, source="SO"), unknown(source="Other")):
        assert len(external.told(seen)) == 1
    assert external.expire(T + 59) == ()
    assert [fact.name for fact in external.expire(T + 60)] == ["external-EMS@1"]
    assert external.expire(T + 1e9) == ()


def test_what_is_over_is_forgotten_for_a_restart_too() -> None:
    known = Known().sees(told(16.0, duration_s=60), told(20.0, source="SO"))
    known.limits.at(T + 61)
    known.keep(known.limits.refresh(1.0))
    assert list(known.facts) == ["external-SO@1"]


def test_that_it_is_in_force_is_no_reason_to_leave_ours_out() -> None:
    assert [span.high for span in Known().sees(told(10.0)).limits.limit(1).spans] == [math.inf]


def test_more_than_anybody_plans_is_unknown_and_takes_no_more_room() -> None:
    external, names = External(), set()
    for nth in range(3 * MOST):
        names |= {fact.name for fact in external.told(told(10.0, source=f"s{nth}"))}
    assert len(names) == MOST + 1
    assert external.unknown(2) == "more limits from elsewhere than we remember"
    for nth in range(MOST):
        assert external.unknown(1)
        external.cleared(LimitCleared(0, f"s{nth}"))
    assert external.unknown(1) == ""


def test_what_another_version_wrote_is_unknown_until_it_is_cleared() -> None:
    for value in ({"evse": 1, "source": "EMS", "schedules": [{"x": 1}], "why": ""}, {"evse": 1, "source": "EMS"}):
        external = External([Fact("cpms-limit", "external-EMS@1", value)])
        assert external.unknown(1)
        assert not external.unknown(2)
        assert external.cleared(LimitCleared(1, "EMS")) == (Fact("cpms-limit", "external-EMS@1", None),)
        assert not external.unknown(1)
    assert External([Fact("cpms-limit", "external-EMS@1", "x")]).unknown(2)


def reported(limit: float, id: int = 3, evse: int = 1, **more: Any) -> ProfileReported:
    return ProfileReported(evse, id, profile(limit, id=id, **{"purpose": "default", **more}))


def test_what_a_report_says_and_we_did_not_know_is_added_and_what_we_knew_stays_as_it_is() -> None:
    shadow = Shadow("ocpp2.0.1")
    shadow.observe(ProfileSeen(0, profile(20.0, id=3, purpose="default"), True))
    assert shadow.observe(reported(20.0)) == ()
    assert [fact.name for fact in shadow.observe(reported(9.0, id=4, level=1))] == ["profile-4@1"]
    assert shadow.observe(reported(9.0, id=4, level=1)) == ()
    assert [one.sure for one in shadow.entries if isinstance(one, Placed)] == [True, False]


def test_where_a_report_says_otherwise_both_count() -> None:
    known = Known().sees(ProfileSeen(1, profile(32.0, id=3, level=5, purpose="default"), True), reported(9.0))
    assert known.value() == 9.0
    assert Known().sees(ProfileSeen(1, profile(9.0, id=3, purpose="default"), True), reported(32.0, level=5)).value() == 9.0


def test_a_reported_profile_that_cannot_be_read_makes_the_limit_unknown_unless_we_know_it() -> None:
    broken = ProfileReported(1, 3, None, "no schedule")
    assert Known().sees(broken, broken).value() == "cpms-limits-unknown: no schedule"
    assert Known().sees(ProfileSeen(1, profile(20.0, id=3, purpose="default"), True), broken).value() == 20.0


limits = st.sampled_from([6.0, 10.0, 16.0, 32.0])
seen = st.one_of(
    st.builds(told, limits, evse=st.integers(0, 2), source=st.sampled_from(SOURCES)),
    st.builds(unknown, st.integers(0, 2), st.sampled_from(SOURCES)),
    st.builds(LimitCleared, st.integers(0, 2), st.sampled_from(SOURCES)),
    st.builds(reported, limits, st.integers(1, 3), st.integers(1, 2), level=st.integers(0, 2)),
)


@given(st.none() | limits, st.lists(seen, max_size=12))
def test_what_is_reckoned_with_is_never_above_the_least_of_the_cpms_s_and_those_that_were_told(cap: float | None, story: list[Any]) -> None:
    known, there = Known(), {}
    if cap is not None:
        known.sees(ProfileSeen(0, profile(cap, id=99), True))
    for one in story:
        known.sees(one)
        if isinstance(one, LimitTold):
            there[one.source, one.evse] = one
        elif isinstance(one, LimitCleared):
            there = {key: kept for key, kept in there.items() if key[0] != one.source or one.evse not in (0, key[1])}
        for evse in (1, 2):
            here = [kept for (_, place), kept in there.items() if place in (0, evse)]
            limit = known.limits.limit(evse)
            assert limit.known == (not any(kept.why for kept in here))
            least = [kept.schedules[0].periods[0].limit for kept in here if kept.schedules] + ([] if cap is None else [cap])
            if limit.known and least:
                assert limit.value is not None
                assert limit.value <= min(least)
                assert all(span.low <= min(least) for span in limit.spans)
