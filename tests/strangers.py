"""Stations and a CPMS that know nothing of us: PyPI `ocpp` over `websockets`, in all three versions.

`ocpp` validates every message against the official schemas on both sides, so a broker that bent a frame, or sent a profile that
the standard does not allow, would be told. Each side keeps every text frame that it sent or received, as it went over the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ocpp.v16.call
import ocpp.v16.call_result
import ocpp.v21.call
import ocpp.v21.call_result
import ocpp.v201.call
import ocpp.v201.call_result
from ocpp.routing import on
from ocpp.v16 import ChargePoint as Peer16
from ocpp.v21 import ChargePoint as Peer21
from ocpp.v201 import ChargePoint as Peer201
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

VERSIONS = ("ocpp1.6", "ocpp2.0.1", "ocpp2.1")


def utc() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Recorded:
    """A WebSocket that remembers what went over it."""

    def __init__(self, connection: ClientConnection | ServerConnection) -> None:
        self._connection = connection
        self.sent: list[str] = []
        self.received: list[str] = []

    async def recv(self) -> str:
        text = await self._connection.recv()
        assert isinstance(text, str)
        self.received.append(text)
        return text

    async def send(self, text: str) -> None:
        self.sent.append(text)
        await self._connection.send(text)


async def listen(peer: Any) -> None:
    """Serve what comes in until the other side goes."""
    with contextlib.suppress(ConnectionClosed, asyncio.CancelledError):
        await peer.start()


# ---------------------------------------------------------------- the CPMS


class Cpms16(Peer16):
    """Accepts everything; numbers transactions."""

    transactions = 4000

    @on("BootNotification")
    def on_boot(self, **_: Any) -> Any:
        return ocpp.v16.call_result.BootNotification(current_time=utc(), interval=300, status="Accepted")

    @on("Heartbeat")
    def on_heartbeat(self) -> Any:
        return ocpp.v16.call_result.Heartbeat(current_time=utc())

    @on("StatusNotification")
    def on_status(self, **_: Any) -> Any:
        return ocpp.v16.call_result.StatusNotification()

    @on("Authorize")
    def on_authorize(self, **_: Any) -> Any:
        return ocpp.v16.call_result.Authorize(id_tag_info={"status": "Accepted"})

    @on("StartTransaction")
    def on_start(self, **_: Any) -> Any:
        Cpms16.transactions += 1
        return ocpp.v16.call_result.StartTransaction(transaction_id=Cpms16.transactions, id_tag_info={"status": "Accepted"})

    @on("MeterValues")
    def on_meter_values(self, **_: Any) -> Any:
        return ocpp.v16.call_result.MeterValues()

    @on("StopTransaction")
    def on_stop(self, **_: Any) -> Any:
        return ocpp.v16.call_result.StopTransaction()

    async def limit(self, amps: float) -> str:
        """The CPMS's own default profile; returns the station's status."""
        schedule = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": amps}]}
        profile = {
            "chargingProfileId": 1,
            "stackLevel": 0,
            "chargingProfilePurpose": "TxDefaultProfile",
            "chargingProfileKind": "Relative",
            "chargingSchedule": schedule,
        }
        answer = await self.call(ocpp.v16.call.SetChargingProfile(connector_id=0, cs_charging_profiles=profile))
        return str(answer.status)


def _cpms2(peer: type, results: Any, calls: Any) -> type:
    """The 2.0.1 and the 2.1 CPMS differ in their library's modules only."""

    class Cpms2(peer):  # type: ignore[misc]
        @on("BootNotification")
        def on_boot(self, **_: Any) -> Any:
            return results.BootNotification(current_time=utc(), interval=300, status="Accepted")

        @on("Heartbeat")
        def on_heartbeat(self, **_: Any) -> Any:
            return results.Heartbeat(current_time=utc())

        @on("StatusNotification")
        def on_status(self, **_: Any) -> Any:
            return results.StatusNotification()

        @on("Authorize")
        def on_authorize(self, **_: Any) -> Any:
            return results.Authorize(id_token_info={"status": "Accepted"})

        @on("TransactionEvent")
        def on_transaction(self, **_: Any) -> Any:
            return results.TransactionEvent(id_token_info={"status": "Accepted"})

        @on("MeterValues")
        def on_meter_values(self, **_: Any) -> Any:
            return results.MeterValues()

        async def limit(self, amps: float) -> str:
            schedule = {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": amps}]}
            profile = {
                "id": 1,
                "stackLevel": 0,
                "chargingProfilePurpose": "TxDefaultProfile",
                "chargingProfileKind": "Relative",
                "chargingSchedule": [schedule],
            }
            answer = await self.call(calls.SetChargingProfile(evse_id=0, charging_profile=profile))
            return str(answer.status)

    return Cpms2


CPMS = {
    "ocpp1.6": Cpms16,
    "ocpp2.0.1": _cpms2(Peer201, ocpp.v201.call_result, ocpp.v201.call),
    "ocpp2.1": _cpms2(Peer21, ocpp.v21.call_result, ocpp.v21.call),
}


class StrangerCpms:
    """A management system for all three versions. `limit_amps`: its own default profile, set when a station's first CALL is answered."""

    def __init__(self, limit_amps: float | None = None) -> None:
        self.limit_amps = limit_amps
        self.wires: dict[str, Recorded] = {}
        self.headers: dict[str, Any] = {}
        self.limits: dict[str, str] = {}
        self._server: Server | None = None

    async def start(self, tls: ssl.SSLContext | None = None) -> int:
        protocols = [Subprotocol(version) for version in VERSIONS]
        self._server = await serve(self._serve, "127.0.0.1", 0, subprotocols=protocols, ssl=tls)
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        id = connection.request.path.rsplit("/", 1)[-1]
        wire = self.wires[id] = Recorded(connection)
        self.headers[id] = connection.request.headers
        peer = CPMS[str(connection.subprotocol)](id, wire)
        serving = asyncio.create_task(listen(peer))
        if self.limit_amps is not None:
            while not wire.sent and not serving.done():
                await asyncio.sleep(0.02)
            self.limits[id] = await peer.limit(self.limit_amps)
        await serving


# ---------------------------------------------------------------- stations


class Station16(Peer16):
    """Obeys; remembers the limits it was given by others than its CPMS's default profile."""

    def __init__(self, id: str, wire: Recorded) -> None:
        super().__init__(id, wire)
        self.profiles: list[dict[str, Any]] = []
        self.meter_wh = 1000

    @on("SetChargingProfile")
    def on_profile(self, connector_id: int, cs_charging_profiles: dict[str, Any]) -> Any:
        self.profiles.append(cs_charging_profiles)
        return ocpp.v16.call_result.SetChargingProfile(status="Accepted")

    @on("ClearChargingProfile")
    def on_clear(self, **_: Any) -> Any:
        return ocpp.v16.call_result.ClearChargingProfile(status="Accepted")

    @on("GetCompositeSchedule")
    def on_composite(self, connector_id: int, duration: int, **_: Any) -> Any:
        schedule = {"duration": duration, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 20.0}]}
        return ocpp.v16.call_result.GetCompositeSchedule(
            status="Accepted", connector_id=connector_id, schedule_start=utc(), charging_schedule=schedule
        )

    @on("GetConfiguration")
    def on_configuration(self, key: list[str] | None = None) -> Any:
        known = {"ChargeProfileMaxStackLevel": "5", "ChargingScheduleAllowedChargingRateUnit": "Current"}
        asked = key or list(known)
        told = [{"key": one, "readonly": True, "value": known[one]} for one in asked if one in known]
        return ocpp.v16.call_result.GetConfiguration(configuration_key=told, unknown_key=[one for one in asked if one not in known])

    async def arrive(self) -> None:
        await self.call(ocpp.v16.call.BootNotification(charge_point_model="Odd", charge_point_vendor="Stranger", firmware_version="1"))
        for connector in (0, 1):
            await self.call(
                ocpp.v16.call.StatusNotification(connector_id=connector, error_code="NoError", status="Available", timestamp=utc())
            )

    async def begin(self, token: str) -> Any:
        await self.call(ocpp.v16.call.Authorize(id_tag=token))
        answer = await self.call(ocpp.v16.call.StartTransaction(connector_id=1, id_tag=token, meter_start=self.meter_wh, timestamp=utc()))
        await self.call(ocpp.v16.call.StatusNotification(connector_id=1, error_code="NoError", status="Charging", timestamp=utc()))
        return answer.transaction_id

    async def measure(self, transaction: Any, watts: int) -> None:
        self.meter_wh += 25
        samples = [
            {"value": str(self.meter_wh), "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
            {"value": str(watts), "measurand": "Power.Active.Import", "unit": "W"},
        ]
        await self.call(
            ocpp.v16.call.MeterValues(
                connector_id=1, transaction_id=transaction, meter_value=[{"timestamp": utc(), "sampledValue": samples}]
            )
        )

    async def end(self, transaction: Any) -> None:
        await self.call(
            ocpp.v16.call.StopTransaction(meter_stop=self.meter_wh, timestamp=utc(), transaction_id=transaction, reason="EVDisconnected")
        )
        await self.call(ocpp.v16.call.StatusNotification(connector_id=1, error_code="NoError", status="Available", timestamp=utc()))


def _station2(peer: type, results: Any, calls: Any) -> type:
    class Station2(peer):  # type: ignore[misc]
        def __init__(self, id: str, wire: Recorded) -> None:
            super().__init__(id, wire)
            self.profiles: list[dict[str, Any]] = []
            self.meter_wh = 1000
            self.seq_no = 0

        @on("SetChargingProfile")
        def on_profile(self, evse_id: int, charging_profile: dict[str, Any], **_: Any) -> Any:
            self.profiles.append(charging_profile)
            return results.SetChargingProfile(status="Accepted")

        @on("ClearChargingProfile")
        def on_clear(self, **_: Any) -> Any:
            return results.ClearChargingProfile(status="Accepted")

        @on("GetCompositeSchedule")
        def on_composite(self, evse_id: int, duration: int, **_: Any) -> Any:
            schedule = {
                "evseId": evse_id,
                "duration": duration,
                "scheduleStart": utc(),
                "chargingRateUnit": "A",
                "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 20.0}],
            }
            return results.GetCompositeSchedule(status="Accepted", schedule=schedule)

        @on("GetVariables")
        def on_variables(self, get_variable_data: list[dict[str, Any]], **_: Any) -> Any:
            known = {"ProfileStackLevel": "5", "RateUnit": "A,W", "PeriodsPerSchedule": "10"}
            told = [
                {
                    "attributeStatus": "Accepted" if one["variable"]["name"] in known else "UnknownVariable",
                    "component": one["component"],
                    "variable": one["variable"],
                    **({"attributeValue": known[one["variable"]["name"]]} if one["variable"]["name"] in known else {}),
                }
                for one in get_variable_data
            ]
            return results.GetVariables(get_variable_result=told)

        async def arrive(self) -> None:
            await self.call(calls.BootNotification(charging_station={"model": "Odd", "vendorName": "Stranger"}, reason="PowerUp"))
            await self.call(calls.StatusNotification(timestamp=utc(), connector_status="Available", evse_id=1, connector_id=1))

        async def _event(self, kind: str, why: str, transaction: str, **more: Any) -> None:
            info = {"transactionId": transaction, "chargingState": "Charging" if kind != "Ended" else "Idle"}
            await self.call(
                calls.TransactionEvent(
                    event_type=kind, timestamp=utc(), trigger_reason=why, seq_no=self.seq_no, transaction_info=info, **more
                )
            )
            self.seq_no += 1

        def _meter(self, watts: int) -> list[dict[str, Any]]:
            samples = [
                {"value": self.meter_wh, "measurand": "Energy.Active.Import.Register", "unitOfMeasure": {"unit": "Wh"}},
                {"value": watts, "measurand": "Power.Active.Import", "unitOfMeasure": {"unit": "W"}},
            ]
            return [{"timestamp": utc(), "sampledValue": samples}]

        async def begin(self, token: str) -> str:
            transaction = f"{self.id}-tx-1"
            await self.call(calls.Authorize(id_token={"idToken": token, "type": "ISO14443"}))
            await self._event(
                "Started",
                "Authorized",
                transaction,
                evse={"id": 1, "connectorId": 1},
                id_token={"idToken": token, "type": "ISO14443"},
                meter_value=self._meter(0),
            )
            return transaction

        async def measure(self, transaction: str, watts: int) -> None:
            self.meter_wh += 25
            await self._event("Updated", "MeterValuePeriodic", transaction, meter_value=self._meter(watts))

        async def end(self, transaction: str) -> None:
            await self._event("Ended", "EVDeparted", transaction, meter_value=self._meter(0))

    return Station2


STATIONS = {
    "ocpp1.6": Station16,
    "ocpp2.0.1": _station2(Peer201, ocpp.v201.call_result, ocpp.v201.call),
    "ocpp2.1": _station2(Peer21, ocpp.v21.call_result, ocpp.v21.call),
}


class Day:
    """What a station lived through."""

    def __init__(self, id: str, version: str, token: str) -> None:
        self.id, self.version, self.token = id, version, token
        self.wire: Recorded
        self.profiles: list[dict[str, Any]] = []
        self.transaction: Any = None
        self.meter_wh = 0
        self.subprotocol = ""


async def a_day(
    url: str, day: Day, *, tls: ssl.SSLContext | None = None, until: Callable[[Any], bool], headers: dict[str, str] | None = None
) -> Day:
    """Boot, charge, measure twice a second until `until(station)` holds or 40 s have gone, stop. Everything is recorded in `day`."""
    async with connect(f"{url}/{day.id}", subprotocols=[Subprotocol(day.version)], ssl=tls, additional_headers=headers) as connection:
        day.subprotocol = str(connection.subprotocol)
        day.wire = Recorded(connection)
        station = STATIONS[day.version](day.id, day.wire)
        serving = asyncio.create_task(listen(station))
        await station.arrive()
        day.transaction = await station.begin(day.token)
        for _ in range(80):
            await station.measure(day.transaction, 11000)
            if until(station):
                break
            await asyncio.sleep(0.5)
        await station.end(day.transaction)
        day.profiles, day.meter_wh = station.profiles, station.meter_wh
        serving.cancel()
    return day


def without_ours(frames: list[str]) -> list[str]:
    """Frames but for our CALLs and their answers, told by their id."""
    return [frame for frame in frames if not str(json.loads(frame)[1]).startswith("ocb-")]
