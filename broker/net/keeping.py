"""What of transactions a disk refused is kept in memory, in its order, and written before anything else once the disk takes writes again.

An answer does not wait for it and goes unpromised, as before; but what was learned is late, not lost, unless there is too much of it
or the broker ends first: then it is counted. Measurements are not kept: the next ones say it better. While something is kept nothing
new is written, for it would overtake; a station that comes meanwhile is told what is kept as well as what is on disk.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from itertools import islice
from typing import Any, Final

from twisted.internet.defer import Deferred

from broker.net.commits import Commits, Job, NotStored, Settled, one_line
from broker.net.ledger import Entry

MOST_ROWS: Final = 10_000  # rows and facts: an hour of 1,000 busy sockets
MOST_BYTES: Final = 8 * 1024 * 1024
MOST_AT_ONCE: Final = 500  # in one commit: no group waits for more
PASSING: Final = "measurement"


class KeptForNow(NotStored):
    """It is in memory: on disk later, if all goes well."""


class Kept:
    """Entries in their order; what would be too much is not taken, so that what is there has no gaps."""

    def __init__(self, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> None:
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._entries: deque[Entry] = deque()
        self._rows = self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> bool:
        """Without its measurements. False: nothing is left of it, or there is no room."""
        entry = entry._replace(records=tuple(record for record in entry.records if record[1] != PASSING))
        rows, size = len(entry.records) + len(entry.facts), entry.size()
        if not rows or self._rows + rows > self._most_rows or self._bytes + size > self._most_bytes:
            return False
        self._entries.append(entry)
        self._rows, self._bytes = self._rows + rows, self._bytes + size
        return True

    def first(self, n: int) -> list[Entry]:
        """The oldest."""
        return list(islice(self._entries, n))

    def pop(self, n: int) -> None:
        """The oldest are on disk, or given up."""
        for entry in [self._entries.popleft() for _ in range(n)]:
            self._rows -= len(entry.records) + len(entry.facts)
            self._bytes -= entry.size()

    def over(self, tenant: str, station: str, facts: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """What is known of a station, with what is not on disk yet."""
        known: dict[tuple[str, str], str | None] = {(topic, name): value for topic, name, value in facts}
        for entry in self._entries:
            if (entry.tenant, entry.station) == (tenant, station):
                known.update({(topic, name): value for topic, name, value in entry.facts})
        return sorted((topic, name, value) for (topic, name), value in known.items() if value is not None)


class Keeping(Commits):
    """Commits that forget nothing of a transaction while the disk refuses. As `Commits`, in the store's thread."""

    def __init__(self, *parts: Any, kept: Kept | None = None) -> None:
        super().__init__(*parts)
        self.kept = Kept() if kept is None else kept

    def facts(self, tenant: str, station: str) -> list[tuple[str, str, str]]:
        """As `Ledger.facts`."""
        found = self.ledger.facts(tenant, station)
        return self.kept.over(tenant, station, found) if self.kept else found

    def turn(self, jobs: list[Job], *, probe: bool) -> Settled:
        """As there; and says how much is kept."""
        return super().turn(jobs, probe=probe)._replace(kept=len(self.kept))

    def _mended(self, jobs: list[Job]) -> Settled:
        if not self.kept:
            return self._keep(super()._mended(jobs))
        settled = self._flushed()
        if settled.error is None:
            return _both(settled, self._keep(super()._mended(jobs)))
        reads, grows = [job for job in jobs if job.tenant is None], [job for job in jobs if job.tenant is not None]
        why = NotStored(one_line(settled.error))
        settled = _both(settled, self._alone(reads, deletes=True)) if reads else settled
        return self._keep(settled._replace(results=[*settled.results, *((job, why) for job in grows)]))

    def _flushed(self) -> Settled:
        """What is kept goes to disk, as far as that takes it; first it is asked with the smallest write there is."""
        settled = super()._mended([])
        while settled.error is None and self.kept:
            part = self.kept.first(MOST_AT_ONCE)
            done = super()._mended([_job(entry) for entry in part])
            if done.error is not None and not refused(done.error):  # one of them can never be stored: each for itself
                done = super()._mended([_job(part[0])])
                part = part[:1]
            if done.error is None or not refused(done.error):
                self.kept.pop(len(part))
                lost = 0 if done.error is None else 1
                done = done._replace(results=[], error=None, again=tuple({one.tenant for one in part}), lost=lost)
            settled = _both(settled, done._replace(results=[]))
        return settled

    def _keep(self, settled: Settled) -> Settled:
        """Of what the disk refused, what must not be lost."""
        if settled.error is None or not refused(settled.error):
            return settled
        results = [
            (
                job,
                KeptForNow(str(result)) if isinstance(result, NotStored) and job.entry is not None and self.kept.add(job.entry) else result,
            )
            for job, result in settled.results
        ]
        return settled._replace(results=results)


def refused(error: Exception) -> bool:
    """It was the disk, or the file, and not what was to be written."""
    return isinstance(error, OSError | sqlite3.OperationalError)


def _job(entry: Entry) -> Job:
    return Job(lambda ledger: ledger.add(entry), _NOBODY, entry.tenant)


def _both(first: Settled, then: Settled) -> Settled:
    """What became of two groups, one after the other."""
    return Settled(
        [*first.results, *then.results], {**first.pending, **then.pending}, first.whole or then.whole, then.took or first.took,
        then.error or first.error, first.moved or then.moved, then.disk, first.kept, first.lost + then.lost, (*first.again, *then.again),
    )  # fmt: skip


_NOBODY: Final[Deferred[Any]] = Deferred()
