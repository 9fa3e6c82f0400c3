"""A slim connection begins as Autobahn's own does, and keeps next to nothing of its handshake."""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import pytest
import pytest_twisted
from autobahn.websocket.protocol import TrafficStats, WebSocketProtocol
from autobahn.websocket.utf8validator import Utf8Validator
from fakes import Rig, upgrade
from twisted.internet.task import Clock
from wires import House, soon

from broker.net.cpms import CpmsFactory, CpmsLeg, Offer
from broker.net.slim import OF_THE_HANDSHAKE, slimmed
from broker.net.stations import StationFactory, StationLeg
from broker.settings import ListenSettings

OFFER = Offer(b"x", (), (), False)


def made(side: str) -> tuple[Any, Any]:
    """A factory and its class of legs."""
    if side == "station":
        factory = StationFactory(None, ListenSettings("tcp:0"), Clock(), 5000)  # type: ignore[arg-type]
        return factory, factory.protocol
    cpms = CpmsFactory("ws://cpms", Clock(), 5000)
    return cpms, slimmed(CpmsLeg, cpms)


@pytest.mark.parametrize("side", ["station", "cpms"])
def test_every_first_value_of_autobahns_is_there(side: str) -> None:
    factory, kind = made(side)
    slim = kind() if side == "station" else kind(OFFER, Clock().seconds)
    slim.factory = factory
    plain: Any = object.__new__(StationLeg if side == "station" else CpmsLeg)
    plain.factory, plain.openHandshakeTimeout = factory, 0
    WebSocketProtocol._connectionMade(plain)
    expected = {**vars(plain), "openHandshakeTimeout": factory.openHandshakeTimeout}
    assert len(expected) > 50
    for name, first in expected.items():
        got = getattr(slim, name)
        if isinstance(first, TrafficStats | Utf8Validator | deque):
            assert isinstance(got, type(first)) or (name == "send_queue" and not got)
        else:
            assert got == first, name
    assert slim.maxMessagePayloadSize == slim.maxFramePayloadSize == 5000


@pytest.mark.parametrize("side", ["station", "cpms"])
def test_nothing_that_changes_is_shared(side: str) -> None:
    _, kind = made(side)
    shared = [name for name, one in vars(kind).items() if isinstance(one, list | dict | set | deque | bytearray | Utf8Validator)]
    options = {"versions", "perMessageCompressionOffers", "allowedOrigins", "allowedOriginsPatterns"}
    assert set(shared) <= options, "options are the factory's"
    one, other = (kind(*(() if side == "station" else (OFFER, Clock().seconds))) for _ in range(2))
    assert one.utf8validator is one.utf8validator
    assert one.utf8validator is not other.utf8validator
    one.data, one.state = b"mine", WebSocketProtocol.STATE_OPEN
    assert (other.data, other.state) == (b"", WebSocketProtocol.STATE_CONNECTING)


def test_options_hold_for_connections_that_come_not_for_those_that_are() -> None:
    factory, kind = made("station")
    old: Any = kind()
    factory.limit(7)
    new: Any = factory.protocol()
    assert (old.maxMessagePayloadSize, new.maxMessagePayloadSize) == (5000, 7)


@pytest_twisted.ensureDeferred
async def test_an_open_link_keeps_nothing_of_the_handshake() -> None:
    async with House() as house:
        await house.open(upgrade("/acme/CS-7", "Authorization: Basic Y3M6c2VjcmV0"))
        (link,) = list(house.links)
        assert await soon(lambda: all(leg.open for leg in link._legs.values()))
        for leg in link._legs.values():
            kept = vars(leg)
            assert not OF_THE_HANDSHAKE & kept.keys()
            assert len(kept) < 20, sorted(kept)
            assert sys.getsizeof(kept) < 1300
            assert b"Y3M6c2VjcmV0" not in repr(kept).encode()


@pytest_twisted.ensureDeferred
async def test_text_in_pieces_is_judged_by_each_connections_own_validator() -> None:
    rig = await Rig().start()
    try:
        first, _ = await rig.pair("/acme/CS-1")
        second, cpms = await rig.pair("/acme/CS-2")
        first.say(b'["\xc3', 0x01)  # half a letter
        second.say(b'["\xc3', 0x01)
        second.say(b'\xa9"]', 0x80)
        assert await cpms.hear() == b'["\xc3\xa9"]'
        first.say(b"\x28", 0x80)
        assert (await first.closed())[0] == 1007
    finally:
        await rig.stop()
