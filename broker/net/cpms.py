"""Dialling the CPMS as the station would: its path, its offer, its credentials, its headers; and mirroring the verdict.

`Upstream` is one tenant's CPMS. A dial gives an open `CpmsLeg`, or fails with `Refusal`, which says what the station is to be
answered and whose fault it is. Unfinished dials are bounded; a CPMS that failed ten times in a row is dialled once a second.
"""

from __future__ import annotations

import base64
import os
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectBindError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from broker.model.traffic import Leg
from broker.net.deflate import OFFERED, OFFERS, accept_response
from broker.net.lean import put, unwrap
from broker.net.leg import LegMixin
from broker.net.pulse import Pulse
from broker.net.reach import let_go, reach, wraps
from broker.net.slim import slimmed
from broker.net.tls import CpmsTLS
from broker.net.upgrade import is_welcome

MOST_DIALS: Final = 200
GIVE_UP_AFTER: Final = 10  # failures in a row
PROBE_S: Final = 1.0
GAVE_UP: Final = 499  # never sent: the station is gone
MOST_ANSWER: Final = 16 * 1024  # bytes of a handshake's answer
_FOR_AUTOBAHN: Final = re.compile(rb"(?i:upgrade|connection|sec-websocket-accept|sec-websocket-extensions):[\t\x20-\x7e]*").fullmatch
_REFUSED: Final = re.compile(rb"HTTP/1\.[01] ([45][0-9][0-9])(?: .*)?", re.DOTALL).fullmatch
_MIRRORED: Final = re.compile(rb"(?i:(www-authenticate)|(retry-after)):[\t ]*([\x20-\x7e\x80-\xff]*?)[\t ]*").fullmatch


class Refusal(Exception):
    """The station is refused: HTTP `status`, these headers, no body. `why` is for the log, `whose` fault for the counter."""

    def __init__(self, status: int, why: str, whose: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(why)
        self.status, self.why, self.whose, self.headers = status, why, whose, headers


def basic(user: str, password: str) -> tuple[bytes, bytes]:
    """The header by which a station shows its password (RFC 7617)."""
    return b"Authorization", b"Basic " + base64.b64encode(f"{user}:{password}".encode())


class Offer(NamedTuple):
    """What a station asked for, to be asked of the CPMS."""

    tail: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    protocols: tuple[str, ...]
    deflate: bool


_OPEN: Final[Deferred[Any]] = succeed(None)
"""In place of a leg's own `ready`, once that has fired."""


class CpmsLeg(LegMixin, WebSocketClientProtocol):  # type: ignore[misc]
    """The socket toward the CPMS. `ready` fires with it when the CPMS has accepted, or fails with Refusal."""

    side: Leg = "cpms"
    factory: CpmsFactory

    def __init__(self, offer: Offer, clock: Callable[[], float]) -> None:
        super().__init__()
        self.pulse = Pulse(clock)
        self.ready: Deferred[CpmsLeg] = Deferred()
        self.subprotocol: str | None = None
        self.answered = False
        """A whole answer came, of whatever kind: the CPMS is there."""
        self._offer = offer
        if offer.deflate:
            self.perMessageCompressionOffers = OFFERS
            self.perMessageCompressionAccept = accept_response

    def startHandshake(self) -> None:
        """The station's request, for this host."""
        self.websocket_key = base64.b64encode(os.urandom(16))
        lines = [b"GET %s HTTP/1.1" % self.factory.resource_of(self._offer.tail), b"Host: " + self.factory.authority]
        lines += [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: " + self.websocket_key, b"Sec-WebSocket-Version: 13"]
        lines += [name + b": " + value for name, value in self._offer.headers]
        if self._offer.protocols:
            lines.append(b"Sec-WebSocket-Protocol: " + ", ".join(self._offer.protocols).encode("latin-1"))
        if self._offer.deflate:
            lines.append(b"Sec-WebSocket-Extensions: " + OFFERED)
        put(self.transport, b"\r\n".join(lines) + b"\r\n\r\n")

    def processHandshake(self) -> Any:
        """Read the verdict ourselves; Autobahn sees only a 101, and without the subprotocol, which it would compare with its factory's."""
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            if len(self.data) > MOST_ANSWER:
                self._refuse(Refusal(502, "answered with an endless header", "cpms"))
            return None
        self.answered = True
        first, *lines = head.split(b"\r\n")
        status = first.split(b" ")[1:2]
        if not first.startswith(b"HTTP/1.1 ") or status != [b"101"]:
            return self._refuse(_verdict(first, lines))
        chosen = [line for line in lines if line.lower().startswith(b"sec-websocket-protocol:")]
        if chosen:
            name = chosen[0].partition(b":")[2].strip().decode("latin-1")
            if len(chosen) > 1 or name not in self._offer.protocols:
                return self._refuse(Refusal(502, "chose a subprotocol that the station did not offer", "cpms"))
            self.subprotocol = name
        shown = [line for line in lines if _FOR_AUTOBAHN(line)]
        if is_welcome(shown, self.websocket_key):
            self.data = rest
            self.welcomed()
            return None
        self.data = b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *shown]) + b"\r\n\r\n" + rest
        return super().processHandshake()

    def failHandshake(self, reason: str) -> None:
        """Autobahn found the 101 malformed."""
        self._refuse(Refusal(502, "answered with a malformed handshake", "cpms"))

    def onOpen(self) -> None:
        unwrap(self)
        self.lighten()
        self.pulse.opened()
        ready, self.ready = self.ready, _OPEN
        if not ready.called:
            ready.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        let_go(self.transport)
        if not self.ready.called:
            tls = reason.check(SSL.Error, VerificationError) is not None
            why = "TLS failed: is its certificate trusted, and for this host name?" if tls else "closed before it answered"
            self.ready.errback(Refusal(502, why, "cpms"))

    def _refuse(self, refusal: Refusal) -> None:
        if not self.ready.called:
            self.ready.errback(refusal)
        self.wasNotCleanReason = "refused"
        self.dropConnection(abort=True)


def _verdict(first: bytes, lines: list[bytes]) -> Refusal:
    """A refusal of the CPMS, mirrored; a redirect is not, for it would lead the station around us."""
    refused = _REFUSED(first)
    if refused is None:
        return Refusal(502, "answered neither 101 nor 4xx nor 5xx", "cpms")
    status, kept = int(refused[1]), []
    for field in filter(None, map(_MIRRORED, lines)):
        kept.append(("WWW-Authenticate" if field[1] else "Retry-After", field[3].decode("latin-1")))
    return Refusal(status, f"answered {status}", "cpms", tuple(kept))


class CpmsFactory(WebSocketClientFactory):
    """What all dials to one CPMS share. Makes no protocol itself: a dial does."""

    def __init__(self, url: str, reactor: Any, max_message: int) -> None:
        super().__init__(url=None, reactor=reactor)
        self.log = LegMixin.log
        parts = urlsplit(url)
        self.secure = parts.scheme == "wss"
        self.hostname = parts.hostname or ""
        self.portnumber = parts.port or (443 if self.secure else 80)
        self.authority = parts.netloc.rpartition("@")[2].encode("ascii")
        self._path = parts.path.rstrip("/").encode("ascii")
        self._query = parts.query.encode("ascii")
        self.setProtocolOptions(
            maxFramePayloadSize=max_message,
            maxMessagePayloadSize=max_message,
            failByDrop=False,
            autoPingInterval=0,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=2,
            serverConnectionDropTimeout=2,  # Autobahn rounds down to whole seconds of its clock: 1 would mean at once, now and then
            echoCloseCodeReason=True,
            tcpNoDelay=True,
        )

    def resource_of(self, tail: bytes) -> bytes:
        """The CPMS's path and a station's raw tail."""
        path, _, query = tail.partition(b"?")
        both = b"&".join(part for part in (self._query, query) if part)
        return self._path + b"/" + path + (b"?" + both if both else b"")


class Upstream:
    """One tenant's CPMS, as far as dialling goes."""

    def __init__(self, url: str, tls: IOpenSSLClientConnectionCreator | None, reactor: Any, *, timeout_s: float, max_message: int) -> None:
        self._reactor = reactor
        self._tls = tls
        self._wraps = None if tls is None else wraps(tls, reactor)
        self._timeout_s = timeout_s
        self._factory = CpmsFactory(url, reactor, max_message)
        self._leg = slimmed(CpmsLeg, self._factory)
        self._waiting: deque[Callable[[], None]] = deque()
        self._unfinished = 0
        self.failures = 0
        """Dials in a row that found nobody."""
        self._probe_at = 0.0

    def dial(self, offer: Offer) -> Deferred[CpmsLeg]:
        """An open leg to the CPMS, or Refusal, within the dial timeout. Cancelling it drops the connection."""
        if self.failures >= GIVE_UP_AFTER and self._reactor.seconds() < self._probe_at:
            return _failed(Refusal(503, "is away: dialled once a second", "cpms", (("Retry-After", "5"),)))
        self._probe_at = self._reactor.seconds() + PROBE_S
        leg = self._leg(offer, self._reactor.seconds)
        leg.factory = self._factory
        dial = _Dial(self, leg)
        if self._unfinished < MOST_DIALS:
            dial.start()
        else:
            self._waiting.append(dial.start)
        return dial.result

    def _finished(self, found: bool | None) -> None:
        self._unfinished -= 1
        if found is not None:
            self.failures = 0 if found else self.failures + 1
        while self._waiting and self._unfinished < MOST_DIALS:
            self._waiting.popleft()()


class _Dial:
    """One dial, from its turn to its end, whichever comes first: the CPMS's answer, the timeout, or nobody wants it any more."""

    __slots__ = ("_done", "_leg", "_started", "_stop", "_timer", "_upstream", "result")

    def __init__(self, upstream: Upstream, leg: CpmsLeg) -> None:
        self._upstream = upstream
        self._leg = leg
        self._started = False
        self._done = False
        self._stop: Callable[[], object] = lambda: None
        self.result: Deferred[CpmsLeg] = Deferred(lambda _: self._end(Refusal(GAVE_UP, "the station went away", "station")))
        self._timer = upstream._reactor.callLater(upstream._timeout_s, self._late)

    def start(self) -> None:
        if self._done:
            return
        self._started = True
        self._upstream._unfinished += 1
        self._leg.ready.addCallbacks(self._end, lambda failure: self._end(failure.value))
        upstream = self._upstream
        at = upstream._factory.hostname, upstream._factory.portnumber
        self._stop = reach(upstream._reactor, *at, self._leg, upstream._wraps, self._no_connection)

    def _late(self) -> None:
        self._end(Refusal(504, f"did not answer within {self._upstream._timeout_s:g} s", "cpms"))

    def _no_connection(self, failure: Failure) -> None:
        if failure.check(ConnectBindError) is not None:  # ours, however well the CPMS is
            why = "has no descriptor or local port left to dial the CPMS with: raise its limit (LimitNOFILE)"
            self._end(Refusal(503, why, "broker", (("Retry-After", "5"),)))
            return
        self._end(Refusal(503, f"cannot be reached: {type(failure.value).__name__}", "cpms", (("Retry-After", "5"),)))

    def _end(self, what: CpmsLeg | Refusal) -> None:
        if self._done:
            return
        self._done = True
        if self._timer.active():
            self._timer.cancel()
        if self._started:
            # Who answers is there, whatever it says. A station that gave up proves nothing, nor does what we lack ourselves.
            nothing = isinstance(what, Refusal) and (what.status == GAVE_UP or what.whose == "broker")
            self._upstream._finished(None if nothing else self._leg.answered)
        tls = self._upstream._tls
        if not isinstance(what, Refusal):
            if isinstance(tls, CpmsTLS):
                tls.sessions.keep(self._leg.transport)
            self.result.callback(what)
            return
        if isinstance(tls, CpmsTLS) and not self._leg.answered:
            tls.sessions.forget()
        if self._leg.transport is not None:
            self._leg.transport.abortConnection()
        else:
            self._stop()
        del self._leg, self._stop, self._timer  # which know this one
        self.result.errback(what)


def _failed(refusal: Refusal) -> Deferred[CpmsLeg]:
    failed: Deferred[CpmsLeg] = Deferred()
    failed.errback(refusal)
    return failed
