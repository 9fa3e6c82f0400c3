"""Handshakes of stations as they are, not as they should be: the bytes of each request, and what the CPMS sees of it or what refuses it.

Both ends are raw sockets. Whatever the broker does not have to understand must arrive as the station said it.
"""

from __future__ import annotations

import os
import zlib
from base64 import b64encode
from typing import NamedTuple

import pytest
import pytest_twisted
from fakes import Rig, Wire, accept, clock, header, nap, upgrade
from twisted.internet.protocol import ClientCreator
from wires import PING, PONG, House, Peer, accepted, soon

MIB = 1024 * 1024
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Seen(NamedTuple):
    """Of the CPMS's request."""

    line: str
    protocols: list[str]
    authorization: list[str]


def asks(*lines: str, path: str = "/acme/CS-7", connection: str = "Connection: Upgrade") -> bytes:
    """A request, its lines as given."""
    first = [f"GET {path} HTTP/1.1", "Host: broker:9000", "Upgrade: websocket", connection]
    kept = [line for line in first if line]
    return ("\r\n".join([*kept, f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", *lines]) + "\r\n\r\n").encode("latin-1")


async def seen(house: House, request: bytes) -> Seen | int:
    """What the CPMS saw of it; else the status of the refusal, and then it saw nothing."""
    before = len(house.cpms.peers)
    house.cpms.answer = lambda peer: accepted(peer, None)
    station = await house.answered(request)
    if station.status != 101:
        assert await soon(lambda: station.lost)
        assert len(house.cpms.peers) == before
        return station.status
    cpms = house.cpms.last
    found = Seen(cpms.first, cpms.header("Sec-WebSocket-Protocol"), cpms.header("Authorization"))
    station.send(b'[2,"1","Heartbeat",{}]')
    assert await soon(lambda: cpms.texts == [b'[2,"1","Heartbeat",{}]'])
    return found


# ---------------------------------------------------------------- subprotocols


SUBPROTOCOLS: dict[str, tuple[list[str], list[str], str | None]] = {
    # what the station says → what the CPMS is offered, what the station is told it chose (it takes the first)
    "one": (["Sec-WebSocket-Protocol: ocpp1.6"], ["ocpp1.6"], "ocpp1.6"),
    "none": ([], [], None),
    "empty": (["Sec-WebSocket-Protocol: "], [], None),
    "several": (["Sec-WebSocket-Protocol: ocpp2.1, ocpp2.0.1, ocpp1.6"], ["ocpp2.1, ocpp2.0.1, ocpp1.6"], "ocpp2.1"),
    "without blanks": (["Sec-WebSocket-Protocol: ocpp2.0.1,ocpp1.6"], ["ocpp2.0.1, ocpp1.6"], "ocpp2.0.1"),
    "in two headers": (["Sec-WebSocket-Protocol: ocpp1.6", "Sec-WebSocket-Protocol: ocpp1.5"], ["ocpp1.6, ocpp1.5"], "ocpp1.6"),
    "commas too many": (["Sec-WebSocket-Protocol: ,ocpp1.6,,"], ["ocpp1.6"], "ocpp1.6"),
    "unknown": (["Sec-WebSocket-Protocol: ocpp9.9, x-vendor"], ["ocpp9.9, x-vendor"], "ocpp9.9"),
    "upper case": (["Sec-WebSocket-Protocol: OCPP1.6"], ["OCPP1.6"], "OCPP1.6"),
    "1.6J": (["sec-websocket-protocol: ocpp1.6J"], ["ocpp1.6J"], "ocpp1.6J"),
    "not a token": (["Sec-WebSocket-Protocol: ocpp1.6;q=1"], ["400"], None),
}


@pytest.mark.parametrize("name", SUBPROTOCOLS)
@pytest_twisted.ensureDeferred
async def test_subprotocols_are_the_cpmss_choice_from_the_stations_own_list(name: str) -> None:
    said, offered, chosen = SUBPROTOCOLS[name]
    async with House() as house:
        house.cpms.answer = lambda peer: accepted(peer, chosen)
        station = await house.answered(asks(*said))
        if offered == ["400"]:
            assert (station.status, house.cpms.peers) == (400, [])
            return
        assert station.status == 101
        assert house.cpms.last.header("Sec-WebSocket-Protocol") == offered
        assert station.header("Sec-WebSocket-Protocol") == ([chosen] if chosen else [])


@pytest_twisted.ensureDeferred
async def test_a_station_that_tries_1_6_first_and_then_2_0_1_gets_in(rig: Rig) -> None:
    """Some find out what the CPMS speaks by hanging up, without a word, when it did not choose what they offered."""

    def answer(wire: Wire) -> None:
        accept(wire, protocol=b"ocpp2.0.1" if b"ocpp2.0.1" in wire.request else None)
        wire.polite = True

    rig.cpms.on_head = answer
    for _ in range(3):
        probe = await rig.dial(protocols="ocpp1.6")
        head = await probe.head()
        assert (head.split(b" ")[1], header(head, b"sec-websocket-protocol")) == (b"101", [])
        probe.abort()
        station = await rig.dial(protocols="ocpp2.0.1")
        head = await station.head()
        assert (head.split(b" ")[1], header(head, b"sec-websocket-protocol")) == (b"101", [b"ocpp2.0.1"])
        station.abort()
    assert rig.world.counts.of == {}, "nobody was refused"


# ---------------------------------------------------------------- headers and targets


REQUESTS: dict[str, tuple[bytes, str | int]] = {
    "as it should be": (asks(), "/ocpp/CS-7"),
    "no Connection": (asks(connection=""), "/ocpp/CS-7"),
    "Connection: keep-alive": (asks(connection="Connection: keep-alive"), "/ocpp/CS-7"),
    "lower case": (
        asks().lower().replace(b"get /acme/cs-7 http", b"GET /acme/CS-7 HTTP").replace(KEY.lower().encode(), KEY.encode()),
        "/ocpp/CS-7",
    ),
    "no blank behind a colon": (asks().replace(b": ", b":"), "/ocpp/CS-7"),
    "blanks behind a value": (asks().replace(b"websocket\r\n", b"WebSocket \t\r\n"), "/ocpp/CS-7"),
    "double slashes": (asks(path="//acme//CS-7"), "/ocpp/CS-7"),
    "a slash behind": (asks(path="/acme/CS-7/"), "/ocpp/CS-7"),
    "two behind": (asks(path="/acme/CS-7//"), 404),
    "percent-encoded": (asks(path="/acme/CS%2D7%20a"), "/ocpp/CS%2D7%20a"),
    "encoded slash": (asks(path="/acme/a%2FCS-7"), 404),
    "encoded and not": (asks(path="/acme/caf%c3%a9"), "/ocpp/caf%c3%a9"),
    "absolute": (asks(path="ws://broker:9000/acme/CS-7"), "/ocpp/CS-7"),
    "absolute, https": (asks(path="https://BROKER:9000/acme/CS-7/"), "/ocpp/CS-7"),
    "absolute, elsewhere": (asks(path="ws://other:9000/acme/CS-7"), 404),
    "absolute, a user": (asks(path="ws://CS-7:key@broker:9000/acme/CS-7"), 404),
    "a query": (asks(path="/acme/CS-7?vendor=%20x&a=/../"), "/ocpp/CS-7?vendor=%20x&a=/../"),
    "a fragment": (asks(path="/acme/CS-7#1"), 404),
    "segments between": (asks(path="/acme/ocpp/1.6/CS-7"), "/ocpp/ocpp/1.6/CS-7"),
    "HTTP/1.0": (asks().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "version 8": (asks().replace(b"Version: 13", b"Version: 8"), 426),
    "bare newlines": (asks().replace(b"\r\n", b"\n") + b"\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest_twisted.ensureDeferred
async def test_how_a_station_asks_and_what_the_cpms_sees(name: str) -> None:
    request, line = REQUESTS[name]
    async with House() as house:
        found = await seen(house, request)
        assert found == line if isinstance(line, int) else isinstance(found, Seen) and found.line == f"GET {line} HTTP/1.1"


# ---------------------------------------------------------------- credentials


def basic(said: bytes) -> str:
    return "Basic " + b64encode(said).decode()


KEY_40 = b"0123456789abcdef0123456789ABCDEF01234567"
CREDENTIALS: dict[str, tuple[str, bool]] = {
    # as sent, and whether a tenant of profile 1 takes it for credentials at all; the CPMS judges them
    "a password": (basic(b"CS-7:secret"), True),
    "a key of 40 hex digits": (basic(b"CS-7:" + KEY_40), True),
    "the same as raw bytes": (basic(b"CS-7:" + bytes.fromhex(KEY_40.decode())), True),
    "bytes that are no UTF-8": (basic(b"CS-7:\xff\xfe\x00\x01"), True),
    "an empty password": (basic(b"CS-7:"), True),
    "an empty name": (basic(b":secret"), True),
    "another name": (basic(b"CS-8:secret"), True),
    "colons in both": (basic(b"a:b:c:d"), True),
    "no colon": (basic(b"CS-7"), True),
    "lower case": ("basic " + b64encode(b"CS-7:secret").decode(), True),
    "a colon behind the word": ("Basic: " + b64encode(b"CS-7:secret").decode(), True),
    "two blanks": ("Basic  " + b64encode(b"CS-7:secret").decode(), True),
    "no padding": ("Basic " + b64encode(b"CS-7:secre").decode().rstrip("="), True),
    "not base64": ("Basic CS-7:secret", True),
    "nothing behind": ("Basic", False),
    "a bearer": ("Bearer abc.def", False),
    "beyond ASCII": ("Basic \xe9\xff", False),
}


@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize("profile", [0, 1])
@pytest_twisted.ensureDeferred
async def test_credentials_reach_the_cpms_as_the_same_bytes(name: str, profile: int) -> None:
    value, is_basic = CREDENTIALS[name]
    async with House() as house:
        house.tenant["security_profile"] = profile
        found = await seen(house, asks(f"Authorization: {value}"))
        if profile == 1 and not is_basic:
            assert found == 401
        else:
            assert isinstance(found, Seen)
            assert found.authorization == [value]
            others = ("an empty name", "another name", "colons in both", "no colon")
            assert house.world.counts.total("other_user_names") == (name in others)


# ---------------------------------------------------------------- compression on one leg


WINDOWS = ["", "; client_max_window_bits", "; client_max_window_bits=9; server_max_window_bits=9", "; server_no_context_takeover"]


@pytest.mark.parametrize("windows", WINDOWS)
@pytest_twisted.ensureDeferred
async def test_a_station_that_compresses_and_a_cpms_that_does_not(windows: str) -> None:
    text = b'[2,"1","DataTransfer",{"data":"' + b"abc" * 3000 + b'"}]'
    async with House() as house:
        station, cpms = await house.open(upgrade("/acme/CS-7", f"Sec-WebSocket-Extensions: permessage-deflate{windows}"))
        (answer,) = station.header("Sec-WebSocket-Extensions")
        bits = next((int(part.partition("=")[2]) for part in answer.split("; ") if part.startswith("server_max_window_bits")), 15)
        assert bits == 9 or "server_max" not in windows
        squeeze = zlib.compressobj(wbits=-9)
        station.send((squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4], rsv=4)
        assert await soon(lambda: cpms.texts == [text])
        cpms.send(text)
        assert await soon(lambda: station.frames)
        unsqueezed = zlib.decompressobj(wbits=-bits).decompress(station.frames[0][1] + b"\0\0\xff\xff")
        assert unsqueezed == text


@pytest.mark.parametrize(
    ("says", "bits"),
    [
        ("; client_no_context_takeover; server_no_context_takeover", 15),
        ("; client_max_window_bits=10", 10),
        ("; server_max_window_bits=9", 15),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_cpms_that_compresses_and_a_station_whose_leg_does_not(rig: Rig, says: str, bits: int) -> None:
    text = b'[2,"1","DataTransfer",{"data":"' + os.urandom(600).hex().encode() * 4 + b'"}]'
    rig.cpms.on_head = lambda wire: accept(wire, f"Sec-WebSocket-Extensions: permessage-deflate{says}".encode())
    offer = "permessage-deflate; client_max_window_bits, permessage-deflate; rubbish"
    station = await rig.dial("/acme/CS-7", f"Sec-WebSocket-Extensions: {offer}")
    assert await station.status() == 101
    cpms = rig.cpms.wires[-1]
    station.say(text)
    first, payload = await cpms.raw()
    assert first in (0x81, 0xC1)
    assert (zlib.decompressobj(wbits=-bits).decompress(payload + b"\0\0\xff\xff") if first == 0xC1 else payload) == text


# ---------------------------------------------------------------- sizes and fragments


@pytest.mark.parametrize("way", ["station", "cpms"])
@pytest_twisted.ensureDeferred
async def test_eight_mebibytes_pass_whole_or_in_fragments_and_a_byte_more_does_not(rig: Rig, way: str) -> None:
    assert rig.settings.broker.max_message == 8 * MIB
    station, cpms = await rig.pair()
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    whole = b'"' + b"x" * (8 * MIB - 2) + b'"'
    speaker.say(whole)
    assert await hearer.hear(20) == whole
    for at in range(0, 8 * MIB, MIB):
        first = (0x01 if at == 0 else 0x00) | (0x80 if at == 7 * MIB else 0)
        speaker.say(whole[at : at + MIB], first)
        if at == 3 * MIB:
            speaker.say(b"between", 0x89)
    assert await hearer.hear(20) == whole
    assert await speaker.raw() == (0x8A, b"between")
    speaker.transport.write(speaker.wire(b"x" * (8 * MIB + 1)))
    assert (await speaker.closed(20))[0] == 1009


@pytest_twisted.ensureDeferred
async def test_a_message_in_any_fragments_is_one_message(rig: Rig) -> None:
    station, cpms = await rig.pair()
    text = '[2,"1","DataTransfer",{"data":"é€😀"}]'.encode()
    for speaker, hearer in ((station, cpms), (cpms, station)):
        for size in (1, 2, 3, 7, len(text)):
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            for n, piece in enumerate(pieces):
                speaker.say(piece, (0x01 if n == 0 else 0x00) | (0x80 if n == len(pieces) - 1 else 0))
            assert await hearer.hear() == text
        speaker.say(b"", 0x01)
        speaker.say(b"", 0x00)
        speaker.say(text, 0x80)
        assert await hearer.hear() == text


# ---------------------------------------------------------------- pings of every kind


def pongs(peer: Peer) -> list[bytes]:
    return [payload for opcode, payload in peer.frames if opcode == PONG]


@pytest_twisted.ensureDeferred
async def test_pings_are_answered_on_their_own_leg_and_go_no_further() -> None:
    payloads = [b"", b"x", bytes(range(125)), b"\xff\xfe", *(b"%d" % n for n in range(60))]
    async with House() as house:
        station, cpms = await house.open()
        for peer in (station, cpms):
            for payload in payloads:
                peer.send(payload, PING)
            peer.send(b"nobody asked", PONG)
            peer.send(b"", PONG)
        station.send(b"[2,1]")
        cpms.send(b"[2,2]")
        assert await soon(lambda: cpms.texts == [b"[2,1]"] and station.texts == [b"[2,2]"])
        for peer in (station, cpms):
            assert await soon(lambda peer=peer: len(pongs(peer)) == len(payloads))
            assert pongs(peer) == payloads
            assert not [payload for opcode, payload in peer.frames if opcode == PING and payload in payloads]
        assert not station.lost


@pytest_twisted.ensureDeferred
async def test_a_ping_that_is_too_long_or_in_pieces_is_1002() -> None:
    async with House() as house:
        for n, (payload, fin) in enumerate(((b"x" * 126, True), (b"x", False))):
            station, _ = await house.open(upgrade(f"/acme/CS-{n}"))
            station.send(payload, PING, fin=fin)
            assert await soon(lambda station=station: station.closes)
            assert station.closes[0][0] == 1002


# ---------------------------------------------------------------- who never finishes


@pytest_twisted.ensureDeferred
async def test_two_hundred_that_never_finish_are_dropped_and_nobody_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.stations.REQUEST_S", 2.0)
    rig = await Rig().start()
    try:
        slow: list[Wire] = [await ClientCreator(clock, Wire, True).connectTCP("127.0.0.1", rig.port) for _ in range(200)]
        for n, wire in enumerate(slow):
            wire.transport.write((b"", b"G", b"GET /acme/CS-7 HTTP/1.1\r\nHost: b\r\nX: ", asks()[:-2])[n % 4])
        await nap(0.1)
        monkeypatch.undo()  # the innocent has its time
        station, cpms = await rig.pair("/acme/innocent")
        while not all(wire.gone for wire in slow):
            station.say(b"[2]")
            assert await cpms.hear() == b"[2]"
            for wire in slow[2::4]:
                if not wire.gone:
                    wire.transport.write(b"x")  # a byte at a time does not buy time
            assert not rig.cpms.wires[1:]
    finally:
        await rig.stop()
