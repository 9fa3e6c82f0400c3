"""OCPP 2.0.1, message by message: the frames are real ones, checked against the standard's own schemas."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from standard import AT, NOON, PROFILE_OF_2
from standard import exchange as exchange_in
from standard import observe as observe_in

from broker.model.basics import Instant
from broker.model.observations import Authorized, Boot, Metered, Proven, Reading, StatusSeen, TransactionSeen
from broker.model.traffic import Exchange
from broker.ocpp.changes2 import CHANGES
from broker.ocpp.charging2 import CHARGING_201
from broker.ocpp.v201 import V201

NOW = Instant(1000.0, NOON + 1)
DIALECT = V201()
exchange = partial(exchange_in, "ocpp2.0.1")
observe = partial(observe_in, "ocpp2.0.1")
odd = partial(observe, standard=False)
"""Of frames that the standard would not have, and stations do."""


BOOT = {"reason": "PowerUp", "chargingStation": {"model": "Two", "vendorName": "Acme", "serialNumber": "S-1", "firmwareVersion": "2.0"}}
BOOTED = {"currentTime": AT, "interval": 300, "status": "Accepted"}


def test_a_boot_says_who_the_station_is() -> None:
    assert observe("BootNotification", BOOT, BOOTED) == (Boot("Accepted", "Acme", "Two", "S-1", "2.0", NOON),)
    assert observe("BootNotification", BOOT, {**BOOTED, "status": "Rejected"}) == (Boot("Rejected", "Acme", "Two", "S-1", "2.0", NOON),)
    assert observe("BootNotification", BOOT, kind=4) == (Boot("", "Acme", "Two", "S-1", "2.0"),)
    assert odd("BootNotification", {"chargingStation": "Acme"}, BOOTED) == (Boot("Accepted", clock=NOON),)


def test_authorize() -> None:
    call = {"idToken": {"idToken": "04AABB", "type": "ISO14443"}}
    seen = observe("Authorize", call, {"idTokenInfo": {"status": "Accepted"}})
    assert seen == (Authorized("04AABB", "Accepted"),)
    assert "04AABB" not in repr(seen)
    assert observe("Authorize", call, kind=4) == ()
    assert observe("Authorize", {"idToken": {"idToken": "", "type": "NoAuthorization"}}, {"idTokenInfo": {"status": "Accepted"}}) == ()


# ------------------------------------------------------------------------------------------------ transactions

BEGAN = {
    "eventType": "Started",
    "timestamp": AT,
    "triggerReason": "Authorized",
    "seqNo": 0,
    "transactionInfo": {"transactionId": "tx-1", "chargingState": "EVConnected"},
    "evse": {"id": 2, "connectorId": 1},
    "idToken": {"idToken": "04AABB", "type": "ISO14443"},
    "meterValue": [{"timestamp": AT, "sampledValue": [{"value": 1500.0, "context": "Transaction.Begin"}]}],
}
SEEN = TransactionSeen(
    "started",
    "tx-1",
    evse=2,
    connector=1,
    at=NOON,
    at_text=AT,
    id_token="04AABB",
    meter_wh=1500,
    charging_state="EVConnected",
    seq_no=0,
    readings=(Reading(NOON, 1500, context="Transaction.Begin"),),
)


def event(**other: Any) -> TransactionSeen:
    call = {name: value for name, value in {**BEGAN, **other}.items() if value is not None}
    (seen,) = observe("TransactionEvent", call)
    assert isinstance(seen, TransactionSeen)
    return seen


def test_a_transaction_begins() -> None:
    assert event() == SEEN
    assert "04AABB" not in repr(event())


def test_an_update_tells_state_phases_and_readings() -> None:
    samples = [
        {"value": 10.0, "measurand": "Current.Import", "phase": "L1"},
        {"value": 2.3, "measurand": "Power.Active.Import", "unitOfMeasure": {"unit": "kW"}, "location": "Outlet"},
        {"value": 15, "unitOfMeasure": {"unit": "Wh", "multiplier": 2}},
    ]
    seen = event(
        eventType="Updated",
        triggerReason="MeterValuePeriodic",
        seqNo=7,
        offline=True,
        numberOfPhasesUsed=1,
        evse=None,
        idToken=None,
        transactionInfo={"transactionId": "tx-1", "chargingState": "Charging"},
        meterValue=[{"timestamp": AT, "sampledValue": samples}],
    )
    assert seen == TransactionSeen(
        "updated",
        "tx-1",
        evse=None,
        connector=None,
        at=NOON,
        at_text=AT,
        charging_state="Charging",
        seq_no=7,
        offline=True,
        phases=1,
        readings=(Reading(NOON, 1500, 2300, (10, None, None)),),
    )


HISTORY = [
    {"timestamp": "2026-01-10T11:00:00Z", "sampledValue": [{"value": 1500, "context": "Transaction.Begin"}]},
    {"timestamp": "2026-01-10T11:30:00Z", "sampledValue": [{"value": 5000}]},
    {"timestamp": AT, "sampledValue": [{"value": 9000, "context": "Transaction.End"}]},
]


def test_an_end_tells_its_register_out_of_the_whole_history_and_never_who() -> None:
    about = {"transactionId": "tx-1", "stoppedReason": "EVDisconnected"}
    seen = event(eventType="Ended", triggerReason="EVDeparted", transactionInfo=about, meterValue=HISTORY)
    assert (seen.phase, seen.id_token, seen.reason, seen.meter_wh) == ("ended", None, "EVDisconnected", 9000)
    assert [r.energy_wh for r in seen.readings] == [1500, 5000, 9000]


def test_registers_without_a_context_of_their_own() -> None:
    plain = [{"timestamp": f"2026-01-10T1{n}:00:00Z", "sampledValue": [{"value": 100 * n}]} for n in range(3)]
    assert event(meterValue=plain).meter_wh == 0
    assert event(eventType="Updated", meterValue=plain).meter_wh is None
    assert event(eventType="Ended", meterValue=plain).meter_wh == 200
    assert event(eventType="Ended", meterValue=None).meter_wh is None


def test_an_end_without_a_reason_was_local() -> None:
    assert event(eventType="Ended").reason == "Local"
    assert event(eventType="Updated").reason is None


@pytest.mark.parametrize(
    "other",
    [
        {"eventType": "Ended", "triggerReason": "Deauthorized"},
        {"eventType": "Updated", "triggerReason": "StopAuthorized"},
        {"eventType": "Updated", "triggerReason": "RemoteStop"},
        {"idToken": {"idToken": "", "type": "NoAuthorization"}},
        {"idToken": {"idToken": "x", "type": "NoAuthorization"}},
        {"idToken": {"idToken": " ", "type": "Central"}},
        {"idToken": None},
    ],
)
def test_tokens_that_name_no_driver(other: dict[str, Any]) -> None:
    assert event(**other).id_token is None


def test_a_driver_may_be_named_later() -> None:
    assert event(eventType="Updated", seqNo=3).id_token == "04AABB"


def test_an_evse_may_have_no_connector_yet() -> None:
    seen = event(evse={"id": 1})
    assert (seen.evse, seen.connector) == (1, None)


@pytest.mark.parametrize(
    ("other", "field", "value"),
    [
        ({"evse": {"id": 0}}, "evse", None),
        ({"evse": 3}, "evse", None),
        ({"seqNo": "5"}, "seq_no", 5),
        ({"seqNo": None}, "seq_no", None),
        ({"offline": "yes"}, "offline", False),
        ({"numberOfPhasesUsed": 0}, "phases", None),
        ({"numberOfPhasesUsed": 9}, "phases", None),
        ({"timestamp": 5}, "at_text", ""),
        ({"idToken": "04AABB"}, "id_token", None),
        ({"triggerReason": []}, "id_token", "04AABB"),
        ({"meterValue": HISTORY[0]}, "meter_wh", 1500),
    ],
)
def test_events_of_odd_types(other: dict[str, Any], field: str, value: Any) -> None:
    (seen,) = odd("TransactionEvent", {**BEGAN, **other})
    assert getattr(seen, field) == value


@pytest.mark.parametrize(
    "other",
    [
        {"eventType": "Paused"},
        {"eventType": []},
        {"transactionInfo": {}},
        {"transactionInfo": None},
        {"transactionInfo": {"transactionId": "x" * 300}},
    ],
)
def test_an_event_of_no_known_kind_or_of_no_transaction_is_rubbish(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="TransactionEvent"):
        odd("TransactionEvent", {**BEGAN, **other})


# ------------------------------------------------------------------------------------------------ meters, status


def test_meter_values_belong_to_an_evse() -> None:
    call = {"evseId": 0, "meterValue": [{"timestamp": AT, "sampledValue": [{"value": 5}]}]}
    assert observe("MeterValues", call) == (Metered(0, (Reading(NOON, 5),)),)
    assert odd("MeterValues", {"evseId": 1, "meterValue": []}) == ()


def test_status() -> None:
    call = {"timestamp": AT, "connectorStatus": "Occupied", "evseId": 1, "connectorId": 2}
    assert observe("StatusNotification", call) == (StatusSeen(1, 2, "Occupied", NOON),)


@pytest.mark.parametrize(
    ("action", "call"), [("MeterValues", {}), ("StatusNotification", {"evseId": 1, "connectorId": 1}), ("TransactionEvent", None)]
)
def test_rubbish_is_said_to_be_rubbish(action: str, call: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        odd(action, call, {})


# ------------------------------------------------------------------------------------------------ who, what else, and nothing


@pytest.mark.parametrize("action", ["Heartbeat", "MeterValues", "StatusNotification", "TransactionEvent"])
def test_proof_needs_no_payload(action: str) -> None:
    assert action in DIALECT.interest.proof
    assert DIALECT.observe(Exchange("station", action, b"", b"", 3, None), NOW) == (Proven(action),)


def test_a_cpms_cannot_speak_for_a_station() -> None:
    assert observe("TransactionEvent", BEGAN, sender="cpms") == ()
    assert DIALECT.identify(exchange("TransactionEvent", BEGAN, sender="cpms"), NOW) == ()


def test_interest() -> None:
    interest = DIALECT.interest
    told = {"NotifyChargingLimit", "ClearedChargingLimit", "ReportChargingProfiles", "NotifyReport", "NotifyEvent"}
    assert interest.at_call == {"TransactionEvent", "MeterValues", "StatusNotification"} | told
    assert interest.at_answer == {"BootNotification", "Authorize"} | CHARGING_201.actions | CHANGES.actions
    assert interest.promised == {"TransactionEvent"}
    assert interest.guarded == {"SetChargingProfile", "ClearChargingProfile", "RequestStartTransaction"}


def test_profiles_are_another_module_s_to_read() -> None:
    call, taken = {"evseId": 1, "chargingProfile": PROFILE_OF_2}, {"status": "Accepted"}
    asked = exchange("SetChargingProfile", call, taken, sender="cpms")
    seen = DIALECT.observe(asked, NOW)
    assert seen
    assert seen == CHARGING_201.observe(asked, call, taken)


def test_identification_reads_who_where_and_when_and_nothing_else() -> None:
    assert DIALECT.identification.at_call == DIALECT.identification.promised == {"TransactionEvent"}
    assert DIALECT.identification.at_answer == CHANGES.actions, "the CPMS's, and nothing of the station's"
    assert not (DIALECT.identification.guarded | DIALECT.identification.proof)
    call = {**BEGAN, "offline": True, "numberOfPhasesUsed": 3}
    seen = DIALECT.identify(exchange("TransactionEvent", call), NOW)
    assert seen == (replace(SEEN, offline=True, meter_wh=None, charging_state=None, readings=()),)
    ended = DIALECT.identify(exchange("TransactionEvent", {**BEGAN, "eventType": "Ended"}), NOW)
    assert isinstance(ended[0], TransactionSeen)
    assert ended[0].id_token is None
    assert DIALECT.identify(exchange("BootNotification", BOOT, BOOTED), NOW) == ()
    assert DIALECT.identify(Exchange("station", "TransactionEvent", b"", b"", 3, None), NOW) == ()
