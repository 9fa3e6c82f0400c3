"""What follows from raw frames: records for the engine, facts for a restart, in both capturing modes and all versions."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from broker import observer as module
from broker.engine.v1 import V1
from broker.model.basics import Instant, Key
from broker.model.orders import Write
from broker.model.records import Fact, Record
from broker.model.traffic import CALLRESULT, Exchange
from broker.observer import REGISTER, Identifying, Seat, Watching
from broker.ocpp.dialects import BY_NAME
from broker.settings import EngineSettings, EvseSettings, StationSettings, TenantSettings

START = 1_800_000_000.0
TIME = "2027-01-15T08:00:00.000Z"
VERSIONS = ("ocpp1.6", "ocpp2.0.1", "ocpp2.1")


def seat(version: str, mode: str = "smart-charging") -> Seat:
    station = StationSettings("CS-7", mode, "hq", "ac", (EvseSettings(1, "socket", 32.0, 3),))  # type: ignore[arg-type]
    engine = EngineSettings("http://engine", "acme", "secret")
    tenant = TenantSettings("acme", "ws://cpms", mode=mode, engine=engine, stations={"CS-7": station})  # type: ignore[arg-type]
    return Seat(Key("acme", "CS-7"), station, tenant, BY_NAME[version], V1(engine))


class Link:
    """Shows exchanges to an observer, as a relay would, and keeps what it wants written."""

    def __init__(self, observer: Any) -> None:
        self.observer = observer
        self.now = Instant(100.0, START)
        self.records: list[Record] = []
        self.facts: list[Fact] = []
        self.tokens: list[int | None] = []

    def saw(self, action: str, call: dict[str, Any], answer: dict[str, Any] | None = None, token: int | None = None) -> None:
        said = None if answer is None else json.dumps([3, "1", answer]).encode()
        kind = 0 if answer is None else CALLRESULT
        self.keep(self.observer.saw(Exchange("station", action, json.dumps([2, "1", action, call]).encode(), said, kind, token), self.now))

    def keep(self, effects: tuple[Any, ...]) -> None:
        for effect in effects:
            assert isinstance(effect, Write), f"nothing may be sent here: {effect}"
            self.records += effect.records
            self.facts += effect.facts
            self.tokens.append(effect.token)

    def wait(self, seconds: float) -> None:
        self.now = Instant(self.now.mono + seconds, self.now.wall + seconds)
        self.keep(self.observer.tick(self.now))

    def told(self, kind: str) -> list[Any]:
        return [record.body for record in self.records if record.kind == kind]


def watching(version: str, facts: tuple[Fact, ...] = ()) -> Link:
    tokens = itertools.count(1)
    opened = Instant(100.0, START)
    return Link(Watching(seat(version), facts, opened=opened, flapping=False, shadow=True, new_token=lambda: next(tokens)))


def charge(link: Link, version: str, token: int | None = None) -> None:
    """Begin, one meter value of 2000 Wh and 6900 W, as the version says it."""
    if version == "ocpp1.6":
        start = {"connectorId": 1, "idTag": "TAG", "meterStart": 1000, "timestamp": TIME}
        link.saw("StartTransaction", start, {"transactionId": 5, "idTagInfo": {"status": "Accepted"}}, token)
        samples = [{"value": "2000", "measurand": "Energy.Active.Import.Register"}, {"value": "6900", "measurand": "Power.Active.Import"}]
        link.saw("MeterValues", {"connectorId": 1, "transactionId": 5, "meterValue": [{"timestamp": TIME, "sampledValue": samples}]})
        return
    info = {"transactionId": "tx", "chargingState": "Charging"}
    event = {"eventType": "Started", "timestamp": TIME, "triggerReason": "Authorized", "seqNo": 0, "transactionInfo": info}
    who = {"idToken": {"idToken": "TAG", "type": "ISO14443"}, "evse": {"id": 1, "connectorId": 1}}
    link.saw("TransactionEvent", {**event, **who}, token=token)
    samples2 = [{"value": 2000, "measurand": "Energy.Active.Import.Register"}, {"value": 6900, "measurand": "Power.Active.Import"}]
    meter = {"meterValue": [{"timestamp": TIME, "sampledValue": samples2}]}
    link.saw("TransactionEvent", {**event, "eventType": "Updated", "seqNo": 1, **meter})


def stop(link: Link, version: str) -> None:
    if version == "ocpp1.6":
        link.saw("StopTransaction", {"transactionId": 5, "meterStop": 3000, "timestamp": TIME, "idTag": "OTHER"})
        return
    samples = [{"value": 3000, "measurand": "Energy.Active.Import.Register", "context": "Transaction.End"}]
    info = {"transactionId": "tx"}
    event = {"eventType": "Ended", "timestamp": TIME, "triggerReason": "StopAuthorized", "seqNo": 9, "transactionInfo": info}
    who = {"idToken": {"idToken": "OTHER", "type": "ISO14443"}, "meterValue": [{"timestamp": TIME, "sampledValue": samples}]}
    link.saw("TransactionEvent", {**event, **who})


@pytest.mark.parametrize("version", VERSIONS)
def test_a_transaction_is_told_from_begin_to_end_with_its_meter(version: str) -> None:
    link = watching(version)
    charge(link, version, token=7)
    assert 7 in link.tokens, "the answer waits for this write"
    link.wait(61)
    stop(link, version)
    link.wait(1)
    states = [body["transactionState"] for body in link.told("transaction")]
    assert (states[0], states[-1]) == ("Started", "Ended")
    assert {body["driverId"] for body in link.told("transaction")} == {"TAG"}
    last = link.told("measurement")[-1]
    assert (last["asset_id"], last["energyValue"], last["powerValue"]) == ("socket", 3000.0, 0.0)
    assert 6900.0 in [body["powerValue"] for body in link.told("measurement")]
    assert link.told("identification") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clock_of_ours_that_was_set_back_ends_nothing_before_it_began(version: str) -> None:
    link = watching(version)
    charge(link, version)
    link.now = Instant(link.now.mono + 60, link.now.wall - 3600)
    stop(link, version)
    ended = link.told("transaction")[-1]
    assert ended["transactionState"] == "Ended"
    assert ended["stopTime"] == ended["startTime"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_restart_goes_on_with_the_same_transaction(version: str) -> None:
    before = watching(version)
    charge(before, version)
    kept = {(fact.topic, fact.name): fact for fact in before.facts}
    after = watching(version, tuple(json_round_trip(fact) for fact in kept.values() if fact.value is not None))
    stop(after, version)
    (ended,) = after.told("transaction")
    assert ended["transactionState"] == "Ended"
    assert ended["transactionId"] == before.told("transaction")[0]["transactionId"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_station_that_comes_back_idle_is_told_of_with_the_register_it_left(version: str) -> None:
    before = watching(version)
    charge(before, version)
    stop(before, version)
    register = before.told("measurement")[-1]["energyValue"]
    kept = {(fact.topic, fact.name): json_round_trip(fact) for fact in before.facts}
    assert [fact.value for fact in before.facts if fact.topic == REGISTER][-1] == register
    assert len([fact for fact in before.facts if fact.topic == REGISTER]) <= len(before.told("measurement"))
    after = watching(version, tuple(fact for fact in kept.values() if fact.value is not None))
    after.wait(1)
    assert after.told("measurement") == [], "nobody has vouched for anything on this link yet"
    status = {"timestamp": TIME, "connectorId": 1}
    more = {"errorCode": "NoError", "status": "Available"} if version == "ocpp1.6" else {"evseId": 1, "connectorStatus": "Available"}
    after.saw("StatusNotification", {**status, **more})
    (told,) = after.told("measurement")
    assert (told["asset_id"], told["energyValue"], told["powerValue"]) == ("socket", register, 0.0)
    assert [fact for fact in after.facts if fact.topic == REGISTER] == [], "what is on disk is not written again"


def json_round_trip(fact: Fact) -> Fact:
    return Fact(fact.topic, fact.name, json.loads(json.dumps(fact.value)))


@pytest.mark.parametrize("version", VERSIONS)
def test_identification_tells_once_who_began_and_nothing_else(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("this mode has no injector and no feed")

    monkeypatch.setattr(module, "Steered", never)
    monkeypatch.setattr(module, "Feed", never)
    link = Link(Identifying(seat(version, "driver-identification"), ()))
    assert link.observer.interest == BY_NAME[version].identification
    if version == "ocpp1.6":
        link.saw("StartTransaction", {"connectorId": 1, "idTag": "TAG", "meterStart": 1000, "timestamp": TIME}, token=1)
    else:
        charge(link, version, token=1)
    stop(link, version)
    link.wait(600)
    (told,) = link.told("identification")
    assert (told["driverId"], told["assetId"], told["evse"]) == ("TAG", "socket", 1)
    assert [record.kind for record in link.records] == ["identification"]
    assert 1 in link.tokens


@pytest.mark.parametrize("kind", [Watching, Identifying])
def test_what_the_tap_cannot_read_is_counted_and_its_answer_is_not_kept_waiting(kind: type) -> None:
    link = watching("ocpp2.0.1") if kind is Watching else Link(Identifying(seat("ocpp2.0.1", "driver-identification"), ()))
    deep = b'[2,"1","TransactionEvent",' + b"[" * 100_000
    link.keep(link.observer.saw(Exchange("station", "TransactionEvent", deep, None, 0, 9), link.now))
    assert (link.observer.tap_failures, link.tokens, link.records) == (1, [9], [])


def test_a_status_stops_the_power_that_no_meter_value_did_and_a_link_that_closes_says_what_is_new() -> None:
    link = watching("ocpp1.6")
    charge(link, "ocpp1.6")
    link.wait(61)
    link.saw("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "SuspendedEV", "timestamp": TIME})
    link.keep(link.observer.closed(link.now))
    assert link.told("measurement")[-1]["powerValue"] == 0.0
    assert link.told("transaction")[-1]["transactionState"] == "SuspendedEV"


def test_what_is_known_of_a_station_is_explained_without_its_drivers() -> None:
    link = watching("ocpp1.6")
    boot = {"chargePointVendor": "V", "chargePointModel": "M"}
    link.saw("BootNotification", boot, {"status": "Accepted", "currentTime": TIME, "interval": 60})
    charge(link, "ocpp1.6")
    told = json.dumps(link.observer.explain())
    assert '"vendor": "V"' in told
    assert '"ocpp_id": "5"' in told
    assert "TAG" not in told


@pytest.mark.parametrize("version", VERSIONS)
def test_a_station_that_boots_as_it_was_leaves_nothing_to_write(version: str) -> None:
    """After a power cut they all do, at once."""
    link = watching(version)
    boot(link, version, "1.0")
    told = [fact for fact in link.facts if fact.topic == "boot"]
    assert len(told) == 1
    again = watching(version, tuple(told))
    boot(again, version, "1.0")
    assert [fact for fact in again.facts if fact.topic == "boot"] == []
    boot(again, version, "1.1")
    boot(again, version, "1.1")
    [changed] = [fact for fact in again.facts if fact.topic == "boot"]
    assert (changed.value["firmware"], again.observer.explain()["boot"]["firmware"]) == ("1.1", "1.1")


def boot(link: Link, version: str, firmware: str) -> None:
    if version == "ocpp1.6":
        who: dict[str, Any] = {"chargePointVendor": "W", "chargePointModel": "M", "firmwareVersion": firmware}
    else:
        who = {"reason": "PowerUp", "chargingStation": {"vendorName": "W", "model": "M", "firmwareVersion": firmware}}
    link.saw("BootNotification", who, {"status": "Accepted", "currentTime": TIME, "interval": 300})
