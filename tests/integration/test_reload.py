"""The configuration read again by a running service, with a real SIGHUP, under stations that live: they never notice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from neighbours import Neighbours
from running import free_port
from stranger_engine import StrangerEngine
from strangers import StrangerCpms
from websockets.exceptions import InvalidStatus

from broker.cli import main


class World(Neighbours):
    """They, and the broker's configuration, of which a test changes the text."""

    def edit(self, old: str, new: str) -> None:
        self.broker.edit(old, new)

    def log(self) -> str:
        return self.broker.log.read_text()

    async def hang_up(self) -> str:
        """SIGHUP, and what the log says of it."""
        before = self.broker.reload()
        await until(lambda: self.broker.reloaded(before))
        return self.broker.reloaded(before)


async def until(true: Callable[[], object], most_s: float = 60.0) -> None:
    end = time.monotonic() + most_s
    while not true():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.05)


def asked(station: Any, action: str) -> list[Any]:
    """Payloads of the CALLs with this action that the station got."""
    frames = [json.loads(text) for text in station.wire.received]
    return [frame[3] for frame in frames if frame[0] == 2 and frame[2] == action]


async def charges(station: Any, true: Callable[[], object], most_s: float = 60.0) -> None:
    """It measures until this is true."""
    end = time.monotonic() + most_s
    while not true():
        assert time.monotonic() < end, "it never came true"
        await station.measure(station.transaction, 5000)
        await asyncio.sleep(0.25)


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1"])
def test_mode_limits_and_assets_change_under_a_link_that_lives(tmp_path: Path, version: str) -> None:
    async def story() -> None:
        async with World(tmp_path) as world, world.station("S", version) as station:
            await station.arrive()
            station.transaction = await station.begin("TAG")
            await charges(station, lambda: station.profiles)
            link = world.broker.get("/api/v1/stations/acme/S")["link"]

            world.edit("max_amps = 32", "max_amps = 7")
            n = len(station.profiles)
            said = await world.hang_up()
            assert "station acme/S evse 1: max_amps: 32 → 7" in said
            await charges(station, lambda: len(station.profiles) > n)
            assert world.broker.get("/api/v1/stations/acme/S")["learned"]["limits"]["1"]["sent"]["limit"] == 7.0

            told = len(asked(station, "ClearChargingProfile"))  # of the limit that was lowered
            world.edit('mode = "smart-charging"', 'mode = "shadow"')
            said = await world.hang_up()
            assert "station acme/S: mode: smart-charging → shadow" in said
            await charges(station, lambda: len(asked(station, "ClearChargingProfile")) > told)
            n = len(station.profiles)
            await until(lambda: "withdrawing" not in world.broker.get("/api/v1/stations/acme/S")["learned"])
            cleared = asked(station, "ClearChargingProfile")
            assert all(set(one) & {"id", "chargingProfileId"} for one in cleared), "by its id, nothing else's"
            await station.measure(station.transaction, 5000)
            assert len(station.profiles) == n

            world.edit('mode = "shadow"', 'mode = "smart-charging"')
            await world.hang_up()
            await charges(station, lambda: len(station.profiles) > n)

            world.edit('mode = "smart-charging"', 'mode = "relay"')
            told = len(cleared)
            await world.hang_up()
            await charges(station, lambda: len(asked(station, "ClearChargingProfile")) > told)
            await asyncio.sleep(0.3)
            measured = len(world.engine.got["Measurement"])
            await station.measure(station.transaction, 5000)
            await asyncio.sleep(1.5)
            assert len(world.engine.got["Measurement"]) == measured, "relay captures nothing"

            shown = world.broker.get("/api/v1/stations/acme/S")
            assert shown["link"] == link, "one link all the time"
            assert shown["mode"] == "relay"
            await station.end(station.transaction)
            sent = [text for text in station.wire.sent if '"ocb-' not in text]
            assert world.cpms.wires["S"].received == sent
            assert world.engine.faults == []
        assert "Traceback" not in world.log()

    asyncio.run(story())


def test_a_mistake_keeps_everything_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with World(tmp_path) as world, world.station("S") as station:
            await station.arrive()
            world.edit("max_amps = 32", "max_amps = -1")
            world.edit('unlisted = "relay"', 'unlisted = "refuse"')
            said = await world.hang_up()
            assert "reload: tenants[0].stations[0].evses.1.max_amps: " in said
            assert "1 mistakes; the old configuration stays in force" in said
            async with world.station("unlisted") as other:
                await other.arrive()
            for status in (await asyncio.to_thread(post, world), await asyncio.to_thread(main, ["reload", "-c", str(world.broker.toml)])):
                assert status in (422, 1)
            world.edit("max_amps = -1", "max_amps = 32")
            world.edit(f"tcp:{world.port}:interface=127.0.0.1", f"tcp:{world.broker.admin}:interface=127.0.0.1")
            said = await world.hang_up()
            assert f"tcp:{world.broker.admin}:interface=127.0.0.1: cannot listen there" in said
            async with world.station("unlisted") as other:
                await other.arrive()
            await station.measure(None, 0)

    asyncio.run(story())
    assert "nothing was reloaded" in capsys.readouterr().err


def post(world: World) -> int:
    token = (world.folder / "var" / "token").read_text().strip()
    url = f"http://127.0.0.1:{world.broker.admin}/api/v1/reload"
    request = urllib.request.Request(url, method="POST", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code if json.load(refused)["mistakes"] else 0


def test_ports_come_and_go_and_who_is_not_allowed_is_closed_with_1008(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        async with World(tmp_path) as world, world.station("S") as station:
            await station.arrive()
            async with world.station("stranger") as stranger:
                await stranger.arrive()
                second = free_port()
                world.edit(f"tcp:{world.port}:interface=127.0.0.1", f"tcp:{second}:interface=127.0.0.1")
                world.edit('unlisted = "relay"', 'unlisted = "refuse"')
                assert await asyncio.to_thread(main, ["reload", "--config", str(world.broker.toml)]) == 0
                began = time.monotonic()
                await asyncio.wait_for(stranger.connection.wait_closed(), 60)
                assert stranger.connection.close_code == 1008
                assert time.monotonic() - began < 60
            with pytest.raises(ConnectionRefusedError):
                async with world.station("S2"):
                    pass
            with pytest.raises(InvalidStatus):
                async with world.station("stranger", port=second):
                    pass
            await station.measure(None, 0)
            assert world.broker.get("/api/v1/stations/acme/S")["state"] == "connected"

    asyncio.run(story())
    said = capsys.readouterr().out
    assert "tenant acme: unlisted: relay → refuse" in said
    assert "listen tcp:" in said
    assert "removed" in said


def test_another_engine_and_another_cpms_are_for_what_comes(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world, world.station("S") as station:
            await station.arrive()
            station.transaction = await station.begin("TAG")
            await charges(station, lambda: world.engine.got["Measurement"])
            other, second = StrangerEngine("acme:s3cret", {"socket": "hq"}, {"socket": 4600.0}), StrangerCpms()
            try:
                world.edit(world.engine.url, other.url)
                before = world.broker.toml.read_text().split('cpms_url = "')[1].split('"')[0]
                world.edit(before, f"ws://127.0.0.1:{await second.start()}/ocpp")
                said = await world.hang_up()
                assert "tenant acme engine: url: " in said
                assert "s3cret" not in said
                await charges(station, lambda: other.got["Measurement"])
                assert "S" not in second.wires, "an open link keeps its CPMS"
                async with world.station("new") as fresh:
                    await fresh.arrive()
                    assert "new" in second.wires
                await station.end(station.transaction)
                assert other.faults == []
            finally:
                other.stop()
                await second.stop()

    asyncio.run(story())


def test_a_sighup_before_anything_runs_is_no_end(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            assert world.broker.process is not None
            for _ in range(20):
                os.kill(world.broker.process.pid, signal.SIGHUP)
            await until(lambda: "reload: done, nothing changed" in world.log())
            assert await asyncio.to_thread(world.broker.stop) == 0

    asyncio.run(story())
