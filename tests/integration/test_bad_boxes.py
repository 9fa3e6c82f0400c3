"""The service on boxes with faults of their own: a disk that is slow, a clock that is set while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import faulty
import pytest
from crowd import PROTOCOL, Crowd, obey
from websockets.asyncio.client import ClientConnection, connect

WINDOWS = 5  # of each kind; their median is not moved by a machine that hiccups
WINDOW_S = 1.2
DAY_S = 86_400.0


@asynccontextmanager
async def innocent(crowd: Crowd) -> AsyncIterator[ClientConnection]:
    """A station that has nothing to do with it: it is relayed only."""
    url = f"ws://127.0.0.1:{crowd.port}/acme/innocent"
    async with connect(url, subprotocols=PROTOCOL, ping_interval=None, close_timeout=1) as connection:
        yield connection


async def heartbeats(connection: ClientConnection, seconds: float) -> list[float]:
    """How long each took."""
    took: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        await connection.send(json.dumps([2, str(began), "Heartbeat", {}]))
        while json.loads(await connection.recv())[1] != str(began):
            pass
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    return took


def p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


def test_a_slow_disk_does_not_show_on_a_station_that_waits_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """50 ms a commit, under stations whose answers wait for theirs: measured in turns with the disk as it is, in the same run."""

    async def story() -> None:
        faulty.install(tmp_path, monkeypatch)
        async with Crowd(tmp_path, 6) as crowd:
            crowd.begin()
            figures: dict[str, list[tuple[float, float]]] = {"slow": [], "fast": []}
            async with innocent(crowd) as connection:
                await heartbeats(connection, 1.0)
                for n in range(2 * WINDOWS):
                    kind = "slow" if n % 2 else "fast"
                    (tmp_path / "slow").touch() if kind == "slow" else (tmp_path / "slow").unlink(missing_ok=True)
                    await heartbeats(connection, 0.3)  # what was begun before ends
                    took = await heartbeats(connection, WINDOW_S)
                    figures[kind].append((statistics.median(took), p99(took)))
            (tmp_path / "slow").unlink()
            await crowd.end()
            assert crowd.mistakes() == []
            assert (tmp_path / "slowed").stat().st_size > 2 * WINDOWS, "the disk was slow, and takes its own time besides"
            for at, most, name in ((0, 3, "p50"), (1, 5, "p99")):
                slow, fast = (statistics.median(window[at] for window in figures[kind]) for kind in ("slow", "fast"))
                record_property(name, f"{fast * 1e3:.1f} ms as it is, {slow * 1e3:.1f} ms with a slow disk")
                assert slow < most * fast, f"{name}: {slow * 1e3:.1f} ms where it was {fast * 1e3:.1f} ms"

    asyncio.run(story())


def test_a_clock_that_is_set_fires_and_freezes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back, two hours ahead, to 1970 and right again, under stations that charge: no link ends, every timer goes on."""

    async def story() -> None:
        faulty.install(tmp_path, monkeypatch)
        async with Crowd(tmp_path, 6) as crowd:
            crowd.begin()
            ending: list[asyncio.Task[float]] = []
            async with innocent(crowd) as connection:
                await heartbeats(connection, 2.0)
                for off in (-3600.0, 7200.0, -time.time(), 0.0):
                    half = asyncio.create_task(dropped(crowd.port))
                    await asyncio.sleep(0.3)
                    faulty.set_clock(tmp_path, off)
                    measured, answered = len(crowd.engine.got["Measurement"]), [len(one.answered) for one in crowd.stations]
                    await heartbeats(connection, 3.0)
                    assert not half.done(), "a timer fired early"
                    assert all(len(one.answered) > before for one, before in zip(crowd.stations, answered, strict=True))
                    assert len(crowd.engine.got["Measurement"]) > measured, "what goes by a timer goes on"
                    ending.append(half)
                assert min(await asyncio.wait_for(asyncio.gather(*ending), 60)) > 3.0, "each was dropped in its time"
            assert [one.links for one in crowd.stations] == [1] * 6
            await crowd.end()
            assert crowd.mistakes() == []
            assert "Traceback" not in (tmp_path / "broker.log").read_text()
            transactions = list(crowd.engine.got["Transaction"])
            started = [told["transactionId"] for told in transactions if told["transactionState"] == "Started"]
            assert len(started) == len(set(started)), "none twice"
            for told in transactions:
                assert told["startTime"] > "2020", "a box that does not know the time believes the station"
                assert told["stopTime"] is None or told["startTime"] <= told["stopTime"]

    asyncio.run(story())


class Listening(Crowd):
    """Its stations tell which of our CALLs about profiles they got."""

    def __init__(self, folder: Path, stations: int) -> None:
        super().__init__(folder, stations, pause_s=0.3)
        self.asked: list[tuple[str, str]] = []
        for station in self.stations:
            station.obeys = partial(self._obeys, station.id)

    def _obeys(self, id: str, action: str, payload: dict[str, Any]) -> dict[str, Any]:
        if "ChargingProfile" in action:
            self.asked.append((id, action))
        return obey(action, payload)

    def stands(self, id: str) -> Any:
        """How much of ours, in amperes; None: nothing."""
        learned = self.broker.get(f"/api/v1/stations/acme/{id}")["learned"]
        if learned is None:
            return None
        limits = learned["limits"]["1"]
        return limits["sent"]["limit"] if limits["sent"] is not None and limits["status"] == "accepted" else None

    def limit(self, id: str, amps: float, seconds: float) -> None:
        """The operator's."""
        token = (self.folder / "var" / "token").read_text().strip()
        url = f"http://127.0.0.1:{self.broker.admin}/api/v1/stations/acme/{id}/limit"
        body = json.dumps({"amps": amps, "for_s": seconds}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body, {"Authorization": f"Bearer {token}"}), timeout=10) as answer:
            assert answer.status == 200

    async def quiet(self) -> None:
        """Return when none of them was asked anything of the kind for some seconds."""
        before = -1
        while before != len(self.asked):
            before = len(self.asked)
            await asyncio.sleep(4.0)

    async def until(self, holds: Callable[[], object], within_s: float = 90.0) -> None:
        end = time.monotonic() + within_s
        while not await asyncio.to_thread(holds):
            assert time.monotonic() < end, "it did not come about"
            await asyncio.sleep(0.1)  # the process has its own clock


@pytest.mark.parametrize("off", [DAY_S, -DAY_S], ids=["ahead", "back"])
def test_a_clock_a_day_off_costs_no_limit_and_no_event_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    """Set, and right again, under transactions, limits of the engine's and an operator's, and rows that the engine does not take."""

    async def story() -> None:
        faulty.install(tmp_path, monkeypatch)
        async with Listening(tmp_path, 4) as crowd:
            began = datetime.now(UTC)
            crowd.begin()
            await crowd.until(lambda: [crowd.stands(one.id) for one in crowd.stations] == [10.0] * 4)
            await asyncio.to_thread(crowd.limit, "S0", 8.0, 600.0)
            await crowd.until(lambda: crowd.stands("S0") == 8.0)
            await crowd.quiet()
            asked, logins = list(crowd.asked), crowd.engine.logins
            crowd.engine.away = True
            await crowd.until(lambda: crowd.broker.get("/api/v1/status")["engines"]["acme"]["pending"] > 10)
            for set_to in (off, 0.0):
                faulty.set_clock(tmp_path, set_to)
                answered = [len(one.answered) for one in crowd.stations]
                await asyncio.sleep(12.0)  # alarms are looked at every 10 s
                assert all(len(one.answered) > before for one, before in zip(crowd.stations, answered, strict=True))
                assert {one["name"] for one in crowd.broker.get("/api/v1/alarms")["alarms"]} <= {"engine"}, "it is away indeed"
                assert [crowd.stands(one.id) for one in crowd.stations] == [8.0, 10.0, 10.0, 10.0]
                assert crowd.asked == asked, "nothing was sent, or taken back"
                crowd.engine.away = False
            assert [one.links for one in crowd.stations] == [1] * 4
            await crowd.end()
            assert crowd.mistakes() == []
            status = crowd.broker.get("/api/v1/status")
            assert (status["store"]["dropped"], crowd.engine.logins) == (0, logins), "nothing was too old"
            times = [told[name] for told in crowd.engine.got["Transaction"] for name in ("startTime", "stopTime") if told[name]]
            times += [told["timestamp"] for told in crowd.engine.got["Measurement"]]
            for at in map(datetime.fromisoformat, times):
                assert began - timedelta(seconds=5) < at < datetime.now(UTC) + timedelta(seconds=5), "as the stations said"
            assert "Traceback" not in (tmp_path / "broker.log").read_text()

    asyncio.run(story())


async def dropped(port: int) -> float:
    """After how many seconds a handshake that never ends is ended by the broker."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /acme/half HTTP/1.1\r\nHost: broker\r\n")
    with contextlib.suppress(ConnectionResetError):
        await reader.read()
    writer.close()
    return time.monotonic() - began
