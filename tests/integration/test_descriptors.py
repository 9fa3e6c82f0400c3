"""A broker that has used up its descriptors: who cannot be served is refused, whoever is connected stays, and it recovers by itself."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from running import Running, free_port
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

CONFIG = """
ping = "300s"
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{cpms}/ocpp"
mode = "relay"
"""
SPARE = 40  # descriptors left to the broker: twenty links, less what the store and the admin side open
OCPP = [Subprotocol("ocpp1.6")]


async def soon(true: Callable[[], object], most_s: float = 60.0) -> bool:
    end = time.monotonic() + most_s
    while not true():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


async def dialled(port: int, name: str) -> ClientConnection | None:
    try:
        return await connect(f"ws://127.0.0.1:{port}/acme/{name}", subprotocols=OCPP, open_timeout=8, ping_interval=None, proxy=None)
    except Exception:  # refused in whatever way
        return None


async def echoed(link: ClientConnection, text: str) -> bool:
    await link.send(text)
    return await asyncio.wait_for(link.recv(), 8) == text


def test_used_up_descriptors_harm_nobody_who_is_connected_and_are_told(tmp_path: Path) -> None:
    port, cpms_port, upstream = free_port(), free_port(), set()

    async def echo(connection: ServerConnection) -> None:
        upstream.add(connection)
        try:
            async for text in connection:
                await connection.send(text)
        except ConnectionClosed:
            pass
        finally:
            upstream.discard(connection)

    async def story(broker: Running) -> None:
        assert broker.process is not None
        pid = broker.process.pid
        async with serve(echo, "127.0.0.1", cpms_port, subprotocols=OCPP, ping_interval=None):
            first = await dialled(port, "first")
            assert first is not None
            used = max(map(int, os.listdir(f"/proc/{pid}/fd")))
            hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + SPARE, hard))
            links: list[ClientConnection] = []
            while (link := await dialled(port, f"CS-{len(links)}")) is not None:
                links.append(link)
            assert 10 <= len(links) <= SPARE / 2
            assert not any(await asyncio.gather(*(dialled(port, f"more-{n}") for n in range(30))))
            assert await echoed(first, "still here")
            assert await soon(lambda: len(upstream) == len(links) + 1), "no half pair"
            assert await soon(lambda: "alarm descriptors of the broker raised" in broker.log.read_text(), 90)
            assert all([await echoed(link, "we too") for link in links])
            for link in links:
                await link.close()
            assert await soon(lambda: len(upstream) == 1)
            again = await dialled(port, "CS-again")
            assert again is not None
            assert await echoed(again, "let in again")
            assert await soon(lambda: "alarm descriptors of the broker cleared" in broker.log.read_text(), 90)
            assert "alarm cpms" not in broker.log.read_text(), "it is not the CPMS's fault"
            await first.close()
            await again.close()

    with Running(tmp_path, CONFIG.format(port=port, cpms=cpms_port)) as broker:
        asyncio.run(story(broker))
        assert broker.stop() == 0
    assert "Traceback" not in broker.log.read_text()
