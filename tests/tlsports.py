"""An `ocpps:` port with an echo behind it, and clients that speak TLS as a test wants them to. Real handshakes over loopback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from make_pki import Issued
from OpenSSL import SSL
from twisted.internet import defer, reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, serverFromString
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from broker.net.tls import TLSServerEndpoint

Open = Callable[..., Any]
"""Of the fixture `ports`: (folder of a PKI, parts of the endpoint) → a Port that listens."""


class Echo(Protocol):
    """The server's side: gives back what it gets."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.came.append(self.transport)  # type: ignore[union-attr]
        self.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.ended += 1  # type: ignore[union-attr]


class Echoes(Factory):
    protocol = Echo

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.ended = 0


class Caller(Protocol):
    """The client's side: says something, waits for the echo or the end."""

    def __init__(self) -> None:
        self.answer: defer.Deferred[bytes] = defer.Deferred()
        self.lost: defer.Deferred[None] = defer.Deferred()

    def say(self, what: bytes = b"ping") -> defer.Deferred[bytes]:
        self.answer = defer.Deferred()
        self.transport.write(what)  # type: ignore[union-attr]
        return self.answer

    def connectionMade(self) -> None:
        self.transport.write(b"hello")  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if not self.answer.called:
            self.answer.callback(data)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.answer.called:
            self.answer.errback(reason)
        self.lost.callback(None)


@implementer(IOpenSSLClientConnectionCreator)
class Plainly:
    """A client as a test wants it: no verification, whatever versions, suites, ALPN and certificate it says."""

    def __init__(self, **wishes: Any) -> None:
        self.wishes = wishes
        self.session: Any = None
        self.context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if "newest" in self.wishes:
            context.set_min_proto_version(SSL.TLS1_VERSION)
            context.set_max_proto_version(self.wishes["newest"])
        if "suites" in self.wishes:
            context.set_cipher_list(self.wishes["suites"])
        if "alpn" in self.wishes:
            context.set_alpn_protos(self.wishes["alpn"])
        if "shows" in self.wishes:
            shows: Issued = self.wishes["shows"]
            context.use_certificate(shows.certificate)
            context.use_privatekey(shows.key)
            for issued in self.wishes.get("below", ()):
                context.add_extra_chain_cert(issued.certificate)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self.context, None)
        if self.session is not None:
            connection.set_session(self.session)
        return connection


class Port:
    """An `ocpps:` port that listens."""

    def __init__(self, folder: Path, **parts: str) -> None:
        named = {"certificate": f"{folder}/broker-rsa.pem,{folder}/broker-ec.pem"}
        named["privateKey"] = f"{folder}/broker-rsa.key,{folder}/broker-ec.key"
        named.update(parts)
        self.text = text = "ocpps:0:interface=127.0.0.1:" + ":".join(f"{key}={value}" for key, value in named.items())
        self.endpoint: TLSServerEndpoint = serverFromString(reactor, text)  # type: ignore[assignment]
        self.endpoint.contexts.look_every_s = 0
        self.echoes = Echoes()
        self.callers: list[Caller] = []

    async def open(self) -> Port:
        self.port = await self.endpoint.listen(self.echoes)
        return self

    async def dial(self, creator: Any = None, **wishes: Any) -> Caller:
        """A connection whose TLS was tried with an echo: raises what ended it."""
        factory = TLSMemoryBIOFactory(creator or Plainly(**wishes), True, Factory.forProtocol(Caller))
        wrapped: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port).connect(factory)
        caller: Caller = wrapped.wrappedProtocol
        self.callers.append(caller)
        await caller.answer
        return caller

    async def refuses(self, **wishes: Any) -> None:
        with pytest.raises(Exception, match=r".*") as caught:
            await self.dial(**wishes)
        assert "SSL" in repr(caught.value) or "Connection" in type(caught.value).__name__
        assert not self.echoes.came

    async def close(self) -> None:
        await self.port.stopListening()
        for caller in self.callers:
            if not caller.lost.called:
                caller.transport.abortConnection()  # type: ignore[union-attr]
                await caller.lost


def handle(caller: Caller) -> SSL.Connection:
    connection: SSL.Connection = caller.transport.getHandle()  # type: ignore[union-attr]
    return connection


def owned(folder: Path, name: str) -> Issued:
    key: Any = load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
    return Issued(x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()), key)
