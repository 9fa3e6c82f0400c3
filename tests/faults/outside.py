"""The running service seen from outside: raw peers that can misbehave in every way, innocents beside them, and the process's own books.

Peer       one end of a socket: sends any bytes, slices, RST, half a close; reads frames, or does not
Cpms       a management system made of such peers: it accepts everybody, and hands each connection to the test
Innocents  stations in a process of their own, each asking every 50 ms through the broker, with their own CPMS; they keep their waits
Service    `twistd ocppbroker` itself, its memory, its open files, its log
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from running import Running, free_port
from wires import CLOSE, PING, PONG, TEXT, wire

BINARY = 2
FIGURES = Path(os.environ.get("FAULT_FIGURES", "build/faults.json")).absolute()
INNOCENT_MOST_S = 10.0  # in the tests: a busy machine is no fault of ours; what was measured is printed
CPU_MOST_S = 2.0  # of the broker's own work for one fault; most take 0.1
LATE_S = 20.0  # and so much may come later than promised
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"


class Gone(Exception):
    """The connection ended. `how`: "eof" or "reset"."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class Peer:
    """One end of a WebSocket, or of what is to become one. `masks`: it is the client. `buffer`: bytes of its kernel buffers, each way."""

    def __init__(self, sock: socket.socket, masks: bool) -> None:
        self.sock, self.masks = sock, masks
        sock.setblocking(False)
        self.head = b""
        """Request or answer, to its blank line."""
        self._came = bytearray()
        self.codes: list[int | None] = []
        """Codes of the close frames that came."""

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    # ------------------------------------------------------------ saying

    async def raw(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def say(self, payload: bytes | str, opcode: int = TEXT, **more: Any) -> None:
        """One frame; `more` as in `wires.wire`: fin, rsv, masked."""
        await self.raw(self.framed(payload, opcode, **more))

    def framed(self, payload: bytes | str, opcode: int = TEXT, **more: Any) -> bytes:
        return wire(payload.encode() if isinstance(payload, str) else payload, opcode, **{"masked": self.masks, **more})

    async def pour(self, data: bytes, within_s: float) -> int:
        """Send until nothing is taken any more for so long, or all is sent; how many bytes were taken."""
        sent = 0
        while sent < len(data):
            try:
                sent += self.sock.send(data[sent : sent + 65536])
            except BlockingIOError:
                since = time.monotonic()
                while not await self.writable(0.05):
                    if time.monotonic() - since > within_s:
                        return sent
        return sent

    async def writable(self, within_s: float) -> bool:
        ready = self._loop.create_future()
        self._loop.add_writer(self.sock, lambda: ready.done() or ready.set_result(None))
        try:
            await asyncio.wait_for(ready, within_s)
        except TimeoutError:
            return False
        finally:
            self._loop.remove_writer(self.sock)
        return True

    # ------------------------------------------------------------ hearing

    async def _more(self, within_s: float) -> None:
        try:
            data = await asyncio.wait_for(self._loop.sock_recv(self.sock, 65536), within_s)
        except ConnectionError:
            raise Gone("reset") from None
        if not data:
            raise Gone("eof")
        self._came += data

    async def header(self, within_s: float = 30.0) -> bytes:
        while b"\r\n\r\n" not in self._came:
            await self._more(within_s)
        at = self._came.index(b"\r\n\r\n") + 4
        self.head = bytes(self._came[:at])
        del self._came[:at]
        return self.head

    async def frame(self, within_s: float = 30.0) -> tuple[int, int, bytes]:
        """The next frame, as (first byte, opcode, payload). Raises Gone, TimeoutError."""
        while True:
            found = parted(self._came)
            if found is not None:
                first, payload, size = found
                del self._came[:size]
                if first & 15 == CLOSE:
                    self.codes.append(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None)
                return first, first & 15, payload
            await self._more(within_s)

    async def hear(self, within_s: float = 30.0) -> bytes:
        """The next message, whole; pings are answered. Raises Gone at its end or at a close frame."""
        whole = b""
        while True:
            first, opcode, payload = await self.frame(within_s)
            if opcode == PING:
                await self.say(payload, PONG)
            elif opcode == CLOSE:
                raise Gone("closed")
            elif opcode != PONG:
                whole += payload
                if first & 0x80:
                    return whole

    async def end(self, within_s: float = 30.0, answers: bool = True) -> tuple[list[int | None], str]:
        """Read until the socket ends: codes of all close frames, and "eof" or "reset". A close frame is answered, if it `answers`.

        A server ends the socket itself once both have said good-bye (RFC 6455, 7.1.1).
        """
        async with asyncio.timeout(within_s):
            while True:
                try:
                    _, opcode, payload = await self.frame(within_s)
                except Gone as gone:
                    return self.codes, gone.how
                if opcode == CLOSE:
                    with contextlib.suppress(ConnectionError):
                        if answers:
                            await self.say(payload, CLOSE)
                    if not self.masks:
                        self.close()
                        return self.codes, "eof"
                    answers = False

    # ------------------------------------------------------------ leaving

    def reset(self) -> None:
        """RST, at once."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()


def parted(came: bytearray) -> tuple[int, bytes, int] | None:
    """The frame at the front: first byte, payload, size of it all; None if it is not whole."""
    if len(came) < 2:
        return None
    size, at = came[1] & 0x7F, 2
    if size >= 126:
        more = 2 if size == 126 else 8
        size, at = int.from_bytes(came[2 : 2 + more], "big"), 2 + more
    masked = came[1] & 0x80
    begin = at + (4 if masked else 0)
    if len(came) < begin + size or len(came) < at:
        return None
    payload = bytes(came[begin : begin + size])
    return came[0], xored(payload, bytes(came[at:begin])) if masked else payload, begin + size


def xored(payload: bytes, mask: bytes) -> bytes:
    """Masked, or unmasked."""
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def deflated(text: bytes) -> bytes:
    """A payload for a frame with RSV1 (RFC 7692, 7.2.1), without context take-over."""
    maker = zlib.compressobj(wbits=-15)
    return (maker.compress(text) + maker.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")


async def dialled(port: int, path: str, *, more: str = "", buffer: int = 0, rest: bytes = b"") -> Peer:
    """A station's socket with its request said, `rest` behind it in the same piece; nothing is read yet."""
    sock = socket.socket()
    if buffer:
        for which in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, which, buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    peer = Peer(sock, masks=True)
    await peer.raw(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Protocol: ocpp1.6\r\n{more}\r\n".encode()
        + rest
    )
    return peer


class Cpms:
    """Accepts everybody, and gives each connection to who asks for it by its station's id."""

    def __init__(self, port: int, buffer: int = 0) -> None:
        self.port, self._buffer = port, buffer
        self.accepts: dict[str, str] = {}
        """Header lines for a station's 101."""
        self.asked: list[bytes] = []
        """Every request that came."""
        self._here: dict[str, asyncio.Queue[Peer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._peers: list[Peer] = []

    async def __aenter__(self) -> Cpms:
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._buffer:
            for which in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._listening.setsockopt(socket.SOL_SOCKET, which, self._buffer)
        self._listening.setblocking(False)
        self._listening.bind(("127.0.0.1", self.port))
        self._listening.listen(2048)
        self._begin(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listening.close()
        for peer in self._peers:
            peer.close()

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listening)
            self._begin(self._greet(Peer(sock, masks=False)))

    async def _greet(self, peer: Peer) -> None:
        self._peers.append(peer)
        try:
            head = await peer.header()
            self.asked.append(head)
            id = head.split(b" ")[1].rsplit(b"/", 1)[-1].decode()
            await peer.raw(accepting(head, self.accepts.get(id, "")))
        except (Gone, TimeoutError, ConnectionError):
            return
        self.of(id).put_nowait(peer)

    def of(self, id: str) -> asyncio.Queue[Peer]:
        return self._here.setdefault(id, asyncio.Queue())

    async def peer(self, id: str, within_s: float = 30.0) -> Peer:
        """This station's next connection, once it is there."""
        return await asyncio.wait_for(self.of(id).get(), within_s)


def accepting(head: bytes, more: str = "") -> bytes:
    found = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
    assert found is not None, head
    accept = base64.b64encode(hashlib.sha1(found[1] + GUID).digest()).decode()
    protocol = "Sec-WebSocket-Protocol: ocpp1.6\r\n" if b"ocpp1.6" in head else ""
    return (
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
        f"{protocol}{more}\r\n"
    ).encode()


# ---------------------------------------------------------------- the service


class Service(Running):
    """The broker's process. `cpms_port` is where the test's own CPMS listens, `calm_port` the innocents'."""

    def __init__(self, folder: Path, more: str = "", broker: str = "") -> None:
        self.port, self.cpms_port, self.calm_port = free_port(), free_port(), free_port()
        config = f"""{broker}
[[listen]]
endpoint = "tcp:{self.port}:interface=127.0.0.1:backlog=2048"
[[tenants]]
name = "calm"
cpms_url = "ws://127.0.0.1:{self.calm_port}/ocpp"
mode = "relay"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{self.cpms_port}/ocpp"
{more or 'mode = "relay"'}
"""
        super().__init__(folder, config)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def memory_kib(self) -> int:
        """What is resident."""
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1])

    def files(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def errors(self) -> list[str]:
        """Lines of its log that no fault of a peer may cause."""
        text = self.log.read_text(errors="replace")
        return [line for line in text.splitlines() if "Traceback" in line or "Unhandled" in line or "our fault" in line]

    def count(self, name: str, **labels: str) -> float:
        """A metric's sum over all its lines that have these labels."""
        lines = str(self.get("/metrics")).splitlines()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        mine = (line for line in lines if re.match(rf"{name}[{{ ]", line) and all(one in line for one in wanted))
        return sum(float(line.rpartition(" ")[2]) for line in mine)

    async def pair(self, cpms: Cpms, id: str, **how: Any) -> tuple[Peer, Peer]:
        """A station and its CPMS, with the broker between."""
        station = await dialled(self.port, f"/acme/{id}", **how)
        head = await station.header()
        assert head.startswith(b"HTTP/1.1 101 "), head
        return station, await cpms.peer(id)


def kernel_bytes(*socks: socket.socket) -> int:
    """What the kernel holds of these connections, at both of their ends: said and not taken, or come and not read."""
    ports = {one for sock in socks for one in (sock.getsockname()[1], sock.getpeername()[1])}
    pairs = {(sock.getsockname()[1], sock.getpeername()[1]) for sock in socks}
    pairs |= {(there, here) for here, there in pairs}
    held = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        here, there = (int(end.rpartition(":")[2], 16) for end in fields[1:3])
        if here in ports and (here, there) in pairs:
            held += sum(int(queue, 16) for queue in fields[4].split(":"))
    return held


# ---------------------------------------------------------------- innocents


class Innocents:
    """Stations beside the fault, in a process of their own: what the test does to itself is not seen in their waits."""

    def __init__(self, service: Service, stations: int = 5, every_s: float = 0.05, direct: bool = False) -> None:
        port = service.calm_port if direct else service.port
        here = Path(__file__)
        command = [sys.executable, str(here.with_name("innocents.py")), *map(str, (port, service.calm_port, stations, every_s))]
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": f"{here.parents[2]}{os.pathsep}{here.parents[1]}"}
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        assert self._tell() == "ready"

    def _tell(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def take(self) -> dict[str, float]:
        """Since the last time: count, p50_ms, p99_ms, max_ms (of what is still unanswered too), lost."""
        assert self._process.stdin is not None
        print("take", file=self._process.stdin, flush=True)
        return dict(json.loads(self._tell()))

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Outside:
    """A service with innocents; and what was seen of it during one fault."""

    def __init__(self, service: Service, innocents: Innocents) -> None:
        self.service, self.innocents = service, innocents

    @contextlib.asynccontextmanager
    async def fault(
        self, row: str, most_mib: float = 16.0, most_s: float = INNOCENT_MOST_S, most_cpu_s: float = CPU_MOST_S
    ) -> AsyncIterator[dict[str, Any]]:
        """What happens inside is the fault; afterwards nobody was harmed. Put what else was measured into the dict.

        `most_cpu_s`: what the broker may work meanwhile. However busy the machine, nobody waited longer for its work than that.
        """
        seen: dict[str, Any] = {}
        base, cpu = self.service.memory_kib(), self.service.cpu_s()
        peak = base
        await asyncio.to_thread(self.innocents.take)
        began = time.monotonic()

        async def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, self.service.memory_kib())
                await asyncio.sleep(0.02)

        watching = asyncio.create_task(watch())
        try:
            yield seen
            await asyncio.sleep(max(0.0, began + 0.5 - time.monotonic()))  # so that the innocents have something to say
        finally:
            watching.cancel()
        waits = await asyncio.to_thread(self.innocents.take)
        grew = (max(peak, self.service.memory_kib()) - base) / 1024
        seen |= {"innocent": waits, "grew_mib": round(grew, 1), "cpu_s": round(self.service.cpu_s() - cpu, 2)}
        told(row, seen)
        assert waits["lost"] == 0, "an innocent's connection ended"
        assert waits["count"] > 0, "no innocent was answered"
        assert waits["max_ms"] <= 1000 * most_s
        assert seen["cpu_s"] <= most_cpu_s
        assert grew <= most_mib


def play(outside: Outside, story: Callable[[Cpms], Awaitable[None]]) -> None:
    """The story, with a CPMS behind the service."""

    async def whole() -> None:
        async with Cpms(outside.service.cpms_port) as cpms:
            await story(cpms)

    asyncio.run(whole())


def told(row: str, seen: dict[str, Any]) -> None:
    """Print what was measured, and keep it for the table."""
    line = {"row": row, **seen}
    print(json.dumps(line))
    if "FAULT_FIGURES" in os.environ:
        FIGURES.parent.mkdir(parents=True, exist_ok=True)
        with FIGURES.open("a") as file:
            file.write(json.dumps(line) + "\n")


async def soon(holds: Callable[[], object], within_s: float = 30.0) -> bool:
    """Does it become true in time?"""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if holds():
            return True
        await asyncio.sleep(0.02)
    return bool(holds())
