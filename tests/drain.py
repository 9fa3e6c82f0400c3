"""`make drain`: STATIONS (1000) under traffic; the broker is stopped and started again, then their CPMS. Nothing may be lost.

What is looked at: each good-bye is 1012 and they are spread over `drain`, so that nobody's redials come in one moment because of us;
every limit of ours that stood before is still known to stand after; all stations are back; and what stations, CPMS and engine
counted agrees. Exit 1 and the differences if not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash import figures
from crowd import Crowd

PACE = 100.0  # CALLs a second of all stations together, and dials: the crowd itself is Python, on the same machine
SETTLED_S = 180.0  # for every station to have a limit of ours
BACK_S = 240.0
KNOWN_S = 60.0
QUIET_S = 13.0  # nothing of ours is sent on a link's first 10 s


@dataclass
class Told:
    """What came of it."""

    drain_s: float
    exit_status: int = -1
    exit_s: float = 0.0
    codes: Counter[int] = field(default_factory=Counter)
    spread_s: float = 0.0
    """Between the first and the last good-bye."""
    busiest: int = 0
    """Good-byes in the worst second."""
    leases: int = 0
    forgotten: list[str] = field(default_factory=list)
    sent_again: int = 0
    """Limits that were sent to stations after the restart although one stood there."""
    ready_s: float = 0.0
    back_s: float = 0.0
    cpms_codes: Counter[int] = field(default_factory=Counter)
    cpms_told_s: float = 0.0
    cpms_back_s: float = 0.0


async def until(holds: Callable[[], bool], most_s: float) -> float:
    """How long it took. Raises TimeoutError if it does not come true."""
    began = time.monotonic()
    async with asyncio.timeout(most_s):
        while not holds():
            await asyncio.sleep(0.05)
    return time.monotonic() - began


def limits(crowd: Crowd) -> dict[str, object]:
    """Station → what of ours stands there, as the broker knows it."""
    found = {}
    for station in crowd.stations:
        learned = patiently(crowd, f"/api/v1/stations/acme/{station.id}").get("learned") or {}
        standing = {evse: limit["sent"] for evse, limit in (learned.get("limits") or {}).items() if limit.get("sent")}
        if standing:
            found[station.id] = standing
    return found


def patiently(crowd: Crowd, path: str) -> Any:
    """An admin path's JSON, asked again while the machine is too busy to answer within 5 s."""
    for _ in range(10):
        with contextlib.suppress(OSError):
            return crowd.broker.get(path)
    raise TimeoutError(path)


async def limited(crowd: Crowd) -> dict[str, object]:
    """Once every station has a limit of ours; or what there is when the time is up."""
    end = time.monotonic() + SETTLED_S
    while len(found := await asyncio.to_thread(limits, crowd)) < len(crowd.stations) and time.monotonic() < end:
        await asyncio.sleep(1.0)
    return found


async def known(crowd: Crowd, wanted: Set[str]) -> Set[str]:
    """Whose limits of ours are known, once those wanted are; or when the time is up. A station that is just dialling shows none."""
    end = time.monotonic() + KNOWN_S
    while wanted - (found := await asyncio.to_thread(limits, crowd)).keys() and time.monotonic() < end:
        await asyncio.sleep(0.5)
    return found.keys()


def busiest(times: list[float], window_s: float) -> int:
    """The most that lie within one window."""
    times, most, first = sorted(times), 0, 0
    for n, at in enumerate(times):
        while times[first] < at - window_s:
            first += 1
        most = max(most, n - first + 1)
    return most


async def drain(folder: Path, stations: int, drain_s: float, seed: int = 0) -> tuple[Crowd, Told]:
    """The whole story; the crowd with its tallies, and what was seen."""
    told = Told(drain_s)
    async with Crowd(folder, stations, pause_s=stations / PACE, seed=seed, drain=f"{drain_s:.0f}s") as crowd:
        for n, station in enumerate(crowd.stations):
            station.redial_s = max(2.0, stations / PACE)
            station.first_s, station.patience_s, station.boots_again = n / PACE, 60.0, False
        crowd.begin()
        await until(lambda: all(station.links for station in crowd.stations), BACK_S)
        before = await limited(crowd)
        await restart_broker(crowd, told)
        twice = sum(station.limits_twice for station in crowd.stations)
        told.leases, told.forgotten = len(before), sorted(before.keys() - await known(crowd, before.keys()))
        await asyncio.sleep(QUIET_S)
        told.sent_again = sum(station.limits_twice for station in crowd.stations) - twice
        await restart_cpms(crowd, told)
        await crowd.end(300.0)
    return crowd, told


def came_back(crowd: Crowd, links: list[int]) -> bool:
    """Every station has had a new connection since it had so many."""
    return all(station.links > before for station, before in zip(crowd.stations, links, strict=True))


async def restart_broker(crowd: Crowd, told: Told) -> None:
    began, there = time.monotonic(), [station for station in crowd.stations if station.connected]
    told.exit_status = await asyncio.to_thread(crowd.broker.stop)
    told.exit_s = time.monotonic() - began
    # A crowd of a thousand, all of them Python, is behind with what it has been told.
    await until(lambda: all(station.ends and station.ends[-1][0] >= began for station in there), BACK_S)
    ends = list(itertools.chain.from_iterable(station.ends for station in crowd.stations))
    told.codes = Counter(code for at, code in ends if at >= began)
    times = [at for at, _ in ends if at >= began]
    told.spread_s, told.busiest = max(times) - min(times), busiest(times, 1.0)
    began, links = time.monotonic(), [station.links for station in crowd.stations]
    await asyncio.to_thread(crowd.broker.start)
    told.ready_s = time.monotonic() - began
    told.back_s = told.ready_s + await until(lambda: came_back(crowd, links), BACK_S)


async def restart_cpms(crowd: Crowd, told: Told) -> None:
    """It says good-bye to all at once, and is away for two seconds."""
    began, links = time.monotonic(), [station.links for station in crowd.stations]
    await crowd.cpms.stop()
    await until(lambda: not any(station.connected and station.ends[-1][0] < began for station in crowd.stations), BACK_S)
    ends = [(at, code) for station in crowd.stations for at, code in station.ends if at >= began]
    told.cpms_codes = Counter(code for _, code in ends)
    told.cpms_told_s = max(at for at, _ in ends) - began
    await asyncio.sleep(max(0.0, began + 2.0 - time.monotonic()))
    await crowd.cpms.start(crowd.cpms_port)
    told.cpms_back_s = await until(lambda: came_back(crowd, links), BACK_S)


def main() -> int:
    stations, drain_s = int(os.environ.get("STATIONS", "1000")), float(os.environ.get("DRAIN", "10"))
    with tempfile.TemporaryDirectory() as folder:
        crowd, told = asyncio.run(drain(Path(folder), stations, drain_s))
        tracebacks = (Path(folder) / "broker.log").read_text().count("Traceback")
    mistakes = [*crowd.mistakes(), *(f"{id}: the limit of ours that stands there was forgotten" for id in told.forgotten)]
    print(figures(crowd))
    print(
        f"stopped: exit {told.exit_status} after {told.exit_s:.1f} s (drain {drain_s:.0f} s); close codes {dict(told.codes)},"
        f" spread over {told.spread_s:.1f} s, {told.busiest} in the busiest second"
    )
    print(
        f"started: ready after {told.ready_s:.1f} s, all back after {told.back_s:.1f} s;"
        f" {told.leases} limits of ours stood before, {len(told.forgotten)} forgotten, {told.sent_again} sent again"
    )
    print(
        f"CPMS restarted: close codes {dict(told.cpms_codes)} within {told.cpms_told_s:.1f} s,"
        f" all back {told.cpms_back_s:.1f} s after its return"
    )
    print(f"tracebacks: {tracebacks}")
    print("\n".join(mistakes) or "lost 0, told twice 0, out of order 0")
    late = told.exit_status != 0 or told.exit_s > drain_s + 6.0
    return 1 if mistakes or tracebacks or late else 0


if __name__ == "__main__":
    sys.exit(main())
