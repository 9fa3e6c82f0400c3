"""A station's handshake request, read strictly from its raw bytes.

In: the bytes up to and with the empty line. Out: the target and every header as it came, or `BadRequest` with the status to
answer. What goes on to the CPMS is chosen here too: everything but what belongs to this hop.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MOST_BYTES: Final = 8 * 1024
MOST_FIELDS: Final = 64
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)").fullmatch
_LINE: Final = re.compile(rb"([A-Z]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.1").fullmatch  # a target beyond ASCII is a wrong path, 404
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==").fullmatch
_ASCII: Final = re.compile(rb"[\t\x20-\x7e]*").fullmatch

OF_THIS_HOP: Final = frozenset(
    b"host connection upgrade keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding origin"
    b" sec-websocket-key sec-websocket-version sec-websocket-extensions sec-websocket-protocol sec-websocket-accept forwarded"
    b" authorization".split()
)
"""Not copied as they are: hop-by-hop, made anew for the CPMS, or (Authorization, the protocols) added on purpose."""


class BadRequest(Exception):
    """The request is refused with `status`; the text says why, without quoting it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Request(NamedTuple):
    """A WebSocket upgrade."""

    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """Name as spelled, value without surrounding blanks; in their order."""
    values: dict[bytes, list[bytes]]
    """Of each name in small letters."""
    protocols: list[str]
    """The subprotocols offered, in order."""

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header, whatever its case."""
        return self.values.get(name, [])

    def one(self, name: bytes) -> bytes | None:
        """The first of them."""
        found = self.values.get(name)
        return found[0] if found else None

    def forwarded(self) -> list[tuple[bytes, bytes]]:
        """The headers that the CPMS gets as they came."""
        named = {part.strip().lower() for value in self.all(b"connection") for part in value.split(b",")}
        return [
            (name, value)
            for name, value in self.headers
            if (low := name.lower()) not in OF_THIS_HOP and low not in named and not low.startswith((b"content-", b"x-forwarded-"))
        ]


def read(raw: bytes) -> Request:
    """The request in `raw`, which ends with the empty line. Raises BadRequest."""
    first, *lines = raw[:-4].split(b"\r\n")
    if len(lines) > MOST_FIELDS:
        raise BadRequest(431, f"more than {MOST_FIELDS} header fields")
    line = _LINE(first)
    if line is None:
        raise BadRequest(400, "the request line is not METHOD TARGET HTTP/1.1")
    request = _request(line[2], lines)
    if line[1] != b"GET":
        raise BadRequest(405, "only GET can be upgraded")
    for name in (b"host", b"authorization", b"sec-websocket-key", b"sec-websocket-version"):
        if len(request.all(name)) > 1:
            raise BadRequest(400, f"more than one {name.decode()} header")
    for name in (b"content-length", b"transfer-encoding"):
        if request.all(name):
            raise BadRequest(400, f"{name.decode()} on an upgrade")
    if request.one(b"host") is None:
        raise BadRequest(400, "no host header")
    if not any(part.strip().lower() == b"websocket" for value in request.all(b"upgrade") for part in value.split(b",")):
        raise BadRequest(426, "not a WebSocket upgrade")
    if request.one(b"sec-websocket-version") != b"13":
        raise BadRequest(426, "not WebSocket version 13")
    _check_what_is_negotiated(request)
    return request


def _request(target: bytes, lines: list[bytes]) -> Request:
    headers, values = tuple(map(_field, lines)), dict[bytes, list[bytes]]()
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    offered = b",".join(values.get(b"sec-websocket-protocol", ())).split(b",")
    return Request(target, headers, values, [part.strip().decode("latin-1") for part in offered if part.strip()])


def _check_what_is_negotiated(request: Request) -> None:
    if not _KEY(request.one(b"sec-websocket-key") or b""):
        raise BadRequest(400, "no Sec-WebSocket-Key of 16 bytes in base64")
    if not all(_NAME(name.encode("latin-1")) for name in request.protocols):
        raise BadRequest(400, "a subprotocol that is no token")
    if not all(map(_ASCII, request.all(b"sec-websocket-extensions"))):
        raise BadRequest(400, "extensions that are not ASCII")


def _field(line: bytes) -> tuple[bytes, bytes]:
    field = _FIELD(line)
    if field is not None:
        return field[1], field[2].strip(b" \t")
    name, colon, _ = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        raise BadRequest(400, "a folded header")
    if not colon or not _NAME(name):
        raise BadRequest(400, "a header without a name or a colon")
    raise BadRequest(400, "a control character in a header")


def for_autobahn(request: Request) -> bytes:
    """The same upgrade, as Autobahn needs to see it: no target, no credentials, and the `Connection: Upgrade` that some stations forget."""
    lines = [b"GET / HTTP/1.1", b"Host: broker", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"]
    lines.append(b"Sec-WebSocket-Key: " + (request.one(b"sec-websocket-key") or b""))
    protocols = dict.fromkeys(request.protocols)
    if protocols:
        lines.append(b"Sec-WebSocket-Protocol: " + ", ".join(protocols).encode("latin-1"))
    extensions = b", ".join(request.all(b"sec-websocket-extensions"))
    if extensions:
        lines.append(b"Sec-WebSocket-Extensions: " + extensions)
    return b"\r\n".join(lines) + b"\r\n\r\n"
