"""The SQLite file behind `broker.net.store`: its statements, and what to do when the file itself is broken.

In come rows the engine has yet to be told and facts a restart must know; out they come again, in the order they came in. All
of this runs in the store's own thread and may block. One process owns a file (exclusive locking): two brokers on one state
would tell an engine everything twice. What is deleted is overwritten, for there are id tokens in it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from broker.net.damage import Broken, checksum, move_aside, sealed, sound
from broker.net.tables import PRAGMAS, SCHEMA, TABLES
from broker.outbox import Row

DAMAGED = "damaged on disk"  # why a row is dead whose checksum does not match
MOST_DEAD = 10_000  # dead letters kept, newest first: enough to see what an engine refuses, not a second outbox
SPARE_BYTES = 4 * 1024 * 1024  # what is kept free within the file for transactions while the disk is short
SPARE_SHARE = 0.1  # of a small file, no more than this
STALE_S = 7 * 86400.0  # older measurements tell an engine nothing that it can still plan with
KEPT_S = 30 * 86400.0  # anything else is told even after an engine was away this long, however much of it there is
KNOWN_TIME = 1_577_836_800.0  # 2020: a row stamped earlier was written by a box that did not know the time, so its age is unknown
MOST_EXPIRED = 1000  # at a time: no group waits for more
MOST_NAMED = 500  # numbers in one statement; SQLite before 3.32 takes 999
MOST_YIELDING = 100  # at a time: no more than is needed


class Entry(NamedTuple):
    """What one observation leaves behind, already as text."""

    tenant: str
    station: str
    records: tuple[tuple[str, str, str], ...]  # (key, kind, body as JSON)
    facts: tuple[tuple[str, str, str | None], ...]
    """(topic, name, value as JSON; None forgets)"""

    def size(self) -> int:
        """Its weight in bytes, near enough for a bound."""
        texts = [text for part in (*self.records, *self.facts) for text in part if text]
        return 64 + sum(map(len, texts))


class Ledger:
    """One open file. Raises sqlite3.Error and OSError as they come, `Broken` for damage it finds itself."""

    rescued = 0  # how often the file was gone from its place, and was written there again: see anchored.py

    def __init__(self, path: str, most_rows: int, wall: Callable[[], float] = time.time) -> None:
        self.path = path
        self.dropped = 0
        """Rows given up since the start: too many, too old, or in the way of transactions on a disk that is short."""
        self._most_rows = most_rows
        self._wall = wall
        self._db: sqlite3.Connection | None = None
        self._last = 0
        self._rows: dict[str, int] = {}
        self._changes: dict[str, int] = {}

    # ------------------------------------------------------------ the file

    def open(self) -> bool:
        """Open it if it is not; make folder (0700), file (0600) and tables if there are none. True if it was opened just now."""
        if self._db is not None:
            return False
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), mode=0o700, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        # No waiting for locks: only a second process could hold one, and it would hold it for good.
        db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        # Damaged text must fail its row's checksum, not the query for all rows (whose error would quote it).
        db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            self._prepare(db)
        except Exception:
            db.close()
            raise
        self._db = db
        return True

    def _prepare(self, db: sqlite3.Connection) -> None:
        for pragma in PRAGMAS:
            db.execute(f"PRAGMA {pragma}").fetchall()
        db.executescript(f"BEGIN IMMEDIATE; {TABLES} INSERT OR IGNORE INTO meta VALUES ('schema', '{SCHEMA}'); COMMIT;")
        found = db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()[0]
        if found != str(SCHEMA):
            raise OSError(f"{self.path}: was written by another version of the broker (schema {found}, ours is {SCHEMA})")
        self._rows = dict(db.execute("SELECT tenant, count(*) FROM outbox GROUP BY tenant"))
        # A fresh file goes on counting where the damaged one was: readers have cursors.
        if self._last and not db.execute("SELECT 1 FROM sqlite_sequence").fetchone():
            db.execute("INSERT INTO sqlite_sequence VALUES ('outbox', ?)", (self._last,))

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        db = self._db
        if db is not None:
            try:
                self.fold()
            finally:
                self._db = None
                db.close()

    def check(self) -> None:
        """Read the whole file once. Raises `Broken`."""
        said = self._open.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            raise Broken(said)

    def quarantine(self) -> str:
        """Move the damaged file aside, with its log; the next `open` makes a fresh one. Returns where it is now."""
        db, self._db = self._db, None
        self._rows, self._changes = {}, {}
        if db is not None:
            db.close()
        return move_aside(self.path, self._wall())

    @property
    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            raise OSError(f"{self.path}: is not open")
        return self._db

    # ------------------------------------------------------------ one group

    def begin(self) -> None:
        self._changes = {}
        self._open.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Everything since `begin` is on disk when this returns."""
        self._open.execute("COMMIT")
        for tenant, change in self._changes.items():
            self._rows[tenant] = self._rows.get(tenant, 0) + change

    def rollback(self) -> None:
        if self._db is not None and self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def touched(self) -> dict[str, tuple[int, float | None]]:
        """Tenants whose outbox the last group changed → (rows, wall time of the oldest)."""
        oldest = "SELECT at FROM outbox WHERE tenant = ? ORDER BY seq LIMIT 1"
        return {t: (self._rows[t], (self._open.execute(oldest, (t,)).fetchone() or (None,))[0]) for t in self._changes}

    def all(self) -> dict[str, tuple[int, float | None]]:
        """The same for every tenant there is."""
        self._changes = dict.fromkeys(self._rows, 0)
        return self.touched()

    # ------------------------------------------------------------ what a group holds

    def add(self, entry: Entry) -> int:
        """Append records, note facts. Returns how many records are new."""
        db, at, new = self._open, self._wall(), 0
        for key, kind, body in entry.records:
            row = (entry.tenant, entry.station, key, kind, body, at, checksum(key, kind, body))
            sql = (
                "INSERT INTO outbox (tenant, station, key, kind, body, at, crc) VALUES (?,?,?,?,?,?,?) ON CONFLICT (tenant, key) DO NOTHING"
            )
            added = db.execute(sql, row)
            if added.rowcount and added.lastrowid:
                new, self._last = new + 1, max(self._last, added.lastrowid)
        for topic, name, value in entry.facts:
            place = (entry.tenant, entry.station, topic, name)
            if value is None:
                db.execute("DELETE FROM facts WHERE tenant = ? AND station = ? AND topic = ? AND name = ?", place)
            else:
                db.execute("INSERT OR REPLACE INTO facts VALUES (?,?,?,?,?)", (*place, sealed(topic, name, value)))
        self._change(entry.tenant, new)
        return new

    def facts(self, tenant: str, station: str) -> list[tuple[str, str, str]]:
        """(topic, name, value as JSON) of one station. What does not match its checksum is not known any more."""
        sql = "SELECT topic, name, value FROM facts WHERE tenant = ? AND station = ? ORDER BY topic, name"
        found = self._open.execute(sql, (tenant, station)).fetchall()
        return [(topic, name, value) for topic, name, text in found if (value := sound(topic, name, text)) is not None]

    def about(self, tenant: str, topic: str) -> list[tuple[str, str, str]]:
        """(station, name, value as JSON) of every sound fact of this topic, of all the tenant's stations."""
        sql = "SELECT station, name, value FROM facts INDEXED BY facts_topic WHERE tenant = ? AND topic = ? ORDER BY station, name"
        found = self._open.execute(sql, (tenant, topic)).fetchall()
        return [(station, name, value) for station, name, text in found if (value := sound(topic, name, text)) is not None]

    def rows(self, tenant: str, after: int, limit: int) -> list[Row]:
        """Rows in order; one that does not match its checksum becomes a dead letter instead."""
        sql = "SELECT seq, station, key, kind, body, crc FROM outbox WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?"
        good: list[Row] = []
        while (wanted := limit - len(good)) > 0:
            found = self._open.execute(sql, (tenant, after, wanted)).fetchall()
            for *parts, crc in found:
                row = Row(*parts)
                after, self._last = row.seq, max(self._last, row.seq)
                if crc == checksum(row.key, row.kind, row.body):
                    good.append(row)
                else:
                    self.dead(row.seq, DAMAGED)
            if len(found) < wanted:
                break
        return good

    def done(self, seqs: Sequence[int]) -> None:
        """One statement for many: each lets go of the interpreter, and has to wait for it again."""
        for first in range(0, len(seqs), MOST_NAMED):
            named = seqs[first : first + MOST_NAMED]
            self._remove(f"seq IN ({','.join('?' * len(named))})", named)

    def dead(self, seq: int, why: str) -> None:
        """Out of the queue, kept to be looked at."""
        sql = "INSERT OR REPLACE INTO dead SELECT seq, tenant, station, key, kind, body, ?, ? FROM outbox WHERE seq = ?"
        self._open.execute(sql, (why, self._wall(), seq))
        self._remove("seq = ?", (seq,))
        self._open.execute("DELETE FROM dead WHERE seq <= (SELECT seq FROM dead ORDER BY seq DESC LIMIT 1 OFFSET ?)", (MOST_DEAD,))

    def trim(self, short: bool = False) -> None:
        """Too many rows: the oldest measurements of the tenant with the most rows go, then what is older than `KEPT_S`.

        `short`: the disk is filling up: measurements may not grow, and leave the file some room for transactions.
        """
        rows = {t: self._rows.get(t, 0) + self._changes.get(t, 0) for t in {*self._rows, *self._changes}}
        if not rows:
            return
        fullest = max(rows, key=rows.__getitem__)
        excess = sum(rows.values()) - self._most_rows
        if excess > 0 and (left := excess - self.drop_measurements(fullest, excess)) > 0:
            self._give_up("AND kind != 'measurement'", fullest, KEPT_S, left)
        if short and not self._spare():
            grown = sum(change for change in self._changes.values() if change > 0)
            self.drop_measurements(fullest, max(grown, MOST_YIELDING))

    def _spare(self) -> bool:
        free, pages, size = (self._open.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count", "page_size"))
        return bool(free >= min(SPARE_BYTES / size, pages * SPARE_SHARE))

    def expire(self) -> None:
        """Measurements too old to be of use go, some at a time."""
        for tenant in list(self._rows):
            self._give_up("AND kind = 'measurement'", tenant, STALE_S, MOST_EXPIRED)

    def _give_up(self, which: str, tenant: str, age_s: float, n: int) -> None:
        # Only the oldest are looked at, so that nothing is searched for in a million rows.
        oldest = f"SELECT seq, at FROM outbox WHERE tenant = ? {which} ORDER BY seq LIMIT ?"
        aged = f"seq IN (SELECT seq FROM ({oldest}) WHERE at BETWEEN {KNOWN_TIME} AND ?)"
        self.dropped += self._remove(aged, (tenant, n, self._wall() - age_s))

    def drop_measurements(self, tenant: str, n: int) -> int:
        """The tenant's oldest go. Returns how many there were."""
        oldest = "SELECT seq FROM outbox WHERE tenant = ? AND kind = 'measurement' ORDER BY seq LIMIT ?"
        gone = self._remove(f"seq IN ({oldest})", (tenant, n)) if n > 0 else 0
        self.dropped += gone
        return gone

    def make_room(self, n: int = 1000) -> None:
        """The disk is full: let the log begin anew, and give up the oldest measurements."""
        with suppress(sqlite3.Error):
            self.fold()
        if self._rows:
            self.begin()
            self.drop_measurements(max(self._rows, key=self._rows.__getitem__), n)
            self.commit()
        self.fold()

    def fold(self) -> None:
        """Fold the write-ahead log into the file: what it took of the disk is free again."""
        self._open.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def probe(self) -> None:
        """The smallest write there is: does the disk take writes again?"""
        self._open.execute("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", (str(self._wall()),))

    def _remove(self, where: str, values: Sequence[object]) -> int:
        # Not DELETE … RETURNING: long-lived systems still carry a SQLite from before it (3.35).
        gone = dict(self._open.execute(f"SELECT tenant, count(*) FROM outbox WHERE {where} GROUP BY tenant", values))
        self._open.execute(f"DELETE FROM outbox WHERE {where}", values)
        for tenant, n in gone.items():
            self._change(tenant, -n)
        return sum(gone.values())

    def _change(self, tenant: str, n: int) -> None:
        self._changes[tenant] = self._changes.get(tenant, 0) + n
