"""An operator at the console of a running broker with its neighbours: S, and a station in shadow mode that is away."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neighbours import Neighbours

SHADOW = """
[[tenants.stations]]
id = "Shadow"
site = "hq"
mode = "shadow"
"""


class World(Neighbours):
    """An operator among them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SHADOW, ("Shadow-1",))

    async def begin(self, *command: str) -> asyncio.subprocess.Process:
        """A command of the console."""
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(sys.executable, "-m", "broker.cli", *command, cwd=self.folder, stdout=pipe, stderr=pipe)

    async def says(self, *command: str) -> tuple[int, str, str]:
        """Its exit code, what it says, what it complains of."""
        process = await self.begin(*command)
        said, complaint = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode is not None
        return process.returncode, said.decode(), complaint.decode()

    async def data(self, *command: str) -> Any:
        code, said, complaint = await self.says(*command, "--json")
        assert (code, complaint) == (0, "")
        return json.loads(said)


async def soon(true: Callable[[], object], most_s: float = 60.0) -> bool:
    for _ in range(int(most_s * 20)):
        if true():
            return True
        await asyncio.sleep(0.05)
    return False


def amps(station: Any) -> float | None:
    """What the newest profile of ours says for now."""
    if not station.profiles:
        return None
    found = station.profiles[-1]["charging_schedule"]
    schedule = found if isinstance(found, dict) else found[0]
    limit = schedule["charging_schedule_period"][0]["limit"]
    assert isinstance(limit, float | int)
    return float(limit)


def cleared(station: Any) -> list[str]:
    return [frame for frame in station.wire.received if '"ClearChargingProfile"' in frame]
