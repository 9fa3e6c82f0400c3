"""What the admin side's HTTP may cost, and how it shows itself: bounds on bodies, connections and time; no banner, no page, no noise.

Twisted's own answers (to `OPTIONS *`, to a failure of a page) would name it and its version; its log would have a line for each
connection that says nothing for half a minute, so that whoever reaches the port could fill the disk.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

MOST_BODY: Final = 64 * 1024  # of a request; the longest that makes sense has 60 bytes
MOST_CONNECTIONS: Final = 100  # each costs a descriptor that a station may want; an operator, a scraper and a page have ten
IDLE_S: Final = 30
NAME: Final = b"ocppbroker"


class AdminRequest(Request):
    """Twisted keeps a body of any size, before anybody looked at the token: ours ends with its connection."""

    _came = 0

    def handleContentChunk(self, data: bytes) -> None:
        self._came += len(data)
        if self._came > MOST_BODY:
            self.channel.forceAbortClient()
        else:
            super().handleContentChunk(data)

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        super().setResponseCode(code, message or HTTPStatus(code).phrase.encode())  # Twisted has no words for 429

    def setHeader(self, name: Any, value: Any) -> None:
        super().setHeader(name, NAME if name.lower() in (b"server", "server") else value)


class _Channel(HTTPChannel):
    """One connection; HTTP/1 alone."""

    site: AdminSite

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.left()
        super().connectionLost(reason)

    def timeoutConnection(self) -> None:
        """As Twisted's, without a line."""
        self.forceAbortClient()


class AdminSite(Site):
    """A tree of pages over HTTP; no access log (a scrape every few seconds is not news), no traceback in an answer."""

    displayTracebacks = False

    def __init__(self, root: Resource) -> None:
        super().__init__(root, requestFactory=AdminRequest, timeout=IDLE_S)
        self.protocol: Any = _Channel
        self.connections = 0

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """None, which closes the connection, when there are too many."""
        if self.connections >= MOST_CONNECTIONS:
            return None
        self.connections += 1
        return super().buildProtocol(addr)

    def left(self) -> None:
        """One connection is over."""
        self.connections -= 1

    def log(self, request: object) -> None:
        """Nothing: who scraped is the reverse proxy's business."""
