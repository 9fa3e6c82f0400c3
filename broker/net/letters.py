"""Dead letters: what the engine refused, to be looked at, told again, or thrown away.

    outbox ─ refused ─▶ dead ─ list ─▶ operator (ids, no id token) ─ replay ─▶ the end of that station's queue, with the same key
                                                                   └ drop ──▶ gone

`Lettered` is the file's part and runs in the store's thread, `DeadLetters` the reactor's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred

from broker.masking import engine_body
from broker.net.anchored import Anchored
from broker.net.commits import NotStored
from broker.net.damage import checksum
from broker.net.ledger import DAMAGED
from broker.net.replies import Refused
from broker.net.store import Store
from broker.ocpp.times import text
from broker.settings import Settings

MOST_PAGE: Final = 1000
AT_ONCE: Final = 500  # rows moved in one commit: no station's answer waits for more


class Letter(NamedTuple):
    """One row that the engine refused. `at`: when it was put aside, in seconds since 1970."""

    seq: int
    station: str
    kind: str
    key: str
    why: str
    at: float
    body: str


class Lettered(Anchored):
    """A ledger whose dead letters can be got at."""

    def letters(self, tenant: str, after: int, limit: int) -> tuple[int, list[Letter]]:
        """How many there are, and `limit` of those above `after`, the oldest first."""
        total = self._open.execute("SELECT count(*) FROM dead WHERE tenant = ?", (tenant,)).fetchone()[0]
        sql = "SELECT seq, station, kind, key, why, at, body FROM dead WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?"
        return total, [Letter(*row) for row in self._open.execute(sql, (tenant, after, limit))]

    def letter_counts(self) -> dict[str, int]:
        """Tenant → how many; only of those that have any."""
        return dict(self._open.execute("SELECT tenant, count(*) FROM dead GROUP BY tenant"))

    def last_letter(self, tenant: str) -> int:
        """The number of the newest; 0 if there is none."""
        return int(self._open.execute("SELECT coalesce(max(seq), 0) FROM dead WHERE tenant = ?", (tenant,)).fetchone()[0])

    def revive(self, tenant: str, first: int, last: int) -> tuple[int, int, int]:
        """The oldest of these go to the end of the queue, keys kept. Returns (looked at, waiting again, number of the last one).

        One whose key waits already is only taken out. What was damaged on the disk stays where it is: it is not what was meant.
        """
        sql = "SELECT seq, station, key, kind, body, why FROM dead WHERE tenant = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?"
        rows = self._open.execute(sql, (tenant, first, last, AT_ONCE)).fetchall()
        put = "INSERT INTO outbox (tenant, station, key, kind, body, at, crc) VALUES (?,?,?,?,?,?,?) ON CONFLICT (tenant, key) DO NOTHING"
        new = 0
        for seq, station, key, kind, body, why in rows:
            crc = checksum(key, kind, body)
            if why == DAMAGED or crc is None:
                continue
            added = self._open.execute(put, (tenant, station, key, kind, body, self._wall(), crc))
            if added.rowcount and added.lastrowid:
                new, self._last = new + 1, max(self._last, added.lastrowid)
            self._open.execute("DELETE FROM dead WHERE seq = ?", (seq,))
        self._change(tenant, new)
        return len(rows), new, rows[-1][0] if rows else last

    def throw_away(self, tenant: str, first: int, last: int) -> int:
        """How many there were of these."""
        return self._open.execute("DELETE FROM dead WHERE tenant = ? AND seq BETWEEN ? AND ?", (tenant, first, last)).rowcount


class DeadLetters:
    """For the admin side, the metric and the alarm. `settings`: whose tenants there are."""

    def __init__(self, store: Store, settings: Callable[[], Settings]) -> None:
        self._store, self._settings = store, settings
        self.counts: dict[str, int] = {}
        """Tenant → how many, as of the last look."""

    def look(self) -> Mapping[str, Mapping[str, str]]:
        """A watchman's Source; the answer is the last look's, and a new one is begun."""
        self._ask(lambda ledger: ledger.letter_counts()).addCallbacks(self._counted, lambda failure: None)
        said = "the engine refused {n}, so it does not know of them: `ocppbroker dead-letters {tenant}` says which and why"
        return {"dead-letters": {tenant: said.format(n=n, tenant=tenant) for tenant, n in self.counts.items()}}

    def _counted(self, counts: dict[str, int]) -> None:
        self.counts = counts

    async def listed(self, tenant: str, after: int, limit: int) -> dict[str, Any]:
        """One page, without id tokens. Raises Refused."""
        self._known(tenant)
        total, found = await self._asked(lambda ledger: ledger.letters(tenant, after, limit))
        return {"tenant": tenant, "total": total, "letters": [_plain(one) for one in found], "next": _next(found, limit)}

    async def replay(self, tenant: str, id: int | None) -> dict[str, Any]:
        """This one, or (None) all that there are now, are told again. Raises Refused."""
        first, last = await self._range(tenant, id)
        looked = again = 0
        while first <= last:
            seen, new, at = await self._asked(methodcaller("revive", tenant, first, last))
            if not seen:
                break
            looked, again, first = looked + seen, again + new, at + 1
            for tell in list(self._store.on_written):
                tell(tenant)
        return await self._done(tenant, id, looked, {"replayed": again})

    async def drop(self, tenant: str, id: int | None) -> dict[str, Any]:
        """This one, or all that there are now, are no more. Raises Refused."""
        first, last = await self._range(tenant, id)
        gone = await self._asked(lambda ledger: ledger.throw_away(tenant, first, last))
        return await self._done(tenant, id, gone, {"dropped": gone})

    async def _range(self, tenant: str, id: int | None) -> tuple[int, int]:
        """What dies again meanwhile gets a higher number: it is not told for ever."""
        self._known(tenant)
        return (id, id) if id is not None else (0, await self._asked(lambda ledger: ledger.last_letter(tenant)))

    async def _done(self, tenant: str, id: int | None, looked: int, said: dict[str, Any]) -> dict[str, Any]:
        if id is not None and not looked:
            raise Refused(404, "unknown-letter", f"there is no dead letter {id} of {tenant}: `ocppbroker dead-letters {tenant}` lists them")
        self._counted(await self._asked(lambda ledger: ledger.letter_counts()))
        return {"tenant": tenant, **said, "left": self.counts.get(tenant, 0)}

    def _known(self, tenant: str) -> None:
        if tenant not in self._settings().tenants:
            raise Refused(404, "unknown-tenant", f"there is no tenant {tenant}")

    def _ask(self, run: Callable[[Any], Any]) -> Deferred[Any]:
        return self._store.ask(run)

    async def _asked(self, run: Callable[[Any], Any]) -> Any:
        try:
            return await self._ask(run)
        except NotStored:
            raise Refused(503, "store", "the store refuses: see the broker's log") from None


def _plain(one: Letter) -> dict[str, Any]:
    """What is damaged may be of any type and no text at all."""
    station, kind, key, why, body = (
        str(part).encode("utf-8", "replace").decode() for part in (one.station, one.kind, one.key, one.why, one.body)
    )
    said = {"id": one.seq, "at": text(one.at), "station": station, "kind": kind, "key": key, "why": why}
    return {**said, "body": {"unreadable": len(body)} if why == DAMAGED else engine_body(body)}


def _next(found: list[Letter], limit: int) -> int | None:
    return found[-1].seq if len(found) == limit else None
