"""The tap under everything a wire can bring: it may learn nothing, but it never raises and never learns nonsense."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.basics import Instant
from broker.model.observations import Authorized, Boot, Metered, Observation, Proven, Reading, StatusSeen, TransactionSeen
from broker.model.traffic import Exchange
from broker.ocpp.dialect import Charging, Dialect
from broker.ocpp.dialects import BY_NAME
from broker.tap import Tap

NOW = Instant(1000.0, 1768046400.0)
AT = "2026-01-10T12:00:00Z"
ACTIONS = [(name, action) for name, dialect in BY_NAME.items() for action in sorted(dialect.interest.at_call | dialect.interest.at_answer)]
STATION = ("BootNotification", "Authorize", "StartTransaction", "StopTransaction", "TransactionEvent", "MeterValues", "StatusNotification")


def tap(name: str = "ocpp1.6", identify_only: bool = False) -> Tap:
    return Tap(BY_NAME[name], identify_only)


def exchange(action: str, call: bytes, answer: bytes | None = None, sender: Any = "station") -> Exchange:
    return Exchange(sender, action, call, answer, 0 if answer is None else 3, None)


METER_VALUES = b'[2,"1","MeterValues",{"connectorId":1,"evseId":1,"meterValue":[{"timestamp":"2026-01-10T12:00:00Z","sampledValue":[%b]}]}]'


def test_an_exchange_is_read() -> None:
    it = tap()
    seen = it.observe(exchange("MeterValues", METER_VALUES % b'{"value":"5"}'), NOW)
    assert seen == (Metered(1, (Reading(NOW.wall, 5),)),)
    assert it.failures == 0


@pytest.mark.parametrize("name", BY_NAME)
def test_identification_reads_only_who_charges(name: str) -> None:
    it = tap(name, identify_only=True)
    assert it.observe(exchange("MeterValues", METER_VALUES % b'{"value":"5"}'), NOW) == ()
    assert it.observe(Exchange("station", "Heartbeat", b"", b"", 3, None), NOW) == ()
    start = {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": AT}
    event = {
        "eventType": "Started",
        "timestamp": AT,
        "seqNo": 0,
        "transactionInfo": {"transactionId": "t"},
        "idToken": {"idToken": "A", "type": "Central"},
    }
    action, call = ("StartTransaction", start) if name == "ocpp1.6" else ("TransactionEvent", event)
    (seen,) = it.observe(exchange(action, json.dumps([2, "1", action, call]).encode()), NOW)
    assert isinstance(seen, TransactionSeen)
    assert seen.id_token == "A"


# ------------------------------------------------------------------------------------------------ what breaks parsers

DEEP = b"[" * 100_000
HOSTILE = {
    "deep": b'[2,"1","MeterValues",' + DEEP + b"]" * 100_001,
    "deep objects": b'[2,"1","MeterValues",' + b'{"meterValue":' * 100_000 + b"1" + b"}" * 100_000 + b"]",
    "endless": b'[2,"1","MeterValues",' + DEEP,
    "not JSON": b"hello",
    "empty": b" ",
    "truncated": b'[3,"id",{"configurationKey":[]',
    "leading comma": METER_VALUES % b',{"value":1}',
    "missing value": b'[2,"1","MeterValues",{"connectorId":1,"transactionId":,"meterValue":[]}]',
    "not UTF-8": METER_VALUES % b'{"value":"\xff"}',
    "no payload": b'[2,"1","MeterValues"]',
    "null": b'[2,"1","MeterValues",null]',
    "an array": b'[2,"1","MeterValues",[]]',
    "an object": b'{"connectorId":1}',
    "a number": b"5",
    "an answer": b'[3,"1",{}]',
    "5000 digits": METER_VALUES % (b'{"value":' + b"9" * 5000 + b"}"),
}


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_read_is_counted(name: str, text: bytes) -> None:
    it = tap(name)
    assert it.observe(exchange("MeterValues", text), NOW) == ()
    assert it.failures == 1


@pytest.mark.parametrize("answer", [DEEP, b"", b"[4]", b'[3,"1"', b'[3,"1",' + b"9" * 5000 + b"]"])
def test_an_answer_that_cannot_be_read_is_counted(answer: bytes) -> None:
    it = tap()
    assert it.observe(exchange("StartTransaction", b'[2,"1","StartTransaction",{"connectorId":1}]', answer), NOW) == ()
    assert it.failures == 1


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize(
    "sample",
    [b'{"value":NaN}', b'{"value":1e999}', b'{"value":-Infinity}', b'{"value":"1e999"}', b'{"value":' + b"9" * 400 + b"}"],
)
def test_numbers_that_are_none_are_left_out(name: str, sample: bytes) -> None:
    it = tap(name)
    assert it.observe(exchange("MeterValues", METER_VALUES % sample), NOW) == ()
    assert it.failures == 0


def test_the_last_of_two_keys_counts_and_surrogates_do_no_harm() -> None:
    it = tap()
    assert it.observe(exchange("MeterValues", METER_VALUES % b'{"value":1,"value":2,"context":"\\ud800"}'), NOW) == (
        Metered(1, (Reading(NOW.wall, 2, context="?"),)),
    )


class Falling:
    """A dialect that falls over in the way it is told to."""

    name = "falls"
    interest = identification = BY_NAME["ocpp1.6"].interest
    charging: Charging = BY_NAME["ocpp1.6"].charging

    def __init__(self, how: Exception) -> None:
        self.how = how

    def observe(self, exchange: Exchange, now: Instant) -> tuple[Observation, ...]:
        raise self.how

    identify = observe


@pytest.mark.parametrize(
    "how", [RecursionError(), MemoryError(), KeyError("x"), UnicodeDecodeError("utf-8", b"", 0, 1, ""), OverflowError(), AssertionError()]
)
@pytest.mark.parametrize("identify_only", [False, True])
def test_a_falling_dialect_stays_inside(how: Exception, identify_only: bool) -> None:
    dialect: Dialect = Falling(how)
    it = Tap(dialect, identify_only)
    for _ in range(3):
        assert it.observe(exchange("Heartbeat", b'[2,"1","Heartbeat",{}]'), NOW) == ()
    assert it.failures == 3


# ------------------------------------------------------------------------------------------------ for every payload

KEYS = [
    "connectorId",
    "idTag",
    "meterStart",
    "timestamp",
    "transactionId",
    "idTagInfo",
    "status",
    "meterStop",
    "transactionData",
    "reason",
    "meterValue",
    "sampledValue",
    "value",
    "measurand",
    "phase",
    "unit",
    "context",
    "location",
    "format",
    "evseId",
    "connectorStatus",
    "eventType",
    "triggerReason",
    "seqNo",
    "transactionInfo",
    "evse",
    "id",
    "idToken",
    "type",
    "offline",
    "numberOfPhasesUsed",
    "chargingState",
    "stoppedReason",
    "unitOfMeasure",
    "multiplier",
    "chargingStation",
    "vendorName",
    "model",
    "currentTime",
    "idTokenInfo",
    "chargingProfile",
    "csChargingProfiles",
    "chargingSchedule",
    "chargingSchedulePeriod",
    "startPeriod",
    "limit",
    "numberPhases",
    "stackLevel",
    "chargingProfilePurpose",
    "chargingProfileKind",
    "chargingRateUnit",
    "duration",
    "startSchedule",
    "validFrom",
    "validTo",
    "recurrencyKind",
    "chargingProfileId",
    "chargingProfileCriteria",
    "schedule",
    "scheduleStart",
    "configurationKey",
    "key",
    "variableResult",
    "getVariableResult",
    "component",
    "variable",
    "name",
    "attributeValue",
    "attributeStatus",
]
WORDS = [
    "Accepted",
    "Started",
    "Ended",
    "Updated",
    "L1",
    "SoC",
    "Voltage",
    "kWh",
    "A",
    "TxProfile",
    "Absolute",
    "Relative",
    "Daily",
    AT,
    "16,0",
    "-1",
]
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6), max_leaves=25
)
payloads = st.dictionaries(st.sampled_from(KEYS), values, max_size=8) | values


def numbers(value: Any) -> list[float]:
    """Every float anywhere in an observation."""
    if isinstance(value, float):
        return [value]
    if dataclasses.is_dataclass(value):
        return [n for field in dataclasses.fields(value) for n in numbers(getattr(value, field.name))]
    return [n for inner in value for n in numbers(inner)] if isinstance(value, tuple | frozenset) else []


@given(st.sampled_from(ACTIONS), payloads, payloads, st.sampled_from([0, 3, 4]), st.sampled_from(["station", "cpms"]))
@settings(max_examples=200, deadline=None)
def test_no_payload_raises_or_yields_what_is_no_number(at: tuple[str, str], call: Any, answer: Any, kind: int, sender: Any) -> None:
    name, action = at
    asked = json.dumps([2, "1", action, call]).encode()
    said = {0: None, 3: json.dumps([3, "1", answer]).encode(), 4: b'[4,"1","InternalError","",{}]'}[kind]
    shown = Exchange(sender, action, asked, said, kind, None)
    for identify_only in (False, True):
        it = tap(name, identify_only)
        seen = it.observe(shown, NOW)
        assert all(math.isfinite(number) for number in numbers(seen))
        assert it.failures in (0, 1)
        if isinstance(call, dict) and action in ("BootNotification", "Authorize") and isinstance(answer, dict):
            assert it.failures == 0, "odd types are not unreadable"
        if identify_only or sender == "cpms":
            station = (
                (Boot, Authorized, Metered, StatusSeen, Proven)
                if identify_only
                else (Boot, Authorized, Metered, StatusSeen, Proven, TransactionSeen)
            )
            assert not any(isinstance(o, station) for o in seen)


METER: Any = [
    {"timestamp": AT, "sampledValue": [{"value": 16, "measurand": "Current.Import", "phase": "L1", "unitOfMeasure": {"multiplier": 0}}]}
]
WHO: Any = {"idToken": "A", "type": "Central"}
FINE: dict[str, tuple[Any, Any]] = {
    "BootNotification": ({"chargePointVendor": "a", "chargingStation": {"model": "b"}}, {"status": "Accepted", "currentTime": AT}),
    "Authorize": ({"idTag": "A", "idToken": WHO}, {"idTagInfo": {"status": "Accepted"}, "idTokenInfo": {"status": "Accepted"}}),
    "StartTransaction": (
        {"connectorId": 1, "idTag": "A", "meterStart": 0, "timestamp": AT},
        {"transactionId": 5, "idTagInfo": {"status": "Accepted"}},
    ),
    "StopTransaction": ({"transactionId": 5, "meterStop": 9, "timestamp": AT, "transactionData": METER}, {}),
    "MeterValues": ({"connectorId": 1, "evseId": 1, "transactionId": 5, "meterValue": METER}, {}),
    "StatusNotification": ({"connectorId": 1, "evseId": 1, "status": "Available", "connectorStatus": "Available", "timestamp": AT}, {}),
    "TransactionEvent": (
        {
            "eventType": "Ended",
            "timestamp": AT,
            "seqNo": 1,
            "evse": {"id": 1},
            "idToken": WHO,
            "meterValue": METER,
            "transactionInfo": {"transactionId": "t"},
        },
        {},
    ),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value inside."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inside in inner for found in places(inside, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy with the value at that path replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize(("name", "action"), [at for at in ACTIONS if at[1] in FINE])
def test_the_good_frames_are_read(name: str, action: str) -> None:
    call, answer = (json.dumps([kind, "1", *more]).encode() for kind, more in ((2, (action, FINE[action][0])), (3, (FINE[action][1],))))
    assert tap(name).observe(exchange(action, call, answer), NOW)


@given(st.data(), st.sampled_from(STATION), values)
@settings(max_examples=200, deadline=None)
def test_one_odd_value_anywhere_in_a_good_frame(data: st.DataObject, action: str, odd: Any) -> None:
    good = list(FINE[action])
    path = data.draw(st.sampled_from(places(good)[1:]))
    call, answer = put(good, path, odd)
    for name in BY_NAME:
        if action in BY_NAME[name].interest.at_call | BY_NAME[name].interest.at_answer:
            texts = [json.dumps([2, "1", action, call]).encode(), json.dumps([3, "1", answer]).encode()]
            it = tap(name)
            seen = it.observe(exchange(action, *texts), NOW)
            assert all(math.isfinite(number) for number in numbers(seen))
            assert not (seen and it.failures)


@given(st.sampled_from(STATION), st.binary(max_size=60))
@settings(max_examples=200)
def test_no_bytes_raise(action: str, rubbish: bytes) -> None:
    for name in BY_NAME:
        it = tap(name)
        for text in (rubbish, b'[2,"1","' + action.encode() + b'",' + rubbish):
            assert isinstance(it.observe(exchange(action, text, rubbish), NOW), tuple)
