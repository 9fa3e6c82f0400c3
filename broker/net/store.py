"""What must survive a `kill -9`: the outbox (what engines have yet to be told) and the facts a restart must know.

In come writes from the reactor, each answered by a Deferred that fires once the write is on disk. They queue up for one thread,
which takes everything that waits, in order, into one transaction and one flush (group commit), and reports back to the reactor.
What somebody waits for is handed over at once if the thread rests, else at the end of the reactor's turn; the rest is gathered a
little longer: each time the thread wakes it takes the interpreter from the reactor. The reactor never waits for a disk; a disk that
is full, broken or slow fails or delays these Deferreds and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from broker.counts import Counts
from broker.model.basics import Key
from broker.model.records import Fact, Record
from broker.net.commits import LOOK_S, Job, NotStored, Settled
from broker.net.damage import in_words
from broker.net.entries import about, entry, known
from broker.net.keeping import Keeping, KeptForNow
from broker.net.ledger import Entry, Ledger
from broker.net.room import THEN, Disk, Room
from broker.outbox import Row

__all__ = ["NotStored", "Store"]

log = Logger()

MOST_ROWS = 1_000_000  # some 600 MB: 1,000 sockets' measurements of 16 hours, or years of transactions
MOST_WAITING = 10_000  # writes not yet on disk: even at 50 ms a flush a disk is never this far behind
MOST_WAITING_BYTES = 32 * 1024 * 1024
MOST_IN_GROUP = 2_000  # so that the first of a flood is not kept waiting by the last
GATHER_S = 0.02  # what nobody waits for may come this much later to disk, together with what else comes meanwhile
PROBE_S = 1.0  # how soon a disk that refused is asked again
SILENT_S = 30.0  # a disk that answers nothing for so long hangs
CHECK_AFTER_S = 5.0  # how long after opening it is read whole: first every station that was connected before may ask for what is known
DROP_LOG_S = 60.0  # dropping is said once a minute, however much is dropped


class Store:
    """The embedded store. All methods are for the reactor's thread."""

    def __init__(
        self,
        path: str,
        reactor: Any,
        *,
        counts: Counts | None = None,
        most_rows: int = MOST_ROWS,
        wall: Callable[[], float] = time.time,
        ledger: type[Ledger] = Ledger,
        room: Room | None = None,
    ) -> None:
        self.refused = ""
        """Why it takes no writes, as far as it said."""
        self.dropped = 0
        """Rows given up since the start: too many, too old, or in the way of transactions on a disk that is short."""
        self.disk: Disk | None = None
        """How it stands with the disk under it; None while that is unknown."""
        self.on_written: list[Callable[[str], None]] = []
        """Called with the tenant, in the reactor, when there are new rows for its engine."""
        self.on_opened: list[Callable[[], None]] = []
        """Called in the reactor whenever the file was opened: at the start, later if it could not be then, and after damage."""
        self._path, self._reactor = path, reactor
        self._counts = counts if counts is not None else Counts()
        self._commits = Keeping(ledger(path, most_rows, wall), room if room is not None else Room(path))
        self.kept = 0
        """Writes that wait in memory, because the disk refused them."""
        self._jobs: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._gathered: list[Job] = []
        self._handing: Any = None  # the call that will hand them over
        self._working = 0  # jobs handed over that are not settled; none: the thread rests
        self._moved = 0.0  # monotonic time when the thread last settled some, or got the first after a rest
        self._takes = False  # writes; found out again every second when it refused
        self._soon = False  # at the end of this turn
        self._thread = Thread(target=self._work, name="ocppbroker-store", daemon=True)
        self._running = False
        self._waiting = 0
        self._waiting_bytes = 0
        self._pending: dict[str, tuple[int, float | None]] = {}
        self._stopped: Deferred[None] = Deferred()
        self._rescued = 0
        self._checking: Any = None
        self._drop_logged_at = float("-inf")

    # ------------------------------------------------------------ how it is

    @property
    def silent(self) -> bool:
        """The disk hangs: it has owed an answer for `SILENT_S`."""
        return self._working > 0 and self._reactor.seconds() - self._moved >= SILENT_S

    @property
    def healthy(self) -> bool:
        """Does it take writes?"""
        return self._takes and not self.silent

    @property
    def waiting(self) -> int:
        """Writes that the disk has neither taken nor refused yet."""
        return self._waiting

    # ------------------------------------------------------------ life

    def start(self) -> Deferred[None]:
        """Open the file. Fails with `NotStored` if that cannot be done now; it is tried again every second and with every write.

        Whenever it is opened the whole file is then read once, in the thread; a damaged one is moved aside and a fresh one begun.
        """
        self._running = True
        opened = self._ask(lambda ledger: ledger.probe())
        self._thread.start()
        return opened

    def _opened(self) -> None:
        if self._checking is None or not self._checking.active():
            self._checking = self._reactor.callLater(CHECK_AFTER_S, self._check)
        for tell in self.on_opened:
            self._tell(tell)

    def _check(self) -> None:
        self._ask(lambda ledger: ledger.check()).addErrback(lambda failure: None)  # damage is said in `_judge`

    def _tell(self, listener: Callable[..., None], *about: str) -> None:
        try:
            listener(*about)
        except Exception:
            log.failure("store: a listener failed: a mistake of ours")

    def stop(self) -> Deferred[None]:
        """Everything queued goes to disk, the file is closed, the thread ends; then this fires. Later writes fail."""
        if not self._thread.is_alive():
            return succeed(None)
        if self._running:
            self._running = False
            if self._checking is not None and self._checking.active():
                self._checking.cancel()
            self._hand_over()
            self._jobs.put(None)
        return self._stopped

    # ------------------------------------------------------------ what others ask

    def write(self, key: Key, records: Sequence[Record], facts: Sequence[Fact], *, soon: bool = True, keep: bool = False) -> Deferred[None]:
        """Fires after the commit; rows get their numbers in the order of these calls. Fails with `NotStored`, counted.

        A record whose key already waits for the tenant's engine is left alone. A fact's value of None forgets it. Unless it is to be
        `soon` it is handed to the disk within `GATHER_S`. `keep`: when the disk refuses it this fails as well, but it is written later.
        """
        try:
            written = entry(key, records, facts)
        except (TypeError, ValueError, RecursionError) as error:
            return self._refuse(f"cannot be written as JSON ({type(error).__name__}): a mistake of ours")
        size = written.size()
        if self._waiting >= MOST_WAITING or self._waiting_bytes + size > MOST_WAITING_BYTES:
            return self._refuse("the disk is too far behind")
        if not self._running:
            return self._refuse("the store is closed")
        self._waiting += 1
        self._waiting_bytes += size
        return self._ask(lambda ledger: ledger.add(written), key.tenant, size, soon=soon, entry=written if keep else None)

    def facts(self, key: Key) -> Deferred[list[Fact]]:
        """What is known of a station."""
        return self._ask(lambda _: self._commits.facts(*key)).addCallback(known)

    def about(self, tenant: str, topic: str) -> Deferred[list[tuple[str, Fact]]]:
        """(station id, fact) of every fact of this topic, of all the tenant's stations."""
        return self._ask(lambda ledger: ledger.about(tenant, topic)).addCallback(about, topic)

    def rows(self, tenant: str, after: int, limit: int) -> Deferred[list[Row]]:
        """The oldest `limit` rows for the tenant's engine with a number above `after`, in order."""
        return self._ask(lambda ledger: ledger.rows(tenant, after, limit))

    def done(self, seqs: Sequence[int]) -> Deferred[None]:
        """The engine has these."""
        return self._ask(lambda ledger: ledger.done(seqs), soon=False)

    def dead(self, seq: int, why: str) -> Deferred[None]:
        """The engine will never take this one: it is kept aside."""
        return self._ask(lambda ledger: ledger.dead(seq, why))

    def ask(self, run: Callable[[Any], Any]) -> Deferred[Any]:
        """Something else of the file (of the class that this store was made with), in its thread and its commits."""
        return self._ask(run)

    def pending(self) -> dict[str, tuple[int, float | None]]:
        """Tenant → (rows its engine has yet to be told, wall time of the oldest); as of the last commit."""
        return dict(self._pending)

    def _ask(
        self, run: Callable[[Ledger], Any], tenant: str | None = None, size: int = 0, *, soon: bool = True, entry: Entry | None = None
    ) -> Deferred[Any]:
        if not self._running:
            return fail(NotStored("the store is closed"))
        done: Deferred[Any] = Deferred()
        self._gathered.append(Job(run, done, tenant, size, entry))
        if soon and not self._working:
            self._hand_over()
            return done
        if self._handing is None:
            self._handing = self._reactor.callLater(0.0 if soon else GATHER_S, self._hand_over)
        elif soon and not self._soon:
            self._handing.reset(0.0)
        self._soon = self._soon or soon
        return done

    def _hand_over(self) -> None:
        """What was gathered goes to the thread, in its order."""
        if self._handing is not None and self._handing.active():
            self._handing.cancel()
        gathered, self._gathered, self._handing, self._soon = self._gathered, [], None, False
        if not self._working:
            self._moved = self._reactor.seconds()
        self._working += len(gathered)
        for first in range(0, len(gathered), MOST_IN_GROUP):
            self._jobs.put(gathered[first : first + MOST_IN_GROUP])

    def _refuse(self, why: str) -> Deferred[None]:
        self._counts.add("store_failures")
        return fail(NotStored(why))

    # ------------------------------------------------------------ in the thread

    def _work(self) -> None:
        going, refused = True, False
        while going:
            group, going = self._take(PROBE_S if refused else LOOK_S)
            settled = self._commits.turn(group, probe=refused)
            refused = settled.error is not None or (refused and not settled.took)
            if going:
                self._reactor.callFromThread(self._settle, settled)
        try:
            self._commits.ledger.close()
        except Exception as error:
            settled = settled._replace(error=settled.error or error)
        self._reactor.callFromThread(self._finish, settled)

    def _take(self, patience: float | None) -> tuple[list[Job], bool]:
        """What waits, and whether there will be more. None at all: the disk wants to be probed."""
        group: list[Job] = []
        try:
            jobs = self._jobs.get(timeout=patience)
            while jobs is not None:
                group += jobs
                if len(group) >= MOST_IN_GROUP:
                    return group, True
                jobs = self._jobs.get_nowait()
        except Empty:
            return group, True
        return group, False

    # ------------------------------------------------------------ back in the reactor

    def _finish(self, settled: Settled) -> None:
        self._settle(settled)
        if self.kept:
            self._counts.add("store_failures", n=self.kept)
            log.critical("store: {path}: {n} writes that it refused are lost with us", path=self._path, n=self.kept)
        self._thread.join()  # on its last instruction
        self._stopped.callback(None)

    def _settle(self, settled: Settled) -> None:
        self._working -= len(settled.results)
        self._moved = self._reactor.seconds()
        self._pending = settled.pending if settled.whole else {**self._pending, **settled.pending}
        self._judge(settled)
        if settled.whole and self._running:
            self._opened()
        written: dict[str, None] = dict.fromkeys(settled.again)
        for job, result in settled.results:
            if job.tenant is not None:
                self._waiting -= 1
                self._waiting_bytes -= job.size
            if isinstance(result, NotStored):
                if job.tenant is not None and not isinstance(result, KeptForNow):
                    self._counts.add("store_failures")
                job.done.errback(result)
                continue
            if job.tenant is not None and result:
                written[job.tenant] = None
            job.done.callback(None if job.tenant is not None else result)
        for tenant in written:
            for tell in self.on_written:
                self._tell(tell, tenant)

    def _judge_kept(self, settled: Settled) -> None:
        before, self.kept = self.kept, settled.kept
        if settled.lost:
            self._counts.add("store_failures", n=settled.lost)
        if before and not self.kept:
            log.info("store: {path} has what was kept while it refused writes", path=self._path)

    def _judge(self, settled: Settled) -> None:
        """Say once what went wrong, and once that it is over."""
        self._judge_kept(settled)
        if settled.moved is not None:
            text = "store: {path} was damaged; it is kept as {moved} and a fresh one was begun: what it held is not told to engines"
            log.critical(text, path=self._path, moved=settled.moved)
        if self._commits.ledger.rescued != self._rescued:
            self._rescued = self._commits.ledger.rescued
            text = "store: {path} was deleted, moved away or replaced while in use: all that it held was written there again"
            log.critical(text, path=self._path)
        said = "" if settled.error is None else in_words(settled.error)
        if said and said != self.refused:
            log.critical("store: {path} refuses writes: {said}; stations are relayed all the same", path=self._path, said=said)
        if settled.took and self.refused:
            log.info("store: {path} takes writes again", path=self._path)
        if said or settled.took:
            self.refused, self._takes = said, not said
        self._say_disk(settled.disk)
        self._say_dropped(self._commits.ledger.dropped)

    def _say_disk(self, disk: Disk | None) -> None:
        before, self.disk = self.disk.level if self.disk is not None else 0, disk
        level = disk.level if disk is not None else 0
        if disk is None or level == before:
            return
        say = log.info if level < before else (log.critical if level == 3 else log.warn)
        text = "store: the disk under {path} is {used:.0%} full, {free:,} bytes are left: {then}"
        say(text, path=self._path, used=disk.used, free=disk.free, then=THEN[level])

    def _say_dropped(self, dropped: int) -> None:
        if dropped == self.dropped:
            return
        self._counts.add("store_failures", n=dropped - self.dropped)
        self.dropped = dropped
        now = self._reactor.seconds()
        if now - self._drop_logged_at >= DROP_LOG_S:
            self._drop_logged_at = now
            text = "store: {path} holds more than it may of what engines did not take: {n} of the oldest rows given up so far"
            log.error(text, path=self._path, n=dropped)
