"""A disk that hangs under the running service: it is said, stations are relayed, and an operator can let go all the same."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import faulty
import pytest
from console import World, cleared, soon

from broker.commands import UNSTORED


def test_stations_are_relayed_it_is_said_and_an_operator_lets_go_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty.install(tmp_path, monkeypatch)

    async def story() -> None:
        async with World(tmp_path) as world, world.station() as station:
            await station.arrive()
            transaction = await station.begin("DEADBEEF")
            await station.measure(transaction, 11000)
            assert await soon(lambda: station.profiles)

            (tmp_path / "slow").write_text("3600")
            await station.measure(transaction, 11000)
            await station.end(transaction)
            transaction = await station.begin("DEADBEEF")

            def alarm() -> list[Any]:
                return [one for one in world.broker.get("/api/v1/alarms")["alarms"] if one["name"] == "store"]

            assert alarm() == [], "it has 30 s"
            code, said, complaint = await world.says("show", "acme", "S")
            assert (code, complaint) == (0, ""), "who is connected is shown from memory"
            code, said, complaint = await world.says("show", "acme", "Shadow")
            assert (code, "what of ours stands there is not known: the store does not answer" in said) == (0, True), (said, complaint)

            for command in (("limit", "acme", "S", "--amps", "8", "--for", "10m"), ("clear", "acme", "S")):
                code, said, complaint = await world.says(*command)
                assert (code, complaint) == (0, "")
                assert said.splitlines()[-2:] == ["`ocppbroker show acme S` says what comes of it", UNSTORED]
            before = len(cleared(station))
            code, said, complaint = await world.says("release", "acme")
            assert (code, complaint) == (1, "ocppbroker: without the store it is not known what of ours is left, and at which stations\n")
            assert said.splitlines() == ["stations that are connected were told to clear every profile of ours", UNSTORED]
            assert await soon(lambda: len(cleared(station)) > before)
            code, said, complaint = await world.says("release", "acme", "--undo")
            assert (code, said.splitlines()[-1], complaint) == (0, UNSTORED, "")

            faulty.wind(tmp_path, 31.0)
            end = time.monotonic() + 90
            while not (found := await asyncio.to_thread(alarm)):
                assert time.monotonic() < end, "nobody is told"
                await asyncio.sleep(0.2)
            assert found[0]["text"].startswith("the store takes no writes (it has not answered for 30 s): stations are relayed, and ")
            with pytest.raises(HTTPError, match="503"):
                world.broker.get("/readyz")
            await station.measure(transaction, 11000)
            sent = [text for text in station.wire.sent if '"ocb-' not in text]
            assert world.cpms.wires["S"].received == sent

    asyncio.run(story())
