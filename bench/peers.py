"""What the broker is compared with, and the engine it tells, each a process of its own.

`python bench/peers.py NAME PORT CPMS_PORT [CERT KEY]`:

`websockets`: an asyncio relay that parses each message's JSON, as most open proxies do. `autobahn`: the same, in plain Autobahn.
`bare`: a Twisted port that says a 101 to whoever comes and does nothing else: with TLS and without, the price of a handshake.
`engine`: takes every record, and never has a schedule. With CERT and KEY the others speak TLS toward the station.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
from typing import Any

Pair = tuple[str, str] | None


async def websockets_relay(port: int, cpms: int, pair: Pair) -> None:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    async def pump(source: Any, target: Any) -> None:
        with contextlib.suppress(Exception):
            async for message in source:
                json.loads(message)
                await target.send(message)
        await target.close()

    async def relay(station: Any) -> None:
        url = f"ws://127.0.0.1:{cpms}{station.request.path}"
        async with connect(url, subprotocols=["ocpp1.6"], compression=None) as upstream:  # type: ignore[list-item]
            await asyncio.gather(pump(station, upstream), pump(upstream, station))

    context = None
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
    async with serve(relay, "127.0.0.1", port, subprotocols=["ocpp1.6"], compression=None, ssl=context, backlog=4096):  # type: ignore[list-item]
        await asyncio.Event().wait()


def autobahn_relay(port: int, cpms: int, pair: Pair) -> None:
    from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol, WebSocketServerFactory, WebSocketServerProtocol
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred
    from twisted.internet.endpoints import TCP4ClientEndpoint
    from twisted.internet.ssl import DefaultOpenSSLContextFactory

    class Upstream(WebSocketClientProtocol):  # type: ignore[misc]
        def onOpen(self) -> None:
            self.factory.opened.callback(self)

        def onMessage(self, payload: bytes, isBinary: bool) -> None:
            json.loads(payload)
            self.factory.station.sendMessage(payload, isBinary)

    class Station(WebSocketServerProtocol):  # type: ignore[misc]
        upstream: Any = None

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

        def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
            if self.upstream is not None:
                self.upstream.dropConnection(abort=True)

    factory: Any = WebSocketServerFactory(f"ws://127.0.0.1:{port}")
    factory.protocol = Station
    if pair is None:
        reactor.listenTCP(port, factory, backlog=4096, interface="127.0.0.1")  # type: ignore[attr-defined]
    else:
        reactor.listenSSL(port, factory, DefaultOpenSSLContextFactory(pair[1], pair[0]), backlog=4096)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


def bare(port: int, pair: Pair) -> None:
    from OpenSSL import SSL
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol
    from twisted.internet.ssl import DefaultOpenSSLContextFactory

    class Bare(Protocol):
        def dataReceived(self, data: bytes) -> None:
            if data.endswith(b"\r\n\r\n") and self.transport is not None:
                self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")

    factory = Factory.forProtocol(Bare)
    if pair is None:
        reactor.listenTCP(port, factory, backlog=4096, interface="127.0.0.1")  # type: ignore[attr-defined]
    else:
        context = DefaultOpenSSLContextFactory(pair[1], pair[0], SSL.TLS_SERVER_METHOD)
        reactor.listenSSL(port, factory, context, backlog=4096, interface="127.0.0.1")  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


async def engine(port: int) -> None:
    """As much of docs/engine-api.yaml as the broker's feed needs."""

    async def answer(path: str, body: bytes) -> Any:
        if path.startswith("/v1/identity"):
            return {"access_token": "bench", "type": "bearer", "expires_in": 36000}
        if "/schedules" in path:
            await asyncio.sleep(20)
            return {"schedules": [], "cursor": "0"}
        if path.endswith("/batch"):
            return [{"key": one["key"], "status": 201} for one in json.loads(body)]
        return {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(Exception):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
                size = next((int(line.partition(":")[2]) for line in head if line.startswith("content-length:")), 0)
                body = await reader.readexactly(size)
                text = json.dumps(await answer(head[0].split(" ")[1], body)).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
        writer.close()

    await asyncio.start_server(serve, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    name, here, there = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    files: Pair = (sys.argv[4], sys.argv[5]) if len(sys.argv) > 5 else None
    if name == "websockets":
        asyncio.run(websockets_relay(here, there, files))
    elif name == "autobahn":
        autobahn_relay(here, there, files)
    elif name == "bare":
        bare(here, files)
    else:
        asyncio.run(engine(here))
