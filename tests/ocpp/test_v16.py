"""OCPP 1.6, message by message: the frames are real ones, checked against the standard's own schemas."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from standard import AT, NOON
from standard import exchange as exchange_in
from standard import observe as observe_in

from broker.model.basics import Instant
from broker.model.observations import Authorized, Boot, Metered, Proven, Reading, StatusSeen, TransactionSeen
from broker.model.traffic import Exchange
from broker.ocpp.changes16 import CHANGES
from broker.ocpp.charging16 import CHARGING
from broker.ocpp.v16 import V16, transaction_id

NOW = Instant(1000.0, NOON + 1)
DIALECT = V16()
exchange = partial(exchange_in, "ocpp1.6")
observe = partial(observe_in, "ocpp1.6")
odd = partial(observe, standard=False)
"""Of frames that the standard would not have, and stations do."""


# ------------------------------------------------------------------------------------------------ boot, authorize

BOOT = {
    "chargePointVendor": "Acme",
    "chargePointModel": "One",
    "chargeBoxSerialNumber": "box-1",
    "firmwareVersion": "1.2.3",
    "meterType": "EM",
}
BOOTED = {"currentTime": AT, "interval": 300, "status": "Accepted"}


def test_a_boot_says_who_the_station_is() -> None:
    assert observe("BootNotification", BOOT, BOOTED) == (Boot("Accepted", "Acme", "One", "box-1", "1.2.3", NOON),)
    assert observe("BootNotification", {**BOOT, "chargePointSerialNumber": "cp-1"}, BOOTED)[0].serial == "cp-1"  # type: ignore[union-attr]


@pytest.mark.parametrize("status", ["Pending", "Rejected"])
def test_a_boot_that_is_not_accepted_says_so(status: str) -> None:
    assert observe("BootNotification", BOOT, {**BOOTED, "status": status})[0].status == status  # type: ignore[union-attr]


def test_a_boot_answered_by_an_error_has_no_status() -> None:
    assert observe("BootNotification", BOOT, kind=4) == (Boot("", "Acme", "One", "box-1", "1.2.3"),)
    assert odd("BootNotification", BOOT, None) == (Boot("", "Acme", "One", "box-1", "1.2.3"),)


def test_a_boot_of_odd_types_is_a_boot_all_the_same() -> None:
    said = {"chargePointVendor": " Ac\0me\ud800 ", "chargePointModel": 5, "chargePointSerialNumber": "", "firmwareVersion": "x" * 999}
    (boot,) = odd("BootNotification", said, {"status": "Accepted", "currentTime": 7})
    assert boot == Boot("Accepted", "Acme?", "", "", "x" * 255, None)


def test_authorize() -> None:
    seen = observe("Authorize", {"idTag": "04AABB"}, {"idTagInfo": {"status": "Blocked"}})
    assert seen == (Authorized("04AABB", "Blocked"),)
    assert "04AABB" not in repr(seen)
    assert observe("Authorize", {"idTag": "04AABB"}, kind=4) == ()
    assert odd("Authorize", {"idTag": "04AABB", "connectorId": 1}, {})[0] == Authorized("04AABB", "")
    assert odd("Authorize", {"idTag": ""}, {}) == ()


# ------------------------------------------------------------------------------------------------ transactions

START = {"connectorId": 2, "idTag": "04AABB", "meterStart": 1500, "timestamp": AT}
STARTED = {"transactionId": 4711, "idTagInfo": {"status": "Accepted"}}


def test_a_start_with_its_answer_is_a_transaction_and_proof() -> None:
    seen = observe("StartTransaction", START, STARTED)
    assert seen == (
        TransactionSeen("started", "4711", evse=2, connector=1, at=NOON, at_text=AT, id_token="04AABB", meter_wh=1500),
        Proven("StartTransaction"),
    )
    assert "04AABB" not in repr(seen)


def test_a_start_answered_by_an_error_is_none() -> None:
    assert observe("StartTransaction", START, kind=4) == ()


@pytest.mark.parametrize("status", ["Invalid", "Blocked", "Expired", "ConcurrentTx"])
def test_a_refused_driver_has_a_transaction_all_the_same(status: str) -> None:
    start, _ = observe("StartTransaction", START, {**STARTED, "idTagInfo": {"status": status}})
    assert isinstance(start, TransactionSeen)
    assert (start.transaction_id, start.accepted) == ("4711", False)


def test_a_cpms_that_says_nothing_of_the_driver_has_not_refused() -> None:
    start, _ = odd("StartTransaction", START, {"transactionId": 5})
    assert isinstance(start, TransactionSeen)
    assert start.accepted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4711, "4711"),
        (0, "0"),
        (-1, "-1"),
        (2**63 - 1, "9223372036854775807"),
        ("12", "12"),
        (" 007 ", "7"),
        (3.0, "3"),
        (None, None),
        (True, None),
        ("", None),
        ("abc", None),
        ("1.5", None),
        (1.5, None),
        (1e300, None),
        (2**70, None),
        ([], None),
        ("9" * 30, None),
    ],
)
def test_transaction_ids_as_they_come(value: Any, text: str | None) -> None:
    assert transaction_id(value) == text


def test_a_start_without_a_readable_id_is_known_without_one() -> None:
    start, _ = odd("StartTransaction", START, {"idTagInfo": {"status": "Accepted"}})
    assert isinstance(start, TransactionSeen)
    assert start.transaction_id is None


def test_a_start_of_odd_types() -> None:
    start, _ = odd("StartTransaction", {"connectorId": "1", "idTag": 5, "meterStart": "12,5", "timestamp": "soon"}, STARTED)
    assert start == TransactionSeen("started", "4711", evse=1, connector=1, at=None, at_text="soon", id_token=None, meter_wh=12.5)


STOP = {
    "transactionId": 4711,
    "meterStop": 9000,
    "timestamp": AT,
    "idTag": "SOMEBODY",
    "reason": "EVDisconnected",
    "transactionData": [
        {"timestamp": "2026-01-10T11:00:00Z", "sampledValue": [{"value": "1500", "context": "Transaction.Begin"}]},
        {"timestamp": AT, "sampledValue": [{"value": "9.0", "unit": "kWh", "context": "Transaction.End"}]},
    ],
}


def test_a_stop_is_read_at_its_call_and_never_tells_who() -> None:
    assert observe("StopTransaction", STOP) == (
        TransactionSeen(
            "ended",
            "4711",
            evse=None,
            connector=None,
            at=NOON,
            at_text=AT,
            meter_wh=9000,
            reason="EVDisconnected",
            readings=(Reading(NOON - 3600, 1500, context="Transaction.Begin"), Reading(NOON, 9000, context="Transaction.End")),
        ),
    )


def test_a_stop_without_a_reason_was_local() -> None:
    (stop,) = observe("StopTransaction", {"transactionId": -1, "meterStop": 0, "timestamp": AT})
    assert stop == TransactionSeen("ended", "-1", evse=None, connector=None, at=NOON, at_text=AT, meter_wh=0, reason="Local")


# ------------------------------------------------------------------------------------------------ meters, status


def meter(*samples: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"timestamp": AT, "sampledValue": list(samples)}]


def test_meter_values_belong_to_a_connector() -> None:
    samples = (
        {"value": "16.0", "measurand": "Current.Import", "phase": "L1", "unit": "A"},
        {"value": "3680", "measurand": "Power.Active.Import", "unit": "W", "context": "Sample.Periodic", "location": "Outlet"},
        {"value": "54", "measurand": "SoC", "unit": "Percent", "location": "EV"},
    )
    call = {"connectorId": 1, "transactionId": 4711, "meterValue": meter(*samples)}
    assert observe("MeterValues", call) == (Metered(1, (Reading(NOON, None, 3680, (16.0, None, None), soc_percent=54),), "4711"),)


def test_connector_0_is_the_main_meter() -> None:
    (metered,) = observe("MeterValues", {"connectorId": 0, "meterValue": meter({"value": "5"})})
    assert metered == Metered(0, (Reading(NOON, 5),), None)


def test_meter_values_that_say_nothing_are_none() -> None:
    assert odd("MeterValues", {"connectorId": 1, "meterValue": meter()}) == ()


def test_meter_value_as_a_bare_object() -> None:
    (metered,) = odd("MeterValues", {"connectorId": 1, "meterValue": meter({"value": 5})[0]})
    assert metered == Metered(1, (Reading(NOON, 5),))


def test_status() -> None:
    call = {"connectorId": 1, "status": "SuspendedEV", "errorCode": "NoError", "timestamp": AT}
    assert observe("StatusNotification", call) == (StatusSeen(1, 1, "SuspendedEV", NOON),)
    assert observe("StatusNotification", {"connectorId": 0, "status": "Available", "errorCode": "NoError"}) == (
        StatusSeen(0, 1, "Available"),
    )


# ------------------------------------------------------------------------------------------------ who, what else, and nothing


@pytest.mark.parametrize(
    ("action", "call"),
    [
        ("MeterValues", {"meterValue": []}),
        ("MeterValues", {"connectorId": -1}),
        ("MeterValues", {"connectorId": True}),
        ("StatusNotification", {"connectorId": 1}),
        ("StartTransaction", {"idTag": "x"}),
        ("MeterValues", None),
        ("MeterValues", []),
        ("StopTransaction", "x"),
    ],
)
def test_rubbish_is_said_to_be_rubbish(action: str, call: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        odd(action, call, {})


@pytest.mark.parametrize("action", ["Heartbeat", "MeterValues", "StatusNotification", "StartTransaction", "StopTransaction"])
def test_proof_needs_no_payload(action: str) -> None:
    assert action in DIALECT.interest.proof
    assert DIALECT.observe(Exchange("station", action, b"", b"", 3, None), NOW) == (Proven(action),)
    assert DIALECT.observe(Exchange("station", action, b"", b"", 4, None), NOW) == ()
    assert DIALECT.observe(Exchange("cpms", action, b"", b"", 3, None), NOW) == ()


@pytest.mark.parametrize(
    ("action", "call", "answer"), [("StartTransaction", START, STARTED), ("BootNotification", BOOT, BOOTED), ("StopTransaction", STOP, {})]
)
def test_a_cpms_cannot_speak_for_a_station(action: str, call: Any, answer: Any) -> None:
    assert observe(action, call, answer, sender="cpms") == ()
    assert DIALECT.identify(exchange(action, call, answer, sender="cpms"), NOW) == ()


def test_what_nobody_asked_for_is_nothing() -> None:
    assert observe("DataTransfer", {"vendorId": "x"}) == ()


def test_interest() -> None:
    interest = DIALECT.interest
    assert interest.at_call == {"StopTransaction", "MeterValues", "StatusNotification"}
    assert interest.at_answer == {"BootNotification", "Authorize", "StartTransaction"} | CHARGING.actions | CHANGES.actions
    assert interest.promised == {"StartTransaction", "StopTransaction"}
    assert interest.guarded == {"SetChargingProfile", "ClearChargingProfile", "RemoteStartTransaction"}
    assert interest.promised <= interest.at_call | interest.at_answer


def test_profiles_are_another_module_s_to_read() -> None:
    profile = {
        "chargingProfileId": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxDefaultProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10.0}]},
    }
    asked = exchange("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": profile}, {"status": "Accepted"}, sender="cpms")
    seen = DIALECT.observe(asked, NOW)
    assert seen
    assert seen == CHARGING.observe(asked, {"connectorId": 1, "csChargingProfiles": profile}, {"status": "Accepted"})


def test_identification_reads_who_where_and_when_at_the_call() -> None:
    assert DIALECT.identification.at_call == DIALECT.identification.promised == {"StartTransaction"}
    assert DIALECT.identification.at_answer == CHANGES.actions, "the CPMS's, and nothing of the station's"
    assert not (DIALECT.identification.guarded | DIALECT.identification.proof)
    seen = DIALECT.identify(exchange("StartTransaction", START), NOW)
    assert seen == (TransactionSeen("started", None, evse=2, connector=1, at=NOON, at_text=AT, id_token="04AABB"),)


@pytest.mark.parametrize(("action", "call"), [("StopTransaction", STOP), ("BootNotification", BOOT), ("Authorize", {"idTag": "A"})])
def test_identification_reads_nothing_else(action: str, call: Any) -> None:
    assert DIALECT.identify(exchange(action, call), NOW) == ()
    assert DIALECT.identify(Exchange("station", "StartTransaction", b"", b"", 3, None), NOW) == ()
