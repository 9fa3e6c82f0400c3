"""What a 2.x station tells of itself as components and variables: what the standard's schemas allow is understood, rubbish does no harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standard import AT, NOON, both, observe

from broker.model.observations import Capabilities, StatusSeen
from broker.ocpp.dialects import BY_NAME

TEXT = {"dataType": "string", "supportsMonitoring": False}


def row(component: Any, variable: Any, value: str | None = None, **characteristics: Any) -> dict[str, Any]:
    whole = {"variableCharacteristics": {**TEXT, **characteristics}} if characteristics else {}
    named = {"name": variable} if isinstance(variable, str) else variable
    of = {"name": component} if isinstance(component, str) else component
    return {"component": of, "variable": named, "variableAttribute": [{} if value is None else {"value": value}], **whole}


def report(*rows: Any) -> dict[str, Any]:
    return {"requestId": 1, "generatedAt": AT, "seqNo": 0, "reportData": list(rows)}


def event(evse: int, connector: int, state: str, component: str = "Connector", variable: str = "AvailabilityState") -> dict[str, Any]:
    return {
        "eventId": 1,
        "timestamp": AT,
        "trigger": "Delta",
        "actualValue": state,
        "eventNotificationType": "HardWiredNotification",
        "component": {"name": component, "evse": {"id": evse, "connectorId": connector}},
        "variable": {"name": variable},
    }


def events(*found: Any) -> dict[str, Any]:
    return {"generatedAt": AT, "seqNo": 0, "eventData": list(found)}


PROFILES = {"name": "Entries", "instance": "ChargingProfiles"}


@both
def test_both_are_seen_as_the_station_sends_them_and_by_nobody_who_only_identifies(version: str) -> None:
    dialect = BY_NAME[version]
    assert dialect.interest.at_call >= {"NotifyReport", "NotifyEvent"}
    assert not dialect.identification.at_call & {"NotifyReport", "NotifyEvent"}
    call = report(row("SmartChargingCtrlr", "ProfileStackLevel", "9"))
    assert observe(version, "NotifyReport", call, sender="cpms") == ()


@both
def test_a_report_tells_of_the_controller_its_room_and_the_evses(version: str) -> None:
    told = report(
        row("SmartChargingCtrlr", "ProfileStackLevel", "9"),
        row("SmartChargingCtrlr", "RateUnit", "A,W"),
        row("SmartChargingCtrlr", "PeriodsPerSchedule", "24"),
        row("SmartChargingCtrlr", "Enabled", "true"),
        row("SmartChargingCtrlr", PROFILES, "3", maxLimit=10.0),
        row({"name": "EVSE", "evse": {"id": 2}}, "Power", "11000"),
        row("ClockCtrlr", "ProfileStackLevel", "1"),
    )
    assert observe(version, "NotifyReport", told) == (
        Capabilities(
            max_stack_level=9, units=frozenset({"A", "W"}), max_periods=24, max_profiles=10, connectors=2, smart_charging=True
        ),
    )  # fmt: skip


@both
@pytest.mark.parametrize(
    "rows",
    [
        [row("ClockCtrlr", "DateTime", AT)],
        [row({"name": "EVSE", "evse": {"id": 1}}, "Power", "11000")],
        [row("SmartChargingCtrlr", {"name": "Entries", "instance": "Other"}, maxLimit=10.0)],
        [row("SmartChargingCtrlr", PROFILES)],
        [{**row("SmartChargingCtrlr", "ProfileStackLevel", "9"), "variableAttribute": [{"type": "MaxSet", "value": "9"}]}],
    ],
)
def test_a_part_that_says_nothing_of_it_is_no_news(version: str, rows: Any) -> None:
    assert observe(version, "NotifyReport", report(*rows)) == ()


@both
def test_an_event_of_a_connector_is_its_status(version: str) -> None:
    told = events(event(1, 1, "Occupied"), event(2, 1, "Available"), event(1, 1, "true", variable="Problem"), event(1, 1, "x", "EVSE"))
    assert observe(version, "NotifyEvent", told) == (StatusSeen(1, 1, "Occupied", NOON), StatusSeen(2, 1, "Available", NOON))


junk = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda one: st.lists(one, max_size=3), max_leaves=5)


@given(junk, junk, junk, st.sampled_from(["ocpp2.0.1", "ocpp2.1"]))
def test_rubbish_is_no_news(first: Any, second: Any, third: Any, version: str) -> None:
    component = {"name": first, "evse": second}
    odd = {"component": component, "variable": {"name": second, "instance": third}, "variableAttribute": third, "actualValue": first}
    assert observe(version, "NotifyReport", {"reportData": [odd, first]}, standard=False) == ()
    assert observe(version, "NotifyReport", {"reportData": third}, standard=False) == ()
    assert observe(version, "NotifyEvent", {"eventData": [odd, second]}, standard=False) == ()
    assert observe(version, "NotifyEvent", {"eventData": first}, standard=False) == ()
