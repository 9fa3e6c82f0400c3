"""OCPP 2.1: what is new in it to the tap, and that the rest is 2.0.1's."""

from __future__ import annotations

from functools import partial

from standard import AT, NOON, PROFILE_OF_2
from standard import exchange as exchange_in
from standard import observe as observe_in

from broker.model.basics import Instant
from broker.model.observations import Metered, Reading, TransactionSeen
from broker.ocpp.changes2 import CHANGES
from broker.ocpp.charging2 import CHARGING_21
from broker.ocpp.v21 import V21

DIALECT = V21()
exchange = partial(exchange_in, "ocpp2.1")
observe = partial(observe_in, "ocpp2.1")


def test_it_is_2_1_with_a_charging_of_its_own() -> None:
    assert DIALECT.name == "ocpp2.1"
    assert DIALECT.charging is CHARGING_21
    assert DIALECT.interest.at_answer == {"BootNotification", "Authorize"} | CHARGING_21.actions | CHANGES.actions
    assert DIALECT.identification.at_call == {"TransactionEvent"}


def test_a_transaction_with_what_2_1_adds() -> None:
    call = {
        "eventType": "Updated",
        "timestamp": AT,
        "triggerReason": "ChargingStateChanged",
        "seqNo": 4,
        "evseSleep": False,
        "transactionInfo": {"transactionId": "tx-1", "chargingState": "SuspendedEV", "operationMode": "ChargingOnly", "tariffId": "t"},
        "evse": {"id": 1, "connectorId": 1},
        "idToken": {"idToken": "V" * 255, "type": "EVCCID"},
    }
    (seen,) = observe("TransactionEvent", call)
    assert isinstance(seen, TransactionSeen)
    assert (seen.transaction_id, seen.charging_state, seen.id_token) == ("tx-1", "SuspendedEV", "V" * 255)


def test_measurands_of_2_1() -> None:
    sampled = [
        {"value": 62, "measurand": "Display.PresentSOC", "location": "EV"},
        {"value": 32, "measurand": "Current.Import.Offered"},
        {"value": 90, "measurand": "Display.TargetSOC"},
        {"value": 7400, "measurand": "Power.Active.Import", "location": "Upstream"},
    ]
    call = {"evseId": 1, "meterValue": [{"timestamp": AT, "sampledValue": sampled}]}
    assert observe("MeterValues", call) == (Metered(1, (Reading(NOON, power_w=7400, soc_percent=62, offered_a=32),)),)


def test_profiles_are_another_module_s_to_read() -> None:
    call, taken = {"evseId": 1, "chargingProfile": PROFILE_OF_2}, {"status": "Accepted"}
    asked = exchange("SetChargingProfile", call, taken, sender="cpms")
    seen = DIALECT.observe(asked, Instant(1000.0, NOON))
    assert seen
    assert seen == CHARGING_21.observe(asked, call, taken)
