"""The common case, short: a whole, unfragmented, uncompressed text frame on an open link goes on as the bytes it came in.

A station's masked frame is a valid masked client frame toward the CPMS, and the CPMS's unmasked frame a valid server frame toward
the station, so nothing is built anew. The payload is unmasked once, checked as UTF-8, and handed to the link with the wire bytes.
Everything else (handshake, control frames, fragments, compression, binary, anything malformed or too big) is left in the buffer for
Autobahn, which takes it from the first byte that we did not take; the two paths cannot be told apart from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from autobahn.websocket.protocol import WebSocketProtocol

from broker.model.traffic import Leg
from broker.net.lean import put

TEXT: Final = 0x81  # FIN, no reserved bits, opcode 1
CLOSE: Final = b"\x88"  # FIN, opcode 8; no other message of ours begins like it
MASKED: Final = 0x80
SHORT: Final = 2  # bytes before the payload of a frame that has its length in the second of them
SHORT_MASKED: Final = 6  # and with a mask
EXTENDED: Final = 126  # in place of a length: it follows, in two bytes (RFC 6455, 5.2)
EXTENDED_TWICE: Final = 127  # or in eight


class FastPath:
    """Mixed into both legs before Autobahn's protocol."""

    side: Leg
    data: bytes
    state: int
    transport: Any
    current_frame: Any
    inside_message: bool
    maxMessagePayloadSize: int
    _perMessageCompress: Any
    _sink: Any
    _unread: int
    """Not 0: the socket is not to be read now, nor what was read to be worked on."""

    def _dataReceived(self, data: bytes) -> None:
        """Autobahn's, without its statistics."""
        self.data = self.data + data if self.data else data
        if self.state == WebSocketProtocol.STATE_OPEN and self._sink is not None and self.current_frame is None and not self.inside_message:
            self._take()
        if self.data:
            self.consumeData()  # type: ignore[attr-defined]

    def _took_whole(self, data: bytes) -> bool:
        """What was read is one frame and nothing else, as nearly always: it goes on as the very object that was read."""
        if self.data or self._unread or self._sink is None or self.state != WebSocketProtocol.STATE_OPEN:
            return False
        if self.current_frame is not None or self.inside_message:
            return False
        payload, end = self._text_at(data, 0)
        if payload is None or end < len(data):
            return False
        self.took(payload, data)
        return True

    def _take(self) -> None:
        """Whole text frames from the front of the buffer, while there are any and the link lives."""
        data, at = self.data, 0
        # What was done with one may have closed the leg, or detached it from its link.
        while at < len(data) and self.state == WebSocketProtocol.STATE_OPEN and not self._unread and self._sink is not None:
            payload, end = self._text_at(data, at)
            if payload is None:
                break
            wire, at = data[at:end], end
            self.data = data[at:]
            self.took(payload, wire)

    def _text_at(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """The payload of the whole text frame that begins there, and where it ends; None if it is Autobahn's."""
        masked = self.side == "station"
        begin = at + (SHORT_MASKED if masked else SHORT)
        if len(data) < begin or data[at] != TEXT:
            return None, at
        length = data[at + 1] - (MASKED if masked else 0)
        if not 0 <= length < EXTENDED:
            length, begin = _extended(data, at, begin, length)
        end = begin + length
        if length < 0 or length > self.maxMessagePayloadSize or len(data) < end:
            return None, at
        payload = data[begin:end]
        if masked:
            payload = unmask(payload, data[begin - 4 : begin])
        return (payload, end) if payload.isascii() or _is_utf8(payload) else (None, at)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Autobahn's, without its debug lines; we never ask it to send in pieces. Pongs to a flood of pings go together, not one by one."""
        if data[:1] == CLOSE:  # nothing follows that could go with it
            put(self.transport, data)
        else:
            self.transport.write(data)

    def took(self, payload: bytes, wire: bytes) -> None:
        """A whole text message came."""
        raise NotImplementedError


def _extended(data: bytes, at: int, begin: int, code: int) -> tuple[int, int]:
    """Payload length and where the payload begins; (-1, 0) for what is not ours to take: incomplete, wrongly masked, not minimal.

    `code` stands in the length's place, and `begin` is where the payload of a short frame would begin.
    """
    if code == EXTENDED and len(data) >= begin + 2:
        length = data[at + 2] << 8 | data[at + 3]
        return (length, begin + 2) if length >= EXTENDED else (-1, 0)
    if code == EXTENDED_TWICE and len(data) >= begin + 8:
        length = int.from_bytes(data[at + 2 : at + 10], "big")
        return (length, begin + 8) if length >= 1 << 16 else (-1, 0)
    return -1, 0


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """One XOR of two big integers: 1.7 µs for 700 bytes. Where there is a C function for it, that takes 0.1 µs."""
    size = len(payload)
    whole = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ whole).to_bytes(size, "little")


unmask: Callable[[bytes, bytes], bytes] = unmasked
with suppress(ImportError):  # `websockets` has wheels for nearly every machine; without its C part it is slower, and the same
    from websockets.speedups import apply_mask as unmask


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
