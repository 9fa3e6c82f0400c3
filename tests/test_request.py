"""The handshake request: what is read from it, what the CPMS is shown, what is refused and how."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.request import MOST_FIELDS, BadRequest, for_autobahn, read

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
BASE = [b"Host: b:1", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Version: 13"]


def text(*more: bytes, line: bytes = b"GET /acme/CS-7?a HTTP/1.1", without: bytes = b"\0") -> bytes:
    kept = [header for header in BASE if not header.lower().startswith(without.lower())]
    return b"\r\n".join([line, *kept, *more]) + b"\r\n\r\n"


def refused(raw: bytes) -> int:
    with pytest.raises(BadRequest) as bad:
        read(raw)
    assert "\n" not in str(bad.value)
    return bad.value.status


def test_target_and_headers_as_they_came() -> None:
    request = read(text(b"x-ODD:\t a  b \t", b"X-odd:", b"Sec-WebSocket-Protocol: ocpp2.0.1, ocpp1.6", b"sec-websocket-protocol:x,,"))
    assert request.target == b"/acme/CS-7?a"
    assert request.headers[-4:-2] == ((b"x-ODD", b"a  b"), (b"X-odd", b""))
    assert request.all(b"x-odd") == [b"a  b", b""]
    assert request.protocols == ["ocpp2.0.1", "ocpp1.6", "x"]


def test_the_cpms_is_shown_everything_but_what_belongs_to_this_hop() -> None:
    ours = [
        b"Keep-Alive: 1", b"TE: trailers", b"Trailer: x", b"Proxy-Authorization: secret", b"Proxy-Connection: x", b"Origin: http://evil",
        b"Sec-WebSocket-Extensions: permessage-deflate", b"Sec-WebSocket-Protocol: ocpp1.6", b"Content-Type: a/b", b"Forwarded: for=1",
        b"X-Forwarded-For: 1.2.3.4", b"x-forwarded-anything: y", b"Authorization: Basic QQ==", b"connection: X-Hop , x-hop2", b"X-Hop: 1",
        b"X-HOP2: 2", b"Content-Language: de", b"Sec-WebSocket-Accept: x",
    ]  # fmt: skip
    theirs = [
        b"User-Agent: st/1", b"X-Odd:  v ", b"X-odd: w", b"Cookie: a=b", b"Pragma: no-cache", b"X-Obs: \xe9", b"Via: 1.1 x",
    ]  # fmt: skip
    both = [header for pair in zip(ours, [*theirs, *[b"X-N: 1"] * 11], strict=True) for header in pair]
    expected = [tuple(part.strip() for part in header.split(b":", 1)) for header in [*theirs, *[b"X-N: 1"] * 11]]
    assert read(text(*both)).forwarded() == expected


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (text(b"X: \0"), 400),
        (text(b"X: a\x7f"), 400),
        (text(b"X: a\nY: b"), 400),
        (text(b"X: a\rY: b"), 400),
        (text(b"X: a", b" folded"), 400),
        (text(b"X: a", b"\tfolded"), 400),
        (text(b" X: leading"), 400),
        (text(b"Xab"), 400),
        (text(b": x"), 400),
        (text(b"X : y"), 400),
        (text(b"X\xe9: y"), 400),
        (text(b"Host: c"), 400),
        (text(b"host: b:1"), 400),
        (text(without=b"Host"), 400),
        (text(b"Content-Length: 0"), 400),
        (text(b"Transfer-Encoding: chunked"), 400),
        (text(b"Authorization: a", b"AUTHORIZATION: a"), 400),
        (text(b"Sec-WebSocket-Key: " + KEY), 400),
        (text(without=b"Sec-WebSocket-Key"), 400),
        (text(b"Sec-WebSocket-Key: abc", without=b"Sec-WebSocket-Key"), 400),
        (text(b"Sec-WebSocket-Version: 13"), 400),
        (text(b"Sec-WebSocket-Protocol: a b"), 400),
        (text(b"Sec-WebSocket-Protocol: \xe9"), 400),
        (text(b"Sec-WebSocket-Extensions: \xe9"), 400),
        (text(line=b"GET /a b HTTP/1.1"), 400),
        (text(line=b"GET /a HTTP/1.0"), 400),
        (text(line=b"GET /a HTTP/2.0"), 400),
        (text(line=b"GET  /a HTTP/1.1"), 400),
        (text(line=b"get /a HTTP/1.1"), 400),
        (text(line=b"\x16\x03\x01"), 400),
        (text(line=b"GET /a\0 HTTP/1.1"), 400),
        (text(line=b""), 400),
        (text(line=b"POST /a HTTP/1.1"), 405),
        (text(*[b"X: a"] * (MOST_FIELDS + 1 - len(BASE))), 431),
        (text(without=b"Upgrade"), 426),
        (text(b"Upgrade: h2c", without=b"Upgrade"), 426),
        (text(without=b"Sec-WebSocket-Version"), 426),
        (text(b"Sec-WebSocket-Version: 8", without=b"Sec-WebSocket-Version"), 426),
        (b"GET / HTTP/1.1\r\nHost: b\r\n\r\n", 426),
    ],
)
def test_what_is_refused(raw: bytes, status: int) -> None:
    assert refused(raw) == status


def test_what_stations_get_wrong_and_may() -> None:
    assert read(text(without=b"Connection")).target == b"/acme/CS-7?a", "some forget Connection: Upgrade"
    assert read(text(b"upgrade: WebSocket, x", without=b"Upgrade")).target == b"/acme/CS-7?a"
    lower = text(b"sec-websocket-protocol: ocpp1.6,ocpp1.6").replace(b"Host", b"host").replace(b"Sec-WebSocket-V", b"sec-websocket-v")
    assert read(lower).protocols == ["ocpp1.6", "ocpp1.6"]
    assert len(read(text(*[b"X: a"] * (MOST_FIELDS - len(BASE)))).headers) == MOST_FIELDS
    assert read(text(line=b"GET /acme/caf\xc3\xa9 HTTP/1.1")).target == b"/acme/caf\xc3\xa9", "a wrong path, but not a bad request"


def test_autobahn_sees_neither_target_nor_credentials() -> None:
    shown = for_autobahn(read(text(b"Authorization: Basic QQ==", b"Sec-WebSocket-Protocol: a,b,a", b"X: y", without=b"Connection")))
    assert b"/acme" not in shown
    assert b"QQ==" not in shown
    assert b"Connection: Upgrade\r\n" in shown
    assert b"Sec-WebSocket-Protocol: a, b\r\n" in shown, "it would refuse one named twice"
    assert shown.endswith(b"\r\n\r\n")
    assert shown.count(b"\r\n\r\n") == 1


odd = st.sampled_from([*BASE, b"X: y", b" f", b"", b"\n", b"A\rB: c", b"X:\xff", b"Content-Length: 1", b":", b"X: \x0b"])


@settings(max_examples=200, deadline=None)
@given(st.lists(odd, max_size=12))
def test_whatever_comes_is_read_or_refused_and_nothing_slips_into_the_next_request(lines: list[bytes]) -> None:
    raw = b"\r\n".join([b"GET /a HTTP/1.1", *lines])[:8000].split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    try:
        request = read(raw)
    except BadRequest as bad:
        status = bad.status
    else:
        status = 101
        assert request.one(b"host") is not None
        assert not any(byte < 0x20 and byte != 9 for name, value in request.headers for byte in name + value)
    assert status in (101, 400, 426, 431)
