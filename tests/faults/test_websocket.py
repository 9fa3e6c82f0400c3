"""WebSocket by the book, and against it: sizes, fragments, compression, codes. What one peer does wrong costs that peer its link."""

from __future__ import annotations

import asyncio
import contextlib
import select
import time

import pytest
from faults.outside import BINARY, CLOSE, DEFLATE, PING, Cpms, Gone, Outside, Peer, deflated, inflated, kernel_bytes, play
from wires import wire

MIB = 1024 * 1024
WAYS = pytest.mark.parametrize("way", ["station", "cpms"])
"""Who is at fault, or speaks first."""


def sorted_out(way: str, station: Peer, cpms: Peer) -> tuple[Peer, Peer]:
    """The one at fault, and the other."""
    return (station, cpms) if way == "station" else (cpms, station)


def oversized(peer: Peer, length: int) -> bytes:
    """The head of a frame that says it has so many bytes."""
    bit = 0x80 if peer.masks else 0
    return bytes([0x81, bit | 127]) + length.to_bytes(8, "big") + (b"\x11\x22\x33\x44" if peer.masks else b"")


@WAYS
def test_row_04_a_frame_that_says_it_has_a_tebibyte_is_1009_before_its_payload_is_read(outside: Outside, way: str) -> None:
    async def story(cpms: Cpms) -> None:
        bad, good = sorted_out(way, *await outside.service.pair(cpms, f"R04-{way}"))
        async with outside.fault(f"04 {way}", most_mib=4.0) as seen:
            await bad.raw(oversized(bad, 2**40))
            sent = 14 + await bad.pour(bytes(8 * MIB), within_s=0.3)
            seen["read_bytes"] = sent - kernel_bytes(bad.sock)
            (codes, _), (others, _) = await asyncio.gather(bad.end(), good.end())
            assert (codes, others) == ([1009], [1001])
        assert seen["read_bytes"] <= MIB

    play(outside, story)


@WAYS
def test_row_05_fragments_without_end_are_1009_at_the_limit_of_a_message(outside: Outside, way: str) -> None:
    async def story(cpms: Cpms) -> None:
        bad, good = sorted_out(way, *await outside.service.pair(cpms, f"R05-{way}"))
        async with outside.fault(f"05 {way}", most_mib=32.0) as seen:
            await bad.raw(bad.framed(bytes(65536), 1, fin=False))
            sent, piece = 1, bad.framed(bytes(65536), 0, fin=False)
            with contextlib.suppress(ConnectionError):
                while sent < 256 and not select.select([bad.sock], [], [], 0)[0]:
                    await bad.raw(piece)
                    sent += 1
                    await asyncio.sleep(0.001)
            seen["sent_mib"] = sent / 16
            codes, _ = await bad.end()
            assert codes == [1009]
            assert (await good.end())[0] == [1001]
        assert 8.0 <= seen["sent_mib"] <= 12.0, "8 MiB, and what was under way in the kernel"

    play(outside, story)


def test_row_06_fragments_of_one_byte_arrive_whole_and_a_flood_of_them_harms_nobody(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        station, upstream = await outside.service.pair(cpms, "R06")
        pieces = 12_000
        async with outside.fault("06", most_cpu_s=6.0) as seen:
            began = time.monotonic()
            last = station.framed(b"x", 0, fin=True)
            one = station.framed(b"x", 0, fin=False)
            flood = asyncio.create_task(station.raw(station.framed(b"x", 1, fin=False) + one * (pieces - 2) + last))
            assert await upstream.hear(60) == b"x" * pieces
            await flood
            seen["whole_after_s"] = round(time.monotonic() - began, 2)
            seen["poured"] = await station.pour(station.framed(b"x", 1, fin=False) + one * 300_000, within_s=1.5)
            station.reset()
            await upstream.end()

    play(outside, story)


@pytest.mark.parametrize("bombs", [1, 8])
def test_row_07_a_deflate_bomb_is_1009(outside: Outside, bombs: int) -> None:
    async def story(cpms: Cpms) -> None:
        pairs = [await outside.service.pair(cpms, f"R07-{n}", more=DEFLATE) for n in range(bombs)]
        assert all(b"permessage-deflate" in station.head for station, _ in pairs)
        bomb = deflated(bytes(64 * MIB))
        # Each is inflated to the 8 MiB that a message may have, and no further; all of them at once, as none keeps the others waiting.
        async with outside.fault(f"07 x{bombs}", most_mib=4.0 + 9.0 * bombs, most_cpu_s=0.4 * bombs + 0.4) as seen:
            seen["bomb_bytes"] = len(bomb)
            for station, _ in pairs:
                await station.say(bomb, rsv=4)
            for station, upstream in pairs:
                assert (await station.end())[0] == [1009]
                assert (await upstream.end())[0] == [1001]

    play(outside, story)


WRONG = {
    "invalid UTF-8": (1007, lambda peer: peer.framed(b"[2,\xff\xfe]")),
    "half a character at the end": (1007, lambda peer: peer.framed(b"\xe2\x82")),
    "an overlong character in a fragment": (1007, lambda peer: peer.framed(b"\xc0\x80", fin=False)),
    "masked wrongly": (1002, lambda peer: peer.framed(b"[]", masked=not peer.masks)),
    "a reserved bit": (1002, lambda peer: peer.framed(b"[]", rsv=1)),
    "compressed though nobody agreed": (1002, lambda peer: peer.framed(deflated(b"[]"), rsv=4)),
    "a reserved opcode": (1002, lambda peer: peer.framed(b"[]", 3)),
    "a reserved control opcode": (1002, lambda peer: peer.framed(b"", 11)),
    "a ping of 126 bytes": (1002, lambda peer: peer.framed(bytes(126), PING)),
    "a ping in fragments": (1002, lambda peer: peer.framed(b"", PING, fin=False)),
    "a continuation of nothing": (1002, lambda peer: peer.framed(b"[]", 0)),
    "a message inside another": (1002, lambda peer: peer.framed(b"a", 1, fin=False) + peer.framed(b"b", 1)),
    "a close code that is none": (1002, lambda peer: peer.framed((999).to_bytes(2, "big"), CLOSE)),
    "a close frame of one byte": (1002, lambda peer: peer.framed(b"\x03", CLOSE)),
}


@WAYS
def test_row_08_what_is_no_websocket_is_answered_with_its_code_not_with_a_reset(outside: Outside, way: str) -> None:
    async def story(cpms: Cpms) -> None:
        async with outside.fault(f"08 {way}") as seen:
            for n, (what, (code, made)) in enumerate(WRONG.items()):
                bad, good = sorted_out(way, *await outside.service.pair(cpms, f"R08-{way}-{n}"))
                await bad.raw(made(bad))
                assert await bad.end() == ([code], "eof"), what
                assert await good.end() == ([1001], "eof"), what
            seen["kinds"] = len(WRONG)

    play(outside, story)


@WAYS
def test_row_09_a_binary_frame_goes_on_unchanged_and_is_counted(outside: Outside, way: str) -> None:
    async def story(cpms: Cpms) -> None:
        one, other = sorted_out(way, *await outside.service.pair(cpms, f"R09-{way}"))
        counted = outside.service.count("ocppbroker_frames_total", kind="binary")
        async with outside.fault(f"09 {way}"):
            for payload in (b'[2,"1","Heartbeat",{}]', bytes(range(256)), b"", b"\xff" * 70_000):
                await one.say(payload, BINARY)
                assert await other.frame() == (0x80 | BINARY, BINARY, payload)
        assert outside.service.count("ocppbroker_frames_total", kind="binary") - counted == 4
        one.reset()
        await other.end()

    play(outside, story)


def test_row_11_what_comes_with_either_handshake_is_delivered_in_order_behind_it(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        async with outside.fault("11") as seen:
            texts = [b'[2,"%d","Heartbeat",{}]' % n for n in range(200)]
            said = b"".join(wire(text, masked=True) for text in texts)
            station, upstream = await outside.service.pair(cpms, "R11", rest=said)
            assert [await upstream.hear() for _ in texts] == texts
            seen["frames"] = len(texts)
            await upstream.say('[3,"0",{}]')
            assert await station.hear() == b'[3,"0",{}]'
            station.reset()
            await upstream.end()

    play(outside, story)


@WAYS
def test_row_12_close_codes_go_across_and_everything_else_is_1001(outside: Outside, way: str) -> None:
    async def story(cpms: Cpms) -> None:
        crossing = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4000, 4999]
        async with outside.fault(f"12 {way}") as seen:
            for code in crossing:
                one, other = sorted_out(way, *await outside.service.pair(cpms, f"R12-{way}-{code}"))
                await one.say(code.to_bytes(2, "big") + b"because", CLOSE)
                _, opcode, payload = await other.frame()
                assert (opcode, payload) == (CLOSE, code.to_bytes(2, "big") + b"because")
                await other.say(payload, CLOSE)
                assert await one.end(answers=False) == ([code], "eof")
            for how in ("without a code", "reset", "closed without a good-bye"):
                one, other = sorted_out(way, *await outside.service.pair(cpms, f"R12-{way}-{how[:5]}"))
                if how == "without a code":
                    await one.say(b"", CLOSE)
                elif how == "reset":
                    one.reset()
                else:
                    one.close()
                assert await other.end() == ([1001], "eof"), how
            seen["codes"] = len(crossing)

    play(outside, story)


def test_row_13_each_leg_negotiates_compression_for_itself_and_the_text_is_the_same(outside: Outside) -> None:
    text = b'[2,"1","DataTransfer",{"data":"%s"}]' % (b"again and " * 500)

    async def story(cpms: Cpms) -> None:
        async with outside.fault("13"):
            station, upstream = await outside.service.pair(cpms, "R13-plain", more=DEFLATE)
            assert b"permessage-deflate" in station.head
            await station.say(deflated(text), rsv=4)
            assert await upstream.frame() == (0x81, 1, text), "a CPMS that does not compress gets plain text"
            await upstream.say(text)
            first, _, payload = await station.frame()
            assert (first, inflated(payload)) == (0xC1, text)

            cpms.accepts["R13-both"] = DEFLATE
            both, deep = await outside.service.pair(cpms, "R13-both", more=DEFLATE)
            await both.say(text)
            first, _, payload = await deep.frame()
            assert (first, inflated(payload)) == (0xC1, text)

            bare, _ = await outside.service.pair(cpms, "R13-none")
            assert b"xtensions" not in bare.head
            assert not any(b"xtensions" in head for head in cpms.asked if b"R13-none" in head), "what the station did not offer we do not"
            for peer in (station, both, bare):
                peer.reset()
            with contextlib.suppress(Gone, TimeoutError):
                await upstream.end()

    play(outside, story)
