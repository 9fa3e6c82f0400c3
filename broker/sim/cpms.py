"""A simulated CPMS for OCPP 1.6, 2.0.1 and 2.1: it lets drivers in, numbers transactions, sets its own limits, asks now and then.

Stations dial `<url>/<id>`. Every frame is written down per station, so that the other end's record can be held against it, and
so that a message of the broker's that got here would be seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger

from broker.model.traffic import OURS
from broker.ocpp import times
from broker.sim.wire import Log, Payload, Wire, Wrong

VERSIONS = ("ocpp2.1", "ocpp2.0.1", "ocpp1.6")
PROFILE_ID = 100
ASK_S = 20.0  # how often it asks for a status: an operator's screen being refreshed


@dataclass(frozen=True, slots=True)
class Policy:
    """What the CPMS does with a station of its own accord. `limit` None: it sets no profile."""

    limit: float | None = 32.0
    unit: str = "A"
    evse: int = 0
    asks: bool = False
    """Reads the station's capabilities after its boot, and asks for statuses."""


@dataclass(slots=True)
class Guest:
    """A station as the CPMS knows it, over all its links."""

    id: str
    version: str
    wire: Wire
    links: int = 0
    boots: int = 0
    transactions: dict[str, str] = field(default_factory=dict)
    """Every transaction it was told of → Started or Ended."""
    refused: list[str] = field(default_factory=list)
    """What the station did not do, of what it was asked."""


class Session(WebSocketServerProtocol):
    """Autobahn's end; it only passes on."""

    def __init__(self, cpms: Cpms) -> None:
        super().__init__()
        self.cpms = cpms
        self.guest: Guest | None = None

    def onConnect(self, request: Any) -> str:
        version = next((name for name in VERSIONS if name in request.protocols), None)
        id = unquote(request.path.rstrip("/").rsplit("/", 1)[-1])
        if version is None or not id:
            raise ConnectionDeny(400, "no OCPP version that we know")
        self.guest = self.cpms.guest(id, version)
        return version

    def onOpen(self) -> None:
        if self.guest is not None:
            self.guest.links += 1
            self.guest.wire.connected(lambda text: self.sendMessage(text, False))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.guest is not None:
            self.guest.wire.received(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self.guest is not None:
            self.guest.wire.disconnected()


class Cpms:
    """One CPMS. `policy(station id)` says what it does with a station; `blocked` are drivers it refuses."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        policy: Callable[[str], Policy] = lambda id: Policy(),
        *,
        heartbeat_s: int = 10,
        blocked: frozenset[str] = frozenset(),
        keep: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.guests: dict[str, Guest] = {}
        self.heartbeat_s, self.blocked, self.keep, self.wall = heartbeat_s, blocked, keep, wall
        self._policy, self._reactor = policy, reactor
        self._last_number = 4711
        self._port: Any = None
        self._timers: dict[str, Any] = {}

    def listen(self, port: int = 0) -> Deferred[str]:
        """Serve on 127.0.0.1; gives the URL to which a station's id is added."""
        factory = WebSocketServerFactory(protocols=list(VERSIONS), reactor=self._reactor)
        factory.setProtocolOptions(openHandshakeTimeout=20, closeHandshakeTimeout=2)
        factory.protocol = partial(Session, self)  # type: ignore[assignment]  # Autobahn calls whatever makes one
        self._port = self._reactor.listenTCP(port, factory, interface="127.0.0.1")
        return succeed(f"ws://127.0.0.1:{self._port.getHost().port}/ocpp")

    def hush(self) -> None:
        """Nothing more of its own accord."""
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()

    def stop(self) -> Deferred[None]:
        self.hush()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)

    def guest(self, id: str, version: str) -> Guest:
        """The station with this id; a new one if it never came."""
        known = self.guests.get(id)
        if known is None or known.version != version:
            wire = Wire(lambda action, payload: self.answer(id, action, payload), self._new_id, self._reactor.callLater, Log(self.keep))
            known = self.guests[id] = Guest(id, version, wire)
        return known

    def ours(self) -> int:
        """Frames with an id of the broker's that got here: there must be none."""
        return sum(seen.id.startswith(OURS) for guest in self.guests.values() for seen in guest.wire.log.received)

    def remote_start(self, id: str, evse: int, token: str) -> Deferred[Any]:
        """Let a driver charge from an app. The result is the station's answer."""
        if self.guests[id].version == "ocpp1.6":
            return self.ask(id, "RemoteStartTransaction", {"connectorId": evse, "idTag": token})
        said = {"evseId": evse, "remoteStartId": self.number(), "idToken": {"idToken": token, "type": "Central"}}
        return self.ask(id, "RequestStartTransaction", said)

    def ask(self, id: str, action: str, payload: Payload) -> Deferred[Any]:
        """A CALL to a station. What it refuses is noted, and its answer given in any case."""
        guest = self.guests[id]

        def answered(answer: Any) -> Any:
            if answer.get("status", "Accepted") != "Accepted":
                guest.refused.append(f"{action}: {answer}")
            return answer

        def failed(failure: Any) -> dict[str, Any]:
            failure.trap(Wrong)
            guest.refused.append(f"{action}: {failure.value.code} {failure.value.text}")
            return {}

        return guest.wire.call(action, payload).addCallbacks(answered, failed)

    def number(self) -> int:
        self._last_number += 1
        return self._last_number

    def _new_id(self) -> str:
        return str(uuid4())

    # ------------------------------------------------------------ answers

    def answer(self, id: str, action: str, payload: Any) -> Payload:
        """The payload of a CALLRESULT; `Wrong("NotImplemented")` for what it does not know."""
        guest = self.guests[id]
        if action == "BootNotification":
            return self._boot(guest)
        if action == "Heartbeat":
            return {"currentTime": times.text(self.wall())}
        if action == "Authorize":
            return self._verdict(guest, payload.get("idTag") or payload["idToken"]["idToken"])
        if action == "StartTransaction":
            number = self.number()
            guest.transactions[str(number)] = "Started"
            return {"transactionId": number, **self._verdict(guest, payload["idTag"])}
        if action == "StopTransaction":
            guest.transactions[str(payload["transactionId"])] = "Ended"
            return {}
        if action == "TransactionEvent":
            return self._event(guest, payload)
        if action in ("MeterValues", "StatusNotification", "NotifyReport", "NotifyEvent"):
            return {}
        raise Wrong("NotImplemented", f"{action} is not implemented")

    def _verdict(self, guest: Guest, token: str) -> dict[str, Any]:
        status = {"status": "Blocked" if token in self.blocked else "Accepted"}
        return {"idTagInfo": status} if guest.version == "ocpp1.6" else {"idTokenInfo": status}

    def _event(self, guest: Guest, payload: Mapping[str, Any]) -> Payload:
        id, ended = payload["transactionInfo"]["transactionId"], payload["eventType"] == "Ended"
        guest.transactions[id] = "Ended" if ended else "Started"
        token = payload.get("idToken")
        return self._verdict(guest, token["idToken"]) if token and not ended else {}

    def _boot(self, guest: Guest) -> Payload:
        guest.boots += 1
        timer = self._timers.get(guest.id)
        if timer is not None and timer.active():
            timer.cancel()
        self._timers[guest.id] = self._reactor.callLater(0.5, self._welcome, guest)
        return {"currentTime": times.text(self.wall()), "interval": self.heartbeat_s, "status": "Accepted"}

    # ------------------------------------------------------------ of its own accord

    def _welcome(self, guest: Guest) -> None:
        """After a boot: its default limit, and what the station can."""
        policy = self._policy(guest.id)
        if policy.limit is not None:
            self.ask(guest.id, "SetChargingProfile", default_profile(guest.version, policy))
        if policy.asks:
            self.ask(guest.id, *capabilities_asked(guest.version))
            self._timers[guest.id] = self._reactor.callLater(ASK_S, self._look, guest)

    def _look(self, guest: Guest) -> None:
        self.ask(guest.id, "TriggerMessage", {"requestedMessage": "StatusNotification"})
        self._timers[guest.id] = self._reactor.callLater(ASK_S, self._look, guest)


def default_profile(version: str, policy: Policy) -> dict[str, Any]:
    """SetChargingProfile's payload: a TxDefaultProfile without an end at stack level 0."""
    period = {"startPeriod": 0, "limit": policy.limit}
    schedule = {"chargingRateUnit": policy.unit, "chargingSchedulePeriod": [period]}
    head = {"stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Relative"}
    if version == "ocpp1.6":
        return {"connectorId": policy.evse, "csChargingProfiles": head | {"chargingProfileId": PROFILE_ID, "chargingSchedule": schedule}}
    return {"evseId": policy.evse, "chargingProfile": head | {"id": PROFILE_ID, "chargingSchedule": [schedule | {"id": 1}]}}


def capabilities_asked(version: str) -> tuple[str, dict[str, Any]]:
    """What a CPMS asks of a new station."""
    if version == "ocpp1.6":
        return "GetConfiguration", {"key": ["SupportedFeatureProfiles", "ChargeProfileMaxStackLevel", "MeterValueSampleInterval"]}
    names = ("ProfileStackLevel", "RateUnit", "PeriodsPerSchedule")
    return "GetVariables", {"getVariableData": [{"component": {"name": "SmartChargingCtrlr"}, "variable": {"name": n}} for n in names]}
