"""The two 101s of RFC 6455 (4.2.2, 4.1) where nothing is negotiated but a subprotocol: ours to a station, and a CPMS's to us.

That is nearly every connect, and what Autobahn spends on it is words and copies. Where an extension is offered or chosen, or
anything looks odd, Autobahn decides. Bytes in, bytes out.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha1

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_of(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return b64encode(sha1(key + _MAGIC).digest())


def welcome(key: bytes, protocol: str | None) -> bytes:
    """The answer that lets a station in."""
    chosen = b"" if protocol is None else b"Sec-WebSocket-Protocol: " + protocol.encode("latin-1") + b"\r\n"
    return b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n%bSec-WebSocket-Accept: %b\r\n\r\n" % (
        chosen,
        accept_of(key),
    )


def is_welcome(lines: Iterable[bytes], key: bytes) -> bool:
    """These header lines of a 101 accept our key and choose no extension. False: not beyond doubt, so Autobahn has to look."""
    seen: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        low = name.lower()
        if low in seen:
            return False
        seen[low] = value.strip(b" \t")
    parts = {part.strip(b" \t").lower() for part in seen.get(b"connection", b"").split(b",")}
    upgrades = seen.get(b"upgrade", b"").lower() == b"websocket" and b"upgrade" in parts
    return upgrades and seen.get(b"sec-websocket-accept") == accept_of(key) and b"sec-websocket-extensions" not in seen
