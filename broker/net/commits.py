"""Group commits: in comes what waited, out comes what became of it. Runs in the store's thread and may block.

A group is one transaction: all of it is on disk, or none. When the disk refuses, it is mended if it can be (a damaged file is
moved aside, a full disk gets our reserve back and gives up old measurements); else what only reads or makes room goes alone,
before what grows, so that a full disk drains by itself. Every ten seconds the disk is looked at, and what is too old goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from broker.net.damage import in_words, is_broken, is_full
from broker.net.ledger import Entry, Ledger
from broker.net.room import Disk, Room

LOOK_S = 10.0  # how often the disk is looked at: at 100 MB/s a disk fills by 1 GB between two looks


class NotStored(Exception):
    """This is not on disk. The text says why, in one line and without content."""


class Job(NamedTuple):
    """One thing to do within a group."""

    run: Callable[[Ledger], Any]
    done: Deferred[Any]
    """Only for the reactor's thread."""
    tenant: str | None = None
    """Whose outbox grows by it; None for what reads, or makes room."""
    size: int = 0
    entry: Entry | None = None
    """What it writes, where that is to be kept if the disk refuses it."""


class Settled(NamedTuple):
    """What became of a group."""

    results: list[tuple[Job, Any]]
    """Each job with its result, or with a `NotStored`."""
    pending: dict[str, tuple[int, float | None]]
    """Tenant → (rows, wall time of the oldest), for those that changed."""
    whole: bool
    """`pending` is all there is: the file was just opened."""
    took: bool
    """The disk took a write."""
    error: Exception | None
    """What the disk said if it refused anything."""
    moved: str | None
    """Where a damaged file is now."""
    disk: Disk | None = None
    """How it stands with the disk."""
    kept: int = 0
    """How much waits in memory for a disk that refused it."""
    lost: int = 0
    """How much of that was given up just now."""
    again: tuple[str, ...] = ()
    """Tenants of what was kept and is on disk now."""


NOTHING = Settled([], {}, False, False, None, None)


class Commits:
    """Commits groups to one ledger. `clock`: monotonic seconds."""

    def __init__(self, ledger: Ledger, room: Room, clock: Callable[[], float] = time.monotonic) -> None:
        self.ledger = ledger
        self.room = room
        self._clock = clock
        self._untold = False
        self._looked_at = float("-inf")

    def turn(self, jobs: list[Job], *, probe: bool) -> Settled:
        """One turn of the store's thread: what waits, or else (`probe`) whether the disk takes writes again. Never raises."""
        settled = self.group(jobs) if jobs or probe else NOTHING
        if self._clock() - self._looked_at >= LOOK_S:
            self._looked_at = self._clock()
            self.room.look()
            if settled.error is None:
                settled = settled._replace(pending={**settled.pending, **self._expired()})
        return settled._replace(disk=self.room.disk)

    def _expired(self) -> dict[str, tuple[int, float | None]]:
        """What is too old is gone. Trouble is for the next group to say."""
        try:
            self.ledger.begin()
            self.ledger.expire()
            self.ledger.commit()
            return self.ledger.touched()
        except Exception:
            with suppress(Exception):
                self.ledger.rollback()
            return {}

    def group(self, jobs: list[Job]) -> Settled:
        """Never raises. No jobs at all: find out whether the disk takes writes."""
        settled = self._mended(jobs)
        if self._untold:
            # Opened, on a disk that takes nothing: what the file holds can be read, told and so made less all the same.
            with suppress(Exception):
                settled = settled._replace(pending=self.ledger.all(), whole=True)
                self._untold = False
        return settled

    def _mended(self, jobs: list[Job]) -> Settled:
        moved: str | None = None
        for _ in range(4):  # as it is; with the reserve; with fewer rows; a damaged file may hide behind a full disk, or the reverse
            try:
                return self._together(jobs)._replace(moved=moved)
            except Exception as error:
                with suppress(Exception):
                    self.ledger.rollback()
                try:
                    mended, moved = self._mend(error, moved)
                except Exception:
                    break
                if not mended:
                    break
        return self._apart(jobs)._replace(moved=moved)

    def _together(self, jobs: list[Job]) -> Settled:
        ledger = self.ledger
        fresh = self._untold = ledger.open() or self._untold
        ledger.begin()
        results = [(job, job.run(ledger)) for job in jobs]
        if not jobs:
            ledger.probe()
        ledger.trim(self.room.short)
        ledger.commit()
        took = fresh or not jobs or any(job.tenant is not None for job in jobs)
        pending = ledger.all() if fresh else ledger.touched()
        self._untold = False
        return Settled(results, pending, fresh, took, None, None)

    def _mend(self, error: Exception, moved: str | None) -> tuple[bool, str | None]:
        if is_broken(error):
            return True, self.ledger.quarantine()
        if is_full(error):
            if not self.room.release():
                self.ledger.make_room()
            return True, moved
        return False, moved

    def _apart(self, jobs: list[Job]) -> Settled:
        """What reads or makes room goes alone, and then what grows: neither may be the other's ruin."""
        done = NOTHING
        for part in ([job for job in jobs if job.tenant is None], [job for job in jobs if job.tenant is not None]):
            if not part and jobs:
                continue
            settled = self._alone(part, deletes=bool(part) and part[0].tenant is None)
            done = Settled(
                done.results + settled.results,
                {**done.pending, **settled.pending},
                done.whole or settled.whole,
                settled.took,
                done.error or settled.error,
                None,
            )
        return done if done.error is not None else done._replace(took=True)

    def _alone(self, part: list[Job], *, deletes: bool) -> Settled:
        try:
            return self._together(part)
        except Exception as error:
            with suppress(Exception):
                self.ledger.rollback()
            if deletes and is_full(error) and self.room.release(last=True):
                with suppress(Exception):
                    self.ledger.fold()
                return self._alone(part, deletes=False)
            why = NotStored(one_line(error))
            return Settled([(job, why) for job in part], {}, False, False, error, None)


def one_line(error: Exception) -> str:
    # An error of a codec carries what it could not encode: its name says enough.
    text = "" if isinstance(error, ValueError) else f": {in_words(error)}"
    return f"{type(error).__name__}{text}".splitlines()[0]
