"""The paths of the admin side that change something, or that do not end: limits, release, tail.

    POST, DELETE  /api/v1/stations/{tenant}/{id}/limit        {"amps": 16, "for_s": 900, "evse": 1}
    GET, POST, DELETE  …/{id}/release, /api/v1/tenants/{tenant}/release
    GET  …/{id}/tail, /api/v1/tenants/{tenant}/shadow-report

The token was looked at before anything here is asked.
"""

from __future__ import annotations

import json
from typing import Any, Final

from twisted.internet.defer import ensureDeferred
from twisted.web.server import Request

from broker.model.basics import Key
from broker.net.operator import Operator
from broker.net.replies import Answer, error, later
from broker.net.tailing import Tails

MOST_BODY: Final = 4096  # the longest that makes sense has 60


class Actions:
    """Requests in, orders out."""

    def __init__(self, operator: Operator, tails: Tails) -> None:
        self._operator, self._tails = operator, tails

    def of_station(self, request: Request, key: Key, what: str) -> Answer:
        """`…/stations/{tenant}/{id}/{what}`."""
        method = request.method
        if what == "tail":
            return self._tails.open(request, key) if method == b"GET" else _not_so(request, "GET")
        if what == "release":
            return self._release(request, key.tenant, key.station)
        if what != "limit":
            return error(request, 404, "not-found", "no such path")
        if method == b"DELETE":
            return later(request, ensureDeferred(self._operator.clear(key)))
        if method != b"POST":
            return _not_so(request, "POST, DELETE")
        return later(request, ensureDeferred(self._operator.limit(key, _body(request))))

    def of_tenant(self, request: Request, tenant: str, what: str) -> Answer:
        """`…/tenants/{tenant}/{what}`."""
        if what == "release":
            return self._release(request, tenant, None)
        if what != "shadow-report":
            return error(request, 404, "not-found", "no such path")
        if request.method not in (b"GET", b"HEAD"):
            return _not_so(request, "GET")
        return later(request, ensureDeferred(self._operator.shadow_report(tenant)))

    def _release(self, request: Request, tenant: str, station: str | None) -> Answer:
        if request.method in (b"GET", b"HEAD"):
            return later(request, ensureDeferred(self._operator.left(tenant, station)))
        return later(request, ensureDeferred(self._operator.release(tenant, station, undo=request.method == b"DELETE")))


def _not_so(request: Request, methods: str) -> bytes:
    request.setHeader(b"allow", methods.encode())
    return error(request, 405, "method-not-allowed", f"only {methods} is answered here")


def _body(request: Request) -> Any:
    """The JSON that was sent; None for what is none, which no order is made of."""
    content: Any = request.content
    text = content.read(MOST_BODY + 1) if content is not None else b""
    try:
        return json.loads(text) if len(text) <= MOST_BODY else None
    except (ValueError, RecursionError):
        return None
