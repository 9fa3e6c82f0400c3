"""What both sockets of a link have in common: frames in and out, life and its proof, back-pressure, close codes.

Autobahn does the WebSocket protocol; a leg tells its link what came, and does what the link wants said. `Link` is given by
`attach`; until then a leg keeps what comes, bounded, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from broker.model import Leg
from broker.ocpp.frames import Frame

PONG_S: Final = 15.0
FIRST_PING_S: Final = 5.0  # the first ping comes early: whether a peer pongs at all must be known before it goes silent
SILENT_S: Final = 900.0  # how long a peer that never pongs may say nothing
STALL_S: Final = 20.0  # how long a peer may read nothing while we have something for it
EARLY_BYTES: Final = 256 * 1024  # frames kept before the link is whole
AWAY: Final = 1001

# 1014 (bad gateway) was registered after Autobahn's list was made; a CPMS behind a load balancer sends it.
if 1014 not in WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED:
    WebSocketProtocol.CLOSE_STATUS_CODES_ALLOWED.append(1014)


class Hush:
    """In place of Autobahn's logger, which would write whole handshakes, Authorization included. What matters we log ourselves."""

    def debug(self, *_: object, **__: object) -> None:
        """Nothing."""

    trace = info = warn = error = critical = debug


class Sink(Protocol):
    """Whom a leg tells."""

    def heard(self, leg: Leg, text: bytes, binary: bool) -> None: ...

    def lost(self, leg: Leg, code: int, reason: str) -> None: ...

    def stalled(self, leg: Leg, stalled: bool) -> None: ...


@implementer(IPushProducer)
class Valve:
    """Closes the other leg's tap while this leg's peer does not read."""

    def __init__(self, turn: Callable[[bool], None]) -> None:
        self._turn = turn

    def pauseProducing(self) -> None:
        self._turn(True)

    def resumeProducing(self) -> None:
        self._turn(False)

    def stopProducing(self) -> None:
        """The transport goes: its protocol is told by itself."""


def crosses(code: int | None) -> bool:
    """A close code that goes across as it came; others become 1001."""
    return code is not None and (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999)


class LegMixin:
    """Mixed into Autobahn's server and client protocol. `clock()` is monotonic seconds."""

    log = Hush()
    side: Leg
    transport: Any
    state: int
    clock: Callable[[], float]
    _sink: Sink | None = None
    _early: list[tuple[bytes, bool]] | None = None
    _early_bytes = 0
    heard_at = 0.0
    """When the last byte came."""
    spoke_at = 0.0
    """When the last OCPP frame came."""
    _pinged_at: float | None = None
    _ponged = False
    _stopped_at: float | None = None
    """Since when its peer does not read."""
    _reading = True
    _closing_told = False
    gone: tuple[int, str] | None = None
    """Close code and reason, once its peer said good-bye or is away."""
    parted = False
    """Its socket is closed."""
    on_parted: Callable[[], None] = staticmethod(lambda: None)
    _wasted = 0

    # ------------------------------------------------------------ toward the link

    def attach(self, sink: Sink) -> None:
        """From here on the link is told; what came before is told first."""
        self._sink = sink
        early, self._early = self._early or (), None
        for text, binary in early:
            sink.heard(self.side, text, binary)
        self.read(True)

    def guard_flow(self) -> None:
        """Tell the link when this leg's peer stops reading."""
        self.transport.registerProducer(Valve(self._flow), True)

    def _flow(self, stalled: bool) -> None:
        self._stopped_at = self.clock() if stalled else None
        if self._sink is not None:
            self._sink.stalled(self.side, stalled)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.spoke_at = self.heard_at
        if self._sink is not None:
            self._sink.heard(self.side, payload, isBinary)
            return
        self._early = self._early or []
        self._early.append((payload, isBinary))
        self._early_bytes += len(payload)
        if self._early_bytes > EARLY_BYTES:
            self.read(False)

    def dataReceived(self, data: bytes) -> None:
        self.heard_at = self.clock()
        if getattr(self, "wasMaxMessagePayloadSizeExceeded", False) or getattr(self, "wasMaxFramePayloadSizeExceeded", False):
            self._waste(data)
        else:
            super().dataReceived(data)  # type: ignore[misc]

    def _waste(self, data: bytes) -> None:
        """The rest of a frame that is too big: not kept, and after a while not read, so that the peer can still read why."""
        self._wasted += len(data)
        if self._wasted > EARLY_BYTES:
            self.read(False)

    def onPong(self, payload: bytes) -> None:
        self._ponged = True

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> Any:
        stop = super().onCloseFrame(code, reasonRaw)  # type: ignore[misc]
        if not stop:
            reason = (reasonRaw or b"").decode("utf-8", "replace")
            self._tell_lost(code if crosses(code) and code is not None else AWAY, reason if crosses(code) else "")
        return stop

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self._tell_lost(AWAY, "")
        self.parted = True
        self.on_parted()

    def _fail_connection(self, code: int = AWAY, reason: str = "") -> None:
        """Autobahn found the peer at fault: it says so to it, and the other leg need not wait for what follows."""
        super()._fail_connection(code, reason)  # type: ignore[misc]
        self.read(True)
        self._tell_lost(AWAY, "")

    def _tell_lost(self, code: int, reason: str) -> None:
        if not self._closing_told:
            self._closing_told = True
            self.gone = (code, reason)
            if self._sink is not None:
                self._sink.lost(self.side, code, reason)

    # ------------------------------------------------------------ from the link

    @property
    def open(self) -> bool:
        return bool(self.state == WebSocketProtocol.STATE_OPEN)

    def tell(self, frame: Frame) -> None:
        """Send a frame, byte for byte."""
        if self.open:
            self.sendMessage(frame.text, frame.binary)  # type: ignore[attr-defined]

    def shut(self, code: int, reason: str = "") -> None:
        """Close with this code; the reason is cut to what a close frame holds."""
        self._closing_told = True
        if self.open:
            cut = reason.encode("utf-8")[:123].decode("utf-8", "ignore").encode("utf-8")
            self.sendCloseFrame(code, cut or None)  # type: ignore[attr-defined]
        else:
            self.transport.loseConnection()

    def cut(self) -> None:
        """Drop the connection at once."""
        self._closing_told = True
        self.transport.abortConnection()

    def read(self, on: bool) -> None:
        """Read from the socket, or leave the bytes there."""
        if on == self._reading:
            return
        self._reading = on
        if on:
            self.heard_at = self.clock()
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    # ------------------------------------------------------------ is it alive?

    def opened(self) -> None:
        """The handshake is done: silence counts from here."""
        self.heard_at = self.spoke_at = self.clock()

    def due(self, every_s: float) -> float:
        """When `check` is wanted next."""
        if self._stopped_at is not None:
            return self._stopped_at + STALL_S
        if not self._reading:  # a peer that we do not read cannot prove anything
            return self.clock() + every_s
        if self._pinged_at is not None and self._pinged_at >= self.heard_at:
            return self._pinged_at + (PONG_S if self._ponged else max(PONG_S, every_s))
        if not self._ponged and self._pinged_at is None:
            return self.heard_at + min(FIRST_PING_S, every_s)
        return self.heard_at + every_s

    def check(self, every_s: float) -> str:
        """Ping if it is time to; "" or why the peer is taken for dead."""
        now = self.clock()
        if now < self.due(every_s):
            return ""
        if self._stopped_at is not None:
            return f"has read nothing for {STALL_S:.0f} s"
        waits = self._pinged_at is not None and self._pinged_at >= self.heard_at
        if waits and (self._ponged or now - self.spoke_at >= SILENT_S):
            return f"has said nothing for {now - self.heard_at:.0f} s"
        self.ping()
        return ""

    def ping(self) -> None:
        """Ask whether it lives; any byte is an answer."""
        self._pinged_at = self.clock()
        if self.open:
            self.sendPing(b"")  # type: ignore[attr-defined]
