"""Raw peers for the broker's two sockets: they write what bytes a test wants, and keep all that came, frame by frame, to be looked at.

`House` is everything between them: a door, the links and a listener, on real loopback TCP, with a raw CPMS behind it. It is what `Rig` of
`fakes` is, for tests that ask what came in the end (`peer.texts`, `peer.closes`), in whatever order. Frames, requests and surroundings are
those of `fakes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakes import World, packed, soon, unpacked, upgrade
from fakes import accepted as accept_key
from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from broker.net.door import Entrance
from broker.net.link import Link
from broker.net.links import Links
from broker.net.stations import StationFactory
from broker.settings import BrokerSettings, ListenSettings, Settings, TenantSettings

reactor: Any = twisted_reactor
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
ANY_PORT = ListenSettings("tcp:0")
MASK = b"\x11\x22\x33\x44"


def wire(payload: bytes, opcode: int = TEXT, *, masked: bool, fin: bool = True, rsv: int = 0) -> bytes:
    """One WebSocket frame (RFC 6455, 5.2)."""
    return packed(payload, (0x80 if fin else 0) | rsv << 4 | opcode, MASK if masked else None)


class Peer(Protocol):
    """One end of a socket. `masks`: it is a client, and masks."""

    masks = True

    def __init__(self) -> None:
        self.came = b""
        self.total = 0
        self.lost = False
        self.first = ""
        self.headers: list[tuple[str, str]] = []
        self.frames: list[tuple[int, bytes]] = []
        self.upgraded = False
        self.on_head: Callable[[Peer], None] = lambda _: None
        self.pongs = True

    def dataReceived(self, data: bytes) -> None:
        self.total += len(data)
        self.came += data
        if not self.upgraded and b"\r\n\r\n" in self.came:
            head, _, self.came = self.came.partition(b"\r\n\r\n")
            self.first, *lines = head.decode("latin-1").split("\r\n")
            self.headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            self.upgraded = True
            self.on_head(self)
        while self.upgraded and self._frame():
            pass

    def _frame(self) -> bool:
        found = unpacked(self.came)
        if found is None:
            return False
        first, payload, self.came, _ = found
        opcode = first & 0x0F
        self.frames.append((opcode, payload))
        if opcode == PING and self.pongs:
            self.send(payload, PONG)
        return True

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True

    # ------------------------------------------------------------ for tests

    @property
    def status(self) -> int:
        return int(self.first.split(" ")[1]) if self.first else 0

    def header(self, name: str) -> list[str]:
        return [value for spelled, value in self.headers if spelled.lower() == name.lower()]

    @property
    def texts(self) -> list[bytes]:
        return [payload for opcode, payload in self.frames if opcode == TEXT]

    @property
    def closes(self) -> list[tuple[int, bytes]]:
        """Close codes and reasons; 0 for a close frame without a code."""
        return [(int.from_bytes(p[:2], "big"), p[2:]) for opcode, p in self.frames if opcode == CLOSE]

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def send(self, payload: bytes, opcode: int = TEXT, **more: Any) -> None:
        self.write(wire(payload, opcode, masked=self.masks, **more))

    def close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        self.send(b"" if code is None else code.to_bytes(2, "big") + reason, CLOSE)

    def cut(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    def reads(self, on: bool) -> None:
        transport: Any = self.transport
        (transport.resumeProducing if on else transport.pauseProducing)()


class Server(Peer):
    """The CPMS's end: does not mask."""

    masks = False


def accepted(peer: Peer, protocol: str | None = "ocpp1.6", more: str = "") -> bytes:
    """A 101 for this request."""
    key = peer.header("Sec-WebSocket-Key")[0].encode()
    accept = accept_key(key).decode()
    chosen = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol is not None else ""
    lines = f"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
    return (lines + chosen + more + "\r\n").encode("latin-1")


class RawCpms(Factory):
    """Accepts every station unless `answer` says otherwise; None = never answers."""

    def __init__(self) -> None:
        self.peers: list[Server] = []
        self.answer: Callable[[Peer], bytes | None] = accepted
        self.port: Any = None
        self.most_open = 0

    def buildProtocol(self, address: object) -> Server:
        peer = Server()
        peer.on_head = self._head
        self.peers.append(peer)
        self.most_open = max(self.most_open, sum(not one.lost for one in self.peers))
        return peer

    def _head(self, peer: Peer) -> None:
        answer = self.answer(peer)
        if answer is not None:
            peer.write(answer)
            if not answer.startswith(b"HTTP/1.1 101"):
                transport: Any = peer.transport
                transport.loseConnection()

    @property
    def last(self) -> Server:
        return self.peers[-1]


class House:
    """`async with House() as house`."""

    def __init__(self, *, listen: ListenSettings = ANY_PORT, **broker: Any) -> None:
        self.broker = broker
        self.listen = listen
        self.tenant: dict[str, Any] = {}
        self.cpms = RawCpms()
        self.world = World()
        self.links = Links(reactor)
        self.opened: list[Link] = []
        self.observer: Callable[..., Any] = lambda *_: succeed(None)
        self.stations: list[Peer] = []
        self.cpms_url = ""

    def known(self, *about: Any, **more: Any) -> Any:
        """The observer at the time of the asking: a test may put another there."""
        return self.observer(*about, **more)

    def settings(self) -> Settings:
        tenant = TenantSettings(name="acme", cpms_url=self.cpms_url, **self.tenant)
        return Settings(broker=BrokerSettings(**self.broker), tenants={"acme": tenant})

    async def __aenter__(self) -> House:
        self.cpms_port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.cpms)
        self.cpms_url = self.cpms_url or f"ws://127.0.0.1:{self.cpms_port.getHost().port}/ocpp"
        self.entrance = Entrance(self.settings, self.links, self.world, self.known, self.opened.append)
        self.factory = StationFactory(self.entrance, self.listen, reactor, self.settings().broker.max_message)
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.factory)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.port.stopListening()
        self.entrance.stop()
        await self.cpms_port.stopListening()
        for peer in [*self.stations, *self.cpms.peers]:
            if not peer.lost and peer.transport is not None:
                peer.cut()
        await soon(lambda: all(peer.lost or peer.transport is None for peer in [*self.stations, *self.cpms.peers]))
        assert await soon(lambda: not len(self.links) and not self.links.taken), "a link was left behind"

    async def dial(self, request: bytes | None = None) -> Peer:
        """A station that wrote its request."""
        peer = Peer()
        self.stations.append(peer)
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port), peer)
        peer.write(upgrade() if request is None else request)
        return peer

    async def answered(self, request: bytes | None = None) -> Peer:
        """A station whose request was answered, or that was dropped."""
        peer = await self.dial(request)
        assert await soon(lambda: peer.first or peer.lost), "no answer"
        return peer

    async def open(self, request: bytes | None = None) -> tuple[Peer, Server]:
        """A station that is connected, and the CPMS's end of it."""
        peer = await self.answered(request)
        assert peer.status == 101, peer.first
        assert await soon(lambda: len(self.links))
        return peer, self.cpms.last
