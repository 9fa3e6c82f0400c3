"""The HTTP side of the simulated engine: the paths of docs/engine-api.yaml, tokens, the long poll, and answers that go wrong on
purpose. It decides nothing about charging.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

if TYPE_CHECKING:
    from broker.sim.engine import SimEngine

POSTS = {"measurements": "measurement", "transactions": "transaction", "identifications": "identification", "outcomes": "outcome"}
MOST_BATCH = 1000
MOST_WAIT_S = 60.0


class Answer(NamedTuple):
    status: int
    body: Any


class Waiter(NamedTuple):
    """A long poll that has nothing to say yet."""

    site: str
    after: str
    request: Any
    timer: Any


def _wrong(status: int, where: str) -> Answer:
    return Answer(status, {"detail": [{"loc": where.split("."), "msg": "is missing or not valid", "type": "value_error"}]})


class Api(Resource):
    """Every path; `render` is the only way in."""

    isLeaf = True

    def __init__(self, engine: SimEngine) -> None:
        super().__init__()
        self.tokens: dict[str, float] = {}
        """Token → when it ends, on the engine's timer clock."""
        self.logins = 0
        self._engine = engine
        self._waiters: list[Waiter] = []
        engine.on_schedules.append(self._news)

    def close(self) -> None:
        """Answer who still waits."""
        for waiter in list(self._waiters):
            self._say(waiter)

    def render(self, request: Any) -> int:
        engine = self._engine
        if engine.faults.down:
            _drop(request)
            return NOT_DONE_YET
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def now() -> None:
            if not gone:
                self._render(request)

        if engine.faults.delay_s:
            engine.clock.callLater(engine.faults.delay_s, now)
        else:
            now()
        return NOT_DONE_YET

    def _render(self, request: Any) -> None:
        path = [part.decode("utf-8", "replace") for part in request.postpath if part]
        if request.method == b"POST" and path == ["v1", "identity", "client-login"]:
            _finish(request, self._login(request))
            return
        faults = self._engine.faults
        if faults.status:
            _finish(request, _wrong(faults.status, "fault"), faults.retry_after)
        elif faults.rubbish:
            _finish(request, Answer(200, faults.rubbish))
        elif not self._knows(request):
            _finish(request, _wrong(401, "header.Authorization"))
        elif request.method == b"GET" and len(path) == 4 and path[:2] == ["v1", "sites"] and path[3] == "schedules":
            self._poll(request, path[2])
        else:
            self._route(request, path)

    def _route(self, request: Any, path: list[str]) -> None:
        posts: dict[tuple[str, ...], Callable[[Request], Answer]] = {("v1", name): self._post for name in POSTS}
        posts["v1", "batch"] = self._batch
        if request.method == b"POST" and tuple(path) in posts:
            answer = posts[tuple(path)](request)
            if self._engine.faults.lose_answers > 0:
                self._engine.faults.lose_answers -= 1
                _drop(request)
                return
        elif request.method == b"GET" and len(path) == 3 and path[:2] == ["v1", "sites"]:
            site = self._engine.site(path[2])
            answer = Answer(200, site) if site else _wrong(404, "path.site_id")
        else:
            answer = _wrong(404, "path")
        _finish(request, answer)

    # ------------------------------------------------------------ who asks

    def _login(self, request: Any) -> Answer:
        engine = self._engine
        self.logins += 1
        if engine.faults.login_status:
            return _wrong(engine.faults.login_status, "fault")
        given = (request.getHeader("authorization") or "").partition(" ")
        try:
            user, _, password = base64.b64decode(given[2], validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return _wrong(401, "header.Authorization")
        known = zip((user, password), engine.credentials, strict=True)
        if given[0].lower() != "basic" or not all(hmac.compare_digest(a.encode(), b.encode()) for a, b in known):
            return _wrong(401, "header.Authorization")
        if parse_qs(request.content.read()).get(b"grant_type") != [b"client_credentials"]:
            return _wrong(422, "body.grant_type")
        token = f"sim-{self.logins}"
        self.tokens[token] = engine.clock.seconds() + engine.expires_in
        return Answer(200, {"access_token": token, "type": "bearer", "expires_in": engine.expires_in})

    def _knows(self, request: Any) -> bool:
        scheme, _, token = (request.getHeader("authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and self.tokens.get(token, 0.0) > self._engine.clock.seconds()

    # ------------------------------------------------------------ what they tell

    def _post(self, request: Any) -> Answer:
        try:
            body = json.loads(request.content.read())
        except ValueError:
            return _wrong(422, "body")
        key = request.getHeader("idempotency-key") or ""
        status, wrong = self._engine.accept(POSTS[request.postpath[-1].decode()], key, body)
        return _wrong(status, wrong) if wrong else Answer(status, {"received": True})

    def _batch(self, request: Any) -> Answer:
        try:
            items = json.loads(request.content.read())
            if not isinstance(items, list) or len(items) > MOST_BATCH:
                return _wrong(422, "body")
            said = [(item["key"], *self._engine.accept(item["kind"], item["key"], item["body"])) for item in items]
        except (ValueError, KeyError, TypeError):
            return _wrong(422, "body")
        return Answer(200, [{"key": key, "status": status, **({"detail": wrong} if wrong else {})} for key, status, wrong in said])

    # ------------------------------------------------------------ what they wait for

    def _poll(self, request: Any, site: str) -> None:
        if site not in self._engine.sites:
            _finish(request, _wrong(404, "path.site_id"))
            return
        after = (request.args.get(b"after") or [b""])[0].decode("utf-8", "replace")
        wait = (request.args.get(b"wait") or [b"0"])[0]
        if not wait.isdigit() or int(wait) > MOST_WAIT_S:
            _finish(request, _wrong(422, "query.wait"))
            return
        news = self._engine.schedules(site, after)
        if news["schedules"] or not int(wait):
            _finish(request, Answer(200, news))
            return
        waiter: Waiter = Waiter(site, after, request, self._engine.clock.callLater(int(wait), lambda: self._say(waiter)))
        self._waiters.append(waiter)
        request.notifyFinish().addErrback(lambda gone: self._forget(waiter))

    def _news(self, site: str) -> None:
        for waiter in [one for one in self._waiters if one.site == site]:
            if self._engine.schedules(site, waiter.after)["schedules"]:
                self._say(waiter)

    def _say(self, waiter: Waiter) -> None:
        self._forget(waiter)
        _finish(waiter.request, Answer(200, self._engine.schedules(waiter.site, waiter.after)))

    def _forget(self, waiter: Waiter) -> None:
        self._waiters = [one for one in self._waiters if one is not waiter]
        if waiter.timer.active():
            waiter.timer.cancel()


def _drop(request: Any) -> None:
    if request.channel is not None and request.channel.transport is not None:
        request.channel.forceAbortClient()


def _finish(request: Any, answer: Answer, retry_after: str | None = None) -> None:
    request.setResponseCode(answer.status)
    request.setHeader(b"content-type", b"application/json")
    if retry_after is not None:
        request.setHeader(b"retry-after", retry_after.encode())
    request.write(answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode())
    request.finish()
