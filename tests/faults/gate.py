"""A bad network in front of a port: holds everything back for a while, cuts into slices, stalls at random, lets little through.

Loss and reordering happen below TCP, which mends both: what is left of them for a program is bytes that come late, in bursts and in
odd pieces. That is what is made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass


@dataclass
class Weather:
    """How bytes travel. `slice_bytes` 0: as they come; `rate` bytes/s each way, 0: no bound; `stall_share` of pieces wait `stall_s`."""

    slice_bytes: int = 0
    rate: int = 0
    stall_share: float = 0.0
    stall_s: float = 0.2  # the least that TCP waits before it sends again what was lost


class Gate:
    """Listens on a port of its own and leads to `port`."""

    def __init__(self, port: int, weather: Weather | None = None, seed: int = 0) -> None:
        self.weather = weather or Weather()
        self.port = 0
        self._to, self._dice = port, random.Random(seed)
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Gate:
        self._server = await asyncio.start_server(self._come, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """Nothing passes any more, either way; nobody is told."""
        self._passing.clear()

    def release(self) -> None:
        self._passing.set()

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self._to)
        for one, other in ((reader, here), (there, writer)):
            task = asyncio.create_task(self._carry(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        weather = self.weather
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(weather.slice_bytes or 65536):
                if weather.stall_share and self._dice.random() < weather.stall_share:
                    await asyncio.sleep(weather.stall_s)
                if weather.rate:
                    await asyncio.sleep(len(data) / weather.rate)
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
