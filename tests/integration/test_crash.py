"""The short form of `make crash`: five kills, and what stations, CPMS and engine counted agrees."""

from __future__ import annotations

import asyncio
from pathlib import Path

import crash


def test_five_kills_lose_nothing_tell_nothing_twice_and_keep_the_order(tmp_path: Path) -> None:
    crowd = asyncio.run(crash.crash(tmp_path, kills=5, stations=6, seed=1))
    assert crowd.mistakes() == []
    assert all(station.links >= 2 for station in crowd.stations), "each came back; how often is a matter of the machine's load"
    assert sum(station.repeats for station in crowd.stations) > 0, "the kills came at moments that hurt"
    assert sum(len(told) for told in crowd.told().values()) >= 12
    assert "Traceback" not in (tmp_path / "broker.log").read_text()
