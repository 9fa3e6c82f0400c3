"""Both neighbours of the broker, on loopback: a station and a CPMS that speak in bytes, so that they can also speak oddly.

`Rig` is everything between the two sockets of a link, without a store, an engine or a configuration file. For tests that read a
conversation in its order: a `Wire` gives what came one message at a time, and waits for it (`await station.hear()`). A test that looks at
all that came afterwards, or writes bytes by hand, takes `wires`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twisted.internet import defer, reactor
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.protocol import ClientCreator, Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure

from broker.counts import Counts
from broker.model.basics import Key
from broker.model.orders import Write
from broker.net.door import Entrance
from broker.net.lessons import Lessons
from broker.net.link import Link, Observer
from broker.net.links import Links
from broker.net.stations import StationFactory
from broker.settings import BrokerSettings, ListenSettings, Settings, TenantSettings

STEP_S = 0.005
WAIT_S = 20.0  # nothing on loopback takes that long, on a busy machine either
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
clock: Any = reactor


def accepted(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept for a key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


class Wound(Clock):
    """The reactor's sockets, and a clock that stands until a test winds it: for what must not depend on how busy the machine is."""

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


async def nap(seconds: float) -> None:
    await deferLater(clock, seconds, lambda: None)


async def soon(holds: Callable[[], object], within: float = WAIT_S) -> bool:
    """Does it become true in time? Counted in steps, not by a clock: while the machine stands still nobody is late."""
    for _ in range(round(within / STEP_S)):
        if holds():
            return True
        await nap(STEP_S)
    return bool(holds())


async def until(true: Callable[[], object], seconds: float = WAIT_S) -> None:
    """Wait for it; fail if it never comes."""
    assert await soon(true, seconds), "it never came true"


def packed(payload: bytes, first: int = 0x81, mask: bytes | None = None) -> bytes:
    """One WebSocket frame."""
    bit, size = (0x80 if mask is not None else 0), len(payload)
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65536:
        head = bytes([first, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    whole = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ whole).to_bytes(size, "big")


def unpacked(data: bytes) -> tuple[int, bytes, bytes, bool] | None:
    """The first WebSocket frame in it: its first byte, its payload, what is behind it, and whether it was masked. None: not whole yet."""
    if len(data) < 2:
        return None
    size, at = data[1] & 0x7F, 2
    if size >= 126:
        wide = 2 if size == 126 else 8
        size, at = int.from_bytes(data[at : at + wide], "big"), at + wide
    masked = bool(data[1] & 0x80)
    mask = data[at : at + 4] if masked else b""
    at += len(mask)
    if len(data) < at + size:
        return None
    payload = data[at : at + size]
    return data[0], packed(payload, mask=mask)[-size:] if mask and size else payload, data[at + size :], masked


class Wire(Protocol):
    """One end of a connection. `masks`: it is the station's end."""

    def __init__(self, masks: bool) -> None:
        self.masks = masks
        self.buffer = b""
        self.request = b""
        self.gone = False
        self.why: Failure | None = None
        self.pongs = True
        """Whether it answers pings."""
        self.pings = 0
        self.polite = False
        """It listens to nothing but a good-bye, which it answers."""
        self.on_head: Callable[[Wire], None] | None = None
        self.transport: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        if self.on_head is not None and b"\r\n\r\n" in self.buffer:
            heard, self.on_head = self.on_head, None
            self.request, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            heard(self)
        while self.polite and (frame := self._frame()) is not None:
            if frame[0] == 0x88:
                self._good_bye(frame[1])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone, self.why = True, reason

    async def head(self) -> bytes:
        """An HTTP head, without its empty line; or what came before the end."""
        await until(lambda: b"\r\n\r\n" in self.buffer or self.gone, 2 * WAIT_S)
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    async def status(self) -> int:
        return int((await self.head()).split(b" ")[1])

    def _frame(self) -> tuple[int, bytes] | None:
        found = unpacked(self.buffer)
        if found is None:
            return None
        first, payload, self.buffer, masked = found
        assert masked != self.masks, "the client masks, the server does not (RFC 6455, 5.1)"
        return first, payload

    async def raw(self, seconds: float = WAIT_S) -> tuple[int, bytes]:
        """The next frame: its first byte and its payload. Pings are answered on the way."""
        while True:
            found: list[tuple[int, bytes]] = []

            def look(found: list[tuple[int, bytes]] = found) -> bool:
                frame = self._frame()
                found += [frame] if frame else []
                return bool(frame) or self.gone

            await until(look, seconds)
            assert found, "gone without another frame"
            if found[0][0] != 0x89:
                return found[0]
            self.pings += 1
            if self.pongs:
                self.say(found[0][1], 0x8A)

    async def hear(self, seconds: float = WAIT_S) -> bytes:
        """The next text message."""
        first, payload = await self.raw(seconds)
        assert first == 0x81, (hex(first), payload)
        return payload

    async def closed(self, seconds: float = WAIT_S) -> tuple[int, str]:
        """The code and reason it is closed with; the good-bye is answered."""
        first, payload = await self.raw(seconds)
        assert first == 0x88, (hex(first), payload)
        self._good_bye(payload)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def _good_bye(self, payload: bytes) -> None:
        """The closing handshake: the server hangs up (RFC 6455, 7.1.1)."""
        if not self.gone:
            self.say(payload[:2], 0x88)
            if not self.masks:
                self.hang_up()

    async def end(self, seconds: float = WAIT_S) -> None:
        await until(lambda: self.gone, seconds)

    def wire(self, payload: bytes, first: int = 0x81) -> bytes:
        return packed(payload, first, os.urandom(4) if self.masks else None)

    def say(self, payload: bytes, first: int = 0x81) -> None:
        self.transport.write(self.wire(payload, first))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        self.say(b"" if code is None else code.to_bytes(2, "big") + reason.encode(), 0x88)

    def abort(self) -> None:
        self.transport.abortConnection()

    def hang_up(self) -> None:
        self.transport.loseConnection()


def header(head: bytes, name: bytes) -> list[bytes]:
    """Every value of a header in an HTTP head."""
    return [line.split(b":", 1)[1].strip() for line in head.split(b"\r\n")[1:] if line.split(b":", 1)[0].lower() == name.lower()]


def accept(wire: Wire, *more: bytes, protocol: bytes | None = b"first", behind: bytes = b"") -> None:
    """101, with the first subprotocol offered unless told otherwise; `behind`: bytes in the same piece."""
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    lines.append(b"Sec-WebSocket-Accept: " + accepted(header(wire.request, b"sec-websocket-key")[0]))
    offered = [name.strip() for value in header(wire.request, b"sec-websocket-protocol") for name in value.split(b",")]
    chosen = (offered[0] if offered else None) if protocol == b"first" else protocol
    lines += [b"Sec-WebSocket-Protocol: " + chosen] if chosen else []
    wire.transport.write(b"\r\n".join([*lines, *more]) + b"\r\n\r\n" + behind)


def answer(text: bytes) -> Callable[[Wire], None]:
    """A CPMS that says this to every request, and hangs up."""

    def say(wire: Wire) -> None:
        wire.transport.write(text)
        wire.hang_up()

    return say


class FakeCpms(Factory):
    """Listens; does with every request what `on_head` says."""

    noisy = False

    def __init__(self) -> None:
        self.on_head: Callable[[Wire], None] = accept
        self.wires: list[Wire] = []
        self._port: Any = None
        self.most_at_once = 0

    def buildProtocol(self, addr: Any) -> Wire:
        wire = Wire(masks=False)
        wire.on_head = lambda wire: self.on_head(wire)
        self.wires.append(wire)
        self.most_at_once = max(self.most_at_once, sum(not one.gone for one in self.wires))
        return wire

    async def start(self) -> int:
        self._port = await TCP4ServerEndpoint(clock, 0, interface="127.0.0.1").listen(self)
        return int(self._port.getHost().port)

    async def stop(self) -> None:
        for wire in self.wires:
            if not wire.gone:
                wire.abort()
        await self._port.stopListening()
        await until(lambda: all(wire.gone for wire in self.wires))


class World:
    """What a link needs of the world."""

    def __init__(self) -> None:
        self.reactor = clock
        self.counts = Counts()
        self.lessons = Lessons()
        self.hold_s = 5.0
        self.ping_s = 30.0
        self.written: list[tuple[Key, Write]] = []
        self.committing: Callable[[], defer.Deferred[None]] = lambda: defer.succeed(None)

    def wall(self) -> float:
        return 1_750_000_000.0

    def new_id(self) -> str:
        return "ocb-" + secrets.token_hex(16)

    def write(self, key: Key, write: Write) -> defer.Deferred[None]:
        self.written.append((key, write))
        return self.committing()


class Rig:
    """A CPMS, an entrance with one listener, and what came of it; `tenant` "acme" leads to the CPMS."""

    def __init__(self, **broker: Any) -> None:
        self.world = World()
        self.links = Links(clock)
        self.cpms = FakeCpms()
        self.opened: list[Link] = []
        self.observer: Callable[[Key], Observer | None] = lambda _: None
        self.settings = Settings(broker=BrokerSettings(**broker))
        self.door = Entrance(lambda: self.settings, self.links, self.world, self._known, self.opened.append)
        self.port = 0
        self._ports: list[Any] = []
        self._stations: list[Wire] = []

    def _known(self, key: Key, *_: object) -> defer.Deferred[Observer | None]:
        return defer.succeed(self.observer(key))

    def tenant(self, name: str = "acme", **changes: Any) -> None:
        """Add a tenant, or change it."""
        old = self.settings.tenants.get(name) or TenantSettings(name=name, cpms_url="ws://127.0.0.1:1/ocpp", mode="relay")
        self.settings = replace(self.settings, tenants={**self.settings.tenants, name: replace(old, **changes)})

    async def start(self) -> Rig:
        self.tenant(cpms_url=f"ws://127.0.0.1:{await self.cpms.start()}/ocpp")
        self.port = await self.listen()
        return self

    async def listen(self, endpoint: str = "tcp:0:interface=127.0.0.1", tenant: str | None = None) -> int:
        listen = ListenSettings(endpoint, tenant)
        factory = StationFactory(self.door, listen, clock, self.settings.broker.max_message)
        port = await serverFromString(clock, endpoint).listen(factory)
        self._ports.append(port)
        return int(port.getHost().port)

    async def stop(self) -> None:
        for wire in self._stations:
            if not wire.gone:
                wire.abort()
        for port in self._ports:
            await port.stopListening()
        self.door.stop()
        await self.cpms.stop()
        await until(lambda: not len(self.links) and not self.links.taken)
        for link in self.opened:
            await link.when_gone()

    async def connect(self, port: int | None = None) -> Wire:
        wire: Wire = await ClientCreator(clock, Wire, True).connectTCP("127.0.0.1", port or self.port)
        wire.transport.setTcpNoDelay(True)
        self._stations.append(wire)
        return wire

    async def dial(self, path: str = "/acme/CS-7", *more: str, **asks: Any) -> Wire:
        """A station's request is sent; its answer is not read."""
        wire = await self.connect()
        wire.transport.write(upgrade(path, *more, **asks))
        return wire

    async def pair(self, path: str = "/acme/CS-7", *more: str, **asks: Any) -> tuple[Wire, Wire]:
        """Both ends of a link that is whole."""
        before = len(self.cpms.wires)
        station = await self.dial(path, *more, **asks)
        status = await station.status()
        assert status == 101, status
        assert len(self.cpms.wires) == before + 1
        return station, self.cpms.wires[-1]


def upgrade(
    path: str = "/acme/CS-7",
    *more: str,
    protocols: str | None = "ocpp1.6",
    line: str | None = None,
    without: Iterable[str] = (),
    behind: bytes = b"",
) -> bytes:
    """A station's request; `behind`: bytes in the same piece."""
    lines = ["Host: broker", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY.decode()}", "Sec-WebSocket-Version: 13"]
    lines += [f"Sec-WebSocket-Protocol: {protocols}"] if protocols is not None else []
    kept = [one for one in lines if one.split(":")[0].lower() not in {name.lower() for name in without}]
    return "\r\n".join([line or f"GET {path} HTTP/1.1", *kept, *more]).encode("latin-1") + b"\r\n\r\n" + behind


def delayed() -> list[Any]:
    """Timers that wait, but for those of the test itself."""
    with suppress(AttributeError):
        return [call for call in clock.getDelayedCalls() if call.active()]
    return []
