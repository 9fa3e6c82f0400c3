"""The two paths of a leg are played the same bytes, cut in the same places: they must be indistinguishable."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from legs import MOST, SIDES, Event, open_leg, wire

from broker.net.fastpath import unmasked
from broker.net.leg import FLOW

ZEROS = bytes(4)
FRAGMENTS = [(b"abc", 0x01, ZEROS, 1), (b"ping", 0x89, ZEROS, 1), (b"def", 0x80, ZEROS, 1), (b"z", 0x81, ZEROS, 1)]


def play(side: str, fast: bool, pieces: list[bytes]) -> tuple[list[Event], bytes, int, int]:
    leg, sink, transport = open_leg(side, fast)
    for piece in pieces:
        if transport.disconnecting:
            break
        leg.dataReceived(piece)
    return sink.events, transport.value(), leg.state, sink.spliced


def same(side: str, pieces: list[bytes]) -> int:
    """Play both; returns how many frames the fast path took."""
    *quick, spliced = play(side, True, pieces)
    *plain, none = play(side, False, pieces)
    assert quick == plain
    assert none == 0
    return spliced


texts = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.sampled_from([b"", b'[2,"1","Heartbeat",{}]', b'[3,"1",{"a":"\xc3\xa9"}]', b"\xff", b"\xc3", b"\xed\xa0\x80"]),
    st.sampled_from([b"x" * 125, b"x" * 126]),
    st.integers(127, 70_100).map(lambda n: b"y" * n),
)
firsts = st.sampled_from([0x81] * 12 + [0x01, 0x80, 0x00, 0x82, 0x02, 0x89, 0x8A, 0x88, 0xC1, 0x83, 0x8F])
frames = st.lists(st.tuples(texts, firsts, st.binary(min_size=4, max_size=4), st.integers(0, 40)), min_size=1, max_size=6)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(SIDES), frames, st.lists(st.integers(1, 400), max_size=12))
@example("station", FRAGMENTS, [])
@example("cpms", FRAGMENTS, [])
def test_whatever_comes_however_it_is_cut_both_paths_say_the_same(
    side: str, conversation: list[tuple[bytes, int, bytes, int]], cuts: list[int]
) -> None:
    stream = b""
    for payload, first, mask, wrong in conversation:
        payload = payload[:125] if first & 0x08 else payload
        stream += wire(side, payload, first, mask, masked=None if wrong else side != "station")
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(stream[at : at + cut])
        at += cut
    same(side, [piece for piece in [*pieces, stream[at:]] if piece])


@pytest.mark.parametrize("side", SIDES)
def test_split_at_every_byte(side: str) -> None:
    stream = wire(side, b'[2,"1","Heartbeat",{}]') + wire(side, b"", 0x89) + wire(side, b"x" * 130) + wire(side, b'[3,"\xc3\xa9",{}]')
    for at in range(1, len(stream)):
        same(side, [stream[:at], stream[at:]])
    assert same(side, [stream]) == 1, "after a control frame in one piece the rest is Autobahn's"
    assert same(side, [wire(side, b"a") + wire(side, b"b" * 65536) + wire(side, b"c")]) == 3


@pytest.mark.parametrize("side", SIDES)
def test_what_is_too_big_or_not_minimal_is_left_to_autobahn(side: str) -> None:
    big = wire(side, b"x" * (MOST + 1))
    assert same(side, [big[:100], big[100:]]) == 0
    assert same(side, [big]) == 0
    bit = 0x80 if side == "station" else 0
    mask = b"\0\0\0\0" if bit else b""
    assert same(side, [bytes([0x81, bit | 126, 0, 3]) + mask + b"abc"]) == 0
    assert same(side, [bytes([0x81, bit | 127]) + (200).to_bytes(8, "big") + mask + b"a" * 200]) == 0


@pytest.mark.parametrize("side", SIDES)
def test_what_looks_like_a_frame_inside_another_or_between_fragments_is_left_to_autobahn(side: str) -> None:
    frame = wire(side, b"q" + wire(side, b"evil", mask=ZEROS), mask=ZEROS)
    begun = len(frame) - len(wire(side, b"evil", mask=ZEROS))
    assert same(side, [frame[:begun], frame[begun:]]) == 0
    assert same(side, [wire(side, b"abc", 0x01), wire(side, b"z")]) == 0, "a message in a message is an error (RFC 6455, 5.4)"


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 700, 65537])
def test_unmasking_is_what_the_standard_says(size: int) -> None:
    payload, mask = os.urandom(size), os.urandom(4)
    assert unmasked(payload, mask) == bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


@pytest.mark.parametrize("side", SIDES)
def test_what_comes_while_reading_is_paused_waits_in_its_order(side: str) -> None:
    for fast in (True, False):
        leg, sink, _ = open_leg(side, fast)
        leg.read(False, FLOW)
        leg.dataReceived(wire(side, b"[1]"))
        leg.dataReceived(wire(side, b"[2]"))
        assert sink.events == []
        leg.let_flow(True)
        assert sink.events == [("heard", b"[1]", False), ("heard", b"[2]", False)]
