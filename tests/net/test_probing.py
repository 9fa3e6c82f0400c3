"""`probe` against a raw CPMS on loopback: what it answers is what is said, and what it sees is a station."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as twisted_reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from wires import Peer, RawCpms, accepted, soon

from broker.net import probing
from broker.net.cpms import basic
from broker.net.probing import Probed, probe
from broker.settings import BrokerSettings, TenantSettings

reactor: Any = twisted_reactor


class House:
    async def __aenter__(self) -> House:
        self.cpms = RawCpms()
        self.port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self.cpms)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.port.stopListening()
        assert await soon(lambda: all(peer.lost for peer in self.cpms.peers)), "a probe leaves nothing behind"

    async def probe(self, station: str = "CS-7", dial_timeout_s: float = 4.0, **more: Any) -> Probed:
        tenant = TenantSettings("acme", f"ws://127.0.0.1:{self.port.getHost().port}/ocpp")
        asks = {"protocols": ("ocpp2.0.1", "ocpp1.6"), "seconds": reactor.seconds, **more}
        return await probe(tenant, station, BrokerSettings(dial_timeout_s=dial_timeout_s), reactor, **asks)


@pytest.mark.parametrize(
    ("station", "protocols", "words"),
    [
        ("CS-7", ("ocpp1.6",), ""),
        ("RDAM|123 é", (), ""),
        ("", ("ocpp1.6",), "no tenant and station"),
        ("a/b", ("ocpp1.6",), "a slash"),
        ("..", ("ocpp1.6",), "a dot segment"),
        ("a\nb", ("ocpp1.6",), "a control"),
        ("x" * 300, ("ocpp1.6",), "longer than 255 bytes"),
        ("CS-7", ("ocpp1.6", "a b"), "'a b' is no name of a subprotocol"),
    ],
)
def test_whom_the_broker_itself_would_not_let_in(station: str, protocols: tuple[str, ...], words: str) -> None:
    said = probing.unfit("acme", station, protocols)
    assert words in said
    assert bool(said) == bool(words)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "LISTEN_S", 0.1)


@pytest_twisted.ensureDeferred
async def test_a_cpms_that_accepts() -> None:
    async with House() as house:
        found = await house.probe("CS 7", headers=(basic("CS 7", "hunter2"),))
        assert found.accepted
        assert found.said == "accepted, speaks ocpp1.6"
        assert "hunter2" not in repr(found)
        seen = house.cpms.last
        assert seen.first == "GET /ocpp/CS%207 HTTP/1.1"
        assert seen.header("Sec-WebSocket-Protocol") == ["ocpp2.0.1, ocpp1.6"]
        assert seen.header("Authorization") == ["Basic " + base64.b64encode(b"CS 7:hunter2").decode()]
        assert seen.texts == [], "no message is sent"
        assert [code for code, _ in seen.closes] == [1000]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n', 401, "--password-file"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 404, "cpms_url"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", 502, "neither 101 nor 4xx nor 5xx"),
        (None, 504, "did not answer within 0.3 s"),
    ],
)
async def test_a_cpms_that_does_not(answer: bytes | None, status: int, words: str) -> None:
    async with House() as house:
        house.cpms.answer = lambda _: answer
        found = await house.probe(dial_timeout_s=0.3 if answer is None else 20.0)
        assert (found.accepted, found.status) == (False, status)
        assert words in found.said
        assert "\n" not in found.said


@pytest_twisted.ensureDeferred
async def test_nobody_there() -> None:
    tenant = TenantSettings("acme", "ws://127.0.0.1:1/ocpp")
    found = await probe(tenant, "CS-7", BrokerSettings(), reactor, protocols=("ocpp1.6",), seconds=reactor.seconds)
    assert (found.accepted, found.status) == (False, 503)
    assert "cannot be reached" in found.said


@pytest_twisted.ensureDeferred
async def test_accepted_and_closed_at_once_is_no_welcome() -> None:
    async with House() as house:

        def answer(peer: Peer) -> bytes:
            reactor.callLater(0.02, peer.close, 1008)
            return accepted(peer)

        house.cpms.answer = answer
        found = await house.probe()
        assert not found.accepted
        assert "closed at once with 1008" in found.said


@pytest_twisted.ensureDeferred
async def test_no_subprotocol_is_said() -> None:
    async with House() as house:
        house.cpms.answer = lambda peer: accepted(peer, None)
        assert "no subprotocol" in (await house.probe()).said
