"""What both sockets of a link have in common: frames in and out, back-pressure, fairness, close codes.

Autobahn does the WebSocket protocol; a leg tells its link what came, and does what the link wants said. `Link` is given by
`attach`; until then a leg keeps what comes, bounded, in order. Whether its peer lives is `broker.net.pulse`'s,
how much it may say `broker.net.paced`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from autobahn.websocket import protocol as autobahn
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from broker.model.traffic import Leg
from broker.net.bucket import FREE
from broker.net.deflate import WORTH, Deflate
from broker.net.fastpath import FastPath
from broker.net.hangup import hung_up
from broker.net.lean import put
from broker.net.paced import RATE, Paced
from broker.net.pulse import Pulse
from broker.net.slim import Slim
from broker.net.valve import Valve
from broker.ocpp.frames import Frame

EARLY_BYTES: Final = 256 * 1024  # kept before the link is whole
TURN_S: Final = 0.005  # how long one socket's frames are worked on before the others have their turn
TURN_STEPS: Final = 64  # a frame is two steps: its head and its payload
PIECE: Final = 512  # bytes of a compressed payload that are one step: inflated, at most half a MiB
AWAY: Final = 1001

# Why a socket is not read; it is when no reason is left.
FLOW: Final = 1  # the other leg's peer does not read
EARLY: Final = 2  # too much came before the link was whole
WASTE: Final = 4  # the rest of a message that is too big
TURN: Final = 8  # what was read has not been worked on yet
STOPS: Final = FLOW | TURN | RATE  # what was read already waits as well

# 1014 (bad gateway) was registered after Autobahn's list was made; a CPMS behind a load balancer sends it.
if 1014 not in WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED:
    WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED.append(1014)
# Each connection has its options put in words for a debug line that nobody sees: a third of the cost of connecting.
setattr(autobahn, "pformat", lambda _: "")  # noqa: B010


class Hush:
    """In place of Autobahn's logger, which would write whole handshakes, Authorization included. What matters we log ourselves."""

    def debug(self, *_: object, **__: object) -> None:
        """Nothing."""

    trace = info = warn = error = critical = debug


class Sink(Protocol):
    """Whom a leg tells."""

    def heard(self, leg: Leg, text: bytes, binary: bool, wire: bytes | None = None) -> None: ...

    def lost(self, leg: Leg, code: int, reason: str) -> None: ...

    def stalled(self, leg: Leg, stalled: bool) -> None: ...


def crosses(code: int | None) -> bool:
    """A close code that goes across as it came; others become 1001."""
    return code is not None and (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999)


def _nobody() -> None:
    """Is told."""


class LegMixin(Paced, FastPath, Slim):
    """Mixed into Autobahn's server and client protocol, which give it a `pulse` before anything comes."""

    log = Hush()
    side: Leg
    transport: Any
    factory: Any
    state: int
    wasClean: bool
    failedByMe: bool
    current_frame: Any = None
    _isMessageCompressed = False
    data: bytes
    pulse: Pulse
    _sink: Sink | None = None
    _early: list[tuple[bytes, bool]] | None = None
    _early_bytes = 0
    _wasted = 0
    _unread = 0
    _until = 0.0
    _steps = 0
    _pong: bytes | None = None
    _closing_told = False
    wasMaxMessagePayloadSizeExceeded = wasMaxFramePayloadSizeExceeded = False  # Autobahn's, which sets them later
    gone: tuple[int, str] | None = None
    """Close code and reason, once its peer said good-bye or is away."""
    parted = False
    """Its socket is closed."""
    on_parted: Callable[[], None] = staticmethod(_nobody)

    def lighten(self) -> None:
        """The handshake is done: what it needed goes."""
        if self._perMessageCompress is not None:
            self._perMessageCompress = Deflate(self._perMessageCompress)
        self.shed()

    # ------------------------------------------------------------ what comes

    def attach(self, sink: Sink) -> None:
        """From here on the link is told; what came before is told first."""
        self._sink = sink
        early, self._early = self._early or (), None
        for text, binary in early:
            sink.heard(self.side, text, binary)
        self.read(True, EARLY)

    def dataReceived(self, data: bytes) -> None:
        pulse = self.pulse
        now = pulse.heard_at = pulse.clock()
        if self.wasMaxMessagePayloadSizeExceeded or self.wasMaxFramePayloadSizeExceeded:
            self._waste(data)
            return
        if self.bucket is not FREE:
            self.bucket.fill(now)
        if self._took_whole(data):
            return
        self._until, self._steps = now + TURN_S, 0
        self._dataReceived(data)  # past Autobahn's own, which does nothing but word a debug line

    def _waste(self, data: bytes) -> None:
        """The rest of a message that is too big: not kept, and after a while not read, so that the peer can still read why."""
        self._wasted += len(data)
        if self._wasted > EARLY_BYTES:
            self.read(False, WASTE)

    def consumeData(self) -> None:
        """Autobahn's loop, but nobody's frames keep the others waiting, and none are worked on that cannot go on."""
        if self.state not in (WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSING):
            super().consumeData()  # type: ignore[misc]
            return
        while not self._unread & STOPS and self._step() and self.state != WebSocketProtocol.STATE_CLOSED:
            self._spend()

    def _step(self) -> bool:
        """Autobahn's next: a head, or what came of a payload; but of a compressed one, which may be a thousand times as long, a piece."""
        if self.current_frame is None or not self._isMessageCompressed or len(self.data) <= PIECE:
            return bool(self.processData())  # type: ignore[attr-defined]
        rest, self.data = self.data[PIECE:], self.data[:PIECE]
        more = self.processData()  # type: ignore[attr-defined]
        self.data += rest
        return bool(more) or not self.failedByMe

    def _spend(self) -> None:
        """One more step of this turn; after the last one the rest waits for the next turn, and no more is read."""
        self._steps += 1
        if not self._unread & TURN and (self._steps >= TURN_STEPS or self.pulse.clock() >= self._until):
            self.read(False, TURN)
            self.factory.reactor.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        if not self.parted:
            self._until, self._steps = self.pulse.clock() + TURN_S, 0
            self.read(True, TURN)
            self._go_on()

    def _go_on(self) -> None:
        if self._unread & STOPS:
            return
        if self.data:
            self._dataReceived(b"")
        elif self.current_frame is not None and not self.current_frame.length:
            self.consumeData()  # its head was the last step of a turn, and there is no more of it to come

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """What was read before the end came is worked on first; what it says may still be of use to the other side."""
        self._unread = 0
        self.unration()
        if self.state in (WebSocketProtocol.STATE_OPEN, WebSocketProtocol.STATE_CLOSING):
            while self.processData() and self.state != WebSocketProtocol.STATE_CLOSED:  # type: ignore[attr-defined]
                pass
        super().connectionLost(reason)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.pulse.spoke()
        if self._sink is not None:
            self._sink.heard(self.side, payload, isBinary)
            return
        self._early = self._early or []
        self._early.append((payload, isBinary))
        self._early_bytes += len(payload)
        if self._early_bytes > EARLY_BYTES:
            self.read(False, EARLY)

    def took(self, payload: bytes, wire: bytes) -> None:
        """A whole text message came, on the short path."""
        self.pulse.spoke()
        if self._sink is not None:
            self._sink.heard(self.side, payload, False, wire)
        if self.bucket is not FREE:
            self.pay()
        if self.data:
            self._spend()

    def onPing(self, payload: bytes) -> None:
        """Answer; but to a peer that does not read, only the newest, once it reads again (RFC 6455, 5.5.3)."""
        if self.pulse.stalled:
            self._pong = payload
        elif self.open:
            self.sendPong(payload)  # type: ignore[attr-defined]

    def onPong(self, payload: bytes) -> None:
        self.pulse.ponged()

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:
        stop = super().onCloseFrame(code, reasonRaw)  # type: ignore[misc]
        if not stop:
            reason = (reasonRaw or b"").decode("utf-8", "replace")
            self._tell_lost(code if crosses(code) and code is not None else AWAY, reason if crosses(code) else "")
        return stop

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._tell_lost(AWAY, "")
        self.parted = True
        # Who and whose link point at each other: let go here, they are freed at once, and not by the collector, all at a time.
        parted, self.on_parted, self._sink = self.on_parted, _nobody, None
        parted()

    def _fail_connection(self, code: int = AWAY, reason: str = "") -> None:
        """Autobahn found the peer at fault: it says so to it, and the other leg need not wait for what follows."""
        super()._fail_connection(code, reason)  # type: ignore[misc]
        self.unration()
        self.read(True, FLOW | EARLY)
        self._tell_lost(AWAY, "")

    def dropConnection(self, abort: bool = False) -> None:
        """Autobahn resets where both have said good-bye; a station takes that for a fault. Who lingers is cut by its link."""
        super().dropConnection(abort and not self.wasClean)  # type: ignore[misc]

    def _tell_lost(self, code: int, reason: str) -> None:
        if not self._closing_told:
            self._closing_told = True
            self.gone = (code, reason)
            if self._sink is not None:
                self._sink.lost(self.side, code, reason)

    # ------------------------------------------------------------ what the link wants

    @property
    def open(self) -> bool:
        return bool(self.state == WebSocketProtocol.STATE_OPEN)

    def tell(self, frame: Frame) -> None:
        """Send a frame, byte for byte; as the very bytes it came in, where that can be."""
        if self.state != WebSocketProtocol.STATE_OPEN:
            return
        plain = self._perMessageCompress is None or len(frame.text) < WORTH
        if frame.wire is not None and plain:
            put(self.transport, frame.wire)
        else:
            self.sendMessage(frame.text, frame.binary, doNotCompress=plain)  # type: ignore[attr-defined]

    def shut(self, code: int, reason: str = "") -> None:
        """Close with this code; the reason is cut to what a close frame holds. Its own good-bye is read, whatever it waited for."""
        self._closing_told = True
        if self.parted:
            return
        if self.open:
            cut = reason.encode("utf-8")[:123].decode("utf-8", "ignore").encode("utf-8")
            self.sendCloseFrame(code, cut or None)  # type: ignore[attr-defined]
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        self.unration()
        self.read(True, EARLY)
        self.let_flow(True)

    def cut(self) -> None:
        """Drop the connection at once."""
        self._closing_told = True
        if not self.parted:
            self.transport.abortConnection()

    def ping(self) -> None:
        """Ask whether it lives; any byte is an answer."""
        self.pulse.pinged()
        if self.open:
            self.sendPing(b"")  # type: ignore[attr-defined]

    # ------------------------------------------------------------ who reads, and who does not

    def guard_flow(self) -> None:
        """Tell the link when this leg's peer stops reading."""
        self.transport.registerProducer(Valve(self._flow), True)

    def _flow(self, stalled: bool) -> None:
        self.pulse.flow(stalled, self.unsent)
        if not stalled and self._pong is not None:
            pong, self._pong = self._pong, None
            self.onPing(pong)
        if self._sink is not None:
            self._sink.stalled(self.side, stalled)

    @property
    def unsent(self) -> int:
        """Bytes that wait for this leg's peer, as far as the transport can tell: for progress, not for sums."""
        transport = self.transport
        return len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0) + getattr(transport, "_tempDataLen", 0)

    @property
    def reading(self) -> bool:
        return not self._unread

    @property
    def hung_up(self) -> bool:
        """Its peer ended the connection, whatever of it is still unread."""
        return hung_up(self.transport)

    def read(self, on: bool, why: int) -> None:
        """Read from the socket, or, for this reason, leave the bytes there."""
        before = self._unread
        self._unread = before & ~why if on else before | why
        if bool(before) != bool(self._unread):
            self.pulse.reading(not self._unread)
            if self._unread:
                self.transport.pauseProducing()
            elif not self.parted:
                self.transport.resumeProducing()

    def let_flow(self, on: bool) -> None:
        """The other leg's peer reads, or does not."""
        self.read(on, FLOW)
        self._go_on()
