"""Compression that keeps nothing: whatever was agreed, payloads arrive as they were said, and between messages nothing is held."""

from __future__ import annotations

import hashlib
import tracemalloc
import zlib

import pytest
import pytest_twisted
from autobahn.websocket.compress import (
    PerMessageDeflate,
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from fakes import Rig, upgrade
from hypothesis import given
from hypothesis import strategies as st
from wires import House

from broker.net.deflate import OFFERED, WINDOW_BITS, WORTH, Deflate, accept_offer, accept_response, hinted

BITS = st.sampled_from([0, 9, 10, 12, 15])
METER = b'{"timestamp":"2026-01-01T00:00:00Z","sampledValue":[{"value":"1234.5","measurand":"Energy.Active.Import.Register"}]},'


def agreed(server_forgets: bool, client_forgets: bool, server_bits: int, client_bits: int) -> tuple[PerMessageDeflate, PerMessageDeflate]:
    """Autobahn's two ends of one negotiation, server first."""
    offer = PerMessageDeflateOffer(
        accept_no_context_takeover=True,
        accept_max_window_bits=True,
        request_no_context_takeover=server_forgets,
        request_max_window_bits=server_bits,
    )
    accept = PerMessageDeflateOfferAccept(offer, request_no_context_takeover=client_forgets, request_max_window_bits=client_bits)
    response = PerMessageDeflateResponse(client_bits, client_forgets, server_bits, server_forgets)
    made = PerMessageDeflate.create_from_offer_accept(True, accept)
    return made, PerMessageDeflate.create_from_response_accept(False, PerMessageDeflateResponseAccept(response))


def said(by: PerMessageDeflate, text: bytes) -> bytes:
    by.start_compress_message()
    return bytes(by.compress_message_data(text)) + by.end_compress_message()


def heard(by: PerMessageDeflate, packed: bytes) -> bytes:
    by.start_decompress_message()
    text = bytes(by.decompress_message_data(packed))
    by.end_decompress_message()
    return text


@given(
    st.booleans(),
    st.booleans(),
    BITS,
    BITS,
    st.lists(st.one_of(st.binary(max_size=300), st.integers(1, 300).map(lambda n: METER * n)), min_size=1, max_size=8),
)
def test_both_ends_understand_us_whatever_was_agreed(
    server_forgets: bool, client_forgets: bool, server_bits: int, client_bits: int, messages: list[bytes]
) -> None:
    server, client = agreed(server_forgets, client_forgets, server_bits, client_bits)
    our_server, our_client = Deflate(server), Deflate(client)
    station, cpms = agreed(server_forgets, client_forgets, server_bits, client_bits)[::-1]
    for text in messages:
        assert heard(station, said(our_server, text)) == text
        assert heard(cpms, said(our_client, text)) == text
        assert heard(our_server, said(station, text)) == text
        assert heard(our_client, said(cpms, text)) == text


@pytest.mark.parametrize("server_forgets", [True, False])
@pytest.mark.parametrize("client_forgets", [True, False])
def test_between_messages_only_what_a_peer_may_refer_to_is_held(server_forgets: bool, client_forgets: bool) -> None:
    server, client = agreed(server_forgets, client_forgets, 0, 0)
    for ours, theirs, forgets in ((Deflate(server), client, client_forgets), (Deflate(client), server, server_forgets)):
        said(ours, METER)
        heard(ours, said(theirs, METER))
        assert ours._compressor is None
        assert (ours._decompressor is None) is forgets


def test_each_message_is_compressed_by_itself() -> None:
    ours = Deflate(agreed(False, False, 0, 0)[0])
    assert said(ours, METER * 3) == said(ours, METER * 3), "the second refers to nothing"
    assert len(said(ours, METER * 6)) < len(METER) * 2


def test_a_smaller_window_that_was_agreed_is_kept_to() -> None:
    far = hashlib.shake_256(b"noise").digest(1500) * 2  # a repetition that only a larger window reaches
    narrow, _ = agreed(False, False, 9, 0)
    wide, _ = agreed(False, False, 0, 0)
    assert len(said(Deflate(wide), far)) < len(far) * 0.6
    assert len(said(Deflate(narrow), far)) > len(far) * 0.9


def test_compressing_takes_little_for_a_short_while() -> None:
    ours = Deflate(agreed(False, False, 0, 0)[0])
    said(ours, METER * 9)
    tracemalloc.start()
    try:
        for _ in range(50):
            said(ours, METER * 9)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 8 * 1024
    assert most < 96 * 1024, "zlib's default would take 256 KiB"


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", {"permessage-deflate"}),
        ("permessage-deflate; client_max_window_bits", {"permessage-deflate", "client_max_window_bits=12"}),
        ("permessage-deflate; client_max_window_bits=15", {"permessage-deflate", "client_max_window_bits=12"}),
        ("permessage-deflate; client_max_window_bits=10", {"permessage-deflate"}),
        ("permessage-deflate; server_max_window_bits=9", {"permessage-deflate", "server_max_window_bits=9"}),
        ("permessage-deflate; server_no_context_takeover", {"permessage-deflate", "server_no_context_takeover"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_station_is_answered_within_its_offer(offer: str, answer: set[str]) -> None:
    async with House() as house:
        station, cpms = await house.open(upgrade("/acme/CS-7", f"Sec-WebSocket-Extensions: {offer}"))
        (given_,) = station.header("Sec-WebSocket-Extensions")
        assert {part.strip() for part in given_.split(";")} == answer
        assert cpms.header("Sec-WebSocket-Extensions") == [OFFERED.decode()]


@pytest.mark.parametrize("hint", ["9", "10", "11", "12", "15", True])
def test_a_hint_below_our_window_is_not_answered_with_a_larger_one(hint: object) -> None:
    params = hinted({"client_max_window_bits": [hint], "server_no_context_takeover": [True]})
    assert ("client_max_window_bits" in params) is (hint is True or int(str(hint)) >= WINDOW_BITS)
    assert "server_no_context_takeover" in params


def test_what_is_no_deflate_is_declined() -> None:
    assert accept_offer([]) is None
    assert accept_offer([object()]) is None
    assert accept_response(object()) is None


@pytest_twisted.ensureDeferred
async def test_what_is_short_goes_as_it_is_and_what_is_long_compressed() -> None:
    rig = await Rig().start()
    try:
        station = await rig.dial("/acme/CS-1", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
        assert await station.status() == 101
        cpms = rig.cpms.wires[-1]
        for size, first in ((WORTH - 1, 0x81), (WORTH, 0xC1), (70_000, 0xC1), (1, 0x81)):
            text = (METER * 800)[:size]
            cpms.say(text)
            came = await station.raw()
            assert came[0] == first
            plain = came[1] if first == 0x81 else zlib.decompressobj(wbits=-WINDOW_BITS).decompress(came[1] + b"\x00\x00\xff\xff")
            assert plain == text
    finally:
        await rig.stop()
