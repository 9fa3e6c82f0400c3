"""What a 2.x station tells of limits: what the standard's schemas allow is understood, or said not to be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standard import AT, NOON, TWO, both, observe

from broker.model.observations import LimitCleared, LimitTold, ProfileReported
from broker.model.schedules import ChargingProfile, Period
from broker.ocpp.dialects import BY_NAME

ACTIONS = {"NotifyChargingLimit", "ClearedChargingLimit", "ReportChargingProfiles"}


def schedule(*limits: float, **more: Any) -> dict[str, Any]:
    periods = [{"startPeriod": 600 * nth, "limit": limit} for nth, limit in enumerate(limits)]
    return {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": periods, **more}


def notified(version: str, *schedules: Any, standard: bool = True, **more: Any) -> LimitTold:
    listed = {"chargingSchedule": list(schedules)} if schedules else {}
    call = {"chargingLimit": {"chargingLimitSource": "EMS"}, **listed, **more}
    (seen,) = observe(version, "NotifyChargingLimit", call, standard=standard)
    assert isinstance(seen, LimitTold)
    return seen


def held(id: int, purpose: str = "TxDefaultProfile", limit: float = 10.0) -> dict[str, Any]:
    return {
        "id": id,
        "stackLevel": 2,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule(limit)],
    }


@both
def test_seen_as_the_station_sends_them_and_by_nobody_who_only_identifies(version: str) -> None:
    interest = BY_NAME[version].interest
    assert interest.at_call >= ACTIONS
    assert not ACTIONS & (interest.at_answer | interest.guarded | interest.promised | interest.proof)
    assert not ACTIONS & BY_NAME[version].identification.at_call
    assert not ACTIONS & (BY_NAME["ocpp1.6"].interest.at_call | BY_NAME["ocpp1.6"].interest.at_answer)


@both
def test_a_limit_with_its_schedule(version: str) -> None:
    seen = notified(version, schedule(16.0, 8.0, startSchedule=AT, duration=3600), evseId=2)
    allowed = ChargingProfile(0, 0, "max", "Absolute", "A", (Period(0, 16.0), Period(600, 8.0)), NOON, 3600)
    assert seen == LimitTold(2, "EMS", (allowed,))


@both
def test_of_several_schedules_all_hold(version: str) -> None:
    assert [one.periods[0].limit for one in notified(version, schedule(16.0), schedule(9.0)).schedules] == [16.0, 9.0]


@both
def test_one_for_the_whole_station_names_no_evse_and_without_a_start_it_has_no_end(version: str) -> None:
    seen = notified(version, schedule(16.0, duration=60))
    assert (seen.evse, seen.schedules[0].start, seen.schedules[0].duration_s) == (0, None, None)


@pytest.mark.parametrize("floats", [{"useLocalTime": True}, {"randomizedDelay": 600}])
def test_where_its_clock_is_not_ours_it_has_no_start(floats: dict[str, Any]) -> None:
    assert notified("ocpp2.1", schedule(16.0, startSchedule=AT, **floats)).schedules[0].start is None


ODD = [
    (),
    ({**schedule(16.0), "chargingRateUnit": "VA"},),
    ({**schedule(16.0), "chargingSchedulePeriod": []},),
    (schedule(16.0), {"id": 2}),
    ({**schedule(16.0), "limitAtSoC": {"soc": 80, "limit": 6}},),
    tuple(schedule(16.0) for _ in range(9)),
]


@both
@pytest.mark.parametrize("schedules", ODD)
def test_without_a_schedule_that_can_be_read_it_is_not_known_how_low_it_is(version: str, schedules: tuple[Any, ...]) -> None:
    seen = notified(version, *schedules, standard=False, evseId=1)
    assert (seen.evse, seen.source, seen.schedules) == (1, "EMS", ())
    assert seen.why.startswith("the station has a limit from EMS that cannot be read: ")


@both
def test_gone_on_one_evse_or_wherever_it_was(version: str) -> None:
    assert observe(version, "ClearedChargingLimit", {"chargingLimitSource": "SO", "evseId": 2}) == (LimitCleared(2, "SO"),)
    assert observe(version, "ClearedChargingLimit", {"chargingLimitSource": "SO"}) == (LimitCleared(0, "SO"),)


def report(*profiles: Any, source: str = "CSO", evse: int = 1, **more: Any) -> dict[str, Any]:
    return {"requestId": 5, "chargingLimitSource": source, "evseId": evse, "chargingProfile": list(profiles), **more}


@both
def test_each_part_of_a_report_counts_alone(version: str) -> None:
    first, second = observe(version, "ReportChargingProfiles", report(held(7), held(8, "ChargingStationMaxProfile"), tbc=True))
    assert isinstance(first, ProfileReported)
    assert first.profile is not None
    assert (first.evse, first.profile_id, first.profile.purpose, first.profile.stack_level) == (1, 7, "default", 2)
    assert isinstance(second, ProfileReported)
    assert (second.evse, second.profile_id) == (0, 8)


@both
def test_a_profile_of_the_cpms_s_that_cannot_be_read_is_said_and_those_from_elsewhere_are_passed_over(version: str) -> None:
    broken = {**held(7), "chargingSchedule": []}
    assert observe(version, "ReportChargingProfiles", report(broken), standard=False) == (
        ProfileReported(1, 7, None, "chargingSchedule: missing"),
    )
    assert observe(version, "ReportChargingProfiles", report(held(7), source="EMS")) == ()


@both
@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_a_cpms_has_no_such_calls(version: str, action: str) -> None:
    assert observe(version, action, {}, sender="cpms", standard=False) == ()


NAMES = ["evseId", "chargingLimit", "chargingSchedule", "chargingLimitSource", "chargingProfile"]
PARTS = ["id", "chargingSchedulePeriod", "chargingRateUnit", "startPeriod", "limit", "duration"]
json_values = st.recursive(
    st.sampled_from([None, True, -1, 2, 1e300, 0.5, "", "EMS", "CSO", "\0", "9" * 60]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES + PARTS), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(NAMES), json_values), st.sampled_from(sorted(TWO)))
def test_a_limit_in_any_shape_is_a_limit(call: dict[str, Any], version: str) -> None:
    (seen,) = observe(version, "NotifyChargingLimit", call, standard=False)
    assert isinstance(seen, LimitTold)
    assert seen.schedules or seen.why
    assert len(observe(version, "ClearedChargingLimit", call, standard=False)) == 1
    assert all(isinstance(one, ProfileReported) for one in observe(version, "ReportChargingProfiles", call, standard=False))
