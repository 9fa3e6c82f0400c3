"""Rows that take long because they wait: all of them at once, beside the other rows, on a service of their own.

Each story returns what was seen; the test of its row (test_waiting.py) judges it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from faults.gate import Gate
from faults.outside import CLOSE, PING, PONG, Cpms, Gone, Innocents, Peer, Service, dialled, kernel_bytes

SMALL = 8192
"""Kernel buffers of peers that read nothing: what they do not take must wait at the broker, or farther back."""
MOST_S = 150.0
Seen = dict[str, Any]
Story = Callable[[Service, Cpms], Awaitable[Seen]]


async def keep_alive(peer: Peer) -> None:
    """Answer pings, and nothing else, to the end."""
    with contextlib.suppress(Gone, ConnectionError):
        while True:
            _, opcode, payload = await peer.frame(MOST_S)
            if opcode == PING:
                await peer.say(payload, PONG)
            elif opcode == CLOSE:
                await peer.say(payload, CLOSE)
                return


async def row_10(service: Service, cpms: Cpms) -> Seen:
    """A station floods with pings and reads nothing, neither pongs nor what its CPMS says."""
    station, upstream = await service.pair(cpms, "R10", buffer=SMALL)
    await upstream.say(b"x" * 6_000_000)
    alive = asyncio.create_task(keep_alive(upstream))
    began = time.monotonic()
    flood = asyncio.create_task(station.pour(station.framed(bytes(125), PING) * 100_000, MOST_S))
    await alive
    seen = {"dropped_after_s": round(time.monotonic() - began, 1), "upstream_codes": upstream.codes}
    flood.cancel()
    await asyncio.gather(flood, return_exceptions=True)
    station.close()
    return seen


async def unread(service: Service, cpms: Cpms, way: str) -> Seen:
    """One side reads nothing while the other says all it can: how much of it the broker holds, and when it has had enough."""
    station, upstream = await service.pair(cpms, f"R30-{way}", buffer=SMALL)
    deaf, talker = (upstream, station) if way == "cpms" else (station, upstream)
    frame = talker.framed(b"[2," + b"x" * 60_000)
    began = time.monotonic()
    sent = await talker.pour(frame * 400, within_s=2.0)
    held = sent - kernel_bytes(station.sock, upstream.sock)
    codes, _ = await talker.end(MOST_S)
    seen = {"poured": sent, "frame": len(frame), "held": held, "codes": codes, "dropped_after_s": round(time.monotonic() - began, 1)}
    try:
        while True:  # what the kernel had for it, and then its end
            await deaf.frame(30.0)
    except (Gone, TimeoutError) as end:
        seen["deaf_end"] = repr(end)
    return seen


async def row_30(service: Service, cpms: Cpms) -> Seen:
    return await unread(service, cpms, "cpms")


async def row_31(service: Service, cpms: Cpms) -> Seen:
    return await unread(service, cpms, "station")


async def row_33(service: Service, cpms: Cpms) -> Seen:
    """A peer goes silent, without an end: before it ever said anything, or after it had answered a ping; the other one lives."""

    async def silent(way: str, answers: bool) -> Seen:
        station, upstream = await service.pair(cpms, f"R33-{way}-{answers}")
        dead, other = (upstream, station) if way == "cpms" else (station, upstream)
        began = time.monotonic()
        if answers:
            while True:
                _, opcode, payload = await dead.frame(MOST_S)
                if opcode == PING:
                    await dead.say(payload, PONG)
                    began = time.monotonic()
                    break
        await keep_alive(other)
        told_s = time.monotonic() - began
        codes, how = await dead.end(30.0, answers=False)
        return {"told_s": round(told_s, 1), "codes": other.codes, "dead_end": how, "dead_codes": codes}

    names = [(way, answers) for way in ("station", "cpms") for answers in (False, True)]
    found = await asyncio.gather(*(silent(way, answers) for way, answers in names))
    return {f"{way}{', had answered' if answers else ''}": one for (way, answers), one in zip(names, found, strict=True)}


async def row_34(service: Service, cpms: Cpms) -> Seen:
    """Ten seconds in which nothing passes between station and broker, both saying what they have to say all the while."""
    count = 40
    async with Gate(service.port) as gate:
        station = await dialled(gate.port, "/acme/R34")
        await station.header()
        upstream = await cpms.peer("R34")
        heard: dict[str, list[bytes]] = {"station": [], "cpms": []}

        async def listen(name: str, peer: Peer) -> None:
            while len(heard[name]) < count:
                heard[name].append(await peer.hear(MOST_S))

        listening = [asyncio.create_task(listen("station", station)), asyncio.create_task(listen("cpms", upstream))]
        began = time.monotonic()
        for n in range(count):
            if n == 5:
                gate.hold()
            for peer in (station, upstream):
                await peer.say(b'[2,"%d","Heartbeat",{}]' % n)
            await asyncio.sleep(10.0 / 35 if n >= 5 else 0.05)
        held = time.monotonic() - began
        gate.release()
        await asyncio.gather(*listening)
        await station.say((1000).to_bytes(2, "big"), CLOSE)
        codes, _ = await upstream.end()
        await station.end()
    return {"held_s": round(held, 1), "heard": heard, "said": count, "codes": codes}


async def row_f11(service: Service, _: Cpms) -> Seen:
    """A broker of its own stands still, as in a container that is paused, while ten peers answer the pings that they just got."""
    folder = service.folder / "still"
    folder.mkdir()
    still = Service(folder, broker='ping = "2s"')
    await asyncio.to_thread(still.start)
    try:
        async with Cpms(still.cpms_port) as upstreams:
            pairs = [await still.pair(upstreams, f"F11-{n}") for n in range(5)]
            peers = [peer for pair in pairs for peer in pair]
            for last in (False, True):  # who has answered once has 15 s from then on
                assert {opcode for _, opcode, _ in await asyncio.gather(*(peer.frame() for peer in peers))} == {PING}
                if last:
                    os.kill(still.pid, signal.SIGSTOP)
                    began = time.monotonic()
                for peer in peers:
                    await peer.say(b"", PONG)
            await asyncio.sleep(20.0)
            os.kill(still.pid, signal.SIGCONT)
            seen: Seen = {"stood_still_s": round(time.monotonic() - began, 1), "kept": 0}
            for station, upstream in pairs:
                with contextlib.suppress(Gone, ConnectionError):
                    await station.say(b'[2,"1","Heartbeat",{}]')
                    seen["kept"] += await upstream.hear() == b'[2,"1","Heartbeat",{}]'
            seen["errors"] = still.errors()
        return seen
    finally:
        still.__exit__()


STORIES: dict[str, Story] = {"10": row_10, "30": row_30, "31": row_31, "33": row_33, "34": row_34, "F11": row_f11}


class Slow:
    """Begun when the session begins; `of` waits for one row's story."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, Seen | BaseException] = {}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)
        self._thread.start()

    async def _all(self) -> None:
        try:
            with Service(self._folder) as service:
                innocents = Innocents(service, stations=2)
                base = service.memory_kib()
                async with Cpms(service.cpms_port, buffer=SMALL) as cpms:
                    await asyncio.gather(*(self._one(row, story, service, cpms) for row, story in STORIES.items()))
                waits = await asyncio.to_thread(innocents.take)
                grew = round((service.memory_kib() - base) / 1024, 1)
                innocents.stop()
                status = await asyncio.to_thread(service.stop)
                self._found("all", {"innocent": waits, "grew_mib": grew, "exit": status, "errors": service.errors()})
        except BaseException as failure:
            self._found("all", failure)
            raise

    async def _one(self, row: str, story: Story, service: Service, cpms: Cpms) -> None:
        try:
            self._found(row, await asyncio.wait_for(story(service, cpms), MOST_S))
        except Exception as failure:
            self._found(row, failure)

    def _found(self, row: str, seen: Seen | BaseException) -> None:
        with self._changed:
            self._seen[row] = seen
            self._changed.notify_all()

    def of(self, row: str) -> Seen:
        """What was seen. Raises what went wrong in its story."""
        with self._changed:
            self._changed.wait_for(lambda: row in self._seen or not self._thread.is_alive(), MOST_S + 30)
            seen = self._seen[row]
        if isinstance(seen, BaseException):
            raise seen
        return seen
