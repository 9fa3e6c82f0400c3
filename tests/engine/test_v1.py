"""The engine's API: what we say fits its contract; what it says is believed whole, or refused with the field."""

from __future__ import annotations

from typing import Any
from uuid import uuid5

import pytest
from contract import API, fits
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.v1 import SPACE, V1, derived
from broker.model.basics import Key
from broker.model.records import OpenTransaction, Outcome, Record
from broker.settings import EngineSettings, EvseSettings

KEY, SITE, EVSE = Key("acme", "CS-7"), "hq", EvseSettings(2, "P-07", max_amps=16.0, phases=3)
SETTINGS = EngineSettings("http://127.0.0.1:1", "id", "secret")
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
CODEC = V1(SETTINGS)
RUNNING = OpenTransaction("4f0c3c1e-0000-5000-8000-000000000001", 2, 1, NOW, "17", "04A2B3")


def measured(**more: Any) -> Record:
    return CODEC.measurement(KEY, SITE, EVSE, **{"at": NOW, "energy_wh": 51230.0, "power_w": 10950.0, **more})


def told(transaction: OpenTransaction = RUNNING, codec: V1 = CODEC, evse: EvseSettings = EVSE, **more: Any) -> Record:
    return codec.transaction(KEY, SITE, evse, transaction, **{"state": "Started", "at": NOW, **more})


# ---------------------------------------------------------------- out


def test_the_contract_itself_sees_what_is_wrong() -> None:
    assert not fits("Measurement", {**measured().body, "energy": 1})
    assert not fits("Transaction", {**told().body, "timestamp": "yesterday"})


def test_a_measurement() -> None:
    record = measured()
    assert record.body == {
        "site_id": "hq",
        "asset_id": "P-07",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "energyValue": 51230.0,
        "powerValue": 10950.0,
    }
    assert record.kind == "measurement"
    assert fits("Measurement", record.body)


def test_a_measurement_with_phases_and_state_of_charge() -> None:
    body = measured(currents_a=(16.0, None, 0.0), voltages_v=(231.5, 230.0, None), soc_percent=80.5).body
    assert body["currentStateOfCharge"] == 80.5
    assert body["pins"] == {
        "pin1": {"currentValue": 16.0, "powerValue": 3704.0, "voltageValue": 231.5},
        "pin3": {"currentValue": 0.0, "powerValue": 0.0},
    }
    assert fits("Measurement", body)


@pytest.mark.parametrize("soc", [None, -1.0, 100.1])
def test_what_is_not_known_is_left_out(soc: float | None) -> None:
    body = measured(soc_percent=soc, currents_a=(None, None, None), voltages_v=(230.0, 230.0, 230.0)).body
    assert body.keys() == {"site_id", "asset_id", "timestamp", "energyValue", "powerValue"}


def test_each_phase_says_what_it_carries_to_a_tenth_of_a_watt() -> None:
    said = measured(currents_a=(6.0001, 7.0, 8.0), voltages_v=(231.277, None, 229.0)).body["pins"]
    assert said == {
        "pin1": {"currentValue": 6.0, "powerValue": 1387.7, "voltageValue": 231.28},
        "pin2": {"currentValue": 7.0, "powerValue": 1610.0},
        "pin3": {"currentValue": 8.0, "powerValue": 1832.0, "voltageValue": 229.0},
    }


@pytest.mark.parametrize("soc", [0.0, 100.0])
def test_an_empty_and_a_full_battery_are_known(soc: float) -> None:
    assert measured(soc_percent=soc).body["currentStateOfCharge"] == soc


def test_a_single_phase_socket_has_one_pin() -> None:
    body = CODEC.measurement(
        KEY, SITE, EvseSettings(1, "P-1", phases=1), at=NOW, energy_wh=1, power_w=1, currents_a=(6.0, 0.0, 0.0), voltages_v=()
    ).body
    assert list(body["pins"]) == ["pin1"]


def test_the_asset_may_be_spelled_otherwise() -> None:
    codec = V1(EngineSettings("http://127.0.0.1:1", "id", "secret", asset_key="assetId"))
    body = codec.measurement(KEY, SITE, EVSE, at=NOW, energy_wh=1, power_w=1).body
    assert body["assetId"] == "P-07"
    assert "asset_id" not in body


def test_a_transaction_that_began() -> None:
    record = told(soc_percent=35.0)
    assert record.body == {
        "site_id": "hq",
        "assetId": "P-07",
        "transactionId": RUNNING.uid,
        "timestamp": "2026-01-01T00:00:00.000Z",
        "transactionState": "Started",
        "startTime": "2026-01-01T00:00:00.000Z",
        "stopTime": None,
        "driverId": "04A2B3",
        "maxPower": 11040.0,
        "initialStateOfCharge": 35.0,
    }
    assert fits("Transaction", record.body)


@pytest.mark.parametrize("state", ["Started", "Updated", "SuspendedEV", "Ended"])
@pytest.mark.parametrize("dc", [False, True])
def test_every_state_fits_the_contract(state: str, dc: bool) -> None:
    transaction = OpenTransaction("u", 2, 1, NOW, phases=3)
    body = told(transaction, evse=EvseSettings(2, "P"), state=state, dc=dc, stopped_at=NOW + 9 if state == "Ended" else None).body
    assert fits("Transaction", body)
    assert body["transactionState"] == state
    assert body["stopTime"] == ("2026-01-01T00:00:09.000Z" if state == "Ended" else None)
    assert body.get("type") == ("dc" if dc else None)
    assert body.get("noChargingPhases") == (None if dc else 3)
    assert "driverId" not in body
    assert "maxPower" not in body


def test_our_own_pause_is_never_the_cars() -> None:
    assert told(state="SuspendedEVSE").body["transactionState"] == "Updated"


def test_a_dc_station_is_not_held_to_amps() -> None:
    assert "maxPower" not in told(dc=True).body


def test_state_of_charge_is_initial_only_at_the_start() -> None:
    assert "initialStateOfCharge" not in told(state="Updated", soc_percent=35.0).body


def test_an_identification_says_who_where_and_when_and_nothing_else() -> None:
    record = CODEC.identification(KEY, SITE, EVSE, RUNNING, at=NOW)
    assert record.body == {
        "site_id": "hq",
        "assetId": "P-07",
        "transactionId": RUNNING.uid,
        "driverId": "04A2B3",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "evse": 2,
        "connector": 1,
    }
    assert fits("Identification", record.body)


@pytest.mark.parametrize("detail", ["", "limit: lower"])
def test_an_outcome(detail: str) -> None:
    record = CODEC.outcome("acme", Outcome("s-1", "P-07", "refused", NOW, detail))
    assert fits("Outcome", record.body)
    assert record.body.get("detail", "") == detail


def test_no_record_shows_who_charges_in_its_repr() -> None:
    assert "04A2B3" not in repr(told()) + repr(CODEC.identification(KEY, SITE, EVSE, RUNNING, at=NOW))


# ---------------------------------------------------------------- keys


def test_the_same_observation_has_the_same_key_for_ever() -> None:
    """These texts must never change: after an upgrade, what is told again would be stored again."""
    assert derived("transaction", "acme", "CS-7", 1) == "c8fa8718-b8cf-59cc-a094-ce90a03ab5ea"
    assert measured().key == V1(SETTINGS).measurement(KEY, SITE, EVSE, at=NOW, energy_wh=9, power_w=9).key
    assert len(measured().key) <= 64


@given(st.lists(st.text() | st.none() | st.integers() | st.floats(), max_size=6))
def test_an_id_of_ours_is_a_uuid_of_version_5(parts: list[object]) -> None:
    name = "\x1f".join(map(str, parts)).encode("utf-8", "replace").decode()
    assert derived(*parts) == str(uuid5(SPACE, name))


def test_other_observations_have_other_keys() -> None:
    other = OpenTransaction("other", 2, 1, NOW)
    records = [
        measured(),
        measured(at=NOW + 0.001),
        CODEC.measurement(KEY, SITE, EvseSettings(1, "P-08"), at=NOW, energy_wh=1, power_w=1),
        CODEC.measurement(Key("zeta", "CS-7"), SITE, EVSE, at=NOW, energy_wh=1, power_w=1),
        told(),
        told(other),
        told(state="Ended"),
        told(state="Updated"),
        told(state="SuspendedEV"),
        told(state="Updated", at=NOW + 1),
        told(OpenTransaction(RUNNING.uid, 2, 1, NOW, "17", "04A2B3", phases=1), state="Updated"),
        CODEC.identification(KEY, SITE, EVSE, RUNNING, at=NOW),
        CODEC.outcome("acme", Outcome("s", "P", "accepted", NOW)),
        CODEC.outcome("acme", Outcome("s", "P", "lapsed", NOW)),
        CODEC.outcome("acme", Outcome("t", "P", "lapsed", NOW)),
    ]
    assert len({record.key for record in records}) == len(records)


def test_an_end_told_twice_is_one_end() -> None:
    first, second = (told(state="Ended", at=NOW + n, stopped_at=NOW + n) for n in (1, 2))
    assert first.key == second.key


def test_any_text_has_an_id() -> None:
    assert derived("\ud800") == derived("\ud800")


# ---------------------------------------------------------------- paths


def test_every_path_is_in_the_contract() -> None:
    kinds = ("login", "site", "measurement", "transaction", "identification", "schedules", "outcome", "batch")
    assert {CODEC.path(kind, "{site_id}") for kind in kinds} == set(API["paths"])
    assert CODEC.path("schedules", "hq") == "/v1/sites/hq/schedules"


def test_paths_can_be_configured() -> None:
    paths = {"measurements": "/m", "schedules": "/s/{site_id}", "login": "/l"}
    codec = V1(EngineSettings("http://127.0.0.1:1", "id", "secret", paths=paths))
    assert [codec.path(kind, "hq") for kind in ("measurement", "schedules", "login", "outcome")] == ["/m", "/s/hq", "/l", "/v1/outcomes"]
