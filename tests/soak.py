"""`make soak`: STATIONS (200) for SOAK_SECONDS (1800) under a mix of faults; prints memory slope, lost, late.

Every FAULT_EVERY (10) seconds one of: stations' connections cut, the CPMS restarted, the engine away or losing answers, rubbish from
stations, a station that reads nothing. Late is an answer to a first try after more than a second. Exit 1 if anything was lost, told
twice or out of order, if the log has a traceback, or (from ten minutes on) if memory grows by more than 1 MiB an hour, and 2 MiB on top:
an allocator takes memory in steps, and a process settles for longer than a short soak lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from crash import figures
from crowd import PROTOCOL, Crowd
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

LATE_S = 1.0
MEASURE_EVERY = "10s"  # at 1 s it would be the crowd's engine, threads in one Python process, that is measured
SETTLING = 1 / 3  # of the time: caches and queues fill, stations come; no slope is taken of it
MOST_MIB_AN_HOUR, STEPS_MIB = 1.0, 2.0
RUBBISH = ["", "{", "[2]", "[" * 100_000, '[2,"1","MeterValues",{"a":1e999}]', '\ufeff[3,"x",{}]', "9" * 5000, "\x00\ud7ff"]


async def cut(crowd: Crowd) -> None:
    """A tenth of all connections end, without a good-bye."""
    for connection in random.sample(crowd.cpms.opens, len(crowd.cpms.opens) // 10):
        connection.transport.abort()


async def restart_cpms(crowd: Crowd) -> None:
    await crowd.cpms.stop()
    await asyncio.sleep(2)
    await crowd.cpms.start(crowd.cpms_port)


async def engine_away(crowd: Crowd) -> None:
    crowd.engine.away = True
    await asyncio.sleep(8)
    crowd.engine.away = False


async def lost_answers(crowd: Crowd) -> None:
    crowd.engine.lost_share = 0.2
    await asyncio.sleep(8)
    crowd.engine.lost_share = 0.0


async def rubbish(crowd: Crowd) -> None:
    """A station that the broker only relays, and one that nobody listed."""
    for id in ("R1", "R2"):
        async with connect(f"ws://127.0.0.1:{crowd.port}/acme/{id}", subprotocols=PROTOCOL) as connection:
            for text in random.choices(RUBBISH, k=50):
                await connection.send(text)


async def deaf(crowd: Crowd) -> None:
    """Asks and asks, and reads nothing."""
    connection = await connect(f"ws://127.0.0.1:{crowd.port}/acme/D1", subprotocols=PROTOCOL, max_queue=1)
    for n in range(500):
        await connection.send(f'[2,"{n}","Heartbeat",{{}}]')
    await asyncio.sleep(5)
    connection.transport.abort()


FAULTS: list[Callable[[Crowd], Awaitable[None]]] = [cut, restart_cpms, engine_away, lost_answers, rubbish, deaf]


def resident_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def slope(samples: list[tuple[float, float]]) -> float:
    """Per hour, by least squares over all but the settling time."""
    kept = samples[int(len(samples) * SETTLING) :]
    if len(kept) < 2:
        return 0.0
    middle = sum(at for at, _ in kept) / len(kept)
    mean = sum(value for _, value in kept) / len(kept)
    spread = sum((at - middle) ** 2 for at, _ in kept)
    return 3600 * sum((at - middle) * (value - mean) for at, value in kept) / spread


async def soak(folder: Path, seconds: float, stations: int, every_s: float) -> tuple[Crowd, list[tuple[float, float]], dict[str, int]]:
    """The whole story: the crowd with its tallies, (time, MiB) samples, and how often which fault came."""
    samples: list[tuple[float, float]] = []
    waiting: list[int] = []
    came: dict[str, int] = {}

    async def watch(pid: int) -> None:
        while True:
            samples.append((time.monotonic(), resident_mib(pid)))
            with contextlib.suppress(OSError):  # it may be too busy to say
                waiting.append(await crowd.pending())
            await asyncio.sleep(2)

    async with Crowd(folder, stations, pause_s=1.0, measure_every=MEASURE_EVERY) as crowd:
        assert crowd.broker.process is not None
        watching = asyncio.create_task(watch(crowd.broker.process.pid))
        crowd.begin()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(min(every_s, max(0.0, end - time.monotonic())))
            fault = crowd.dice.choice(FAULTS)
            came[fault.__name__] = came.get(fault.__name__, 0) + 1
            with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed):  # the one at fault may find no way in
                await fault(crowd)
        watching.cancel()
        await crowd.end()
        print(f"rows that waited for the engine: {max(waiting)} at most, {statistics.median(waiting):.0f} in the middle")
        return crowd, samples, came


def main() -> int:
    seconds, stations = float(os.environ.get("SOAK_SECONDS", "1800")), int(os.environ.get("STATIONS", "200"))
    with tempfile.TemporaryDirectory() as folder:
        crowd, samples, came = asyncio.run(soak(Path(folder), seconds, stations, float(os.environ.get("FAULT_EVERY", "10"))))
        mistakes = crowd.mistakes()
        tracebacks = (Path(folder) / "broker.log").read_text().count("Traceback")
    waits = sorted(wait for station in crowd.stations for _, wait in station.waits)
    grows = slope(samples)
    print(f"{seconds:.0f} s. {figures(crowd)}")
    print(f"faults: {', '.join(f'{name} {n}' for name, n in sorted(came.items()))}")
    print(f"memory: {samples[0][1]:.1f} MiB at the start, {samples[-1][1]:.1f} at the end, slope {grows:+.2f} MiB/h")
    print(f"late: {sum(wait > LATE_S for wait in waits)} of {len(waits)} answers; p99 {1000 * waits[int(len(waits) * 0.99)]:.1f} ms")
    hours = seconds * (1 - SETTLING) / 3600
    leaks = seconds >= 600 and grows * hours > MOST_MIB_AN_HOUR * hours + STEPS_MIB
    print(f"tracebacks: {tracebacks}")
    print("\n".join(mistakes) or "lost 0, told twice 0, out of order 0")
    return 1 if mistakes or tracebacks or leaks else 0


if __name__ == "__main__":
    sys.exit(main())
