"""How a simulated station says in its version's words what happens to it: boots, states, transactions and meter readings.

In: what happened, in the station's own terms. Out: an action and its payload, valid against that version's schemas. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

from broker.ocpp import times
from broker.sim.cars import Socket
from broker.sim.meter import Manner, Sample, sampled_2, sampled_16

State = Literal["Available", "Preparing", "Charging", "SuspendedEV", "SuspendedEVSE", "Finishing"]


class Said(NamedTuple):
    action: str
    payload: dict[str, Any]


PLAIN: Final = Manner()
ONE_SOCKET: Final = (Socket(1),)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a station is."""

    id: str
    version: str
    """ocpp1.6 | ocpp2.0.1 | ocpp2.1"""
    sockets: tuple[Socket, ...] = ONE_SOCKET
    manner: Manner = PLAIN
    units: frozenset[str] = frozenset({"A", "W"})
    max_level: int = 8
    max_periods: int = 24
    every_s: float = 4.0
    """Between meter readings of a transaction."""
    stop_readings: bool = False
    """1.6: whether StopTransaction carries transactionData."""

    @property
    def dc(self) -> bool:
        return self.sockets[0].dc


@dataclass(slots=True)
class Session:
    """A transaction as its station knows it. Times are the station's clock; the register in Wh as it was said."""

    evse: int
    token: str = field(repr=False)
    started: float
    begin_wh: int
    id: str = ""
    remote_id: int | None = None
    accepted: bool = False
    ended: float | None = None
    end_wh: int | None = None
    seq_no: int = -1
    state: State = "Preparing"

    def next(self) -> int:
        self.seq_no += 1
        return self.seq_no


class Words(Protocol):
    """A version's way to say it."""

    def boot(self, spec: Spec) -> Said: ...
    def status(self, evse: int, state: State, at: float) -> Said: ...
    def authorize(self, token: str) -> Said: ...
    def started(self, session: Session, sample: Sample, manner: Manner) -> Said: ...
    def metered(self, session: Session, sample: Sample, manner: Manner, at: float) -> Said: ...
    def changed(self, session: Session, at: float) -> Said: ...
    def ended(self, session: Session, sample: Sample, spec: Spec, reason: str) -> Said: ...


class Words16:
    """OCPP 1.6: the CPMS numbers transactions."""

    def boot(self, spec: Spec) -> Said:
        station = {"chargePointVendor": "Simulated", "chargePointModel": "One-Six", "firmwareVersion": "6.1"}
        return Said("BootNotification", station | {"chargePointSerialNumber": f"SN-{spec.id}"[:25]})

    def status(self, evse: int, state: State, at: float) -> Said:
        return Said("StatusNotification", {"connectorId": evse, "errorCode": "NoError", "status": state, "timestamp": times.text(at)})

    def authorize(self, token: str) -> Said:
        return Said("Authorize", {"idTag": token})

    def started(self, session: Session, sample: Sample, manner: Manner) -> Said:
        said = {"connectorId": session.evse, "idTag": session.token, "meterStart": session.begin_wh}
        return Said("StartTransaction", said | {"timestamp": times.text(session.started)})

    def metered(self, session: Session, sample: Sample, manner: Manner, at: float) -> Said:
        value = {"timestamp": times.text(at), "sampledValue": sampled_16(sample, manner, "Sample.Periodic")}
        return Said("MeterValues", {"connectorId": session.evse, "transactionId": int(session.id), "meterValue": [value]})

    def changed(self, session: Session, at: float) -> Said:
        return self.status(session.evse, session.state, at)

    def ended(self, session: Session, sample: Sample, spec: Spec, reason: str) -> Said:
        at = times.text(session.ended or session.started)
        said: dict[str, Any] = {"transactionId": int(session.id), "meterStop": session.end_wh, "timestamp": at, "reason": reason}
        if spec.stop_readings:
            said["transactionData"] = [{"timestamp": at, "sampledValue": sampled_16(sample, spec.manner, "Transaction.End")}]
        return Said("StopTransaction", said | ({"idTag": session.token} if reason == "Local" else {}))


CHARGING_STATE: Final[Mapping[State, str]] = {
    "Preparing": "EVConnected",
    "Charging": "Charging",
    "SuspendedEV": "SuspendedEV",
    "SuspendedEVSE": "SuspendedEVSE",
    "Finishing": "EVConnected",
}


class Words2:
    """OCPP 2.0.1 and 2.1: the station names transactions, and all of a transaction is TransactionEvents."""

    def boot(self, spec: Spec) -> Said:
        station = {"vendorName": "Simulated", "model": f"Two {spec.version[4:]}"[:20], "firmwareVersion": "2.4"}
        station["serialNumber"] = f"SN-{spec.id}"[:25]
        return Said("BootNotification", {"reason": "PowerUp", "chargingStation": station})

    def status(self, evse: int, state: State, at: float) -> Said:
        word = "Available" if state == "Available" else "Occupied"
        return Said("StatusNotification", {"timestamp": times.text(at), "connectorStatus": word, "evseId": evse, "connectorId": 1})

    def authorize(self, token: str) -> Said:
        return Said("Authorize", {"idToken": {"idToken": token, "type": "ISO14443"}})

    def started(self, session: Session, sample: Sample, manner: Manner) -> Said:
        said = self.event(session, "Started", session.started, "RemoteStart" if session.remote_id is not None else "Authorized")
        said["evse"] = {"id": session.evse, "connectorId": 1}
        said["idToken"] = {"idToken": session.token, "type": "ISO14443"}
        said["meterValue"] = [{"timestamp": said["timestamp"], "sampledValue": sampled_2(sample, manner, "Transaction.Begin")}]
        if session.remote_id is not None:
            said["transactionInfo"]["remoteStartId"] = session.remote_id
        return Said("TransactionEvent", said)

    def metered(self, session: Session, sample: Sample, manner: Manner, at: float) -> Said:
        said = self.event(session, "Updated", at, "MeterValuePeriodic")
        said["meterValue"] = [{"timestamp": said["timestamp"], "sampledValue": sampled_2(sample, manner, "Sample.Periodic")}]
        return Said("TransactionEvent", said)

    def changed(self, session: Session, at: float) -> Said:
        return Said("TransactionEvent", self.event(session, "Updated", at, "ChargingStateChanged"))

    def ended(self, session: Session, sample: Sample, spec: Spec, reason: str) -> Said:
        why = {"Remote": "RemoteStop", "Local": "StopAuthorized", "DeAuthorized": "Deauthorized"}.get(reason, "EVDeparted")
        said = self.event(session, "Ended", session.ended or session.started, why)
        said["transactionInfo"]["stoppedReason"] = reason
        said["meterValue"] = [{"timestamp": said["timestamp"], "sampledValue": sampled_2(sample, spec.manner, "Transaction.End")}]
        if reason == "Local":
            said["idToken"] = {"idToken": session.token, "type": "ISO14443"}
        return Said("TransactionEvent", said)

    def event(self, session: Session, kind: str, at: float, trigger: str) -> dict[str, Any]:
        state = {"transactionId": session.id, "chargingState": CHARGING_STATE.get(session.state, "Idle")}
        head = {"eventType": kind, "timestamp": times.text(at), "triggerReason": trigger, "seqNo": session.next()}
        return head | {"transactionInfo": state}


WORDS: Final[Mapping[str, Words]] = {"ocpp1.6": Words16(), "ocpp2.0.1": Words2(), "ocpp2.1": Words2()}
