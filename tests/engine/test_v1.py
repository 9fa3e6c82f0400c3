"""The engine's API: what we say fits its contract; what it says is believed whole, or refused with the field."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from uuid import uuid5

import jsonschema_rs
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from broker.engine.v1 import MOST_STEPS, SPACE, V1, derived
from broker.model.basics import Key
from broker.model.records import OpenTransaction, Outcome, Record
from broker.model.schedules import Step
from broker.ocpp.times import text
from broker.settings import EngineSettings, EvseSettings

API = yaml.safe_load((Path(__file__).parents[2] / "docs" / "engine-api.yaml").read_text(encoding="utf-8"))
KEY, SITE, EVSE = Key("acme", "CS-7"), "hq", EvseSettings(2, "P-07", max_amps=16.0, phases=3)
SETTINGS = EngineSettings("http://127.0.0.1:1", "id", "secret")
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
CODEC = V1(SETTINGS)
RUNNING = OpenTransaction("4f0c3c1e-0000-5000-8000-000000000001", 2, 1, NOW, "17", "04A2B3")


def fits(schema: str, body: Any) -> bool:
    document = {**API["components"]["schemas"][schema], "components": API["components"], "unevaluatedProperties": False}
    return bool(jsonschema_rs.validator_for(document, validate_formats=True).is_valid(body))


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


# ---------------------------------------------------------------- schedules


def schedule(**more: Any) -> dict[str, Any]:
    return {
        "id": "s-1",
        "asset_id": "P-07",
        "issued_at": text(NOW),
        "valid_until": text(NOW + 3600),
        "periods": [{"start": text(NOW), "limit": 11000}, {"start": text(NOW + 900), "limit": 0}],
        **more,
    }


def parse(*schedules: Any) -> Any:
    return CODEC.parse_schedules({"schedules": list(schedules), "cursor": "7"}, {"P-07", "P-08"}, NOW)


def test_a_schedule_is_taken_whole() -> None:
    assert fits("Schedule", schedule())
    parsed = parse(schedule(unit="A", phases=3, transactionId="u-1"))
    (taken,) = parsed.schedules
    assert (parsed.cursor, parsed.refused) == ("7", ())
    assert (taken.id, taken.asset, taken.unit, taken.phases, taken.transaction) == ("s-1", "P-07", "A", 3, "u-1")
    assert (taken.issued_at, taken.valid_until) == (NOW, NOW + 3600)
    assert taken.steps == (Step(NOW, 11000.0), Step(NOW + 900, 0.0))


def test_what_is_left_out_has_its_default() -> None:
    (taken,) = parse(schedule()).schedules
    assert (taken.unit, taken.phases, taken.transaction) == ("W", None, None)


def test_offsets_are_understood() -> None:
    (taken,) = parse(schedule(valid_until="2026-01-01t03:30:00.5+02:30")).schedules
    assert taken.valid_until == NOW + 3600.5


def periods(*pairs: tuple[float, Any]) -> list[dict[str, Any]]:
    return [{"start": text(at), "limit": limit} for at, limit in pairs]


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("id", {"id": ""}),
    ("id", {"id": "x" * 65}),
    ("id", {"id": 7}),
    ("id", {"id": "\ud800"}),
    ("asset_id", {"asset_id": "P-99"}),
    ("asset_id", {"asset_id": ["P-07"]}),
    ("unit", {"unit": "kW"}),
    ("unit", {"unit": None}),
    ("unit", {"unit": {}}),
    ("phases", {"phases": 0}),
    ("phases", {"phases": 4}),
    ("phases", {"phases": True}),
    ("phases", {"phases": 1.5}),
    ("transactionId", {"transactionId": 5}),
    ("transactionId", {"transactionId": "\udfff"}),
    ("issued_at", {"issued_at": None}),
    ("valid_until", {"valid_until": text(NOW)}),
    ("valid_until", {"valid_until": text(NOW - 1)}),
    ("valid_until", {"valid_until": text(NOW), "periods": periods((NOW - 900, 1))}),
    ("valid_until", {"valid_until": "soon"}),
    ("valid_until", {"valid_until": "2026-01-01T01:00:00"}),
    ("valid_until", {"valid_until": "2026-01-01 01:00:00Z"}),
    ("valid_until", {"valid_until": "9999-12-31T23:59:59-01:00"}),
    ("valid_until", {"periods": periods((NOW + 3600, 1))}),
    ("periods", {"periods": []}),
    ("periods", {"periods": None}),
    ("periods", {"periods": periods(*((NOW + n, 1) for n in range(MOST_STEPS + 1)))}),
    ("periods[1]", {"periods": [*periods((NOW, 1)), "later"]}),
    ("periods[0].start", {"periods": [{"limit": 5}]}),
    ("periods[0].start", {"periods": periods((NOW + 48 * 3600 + 1, 1)), "valid_until": text(NOW + 60 * 3600)}),
    ("periods[1].start", {"periods": periods((NOW, 1), (NOW, 2))}),
    ("periods[2].start", {"periods": periods((NOW, 1), (NOW + 2, 2), (NOW + 1, 3))}),
    ("periods[0].limit", {"periods": [{"start": text(NOW)}]}),
    ("periods[0].limit", {"periods": periods((NOW, float("nan")))}),
    ("periods[0].limit", {"periods": periods((NOW, float("inf")))}),
    ("periods[0].limit", {"periods": periods((NOW, float("-inf")))}),
    ("periods[0].limit", {"periods": periods((NOW, 1_000_001))}),
    ("periods[0].limit", {"periods": periods((NOW, 10**400))}),
    ("periods[0].limit", {"periods": periods((NOW, -1))}),
    ("periods[0].limit", {"periods": periods((NOW, "16"))}),
    ("periods[0].limit", {"periods": periods((NOW, True))}),
    ("periods[1].limit", {"periods": periods((NOW, 1), (NOW + 1, None))}),
]


@pytest.mark.parametrize(("field", "wrong"), WRONG)
def test_a_wrong_schedule_is_refused_whole_with_its_field_and_the_others_survive(field: str, wrong: dict[str, Any]) -> None:
    good = schedule(id="s-2", asset_id="P-08")
    parsed = parse(schedule(**wrong), good)
    assert [taken.id for taken in parsed.schedules] == ["s-2"]
    (outcome,) = parsed.refused
    assert outcome.status == "refused"
    assert outcome.detail.startswith(f"{field}: "), outcome.detail
    assert fits("Outcome", CODEC.outcome("acme", outcome).body)


@pytest.mark.parametrize("limit", [0, 1_000_000, 0.1])
def test_limits_that_are_just_right(limit: float) -> None:
    assert parse(schedule(periods=periods((NOW, limit)))).schedules[0].steps[0].limit == limit


def test_as_many_periods_as_are_legal_starting_as_late_as_is_legal() -> None:
    many = periods(*((NOW + 48 * 3600 + n, n) for n in range(MOST_STEPS)))
    (taken,) = parse(schedule(periods=many, valid_until=text(NOW + 60 * 3600))).schedules
    assert len(taken.steps) == MOST_STEPS == 1024


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"schedules": []},
        {"schedules": {}, "cursor": "1"},
        {"schedules": [], "cursor": 1},
        {"schedules": [], "cursor": "x" * 1025},
        {"schedules": [], "cursor": "\ud800"},
        {"schedules": [3], "cursor": "1"},
    ],
)
def test_an_answer_that_is_none_is_said_in_one_line(body: Any) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        CODEC.parse_schedules(body, {"P-07"}, NOW)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.just("\ud800")
    | st.just(text(NOW + 5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
spots = st.sampled_from(
    ["id", "asset_id", "unit", "phases", "transactionId", "issued_at", "valid_until", "periods", "start", "limit", "all"]
)


@given(st.lists(st.tuples(spots, anything), max_size=4), st.booleans())
@effort(max_examples=200, deadline=None)
def test_whatever_the_engine_says_is_taken_or_refused_or_a_value_error(changes: list[tuple[str, Any]], gone: bool) -> None:
    one = copy.deepcopy(schedule())
    for spot, value in changes:
        if spot == "all":
            one = value if isinstance(value, dict) else one
        elif spot in ("start", "limit") and isinstance(one.get("periods"), list) and one["periods"] and isinstance(one["periods"][0], dict):
            one["periods"][0][spot] = value
        elif gone:
            one.pop(spot, None)
        else:
            one[spot] = value
    parsed = parse(one)
    assert len(parsed.schedules) + len(parsed.refused) == 1
    for taken in parsed.schedules:
        assert taken.asset in ("P-07", "P-08")
        assert taken.valid_until > NOW
        assert all(0 <= step.limit <= 1e6 for step in taken.steps)
        assert list(taken.steps) == sorted(set(taken.steps))
        assert all(text(step.at) for step in taken.steps)
    for outcome in parsed.refused:
        assert fits("Outcome", json.loads(json.dumps(CODEC.outcome("acme", outcome).body)))


@given(anything)
@effort(max_examples=100, deadline=None)
def test_any_answer_at_all(body: Any) -> None:
    try:
        parsed = CODEC.parse_schedules(body, {"P-07"}, NOW)
    except ValueError:
        return
    assert parsed.schedules == ()
