"""Simulated stations and CPMS, joined in memory on a clock: every version, every frame against the official schemas."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from standard import asked as asked_in
from standard import validator
from twisted.internet.task import Clock

from broker.model.basics import Instant
from broker.model.traffic import Exchange
from broker.ocpp import times
from broker.sim.bay import Settings
from broker.sim.cars import Car, Socket
from broker.sim.cpms import Cpms, Policy
from broker.sim.meter import Manner
from broker.sim.station import Station
from broker.sim.wire import Log
from broker.sim.words import Spec

T = 1_767_225_600.0
VERSIONS = ("ocpp1.6", "ocpp2.0.1", "ocpp2.1")


class World:
    """A station and its CPMS, a clock, and nothing between them but `between` (station's and CPMS's `received`)."""

    def __init__(self, spec: Spec, policy: Policy | None = None, fast: float = 1.0, skew: float = 0.0, **cpms: Any) -> None:
        self.clock = Clock()
        self.cpms = Cpms(self.clock, lambda id: policy or Policy(limit=None), keep=True, wall=self.wall, **cpms)
        ids = itertools.count(1)
        settings = Settings(fast, skew, log=Log(keep=True), new_id=lambda: f"s{next(ids)}", wall=self.wall)
        self.station = Station(spec, "ws://127.0.0.1:1/acme", self.clock, settings)
        self.guest = self.cpms.guest(spec.id, spec.version)
        self.link()
        self.station.wake()
        self.run(1)

    def wall(self) -> float:
        return T + self.clock.seconds()

    def link(self) -> None:
        self.guest.wire.connected(self.station.wire.received)
        self.station.up(self.guest.wire.received)

    def run(self, seconds: float) -> None:
        self.clock.pump([0.25] * round(seconds * 4))

    def ask(self, action: str, payload: dict[str, Any]) -> Any:
        """The CPMS asks; the station's answer."""
        found: list[Any] = []
        self.guest.wire.call(action, payload).addBoth(found.append)
        return getattr(found[0], "value", found[0])

    def charge(self, car: Car | None = None, token: str = "CARD", evse: int = 1, soc: float = 20.0, seconds: float = 30) -> None:
        self.station.plug(evse, car or Car(), token, soc)
        self.run(seconds)

    @property
    def watts(self) -> float:
        return self.station.bays[1].watts

    def said(self, action: str) -> list[Any]:
        """The payloads of the station's CALLs of this action."""
        return [json.loads(seen.text)[3] for seen in self.guest.wire.log.received if seen.action == action]

    def faults(self) -> list[str]:
        """What does not fit the schemas, either way."""
        version = self.station.spec.version
        asked = {seen.id: seen.action for log in (self.guest.wire.log,) for seen in (*log.sent, *log.received) if seen.kind == 2}
        wrong = []
        for seen in (*self.guest.wire.log.sent, *self.guest.wire.log.received):
            frame = json.loads(seen.text)
            name = asked_in(version, asked[seen.id]) if seen.kind == 2 else f"{asked[seen.id]}Response"
            if seen.kind in (2, 3):
                wrong += [f"{name}: {error.message}" for error in validator(version, name, None).iter_errors(frame[-1])]
        return wrong


def spec(version: str, **more: Any) -> Spec:
    return Spec("CS-7", version, **more)


def limit(version: str, amps: float, evse: int = 0, purpose: str = "TxDefaultProfile", id: int = 5, level: int = 3, **more: Any) -> Any:
    """SetChargingProfile's payload."""
    schedule = {"startSchedule": times.text(T), "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": amps}]}
    head = {"stackLevel": level, "chargingProfilePurpose": purpose, "chargingProfileKind": "Absolute", **more}
    if version == "ocpp1.6":
        return {"connectorId": evse, "csChargingProfiles": {"chargingProfileId": id, **head, "chargingSchedule": schedule}}
    return {"evseId": evse, "chargingProfile": {"id": id, **head, "chargingSchedule": [{"id": 1, **schedule}]}}


MANNERS = (Manner(kwh=True, soc=True, offered=True), Manner(phase_names=("L1-N", "L2-N", "L3-N"), location="Outlet"), Manner(power=False))


@pytest.mark.parametrize("manner", MANNERS, ids=["kwh", "phases-n", "no-power"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_whole_session_fits_the_schemas_and_the_meter(version: str, manner: Manner) -> None:
    world = World(spec(version, manner=manner, stop_readings=True), Policy(limit=16, asks=True))
    world.charge(seconds=60)
    assert world.watts == 16 * 3 * 230
    world.station.unplug(1, "Local")
    world.run(1)
    session = world.station.sessions[0]
    assert world.station.settled
    assert world.guest.transactions == {session.id: "Ended"}
    assert session.end_wh is not None
    assert session.end_wh - session.begin_wh == pytest.approx(16 * 3 * 230 * 54 / 3600, abs=8)  # 3 s to wake, 5 s to ramp
    assert world.faults() == []
    assert world.guest.refused == []
    assert [s.hash for s in world.guest.wire.log.sent] == [s.hash for s in world.station.wire.log.received]
    assert [s.hash for s in world.guest.wire.log.received] == [s.hash for s in world.station.wire.log.sent]


@pytest.mark.parametrize("manner", MANNERS, ids=["kwh", "phases-n", "no-power"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_it_says_is_understood_as_it_was_meant(version: str, manner: Manner) -> None:
    """The broker's own dialects read the same numbers that the meter shows."""
    dialects = pytest.importorskip("broker.ocpp.dialects")
    world = World(spec(version, manner=manner))
    world.charge(seconds=40)
    action = "MeterValues" if version == "ocpp1.6" else "TransactionEvent"
    last = [seen for seen in world.guest.wire.log.received if seen.action == action][-1]
    found = dialects.BY_NAME[version].observe(Exchange("station", action, last.text.encode(), None, 0, None), Instant(0.0, T))
    reading = next(seen for seen in found if getattr(seen, "readings", ())).readings[-1]
    assert reading.power_w == pytest.approx(world.watts, rel=0.01)
    assert reading.currents_a == (32, 32, 32)
    assert reading.energy_wh == pytest.approx(world.station.bays[1].meter.register_wh, abs=25)
    assert reading.soc_percent == (20 if manner.soc else None)


def test_1_6_speaks_of_connector_0_and_numbers_come_from_the_cpms() -> None:
    world = World(spec("ocpp1.6"))
    assert [p["connectorId"] for p in world.said("StatusNotification")] == [0, 1]
    world.charge(seconds=20)
    assert world.said("MeterValues")[0]["transactionId"] == 4712
    assert [p["status"] for p in world.said("StatusNotification")][2:] == ["Preparing", "Charging"]


def test_2_x_numbers_its_events_and_says_who_and_where_first() -> None:
    world = World(spec("ocpp2.1"))
    world.charge(seconds=20)
    world.station.unplug(1)
    world.run(1)
    events = world.said("TransactionEvent")
    assert [event["seqNo"] for event in events] == list(range(len(events)))
    assert (events[0]["eventType"], events[-1]["eventType"]) == ("Started", "Ended")
    assert events[0]["evse"] == {"id": 1, "connectorId": 1}
    assert events[0]["idToken"]["idToken"] == "CARD"
    assert all("idToken" not in event for event in events[1:])


@pytest.mark.parametrize("version", VERSIONS)
def test_it_obeys_a_profile_pauses_and_comes_back(version: str) -> None:
    world = World(spec(version))
    world.charge()
    assert world.watts == 32 * 3 * 230
    for amps, power in ((10.0, 6900), (0.0, 0), (5.0, 0), (6.0, 4140), (99.0, 32 * 690)):
        assert world.ask("SetChargingProfile", limit(version, amps)) == {"status": "Accepted"}
        world.run(20)
        assert world.watts == pytest.approx(power)
    states = [p.get("status") or p.get("transactionInfo", {}).get("chargingState") for p in world.said("StatusNotification")]
    states += [p["transactionInfo"]["chargingState"] for p in world.said("TransactionEvent")]
    assert "SuspendedEVSE" in states
    assert world.faults() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_transactions_profile_dies_with_it(version: str) -> None:
    world = World(spec(version))
    number: Any = {"transactionId": 4712 if version == "ocpp1.6" else "none"}
    refused = world.ask("SetChargingProfile", limit(version, 10, 1, "TxProfile", **number))
    assert refused["status"] == "Rejected"
    assert refused.get("statusInfo", {}).get("reasonCode") == (None if version == "ocpp1.6" else "TxNotFound")
    world.charge()
    id = world.station.sessions[0].id
    number = {"transactionId": int(id) if version == "ocpp1.6" else id}
    assert world.ask("SetChargingProfile", limit(version, 10, 1, "TxProfile", **number))["status"] == "Accepted"
    world.run(10)
    assert world.watts == 6900
    world.station.unplug(1)
    world.run(1)
    assert world.station.held.profiles == []
    assert world.faults() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_two_ids_at_one_level(version: str) -> None:
    world = World(spec(version))
    assert world.ask("SetChargingProfile", limit(version, 10, id=1))["status"] == "Accepted"
    second = world.ask("SetChargingProfile", limit(version, 20, id=2))
    if version == "ocpp1.6":
        assert second == {"status": "Accepted"}
        assert [p.id for p in world.station.held.profiles] == [2]
    else:
        assert second == {"status": "Rejected", "statusInfo": {"reasonCode": "DuplicateProfile"}}
    assert world.faults() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_composite_and_clearing(version: str) -> None:
    world = World(spec(version), Policy(limit=20))
    key = "connectorId" if version == "ocpp1.6" else "evseId"
    for evse, amps in ((1, 20.0), (0, 32.0)):
        answer = world.ask("GetCompositeSchedule", {key: evse, "duration": 86400, "chargingRateUnit": "A"})
        plan = answer.get("chargingSchedule") or answer["schedule"]
        assert plan["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": amps}]
        assert times.parse(answer.get("scheduleStart") or plan["scheduleStart"]) == T + world.clock.seconds()
    watts = world.ask("GetCompositeSchedule", {key: 1, "duration": 60, "chargingRateUnit": "W"})
    assert (watts.get("chargingSchedule") or watts["schedule"])["chargingSchedulePeriod"][0]["limit"] == 20 * 690
    gone = {"id": 100} if version == "ocpp1.6" else {"chargingProfileId": 100}
    assert world.ask("ClearChargingProfile", gone) == {"status": "Accepted"}
    assert world.ask("ClearChargingProfile", gone) == {"status": "Unknown"}
    assert world.faults() == []


def test_a_unit_it_does_not_speak_is_refused() -> None:
    dc = (Socket(1, phases=1, max_amps=125, dc=True),)
    world = World(spec("ocpp2.0.1", sockets=dc, units=frozenset({"W"})), Policy(limit=20_000, unit="W"))
    assert world.ask("GetCompositeSchedule", {"evseId": 1, "duration": 60, "chargingRateUnit": "A"})["status"] == "Rejected"
    assert world.ask("SetChargingProfile", limit("ocpp2.0.1", 10))["statusInfo"]["reasonCode"] == "UnsupportedRateUnit"
    world.charge(Car(max_amps=125))
    assert world.watts == 20_000
    assert world.faults() == []


def test_1_6_answers_an_unknown_connector_with_an_error() -> None:
    world = World(spec("ocpp1.6"))
    assert world.ask("SetChargingProfile", limit("ocpp1.6", 10, evse=3)).code == "PropertyConstraintViolation"


@pytest.mark.parametrize("version", VERSIONS)
def test_capabilities_and_unknown_actions(version: str) -> None:
    world = World(spec(version, max_level=5))
    if version == "ocpp1.6":
        answer = world.ask("GetConfiguration", {"key": ["ChargeProfileMaxStackLevel", "Nonsense"]})
        assert answer["configurationKey"] == [{"key": "ChargeProfileMaxStackLevel", "readonly": True, "value": "5"}]
        assert answer["unknownKey"] == ["Nonsense"]
        assert len(world.ask("GetConfiguration", {})["configurationKey"]) > 5
    else:
        names = (("SmartChargingCtrlr", "ProfileStackLevel"), ("SmartChargingCtrlr", "Nonsense"), ("Nonsense", "Enabled"))
        asked = [{"component": {"name": component}, "variable": {"name": name}} for component, name in names]
        results = world.ask("GetVariables", {"getVariableData": asked})["getVariableResult"]
        assert [r["attributeStatus"] for r in results] == ["Accepted", "UnknownVariable", "UnknownComponent"]
        assert results[0]["attributeValue"] == "5"
    assert world.faults() == []
    assert world.ask("MakeCoffee", {}).code == "NotImplemented"


@pytest.mark.parametrize("version", VERSIONS)
def test_remote_start_and_stop(version: str) -> None:
    world = World(spec(version))
    answers: list[Any] = []
    world.cpms.remote_start("CS-7", 1, "APP").addCallback(answers.append)
    assert answers == [{"status": "Rejected"}]  # no car
    world.station.park(1, Car())
    world.cpms.remote_start("CS-7", 1, "APP").addCallback(answers.append)
    assert answers[1] == {"status": "Accepted"}
    world.run(30)
    assert world.watts > 0
    id: Any = world.station.sessions[0].id
    stop = "RemoteStopTransaction" if version == "ocpp1.6" else "RequestStopTransaction"
    assert world.ask(stop, {"transactionId": int(id) if version == "ocpp1.6" else id}) == {"status": "Accepted"}
    world.run(1)
    assert world.guest.transactions[id] == "Ended"
    assert world.station.sessions[0].token == "APP"
    assert world.faults() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refused_driver_gets_nothing(version: str) -> None:
    world = World(spec(version), blocked=frozenset({"CARD"}))
    world.charge()
    assert world.watts == 0
    assert world.station.sessions == []
    assert world.guest.transactions == {}
    assert world.station.settled


@pytest.mark.parametrize("version", VERSIONS)
def test_a_reset_ends_sessions_and_boots_again(version: str) -> None:
    world = World(spec(version), Policy(limit=16))
    world.charge()
    assert world.ask("Reset", {"type": "Soft" if version == "ocpp1.6" else "Immediate"}) == {"status": "Accepted"}
    world.run(2)
    assert set(world.guest.transactions.values()) == {"Ended"}
    world.guest.wire.disconnected()
    world.station.wire.disconnected()
    world.link()
    assert world.guest.boots == 2
    assert len(world.station.held.profiles) == 1  # they survive


@pytest.mark.parametrize("version", VERSIONS)
def test_a_mere_reconnect_does_not_boot_and_loses_nothing(version: str) -> None:
    world = World(spec(version))
    world.charge()
    world.guest.wire.disconnected()
    world.station.wire.disconnected()
    world.run(10)
    world.station.unplug(1)
    world.run(1)
    assert not world.station.settled
    world.link()
    world.run(1)
    assert world.station.settled
    assert world.guest.boots == 1
    assert set(world.guest.transactions.values()) == {"Ended"}


def test_two_sockets_share_the_stations_maximum() -> None:
    world = World(spec("ocpp1.6", sockets=(Socket(1), Socket(2))))
    world.ask("SetChargingProfile", limit("ocpp1.6", 32, 0, "ChargePointMaxProfile"))
    world.charge(evse=1)
    world.charge(evse=2)
    assert [bay.charge.amps for bay in world.station.bays.values()] == [16, 16]
    world.station.unplug(2)
    world.run(20)
    assert world.station.bays[1].charge.amps == 32


def test_a_clock_that_is_ahead_is_ahead_in_all_it_says() -> None:
    world = World(spec("ocpp1.6"), skew=90.0)
    world.charge(seconds=5)
    assert times.parse(world.said("StartTransaction")[0]["timestamp"]) == pytest.approx(T + 91, abs=1)


def test_heartbeats_and_triggers() -> None:
    world = World(spec("ocpp2.1"), heartbeat_s=10)
    world.run(30)
    assert len(world.said("Heartbeat")) == 3
    assert world.ask("TriggerMessage", {"requestedMessage": "Heartbeat"}) == {"status": "Accepted"}
    assert world.ask("TriggerMessage", {"requestedMessage": "StatusNotification"}) == {"status": "Accepted"}
    assert world.ask("TriggerMessage", {"requestedMessage": "SignV2GCertificate"}) == {"status": "NotImplemented"}
    assert len(world.said("Heartbeat")) == 4
    assert len(world.said("StatusNotification")) == 2
