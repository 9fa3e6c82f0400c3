"""Alarms of the running service, made to come by their causes: each says whose fault it is, is told in three places, and clears itself."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import crowd as crowds
import pytest
from alarmed import cleared, raised, refuses, standing, until
from crowd import PROTOCOL, Crowd, Engine, Station
from running import Running
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus


class Jumping(Station):
    """Its clock is right, and then, while it is not, an hour further ahead with each CALL."""

    right = True
    ahead = timedelta()

    async def _ask(self, connection: ClientConnection, action: str, payload: dict[str, Any]) -> Any:
        self.ahead = timedelta() if self.right else self.ahead + timedelta(hours=1)
        for one in (payload, *payload.get("meterValue", ())):
            if "timestamp" in one:
                one["timestamp"] = (datetime.now(UTC) + self.ahead).isoformat()
        return await super()._ask(connection, action, payload)


class Picky(Engine):
    """Refuses measurements for good while it is `picky`; has new schedules whenever `edition` is raised."""

    picky, edition = False, 1

    def schedules(self, site: str, after: str, wait: float) -> tuple[int, Any]:
        if after == str(self.edition):
            return super().schedules(site, after, min(wait, 1.0))
        code, body = super().schedules(site, "", 0.0)
        body["cursor"] = str(self.edition)
        for one in body["schedules"]:
            one["id"] += f"-{self.edition}"
        return code, body

    def store(self, path: str, key: str, body: bytes) -> tuple[int, Any]:
        return (422, {"detail": "no"}) if self.picky and path.endswith("measurements") else super().store(path, key, body)


def drop_letters(broker: Running) -> None:
    token = (broker.folder / "var" / "token").read_text().strip()
    url = f"http://127.0.0.1:{broker.admin}/api/v1/tenants/acme/dead-letters?id=all"
    request = urllib.request.Request(url, method="DELETE", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.loads(answer.read())


@pytest.mark.timeout(500)
def test_each_comes_with_its_cause_and_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "Engine", Picky)

    async def story() -> None:
        async with Crowd(tmp_path, 3) as crowd:
            broker, engine = crowd.broker, crowd.engine
            assert isinstance(engine, Picky)
            jumping = Jumping("S2", crowd.port, crowd.dice, 0.5)
            crowd.stations[2] = jumping
            crowd.stations[1].obeys = refuses
            crowd.begin()
            engine.away = True
            await raised(broker, "unmanaged", "acme/S1", "station")
            await raised(broker, "engine", "acme", "engine")
            jumping.right, said = False, len(jumping.made)
            await until(lambda: len(jumping.made) > said + 3, "it goes on")
            engine.limits_w["asset-2"], engine.edition = 5000.0, 2
            await raised(broker, "clock", "acme/S2", "station")
            jumping.right, engine.away, engine.picky = True, False, True
            await cleared(broker, "engine", "acme")
            await cleared(broker, "clock", "acme/S2")
            await raised(broker, "dead-letters", "acme", "engine")
            with pytest.raises(InvalidStatus, match="409"):
                await connect(f"ws://127.0.0.1:{crowd.port}/acme/S0", subprotocols=PROTOCOL, open_timeout=20)
            await raised(broker, "duplicate", "acme/S0", "station")
            engine.picky = False
            await asyncio.to_thread(drop_letters, broker)
            await cleared(broker, "dead-letters", "acme")
            assert "Traceback" not in broker.log.read_text()
            assert re.search(r"T\d+", " ".join(str(one) for one in standing(broker).values())) is None, "no id token"

    asyncio.run(story())
