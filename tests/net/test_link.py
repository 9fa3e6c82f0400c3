"""One link, one life: what one side says, the other hears, byte for byte, and when one goes, so does the other."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig, Wire, Wound, accept, clock, delayed, nap, packed, until, upgrade
from twisted.internet.defer import Deferred

from broker.net.link import SIGN_S
from broker.net.pulse import FIRST_PING_S, Pulse

MOST = 1_000_000
TEXTS = [
    b'[2,"1","Heartbeat",{}]',
    b'[2,"2","Heartbeat",{}]\n',
    b' [ 2 , "3" ,\t"Heartbeat" , { "b" : 1 , "a" : 2, "b":3 } ] ',
    b'[2,"4","MeterValues",{"a":1.0,"b":1e2,"c":1E+2,"d":-0,"e":0.10,"f":12345678901234567890123,"g":1e999}]',
    b'[2,"\\u0035","DataTransfer",{"x":"\\/\\u00e9\\ud83d\\ude00","y":"\xc3\xa9\xf0\x9f\x98\x80"}]',
    b'[2,"6","X-Future",{"deep":[[[[null]]]]}]',
    b'[5,"7","GenericError","",{}]',
    b'[6,"8","NotifyPeriodicEventStream",{"id":1}]',
    b'[7,"9"]',
    b'[2,10,"Heartbeat",{}]',
    b'[3,"unknown",{}]',
    b'[4,"unknown","InternalError","",{}]',
    b"",
    b"not json",
    b"{}",
    b"null",
    b'[2,"11"',
    b'[2,"12","A\x00",{}]',
    b"[" * 5000,
    b"\xef\xbb\xbf[]",
    b"x" * 125,
    b"x" * 126,
    b"y" * 65535,
    b"y" * 65536,
    b"z" * MOST,
]


async def made(**broker: Any) -> Rig:
    return await Rig(**{"max_message": MOST, **broker}).start()


@pytest_twisted.async_yield_fixture
async def rig() -> AsyncIterator[Rig]:
    rig = await made()
    yield rig
    await rig.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_every_frame_goes_on_byte_for_byte(rig: Rig, way: str) -> None:
    station, cpms = await rig.pair()
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    for text in TEXTS:
        speaker.say(text)
        assert await hearer.hear() == text
    binary = bytes(range(256))
    speaker.say(binary, 0x82)
    assert await hearer.raw() == (0x82, binary)
    for piece in (speaker.wire(b"[2,", 0x01), speaker.wire(b"p", 0x89), speaker.wire(b'"\xc3', 0x00), speaker.wire(b'\xa9"', 0x80)):
        speaker.transport.write(piece)
    assert await hearer.hear() == b'[2,"\xc3\xa9"', "fragments arrive as one message"
    assert await speaker.raw() == (0x8A, b"p"), "a ping is answered by us"


@pytest_twisted.ensureDeferred
async def test_many_frames_in_one_piece_and_one_frame_in_many_keep_their_order(rig: Rig) -> None:
    station, cpms = await rig.pair()
    texts = [b'[2,"%d","Heartbeat",{}]' % n for n in range(500)]
    station.transport.write(b"".join(map(station.wire, texts)))
    cpms.transport.write(b"".join(map(cpms.wire, reversed(texts))))
    assert [await cpms.hear() for _ in texts] == texts
    assert [await station.hear() for _ in texts] == texts[::-1]
    for byte in station.wire(b"abc"):
        station.transport.write(bytes([byte]))
        await nap(0)
    assert await cpms.hear() == b"abc"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ((b"\xff", 0x81), 1007),
        ((b"\xed\xa0\x80", 0x81), 1007),
        ((b"\xc3", 0x81), 1007),
        ((b"x" * (MOST + 1), 0x81), 1009),
        ((b"x", 0xC1), 1002),
        ((b"x", 0x83), 1002),
        ((b"x", 0x80), 1002),
        ((b"x" * 126, 0x89), 1002),
    ],
)
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_what_is_no_websocket_is_answered_with_its_code_and_the_other_side_told(
    rig: Rig, way: str, bad: tuple[bytes, int], code: int
) -> None:
    station, cpms = await rig.pair()
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    speaker.say(*bad)
    assert (await hearer.closed())[0] == 1001
    assert (await speaker.closed())[0] == code
    await speaker.end()
    await hearer.end()


@pytest_twisted.ensureDeferred
async def test_an_unmasked_station_is_told_so(rig: Rig) -> None:
    station, cpms = await rig.pair()
    station.transport.write(packed(b"x"))
    assert (await station.closed())[0] == 1002
    assert (await cpms.closed())[0] == 1001


@pytest_twisted.ensureDeferred
async def test_too_big_is_known_from_the_head_and_over_fragments(rig: Rig) -> None:
    station, cpms = await rig.pair()
    station.transport.write(bytes([0x81, 0xFF]) + (2**40).to_bytes(8, "big") + b"mask")
    assert (await station.closed())[0] == 1009
    assert (await cpms.closed())[0] == 1001
    await station.end()
    station, cpms = await rig.pair("/acme/CS-8")
    for _ in range(11):
        station.say(b"x" * 100_000, 0x01 if not _ else 0x00)
    assert (await station.closed())[0] == 1009


# ---------------------------------------------------------------- the end


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999])
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_close_codes_go_across_as_they_came(rig: Rig, way: str, code: int) -> None:
    station, cpms = await rig.pair()
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    reason = "a r\u00e9ason " + "x" * 100
    speaker.close(code, reason)
    assert await hearer.closed(1) == (code, reason)
    assert (await speaker.closed())[0] == code
    await speaker.end()
    await hearer.end()
    await until(lambda: not len(rig.links))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["none", "1004", "1005", "1006", "2999", "5000", "abort", "hang-up"])
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_whatever_else_ends_one_leg_is_1001_on_the_other(rig: Rig, way: str, how: str) -> None:
    station, cpms = await rig.pair()
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    speaker.say(b"last words")
    if how == "abort":
        assert await hearer.hear() == b"last words"
        speaker.abort()
    elif how == "hang-up":
        speaker.hang_up()
    else:
        speaker.close(None if how == "none" else int(how))
    if how != "abort":
        assert await hearer.hear() == b"last words"
    assert await hearer.closed(1) == (1001, "")
    await hearer.end()
    await until(lambda: not len(rig.links))
    await rig.opened[-1].when_gone()


@pytest_twisted.ensureDeferred
async def test_if_neither_says_good_bye_both_are_cut_in_time(rig: Rig) -> None:
    station, cpms = await rig.pair()
    for leg in rig.opened[-1]._legs.values():
        leg.closeHandshakeTimeout = 0  # type: ignore[attr-defined]  # Autobahn's own patience is longer than that of somebody in a hurry
    rig.opened[-1].close(1008, "replaced", linger_s=0.1)
    await station.end()
    await cpms.end()
    await rig.opened[-1].when_gone()


@pytest_twisted.ensureDeferred
async def test_a_peer_that_says_no_good_bye_is_not_waited_for(rig: Rig) -> None:
    station, cpms = await rig.pair()
    cpms.abort()
    first, payload = await station.raw(1)
    assert (first, payload[:2]) == (0x88, (1001).to_bytes(2, "big"))
    await station.end(4)
    await rig.opened[-1].when_gone()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_what_comes_with_the_good_bye_arrives_before_it(rig: Rig, way: str) -> None:
    station, cpms = await rig.pair()
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    texts = [b"%d" % n for n in range(300)]
    speaker.transport.write(b"".join([*map(speaker.wire, texts), speaker.wire((1000).to_bytes(2, "big"), 0x88), speaker.wire(b"too late")]))
    speaker.hang_up()
    assert [await hearer.hear() for _ in texts] == texts
    assert await hearer.closed() == (1000, "")


@pytest_twisted.ensureDeferred
async def test_two_hundred_come_and_go_and_nothing_is_left(rig: Rig) -> None:
    def polite(wire: Wire) -> None:
        accept(wire)
        wire.polite = True

    rig.cpms.on_head = polite
    before = len(delayed())
    descriptors = len(os.listdir("/proc/self/fd"))
    for n in range(200):
        station = await rig.dial(f"/acme/CS-{n % 7}")
        if n % 5 == 0:
            station.abort()
            await until(lambda: not rig.links.taken)
            continue
        assert await station.status() == 101
        station.polite = True
        station.say(b'[2,"1","Heartbeat",{}]')
        if n % 5 == 1:
            station.abort()
        elif n % 5 == 2:
            rig.cpms.wires[-1].abort()
        elif n % 5 == 3:
            station.close()
        else:
            rig.cpms.wires[-1].close(1012)
        await until(lambda: not len(rig.links))
        station.abort()
        for link in rig.opened:
            await link.when_gone()
        rig.opened.clear()
    await until(lambda: all(wire.gone for wire in rig.cpms.wires))
    assert rig.cpms.most_at_once == 1
    assert rig.links.taken == 0
    await nap(0.05)
    assert len(delayed()) <= before + 1, delayed()  # txaio's one bucket
    assert len(os.listdir("/proc/self/fd")) <= descriptors


# ---------------------------------------------------------------- before the link is whole


@pytest_twisted.ensureDeferred
async def test_frames_of_the_cpms_before_the_stations_101_come_first_and_in_order(rig: Rig) -> None:
    texts = [b'[2,"%d","Reset",{}]' % n for n in range(200)]
    rig.cpms.on_head = lambda wire: accept(wire, behind=b"".join(map(wire.wire, texts)))
    station = await rig.dial()
    assert await station.status() == 101
    rig.cpms.wires[-1].say(b"later")
    assert [await station.hear() for _ in texts] == texts
    assert await station.hear() == b"later"


@pytest_twisted.ensureDeferred
async def test_frames_pipelined_behind_the_request_are_delivered_in_order(rig: Rig) -> None:
    held: list[Wire] = []
    rig.cpms.on_head = held.append
    wire = Wire(True)
    texts = [b'[2,"%d","Heartbeat",{}]' % n for n in range(200)]
    station = await rig.dial(behind=b"".join(map(wire.wire, texts)))
    await until(lambda: held)
    station.say(b"later")
    await nap(0.05)
    accept(held[0])
    assert await station.status() == 101
    assert [await held[0].hear() for _ in texts] == texts
    assert await held[0].hear() == b"later"


@pytest_twisted.ensureDeferred
async def test_what_is_pipelined_is_bounded_by_the_socket(rig: Rig) -> None:
    held: list[Wire] = []
    rig.cpms.on_head = held.append
    station = await rig.dial()
    await until(lambda: held)
    texts = [os.urandom(50_000).hex().encode() for _ in range(100)]
    for text in texts:
        station.say(text)
    await nap(0.2)
    accept(held[0])
    assert await station.status() == 101
    for text in texts:
        assert await held[0].hear() == text


@pytest_twisted.ensureDeferred
async def test_while_we_look_the_station_up_the_cpmss_frames_wait_in_order_and_in_bounds(rig: Rig) -> None:
    looking: list[Deferred[None]] = []

    def known(*_: object) -> Any:
        looking.append(Deferred())
        return looking[-1]

    rig.door._known = known
    station = await rig.dial()
    await until(lambda: looking)
    cpms = rig.cpms.wires[-1]
    texts = [os.urandom(25_000).hex().encode() for _ in range(400)]
    for text in texts:
        cpms.say(text)
    cpms.close(4002, "that was all")
    await nap(0.3)
    assert cpms.transport.dataBuffer, "not all of it was read"
    looking[0].callback(None)
    assert await station.status() == 101
    for text in texts:
        assert await station.hear() == text
    assert await station.closed() == (4002, "that was all")


@pytest_twisted.ensureDeferred
async def test_a_cpms_that_accepts_says_something_and_goes(rig: Rig) -> None:
    rig.cpms.on_head = lambda wire: accept(wire, behind=wire.wire(b"hello") + wire.wire((4001).to_bytes(2, "big") + b"no", 0x88))
    station = await rig.dial()
    assert await station.status() == 101
    assert await station.hear() == b"hello"
    assert await station.closed() == (4001, "no")


# ---------------------------------------------------------------- each leg for itself


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover"


def squeezed(text: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


@pytest_twisted.ensureDeferred
async def test_deflate_is_negotiated_per_leg(rig: Rig) -> None:
    text = b'[2,"1","Heartbeat",{}]' * 20
    station = await rig.dial("/acme/CS-1", DEFLATE)
    head = await station.head()
    assert b"permessage-deflate" in head
    cpms = rig.cpms.wires[-1]
    assert b"permessage-deflate" in cpms.request
    station.say(squeezed(text), 0xC1)
    assert await cpms.raw() == (0x81, text)
    cpms.say(text)
    first, payload = await station.raw()
    assert first == 0xC1
    assert zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff") == text

    rig.cpms.on_head = lambda wire: accept(
        wire, b"Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover"
    )
    station = await rig.dial("/acme/CS-2", "Sec-WebSocket-Extensions: permessage-deflate")
    assert await station.status() == 101
    cpms = rig.cpms.wires[-1]
    cpms.say(squeezed(text), 0xC1)
    first, payload = await station.raw()
    assert zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff") == text

    rig.cpms.on_head = accept
    station = await rig.dial("/acme/CS-3")
    assert b"xtensions" not in await station.head()
    assert b"xtensions" not in rig.cpms.wires[-1].request


@pytest_twisted.ensureDeferred
async def test_a_deflate_bomb_is_1009(rig: Rig) -> None:
    station = await rig.dial("/acme/CS-1", "Sec-WebSocket-Extensions: permessage-deflate")
    assert await station.status() == 101
    station.say(squeezed(b"\0" * 200_000_000), 0xC1)
    assert (await station.closed())[0] == 1009
    assert (await rig.cpms.wires[-1].closed())[0] == 1001


# ---------------------------------------------------------------- life


@pytest_twisted.ensureDeferred
async def test_a_leg_that_says_nothing_is_pinged_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.pulse.PONG_S", 0.3)
    rig = await made(ping_s=0.2)
    rig.world.ping_s = 0.2
    try:
        station, cpms = await rig.pair()
        cpms.pongs = False
        assert (await station.closed(3))[0] == 1001
        await cpms.end()
        assert station.pings >= 2, "the station answered, and was asked again"
        station, cpms = await rig.pair()
        station.pongs = False
        assert (await cpms.closed(3))[0] == 1001
        await station.end()
    finally:
        await rig.stop()


async def timed() -> tuple[Rig, Wound, Wire, Wire]:
    """A link whose timers and pulses go by a clock that the test winds."""
    rig = await made()
    wound = rig.world.reactor = Wound()
    pair = await rig.pair()
    for leg in rig.opened[0]._legs.values():
        leg.pulse = Pulse(wound.seconds)  # type: ignore[attr-defined]
    return rig, wound, *pair


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pongs", [True, False])
async def test_what_came_while_the_process_stood_still_is_read_before_anybody_is_judged(pongs: bool) -> None:
    rig, wound, *wires = await timed()
    link = rig.opened[0]
    wound.advance(FIRST_PING_S)
    await until(lambda: all(wire.buffer for wire in wires))
    for wire in wires if pongs else ():
        wire.say(b"", 0x8A)
    wound.advance(60.0)
    assert not link.over
    if pongs:
        await until(lambda: all(leg.pulse.heard_at > FIRST_PING_S for leg in link._legs.values()))
    link._hurry()
    wound.advance(5.0)  # it is late again
    assert link.over is not pongs
    await rig.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("pongs", [True, False])
async def test_who_is_asked_for_a_sign_has_it_read_though_the_process_stood_still(pongs: bool) -> None:
    rig, wound, station, _ = await timed()
    link = rig.opened[0]
    lives = link.alive(5.0)
    await until(lambda: station.buffer)
    if pongs:
        station.say(b"", 0x8A)
    wound.advance(5.0)
    assert not lives.called
    if pongs:
        await until(lambda: link._legs["station"].pulse.heard_at > 0.0)
    wound.advance(SIGN_S)
    assert await lives is pongs
    await rig.stop()


@pytest_twisted.ensureDeferred
async def test_a_talker_that_never_pongs_is_judged_by_its_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.pulse.PONG_S", 0.2)
    monkeypatch.setattr("broker.net.pulse.SILENT_S", 1.2)
    rig = await made()
    rig.world.ping_s = 0.2
    try:
        station, cpms = await rig.pair()
        station.pongs = False
        said = clock.seconds()
        station.say(b"I live")
        assert await cpms.hear() == b"I live"
        assert (await cpms.closed(2.5))[0] == 1001
        assert clock.seconds() - said >= 1.1
    finally:
        await rig.stop()


# ---------------------------------------------------------------- who does not read


def kept(rig: Rig, side: str) -> int:
    """Bytes that wait in us for that leg's peer."""
    leg = rig.opened[-1]._legs[side]  # type: ignore[index]
    return int(leg.unsent) + len(leg.data)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_a_peer_that_reads_nothing_pauses_the_other_and_nothing_is_lost(rig: Rig, way: str) -> None:
    station, cpms = await rig.pair()
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    hearer.transport.pauseProducing()
    texts = [os.urandom(25_000).hex().encode() for _ in range(600)]  # 30 MB: more than the kernel takes
    for text in texts:
        speaker.say(text)
    most = 0
    for _ in range(30):
        await nap(0.02)
        most = max(most, kept(rig, "station") + kept(rig, "cpms"))
    assert 0 < most <= 256 * 1024 + 100_000
    hearer.transport.resumeProducing()
    for text in texts:
        assert await hearer.hear() == text


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_a_peer_that_reads_nothing_for_long_is_dropped(rig: Rig, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.pulse.STALL_S", 0.5)
    monkeypatch.setattr("broker.net.pulse.LOOK_S", 0.1)
    station, cpms = await rig.pair()
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    hearer.transport.pauseProducing()
    for _ in range(300):
        speaker.say(b"x" * 50_000)
    assert (await speaker.closed(4))[0] == 1001
    await rig.opened[-1].when_gone()
    hearer.transport.resumeProducing()
    await hearer.end()


@pytest_twisted.ensureDeferred
async def test_a_request_in_slices_of_one_byte(rig: Rig) -> None:
    station = await rig.connect()
    for byte in upgrade("/acme/CS-7"):
        station.transport.write(bytes([byte]))
        await nap(0)
    assert await station.status() == 101


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_a_flood_of_pings_whose_pongs_are_not_read_grows_nothing(way: str) -> None:
    rig = await made(rate=0)  # the rate would keep it from coming to that
    station, cpms = await rig.pair()
    speaker = station if way == "station" else cpms
    leg = rig.opened[-1]._legs[way]  # type: ignore[index]
    # A receive buffer that is cut once it is in use has the system drop what acknowledges the flood: both ways would stand.
    leg.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    speaker.transport.pauseProducing()
    flood = b"".join(speaker.wire(b"x" * 125, 0x89) for _ in range(1000))
    most = floods = 0
    while floods < 8:
        last = b"%d" % floods
        speaker.transport.write(flood + speaker.wire(last, 0x89))
        await nap(0.01)
        await until(lambda last=last: leg._pong == last or not leg.pulse.stalled)
        floods += leg._pong == last
        most = max(most, kept(rig, way))
    assert most <= 256 * 1024, most
    speaker.transport.resumeProducing()
    speaker.pongs = False
    speaker.say(b"over", 0x89)
    last = await speaker.raw()
    while last != (0x8A, b"over"):
        assert last[0] == 0x8A
        last = await speaker.raw()
    await rig.stop()


@pytest_twisted.ensureDeferred
async def test_fragments_of_one_byte_keep_nobody_waiting() -> None:
    rig = await made(rate=0)  # the rate would keep it from coming to that
    flooder, cpms = await rig.pair("/acme/CS-1")
    innocent, innocent_cpms = await rig.pair("/acme/CS-2")
    flooder.say(b"[", 0x01)
    mask = b"\x01\x02\x03\x04"
    flooder.transport.write(packed(b"x", 0x00, mask) * 60_000)
    for n in range(20):
        innocent.say(b"%d" % n)
        assert await innocent_cpms.hear(0.25) == b"%d" % n
    flooder.say(b"]", 0x80)
    assert await cpms.hear(10) == b"[" + b"x" * 60_000 + b"]"
    await rig.stop()
