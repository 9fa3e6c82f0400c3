"""The service on boxes with faults of their own: a disk that is slow, a clock that is set while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import faulty
import pytest
from crowd import PROTOCOL, Crowd
from websockets.asyncio.client import ClientConnection, connect

WINDOWS = 5  # of each kind; their median is not moved by a machine that hiccups
WINDOW_S = 1.2


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


@pytest.mark.timeout(120)
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
            assert (tmp_path / "slowed").stat().st_size > 10 * WINDOWS, "the disk was slow"
            for at, most, name in ((0, 3, "p50"), (1, 5, "p99")):
                slow, fast = (statistics.median(window[at] for window in figures[kind]) for kind in ("slow", "fast"))
                record_property(name, f"{fast * 1e3:.1f} ms as it is, {slow * 1e3:.1f} ms with a slow disk")
                assert slow < most * fast, f"{name}: {slow * 1e3:.1f} ms where it was {fast * 1e3:.1f} ms"

    asyncio.run(story())


@pytest.mark.timeout(120)
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
            # An hour that comes twice cannot be told from stations that are an hour ahead: only the order of start times may suffer.
            assert [line for line in crowd.mistakes() if "twice or out of order" not in line] == []
            assert "Traceback" not in (tmp_path / "broker.log").read_text()
            transactions = list(crowd.engine.got["Transaction"])
            started = [told["transactionId"] for told in transactions if told["transactionState"] == "Started"]
            assert len(started) == len(set(started)), "none twice"
            for told in transactions:
                assert told["startTime"] > "2020", "a box that does not know the time believes the station"
                assert told["stopTime"] is None or told["startTime"] <= told["stopTime"]

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
