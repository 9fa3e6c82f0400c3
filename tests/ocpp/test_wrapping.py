"""A charging schedule on the wire: out, never more than meant; in, whole or not at all; and whatever comes, no exception."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker.model.observations import ClearSeen, LimitUnknown, Observation, ProfileSeen
from broker.model.schedules import ChargingProfile, Period
from broker.model.traffic import Exchange
from broker.ocpp import wrapping
from broker.ocpp.charging2 import CHARGING_21, CHARGING_201
from broker.ocpp.charging16 import CHARGING
from broker.ocpp.dialect import Charging, Verdict

NOON = 1768046400.0
WORDS = {"TxDefaultProfile": "default", "TxProfile": "tx"}
law = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CHARGINGS: dict[str, Charging] = {"1.6": CHARGING, "2.0.1": CHARGING_201, "2.1": CHARGING_21}


# ---------------------------------------------------------------- out


@pytest.mark.parametrize(
    ("limit", "said"), [(16.0, "16"), (0.0, "0"), (6.1, "6.1"), (6.19, "6.1"), (0.3, "0.3"), (4346.99, "4346.9"), (1e6, "1000000")]
)
def test_a_limit_has_one_decimal_at_most_and_is_rounded_down(limit: float, said: str) -> None:
    assert json.dumps(wrapping.number(limit)) == said


@law
@given(st.integers(0, 10_000_000))
def test_a_limit_of_tenths_stays_what_it_is(tenths: int) -> None:
    assert wrapping.number(tenths / 10) == tenths / 10


@law
@given(st.floats(0, 1e9))
def test_a_limit_is_never_said_higher_than_it_is(limit: float) -> None:
    assert limit - 0.1 - 1e-6 <= wrapping.number(limit) <= limit + 1e-6


def test_a_schedule_says_what_there_is() -> None:
    bare = ChargingProfile(1, 0, "max", "Absolute", "A", (Period(0, 6.0), Period(60, 0.0, 3)))
    periods = [{"startPeriod": 0, "limit": 6}, {"startPeriod": 60, "limit": 0, "numberPhases": 3}]
    assert wrapping.schedule(bare) == {"chargingRateUnit": "A", "chargingSchedulePeriod": periods}
    assert wrapping.validity(bare) == {}
    full = ChargingProfile(1, 0, "max", "Absolute", "W", (Period(0, 6.0),), NOON, 900, None, None, NOON, NOON + 900)
    assert wrapping.schedule(full)["startSchedule"] == "2026-01-10T12:00:00.000Z"
    assert wrapping.schedule(full)["duration"] == 900
    assert wrapping.validity(full) == {"validFrom": "2026-01-10T12:00:00.000Z", "validTo": "2026-01-10T12:15:00.000Z"}


# ---------------------------------------------------------------- answers to ours


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ('[3,"1",{"a":1}]', {"a": 1}),
        (' [ 3 , "1" ,{"a":1}]', {"a": 1}),
        ('[3,"1",null]', {}),
        ('[3,"1"]', {}),
        ('[4,"1","NotSupported","",{"a":1}]', {}),
        ('[3,"1",{"a":', {}),
    ],
)
def test_only_an_answer_has_a_result(answer: str, found: Any) -> None:
    assert wrapping.result(answer.encode()) == found


@law
@given(
    st.binary(max_size=40)
    | st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=6)).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_whatever_a_station_answers_there_is_a_verdict(answer: bytes) -> None:
    assert isinstance(wrapping.verdict(answer), Verdict)
    for charging in CHARGINGS.values():
        charging.composite(1, answer)
        charging.capabilities(answer)


# ---------------------------------------------------------------- what others say

SCHEDULE = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16.0}]}
PROFILE = {
    "id": 7, "stackLevel": 2, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute", "chargingSchedule": SCHEDULE,
}  # fmt: skip


def read(**more: Any) -> ChargingProfile:
    return wrapping.read({**PROFILE, **more}, WORDS, id_name="id")


def test_a_profile_is_read_whole() -> None:
    assert read() == ChargingProfile(7, 2, "default", "Absolute", "A", (Period(0, 16.0),))
    more = {
        "chargingProfileKind": "Recurring", "recurrencyKind": "Daily", "transactionId": 12, "chargingProfilePurpose": "Other",
        "validFrom": "2026-01-10T12:00:00Z", "validTo": "2026-01-10T12:15:00Z",
        "chargingSchedule": [{**SCHEDULE, "startSchedule": "2026-01-10T12:00:00Z", "duration": 900}, {}],
    }  # fmt: skip
    found = ChargingProfile(7, 2, "Other", "Recurring", "A", (Period(0, 16.0),), NOON, 900, "Daily", "12", NOON, NOON + 900, True)
    assert read(**more) == found


@pytest.mark.parametrize(("id", "found"), [("7", 7), (7.0, 7), (" 7 ", 7), (2**40, 2**40), (-3, -3)])
def test_ids_in_odd_spellings(id: Any, found: int) -> None:
    assert read(id=id, stackLevel=id).id == found


@pytest.mark.parametrize(("id", "found"), [("abc", "abc"), (12, "12"), (12.0, "12"), ("", None), ({}, None), (True, None)])
def test_a_transaction_s_id_is_a_text(id: Any, found: str | None) -> None:
    assert read(transactionId=id).transaction_id == found


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"id": None}, "id"),
        ({"id": 1e300}, "id"),
        ({"id": 7.5}, "id"),
        ({"stackLevel": "high"}, "stackLevel"),
        ({"chargingProfilePurpose": 1}, "chargingProfilePurpose"),
        ({"chargingProfileKind": None}, "chargingProfileKind"),
        ({"chargingSchedule": None}, "chargingSchedule"),
        ({"chargingSchedule": []}, "chargingSchedule"),
        ({"chargingSchedule": {**SCHEDULE, "chargingRateUnit": "kW"}}, "chargingRateUnit"),
        ({"chargingSchedule": {**SCHEDULE, "limitAtSoC": {"soc": 80, "limit": 6}}}, "limitAtSoC"),
        ({"chargingSchedule": {**SCHEDULE, "chargingSchedulePeriod": []}}, "chargingSchedulePeriod"),
        ({"chargingSchedule": {**SCHEDULE, "chargingSchedulePeriod": [{"startPeriod": 0}]}}, "chargingSchedulePeriod"),
        ({"chargingSchedule": {**SCHEDULE, "chargingSchedulePeriod": [{"limit": 3}]}}, "chargingSchedulePeriod"),
        ({"chargingSchedule": {**SCHEDULE, "chargingSchedulePeriod": [{"startPeriod": 0, "limit": math.nan}]}}, "chargingSchedulePeriod"),
        ({"chargingSchedule": {**SCHEDULE, "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10**400}]}}, "chargingSchedulePeriod"),
        (
            {"chargingSchedule": {**SCHEDULE, "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 3, "operationMode": "Idle"}]}},
            "operation",
        ),
    ],
)
def test_what_is_not_understood_is_named(more: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        read(**more)


def test_where_phases_have_limits_of_their_own_the_lowest_counts() -> None:
    told = {"chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16, "limit_L2": 10, "limit_L3": 12.5, "operationMode": "ChargingOnly"}]}
    assert wrapping.periods(told) == (Period(0, 10.0),)
    with pytest.raises(ValueError, match="chargingSchedulePeriod"):
        wrapping.periods({"chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16, "limit_L2": "?"}]})


def test_a_composite_without_a_unit_or_periods_says_nothing() -> None:
    assert wrapping.composite(SCHEDULE) == ("A", (Period(0, 16.0),))
    assert wrapping.composite({**SCHEDULE, "chargingRateUnit": "W"})[0] == "W"
    for nothing in ({}, {**SCHEDULE, "chargingRateUnit": "kW"}, {"chargingRateUnit": "A", "chargingSchedulePeriod": "?"}):
        assert wrapping.composite(nothing) == ("A", ())


@pytest.mark.parametrize(
    ("said", "found"),
    [
        *(("Current,Power", "AW"), ("Current", "A"), ("Power", "W"), ("A,W", "AW"), ("A", "A"), ("W", "W"), ("power", "W")),
        *(("CURRENT , power", "AW"), ("A, kW", "A"), ("Current,", "A"), ("", None), ("kW", None), (None, None), (["A"], None), (7, None)),
    ],
)
def test_units_as_stations_spell_them(said: Any, found: str | None) -> None:
    """ABB `Current,Power`; Huawei `power`; 2.x member lists `A,W`."""
    assert wrapping.units(said) == (None if found is None else frozenset(found))


@pytest.mark.parametrize(("said", "found"), [("999", 999), (" 3 ", 3), (3.0, 3), (0, 0), ("-1", None), ("many", None), (None, None)])
def test_counts_as_stations_spell_them(said: Any, found: int | None) -> None:
    """Schneider reports 999 stack levels, and means it."""
    assert wrapping.count(said) == found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        *(({"status": "Accepted"}, True), ({"status": "accepted"}, True), ({"status": 7}, True), ({}, True), (None, True)),
        *(({"status": "Rejected"}, False), ({"status": " rejected"}, False), ({"status": "NotSupported"}, False)),
    ],
)
def test_a_profile_may_stand_unless_the_station_refused_it(answer: Any, found: bool) -> None:
    assert wrapping.taken(answer) is found


@pytest.mark.parametrize(
    ("version", "call"),
    [
        *(("1.6", {"id": 10**30}), ("1.6", {"id": "all"}), ("1.6", {"connectorId": "x", "stackLevel": 1}), ("1.6", {"stackLevel": 1.5})),
        *(("2.1", {"chargingProfileId": [5]}), ("2.0.1", {"chargingProfileCriteria": [{"evseId": 1}]})),
        *(("1.6", {"connectorID": 1}), ("2.1", {"evse": 1}), ("2.1", {"chargingProfileCriteria": {"evse": 1}})),
        *(("2.1", {"chargingProfileCriteria": {"evseId": -1}}), ("2.1", {"chargingProfileCriteria": {"chargingProfilePurpose": 7}})),
    ],
)
def test_a_clear_that_is_not_understood_tells_nothing(version: str, call: Any) -> None:
    assert CHARGINGS[version].observe(Exchange("cpms", "ClearChargingProfile", b"[]", None, 3, None), call, {"status": "Accepted"}) == ()


@pytest.mark.parametrize("call", [{}, {"chargingProfileCriteria": None}, {"chargingProfileCriteria": {"customData": {"vendorId": "x"}}}])
def test_a_clear_without_a_criterion_is_of_everything(call: Any) -> None:
    assert observed("2.1", "ClearChargingProfile", call, {"status": "Accepted"}) == (ClearSeen(True),)


@pytest.mark.parametrize("id", ["", "abc", "1.5", "CS-7-0001", None])
def test_a_1_6_transaction_without_a_number_is_whatever_runs_there(id: str | None) -> None:
    told = ChargingProfile(1, 0, "tx", "Absolute", "A", (Period(0, 6.0),), transaction_id=id)
    assert "transactionId" not in CHARGING.set_profile(1, told)[1]["csChargingProfiles"]


# ---------------------------------------------------------------- whatever the CPMS says

words = st.sampled_from(
    [
        *("connectorId", "evseId", "csChargingProfiles", "chargingProfile", "chargingProfileId", "id", "stackLevel", "status", "schedule"),
        *("chargingProfilePurpose", "chargingProfileKind", "chargingSchedule", "chargingSchedulePeriod", "chargingRateUnit", "limit"),
        *("startPeriod", "configurationKey", "key", "value", "getVariableResult", "chargingProfileCriteria", "scheduleStart", "duration"),
    ]
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["Accepted", "A", "W", "TxProfile", "Absolute", 10**400, "1" * 50, "2026-01-10T12:00:00Z"]),
)  # fmt: skip
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=6), max_leaves=20)
objects = st.dictionaries(words, anything, max_size=6)
NAMES = sorted({action for charging in CHARGINGS.values() for action in charging.actions})


def observed(version: str, action: str, call: Any, answer: Any, kind: int = 3) -> tuple[Observation, ...]:
    return CHARGINGS[version].observe(Exchange("cpms", action, b"[]", None, kind, None), call, answer)


@law
@given(st.sampled_from(sorted(CHARGINGS)), st.sampled_from(NAMES), objects, st.none() | objects)
def test_whatever_is_said_nothing_raises(version: str, action: str, call: dict[str, Any], answer: dict[str, Any] | None) -> None:
    assert isinstance(observed(version, action, call, answer), tuple)


@law
@given(st.sampled_from(sorted(CHARGINGS)), anything, anything, st.booleans())
def test_a_profile_that_was_taken_is_always_known_of(version: str, place: Any, told: Any, embedded: bool) -> None:
    """Read, or said to be unreadable: never passed over."""
    old = version == "1.6"
    action = ("RemoteStartTransaction" if old else "RequestStartTransaction") if embedded else "SetChargingProfile"
    name = "chargingProfile" if embedded or not old else "csChargingProfiles"
    call = {"connectorId" if old else "evseId": place, name: told}
    seen = observed(version, action, call, {"status": "Accepted"})
    if embedded and told is None:
        assert seen == ()
    else:
        (one,) = seen
        assert isinstance(one, LimitUnknown) or (isinstance(one, ProfileSeen) and one.accepted and one.embedded is embedded)


@law
@given(st.sampled_from(sorted(CHARGINGS)), anything, st.sampled_from(["id", "place", "purpose", "level", "all"]))
@example("2.0.1", {"chargingProfileId": False}, "all")
def test_a_clear_that_cannot_be_read_clears_not_everything(version: str, value: Any, which: str) -> None:
    """A criterion that is there and says nothing to us is not the same as none."""
    names = {"id": "id", "place": "connectorId", "purpose": "chargingProfilePurpose", "level": "stackLevel"}
    if version == "1.6":
        call: Any = {names[which]: value} if which != "all" else dict.fromkeys(names.values(), value)
    elif which == "id":
        call = {"chargingProfileId": value}
    elif which == "all":
        call = {"chargingProfileCriteria": value}
    else:
        call = {"chargingProfileCriteria": {"evseId" if which == "place" else names[which]: value}}
    for one in observed(version, "ClearChargingProfile", call, {"status": "Accepted"}):
        assert isinstance(one, ClearSeen)
        nothing = value in (None, {}) or (isinstance(value, dict) and all(one is None for one in value.values()))
        assert nothing or one != ClearSeen(True)
