"""Alarms that outlast a test, on the running service, whose clocks the test winds: each comes, stands, and clears itself."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import crowd as crowds
import faulty
import pytest
from alarmed import cleared, raised, refuses, standing, until
from crowd import PROTOCOL, Crowd, Engine, obey
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from broker.alarms import DAY_S, QUIET_S, WEEK_S
from broker.clears import BACK_OFF_S
from broker.net.watchman import LOOK_S


class Wound(Engine):
    """Its clock goes with the broker's, and it plans anew whenever that was wound."""

    ahead_s = 0.0

    def schedules(self, site: str, after: str, wait: float) -> tuple[int, Any]:
        edition = f"{self.ahead_s:.0f}"
        if after == edition:
            return super().schedules(site, after, min(wait, 1.0))
        code, body = super().schedules(site, "", 0.0)
        body["cursor"] = edition
        for one in body["schedules"]:
            one["id"] += f"-{edition}"
            for part in (one, *one["periods"]):
                for name in {"issued_at", "valid_until", "start"} & set(part):
                    part[name] = (datetime.fromisoformat(part[name]) + timedelta(seconds=self.ahead_s)).isoformat()
        return code, body


class World:
    """A crowd whose broker lives in a time of its own."""

    def __init__(self, folder: Path, crowd: Crowd) -> None:
        self.folder, self.crowd, self.broker = folder, crowd, crowd.broker

    async def passes(self, seconds: float) -> None:
        """So much time, and then another look at how it stands."""
        for part in (seconds, LOOK_S + 1.0):
            faulty.wind(self.folder, part)
            assert isinstance(self.crowd.engine, Wound)
            self.crowd.engine.ahead_s += part
            await asyncio.sleep(0.5)  # the process has its own clock

    def stands(self, name: str, subject: str) -> bool:
        return (name, subject) in standing(self.broker)

    async def goes(self, name: str, subject: str) -> None:
        """It is cleared, in all three places."""
        await cleared(self.broker, name, subject)
        left = sum(one == name for one, _ in standing(self.broker))
        assert f'ocppbroker_alarms{{name="{name}"}} {left}.0' in self.broker.get("/metrics")


async def doubled(crowd: Crowd) -> None:
    with pytest.raises(InvalidStatus, match="409"):
        await connect(f"ws://127.0.0.1:{crowd.port}/acme/S0", subprotocols=PROTOCOL, open_timeout=20)


@pytest.mark.timeout(400)
def test_each_clears_itself_when_its_time_has_come_and_no_earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "Engine", Wound)
    faulty.install(tmp_path, monkeypatch)

    async def story() -> None:
        async with Crowd(tmp_path, 3) as crowd:
            world, (steady, willing, leaving) = World(tmp_path, crowd), crowd.stations
            willing.obeys = leaving.obeys = refuses
            crowd.begin()
            await raised(crowd.broker, "unmanaged", "acme/S1", "station")
            await raised(crowd.broker, "unmanaged", "acme/S2", "station")
            leaving.stopping = True
            url = [2, "cfg", "ChangeConfiguration", {"key": "BackendUrl", "value": "wss://s3cret.example"}]
            for one in list(crowd.cpms.opens):
                if one.request is not None and one.request.path.endswith("S0"):
                    await one.send(json.dumps(url))
            await raised(crowd.broker, "url", "acme/S0", "cpms")
            await doubled(crowd)
            await raised(crowd.broker, "duplicate", "acme/S0", "station")

            await world.passes(QUIET_S / 2)
            await doubled(crowd)
            await world.passes(QUIET_S - 30.0)
            assert world.stands("duplicate", "acme/S0"), "it came again meanwhile"
            await world.passes(30.0)
            await world.goes("duplicate", "acme/S0")

            willing.obeys = obey
            await world.passes(BACK_OFF_S)
            await world.goes("unmanaged", "acme/S1")
            assert world.stands("unmanaged", "acme/S2"), "one that is away proves nothing"
            await world.passes(DAY_S)
            await world.goes("unmanaged", "acme/S2")

            assert world.stands("url", "acme/S0")
            await world.passes(WEEK_S)
            await world.goes("url", "acme/S0")
            assert "s3cret" not in crowd.broker.log.read_text()

            await crowd.cpms.stop()
            await raised(crowd.broker, "cpms", "acme", "cpms")
            await crowd.cpms.start(crowd.cpms_port)
            await until(lambda: steady.connected, "it is let in again")
            await world.passes(0.0)
            await world.goes("cpms", "acme")
            assert "Traceback" not in crowd.broker.log.read_text()

    asyncio.run(story())
