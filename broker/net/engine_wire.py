"""One request to an engine and its answer, and the token that goes with it: bounded in time and size, over a pool of its own.

In comes what to ask; out comes an `Answer`, or `Trouble` that says what kind of failure it was. Never in either, nor in a log:
the client's secret, the token, or a body (bodies name drivers).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple, cast

from OpenSSL.SSL import Error as TlsError
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, _HTTP11ClientFactory
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgent

from broker.counts import Counts
from broker.net.addressed import addressed

log = Logger()

CONNECT_S = 5.0
TOTAL_S = 10.0  # from asking to the answer's last byte; an engine that takes longer is told again, with the same key
MOST_ANSWER = 1024 * 1024  # 100 assets with 288 periods each are a third of it
POOLED = 16  # as many as requests may be in flight
IDLE_S = 4  # uvicorn, a likely server of an engine, closes an idle connection after 5 s: be first
MOST_RETRY_AFTER_S = 3600.0  # an engine that says "tomorrow" is asked again within the hour
TOKEN_S = 3600.0  # a token's life when the engine does not say
LOGIN_AGAIN_S = 10.0  # how soon a failed early renewal is tried again while the old token still serves


class Answer(NamedTuple):
    status: int
    body: bytes
    retry_after: float | None = None
    """Seconds from now, if the engine said so."""


class Trouble(Exception):
    """No usable answer. The text is one line for a log: no body, no secret."""

    def __init__(
        self,
        what: Literal["timeout", "network", "rubbish", "refused", "login", "stopped"],
        text: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(text)
        self.what = what
        """refused: an HTTP status that is no success; login: the engine does not know us."""
        self.status = status
        self.retry_after = retry_after


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds from `now` (since 1970) that a Retry-After header asks for (RFC 9110 10.2.3); None if it says nothing readable."""
    if value is None:
        return None
    try:
        seconds = float(value) if value.strip().isdecimal() else parsedate_to_datetime(value).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return min(MOST_RETRY_AFTER_S, max(0.0, seconds)) if math.isfinite(seconds) else None


class _Quiet(_HTTP11ClientFactory):
    """A connection made or dropped is no news for the log."""

    noisy = False


def own_pool(reactor: Any) -> HTTPConnectionPool:
    """Connections for one engine; treq's global pool keeps two idle ones per host."""
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = POOLED
    pool.cachedConnectionTimeout = IDLE_S
    pool._factory = _Quiet
    return pool


class _Body(Protocol):
    """Collects an answer's body and gives up when it is too long."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._parts: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > MOST_ANSWER:
            self._parts.clear()
            self._fail(Trouble("rubbish", f"the engine's answer is longer than {MOST_ANSWER} bytes"))
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)

    def _fail(self, error: Exception) -> None:
        if not self.whole.called:
            self.whole.errback(error)

    def _abort(self) -> None:
        abort = getattr(self.transport, "abortConnection", None)
        if abort is not None:
            abort()


class Wire:
    """Asks one engine."""

    def __init__(
        self, base: str, reactor: Any, *, pool: HTTPConnectionPool | None, counts: Counts, wall: Callable[[], float] = time.time
    ) -> None:
        self.reactor = reactor
        self._base = base.rstrip("/")
        self._pool = pool if pool is not None else own_pool(reactor)
        self._http = HTTPClient(cast(IAgent, Agent(reactor, connectTimeout=CONNECT_S, pool=self._pool)))
        self.counts = counts
        self._wall = wall
        self._asked: set[Deferred[Answer]] = set()
        self._stopped = False

    def ask(self, call: str, method: str, path: str, *, timeout: float = TOTAL_S, **more: Any) -> Deferred[Answer]:
        """One request, counted under `call`. Fails with `Trouble` when there is no whole answer within `timeout`."""
        asked = ensureDeferred(self._ask(call, method, path, more, timeout))
        asked.addTimeout(timeout, self.reactor)
        if not asked.called:
            self._asked.add(asked)
            asked.addBoth(self._settled, asked)
        return asked

    def _settled(self, result: Any, asked: Deferred[Answer]) -> Any:
        self._asked.discard(asked)
        return result

    async def _ask(self, call: str, method: str, path: str, more: Mapping[str, Any], timeout: float) -> Answer:
        begun = self.reactor.seconds()
        try:
            if self._stopped:
                raise Trouble("stopped", "the broker stops")
            # Never redirected: the token and what we tell are for this engine alone.
            response = await self._http.request(
                method, addressed(self._base + path), allow_redirects=False, unbuffered=True, reactor=self.reactor, **more
            )
            body = _Body()
            response.deliverBody(body)
            whole = await body.whole
        except Exception as error:
            trouble = self._trouble(error, self.reactor.seconds() - begun >= timeout - 0.001)
            self.counts.add("engine_requests", call, trouble.what)
            raise trouble from None
        self.counts.add("engine_requests", call, str(response.code))
        said = response.headers.getRawHeaders("retry-after", [None])[-1]
        return Answer(response.code, whole, retry_after(said, self._wall()))

    def _trouble(self, error: Exception, late: bool) -> Trouble:
        if isinstance(error, Trouble):
            return error
        if self._stopped:
            return Trouble("stopped", "the broker stops")
        if late:
            return Trouble("timeout", "the engine did not answer in time")
        # Twisted wraps what happened on the way in `reasons`; the innermost name says most.
        reasons = getattr(error, "reasons", None) or [Failure(error)]
        inner = reasons[0].value
        text = str(inner) if isinstance(inner, ConnectError | TlsError) else type(inner).__name__
        return Trouble("network", f"the engine cannot be reached: {text.rstrip('.')}")

    async def stop(self) -> None:
        """Give up what is asked, close the connections; within a second."""
        self._stopped = True
        for asked in list(self._asked):
            asked.cancel()
        closed = self._pool.closeCachedConnections()
        closed.addTimeout(1.0, self.reactor)
        try:
            await closed
        except Exception:
            log.debug("engine: idle connections did not close in time")


class Tokens:
    """The engine's bearer token: got when needed, renewed before it ends, one login for all who wait."""

    def __init__(self, wire: Wire, path: str, client_id: str, client_secret: str) -> None:
        self._wire = wire
        self._path = path
        self._account = (client_id, client_secret)
        self._token: str | None = None
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._waiters: list[Deferred[str]] = []
        self._busy = False

    async def get(self, refused: str | None = None) -> str:
        """A token to use, another one than `refused`. Raises `Trouble` ("login" when the engine does not know us)."""
        if refused is not None and refused == self._token:
            self._token = None
        now = self._wire.reactor.seconds()
        if self._token is not None and now < self._ends_at:
            if now >= self._renew_at:
                self._renew_at = now + LOGIN_AGAIN_S
                self._begin()
            return self._token
        waiter: Deferred[str] = Deferred(self._gone)
        self._waiters.append(waiter)
        self._begin()
        return await waiter

    def _gone(self, waiter: Deferred[str]) -> None:
        self._waiters = [one for one in self._waiters if one is not waiter]

    def _begin(self) -> None:
        if not self._busy:
            self._busy = True
            ensureDeferred(self._login()).addBoth(self._end)

    def _end(self, token: str | Failure) -> None:
        self._busy = False
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            # Each waiter its own exception: a shared one would gather everybody's traceback.
            if isinstance(token, Failure):
                waiter.errback(Failure(token.value, type(token.value)))
            else:
                waiter.callback(token)

    async def _login(self) -> str:
        # RFC 6749 4.4.2: client credentials in the Basic header, the grant in the form.
        answer = await self._wire.ask("login", "POST", self._path, auth=self._account, data={"grant_type": "client_credentials"})
        if answer.status in (400, 401, 403, 404):
            raise Trouble(
                "login", f"the engine refuses our login with {answer.status}: check client_id and client_secret", status=answer.status
            )
        if not 200 <= answer.status < 300:
            raise Trouble("refused", f"the engine's login answers {answer.status}", status=answer.status, retry_after=answer.retry_after)
        token, life = _token(answer.body)
        now = self._wire.reactor.seconds()
        self._token, self._renew_at, self._ends_at = token, now + 0.8 * life, now + life
        return token


def _token(body: bytes) -> tuple[str, float]:
    """(token, seconds it lives). Raises `Trouble`."""
    try:
        said = json.loads(body)
        token = said["access_token"]
        token.encode("ascii")
        if not token or not token.isprintable() or " " in token:
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Trouble("rubbish", "the engine's login answers without an access_token") from None
    try:
        life = float(said.get("expires_in", TOKEN_S))
    except (TypeError, ValueError):
        life = TOKEN_S
    return token, life if 0 < life < math.inf else TOKEN_S
