"""Smart charging in OCPP 2.0.1 and 2.1: what we say fits the standard's schemas; what is said to us is understood, or said not to be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standard import AT, NOON, answer, both, profiles, valid
from standard import set_by_cpms as seen

from broker.model.observations import Capabilities, ClearSeen, CompositeSeen, LimitUnknown, ProfileSeen
from broker.model.schedules import ChargingProfile, Period
from broker.ocpp.charging2 import CHARGING_21, CHARGING_201

VERSIONS = {"ocpp2.0.1": CHARGING_201, "ocpp2.1": CHARGING_21}


# ------------------------------------------------------------------------------------------------ ours


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(VERSIONS)), profiles(st.text("abc-0123", min_size=1, max_size=36)), st.integers(1, 9))
def test_every_profile_of_ours_fits_the_schema_and_says_no_more_than_meant(version: str, profile: ChargingProfile, evse: int) -> None:
    action, payload = VERSIONS[version].set_profile(evse, profile)
    said = valid(version, f"{action}Request", payload)["chargingProfile"]
    told = [period["limit"] for period in said["chargingSchedule"][0]["chargingSchedulePeriod"]]
    assert all(0 <= meant.limit - limit + 1e-6 < 0.1 + 1e-5 for meant, limit in zip(profile.periods, told, strict=True))
    assert payload["evseId"] == (0 if profile.purpose == "max" else evse)
    assert said["chargingProfilePurpose"] in ("ChargingStationMaxProfile", "TxDefaultProfile", "TxProfile")
    assert ("transactionId" in said) is (profile.purpose == "tx")


@both
def test_the_other_calls_fit_the_schemas(version: str) -> None:
    charging = VERSIONS[version]
    for action, payload in (charging.clear_profile(7), charging.get_composite(0, 86_400, None), charging.get_composite(1, 60, "W")):
        valid(version, f"{action}Request", payload)
    action, payload = charging.ask_capabilities()
    names = [row["variable"]["name"] for row in valid(version, f"{action}Request", payload)["getVariableData"]]
    assert "ProfileStackLevel" in names
    assert ("MaxExternalConstraintsId" in names) is (version == "ocpp2.1")


# ------------------------------------------------------------------------------------------------ what stations answer


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ([3, "1", {"status": "Accepted"}], "Accepted", ""),
        ([3, "1", {"status": "Rejected", "statusInfo": {"reasonCode": "DuplicateProfile"}}], "Rejected", "DuplicateProfile"),
        (
            [3, "1", {"status": "Rejected", "statusInfo": {"reasonCode": "RateLimitExceeded", "additionalInfo": "20 seconds"}}],
            "Rejected",
            "RateLimitExceeded 20 seconds",
        ),
        ([4, "1", "NotSupported", "", {}], "NotSupported", ""),
        ([3, "1", []], "", ""),
    ],
)
def test_verdicts(said: Any, status: str, reason: str) -> None:
    verdict = CHARGING_201.verdict(json.dumps(said).encode())
    assert (verdict.status, verdict.reason) == (status, reason)


@pytest.mark.parametrize("rubbish", [b"", b"[", b"[4]", b"{}", b"\xff", b'[3,"1"'])
def test_rubbish_is_no_verdict_and_no_limit(rubbish: bytes) -> None:
    assert CHARGING_21.verdict(rubbish).status == ""
    assert CHARGING_21.composite(1, rubbish) == CompositeSeen(1, None, "A", (), accepted=False)
    assert CHARGING_21.capabilities(rubbish) == Capabilities()


@both
def test_a_composite(version: str) -> None:
    schedule = {"evseId": 1, "duration": 86400, "scheduleStart": AT, "chargingRateUnit": "A"}
    said = {"status": "Accepted", "schedule": {**schedule, "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16.0}]}}
    valid(version, "GetCompositeScheduleResponse", said)
    expected = CompositeSeen(1, NOON, "A", (Period(0, 16.0),), True, 86400)
    assert VERSIONS[version].composite(1, answer(said)) == expected
    assert seen(VERSIONS[version], "GetCompositeSchedule", {"evseId": 1, "duration": 86400}, said) == (expected,)


def variables(**told: str) -> dict[str, Any]:
    rows = [
        {
            "attributeStatus": "Accepted",
            "attributeValue": value,
            "component": {"name": "SmartChargingCtrlr"},
            "variable": {"name": name},
        }
        for name, value in told.items()
    ]
    unknown = {"attributeStatus": "UnknownVariable", "component": {"name": "SmartChargingCtrlr"}, "variable": {"name": "Entries"}}
    return {"getVariableResult": [*rows, unknown]}


@both
def test_capabilities(version: str) -> None:
    told = {"Available": "true", "Enabled": "TRUE", "ProfileStackLevel": "9", "RateUnit": "A, W", "PeriodsPerSchedule": "1024"}
    said = valid(version, "GetVariablesResponse", variables(**told, MaxExternalConstraintsId="999", Phases3to1="false"))
    assert VERSIONS[version].capabilities(answer(said)) == Capabilities(9, frozenset("AW"), 1024, None, None, False, 999, True)
    assert VERSIONS[version].capabilities(answer(variables(Available="true", Enabled="false"))).smart_charging is False


# ------------------------------------------------------------------------------------------------ the CPMS's own conversation


def profile(**more: Any) -> dict[str, Any]:
    said = {"id": 1, "stackLevel": 2, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute"}
    return {**said, "chargingSchedule": [schedule()], **more}


def schedule(*limits: Any, **more: Any) -> dict[str, Any]:
    said = [
        {"startPeriod": 60 * n, **(limit if isinstance(limit, dict) else {"limit": limit})} for n, limit in enumerate(limits or (20, 10))
    ]
    return {"id": 1, "startSchedule": AT, "chargingRateUnit": "A", "chargingSchedulePeriod": said, **more}


@both
def test_a_profile_of_the_cpms(version: str) -> None:
    call = valid(version, "SetChargingProfileRequest", {"evseId": 0, "chargingProfile": profile()})
    (found,) = seen(VERSIONS[version], "SetChargingProfile", call, {"status": "Accepted"})
    assert isinstance(found, ProfileSeen)
    assert (found.evse, found.accepted, found.profile.purpose, found.profile.stack_level) == (0, True, "default", 2)
    assert found.profile.periods == (Period(0, 20), Period(60, 10))
    (refused,) = seen(VERSIONS[version], "SetChargingProfile", call, {"status": "Rejected"})
    assert not refused.accepted


def test_of_limits_per_phase_the_lowest_counts() -> None:
    call = {"evseId": 1, "chargingProfile": profile(chargingSchedule=[schedule({"limit": 20, "limit_L2": 16, "limit_L3": 12})])}
    (found,) = seen(CHARGING_21, "SetChargingProfile", valid("ocpp2.1", "SetChargingProfileRequest", call), {"status": "Accepted"})
    assert found.profile.periods == (Period(0, 12),)


@pytest.mark.parametrize(
    "chargingSchedule",
    [
        [],
        [schedule({"operationMode": "Idle"})],
        [schedule({"operationMode": "CentralSetpoint", "setpoint": 10, "limit": 20})],
        [schedule(limitAtSoC={"soc": 80, "limit": 6})],
        [schedule(useLocalTime=True)],
        [schedule(randomizedDelay=600)],
        [schedule(duration=0)],
        [schedule(duration="an hour")],
        [schedule({"limit": "much"})],
        [schedule({"limit": 20, "limit_L2": None})],
        "?",
    ],
)
def test_what_is_more_than_a_limit_makes_the_limit_unknown_unless_it_was_refused(chargingSchedule: Any) -> None:
    call = {"evseId": 2, "chargingProfile": profile(chargingSchedule=chargingSchedule)}
    (found,) = seen(CHARGING_21, "SetChargingProfile", call, {"status": "Accepted"})
    assert isinstance(found, LimitUnknown)
    assert found.evse == 2
    assert seen(CHARGING_21, "SetChargingProfile", call, {"status": "Rejected"}) == ()


@pytest.mark.parametrize(
    "more", [{"maxOfflineDuration": 600}, {"validFrom": "tomorrow"}, {"validTo": ""}, {"validTo": "2026-02-30T00:00:00Z"}, {"validFrom": 7}]
)
def test_a_validity_that_nobody_knows_makes_the_limit_unknown(more: Any) -> None:
    (found,) = seen(CHARGING_21, "SetChargingProfile", {"evseId": 2, "chargingProfile": profile(**more)}, {"status": "Accepted"})
    assert isinstance(found, LimitUnknown)
    assert next(iter(more)) in found.why


@pytest.mark.parametrize("more", [{"useLocalTime": False}, {"randomizedDelay": 0}, {"duration": 60}, {"duration": None}])
def test_what_says_nothing_more_is_a_plain_schedule(more: Any) -> None:
    call = {"evseId": 2, "chargingProfile": profile(chargingSchedule=[schedule(**more)], validFrom=None)}
    (found,) = seen(CHARGING_21, "SetChargingProfile", call, {"status": "Accepted"})
    assert isinstance(found, ProfileSeen)
    assert found.profile.duration_s == more.get("duration")


@pytest.mark.parametrize(
    ("start", "validity", "slack_s"),
    [
        (AT, {}, 0.0),
        (AT, {"validTo": "2026-01-10T14:00:00+02:00"}, 0.0),
        (None, {}, 0.0),
        ("2026-01-10T12:00:00", {}, 14 * 3600.0),
        (AT, {"validFrom": "2026-01-10T12:00:00.123456"}, 14 * 3600.0),
        (AT, {"validTo": "2026-01-10 12:00"}, 14 * 3600.0),
    ],
)
def test_times_without_an_offset_may_be_read_otherwise(start: str | None, validity: Any, slack_s: float) -> None:
    call = {"evseId": 2, "chargingProfile": profile(chargingSchedule=[schedule(startSchedule=start)], **validity)}
    (found,) = seen(CHARGING_21, "SetChargingProfile", call, {"status": "Accepted"})
    assert found.profile.slack_s == slack_s


def test_several_schedules_are_said_to_be_there() -> None:
    call = {"evseId": 1, "chargingProfile": profile(chargingSchedule=[schedule(), schedule(6)])}
    (found,) = seen(CHARGING_201, "SetChargingProfile", call, {"status": "Accepted"})
    assert found.profile.more_schedules


def test_a_remote_start_may_carry_a_profile() -> None:
    embedded = profile(chargingProfilePurpose="TxProfile")
    call = {"idToken": {"idToken": "x", "type": "Central"}, "remoteStartId": 1, "evseId": 2, "chargingProfile": embedded}
    (found,) = seen(
        CHARGING_201, "RequestStartTransaction", valid("ocpp2.0.1", "RequestStartTransactionRequest", call), {"status": "Accepted"}
    )
    assert (found.evse, found.embedded, found.profile.purpose) == (2, True, "tx")


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ({}, ClearSeen(True)),
        ({"chargingProfileId": 5}, ClearSeen(True, profile_id=5)),
        (
            {"chargingProfileCriteria": {"evseId": 0, "chargingProfilePurpose": "ChargingStationMaxProfile", "stackLevel": 3}},
            ClearSeen(True, evse=0, purpose="max", stack_level=3),
        ),
    ],
)
def test_clears(call: Any, found: ClearSeen) -> None:
    valid("ocpp2.1", "ClearChargingProfileRequest", call)
    assert seen(CHARGING_21, "ClearChargingProfile", call, {"status": "Accepted"}) == (found,)
    (unknown,) = seen(CHARGING_21, "ClearChargingProfile", call, {"status": "Unknown"})
    assert not unknown.accepted


def test_a_profile_that_cannot_be_read_keeps_its_id_so_that_another_word_on_it_can_help() -> None:
    (found,) = seen(CHARGING_21, "SetChargingProfile", {"evseId": 1, "chargingProfile": {"id": 7}}, {"status": "Accepted"})
    assert isinstance(found, LimitUnknown)
    assert (found.evse, found.profile_id) == (1, 7)


@pytest.mark.parametrize(
    ("component", "status", "found"),
    [("SmartChargingCtrlr", "Accepted", 8), ("SmartChargingCtrlr", "Rejected", None), ("OCPPCommCtrlr", "Accepted", None)],
)
def test_only_what_the_smart_charging_controller_says_counts(component: str, status: str, found: int | None) -> None:
    row = {"attributeStatus": status, "attributeValue": "8", "component": {"name": component}, "variable": {"name": "ProfileStackLevel"}}
    assert CHARGING_201.capabilities(answer({"getVariableResult": [row]})).max_stack_level == found
