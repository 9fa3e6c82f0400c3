"""What the broker is compared with, each started as a process of its own: `python bench/peers.py NAME PORT CPMS_PORT`.

`websockets`: an asyncio relay that parses each message's JSON, as most open proxies do. `autobahn`: the same, in plain Autobahn.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any


async def websockets_relay(port: int, cpms: int) -> None:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def pump(source: Any, target: Any) -> None:
        with contextlib.suppress(Exception):
            async for message in source:
                json.loads(message)
                await target.send(message)

    async def relay(station: Any) -> None:
        url = f"ws://127.0.0.1:{cpms}{station.request.path}"
        async with connect(url, subprotocols=["ocpp1.6"], compression=None) as upstream:  # type: ignore[list-item]
            await asyncio.gather(pump(station, upstream), pump(upstream, station))

    async with serve(relay, "127.0.0.1", port, subprotocols=["ocpp1.6"], compression=None):  # type: ignore[list-item]
        await asyncio.Event().wait()


def autobahn_relay(port: int, cpms: int) -> None:
    from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, WebSocketServerFactory, WebSocketServerProtocol
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.endpoints import TCP4ClientEndpoint

    class Upstream(WebSocketClientProtocol):  # type: ignore[misc]
        def onOpen(self) -> None:
            self.factory.opened.callback(self)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            json.loads(payload)
            self.factory.station.sendMessage(payload, isBinary)

    class Station(WebSocketServerProtocol):  # type: ignore[misc]
        def onConnect(self, request: Any) -> Any:
            factory: Any = WebSocketClientFactory(f"ws://127.0.0.1:{cpms}{request.path}", protocols=["ocpp1.6"])
            factory.protocol, factory.station, factory.opened = Upstream, self, Deferred()
            TCP4ClientEndpoint(reactor, "127.0.0.1", cpms).connect(factory)

            def opened(upstream: Any) -> str:
                self.upstream = upstream
                return "ocpp1.6"

            return factory.opened.addCallback(opened)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            json.loads(payload)
            self.upstream.sendMessage(payload, isBinary)

    factory: Any = WebSocketServerFactory(f"ws://127.0.0.1:{port}")
    factory.protocol = Station
    reactor.listenTCP(port, factory, backlog=2048)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    name, ports = sys.argv[1], (int(sys.argv[2]), int(sys.argv[3]))
    if name == "websockets":
        asyncio.run(websockets_relay(*ports))
    else:
        autobahn_relay(*ports)
