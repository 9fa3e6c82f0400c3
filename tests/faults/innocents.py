"""Stations that do nothing wrong, and their CPMS, in a process of their own: `innocents.py PORT CPMS_PORT STATIONS EVERY_S`.

Each asks every EVERY_S, waits for its answer, and remembers how long that took. For each line on stdin, one line of JSON: what was
seen since the line before. PORT = CPMS_PORT: they dial their CPMS directly, for comparison.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from faults.outside import Cpms, Gone, Peer, dialled

waits: list[float] = []
asked: dict[str, float] = {}
lost = 0


async def answer(cpms: Cpms, id: str) -> None:
    peer = await cpms.peer(id, 60)
    try:
        while True:
            text = await peer.hear(3600)
            await peer.say(b'[3,"%s",{}]' % text.split(b'"')[1])
    except (Gone, ConnectionError):
        return


async def ask(peer: Peer, id: str, every_s: float) -> None:
    global lost
    try:
        n = 0
        while True:
            n += 1
            began = asked[id] = time.monotonic()
            await peer.say(f'[2,"{id}-{n}","Heartbeat",{{}}]')
            text = await peer.hear(3600)
            waits.append(time.monotonic() - began)
            assert text == b'[3,"%s-%d",{}]' % (id.encode(), n), text
            del asked[id]
            await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))
    except (Gone, ConnectionError, AssertionError) as wrong:
        lost += 1
        print("innocent", id, repr(wrong), file=sys.stderr)


def seen() -> dict[str, float]:
    """What was seen since the last time; who still waits counts with what it waited so far."""
    now = time.monotonic()
    taken = sorted([*waits, *(now - since for since in asked.values())])
    count = len(waits)
    waits.clear()
    at = lambda share: round(1000 * taken[min(len(taken) - 1, int(share * len(taken)))], 2) if taken else 0.0  # noqa: E731
    return {"count": count, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "lost": lost}


async def main(port: int, cpms_port: int, stations: int, every_s: float) -> None:
    async with Cpms(cpms_port) as cpms:
        tasks = []
        for n in range(stations):
            id = f"I{n}"
            peer = await dialled(port, f"/calm/{id}")
            assert (await peer.header()).startswith(b"HTTP/1.1 101 ")
            tasks += [asyncio.create_task(answer(cpms, id)), asyncio.create_task(ask(peer, id, every_s))]
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(seen()), flush=True)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
