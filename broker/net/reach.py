"""One TCP connection to a host, for one protocol: with nothing between the socket and it, neither while it connects nor after.

    name ─▶ its addresses ─▶ each is tried, `HEAD_START_S` after the one before or as soon as that failed ─▶ the first that connects

as in RFC 8305. Twisted's endpoint for names does the same, and makes a class for each dial: 8 KiB that only the garbage collector frees,
which looks the more seldom the more stations there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostResolution, IOpenSSLClientConnectionCreator, IResolutionReceiver
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.net.lean import below
from broker.net.leantls import LeanTLS, LeanTLSFactory

HEAD_START_S: Final = 0.25  # RFC 8305, section 8


class _Attempt(ClientFactory):
    """At one address."""

    noisy = False

    def __init__(self, dial: _Dialling) -> None:
        self._dial: _Dialling | None = dial
        self.connector: Any = None
        self.socket: Any = None
        """While it is being connected."""

    def buildProtocol(self, address: object) -> Any:
        """The socket keeps this factory as long as it lives; who dialled is not to live as long."""
        dial, self._dial, self.connector, self.socket = self._dial, None, None, None
        return dial.connected(self) if dial is not None else None

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        """Nobody is there. What points back at itself goes, so that it is freed at once."""
        if self.socket is not None:  # it keeps a method of its own there, and the reactor may ask for the second in the same turn
            self.socket.doRead = self.socket.doWrite = _no_more
        dial, self._dial, self.connector, self.socket = self._dial, None, None, None
        if dial is not None:
            dial.failed(self, reason)

    def give_up(self) -> None:
        """Another one connected, or nobody waits any more."""
        self._dial = None
        self.connector.disconnect()


@implementer(IResolutionReceiver)
class _Dialling:
    """One connection to be, at the first of a host's addresses that answers."""

    def __init__(self, reactor: Any, port: int, protocol: Any, tell: Callable[[Failure], None]) -> None:
        self._reactor, self._port, self._tell = reactor, port, tell
        self._protocol = protocol  # None: it is over
        self._left: deque[str] = deque()
        self._trying: list[_Attempt] = []
        self._timer: Any = None

    # ------------------------------------------------------------ the name's addresses

    def resolutionBegan(self, resolution: IHostResolution) -> None:
        self._name = resolution.name

    def addressResolved(self, address: Any) -> None:
        self._left.append(address.host)

    def resolutionComplete(self) -> None:
        if self._left:
            self.go_on()
        else:
            self.end(Failure(DNSLookupError(f"no address of {self._name}")))

    # ------------------------------------------------------------ one after the other

    def at(self, address: str) -> None:
        """There is no name to look up."""
        self._left.append(address)
        self.go_on()

    def go_on(self) -> None:
        """Try the next, if there is one and nobody has answered."""
        self._stop_timer()
        if self._protocol is None or not self._left:
            return
        attempt = _Attempt(self)
        self._trying.append(attempt)
        host = self._left.popleft()
        if self._left:
            self._timer = self._reactor.callLater(HEAD_START_S, self.go_on)
        # Whoever dials has a timer of its own.
        connector = self._reactor.connectTCP(host, self._port, attempt, timeout=None)
        if attempt in self._trying:  # not over yet
            attempt.connector, attempt.socket = connector, getattr(connector, "transport", None)

    def connected(self, attempt: _Attempt) -> Any:
        """The protocol, for the first."""
        protocol = self._protocol
        self._trying.remove(attempt)
        self.stop()
        return protocol

    def failed(self, attempt: _Attempt, reason: Failure) -> None:
        """That address is none."""
        self._trying.remove(attempt)
        if self._left:
            self.go_on()
        elif not self._trying:
            self.end(reason)

    def stop(self) -> None:
        """Nobody waits any more."""
        self._tell, self._protocol = _nobody, None
        self._stop_timer()
        trying, self._trying = self._trying, []
        for one in trying:
            one.give_up()

    def end(self, why: Failure) -> None:
        """Nobody is there."""
        tell = self._tell
        self.stop()
        tell(why)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def reach(
    reactor: Any, host: str, port: int, protocol: Any, tls: LeanTLSFactory | None, failed: Callable[[Failure], None]
) -> Callable[[], object]:
    """Begin to connect; returns what stops it, for whoever has waited long enough. `failed` is told why nobody was there.
    `tls`: what all connections to that host share; None: there is no TLS.
    """
    dial = _Dialling(reactor, port, protocol if tls is None else LeanTLS(tls, protocol), failed)
    if ":" in host or host.replace(".", "").isdigit():
        dial.at(host)
        return dial.stop
    try:
        host.encode("idna")
    except UnicodeError:
        reactor.callLater(0, dial.end, Failure(DNSLookupError(f"{host} is no name of a host")))
    else:
        reactor.nameResolver.resolveHostName(dial, host, port)
    return dial.stop


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
