"""One tenant's engine, told and asked: rows go from the store through the outbox to the engine, schedules come from it.

    store ─ rows ─▶ outbox ─ take ─▶ client ─ verdict ─▶ outbox ─ settled ─▶ store (done or dead)

It is woken by the store's commits and by the outbox's own clock; schedules are `broker.net.polls`' part of it. An engine that is
down, slow or talks rubbish shows in `status` and in one log line, nowhere else. What is in flight when it stops stays in the
store, and is told again with the same key.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from broker.counts import Counts
from broker.engine.v1 import V1
from broker.model.schedules import Schedule
from broker.net.engine_http import EngineClient
from broker.net.polls import Polls
from broker.net.store import Store
from broker.outbox import Outbox, Row, Verdict
from broker.settings import TenantSettings

log = Logger()

LOAD = 500  # rows read from the store at a time
BATCH = 100
GATHER_S = 0.1  # how long new rows are gathered before they are read and told: an engine plans in minutes
STORE_AGAIN_S = 1.0  # how soon a store that failed is asked again
BURIED_LOG_S = 60.0  # an engine that refuses all it is told must not fill the disk with lines: each row is in `dead-letters` anyway


class Uplink:
    """The life of one tenant's engine account."""

    def __init__(
        self,
        tenant: TenantSettings,
        store: Store,
        client: EngineClient,
        codec: V1,
        reactor: Any,
        *,
        deliver: Callable[[Schedule], None],
        counts: Counts,
        jitter: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._client = client
        client.count_in(counts)
        self._reactor = reactor
        self._wall = wall
        self._outbox = Outbox(jitter=jitter, in_flight=BATCH if client.batches else 16)
        self._cursor = 0
        self._more = True
        self._loading = False
        self._undone: list[int] = []
        self._timer: Any = None
        self._gathering: Any = None
        self._stopped = False
        self._under_way: set[Deferred[Any]] = set()
        self._reachable: bool | None = None
        self._why = ""
        self._success_at: float | None = None
        self._dead = self._unsaid = 0
        self._buried_at = float("-inf")
        self._polls = Polls(tenant, store, client, codec, reactor, deliver=deliver, reached=self._reached, jitter=jitter, wall=wall)

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begin telling what the store holds, and asking for each site that is planned."""
        self._store.on_written.append(self._written)
        self._pump()
        for poll in self._polls.start():
            self._follow(poll)

    async def _stop(self) -> None:
        for under_way in list(self._under_way):
            under_way.cancel()
        await self._client.stop()

    def stop(self) -> Deferred[None]:
        """Give up what is under way; fires within a second or so. The store keeps what was not settled."""
        if not self._stopped:
            self._stopped = self._polls.stopped = True
            if self._written in self._store.on_written:
                self._store.on_written.remove(self._written)
            if self._gathering is not None:
                self._gathering.cancel()
            self._sleep(None)
        return ensureDeferred(self._stop())

    def _follow(self, under_way: Deferred[Any]) -> None:
        """Nothing that is under way may end unseen."""
        self._under_way.add(under_way)

        def ended(result: Any) -> Any:
            self._under_way.discard(under_way)
            return result

        under_way.addBoth(ended)
        under_way.addErrback(lambda failure: log.failure("{tenant}: uplink: a mistake of ours", failure=failure, tenant=self._tenant.name))

    # ------------------------------------------------------------ what others ask

    def latest(self, asset: str) -> Schedule | None:
        """The engine's newest schedule for the asset, if it is still valid: for a station that comes (back)."""
        return self._polls.latest(asset)

    def heard(self, site: str | None) -> float | None:
        """Monotonic seconds of the last answer about a site's schedules."""
        return self._polls.heard.get(site or "")

    def status(self) -> dict[str, Any]:
        """How it stands with the engine, as plain data. Times are seconds since 1970."""
        rows, oldest = self._store.pending().get(self._tenant.name, (0, None))
        return {
            "reachable": self._reachable,
            "breaker": "open" if self._outbox.open else "closed",
            "last_success": self._success_at,
            "why": self._why,
            "pending": rows,
            "oldest": oldest,
            "dead_letters": self._dead,
            "sites": {site: dict(poll) for site, poll in self._polls.sites.items()},
        }

    # ------------------------------------------------------------ telling

    def _written(self, tenant: str) -> None:
        if tenant == self._tenant.name and self._gathering is None:
            self._gathering = self._reactor.callLater(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering, self._more = None, True
        self._pump()

    def _pump(self) -> None:
        """Load what there is room for, send what may be sent, and sleep until something may change."""
        if self._stopped:
            return
        self._load()
        rows = self._outbox.take(self._reactor.seconds())
        if self._client.batches:
            for first in range(0, len(rows), BATCH):
                self._tell_batch(rows[first : first + BATCH])
        else:
            for row in rows:
                self._follow(self._client.post(row).addCallback(self._told, row))
        now = self._reactor.seconds()
        self._sleep(self._outbox.wake_at(now), now)

    def _told(self, verdict: Verdict, row: Row) -> None:
        self._settle([row], [verdict])

    def _tell_batch(self, rows: list[Row]) -> None:
        self._follow(self._client.post_batch(rows).addCallback(lambda verdicts: self._settle(rows, verdicts)))

    def _sleep(self, wake_at: float | None, now: float = 0.0) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if wake_at is None else self._reactor.callLater(max(0.0, wake_at - now), self._pump)

    def _load(self) -> None:
        limit = min(LOAD, self._outbox.room)
        if self._loading or not self._more or limit == 0:
            return
        self._loading, self._more = True, False
        self._follow(
            self._store.rows(self._tenant.name, self._cursor, limit).addCallbacks(self._loaded, self._unloaded, callbackArgs=(limit,))
        )

    def _loaded(self, rows: list[Row], limit: int) -> None:
        self._loading = False
        self._more = self._more or len(rows) == limit
        if rows:
            self._cursor = rows[-1].seq
            self._outbox.load(rows)
        self._pump()

    def _unloaded(self, failure: Any) -> None:
        # The store has said why, and says when it is well again.
        self._loading, self._more = False, True
        if not self._stopped:
            self._follow(deferLater(self._reactor, STORE_AGAIN_S, self._pump).addErrback(lambda cancelled: None))

    def _settle(self, rows: list[Row], verdicts: list[Verdict]) -> None:
        if self._stopped:
            return
        done: list[int] = []
        for row, verdict in zip(rows, verdicts, strict=True):
            self._judge(verdict)
            settled = self._outbox.settle(row.seq, verdict, self._reactor.seconds())
            if settled.done:
                done.append(row.seq)
            elif settled.dead is not None:
                self._bury(row, settled.dead)
        self._done(done)
        # On the next turn: answers that came together are followed by one look at the outbox.
        self._sleep(0.0)

    def _done(self, seqs: list[int]) -> None:
        """The engine has them; those that the store could not forget before, too."""
        seqs, self._undone = seqs + self._undone, []
        if seqs and not self._stopped:
            self._store.done(seqs).addErrback(lambda failure: self._not_done(seqs))

    def _not_done(self, seqs: list[int]) -> None:
        self._undone += seqs
        if not self._stopped:
            self._follow(deferLater(self._reactor, STORE_AGAIN_S, self._done, []).addErrback(lambda cancelled: None))

    def _bury(self, row: Row, why: str) -> None:
        self._dead += 1
        now = self._reactor.seconds()
        if now - self._buried_at >= BURIED_LOG_S:
            others = f", as are {self._unsaid} others since it was last said" if self._unsaid else ""
            self._buried_at, self._unsaid = now, 0
            text = "{tenant}/{station}: the engine refuses a {kind}: {why}; it is kept as a dead letter{others}"
            log.error(text, tenant=self._tenant.name, station=row.station, kind=row.kind, why=why, others=others)
        else:
            self._unsaid += 1
        self._store.dead(row.seq, why).addErrback(lambda failure: None)  # it stays, and is tried again after a restart

    def _judge(self, verdict: Verdict) -> None:
        if verdict.kind in ("stored", "poison"):
            self._reached()
        else:
            self._missed(verdict.detail)

    def _reached(self) -> None:
        if self._reachable is False:
            log.info("{tenant}: the engine answers again", tenant=self._tenant.name)
        self._reachable, self._why, self._success_at = True, "", self._wall()

    def _missed(self, why: str) -> None:
        if self._reachable is not False:
            log.warn("{tenant}: {why}; what it should know waits in the store", tenant=self._tenant.name, why=why)
        self._reachable, self._why = False, why
