"""Where stations dial: the handshake, read strictly and held while the CPMS is asked, then a leg like any other.

Autobahn is shown a request without target and credentials; what those say goes to the door, whose verdict it answers with.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, Protocol

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer
from autobahn.websocket.types import ConnectionDeny
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker import request as requests
from broker.model.traffic import Leg
from broker.net.cpms import GAVE_UP, Refusal
from broker.net.deflate import accept_offer, hinted
from broker.net.lean import put
from broker.net.leg import EARLY, EARLY_BYTES, LegMixin
from broker.net.pulse import Pulse
from broker.net.refusing import Kind
from broker.net.slim import slimmed
from broker.net.upgrade import welcome
from broker.settings import ListenSettings

log = Logger()

REQUEST_S: Final = 9.0  # how long a peer may take over its handshake request
PART_S: Final = 2.0  # how long a refused one may take over its good-bye


class Whole(Protocol):
    """A link that waits for its station's 101."""

    def station_open(self) -> None: ...

    def lost(self, leg: Leg, code: int, reason: str) -> None: ...


class Door(Protocol):
    """Who may come in."""

    def enter(self, leg: StationLeg, request: requests.Request, listen: ListenSettings) -> Deferred[Whole]:
        """The link of this station, its CPMS connected; or Refusal. Cancelled when the station goes away."""
        ...

    def refused(self, leg: StationLeg, refusal: Refusal) -> None:
        """To be counted and logged."""
        ...

    def tls_refused(self, kind: Kind, line: Callable[[], None]) -> None:
        """A handshake of TLS failed, to be counted; and `line` says it, if it is to be said."""
        ...


class StationLeg(LegMixin, WebSocketServerProtocol):  # type: ignore[misc]
    """The socket toward a station."""

    side: Leg = "station"
    factory: StationFactory
    subprotocol: str | None = None
    """What the CPMS chose; set by the door before the link is given."""
    _entering: Deferred[Whole] | None = None
    _refusal: Refusal | None = None
    _link: Whole | None = None
    _parting: Any = None

    @property
    def address(self) -> str:
        """The peer's address, without its port."""
        return str(getattr(self.transport.getPeer(), "host", "?"))

    def connectionMade(self) -> None:
        self.pulse = Pulse(self.factory.reactor.seconds)
        super().connectionMade()

    def processHandshake(self) -> None:
        """Ours first: strict, and without what Autobahn need not know."""
        if self._entering is not None:  # pipelined behind the request: kept, bounded, until the 101 is written
            if len(self.data) > EARLY_BYTES:
                self.read(False, EARLY)
            return
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if len(head) + len(end) > requests.MOST_BYTES:
            self._fail(Refusal(431, f"sent a request header of more than {requests.MOST_BYTES} bytes", "station"))
            return
        if not end:
            return
        try:
            self._request = requests.read(head + end)
        except requests.BadRequest as bad:
            upgrade = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")) if bad.status == 426 else ()
            self._fail(Refusal(bad.status, f"sent a wrong request: {bad}", "station", upgrade))
            return
        if self._request.all(b"sec-websocket-extensions"):
            self.data = requests.for_autobahn(self._request) + rest
            super().processHandshake()
            return
        self.data = rest
        key = self._request.one(b"sec-websocket-key") or b""
        self._enter().addCallbacks(lambda protocol: self._welcome(key, protocol), lambda _: self.failHandshake(""))

    def _welcome(self, key: bytes, protocol: str | None) -> None:
        put(self.transport, welcome(key, protocol))
        self.welcomed()

    def onConnect(self, request: object) -> Deferred[Any]:  # type: ignore[override]  # Autobahn takes a Deferred too
        """Autobahn has read what the station offers besides."""
        return self._enter()

    def _enter(self) -> Deferred[Any]:
        """Hold the handshake while the door decides; it has bounds of its own."""
        if self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None
        self._entering = entering = self.factory.door.enter(self, self._request, self.factory.listen)
        del self._request
        answer: Deferred[Any] = Deferred()

        def let_in(link: Whole) -> None:
            self._link = link
            answer.callback(self.subprotocol)

        def keep_out(failure: Failure) -> None:
            refusal = failure.value
            if failure.check(CancelledError) is not None:
                refusal = Refusal(GAVE_UP, "the station went away", "station")
            elif not isinstance(refusal, Refusal):
                log.failure("the door failed: our fault", failure=failure)
                refusal = Refusal(500, "our fault: see the log", "ours")
            # Both know this leg, and all who called us if we gave up; this leg keeps the refusal.
            refusal.__traceback__ = failure.tb = None
            self._refusal = refusal
            answer.errback(ConnectionDeny(refusal.status, refusal.why))

        entering.addCallbacks(let_in, keep_out)
        return answer

    def _parseExtensionsHeader(self, header: str, removeQuotes: bool = True) -> list[tuple[str, Any]]:
        """What we cannot make sense of is declined, not a reason to refuse the station (RFC 7692, 5.1)."""
        offered: list[tuple[str, Any]] = super()._parseExtensionsHeader(header, removeQuotes)
        return [(name, hinted(params)) for name, params in offered if name == "permessage-deflate" and _understood(params)]

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: object = None) -> None:
        """Autobahn refuses, or says what the door said. Its texts quote the peer: they are for the log only, not for the answer."""
        self._fail(self._refusal or Refusal(code, reason[:80], "station"))

    def _fail(self, refusal: Refusal) -> None:
        self.factory.door.refused(self, refusal)
        try:
            phrase = HTTPStatus(refusal.status).phrase
        except ValueError:
            phrase = "Refused"
        lines = [f"HTTP/1.1 {refusal.status} {phrase}", "Content-Length: 0", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in refusal.headers]
        self.sendData(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace"))
        self._closing_told = True
        self.wasNotCleanReason = "refused"
        self.dropConnection(abort=False)
        if not self.parted:  # a TLS peer that says no good-bye would stay for ever
            self._parting = self.factory.reactor.callLater(PART_S, self.cut)
        if self._link is not None:  # the CPMS accepted, but what the station offered besides cannot be answered
            self._link.lost("station", 1001, "")

    def onOpen(self) -> None:
        self.lighten()
        self.pulse.opened()
        if self._link is not None:
            self._link.station_open()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._parting is not None and self._parting.active():
            self._parting.cancel()
        link, self._link = self._link, None
        if link is not None:
            link.lost("station", 1001, "")
        elif self._entering is not None:
            self._entering.cancel()


class StationFactory(WebSocketServerFactory):
    """One listener's."""

    protocol = StationLeg  # type: ignore[assignment]
    noisy = False

    def __init__(self, door: Door, listen: ListenSettings, reactor: Any, max_message: int) -> None:
        super().__init__(url=None, reactor=reactor, server="")
        self.door = door
        self.listen = listen
        self.log = LegMixin.log
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            failByDrop=False,
            autoPingInterval=0,
            openHandshakeTimeout=REQUEST_S,
            closeHandshakeTimeout=2,
            echoCloseCodeReason=True,
            tcpNoDelay=True,
            allowNullOrigin=True,
            perMessageCompressionAccept=accept_offer,
        )
        self.limit(max_message)

    def tls_refused(self, kind: Kind, line: Callable[[], None]) -> None:
        """See `handshakes`."""
        self.door.tls_refused(kind, line)

    def limit(self, max_message: int) -> None:
        """From now on stations that connect may send messages of so many bytes."""
        self.setProtocolOptions(maxFramePayloadSize=max_message, maxMessagePayloadSize=max_message)

    def setProtocolOptions(self, *args: Any, **options: Any) -> None:
        """Autobahn's; connections begin with these from now on."""
        super().setProtocolOptions(*args, **options)
        self.protocol = slimmed(StationLeg, self)


def _understood(params: Any) -> bool:
    try:
        PerMessageDeflateOffer.parse(params)
    except Exception:  # Autobahn raises nothing narrower
        return False
    return True
