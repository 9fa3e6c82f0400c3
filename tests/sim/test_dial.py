"""A simulated station's socket over real loopback: over TLS with a password, and why it is not connected where it is not."""

from __future__ import annotations

import argparse
import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import make_pki
import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionDeny
from running import free_port
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import deferLater

from broker.sim import simulate
from broker.sim.dial import Dialler, address

PASSWORD = "opensesame"
Open = Callable[[str], Any]


class Guarded(WebSocketServerProtocol):
    """Lets in whom the password fits, and closes with a reason whoever says anything."""

    def onConnect(self, request: Any) -> str:
        shown = request.headers.get("authorization", "")
        if shown != "Basic " + base64.b64encode(f"CS-7:{PASSWORD}".encode()).decode():
            raise ConnectionDeny(401, "Unauthorized")
        return "ocpp1.6"

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendCloseFrame(1008, b"not allowed any more")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pki")
    make_pki.make(folder, stations=("CS-7",))
    (folder / "password").write_text(f"{PASSWORD}\n")
    (folder / "wrong").write_text("other")
    return folder


@pytest_twisted.async_yield_fixture
async def listens() -> AsyncIterator[Open]:
    """Of an endpoint string the number of the port that listens."""
    ports: list[Any] = []

    async def open(endpoint: str) -> int:
        factory = WebSocketServerFactory(protocols=["ocpp1.6"], reactor=reactor)
        factory.protocol = Guarded
        ports.append(await serverFromString(reactor, endpoint).listen(factory))
        number: int = ports[-1].getHost().port
        return number

    yield open
    for port in ports:
        await port.stopListening()


async def soon(holds: Callable[[], Any], within: float = 20.0) -> bool:
    for _ in range(round(within / 0.02)):
        if holds():
            return True
        await deferLater(reactor, 0.02, lambda: None)
    return bool(holds())


class Dialled:
    """A station of `ocppbroker simulate station` as far as its socket goes."""

    def __init__(self, url: str, *words: str) -> None:
        parser = argparse.ArgumentParser()
        simulate.add(parser.add_subparsers(required=True))
        chosen = parser.parse_args(["simulate", "station", url, "CS-7", *words])
        self.sends: list[Callable[[bytes], None]] = []
        self.dialler = Dialler(
            address(chosen.url, chosen.id), "ocpp1.6", reactor, self.sends.append, lambda text: None, lambda: None,
            tls=simulate.trusting(chosen), headers=simulate.shown_password(chosen),
        )  # fmt: skip

    async def __aenter__(self) -> Dialled:
        self.dialler.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.dialler.stop()

    @property
    def why(self) -> str:
        return self.dialler.why


@pytest_twisted.ensureDeferred
async def test_over_tls_with_a_password_it_is_let_in_and_says_why_it_was_sent_away(pki: Path, listens: Open) -> None:
    port = await listens(f"ssl:0:interface=127.0.0.1:privateKey={pki}/broker-rsa.key:certKey={pki}/broker-rsa.pem")
    words = ("--ca-file", f"{pki}/broker-ca.pem", "--password-file", f"{pki}/password")
    async with Dialled(f"wss://localhost:{port}/acme", *words) as one:
        assert await soon(lambda: one.sends), one.why
        assert one.why == ""
        one.sends[0](b"[]")
        assert await soon(lambda: one.why)
        assert one.why == "closed with 1008: not allowed any more"
        assert await soon(lambda: len(one.sends) > 1), "it dials again"
        assert one.why == ""


@pytest.mark.parametrize(
    ("ca", "password", "why"),
    [
        ("cpms-ca", "password", "certificate verify failed"),
        ("broker-ca", "wrong", "401"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_whom_it_does_not_trust_and_who_does_not_want_it_is_said(pki: Path, listens: Open, ca: str, password: str, why: str) -> None:
    port = await listens(f"ssl:0:interface=127.0.0.1:privateKey={pki}/broker-rsa.key:certKey={pki}/broker-rsa.pem")
    words = ("--ca-file", f"{pki}/{ca}.pem", "--password-file", f"{pki}/{password}")
    async with Dialled(f"wss://localhost:{port}/acme", *words) as one:
        assert await soon(lambda: one.why)
        assert why in one.why
        assert PASSWORD not in one.why
        assert not one.sends


@pytest_twisted.ensureDeferred
async def test_where_nobody_listens_that_is_said(pki: Path) -> None:
    async with Dialled(f"ws://127.0.0.1:{free_port()}/acme") as one:
        assert await soon(lambda: one.why)
        assert "refused" in one.why


def test_an_id_is_written_as_a_url_needs_it() -> None:
    assert address("ws://x/acme", "RDAM 123") == "ws://x/acme/RDAM%20123"
    assert address("ws://x/acme", "a/b?#%") == "ws://x/acme/a%2Fb%3F%23%25"
    assert address("ws://x/acme", "CS-7_.~:@$+=*|,") == "ws://x/acme/CS-7_.~:@$+=*|,"
