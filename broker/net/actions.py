"""The paths of the admin side that change something, or that do not end: limits, release, tail.

    POST, DELETE  /api/v1/stations/{tenant}/{id}/limit        {"amps": 16, "for_s": 900, "evse": 1}
    GET, POST, DELETE  …/{id}/release, /api/v1/tenants/{tenant}/release
    GET  …/{id}/tail, /api/v1/tenants/{tenant}/shadow-report
    GET, POST, DELETE  /api/v1/tenants/{tenant}/dead-letters   GET ?after=&limit=, POST (replay) and DELETE ?id=12 or ?id=all

The token was looked at before anything here is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from twisted.internet.defer import ensureDeferred
from twisted.web.server import Request

from broker.model.basics import Key
from broker.net.letters import MOST_PAGE, DeadLetters
from broker.net.operator import Operator
from broker.net.replies import Answer, error, later
from broker.net.tailing import Tails

MOST_BODY: Final = 4096  # the longest that makes sense has 60


class Actions:
    """Requests in, orders out."""

    def __init__(self, operator: Operator, tails: Tails, letters: DeadLetters) -> None:
        self._operator, self._tails, self._letters = operator, tails, letters

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

    def away(self, request: Request, key: Key, found: Mapping[str, Any]) -> Answer:
        """What is known of a station that is not connected, and what of ours stands there all the same."""
        left = ensureDeferred(self._operator.standing(key))
        return later(request, left.addCallback(lambda standing: {**found, "left": standing}))

    def of_tenant(self, request: Request, tenant: str, what: str) -> Answer:
        """`…/tenants/{tenant}/{what}`."""
        if what == "release":
            return self._release(request, tenant, None)
        if what == "dead-letters":
            return self._dead_letters(request, tenant)
        if what != "shadow-report":
            return error(request, 404, "not-found", "no such path")
        if request.method not in (b"GET", b"HEAD"):
            return _not_so(request, "GET")
        return later(request, ensureDeferred(self._operator.shadow_report(tenant)))

    def _dead_letters(self, request: Request, tenant: str) -> Answer:
        if request.method in (b"GET", b"HEAD"):
            after, limit = _number(request, b"after", "0"), _number(request, b"limit", "100")
            if after is None or limit is None or not 1 <= limit <= MOST_PAGE:
                return error(request, 400, "bad-page", f"after: must be a letter's id; limit: must be 1 to {MOST_PAGE}")
            return later(request, ensureDeferred(self._letters.listed(tenant, after, limit)))
        every, id = (request.args or {}).get(b"id") == [b"all"], _number(request, b"id", "")
        if id is None and not every:
            return error(request, 400, "bad-id", "id: must be a letter's id, or all")
        act = self._letters.replay if request.method == b"POST" else self._letters.drop
        return later(request, ensureDeferred(act(tenant, None if every else id)))

    def _release(self, request: Request, tenant: str, station: str | None) -> Answer:
        if request.method in (b"GET", b"HEAD"):
            return later(request, ensureDeferred(self._operator.left(tenant, station)))
        return later(request, ensureDeferred(self._operator.release(tenant, station, undo=request.method == b"DELETE")))


def _not_so(request: Request, methods: str) -> bytes:
    request.setHeader(b"allow", methods.encode())
    return error(request, 405, "method-not-allowed", f"only {methods} is answered here")


def _number(request: Request, name: bytes, default: str) -> int | None:
    """A whole number of the query; None for what is none."""
    said = bytes((request.args or {}).get(name, [default.encode()])[0])
    return int(said) if re.fullmatch(rb"\d{1,15}", said) else None


def _body(request: Request) -> Any:
    """The JSON that was sent; None for what is none, which no order is made of."""
    content: Any = request.content
    text = content.read(MOST_BODY + 1) if content is not None else b""
    try:
        return json.loads(text) if len(text) <= MOST_BODY else None
    except (ValueError, RecursionError):
        return None
