"""The service stopped, killed and started again under a station that charges: what it promised is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import faulty
import pytest
from neighbours import Neighbours
from websockets.exceptions import ConnectionClosed


class World(Neighbours):
    """They, and what the engine was told."""

    async def told(self, kind: str, state: str = "", most_s: float = 60.0) -> list[dict[str, Any]]:
        """What the engine was told of this kind (in this state), once there is anything."""
        for _ in range(int(most_s * 20)):
            found = [one for one in self.engine.got[kind] if not state or state in (one.get("transactionState"), one.get("status"))]
            if found:
                return found
            await asyncio.sleep(0.05)
        return []


async def limited(station: Any, most_s: float = 60.0) -> bool:
    """Measure until a profile has come."""
    for _ in range(int(most_s * 4)):
        await station.measure(station.transaction, 11000)
        if station.profiles:
            return True
        await asyncio.sleep(0.25)
    return False


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1"])
def test_after_kill_9_the_transaction_goes_on_and_the_limit_is_not_sent_again(tmp_path: Path, version: str) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            async with world.station(version=version) as station:
                await station.arrive()
                station.transaction = await station.begin("TAG")
                assert await limited(station)
                assert await world.told("Outcome", "accepted")  # the station's answer is on disk
                world.broker.kill()
            transaction, meter_wh = station.transaction, station.meter_wh
            seq_no = getattr(station, "seq_no", 0)
            world.broker.start()
            async with world.station(version=version) as station:  # no boot: a station that only reconnects sends none
                station.transaction, station.meter_wh = transaction, meter_wh
                if version != "ocpp1.6":
                    station.seq_no = seq_no
                for _ in range(52):
                    await station.measure(transaction, 6900)
                    await asyncio.sleep(0.25)
                assert station.profiles == []
                known = world.broker.get("/api/v1/stations/acme/S")["learned"]
                assert known["limits"]["1"]["sent"]["limit"] == 10.0
                await station.end(transaction)
                ended = await world.told("Transaction", "Ended")
            started = await world.told("Transaction", "Started")
            assert len(started) == len(ended) == 1
            assert started[0]["transactionId"] == ended[0]["transactionId"]
            assert world.engine.faults == []

    asyncio.run(story())


def test_what_a_station_was_told_is_delivered_is_on_disk_before_a_kill_9(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long an answer may wait is stretched: a disk that takes more than 250 ms breaks the promise, and is allowed to."""
    faulty.install(tmp_path, monkeypatch)
    (tmp_path / "patient").write_text("50")

    async def story() -> None:
        async with World(tmp_path) as world:
            world.engine.stop()  # the engine hears nothing before the kill
            async with world.station() as station:
                await station.arrive()
                for n in range(20):
                    station.transaction = await station.begin(f"TAG{n}")
                    await station.end(station.transaction)
                world.broker.kill()
            told = [frame for frame in station.wire.received if "transactionId" in frame]
            assert len(told) == 20
            # The one that was on its way may be in both places: it has one key, and will be told again.
            known = {(t["transactionId"], t["transactionState"]) for t in [*world.engine.got["Transaction"], *pending(tmp_path)]}
            assert sorted(state for _, state in known) == ["Ended"] * 20 + ["Started"] * 20

    asyncio.run(story())


def pending(folder: Path) -> list[dict[str, Any]]:
    """Transactions in the store that the engine has yet to be told."""
    with contextlib.closing(sqlite3.connect(folder / "var" / "store.sqlite")) as db:
        rows = db.execute("SELECT body FROM outbox WHERE kind = 'transaction' ORDER BY seq").fetchall()
    return [json.loads(body) for (body,) in rows]


def test_sigterm_closes_a_link_with_1012_once_nothing_is_open_and_exits_0(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world, world.station() as station:
            await station.arrive()
            status = await asyncio.to_thread(world.broker.stop)
            with pytest.raises(ConnectionClosed):
                await station.connection.recv()
            assert station.connection.close_code == 1012
            assert status == 0
            assert "Traceback" not in world.broker.log.read_text()

    asyncio.run(story())


def test_a_dead_engine_never_shows_on_the_ocpp_side(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world, world.station() as station:
            world.engine.stop()
            await station.arrive()
            station.transaction = await station.begin("TAG")
            loop = asyncio.get_running_loop()
            took = []
            for _ in range(40):
                began = loop.time()
                await station.measure(station.transaction, 11000)
                took.append(loop.time() - began)
            assert sorted(took)[30] < 0.5, "MeterValues waited for the engine"
            assert world.cpms.wires["S"].received == station.wire.sent

    asyncio.run(story())
