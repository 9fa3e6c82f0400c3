"""One TCP connection to a host, for one protocol: with nothing between the socket and it, neither while it connects nor after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from broker.net.lean import below
from broker.net.leantls import LeanTLS, LeanTLSFactory


class _Once(ClientFactory):
    """For one connection."""

    noisy = False

    def __init__(self, protocol: Any, failed: Callable[[Failure], None]) -> None:
        self._protocol = protocol
        self._failed = failed
        self.socket: Any = None
        """While it is being connected."""

    def buildProtocol(self, address: object) -> Any:
        """The socket keeps this factory as long as it lives; who dialled is not to live as long."""
        self._failed, self.socket = _nobody, None
        protocol, self._protocol = self._protocol, None
        return protocol

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """Nobody is there. What points back at itself goes, so that it is freed at once."""
        if self.socket is not None:  # it keeps a method of its own there, and the reactor may ask for the second in the same turn
            self.socket.doRead = self.socket.doWrite = _no_more
        self._failed(reason)


def reach(
    reactor: Any, host: str, port: int, protocol: Any, tls: LeanTLSFactory | None, failed: Callable[[Failure], None]
) -> Callable[[], object]:
    """Begin to connect; returns what stops it, for whoever has waited long enough. `failed` is told why nobody was there.
    `tls`: what all connections to that host share; None: there is no TLS.

    An address is dialled straight away; a name by Twisted's endpoint, which tries its addresses side by side.
    """
    factory: Any = _Once(protocol if tls is None else LeanTLS(tls, protocol), failed)
    if ":" in host or host.replace(".", "").isdigit():
        # Whoever dials has a timer of its own.
        connector = reactor.connectTCP(host, port, factory, timeout=None)
        factory.socket = getattr(connector, "transport", None)
        stop: Callable[[], object] = connector.disconnect
        return stop
    connecting = HostnameEndpoint(reactor, host, port).connect(factory)
    connecting.addCallbacks(_nobody, failed)  # the endpoint keeps its Deferred until it is collected: not the connection as well
    return connecting.cancel


def wraps(tls: IOpenSSLClientConnectionCreator, reactor: Any) -> LeanTLSFactory:
    """What all connections to one host share of their TLS."""
    nobody: Any = ClientFactory()  # makes no protocol: each dial brings its own
    return LeanTLSFactory(tls, True, nobody, reactor)


def let_go(transport: Any) -> None:
    """This connection is over: socket and connector point at each other, and are freed at once when one of them does no more."""
    connector = getattr(below(transport), "connector", None)
    if connector is not None:
        connector.transport = None


def _no_more() -> None:
    """Is read or written."""


def _nobody(_: object) -> None:
    """Waits any more."""
