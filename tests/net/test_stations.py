"""A station's handshake over real TCP, byte by byte: who gets a 101, what the others are told, and what comes with or before it."""

from __future__ import annotations

import pytest
import pytest_twisted
from fakes import nap, upgrade
from wires import PONG, House, accepted, soon, wire


@pytest_twisted.ensureDeferred
async def test_the_station_gets_a_101_with_what_the_cpms_chose_and_without_a_banner() -> None:
    async with House() as house:
        house.cpms.answer = lambda peer: accepted(peer, "ocpp2.0.1")
        station, cpms = await house.open(upgrade(protocols="ocpp2.1, ocpp2.0.1, ocpp1.6"))
        assert station.header("Sec-WebSocket-Protocol") == ["ocpp2.0.1"]
        assert station.header("Sec-WebSocket-Accept") == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
        assert not station.header("Server")
        assert cpms.header("Sec-WebSocket-Protocol") == ["ocpp2.1, ocpp2.0.1, ocpp1.6"]


@pytest.mark.parametrize("said", [(), ("Connection: keep-alive",), ("Connection: keep-alive, Upgrade",), ("Connection: upgrade",)])
@pytest_twisted.ensureDeferred
async def test_a_station_that_forgets_connection_upgrade_is_let_in(said: tuple[str, ...]) -> None:
    async with House() as house:
        station, cpms = await house.open(upgrade("/acme/CS-7", *said, without=("Connection",)))
        assert cpms.header("Connection") == ["Upgrade"]
        station.send(b"[2,1]")
        assert await soon(lambda: cpms.texts == [b"[2,1]"])


@pytest_twisted.ensureDeferred
async def test_a_cpms_that_chooses_nothing_is_mirrored_offered_or_not() -> None:
    async with House() as house:
        house.cpms.answer = lambda peer: accepted(peer, None)
        station, _ = await house.open(upgrade(protocols="ocpp9.9"))
        assert not station.header("Sec-WebSocket-Protocol")
        bare, cpms = await house.open(upgrade("/acme/CS-8", protocols=None))
        assert not bare.header("Sec-WebSocket-Protocol")
        assert not cpms.header("Sec-WebSocket-Protocol")


BAD = {
    "NUL": ("X-A: a\0b", 400),
    "folded": ("X-A: a\r\n b", 400),
    "no colon": ("X-A", 400),
    "no name": (": x", 400),
    "blank before the colon": ("X-A : x", 400),
    "bare newline": ("X-A: a\nX-B: b", 400),
    "second Host": ("Host: other", 400),
    "two Authorization": ("Authorization: Basic YTpi\r\nAuthorization: Basic YTpj", 400),
    "Content-Length": ("Content-Length: 0", 400),
    "Transfer-Encoding": ("Transfer-Encoding: chunked", 400),
    "second Key": ("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", 400),
    "extensions beyond ASCII": ("Sec-WebSocket-Extensions: perm\x85Sec-WebSocket-Key", 400),
    "subprotocol that is no token": ("Sec-WebSocket-Protocol: a b", 400),
    "64 fields more": ("\r\n".join(f"X-{n}: 1" for n in range(64)), 431),
    "8 KiB more": ("X-A: " + "a" * 8192, 431),
}


@pytest.mark.parametrize("name", BAD)
@pytest_twisted.ensureDeferred
async def test_a_malformed_request_is_refused_and_the_cpms_hears_nothing(name: str) -> None:
    line, status = BAD[name]
    async with House() as house:
        station = await house.answered(upgrade("/acme/CS-7", line))
        assert station.status == status
        assert await soon(lambda: station.lost)
        assert not house.cpms.peers
        assert house.world.counts.of["refused", str(status), "station"] == 1


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"GET /acme/CS-7 HTTP/1.1\r\nHost: b\r\n\r\n", 426),
        (b"GET /acme/CS-7?redirect=http://evil HTTP/1.1\r\nHost: b\r\n\r\n", 426),
        (upgrade().replace(b"Version: 13", b"Version: 8"), 426),
        (upgrade().replace(b"GET", b"POST"), 405),
        (upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (upgrade().replace(b"Host: broker\r\n", b""), 400),
        (upgrade().replace(b"dGhl", b"dGh"), 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (upgrade("/acme/CS\xff"), 404),
        (upgrade("/nobody/CS-7"), 404),
        (upgrade("ws://user@broker/acme/CS-7"), 404),
        (upgrade("ws://elsewhere/acme/CS-7"), 404),
        (upgrade("/acme/CS-7;a=b"), 404),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_station_of_ours_gets_no_page_no_location_and_no_dial(request_text: bytes, status: int) -> None:
    async with House() as house:
        station = await house.answered(request_text)
        assert station.status == status
        assert {name for name, _ in station.headers} <= {"Content-Length", "Connection", "Upgrade", "Sec-WebSocket-Version"}
        assert await soon(lambda: station.lost)
        assert (station.came, house.cpms.peers) == (b"", [])


@pytest_twisted.ensureDeferred
async def test_an_absolute_target_of_our_own_host_is_taken() -> None:
    async with House() as house:
        _, cpms = await house.open(upgrade("ws://BROKER/acme/x/CS%207/?a=b"))
        assert cpms.first == "GET /ocpp/x/CS%207?a=b HTTP/1.1"


@pytest_twisted.ensureDeferred
async def test_one_byte_at_a_time_is_slow_but_right() -> None:
    async with House() as house:
        station = await house.dial(b"")
        for at in range(0, len(upgrade()), 3):
            station.write(upgrade()[at : at + 3])
            await nap(0)
        assert await soon(lambda: station.status == 101)


@pytest_twisted.ensureDeferred
async def test_what_is_pipelined_behind_the_request_goes_in_order_after_the_101() -> None:
    async with House() as house:
        first = wire(b"[2,1]", masked=True) + wire(b"[2,2]", masked=True) + wire(b"p", 9, masked=True)
        station = await house.answered(upgrade() + first)
        station.send(b"[2,3]")
        assert await soon(lambda: house.cpms.last.texts == [b"[2,1]", b"[2,2]", b"[2,3]"])
        assert await soon(lambda: (PONG, b"p") in station.frames)


@pytest_twisted.ensureDeferred
async def test_too_much_behind_the_request_is_left_in_the_socket_and_still_arrives_whole() -> None:
    async with House() as house:
        release: list[object] = []
        house.cpms.answer = lambda peer: release.append(peer)  # type: ignore[func-returns-value]
        big = [b"%d" % n + b"x" * 200_000 for n in range(10)]
        station = await house.dial(upgrade() + b"".join(wire(text, masked=True) for text in big))
        assert await soon(lambda: release)
        await nap(0.1)
        cpms = house.cpms.last
        cpms.write(accepted(cpms))
        assert await soon(lambda: cpms.texts == big)
        assert station.status == 101


@pytest_twisted.ensureDeferred
async def test_a_station_that_gives_up_while_the_cpms_thinks_takes_the_dial_with_it() -> None:
    async with House(dial_timeout_s=30.0) as house:
        house.cpms.answer = lambda peer: None
        station = await house.dial()
        assert await soon(lambda: house.cpms.peers and house.cpms.last.first)
        station.cut()
        assert await soon(lambda: house.cpms.last.lost)
        assert await soon(lambda: house.links.taken == 0)
        assert not house.world.counts.total("refused")


@pytest_twisted.ensureDeferred
async def test_a_peer_that_never_finishes_its_request_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async with House() as house:
        house.factory.setProtocolOptions(openHandshakeTimeout=0.2)
        station = await house.dial(upgrade()[:-2])
        assert await soon(lambda: station.lost)


@pytest.mark.parametrize(
    "offer", ["permessage-deflate", "permessage-deflate; client_max_window_bits", "permessage-deflate; rubbish, x-foo"]
)
@pytest_twisted.ensureDeferred
async def test_extensions_are_each_legs_own_matter(offer: str) -> None:
    async with House() as house:
        station, cpms = await house.open(upgrade("/acme/CS-7", f"Sec-WebSocket-Extensions: {offer}"))
        assert bool(station.header("Sec-WebSocket-Extensions")) is ("rubbish" not in offer)
        assert "permessage-deflate" in cpms.header("Sec-WebSocket-Extensions")[0]
        station.send(b"[2,1]")
        cpms.send(b"[3,1]")
        assert await soon(lambda: cpms.texts == [b"[2,1]"])
        assert await soon(lambda: len(station.frames) == 1)
