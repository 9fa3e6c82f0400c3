"""The engine over HTTP: rows of the outbox go out and come back as verdicts; schedules are asked for by long poll.

Which words the engine's API uses is `broker.engine`'s business, when to try again is `broker.outbox`'s; here is only what an
answer means: stored, wrong for good, not now, or not for us.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.web.client import HTTPConnectionPool

from broker.counts import Counts
from broker.engine.v1 import V1
from broker.net.engine_wire import TOTAL_S, Answer, Tokens, Trouble, Wire
from broker.outbox import Row, Verdict
from broker.settings import EngineSettings

__all__ = ["EngineClient", "Trouble"]

log = Logger()

POLL_SLACK_S = 10.0  # how much later than `wait` a long poll's answer may come
MOST_DETAIL = 200


class EngineClient:
    """One tenant's engine."""

    def __init__(
        self,
        settings: EngineSettings,
        codec: V1,
        reactor: Any,
        *,
        pool: HTTPConnectionPool | None = None,
        counts: Counts | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.batches = settings.batch
        """Does this engine take many rows in one request?"""
        self._codec = codec
        self._wire = Wire(settings.url, reactor, pool=pool, counts=counts if counts is not None else Counts(), wall=wall)
        self._tokens = Tokens(self._wire, codec.path("login"), settings.client_id, settings.client_secret)

    def count_in(self, counts: Counts) -> None:
        """From now on requests are counted there, as `engine_requests` by call and status."""
        self._wire.counts = counts

    # ------------------------------------------------------------ telling

    def post(self, row: Row) -> Deferred[Verdict]:
        """Tell one row. Never fails."""
        return ensureDeferred(self._post(row))

    async def _post(self, row: Row) -> Verdict:
        try:
            path = self._codec.path(row.kind)
            headers = {"Content-Type": "application/json", "Idempotency-Key": row.key}
            return verdict(await self._ask(row.kind, "POST", path, headers=headers, data=row.body.encode()))
        except Exception as error:
            return _of_trouble(error)

    def post_batch(self, rows: Sequence[Row]) -> Deferred[list[Verdict]]:
        """Tell many rows in one request, in this order; a verdict for each. Never fails."""
        return ensureDeferred(self._post_batch(rows))

    async def _post_batch(self, rows: Sequence[Row]) -> list[Verdict]:
        try:
            # The bodies are JSON already: joined, not read and written again.
            items = (f'{{"key":{json.dumps(row.key)},"kind":"{row.kind}","body":{row.body}}}' for row in rows)
            body = f"[{','.join(items)}]".encode()
            answer = await self._ask("batch", "POST", self._codec.path("batch"), headers={"Content-Type": "application/json"}, data=body)
            whole = verdict(answer)
            if whole.kind == "stored" and answer.status != 409:
                return _each(rows, _json(answer))
            if whole.kind == "poison":
                # One bad row must not condemn the others, and a batch tells nothing about each.
                return [await self._post(row) for row in rows]
        except Exception as error:
            whole = _of_trouble(error)
        return [whole] * len(rows)

    # ------------------------------------------------------------ asking

    def schedules(self, site: str, after: str | None, wait: int) -> Deferred[Any]:
        """The decoded answer of a long poll of at most `wait` seconds for what is newer than `after`. Fails with `Trouble`."""
        params = {"wait": str(wait), **({} if after is None else {"after": after})}
        return ensureDeferred(self._get("schedules", self._codec.path("schedules", site), params, wait + POLL_SLACK_S))

    def login(self) -> Deferred[Any]:
        """Get a token, if there is none. Fails with `Trouble`."""
        return ensureDeferred(self._tokens.get())

    def site(self, site: str) -> Deferred[Any]:
        """The engine's view of a site, decoded. Fails with `Trouble`."""
        return ensureDeferred(self._get("site", self._codec.path("site", site), {}, TOTAL_S))

    def stop(self) -> Deferred[None]:
        """Give up what is under way; fires within a second or so. Asked afterwards, everything fails at once."""
        return ensureDeferred(self._wire.stop())

    async def _get(self, call: str, path: str, params: Mapping[str, str], timeout: float) -> Any:
        answer = await self._ask(call, "GET", path, timeout=timeout, params=params)
        if not 200 <= answer.status < 300:
            what = "login" if answer.status == 401 else "refused"
            raise Trouble(what, f"the engine answers {answer.status} to {call}", status=answer.status, retry_after=answer.retry_after)  # type: ignore[arg-type]
        return _json(answer)

    async def _ask(self, call: str, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
        """With a token; once more with a new one if the engine does not take it."""
        token = await self._tokens.get()
        for last in (False, True):
            bearer = {**(headers or {}), "Authorization": f"Bearer {token}"}
            answer = await self._wire.ask(call, method, path, headers=bearer, **more)
            if answer.status != 401 or last:
                break
            token = await self._tokens.get(refused=token)
        return answer


def verdict(answer: Answer) -> Verdict:
    """What an answer to a post means. 409: the key is known, so it is stored. 400 and 422: unchanged it will never be taken."""
    status = answer.status
    if 200 <= status < 300 or status == 409:
        return Verdict("stored", status)
    if status == 401:
        return Verdict("unauthorised", status, answer.retry_after, "the engine does not take our token")
    if status in (408, 425, 429) or not 400 <= status < 500:
        return Verdict("retry", status, answer.retry_after, f"the engine answers {status}")
    return Verdict("poison", status, None, _detail(answer))


def _of_trouble(error: Exception) -> Verdict:
    if isinstance(error, Trouble):
        kind = "unauthorised" if error.what == "login" else "retry"
        return Verdict(kind, error.status, error.retry_after, str(error))  # type: ignore[arg-type]
    # A mistake of ours must not stop the queue for good: it is said, and tried again with a back-off.
    log.failure("engine: a request failed before it was sent: a mistake of ours")
    return Verdict("retry", 0, None, type(error).__name__)


def _each(rows: Sequence[Row], said: Any) -> list[Verdict]:
    """A batch's answer, row by row; a row the engine does not mention is told again."""
    if not isinstance(said, list):
        raise Trouble("rubbish", "the engine's answer to a batch is not a list")
    statuses = {
        one["key"]: one["status"]
        for one in said
        if isinstance(one, dict) and type(one.get("status")) is int and isinstance(one.get("key"), str)
    }
    missing = Verdict("retry", 0, None, "the engine did not mention it in its answer to a batch")
    return [verdict(Answer(statuses[row.key], b"")) if row.key in statuses else missing for row in rows]


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise Trouble("rubbish", "the engine's answer is not JSON", status=answer.status) from None


def _detail(answer: Answer) -> str:
    """Which fields the engine complains about ({"detail": [{"loc": …, "type": …}]}); never their content, which may name a driver."""
    try:
        said = json.loads(answer.body)["detail"]
        parts = [f"{'.'.join(map(str, one['loc']))}: {one.get('type', 'wrong')}" for one in said]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        parts = []
    text = "; ".join(parts)[:MOST_DETAIL]
    return "".join(c if c.isprintable() else "?" for c in text)
