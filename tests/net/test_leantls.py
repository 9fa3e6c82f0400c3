"""The short TLS path: the same bytes come and go as on Twisted's own, however the stream is cut, and every end is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import make_pki
import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from broker.net.leantls import HEAD, LeanTLSFactory, Records


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki.main([str(folder)])
    return folder


class Wire(StringTransport):
    """As lenient as a real one."""

    def abortConnection(self) -> None:
        self.disconnecting = True


class Ear(Protocol):
    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.came.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class Creator:
    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self.context, None)

    clientConnectionForTLS = serverConnectionForTLS


class Two:
    """A client of Twisted's own and a lean server, joined by two memory wires."""

    def __init__(self, pki: Path, version: int) -> None:
        server, client = SSL.Context(SSL.TLS_SERVER_METHOD), SSL.Context(SSL.TLS_CLIENT_METHOD)
        server.use_certificate_chain_file(str(pki / "broker-ec.pem"))
        server.use_privatekey_file(str(pki / "broker-ec.key"))
        for context in (server, client):
            context.set_min_proto_version(version)
            context.set_max_proto_version(version)
        self.near, self.far = Ear(), Ear()
        self.ends: list[Any] = []
        for factory, side, ear in ((TLSMemoryBIOFactory, True, self.far), (LeanTLSFactory, False, self.near)):
            made: Any = factory(Creator(client if side else server), side, _Giving(ear))  # type: ignore[arg-type]
            self.ends.append(made.buildProtocol(None))
        self.wires = [Wire(), Wire()]
        for end, wire in zip(self.ends, self.wires, strict=True):
            end.makeConnection(wire)
        self.settle()

    def settle(self) -> None:
        """Carry bytes across until nobody has any more."""
        while any(wire.value() for wire in self.wires):
            for wire, other in (self.wires[0], self.ends[1]), (self.wires[1], self.ends[0]):
                data = wire.value()
                wire.clear()
                if data:
                    other.dataReceived(data)

    def records(self, *texts: bytes) -> bytes:
        """What the client would send for these, each a record of its own."""
        for text in texts:
            TLSMemoryBIOProtocol.write(self.ends[0], text)
        data = self.wires[0].value()
        self.wires[0].clear()
        return data


class _Giving:
    noisy = False

    def doStart(self) -> None: ...

    doStop = doStart

    def __init__(self, ear: Ear) -> None:
        self.ear = ear

    def buildProtocol(self, address: object) -> Ear:
        return self.ear


VERSIONS = pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])


@VERSIONS
def test_whole_records_come_one_by_one(pki: Path, version: int) -> None:
    two = Two(pki, version)
    asked: list[int] = []
    two.ends[1]._tlsConnection = _Counting(two.ends[1]._tlsConnection, asked)
    for text in (b"one", b"two" * 1000, os.urandom(16_000)):
        two.ends[1].dataReceived(two.records(text))
        assert two.near.came[-1] == text
    assert len(asked) == 3  # the short path: asked once for each


class _Counting:
    """A connection whose `recv` is counted."""

    def __init__(self, inner: Any, asked: list[int]) -> None:
        self._inner, self._asked = inner, asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def recv(self, most: int) -> bytes:
        self._asked.append(most)
        return self._inner.recv(most)  # type: ignore[no-any-return]


@VERSIONS
@pytest.mark.parametrize("step", [1, 4, 5, 6, 7, 33, 100, 1000, 100_000])
def test_however_the_stream_is_cut_the_same_comes(pki: Path, version: int, step: int) -> None:
    two = Two(pki, version)
    texts = [b"a", b"bc", b"d" * 500, b"", b"e" * 40_000, b"f"]
    stream = two.records(*texts)
    for at in range(0, len(stream), step):
        two.ends[1].dataReceived(stream[at : at + step])
    assert b"".join(two.near.came) == b"".join(texts)
    two.ends[1].dataReceived(two.records(b"and on"))
    assert two.near.came[-1] == b"and on"


@VERSIONS
@pytest.mark.parametrize("way", ["write", "write_now"])
def test_what_is_written_arrives(pki: Path, version: int, way: str) -> None:
    two = Two(pki, version)
    getattr(two.ends[1], way)(b"x" * 50_000)
    getattr(two.ends[1], way)(b"y")
    two.settle()
    assert b"".join(two.far.came) == b"x" * 50_000 + b"y"


@VERSIONS
def test_a_good_bye_is_heard(pki: Path, version: int) -> None:
    two = Two(pki, version)
    two.ends[0].loseConnection()
    two.settle()
    assert two.wires[1].disconnecting


@VERSIONS
def test_a_record_that_was_tampered_with_ends_the_connection(pki: Path, version: int) -> None:
    two = Two(pki, version)
    record = two.records(b"amount: 1")
    two.ends[1].dataReceived(record[:-1] + bytes([record[-1] ^ 1]))
    assert two.near.came == []
    assert two.wires[1].disconnecting


@given(st.lists(st.tuples(st.sampled_from([20, 21, 22, 23]), st.binary(max_size=40)), min_size=1, max_size=8), st.data())
def test_a_record_is_alone_exactly_when_it_is(content: list[tuple[int, bytes]], data: Any) -> None:
    stream, ends, types = b"", {0}, {}
    for kind, body in content:
        types[len(stream)] = kind
        stream += bytes([kind, 3, 3]) + len(body).to_bytes(2, "big") + body
        ends.add(len(stream))
    records, at = Records(), 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        if data.draw(st.booleans()):  # often, exactly up to the end of a record
            step = min(end for end in ends if end > at) - at
        alone = at in ends and min(end for end in ends if end > at) == at + step and types[at] == 23 and step > HEAD
        assert records.lone(stream[at : at + step]) == alone
        at += step


def test_content_that_looks_like_a_record_is_none() -> None:
    inner = bytes([23, 3, 3, 0, 3]) + b"abc"
    records = Records()
    assert not records.lone(bytes([23, 3, 3, 0, len(inner)]))
    assert not records.lone(inner)
    assert records.lone(inner)
