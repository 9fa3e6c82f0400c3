"""A broker in a process of its own among strangers: a CPMS, an engine that wants 10 A on station S, and stations that dial."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from running import Running, free_port
from stranger_engine import StrangerEngine
from strangers import STATIONS, Recorded, StrangerCpms, listen
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

CONFIG = """
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{cpms}/ocpp"
unlisted = "relay"
[tenants.engine]
url = "{engine}"
client_id = "acme"
client_secret_file = "secret"
measure_every = "1s"
[tenants.charging]
write_interval = "1s"
[[tenants.sites]]
name = "hq"
mode = "smart-charging"
[[tenants.stations]]
id = "S"
site = "hq"
evses = {{ 1 = {{ asset = "socket", max_amps = 32 }} }}
"""


class Neighbours:
    """Use as an async context manager. `more`: further lines of the configuration; `assets`: what the engine knows beside S's socket."""

    def __init__(self, folder: Path, more: str = "", assets: tuple[str, ...] = ()) -> None:
        (folder / "secret").write_text("s3cret\n")
        self.folder, self.port, self._more = folder, free_port(), more
        self.cpms = StrangerCpms()
        names = ("socket", *assets)
        self.engine = StrangerEngine("acme:s3cret", dict.fromkeys(names, "hq"), dict.fromkeys(names, 6900.0))
        self.broker: Running

    async def __aenter__(self) -> Self:
        cpms = await self.cpms.start()
        self.broker = Running(self.folder, CONFIG.format(port=self.port, cpms=cpms, engine=self.engine.url) + self._more)
        self.broker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.broker.__exit__()
        await self.cpms.stop()
        self.engine.stop()

    @contextlib.asynccontextmanager
    async def station(self, id: str = "S", version: str = "ocpp1.6", port: int | None = None) -> AsyncIterator[Any]:
        """A station's connection, with its `connection` and its recorded `wire`; it answers while this is open."""
        url = f"ws://127.0.0.1:{port or self.port}/acme/{id}"
        async with connect(url, subprotocols=[Subprotocol(version)]) as connection:
            wire = Recorded(connection)
            station = STATIONS[version](id, wire)
            station.connection, station.wire = connection, wire
            serving = asyncio.create_task(listen(station))
            yield station
            serving.cancel()
