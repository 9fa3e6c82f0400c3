"""Which profiles a station keeps: each version's refusals, replacements and clearings."""

from __future__ import annotations

from typing import Any

import pytest

from broker.sim.held import Held, read

NOW = 1_767_225_600.0


def said(id: int, purpose: str = "TxDefaultProfile", level: int = 0, **more: Any) -> dict[str, Any]:
    """2.x's chargingProfile; `schedule` and `period` add to their parts."""
    period = {"startPeriod": 0, "limit": 16.0} | more.pop("period", {})
    schedule = {"id": 1, "startSchedule": "2026-01-01T00:00:00Z", "chargingRateUnit": "A", "chargingSchedulePeriod": [period]}
    schedule |= more.pop("schedule", {})
    kind = {"chargingProfilePurpose": purpose, "chargingProfileKind": "Absolute", "stackLevel": level}
    return {"id": id, **kind, "chargingSchedule": [schedule], **more}


def held(version: str = "ocpp2.0.1", **more: Any) -> Held:
    return Held(version, (1, 2), **more)


def put(into: Held, evse: int, what: dict[str, Any], running: dict[int, str] | None = None) -> str:
    try:
        return into.set(read(evse, what, NOW), running or {})
    except ValueError as why:
        return str(why)


@pytest.mark.parametrize(
    ("evse", "what", "why"),
    [
        (1, said(1), ""),
        (0, said(1, "ChargingStationMaxProfile"), ""),
        (1, said(1, "ChargingStationMaxProfile"), "InvalidValue"),
        (0, said(1, "TxProfile", transactionId="t"), "InvalidValue"),
        (3, said(1), "InvalidValue"),
        (1, said(1, "TxProfile", transactionId="t"), ""),
        (1, said(1, "TxProfile", transactionId="other"), "TxNotFound"),
        (2, said(1, "TxProfile", transactionId="t"), "TxNotFound"),
        (1, said(1, "TxProfile"), "MissingParam"),
        (0, said(1, "ChargingStationExternalConstraints"), "UnsupportedPurpose"),
        (1, said(1, level=9), "InvalidStackLevel"),
        (1, said(1, chargingProfileKind="Dynamic"), "UnsupportedKind"),
        (1, said(1, chargingProfileKind="Relative"), "InvalidProfile"),
        (1, said(1, chargingProfileKind="Recurring"), "MissingParam"),
        (1, said(1, chargingSchedule=[]), "InvalidSchedule"),
        (1, said(1, schedule={"chargingSchedulePeriod": [{"startPeriod": 5, "limit": 6}]}), "InvalidSchedule"),
        (1, said(1, schedule={"chargingSchedulePeriod": [{"startPeriod": s, "limit": 6} for s in (0, 9, 9)]}), "InvalidSchedule"),
        (1, said(1, schedule={"chargingSchedulePeriod": [{"startPeriod": s, "limit": 6} for s in range(25)]}), "TooManyElements"),
        (1, said(1, period={"operationMode": "Idle"}), "InvalidOperationMode"),
    ],
)
def test_what_a_2_x_station_refuses(evse: int, what: dict[str, Any], why: str) -> None:
    station = held()
    assert put(station, evse, what, {1: "t"}) == why
    assert len(station.profiles) == (not why)


def test_an_absolute_profile_of_2_x_needs_its_start() -> None:
    what = said(1)
    del what["chargingSchedule"][0]["startSchedule"]
    assert put(held(), 1, what) == "MissingParam"
    assert put(held("ocpp1.6"), 1, what) == ""


def test_units_and_phases_that_the_hardware_has_not() -> None:
    assert put(held(units=frozenset({"W"})), 1, said(1)) == "UnsupportedRateUnit"
    assert put(held(dc=True), 1, said(1, period={"numberPhases": 3})) == "NoPhaseForDC"


@pytest.mark.parametrize(
    ("first", "second", "why"), [(1, 1, "DuplicateProfile"), (0, 1, "DuplicateProfile"), (1, 0, "DuplicateProfile"), (2, 1, "")]
)
def test_two_ids_at_one_level_collide_in_2_x(first: int, second: int, why: str) -> None:
    station = held()
    assert put(station, first, said(1)) == ""
    assert put(station, second, said(2)) == why


def test_no_collision_at_another_level_purpose_or_time() -> None:
    station = held()
    assert put(station, 0, said(1, validTo="2026-01-01T01:00:00Z")) == ""
    assert put(station, 0, said(2, level=1)) == ""
    assert put(station, 0, said(3, "ChargingStationMaxProfile")) == ""
    assert put(station, 0, said(4, validFrom="2026-01-01T01:00:00Z")) == ""
    assert len(station.profiles) == 4


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
def test_the_same_id_replaces(version: str) -> None:
    station = held(version)
    assert put(station, 1, said(1, level=2)) == put(station, 2, said(1)) == ""
    assert [(p.evse, p.stack_level) for p in station.profiles] == [(2, 0)]


def test_1_6_replaces_the_same_purpose_and_level_of_the_same_connector() -> None:
    station = held("ocpp1.6")
    for id, evse in ((1, 1), (2, 2), (3, 0), (4, 1)):
        assert put(station, evse, said(id)) == ""
    assert sorted(p.id for p in station.profiles) == [2, 3, 4]


def test_1_6_takes_a_transactions_profile_only_while_one_runs() -> None:
    station = held("ocpp1.6")
    assert put(station, 1, said(1, "TxProfile", transactionId=7)) == "TxNotFound"
    assert put(station, 1, said(1, "TxProfile", transactionId=7), {1: "7"}) == ""
    assert put(station, 1, said(2, "TxProfile"), {1: "7"}) == ""
    station.ended(2)
    assert len(station.profiles) == 1
    station.ended(1)
    assert station.profiles == []


@pytest.mark.parametrize(
    ("criteria", "left"),
    [
        ({}, []),
        ({"id": 2}, [1, 3]),
        ({"id": 9}, [1, 2, 3]),
        ({"id": 2, "evse": 0}, [1, 3]),  # an id stands alone
        ({"evse": 1}, [1, 3]),
        ({"purpose": "TxDefaultProfile"}, [1]),
        ({"purpose": "TxDefaultProfile", "level": 3}, [1, 2]),
        ({"purpose": "TxDefaultProfile", "evse": 0, "level": 0}, [1, 2, 3]),
        ({"purpose": "LocalGeneration"}, [1, 2, 3]),
    ],
)
def test_clearing_is_by_id_or_by_all_criteria_together(criteria: dict[str, Any], left: list[int]) -> None:
    station = held()
    put(station, 0, said(1, "ChargingStationMaxProfile"))
    put(station, 1, said(2))
    put(station, 0, said(3, level=3))
    assert station.clear(**criteria) == (len(left) < 3)
    assert [p.id for p in station.profiles] == left
