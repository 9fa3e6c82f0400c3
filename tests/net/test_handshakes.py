"""What the log says of a TLS handshake that failed: one line, whose address, and what to do."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from fakes import Wire, clock, until
from OpenSSL import SSL
from tlsports import Open, Plainly
from twisted.internet.protocol import ClientCreator

from broker.net.handshakes import in_words


class Distrusting(Plainly):
    """Trusts nobody."""

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = super().clientConnectionForTLS(tlsProtocol)
        connection.set_verify(SSL.VERIFY_PEER, lambda *_: False)
        return connection


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest_twisted.ensureDeferred
async def test_a_station_that_does_not_trust_us_is_named_with_what_to_do(ports: Open, pki: Path, logged: list[str], newest: int) -> None:
    port = await ports(pki)
    with pytest.raises(Exception, match=r".*"):
        await port.dial(Distrusting(newest=newest))
    await until(lambda: logged)
    (line,) = logged
    assert line.startswith("refused at the TLS handshake: a connection from 127.0.0.1 does not t")
    assert "our certificate" in line


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest_twisted.ensureDeferred
async def test_a_station_without_the_certificate_it_needs_is_told_of(ports: Open, pki: Path, logged: list[str], newest: int) -> None:
    port = await ports(pki, clientCAs=f"{pki}/stations-ca.pem")
    await port.refuses(newest=newest)
    await until(lambda: logged)
    assert logged == [
        "refused at the TLS handshake: a connection from 127.0.0.1 shows no client certificate, which this port asks for (clientCAs=)"
    ]


@pytest.mark.parametrize(
    ("bytes_", "says"),
    [
        (b"GET /acme/CS-7 HTTP/1.1\r\nHost: broker\r\n\r\n", "speaks HTTP without TLS: it must dial wss://"),
        (b"\x00\x01rubbish\r\n\r\n" * 4, "does not speak TLS"),
        (b"\x80\x2e\x01\x00\x02" + b"\x00" * 60, "does not speak TLS"),
    ],
    ids=["HTTP", "rubbish", "SSL 2"],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_tls_at_all(ports: Open, pki: Path, logged: list[str], bytes_: bytes, says: str) -> None:
    port = await ports(pki)
    wire: Wire = await ClientCreator(clock, Wire, True).connectTCP("127.0.0.1", port.port.getHost().port)
    wire.transport.write(bytes_)
    await wire.end()
    (line,) = logged
    assert line.isprintable()
    assert says in line


def client_hello() -> bytes:
    """A whole one."""
    connection = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(65536)


@pytest.mark.parametrize("how", ["abort", "hang_up"])
@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\x00\x05\x01\x00\x01\xfc\x03", client_hello()])
@pytest_twisted.ensureDeferred
async def test_who_only_knocks_is_not_worth_a_line(ports: Open, pki: Path, logged: list[str], said: bytes, how: str) -> None:
    port = await ports(pki)
    wire: Wire = await ClientCreator(clock, Wire, True).connectTCP("127.0.0.1", port.port.getHost().port)
    wire.transport.write(said)
    await until(lambda: not wire.transport.dataBuffer)
    getattr(wire, how)()
    await until(lambda: port.echoes.ended == 1)
    await port.dial()
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_what_goes_wrong_after_the_handshake_is_no_refusal(ports: Open, pki: Path, logged: list[str]) -> None:
    port = await ports(pki)
    caller = await port.dial()
    caller.transport.transport.write(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # type: ignore[union-attr]  # beside TLS: a record nobody made
    await until(lambda: port.echoes.ended == 1)
    assert logged == []


def test_reasons_we_do_not_know_are_openssls_words() -> None:
    assert in_words(SSL.Error([("SSL routines", "", "something new")])) == "fails at it: something new"
    assert in_words(SSL.Error()) == in_words(SSL.Error([])) == "fails at it: no reason given"
