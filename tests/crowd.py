"""A crowd of stations that keep a tally, a CPMS and an engine that keep theirs, and a broker between them.

The stations do what OCPP 1.6 asks of them (4.1, "Offline behaviour"): what belongs to a transaction is queued, sent one at a time, and
sent again after a reconnect until it was answered. So afterwards three tallies can be compared:

    station  what was answered, in order         each CALL of a transaction once
    CPMS     what arrived, in order              repeats of the unanswered, nothing out of order, nothing missing
    engine   which transactions it was told of   each started once and ended once, in order, under one key each
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from running import Running, free_port
from stranger_engine import StrangerEngine
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

PROTOCOL = [Subprotocol("ocpp1.6")]
PROFILE_KEYS = {"ChargeProfileMaxStackLevel": "5", "ChargingScheduleAllowedChargingRateUnit": "Current"}


def utc() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass
class Call:
    """One CALL of a station, until it is answered. `name` is the same in all tallies."""

    action: str
    name: str
    payload: dict[str, Any]
    made_at: float
    tries: int = 0


class Station:
    """One socket. `pause_s` between two of its CALLs."""

    def __init__(self, id: str, port: int, dice: random.Random, pause_s: float) -> None:
        self.id, self.port, self.dice, self.pause_s = id, port, dice, pause_s
        self.made: list[str] = []
        """Each CALL of a transaction, in order."""
        self.answered: list[str] = []
        self.repeats = 0
        self.links = 0
        self.waits: list[tuple[float, float]] = []
        """(when, how long) of each answer to a first try."""
        self.ends: list[tuple[float, int]] = []
        """(when, close code) of each connection's end; 1006: without a good-bye."""
        self.connected = False
        self.redial_s = 0.3
        """How long it waits at most before it dials again."""
        self.patience_s = 10.0
        """How long its handshake may take."""
        self.first_s = 0.0
        """How long after all others it begins."""
        self.boots_again = True
        """It boots each time it connects; or only the first time: then what stands there is still there."""
        self.limits_twice = 0
        """How many charging profiles it was sent although one stood there already."""
        self.obeys: Callable[[str, dict[str, Any]], dict[str, Any]] = obey
        """What it says to a CALL."""
        self.unknown = 0
        self.stopping = False
        self._queue: deque[Call] = deque()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._meter, self._count = 1000, 0
        self._transaction: int | None = None
        self._left = 0
        self._limited = False

    async def live(self) -> None:
        """Charge until told to stop; then end what is under way, and return once everything is answered."""
        await asyncio.sleep(self.first_s)
        while not (self.stopping and not self._queue and self._left == 0):
            with contextlib.suppress(OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError):
                url = f"ws://127.0.0.1:{self.port}/acme/{self.id}"
                patience_s = self.patience_s
                async with connect(url, subprotocols=PROTOCOL, ping_interval=None, open_timeout=patience_s, close_timeout=1) as connection:
                    self.links += 1
                    self.connected = True
                    hearing = asyncio.create_task(self._hear(connection))
                    try:
                        await self._talk(connection)
                    finally:
                        self.connected = False
                        hearing.cancel()
                        if connection.close_code is not None:
                            self.ends.append((time.monotonic(), connection.close_code))
            await asyncio.sleep(self.dice.uniform(0.05, self.redial_s))

    async def _talk(self, connection: ClientConnection) -> None:
        boot = {"chargePointVendor": "Crowd", "chargePointModel": "One", "firmwareVersion": "1"}
        if self.boots_again or self.links == 1:
            self._limited = False
            await self._ask(connection, "BootNotification", boot)
        status = "Charging" if self._transaction is not None else "Available"
        await self._ask(connection, "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": status, "timestamp": utc()})
        while not (self.stopping and not self._queue and self._left == 0):
            if not self._queue:
                self._queue.append(self._next())
                self.made.append(self._queue[0].name)
            await self._deliver(connection, self._queue[0])
            await asyncio.sleep(self.dice.uniform(0, 2 * self.pause_s) if not self.stopping else 0)

    async def _deliver(self, connection: ClientConnection, call: Call) -> None:
        call.tries += 1
        self.repeats += call.tries > 1
        if call.action == "MeterValues" and self._transaction is not None:
            call.payload["transactionId"] = self._transaction
        began = time.monotonic()
        answer = await self._ask(connection, call.action, call.payload)
        if call.tries == 1:
            self.waits.append((began, time.monotonic() - began))
        if call.action == "StartTransaction":
            self._transaction = answer["transactionId"]
        elif call.action == "StopTransaction":
            self._transaction = None
        self._queue.popleft()
        self.answered.append(call.name)

    def _next(self) -> Call:
        now, at = utc(), time.monotonic()
        self._meter += self.dice.randint(5, 50)
        if self._left == 0:
            self._count, self._left = self._count + 1, self.dice.randint(2, 5)
            start = {"connectorId": 1, "idTag": f"T{self._count}", "meterStart": self._meter, "timestamp": now}
            return Call("StartTransaction", f"start {self._count}", start, at)
        self._left -= 1
        if self._left == 0:
            stop = {"transactionId": self._transaction, "meterStop": self._meter, "timestamp": now, "reason": "EVDisconnected"}
            return Call("StopTransaction", f"stop {self._count}", stop, at)
        samples = [
            {"value": str(self._meter), "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
            {"value": str(self.dice.randint(3000, 7000)), "measurand": "Power.Active.Import", "unit": "W"},
        ]
        values = {"connectorId": 1, "meterValue": [{"timestamp": now, "sampledValue": samples}]}
        return Call("MeterValues", f"meter {self._meter}", values, at)

    async def _ask(self, connection: ClientConnection, action: str, payload: dict[str, Any]) -> Any:
        id = secrets.token_hex(8)
        answer = self._answers[id] = asyncio.get_running_loop().create_future()
        try:
            await connection.send(json.dumps([2, id, action, payload]))
            return await asyncio.wait_for(answer, 30)
        finally:
            del self._answers[id]

    def _limit(self, action: str) -> None:
        if action == "SetChargingProfile":
            self.limits_twice += self._limited
            self._limited = True
        elif action == "ClearChargingProfile":
            self._limited = False

    async def _hear(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                frame = json.loads(text)
                if frame[0] == 2:
                    self._limit(frame[2])
                    await connection.send(json.dumps([3, frame[1], self.obeys(frame[2], frame[3])]))
                elif frame[1] in self._answers:
                    self._answers[frame[1]].set_result(frame[2])
                else:
                    self.unknown += 1
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(EOFError())
                answer.exception()  # who asked may be gone already


def obey(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """What a willing station says to a CALL."""
    if action == "GetConfiguration":
        return {"configurationKey": [{"key": key, "readonly": True, "value": value} for key, value in PROFILE_KEYS.items()]}
    if action == "GetCompositeSchedule":
        schedule = {"duration": payload["duration"], "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 20.0}]}
        return {"status": "Accepted", "connectorId": payload["connectorId"], "scheduleStart": utc(), "chargingSchedule": schedule}
    return {"status": "Accepted"}


@dataclass
class Cpms:
    """Answers everything; the same StartTransaction (station, timestamp) gets the same transaction id."""

    arrived: dict[str, list[str]] = field(default_factory=dict)
    """Station → CALLs of transactions in the order they came, repeats included."""
    opens: list[ServerConnection] = field(default_factory=list)
    _transactions: dict[tuple[str, str], int] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _server: Server | None = None

    async def start(self, port: int = 0) -> int:
        self._server = await serve(
            self._serve, "127.0.0.1", port or free_port(), subprotocols=PROTOCOL, ping_interval=None, close_timeout=1
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        id = connection.request.path.rsplit("/", 1)[-1]
        self.opens.append(connection)
        with contextlib.suppress(ConnectionClosed):
            async for text in connection:
                with contextlib.suppress(ValueError, RecursionError, LookupError, TypeError):  # rubbish has no answer
                    frame = json.loads(text)
                    if frame[0] == 2:
                        await connection.send(json.dumps([3, frame[1], self._answer(id, frame[2], frame[3])]))
        self.opens.remove(connection)

    def _answer(self, id: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        arrived = self.arrived.setdefault(id, [])
        if action == "BootNotification":
            return {"status": "Accepted", "currentTime": utc(), "interval": 300}
        if action == "StartTransaction":
            number = self._transactions.setdefault((id, payload["timestamp"]), len(self._transactions) + 1)
            self._names[number] = f"{payload['idTag'][1:]}"
            arrived.append(f"start {payload['idTag'][1:]}")
            return {"transactionId": number, "idTagInfo": {"status": "Accepted"}}
        if action == "StopTransaction":
            arrived.append(f"stop {self._names[payload['transactionId']]}")
        elif action == "MeterValues":
            arrived.append(f"meter {payload['meterValue'][0]['sampledValue'][0]['value']}")
        return {}


class Engine(StrangerEngine):
    """Stores, and has its faults: `away`, and a share of answers that are lost after it stored, or come instead of storing."""

    away = False
    lost_share = 0.0
    repeats = 0

    def __init__(self, secret: str, sites: dict[str, str], limits_w: dict[str, float]) -> None:
        super().__init__(secret, sites, limits_w)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the asker was killed: no news

    def store(self, path: str, key: str, body: bytes) -> tuple[int, Any]:
        if self.away or random.random() < self.lost_share / 2:
            return 503, {}
        self.repeats += (path, key) in self.keys
        told = super().store(path, key, body)
        return (503, {}) if random.random() < self.lost_share / 2 else told


class Crowd:
    """All of them. `async with`: the broker runs, the stations do not yet."""

    def __init__(
        self, folder: Path, stations: int, *, pause_s: float = 0.05, seed: int = 0, drain: str = "1s", measure_every: str = "1s"
    ) -> None:
        self.folder, self.cpms, self._drain, self._measure_every = folder, Cpms(), drain, measure_every
        assets = [f"asset-{n}" for n in range(stations)]
        self.engine = Engine("acme:s3cret", dict.fromkeys(assets, "hq"), dict.fromkeys(assets, 6900.0))
        self.port, self.dice = free_port(), random.Random(seed)
        self.stations = [Station(f"S{n}", self.port, random.Random(self.dice.random()), pause_s) for n in range(stations)]
        self.cpms_port = 0
        self.broker: Running
        self._lives: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        self.cpms_port = await self.cpms.start()
        (self.folder / "secret").write_text("s3cret\n")
        listed = "".join(
            f'[[tenants.stations]]\nid = "S{n}"\nevses = {{ 1 = {{ asset = "asset-{n}", max_amps = 32 }} }}\n'
            for n in range(len(self.stations))
        )
        self.broker = Running(
            self.folder,
            f"""
[[listen]]
endpoint = "tcp:{self.port}:interface=127.0.0.1"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{self.cpms_port}/ocpp"
mode = "smart-charging"
[tenants.engine]
url = "{self.engine.url}"
client_id = "acme"
client_secret_file = "secret"
measure_every = "{self._measure_every}"
[[tenants.sites]]
name = "hq"
{listed}""",
            drain=self._drain,
        )
        await asyncio.to_thread(self.broker.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        alive = set(self._lives)
        while alive:  # Python 3.11's wait_for may swallow a cancellation
            for life in alive:
                life.cancel()
            _, alive = await asyncio.wait(alive, timeout=2.0)
        self.broker.__exit__()
        await self.cpms.stop()
        self.engine.stop()

    def begin(self) -> None:
        self._lives = [asyncio.create_task(station.live()) for station in self.stations]

    async def end(self, most_s: float = 120.0) -> None:
        """Let every station finish, and the engine hear everything. Raises TimeoutError if that does not come about."""
        self.engine.away, self.engine.lost_share = False, 0.0
        for station in self.stations:
            station.stopping = True
        end = time.monotonic() + most_s
        async with asyncio.timeout(most_s):
            await asyncio.gather(*self._lives)
        while (pending := await self.pending()) or self.untold():
            if time.monotonic() > end:
                raise TimeoutError(f"{pending} rows wait for the engine, of {self.untold()} starts and stops it was not told")
            await asyncio.sleep(0.2)

    async def pending(self) -> int:
        status = await asyncio.to_thread(self.broker.get, "/api/v1/status")
        return int(status["engines"]["acme"]["pending"])

    # ------------------------------------------------------------ the tallies

    def told(self) -> dict[str, list[tuple[str, str]]]:
        """Station → (Started or Ended, start time) as the engine heard them."""
        heard: dict[str, list[tuple[str, str]]] = {station.id: [] for station in self.stations}
        for one in list(self.engine.got["Transaction"]):
            if one["transactionState"] in ("Started", "Ended"):
                heard[f"S{one['assetId'].rpartition('-')[2]}"].append((one["transactionState"], one["startTime"]))
        return heard

    def untold(self) -> int:
        """How many starts and stops that stations had answered the engine was not told of."""
        heard = self.told()
        return sum(max(0, sum(not name.startswith("meter") for name in s.answered) - len(heard[s.id])) for s in self.stations)

    def mistakes(self) -> list[str]:
        """Whatever does not agree, in one line each."""
        told = self.told()
        said = [line for station in self.stations for line in self._of(station, told[station.id])]
        return [*said, *(f"engine: {fault}" for fault in self.engine.faults)]

    def _of(self, station: Station, told: list[tuple[str, str]]) -> list[str]:
        said: list[str] = []
        if station.answered != station.made:
            said.append(f"{station.id}: made {len(station.made)}, answered {len(station.answered)}")
        arrived = self.cpms.arrived.get(station.id, [])
        if list(dict.fromkeys(arrived)) != station.made:
            said.append(f"{station.id}: the CPMS heard {len(set(arrived))} of {len(station.made)}, or in another order")
        first = {name: at for at, name in reversed(list(enumerate(arrived)))}
        if any(a != b and first[b] <= at for at, (a, b) in enumerate(itertools.pairwise(arrived))):
            said.append(f"{station.id}: the CPMS heard an old CALL after a newer one")
        states = [state for state, _ in told]
        expected = ["Started" if name.startswith("start") else "Ended" for name in station.made if not name.startswith("meter")]
        if states != expected:
            at = next((n for n, (a, b) in enumerate(zip(states, expected, strict=False)) if a != b), min(len(states), len(expected)))
            near = ", ".join(f"{state} {time[11:23]}" for state, time in told[max(0, at - 2) : at + 3])
            said.append(f"{station.id}: the engine heard {len(states)} of {len(expected)} starts and stops; number {at} is wrong: {near}")
        times = [at for state, at in told if state == "Started"]
        if times != sorted(set(times)):
            said.append(f"{station.id}: the engine heard a transaction twice or out of order")
        if station.unknown:
            said.append(f"{station.id}: {station.unknown} answers to nothing it asked")
        return said
