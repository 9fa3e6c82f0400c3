"""A simulated station's socket: it dials, speaks one OCPP subprotocol, and dials again when the link goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS
from twisted.python.failure import Failure

AGAIN_S = (1.0, 2.0, 5.0, 10.0)  # then every 10 s, as many real stations do
GOODBYE_S = 2.0
PLAIN = ":@$+=*|,~"  # beside letters, digits and -._, what a station's id keeps in its URL


class Dialled(WebSocketClientProtocol):
    """Autobahn's end; it only passes on."""

    def __init__(self, dialler: Dialler) -> None:
        super().__init__()
        self.dialler = dialler

    def onOpen(self) -> None:
        self.dialler.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.dialler.received(payload)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        said = f"closed with {code}" + (f": {reason}" if reason else "")
        self.dialler.why = said if wasClean else self.wasNotCleanReason or "the connection is gone"
        self.dialler.closed(self)


class Dialler:
    """`up(send)` when a link is open, `received(message)`, `down()` when it is gone."""

    def __init__(
        self,
        url: str,
        subprotocol: str,
        reactor: Any,
        up: Callable[[Callable[[bytes], None]], None],
        received: Callable[[bytes], None],
        down: Callable[[], None],
        *,
        tls: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`tls`: whom a wss:// is trusted by, the system's roots by default; `headers`: of its handshake, Authorization for one."""
        self.received, self.failures, self.links = received, 0, 0
        self.why = ""
        """Why there is no link, or "" while there is one or the first is being made."""
        self._up, self._down, self._reactor = up, down, reactor
        self._factory = WebSocketClientFactory(url, protocols=[subprotocol], headers=dict(headers or {}), reactor=reactor)
        self._factory.setProtocolOptions(openHandshakeTimeout=20, closeHandshakeTimeout=GOODBYE_S)
        self._factory.protocol = partial(Dialled, self)  # type: ignore[assignment]  # Autobahn calls whatever makes one
        self._endpoint = partial(_endpoint, url, tls, reactor)
        self._open: Dialled | None = None
        self._wanted = False
        self._timer: Any = None
        self._gone: Deferred[None] | None = None

    def start(self) -> None:
        self._wanted = True
        self._timer = None
        connecting = self._endpoint().connect(self._factory)
        connecting.addErrback(self._unreachable)

    def stop(self) -> Deferred[None]:
        """Hang up for good; fires when the link is gone."""
        self._wanted = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._open is None:
            return succeed(None)
        self._gone = Deferred()
        self._open.sendClose(1000)
        return self._gone

    def drop(self) -> None:
        """Hang up, and dial again."""
        if self._open is not None:
            self._open.sendClose(1000)

    def opened(self, link: Dialled) -> None:
        self.failures, self._open, self.why = 0, link, ""
        self.links += 1
        if not self._wanted:
            link.sendClose(1000)
            return
        self._up(lambda text: link.sendMessage(text, False))

    def closed(self, link: Dialled) -> None:
        if link is self._open:
            self._open = None
            self._down()
        gone, self._gone = self._gone, None
        if gone is not None:
            gone.callback(None)
        self._again()

    def _unreachable(self, failure: Failure) -> None:
        self.why = failure.getErrorMessage()
        self._again()

    def _again(self) -> None:
        if self._wanted and (self._timer is None or not self._timer.active()):
            wait = AGAIN_S[min(self.failures, len(AGAIN_S) - 1)]
            self.failures += 1
            self._timer = self._reactor.callLater(wait, self.start)


def address(url: str, id: str) -> str:
    """Where that station dials."""
    return f"{url}/{quote(id, safe=PLAIN)}"


def _endpoint(url: str, tls: Any, reactor: Any) -> Any:
    """Where that URL is. ValueError for one without a host."""
    address = urlsplit(url)
    if not address.hostname:
        raise ValueError(f"{url}: must be ws://HOST[:PORT]/… or wss://HOST[:PORT]/…")
    if address.scheme.lower() != "wss":
        return HostnameEndpoint(reactor, address.hostname, address.port or 80)
    plain: Any = HostnameEndpoint(reactor, address.hostname, address.port or 443)  # mypy does not read zope's implementer
    return wrapClientTLS(tls or optionsForClientTLS(address.hostname), plain)
