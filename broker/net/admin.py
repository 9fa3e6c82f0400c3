"""The operator's HTTP side: is it up, is it ready, what is connected, what is known, what was counted.

`/healthz` and `/readyz` need no token, everything else needs `Authorization: Bearer <token>`. Answers are JSON (metrics are
Prometheus text); errors are `{"error": {"code": …, "message": …}}`. No secret and no id token is ever in an answer. This
module decides nothing: it asks `Views`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from broker.config import Mistakes
from broker.model.basics import Key
from broker.net import metrics
from broker.net.actions import Actions
from broker.net.admin_web import NAME, AdminSite
from broker.net.gate import WINDOW_S, Gate
from broker.net.replies import Answer, answer, error, later

log = Logger()

MAX_PAGE = 1000
WRITES = (b"GET", b"HEAD", b"POST", b"DELETE")


class Views(NamedTuple):
    """What the admin side may ask. Each returns plain data."""

    ready: Callable[[], str]
    """"" when ready, else one line that says what is missing."""
    status: Callable[[], Mapping[str, Any]]
    stations: Callable[[str, int, str, str], Mapping[str, Any]]
    """(after, limit, tenant, state) → {"stations": […], "next": … or None}."""
    station: Callable[[str, str], Mapping[str, Any] | None]
    metrics: Callable[[], bytes]
    reload: Callable[[], Deferred[Sequence[str]]] | None = None
    """Reads the configuration again; fires with what changed, fails with Mistakes. None: this broker has no file."""
    actions: Actions | None = None
    """What changes something; None: nothing can be changed here."""
    alarms: Callable[[], Sequence[Mapping[str, Any]]] = tuple
    test_alarms: Callable[[], Deferred[Mapping[str, str]]] | None = None
    """Sends a test to everybody who is told of alarms; fires with what became of each. Fails with Refused."""


def read_token(path: str) -> str:
    """The admin token in this file, made (mode 0600) if there is none. Raises OSError, and ValueError for an empty file."""
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read().strip()
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        token = secrets.token_urlsafe(32)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(token + "\n")
    if not token:
        raise ValueError(f"{path}: the admin token is empty: delete the file and start again, a new one is made")
    return token


class Leaf(Resource):
    """One path, GET only unless a subclass says otherwise, with or without a token."""

    isLeaf = True
    methods: tuple[bytes, ...] = (b"GET", b"HEAD")
    deeper = False
    """It reads further segments of the path; where none are read there is nothing below."""

    def __init__(self, get: Callable[[Request], Answer], gate: Gate | None) -> None:
        super().__init__()
        self._get = get
        self._gate = gate

    def render(self, request: Request) -> Answer:
        request.setHeader(b"server", NAME)
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        if request.method not in self.methods:
            request.setHeader(b"allow", b", ".join(self.methods))
            return error(request, 405, "method-not-allowed", f"only {self.methods[0].decode()} is answered here")
        address = str(getattr(request.getClientAddress(), "host", ""))
        verdict = "in" if self._gate is None else self._gate.judge(request.getHeader(b"authorization"), address)
        if verdict == "wait":
            request.setHeader(b"retry-after", str(round(WINDOW_S)).encode())
            return error(request, 429, "too-many-failures", "too many wrong tokens from your address: wait a minute, send the right one")
        if verdict == "out":
            request.setHeader(b"www-authenticate", b"Bearer")
            return error(request, 401, "unauthorized", "send the admin token as Authorization: Bearer …")
        if any(request.postpath or ()) and not self.deeper:
            return error(request, 404, "not-found", "no such path")
        return self._get(request)


class _Reload(Leaf):
    """`POST /api/v1/reload`: answered when the new settings are in force, or with every mistake and the old ones kept."""

    methods = (b"POST",)

    def __init__(self, views: Views, gate: Gate) -> None:
        super().__init__(self._reload, gate)
        self._views = views

    def _reload(self, request: Request) -> Answer:
        if self._views.reload is None:
            return error(request, 404, "not-found", "no such path")
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def mistaken(failure: Failure) -> bytes:
            wrong = failure.value
            if not isinstance(wrong, Mistakes):
                log.failure("admin: a reload failed: a mistake of ours", failure=failure)
                return error(request, 500, "mistake", "a mistake of ours: the broker's log says more")
            wrongs = {"code": "mistakes", "message": "the configuration has mistakes: the old one stays in force"}
            return answer(request, {"error": wrongs, "mistakes": list(wrong.lines)}, 422)

        def say(body: bytes) -> None:
            if not gone:
                request.write(body)
                request.finish()

        changed = self._views.reload().addCallback(lambda changes: answer(request, {"changes": list(changes)}))
        changed.addErrback(mistaken).addCallback(say)
        return NOT_DONE_YET


class _Alarms(Leaf):
    """`GET /api/v1/alarms`, `POST /api/v1/alarms/test`."""

    methods = (b"GET", b"HEAD", b"POST")
    deeper = True

    def __init__(self, views: Views, gate: Gate) -> None:
        super().__init__(self._either, gate)
        self._views = views

    def _either(self, request: Request) -> Answer:
        rest, posted = [part for part in request.postpath or [] if part], request.method == b"POST"
        if rest == [b"test"] and posted and self._views.test_alarms is not None:
            return later(request, self._views.test_alarms().addCallback(lambda told: {"told": told}))
        if rest:
            return error(request, 404, "not-found", "say GET /api/v1/alarms or POST /api/v1/alarms/test")
        if posted:
            return error(request, 405, "method-not-allowed", "only GET is answered here")
        return answer(request, {"alarms": list(self._views.alarms())})


class _Nothing(Resource):
    """Every path there is not."""

    isLeaf = True

    def render(self, request: Request) -> bytes:
        request.setHeader(b"server", NAME)
        return error(request, 404, "not-found", "no such path")


class _Stations(Leaf):
    """`/api/v1/stations`, `/api/v1/stations/{tenant}/{id}`, and what can be done to one."""

    methods = WRITES
    deeper = True

    def __init__(self, views: Views, gate: Gate) -> None:
        super().__init__(self._either, gate)
        self._views = views

    def _either(self, request: Request) -> Answer:
        rest = [unquote(part.decode("latin-1")) for part in request.postpath or [] if part]
        if len(rest) == 3 and self._views.actions is not None:
            return self._views.actions.of_station(request, Key(*rest[:2]), rest[2])
        if request.method not in (b"GET", b"HEAD"):
            return error(request, 405, "method-not-allowed", "only GET is answered here")
        if not rest:
            return self._page(request)
        if len(rest) != 2:
            return error(request, 404, "not-found", "say /api/v1/stations/<tenant>/<station id>")
        tenant, station = rest
        found = self._views.station(tenant, station)
        if found is None:
            return error(request, 404, "unknown-station", f"{tenant}/{station} is neither listed nor connected")
        if found.get("learned") is None and self._views.actions is not None:
            return self._views.actions.away(request, Key(tenant, station), found)
        return answer(request, found)

    def _page(self, request: Request) -> bytes:
        limit = _argument(request, b"limit") or "100"
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:6]) <= MAX_PAGE:
            return error(request, 400, "bad-limit", f"limit: must be a whole number from 1 to {MAX_PAGE}")
        state = _argument(request, b"state")
        if state not in ("", "connected", "away"):
            return error(request, 400, "bad-state", "state: must be connected or away")
        return answer(request, self._views.stations(_argument(request, b"after"), int(limit), _argument(request, b"tenant"), state))


def _argument(request: Request, name: bytes) -> str:
    return bytes((request.args or {}).get(name, [b""])[0]).decode("utf-8", "replace")


class _Tenants(Leaf):
    """`/api/v1/tenants/{tenant}/release` and `/shadow-report`."""

    methods = WRITES
    deeper = True

    def __init__(self, views: Views, gate: Gate) -> None:
        super().__init__(self._one, gate)
        self._views = views

    def _one(self, request: Request) -> Answer:
        rest = [unquote(part.decode("latin-1")) for part in request.postpath or [] if part]
        if len(rest) != 2 or self._views.actions is None:
            return error(request, 404, "not-found", "no such path")
        return self._views.actions.of_tenant(request, rest[0], rest[1])


class _Tree(Resource):
    """A folder of paths; unknown ones are 404 as JSON."""

    def __init__(self, children: Mapping[bytes, Resource]) -> None:
        super().__init__()
        for name, child in children.items():
            self.putChild(name, child)  # type: ignore[arg-type]  # mypy does not see zope's implementer

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Nothing()

    def render(self, request: Request) -> bytes:
        return _Nothing().render(request)


def _ready(views: Views) -> Callable[[Request], bytes]:
    def get(request: Request) -> bytes:
        missing = views.ready()
        return answer(request, {"ready": not missing, "missing": missing}, 503 if missing else 200)

    return get


def _metrics(views: Views) -> Callable[[Request], bytes]:
    def get(request: Request) -> bytes:
        request.setHeader(b"content-type", metrics.CONTENT_TYPE.encode())
        return views.metrics()

    return get


def tree(views: Views, token: str) -> Resource:
    """All paths of the admin side."""
    gate = Gate(token)
    status = Leaf(lambda request: answer(request, views.status()), gate)
    stations, tenants, reload = _Stations(views, gate), _Tenants(views, gate), _Reload(views, gate)
    v1 = _Tree({b"status": status, b"stations": stations, b"reload": reload, b"tenants": tenants, b"alarms": _Alarms(views, gate)})
    return _Tree(
        {
            b"healthz": Leaf(lambda request: answer(request, {"alive": True}), None),
            b"readyz": Leaf(_ready(views), None),
            b"metrics": Leaf(_metrics(views), gate),
            b"api": _Tree({b"v1": v1}),
        }
    )


def site(views: Views, token: str) -> AdminSite:
    """The admin side over HTTP."""
    return AdminSite(tree(views, token))
