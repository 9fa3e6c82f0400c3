"""One connection of Autobahn's, with little of its own: what is the same for all of them is kept once.

Autobahn copies some eighty settings and first values into each connection, makes two Deferreds, a validator, a table of statistics
and words for debug lines, and keeps the handshake's headers for good: half the memory of a connection, and a fifth of the cost of
connecting. Here Autobahn does that once for each factory, on a specimen; what it set becomes attributes of a class, from which the
factory's connections are made. One has in its own dictionary only what changed. What Autobahn does after the handshake is its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from autobahn.websocket.protocol import WebSocketProtocol
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

Kind = TypeVar("Kind")
OF_ITS_OWN: Final = frozenset({"factory", "send_queue", "utf8validator"})
OF_THE_HANDSHAKE: Final = frozenset(
    {
        "http_request_data", "http_response_data", "http_status_line", "http_headers", "http_request_uri", "http_request_path",
        "http_request_params", "http_request_host", "websocket_protocols", "websocket_origin", "websocket_extensions",
        "websocket_extensions_in_use", "websocket_protocol_in_use", "websocket_key", "perMessageCompressionOffers",
        "perMessageCompressionAccept", "_wskey", "peer", "_request", "_entering", "_offer",
    }
)  # fmt: skip


class _Nobody:
    """In place of a Deferred for which nobody waits."""

    def callback(self, _: object) -> None:
        """Nothing."""


class _Validator:
    """Made when it is first asked for: on the short path it never is."""

    def __get__(self, leg: Any, _: type) -> Any:
        if leg is None:
            return self
        made = vars(leg)["utf8validator"] = Utf8Validator()
        return made


class Slim:
    """Mixed into both legs before Autobahn's protocol; `slimmed` makes a factory's class of it."""

    is_open: Any = _Nobody()
    is_closed: Any = _Nobody()
    utf8validator: Any = _Validator()
    send_queue: Any = ()  # we never ask Autobahn to send in pieces
    peer = ""
    websocket_version = 13
    inside_message = False
    current_frame: Any = None
    state: int
    data: bytes
    transport: Any
    factory: Any
    openHandshakeTimeout: float
    openHandshakeTimeoutCall: Any
    onOpen: Callable[[], None]

    def __init__(self) -> None:
        """Nothing: it begins as its class."""

    def connectionMade(self) -> None:
        """The socket is there: as Autobahn begins, without what nobody reads."""
        with contextlib.suppress(AttributeError, OSError):  # no TCP, or gone already
            self.transport.setTcpNoDelay(True)
        if self.openHandshakeTimeout > 0:
            later = self.factory._batched_timer.call_later
            self.openHandshakeTimeoutCall = later(self.openHandshakeTimeout, self.onOpenHandshakeTimeout)  # type: ignore[attr-defined]
        if not self.factory.isServer:
            self.startHandshake()  # type: ignore[attr-defined]

    def _onOpen(self) -> None:
        self.onOpen()  # Autobahn reads the peer's certificate before

    def welcomed(self) -> None:
        """The 101 is written, or came: as Autobahn goes on from there."""
        self.state = WebSocketProtocol.STATE_OPEN
        self.onOpen()
        if self.data:
            self.consumeData()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """As Autobahn ends, without words for a log line."""
        WebSocketProtocol._connectionLost(cast(Any, self), cast(Any, reason))

    def shed(self) -> None:
        """The handshake is done: what only it needed goes, and so does what is as it began."""
        kind, missing = type(self), object()
        mine = vars(self).items()
        # A new dictionary: one that things are deleted from stays as big as it was.
        self.__dict__ = {name: one for name, one in mine if name not in OF_THE_HANDSHAKE and getattr(kind, name, missing) is not one}


def slimmed(kind: type[Kind], factory: Any) -> type[Kind]:
    """This kind of leg, as Autobahn begins one with this factory's options of now."""
    specimen: Any = object.__new__(kind)
    specimen.factory = factory
    specimen.openHandshakeTimeout = 0  # no timer for it
    WebSocketProtocol._connectionMade(specimen)
    first = {name: one for name, one in vars(specimen).items() if name not in OF_ITS_OWN}
    first["openHandshakeTimeout"] = factory.openHandshakeTimeout
    # A function would become a method of the class.
    first = {name: staticmethod(one) if callable(one) else one for name, one in first.items()}
    return type(kind.__name__, (kind,), {**first, "__doc__": kind.__doc__, "__module__": kind.__module__})
