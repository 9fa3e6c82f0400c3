"""Our two 101s against Autobahn's: the same bytes to a station, and no CPMS is believed whom Autobahn would not believe."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from legs import Transport
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from broker.net.cpms import CpmsFactory, CpmsLeg, Offer
from broker.net.slim import slimmed
from broker.net.stations import StationFactory
from broker.net.upgrade import accept_of, is_welcome, welcome
from broker.settings import ListenSettings

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
GOOD = [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + accept_of(KEY)]


def test_the_rfcs_own_example() -> None:
    assert accept_of(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


class _Door:
    def __init__(self, protocol: str | None) -> None:
        self.protocol = protocol

    def enter(self, leg: Any, request: object, listen: object) -> Deferred[Any]:
        leg.subprotocol = self.protocol

        class Whole:
            def station_open(self) -> None: ...

            def lost(self, *_: object) -> None: ...

        return succeed(Whole())

    def refused(self, leg: object, refusal: object) -> None:
        raise AssertionError(refusal)


def answered(protocol: str | None, *more: bytes) -> bytes:
    factory = StationFactory(_Door(protocol), ListenSettings("tcp:0"), Clock(), 5000)  # type: ignore[arg-type]
    leg: Any = factory.buildProtocol(None)
    wire = Transport()
    leg.makeConnection(wire)
    lines = [b"GET /a/b HTTP/1.1", b"Host: x", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13", *more]
    leg.dataReceived(b"\r\n".join([*lines, b"Sec-WebSocket-Key: " + KEY, b"Sec-WebSocket-Protocol: ocpp2.0.1, ocpp1.6", b"", b""]))
    assert leg.open
    return bytes(wire.value())


@pytest.mark.parametrize("protocol", [None, "ocpp1.6", "ocpp2.0.1"])
def test_a_station_gets_the_bytes_that_autobahn_would_send(protocol: str | None) -> None:
    autobahns = answered(protocol, b"Sec-WebSocket-Extensions: x-unknown")
    assert answered(protocol) == autobahns == welcome(KEY, protocol)


NAMES = st.sampled_from([b"Upgrade", b"upgrade", b"Connection", b"CONNECTION", b"Sec-WebSocket-Accept", b"Sec-WebSocket-Extensions"])
ACCEPTS = [accept_of(KEY), accept_of(KEY)[:-1], accept_of(b"other"), b" " + accept_of(KEY), accept_of(KEY).lower()]
OTHERS = [b"permessage-deflate", b"x", b"websocket, h2c"]
VALUES = st.sampled_from(
    [b"websocket", b"WebSocket", b" websocket\t", b"Upgrade", b"keep-alive, upgrade", b"upgrade;", b"", b"close", *ACCEPTS, *OTHERS]
)
LINES = st.lists(st.one_of(st.sampled_from(GOOD), st.builds(lambda name, value: name + b":" + value, NAMES, VALUES)), max_size=6)


@given(LINES, st.booleans())
@example(GOOD, False)
@example(GOOD[::-1], False)
@example([*GOOD, b"Sec-WebSocket-Extensions: permessage-deflate"], False)
@example([*GOOD, b"Sec-WebSocket-Extensions:"], False)
@example([*GOOD, GOOD[2]], False)
def test_no_cpms_is_believed_whom_autobahn_would_not(lines: list[bytes], pad: bool) -> None:
    """Autobahn's verdict, with the short way shut, is the verdict with it."""
    lines = [*lines, b"X-Other: 1"] if pad else lines
    verdicts = [opened(lines, short) for short in (True, False)]
    assert verdicts[0] == verdicts[1]
    if is_welcome(lines, KEY):
        assert verdicts == [True, True]


def opened(lines: list[bytes], short: bool) -> bool:
    factory = CpmsFactory("ws://cpms", Clock(), 5000)
    with pytest.MonkeyPatch.context() as patch:
        if not short:
            patch.setattr("broker.net.cpms.is_welcome", lambda *_: False)
        leg: Any = slimmed(CpmsLeg, factory)(Offer(b"x", (), (), True), Clock().seconds)
        leg.factory = factory
        leg.ready.addErrback(lambda _: None)
        leg.makeConnection(Transport())
        leg.websocket_key = KEY
        leg.dataReceived(b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"", b""]))
        return bool(leg.open)


def test_the_plain_case_needs_no_autobahn() -> None:
    assert is_welcome(GOOD, KEY)
    assert not is_welcome([*GOOD, b"Sec-WebSocket-Extensions: permessage-deflate"], KEY)
    assert not is_welcome(GOOD, b"another key")
