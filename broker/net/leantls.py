"""Twisted's TLS transport with a short path for what nearly all reads and writes are.

A read that is one whole record, on a connection whose handshake is done, is decrypted by one call, where Twisted asks OpenSSL
until it says twice that there is nothing more, each time by way of an exception. A write is encrypted at once, where Twisted puts
it off to the next turn, to go together with what may follow. Everything else (handshake, several records in a read or part of one, alerts,
close) is Twisted's, unchanged; it is what the short path falls back on whenever OpenSSL says anything but "here is your data".
"""

from __future__ import annotations

from typing import Any, Final, cast

from OpenSSL import SSL
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from broker.net.lean import put

APPLICATION_DATA: Final = 23  # a record's type (RFC 8446, 5.1)
HEAD: Final = 5  # bytes of a record before its content
MOST: Final = 2**15  # more than a record holds


class Records:
    """Where a stream of TLS records stands, from its bytes alone."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def lone(self, data: bytes) -> bool:
        """These bytes, which come next, are one record of application data: none before it is unfinished, none follows."""
        if not self._left and not self._head and len(data) > HEAD and HEAD + int.from_bytes(data[3:5], "big") == len(data):
            return data[0] == APPLICATION_DATA
        self._pass(data)
        return False

    def _pass(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            step = HEAD - len(self._head)
            self._head += data[at : at + step]
            at += step
            if len(self._head) >= HEAD:
                self._left, self._head = int.from_bytes(self._head[3:5], "big"), b""


class LeanTLS(TLSMemoryBIOProtocol):
    """One connection."""

    transport: Any
    began_with: object = None
    """How the dial began, if sessions are kept of its host (`broker.net.sessions`)."""

    def __init__(self, factory: Any, wrappedProtocol: Any, _connectWrapped: bool = True) -> None:
        super().__init__(factory, wrappedProtocol, _connectWrapped)
        self._records = Records()
        self._hurried = False

    def dataReceived(self, data: bytes) -> None:
        lone = self._records.lone(data)
        if not (lone and self._handshakeDone) or self._appSendBuffer or self._lostTLSConnection or self._aborted:
            super().dataReceived(data)
            return
        connection: Any = self._tlsConnection
        connection.bio_write(data)
        try:
            plain = connection.recv(MOST)
        except (SSL.WantReadError, SSL.ZeroReturnError):  # said again when it is asked again
            self._flushReceiveBIO()
        except SSL.Error:
            self._tlsShutdownFinished(Failure())
        else:
            cast(Any, self.wrappedProtocol).dataReceived(plain)

    def write_now(self, data: bytes) -> None:
        """Write, and if nothing is queued to the socket at once; see `lean.put`."""
        self._hurried = True
        try:
            self.write(data)
        finally:
            self._hurried = False

    def _flushSendBIO(self) -> None:
        try:
            out = self._tlsConnection.bio_read(MOST)
        except SSL.WantReadError:
            return
        if self._hurried:
            put(self.transport, out)
        else:
            self.transport.write(out)

    def _tlsShutdownFinished(self, reason: Any) -> None:
        super()._tlsShutdownFinished(reason)
        if reason is not None:  # what it says is told; its traceback, which holds it, would be the collector's to free
            reason.tb = reason.value.__traceback__ = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._producer = None  # which knows the leg, which knows this


class LeanTLSFactory(TLSMemoryBIOFactory):
    """Makes them."""

    protocol = LeanTLS
