"""`make crash`: kill -9 the broker, again and again at random moments under traffic; afterwards all tallies agree.

CRASHES (100) kills under STATIONS (20). One in five kills comes before the broker is even ready, one in ten while the engine is away.
Prints the figures; exit 1 and the differences if anything was lost, told twice or told out of order.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from crowd import Crowd


async def crash(folder: Path, kills: int, stations: int, seed: int = 0) -> Crowd:
    """The whole story; the crowd with its tallies, when it is over."""
    async with Crowd(folder, stations, pause_s=0.02, seed=seed) as crowd:
        crowd.engine.lost_share = 0.05
        crowd.begin()
        for n in range(kills):
            crowd.engine.away = n % 10 == 5
            await asyncio.sleep(crowd.dice.uniform(0.05, 1.5))
            await asyncio.to_thread(crowd.broker.kill)
            if n % 5 == 4:
                crowd.broker.launch()
                await asyncio.sleep(crowd.dice.uniform(0.0, 1.0))
                await asyncio.to_thread(crowd.broker.kill)
            await asyncio.to_thread(crowd.broker.start)
        await crowd.end()
        return crowd


def figures(crowd: Crowd) -> str:
    made = sum(len(station.made) for station in crowd.stations)
    repeats = sum(station.repeats for station in crowd.stations)
    links = sum(station.links for station in crowd.stations)
    transactions = sum(len(told) for told in crowd.told().values()) // 2
    return (
        f"{len(crowd.stations)} stations: {made} CALLs of {transactions} transactions over {links} links; {repeats} sent again;"
        f" the engine was told {crowd.engine.repeats} rows again, each with its own key"
    )


def main() -> int:
    kills, stations = int(os.environ.get("CRASHES", "100")), int(os.environ.get("STATIONS", "20"))
    with tempfile.TemporaryDirectory() as folder:
        crowd = asyncio.run(crash(Path(folder), kills, stations))
        mistakes = crowd.mistakes()
        print(f"{kills} kills -9. {figures(crowd)}")
        print("\n".join(mistakes) or "lost 0, told twice 0, out of order 0")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
