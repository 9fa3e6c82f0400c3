"""Smart charging in OCPP 1.6: what we say fits the standard's schemas; what stations and the CPMS say is understood, or said not to be."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standard import AT, NOON, answer, profiles, set_by_cpms
from standard import valid as valid_in

from broker.model.observations import Capabilities, ClearSeen, CompositeSeen, LimitUnknown, ProfileSeen
from broker.model.schedules import ChargingProfile, Period
from broker.ocpp.charging16 import CHARGING

valid = partial(valid_in, "ocpp1.6")
seen = partial(set_by_cpms, CHARGING)

# ------------------------------------------------------------------------------------------------ ours


@settings(max_examples=200, deadline=None)
@given(profiles(st.integers(1, 2**31).map(str)), st.integers(1, 9))
def test_every_profile_of_ours_fits_the_schema_and_says_no_more_than_meant(profile: ChargingProfile, evse: int) -> None:
    action, payload = CHARGING.set_profile(evse, profile)
    said = valid(action, payload)["csChargingProfiles"]
    told = [period["limit"] for period in said["chargingSchedule"]["chargingSchedulePeriod"]]
    assert all(0 <= meant.limit - limit + 1e-6 < 0.1 + 1e-5 for meant, limit in zip(profile.periods, told, strict=True))
    assert payload["connectorId"] == (0 if profile.purpose == "max" else evse)


def test_a_tx_profile_names_its_transaction_and_has_no_validity() -> None:
    profile = ChargingProfile(9, 8, "tx", "Absolute", "A", (Period(0, 16.0, 3),), NOON, 900, None, "123", NOON, NOON + 900)
    assert CHARGING.set_profile(2, profile) == (
        "SetChargingProfile",
        {
            "connectorId": 2,
            "csChargingProfiles": {
                "chargingProfileId": 9,
                "transactionId": 123,
                "stackLevel": 8,
                "chargingProfilePurpose": "TxProfile",
                "chargingProfileKind": "Absolute",
                "chargingSchedule": {
                    "duration": 900,
                    "startSchedule": "2026-01-10T12:00:00.000Z",
                    "chargingRateUnit": "A",
                    "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16, "numberPhases": 3}],
                },
            },
        },
    )


def test_the_other_calls_fit_the_schemas() -> None:
    for action, payload in (CHARGING.clear_profile(7), CHARGING.get_composite(0, 86_400, None), CHARGING.get_composite(1, 60, "W")):
        valid(action, payload)
    assert CHARGING.clear_profile(7)[1] == {"id": 7}
    assert "ChargeProfileMaxStackLevel" in valid(*CHARGING.ask_capabilities())["key"]


# ------------------------------------------------------------------------------------------------ what stations answer


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ([3, "1", {"status": "Accepted"}], "Accepted", ""),
        ([3, "1", {"status": "Rejected"}], "Rejected", ""),
        ([4, "1", "NotSupported", "no smart charging", {}], "NotSupported", "no smart charging"),
        ([4, "1", "GenericError", "x" * 200, {}], "GenericError", "x" * 80),
        ([4, "1"], "", ""),
        ([3, "1", None], "", ""),
        ([3, "1", {"status": 5}], "", ""),
    ],
)
def test_verdicts(said: Any, status: str, reason: str) -> None:
    verdict = CHARGING.verdict(json.dumps(said).encode())
    assert (verdict.status, verdict.reason, verdict.accepted) == (status, reason, status == "Accepted")


@pytest.mark.parametrize("rubbish", [b"", b"[", b"[4]", b"{}", b"\xff", b'[3,"1"', b"[" * 100_000])
def test_rubbish_is_no_verdict_and_no_limit(rubbish: bytes) -> None:
    assert CHARGING.verdict(rubbish).status == ""
    assert CHARGING.composite(1, rubbish) == CompositeSeen(1, None, "A", (), accepted=False)
    assert CHARGING.capabilities(rubbish) == Capabilities()


def test_a_composite() -> None:
    schedule = {"duration": 86400, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 11000.0}]}
    said = {"status": "Accepted", "connectorId": 1, "scheduleStart": AT, "chargingSchedule": schedule}
    valid("GetCompositeScheduleResponse", said)
    assert CHARGING.composite(1, answer(said)) == CompositeSeen(1, NOON, "W", (Period(0, 11000.0),), True, 86400)


@pytest.mark.parametrize(
    "schedule", [None, {}, {"chargingRateUnit": "A"}, {"chargingRateUnit": "A", "chargingSchedulePeriod": []}, {"chargingRateUnit": "?"}]
)
def test_a_composite_that_says_nothing_is_empty(schedule: Any) -> None:
    assert CHARGING.composite(1, answer({"status": "Accepted", "chargingSchedule": schedule})).periods == ()


@pytest.mark.parametrize(
    ("unit", "units"),
    [
        ("Current,Power", "AW"),
        ("Current", "A"),
        ("A", "A"),
        ("power", "W"),
        (" Current , Power ", "AW"),
        ("W", "W"),
        ("", None),
        ("?", None),
    ],
)
def test_units_in_all_spellings(unit: str, units: str | None) -> None:
    row = {"key": "ChargingScheduleAllowedChargingRateUnit", "readonly": True, "value": unit}
    assert CHARGING.capabilities(answer({"configurationKey": [row]})).units == (None if units is None else frozenset(units))


def test_capabilities() -> None:
    told = {
        "ChargeProfileMaxStackLevel": "8",
        "ChargingScheduleMaxPeriods": "24 ",
        "MaxChargingProfilesInstalled": "x",
        "SupportedFeatureProfiles": "Core, SmartCharging",
        "NumberOfConnectors": "2",
        "ConnectorSwitch3to1PhaseSupported": "True",
    }
    said = {"configurationKey": [{"key": key, "readonly": True, "value": value} for key, value in told.items()], "unknownKey": ["?"]}
    expected = Capabilities(8, None, 24, None, 2, True, None, True)
    assert CHARGING.capabilities(answer(said)) == expected
    assert seen("GetConfiguration", {}, said) == (expected,)


# ------------------------------------------------------------------------------------------------ the CPMS's own conversation


def profile(**more: Any) -> dict[str, Any]:
    schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 20}, {"startPeriod": 60, "limit": 10}]}
    said = {"chargingProfileId": 1, "stackLevel": 2, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute"}
    return {**said, "chargingSchedule": schedule, **more}


def test_a_profile_of_the_cpms() -> None:
    call = valid("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": profile()})
    (found,) = seen("SetChargingProfile", call, {"status": "Accepted"})
    assert isinstance(found, ProfileSeen)
    assert (found.evse, found.accepted, found.embedded, found.profile.purpose) == (1, True, False, "default")
    assert found.profile.periods == (Period(0, 20), Period(60, 10))


@pytest.mark.parametrize(("status", "error", "counts"), [("Accepted", False, True), ("Rejected", False, False), ("", True, True)])
def test_a_refused_profile_counts_for_nothing_and_an_error_may_mean_anything(status: str, error: bool, counts: bool) -> None:
    (found,) = seen("SetChargingProfile", {"connectorId": 0, "csChargingProfiles": profile()}, {"status": status}, error=error)
    assert found.accepted is counts


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        profile(chargingSchedule=None),
        profile(chargingProfileId="?"),
        profile(chargingProfilePurpose=None),
        profile(chargingSchedule={"chargingRateUnit": "kW", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 1}]}),
        profile(chargingSchedule={"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0}]}),
        profile(chargingSchedule={"chargingRateUnit": "A", "chargingSchedulePeriod": []}),
    ],
)
def test_what_cannot_be_read_makes_the_limit_unknown_unless_it_was_refused(broken: Any) -> None:
    call = {"connectorId": 1, "csChargingProfiles": broken}
    (found,) = seen("SetChargingProfile", call, {"status": "Accepted"})
    assert isinstance(found, LimitUnknown)
    assert found.evse == 1
    assert seen("SetChargingProfile", call, {"status": "Rejected"}) == ()


def test_a_remote_start_may_carry_a_profile() -> None:
    embedded = profile(chargingProfilePurpose="TxProfile")
    call = valid("RemoteStartTransaction", {"idTag": "x", "chargingProfile": embedded})
    (found,) = seen("RemoteStartTransaction", call, {"status": "Accepted"})
    assert (found.evse, found.embedded, found.profile.purpose) == (0, True, "tx")
    assert seen("RemoteStartTransaction", {"idTag": "x"}, {"status": "Accepted"}) == ()


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ({}, ClearSeen(True)),
        ({"id": 5, "connectorId": 1}, ClearSeen(True, profile_id=5)),
        (
            {"connectorId": 0, "chargingProfilePurpose": "ChargePointMaxProfile", "stackLevel": 3},
            ClearSeen(True, evse=0, purpose="max", stack_level=3),
        ),
    ],
)
def test_clears(call: Any, found: ClearSeen) -> None:
    assert seen("ClearChargingProfile", valid("ClearChargingProfile", call), {"status": "Accepted"}) == (found,)
    (unknown,) = seen("ClearChargingProfile", call, {"status": "Unknown"})
    assert not unknown.accepted


def test_a_profile_that_cannot_be_read_keeps_its_id_so_that_another_word_on_it_can_help() -> None:
    call = {"connectorId": 1, "csChargingProfiles": profile(chargingProfileId="7", chargingSchedule=None)}
    (found,) = seen("SetChargingProfile", call, {"status": "Accepted"})
    assert (found.evse, found.profile_id) == (1, 7)


def test_a_composite_may_say_its_start_in_the_schedule() -> None:
    schedule = {"startSchedule": AT, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6}]}
    assert CHARGING.composite(1, answer({"status": "Accepted", "chargingSchedule": schedule})).start == NOON
