"""How the CPMS is dialled: what it sees, what its verdict becomes, and how often it is asked."""

from __future__ import annotations

import errno
import gc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from fakes import FakeCpms, Rig, Wire, Wound, accept, accepted, answer, clock, header, nap, until
from make_pki import issue
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.error import ConnectBindError
from twisted.python.failure import Failure

from broker.net.cpms import GIVE_UP_AFTER, MOST_DIALS, PROBE_S, CpmsFactory, Offer, Refusal, Upstream, _Dial

OFFER = Offer(b"CS-7", (), ("ocpp1.6",), False)


@pytest_twisted.async_yield_fixture
async def rig() -> AsyncIterator[Rig]:
    rig = await Rig().start()
    yield rig
    await rig.stop()


def refusal_of(upstream: Upstream, offer: Offer = OFFER) -> Any:
    return upstream.dial(offer).addErrback(lambda failure: failure.value)


# ---------------------------------------------------------------- what it sees


@pytest_twisted.ensureDeferred
async def test_the_cpms_sees_the_stations_own_request(rig: Rig) -> None:
    theirs = ["user-agent: st/1", "X-Odd: a  b", "Cookie: a=b", "x-odd: c", "Authorization: Basic QUw6/+8="]
    ours = ["Origin: http://evil", "X-Forwarded-For: 1.2.3.4", "Connection: X-Hop", "X-Hop: 1", "Forwarded: for=1", "Content-Type: a/b"]
    await rig.pair("//acme/de/caf%c3%a9%20%41/?a=%2f&b", *theirs, *ours, protocols="zz,ocpp1.6 , ocpp2.0.1")
    first, *lines = rig.cpms.wires[0].request.decode("latin-1").split("\r\n")
    assert first == "GET /ocpp/de/caf%c3%a9%20%41?a=%2f&b HTTP/1.1"
    key = header(rig.cpms.wires[0].request, b"sec-websocket-key")[0].decode()
    port = rig.settings.tenants["acme"].cpms_url.split(":")[2].split("/")[0]
    made = [
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    assert sorted(lines) == sorted([*made, *theirs, "Sec-WebSocket-Protocol: zz, ocpp1.6, ocpp2.0.1"])
    assert [line for line in lines if line in theirs][:4] == theirs[:4], "in their order"
    assert key != "dGhlIHNhbXBsZSBub25jZQ==", "a key is for one hop"


@pytest.mark.parametrize(
    ("url", "tail", "resource", "authority"),
    [
        ("ws://cpms", b"CS-7", b"/CS-7", b"cpms"),
        ("ws://cpms/", b"CS-7", b"/CS-7", b"cpms"),
        ("ws://cpms:81/a/b", b"x/CS%207?q=1", b"/a/b/x/CS%207?q=1", b"cpms:81"),
        ("wss://cpms/a?token=t", b"CS-7", b"/a/CS-7?token=t", b"cpms"),
        ("wss://cpms/a?token=t", b"CS-7?q", b"/a/CS-7?token=t&q", b"cpms"),
        ("ws://[::1]:9/a", b"CS-7", b"/a/CS-7", b"[::1]:9"),
    ],
)
def test_where_it_is_dialled(url: str, tail: bytes, resource: bytes, authority: bytes) -> None:
    factory = CpmsFactory(url, clock, 1000)
    assert (factory.resource_of(tail), factory.authority) == (resource, authority)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("offered", "chosen", "status", "told"),
    [
        ("ocpp2.0.1,ocpp1.6", b"ocpp1.6", 101, [b"ocpp1.6"]),
        ("ocpp1.6", None, 101, []),
        (None, None, 101, []),
        ("x-unheard-of", b"x-unheard-of", 101, [b"x-unheard-of"]),
        ("ocpp1.6, ocpp1.6", b"ocpp1.6", 101, [b"ocpp1.6"]),
        ("ocpp1.6", b"ocpp2.0.1", 502, []),
        ("ocpp1.6", b"OCPP1.6", 502, []),
        ("ocpp1.6,ocpp2.0.1", b"ocpp1.6, ocpp2.0.1", 502, []),
        (None, b"ocpp1.6", 502, []),
    ],
)
async def test_the_station_gets_the_subprotocol_that_the_cpms_chose(
    rig: Rig, offered: str | None, chosen: bytes | None, status: int, told: list[bytes]
) -> None:
    rig.cpms.on_head = lambda wire: accept(wire, protocol=chosen)
    station = await rig.dial(protocols=offered)
    head = await station.head()
    assert int(head.split(b" ")[1]) == status
    assert header(head, b"sec-websocket-protocol") == told
    if status == 101:
        assert header(head, b"sec-websocket-accept") == [accepted(b"dGhlIHNhbXBsZSBub25jZQ==")]
        assert rig.opened[0].subprotocol == (chosen.decode() if chosen else None)


# ---------------------------------------------------------------- its verdict


OK = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("text", "status"),
    [
        *(
            (b"HTTP/1.1 %d Whatever\r\nContent-Length: 4\r\n\r\nbody" % status, status)
            for status in (400, 401, 403, 404, 426, 429, 500, 503, 599)
        ),
        (b"HTTP/1.1 404\r\n\r\n", 404),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", 404),
        *((b"HTTP/1.1 %d Over there\r\nLocation: http://evil/\r\n\r\n" % status, 502) for status in (301, 302, 303, 307, 308)),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", 502),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 502),
        (b"HTTP/1.1 600 No\r\n\r\n", 502),
        (b"HTTP/1.1 4040 No\r\n\r\n", 502),
        (b"HTTP/1.1 4\xb9\xb2 No\r\n\r\n", 502),
        (b"rubbish\r\n\r\n", 502),
        (b"\r\n\r\n", 502),
        (b"", 502),
        (b"HTTP/1.1 404 Not", 502),
        (b"HTTP/1.1 404 No\r\nX: " + b"x" * 20_000, 502),
        (OK + b"\r\n", 502),
        (OK + b"Sec-WebSocket-Accept: d3Jvbmc=\r\n\r\n", 502),
        (b"HTTP/1.1 101 X\r\nSec-WebSocket-Accept: x\r\n\r\n", 502),
        (b"\x15\x03\x01\x00\x02\x02\x28", 502),
    ],
)
async def test_every_verdict_but_101_becomes_a_refusal_without_a_body(rig: Rig, text: bytes, status: int) -> None:
    rig.cpms.on_head = answer(text)
    station = await rig.dial()
    head = await station.head()
    assert int(head.split(b" ")[1]) == status
    assert header(head, b"location") == []
    assert header(head, b"server") == []
    assert header(head, b"content-length") == [b"0"]
    await station.end()
    assert station.buffer == b""
    assert not rig.links.taken
    assert rig.world.counts.of[("refused", str(status), "cpms")] == 1


@pytest_twisted.ensureDeferred
async def test_who_to_be_and_when_to_come_back_are_mirrored(rig: Rig) -> None:
    rig.cpms.on_head = answer(
        b'HTTP/1.1 401 No\r\nwww-authenticate: Basic realm="x"\r\nRETRY-AFTER:  17 \r\nSet-Cookie: a=b\r\nServer: y\r\n\r\n'
    )
    head = await (await rig.dial()).head()
    assert header(head, b"www-authenticate") == [b'Basic realm="x"']
    assert header(head, b"retry-after") == [b"17"]
    assert header(head, b"set-cookie") == header(head, b"server") == []


@pytest_twisted.ensureDeferred
async def test_a_101_with_odd_headers_is_a_101(rig: Rig) -> None:
    def odd(wire: Wire) -> None:
        key = accepted(header(wire.request, b"sec-websocket-key")[0])
        wire.transport.write(
            b"HTTP/1.1 101\r\nupgrade:WebSocket\r\nconnection: keep-alive, upgrade\r\nX-\xe9: \xe9\r\nno colon\r\nSEC-WEBSOCKET-ACCEPT:"
            + key + b"\r\nDate: x\r\nDate: y\r\n\r\n" + wire.wire(b"hello")
        )  # fmt: skip

    rig.cpms.on_head = odd
    station = await rig.dial()
    assert await station.status() == 101
    assert await station.hear() == b"hello"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("url", "status"),
    [("ws://127.0.0.1:1/ocpp", 503), ("ws://no-such-host.invalid/ocpp", 503), ("ws://[::1]:1/ocpp", 503)],
)
async def test_nobody_there_is_503(rig: Rig, url: str, status: int) -> None:
    rig.settings = Rig().settings
    rig.tenant(cpms_url=url)
    head = await (await rig.dial()).head()
    assert int(head.split(b" ")[1]) == status
    assert header(head, b"retry-after")


@pytest_twisted.ensureDeferred
async def test_silence_is_504_within_the_dial_timeout_and_the_connection_goes(rig: Rig) -> None:
    rig.settings = replace(rig.settings, broker=replace(rig.settings.broker, dial_timeout_s=0.5))
    rig.cpms.on_head = lambda wire: None
    began = clock.seconds()
    station = await rig.dial()
    await until(lambda: station.buffer, 3.0)
    assert await station.status() == 504
    assert clock.seconds() - began > 0.4
    await rig.cpms.wires[0].end()


@pytest_twisted.ensureDeferred
async def test_a_station_that_goes_while_we_dial_takes_the_dial_with_it(rig: Rig) -> None:
    for leave in ("abort", "hang_up"):
        heard: list[Wire] = []
        rig.cpms.on_head = heard.append
        station = await rig.dial()
        await until(lambda heard=heard: heard)
        getattr(station, leave)()
        await heard[0].end(2.0)
        await until(lambda: not rig.links.taken)
    assert rig.world.counts.total("refused") == 0


# ---------------------------------------------------------------- TLS toward it


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "trusted", "ends", "status"),
    [("localhost", True, 9, 101), ("elsewhere", True, 9, 502), ("localhost", False, 9, 502), ("localhost", True, -1, 502)],
    ids=["right", "wrong host", "untrusted", "expired"],
)
async def test_a_cpms_that_cannot_be_trusted_is_502_and_never_downgraded(
    tmp_path: Path, name: str, trusted: bool, ends: int, status: int
) -> None:
    ca, other = issue("ca", None), issue("other", None)
    ca.write(tmp_path, "ca")
    other.write(tmp_path, "other")
    issue(name, ca, hosts=[name], days=(-9, ends)).write(tmp_path, "cpms")
    cpms = FakeCpms()
    context = ssl.DefaultOpenSSLContextFactory(str(tmp_path / "cpms.key"), str(tmp_path / "cpms.pem"), SSL.TLS_SERVER_METHOD)
    port = clock.listenSSL(0, cpms, context, interface="127.0.0.1")
    rig = await Rig().start()
    try:
        url = f"wss://localhost:{port.getHost().port}/ocpp"
        rig.tenant(cpms_url=url, cpms_ca_file=str(tmp_path / ("ca.pem" if trusted else "other.pem")))
        station = await rig.dial()
        assert await station.status() == status
        if status == 101:
            station.say(b"x" * 100_000)
            assert await cpms.wires[-1].hear() == b"x" * 100_000
        else:
            assert not any(wire.request for wire in cpms.wires), "no request, no password reached it"
    finally:
        await rig.stop()
        await port.stopListening()
        await until(lambda: all(wire.gone for wire in cpms.wires))


# ---------------------------------------------------------------- how often


@pytest_twisted.ensureDeferred
async def test_a_cpms_that_failed_ten_times_is_asked_once_a_second() -> None:
    cpms, wound = FakeCpms(), Wound()
    port = await cpms.start()
    cpms.on_head = answer(b"")
    upstream = Upstream(f"ws://127.0.0.1:{port}/ocpp", None, wound, timeout_s=30.0, max_message=1000)
    for n in range(GIVE_UP_AFTER):
        refused = await refusal_of(upstream)
        assert (refused.status, len(cpms.wires)) == (502, n + 1)
    statuses = []
    for _ in range(30):  # three seconds
        refused = await refusal_of(upstream)
        statuses.append(refused.status)
        assert refused.status != 503 or refused.headers
        wound.advance(0.1)
    assert len(cpms.wires) - GIVE_UP_AFTER == statuses.count(502)
    assert 2 <= statuses.count(502) <= 3
    assert statuses.count(503) >= 27
    cpms.on_head = accept
    wound.advance(PROBE_S)
    leg = await upstream.dial(OFFER)
    assert upstream.failures == 0
    leg.cut()
    leg = await upstream.dial(OFFER)
    leg.cut()
    await cpms.stop()


@pytest_twisted.ensureDeferred
async def test_what_we_lack_to_dial_with_is_our_fault_and_no_reason_to_leave_the_cpms_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    none_left = Failure(ConnectBindError(errno.EMFILE, "no more"))
    with monkeypatch.context() as patched:
        patched.setattr("broker.net.cpms.reach", lambda *asked: clock.callLater(0, asked[-1], none_left).active)
        for n in range(12):
            head = await (await rig.dial(f"/acme/CS-{n}")).head()
            assert head.split(b" ")[1] == b"503"
            assert header(head, b"retry-after") == [b"5"]
    assert rig.world.counts.of == {("refused", "503", "broker"): 12}
    assert rig.door.failures() == {"acme": 0}
    await rig.pair()


@pytest_twisted.ensureDeferred
async def test_a_refusal_in_words_is_no_failure_and_a_station_that_left_proves_nothing(rig: Rig) -> None:
    port = rig.settings.tenants["acme"].cpms_url.split(":")[2].split("/")[0]
    upstream = Upstream(f"ws://127.0.0.1:{port}/ocpp", None, clock, timeout_s=30.0, max_message=1000)
    rig.cpms.on_head = answer(b"HTTP/1.1 503 Busy\r\n\r\n")
    for _ in range(GIVE_UP_AFTER + 2):
        assert (await refusal_of(upstream)).status == 503
    assert upstream.failures == 0
    rig.cpms.on_head = answer(b"")
    await refusal_of(upstream)
    assert upstream.failures == 1
    rig.cpms.on_head = lambda wire: None
    dial = upstream.dial(OFFER)
    left = dial.addErrback(lambda failure: failure.value)
    dial.cancel()
    assert isinstance(await left, Refusal)
    assert upstream.failures == 1


@pytest_twisted.ensureDeferred
async def test_unfinished_dials_are_bounded_and_the_rest_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_DIALS == 200
    monkeypatch.setattr("broker.net.cpms.MOST_DIALS", 3)
    cpms, wound = FakeCpms(), Wound()
    heard: list[Wire] = []
    cpms.on_head = heard.append
    upstream = Upstream(f"ws://127.0.0.1:{await cpms.start()}/ocpp", None, wound, timeout_s=2.0, max_message=1000)
    dials = [refusal_of(upstream) for _ in range(8)]
    await until(lambda: len(heard) == 3)
    await nap(0.1)
    assert len(cpms.wires) == 3
    for wire in heard[:2]:
        accept(wire)
    await until(lambda: len(heard) == 5)
    await nap(0.1)
    assert len(cpms.wires) == 5
    wound.advance(2.0)
    results = [await dial for dial in dials]
    assert sum(isinstance(result, Refusal) and result.status == 504 for result in results) == 6
    for result in results:
        if not isinstance(result, Refusal):
            result.cut()
    last = refusal_of(upstream)
    await until(lambda: len(heard) == 6)
    accept(heard[5])
    (await last).cut()
    await cpms.stop()


@pytest_twisted.ensureDeferred
async def test_of_a_dial_that_is_done_nothing_stays_with_the_socket(rig: Rig) -> None:
    """For as long as a station is connected: its dial, the timer of it, and who would have been told of a failure."""
    before = of_dials()
    await rig.pair()
    assert of_dials() - before == 0


def of_dials() -> int:
    gc.collect()
    return sum(isinstance(one, _Dial) for one in gc.get_objects())
