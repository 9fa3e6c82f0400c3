"""One TCP connection to a host, for one protocol: with nothing between the socket and it, neither while it connects nor after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure

from broker.net.leantls import LeanTLSFactory


class _Once(ClientFactory):
    """For one connection."""

    noisy = False

    def __init__(self, protocol: Any, failed: Callable[[Failure], None]) -> None:
        self._protocol = protocol
        self._failed = failed

    def buildProtocol(self, address: object) -> Any:
        """The socket keeps this factory as long as it lives; who dialled is not to live as long."""
        self._failed = _nobody
        protocol, self._protocol = self._protocol, None
        return protocol

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._failed(reason)


def reach(
    reactor: Any, host: str, port: int, protocol: Any, tls: IOpenSSLClientConnectionCreator | None, failed: Callable[[Failure], None]
) -> Callable[[], object]:
    """Begin to connect; returns what stops it, for whoever has waited long enough. `failed` is told why nobody was there.

    An address is dialled straight away; a name by Twisted's endpoint, which tries its addresses side by side.
    """
    factory: Any = _Once(protocol, failed)
    if tls is not None:
        factory = LeanTLSFactory(tls, True, factory, reactor)
    if ":" in host or host.replace(".", "").isdigit():
        # Whoever dials has a timer of its own.
        stop: Callable[[], object] = reactor.connectTCP(host, port, factory, timeout=None).disconnect
        return stop
    connecting = HostnameEndpoint(reactor, host, port).connect(factory)
    connecting.addErrback(failed)
    return connecting.cancel


def _nobody(_: Failure) -> None:
    """Waits any more."""
