"""A leg with a link's ears and a wire in memory: by both paths, or by Autobahn's own alone."""

from __future__ import annotations

from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from fakes import packed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from broker.net.cpms import CpmsFactory, CpmsLeg, Offer
from broker.net.slim import slimmed
from broker.net.stations import StationFactory, StationLeg
from broker.settings import ListenSettings

MOST = 70_000  # bytes that a message may have here
SIDES = ("station", "cpms")
Event = tuple[Any, ...]


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.spliced = 0

    def heard(self, leg: str, text: bytes, binary: bool, wire: bytes | None = None) -> None:
        self.events.append(("heard", text, binary))
        if wire is not None:
            self.spliced += 1
            assert wire.endswith(text) or leg == "station"

    def lost(self, leg: str, code: int, reason: str) -> None:
        self.events.append(("lost", code, reason))

    def stalled(self, leg: str, stalled: bool) -> None:
        self.events.append(("stalled", stalled))


class Transport(StringTransport):
    """As lenient as a real one."""

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        """Whether bytes come is the test's business."""

    resumeProducing = pauseProducing

    def abortConnection(self) -> None:
        self.disconnecting = True


def slow(kind: type) -> type:
    """The same leg, by Autobahn's own path alone."""
    return type("Slow", (kind,), {"_dataReceived": WebSocketProtocol._dataReceived, "_took_whole": lambda self, data: False})


def open_leg(side: str, fast: bool) -> tuple[Any, Sink, Transport]:
    clock = Clock()
    leg: Any
    factory: Any
    if side == "station":
        factory = StationFactory(None, ListenSettings("tcp:0"), clock, MOST)  # type: ignore[arg-type]
        leg = slimmed(StationLeg if fast else slow(StationLeg), factory)()
        leg.factory = factory
    else:
        factory = CpmsFactory("ws://cpms", clock, MOST)
        leg = slimmed(CpmsLeg if fast else slow(CpmsLeg), factory)(Offer(b"x", (), (), False), clock.seconds)
        leg.factory = factory
        leg.maskClientFrames = False  # masks are random, and nothing else may differ
    transport = Transport()
    leg.makeConnection(transport)
    transport.clear()
    leg.state, leg.inside_message, leg.current_frame, leg.websocket_version = WebSocketProtocol.STATE_OPEN, False, None, 13
    sink = Sink()
    leg.attach(sink)
    return leg, sink, transport


def wire(side: str, payload: bytes, first: int = 0x81, mask: bytes = b"\x01\x02\x03\x04", masked: bool | None = None) -> bytes:
    masked = side == "station" if masked is None else masked
    return packed(payload, first, mask if masked else None)
