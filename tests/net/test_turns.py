"""What one leg does in one turn: what ends with its turn goes on by itself in the next, and compression makes no turn longer."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import pytest
from autobahn.websocket.compress import PerMessageDeflate
from legs import SIDES, open_leg, wire
from twisted.internet.task import Clock

from broker.net.leg import PIECE, TURN_STEPS

BOTH_SIDES = pytest.mark.parametrize("side", SIDES)
MIB = 1024 * 1024


@BOTH_SIDES
@pytest.mark.parametrize("first", [0x81, 0x82, 0x89])
def test_an_empty_frame_whose_head_was_a_turns_last_step_needs_no_further_byte(side: str, first: int) -> None:
    leg, sink, transport = open_leg(side, fast=False)
    begun = wire(side, b"x")
    leg.dataReceived(begun[:-1])
    assert sink.events == []
    # Its payload is the first step of the turn; each frame after it has two, so that the last one's head is the last.
    frames = [wire(side, b"y")] * (TURN_STEPS // 2 - 1)
    leg.dataReceived(begun[-1:] + b"".join(frames) + wire(side, b"", first))
    assert len(sink.events) == len(frames) + 1, "the turn ended with the empty one's head"
    assert leg.data == b""
    assert leg.current_frame is not None
    leg.factory.reactor.advance(0.0)
    if first == 0x89:
        assert transport.value()[0] == 0x8A, "the ping is answered"
    else:
        assert sink.events[-1] == ("heard", b"", first == 0x82)
    assert leg.current_frame is None
    assert leg.reading


def deflating(side: str) -> tuple[Any, Any]:
    """A leg that agreed to compression, and what its peer compresses with."""
    leg, sink, _ = open_leg(side, fast=True)
    leg.maxMessagePayloadSize = leg.maxFramePayloadSize = 8 * MIB
    leg._perMessageCompress = PerMessageDeflate(side == "station", True, True, 0, 0, 8)
    return leg, sink


def next_turn(clock: Clock) -> None:
    """What is due now, but not what that puts off to the turn after: a real reactor has everybody else's in between."""
    due, clock.calls = clock.calls, []
    for call in due:
        call.func(*call.args, **call.kw)


def deflated(text: bytes) -> bytes:
    maker = zlib.compressobj(9, wbits=-15)
    return (maker.compress(text) + maker.flush(zlib.Z_SYNC_FLUSH))[:-4]


@BOTH_SIDES
def test_what_is_compressed_is_inflated_a_piece_at_a_time_and_arrives_whole(side: str) -> None:
    leg, sink = deflating(side)
    ticks = itertools.count()
    leg.pulse.clock = lambda: next(ticks) * 0.002  # each look at the clock finds it 2 ms later
    text = b"again and again " * (7 * MIB // 16)
    payload = deflated(text)
    assert len(payload) > 10 * PIECE
    leg.dataReceived(wire(side, payload, 0xC1))
    turns, most, before = 1, 0, 0
    while not sink.events:
        have = sum(map(len, leg.message_data))
        most, before = max(most, have - before), have
        next_turn(leg.factory.reactor)
        turns += 1
        assert turns < 1000
    assert sink.events == [("heard", text, False)]
    assert turns >= 3
    assert most <= 4 * 1032 * PIECE, "a turn of 5 ms has three or four such steps, and deflate makes no more than 1032 of 1"


@BOTH_SIDES
def test_beyond_the_limit_it_is_1009_wherever_the_piece_ends(side: str) -> None:
    leg, sink = deflating(side)
    leg.dataReceived(wire(side, deflated(bytes(9 * MIB)), 0xC1))
    for _ in range(100):
        leg.factory.reactor.advance(0.0)
    assert sink.events == [("lost", 1001, "")]
    assert (1009).to_bytes(2, "big") in leg.transport.value()[:20] or side == "cpms"
    assert leg.wasMaxMessagePayloadSizeExceeded
