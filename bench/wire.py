"""Stations and a CPMS for load: bare WebSocket frames over asyncio, as cheap as Python allows, so that the proxy is what is measured.

A station sends CALLs one at a time from a realistic mix and counts answers; the CPMS answers each with a CALLRESULT of its action.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def _sampled(n: int) -> list[dict[str, str]]:
    names = ("Energy.Active.Import.Register", "Power.Active.Import", "Current.Import", "Voltage")
    return [{"value": f"{20000 + n * 7 + k}", "measurand": name, "phase": f"L{p}"} for k, name in enumerate(names) for p in (1, 2)]


def calls(n: int) -> list[bytes]:
    """A minute of a station: of ten CALLs seven are MeterValues of 700 bytes, two Heartbeats, one a StatusNotification."""
    time = "2026-11-21T08:00:00.000Z"
    meter = {"connectorId": 1, "transactionId": 7, "meterValue": [{"timestamp": time, "sampledValue": _sampled(n)}]}
    status = {"connectorId": 1, "errorCode": "NoError", "status": "Charging", "timestamp": time}
    mix = [("MeterValues", meter)] * 7 + [("Heartbeat", {})] * 2 + [("StatusNotification", status)]
    return [json.dumps([2, f"{n}-{k}", action, body]).encode() for k, (action, body) in enumerate(mix)]


def frame(payload: bytes, masked: bool) -> bytes:
    """One text frame."""
    size, bit = len(payload), 0x80 if masked else 0
    head = bytes([0x81, bit | size]) if size < 126 else bytes([0x81, bit | 126]) + size.to_bytes(2, "big")
    if not masked:
        return head + payload
    mask = os.urandom(4)
    whole = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return head + mask + (int.from_bytes(payload, "little") ^ whole).to_bytes(size, "little")


def take(data: bytes) -> tuple[bytes | None, bytes]:
    """The first whole frame's payload, and the rest; None while it is not whole."""
    if len(data) < 2:
        return None, data
    size, at = data[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(data[2:4], "big"), 4
    mask = b""
    if data[1] & 0x80:
        mask, at = data[at : at + 4], at + 4
    if len(data) < at + size:
        return None, data
    payload = data[at : at + size]
    if mask:
        whole = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        payload = (int.from_bytes(payload, "little") ^ whole).to_bytes(size, "little")
    return (payload if data[0] == 0x81 else b""), data[at + size :]


class Cpms(asyncio.Protocol):
    """Answers whatever is asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data, self.open = transport, b"", False

    def data_received(self, data: bytes) -> None:
        self.data += data
        if not self.open:
            head, end, rest = self.data.partition(b"\r\n\r\n")
            if not end:
                return
            key = next(line.split(b":", 1)[1].strip() for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
            accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
            lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
            lines += [b"Sec-WebSocket-Accept: " + accept, b"Sec-WebSocket-Protocol: ocpp1.6"]
            self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n")
            self.data, self.open = rest, True
        while True:
            payload, self.data = take(self.data)
            if payload is None:
                return
            if payload:
                id = payload[4 : payload.index(b'"', 4)]
                self.transport.write(frame(b'[3,"' + id + b'",{"currentTime":"2026-11-21T08:00:00Z"}]', masked=False))


class Station(asyncio.Protocol):
    """Sends its next CALL when the last one is answered, `count` in all."""

    def __init__(self, path: str, n: int) -> None:
        self.path = path
        self.frames = [frame(call, masked=True) for call in calls(n)]
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done: asyncio.Future[None] | None = None
        self.left = self.turn = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.data = transport, b""
        lines = [f"GET {self.path} HTTP/1.1", "Host: bench", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: ocpp1.6"]
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def data_received(self, data: bytes) -> None:
        self.data += data
        if not self.ready.done():
            head, end, rest = self.data.partition(b"\r\n\r\n")
            if not end:
                return
            self.data = rest
            if b" 101 " in head:
                self.ready.set_result(None)
            else:
                self.ready.set_exception(RuntimeError(head.decode("latin-1")))
        while True:
            payload, self.data = take(self.data)
            if payload is None:
                return
            if payload and self.left:
                self.next()

    def connection_lost(self, failure: Exception | None) -> None:
        for future in (self.ready, self.done):
            if future is not None and not future.done():
                future.set_exception(RuntimeError("the connection was lost"))

    def run(self, count: int) -> asyncio.Future[None]:
        """Fires when so many CALLs were answered."""
        self.done = asyncio.get_running_loop().create_future()
        self.left = count + 1
        self.next()
        return self.done

    def next(self) -> None:
        self.left -= 1
        if not self.left:
            assert self.done is not None
            self.done.set_result(None)
            return
        self.transport.write(self.frames[self.turn % len(self.frames)])
        self.turn += 1
