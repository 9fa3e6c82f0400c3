"""Asks every ten seconds how it stands, keeps the book of alarms by it, and says once when one is raised and once when it is cleared.

States are asked for, so that nothing hot knows of alarms; only what happens once (a station's alarm, a refused double) is told.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.alarms import Book, Changes
from broker.model.basics import Key
from broker.model.orders import Alarm
from broker.net.door import shown
from broker.net.expiry import Findings, OutOfDate, examine, files_of
from broker.net.pem import stamp
from broker.net.room import THEN, Disk
from broker.net.store import SILENT_S, Store
from broker.settings import Settings

log = Logger()

LOOK_S: Final = 10.0
FILES_S: Final = 3600.0  # how often certificates are read
REFUSED: Final = 10  # dials of a CPMS in a row that found nobody
SILENT: Final = 30  # looks in a row (five minutes) at which an engine was not reachable
OUTBOX_S: Final = 3600.0
SET_S: Final = 60.0  # a wall clock that goes so far astray between two looks was set
SOON: Final = timedelta(days=14)

Source = Callable[[], Mapping[str, Mapping[str, str]]]
"""Name → subject → text: all that stands of these names now."""


class Watchman:
    """`sources` are asked at every look; one that fails is a mistake of ours, said, and the others are asked all the same."""

    def __init__(self, sources: tuple[Source, ...], reactor: Any, wall: Callable[[], float]) -> None:
        self.book = Book()
        self.on_changed: Callable[[Changes], None] = lambda _: None
        """Called with each change, once it is in the book."""
        self.on_look: Callable[[], None] = lambda: None
        self.well: Callable[[Key, str, float], bool] = lambda key, name, raised_at: False
        """Is what a station's alarm of this name told, last at that moment (monotonic seconds), over?"""
        self._stations: dict[tuple[str, str], Key] = {}  # whose alarms stand: name, subject → key
        self._sources = sources
        self._wall, self._seconds = wall, reactor.seconds
        self._loop = LoopingCall(self.look)
        self._loop.clock = reactor

    def start(self) -> None:
        if not self._loop.running:
            self._loop.start(LOOK_S, now=False)  # the store needs a moment to open

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()

    def look(self) -> None:
        """Ask everybody."""
        now, mono = self._wall(), self._seconds()
        for source in self._sources:
            try:
                for name, found in source().items():
                    self._say(self.book.stand(name, found, now, mono))
            except Exception:
                log.failure("alarms: a look failed: a mistake of ours")
        self._say(self.book.expire(mono))
        self._recovered()
        self.on_look()

    def _recovered(self) -> None:
        """Stations are asked only about alarms that stand."""
        for at, key in list(self._stations.items()):
            alarm = self.book.get(*at)
            if alarm is None or self.well(key, alarm.name, alarm.told_mono):
                del self._stations[at]
                self._say(self.book.clear(*at))

    def of_station(self, key: Key, alarm: Alarm) -> None:
        """A station's own."""
        self._stations[alarm.name, shown(str(key))] = key
        self._say(self.book.raise_(alarm.name, shown(str(key)), alarm.text, self._wall(), self._seconds()))

    def duplicate(self, key: Key, whom: str) -> None:
        """Refused, because a station of this id lives."""
        text = f"connected, and {whom} connects under its name: refused"
        self._say(self.book.raise_("duplicate", shown(str(key)), text, self._wall(), self._seconds()))

    def current(self) -> list[dict[str, Any]]:
        return [one.plain() for one in self.book.current()]

    def _say(self, changes: Changes) -> None:
        for one in changes.raised:
            log.warn(
                "alarm {name} of {subject} raised, the {fault}'s: {text}; {todo}",
                name=one.name, subject=one.subject, fault=one.fault, text=one.text, todo=one.do,
            )  # fmt: skip
        for one in changes.cleared:
            log.info("alarm {name} of {subject} cleared", name=one.name, subject=one.subject)
        self.on_changed(changes)


# ---------------------------------------------------------------- whom it asks


def of_cpms(failures: Callable[[], Mapping[str, int]], refusing: Callable[[], Mapping[str, str]] = dict) -> Source:
    """`failures`: tenant → dials of its CPMS in a row that found nobody, over at the next that finds it; `refusing`: tenant → what to
    say of one that is there and takes nobody, over with the next that it takes."""
    text = "the CPMS cannot be reached: its stations are refused and buffer"
    return lambda: {"cpms": {**refusing(), **{tenant: text for tenant, n in failures().items() if n >= REFUSED}}}


class _Trusted:
    """For an hour after the wall clock was set, how old a row is by it says nothing. `seconds`: a clock that nobody sets."""

    def __init__(self, seconds: Callable[[], float] | None) -> None:
        self._seconds = seconds
        self._offset: float | None = None
        self._since = float("-inf")

    def __call__(self, wall: float) -> bool:
        if self._seconds is None:
            return True
        mono = self._seconds()
        if self._offset is not None and abs(wall - mono - self._offset) > SET_S:
            self._since = mono
        self._offset = wall - mono
        return mono - self._since >= OUTBOX_S


def of_engines(
    status: Callable[[], Mapping[str, Mapping[str, Any]]], wall: Callable[[], float], seconds: Callable[[], float] | None = None
) -> Source:
    """`status`: as `Uplinks.status`. Without rows to tell there is no breaker to open: then it counts for how long nobody answered."""
    trusted = _Trusted(seconds)
    silent: dict[str, int] = {}  # looks in a row
    unasked: dict[str, int] = {}  # the same, for the polls of each site

    def look() -> Mapping[str, Mapping[str, str]]:
        engines, now = status(), wall()
        known = trusted(now)
        oldest = {tenant: one["oldest"] for tenant, one in engines.items() if known and one["oldest"] is not None}
        for tenant in [one for one in silent if one not in engines]:
            del silent[tenant]
        silent.update((tenant, silent.get(tenant, 0) + 1 if one["reachable"] is False else 0) for tenant, one in engines.items())
        polls = {f"{tenant}/{site}": poll["why"] for tenant, one in engines.items() for site, poll in one.get("sites", {}).items()}
        counts = {site: unasked.get(site, 0) + 1 for site, why in polls.items() if why}
        unasked.clear()
        unasked.update(counts)
        gone = "no poll for its schedules was answered for five minutes: the limits it asked for end with their lease"
        away = "the engine cannot be reached: what it should know waits in the store"
        late = "what the engine should know waits for more than an hour"
        return {
            "engine": {tenant: away for tenant, one in engines.items() if one["breaker"] == "open" or silent[tenant] >= SILENT},
            "schedules": {site: gone for site, looks in unasked.items() if looks >= SILENT},
            "outbox": {tenant: late for tenant, at in oldest.items() if now - at > OUTBOX_S},
        }

    return look


def of_store(store: Store, path: str) -> Source:
    """The file, and the disk under it."""

    def look() -> Mapping[str, Mapping[str, str]]:
        disk: Disk | None = store.disk
        full = {path: f"the disk is {disk.used:.0%} full: {THEN[disk.level]}"} if disk is not None and disk.level else {}
        why = f"it has not answered for {SILENT_S:.0f} s" if store.silent else store.refused or "it is still being opened"
        relayed = f"stations are relayed, and {store.kept + store.waiting} writes wait in memory"
        refuses = {} if store.healthy else {path: f"the store takes no writes ({why}): {relayed}"}
        lost = {path: kept_text(disk.aside)} if disk is not None and disk.aside else {}
        return {"store": refuses, "disk": full, "damaged": lost}

    return look


def kept_text(aside: tuple[str, ...]) -> str:
    """What an operator is told of files that were moved out of the store's place."""
    files = f"{len(aside)} files were" if len(aside) > 1 else "a file was"
    return f"{files} damaged or not ours, and moved aside (the newest is {aside[-1]}): what was in there is not told to engines"


def of_descriptors() -> Mapping[str, Mapping[str, str]]:
    """A Source: nine tenths of the descriptors that the process may have open are. A new one gets the lowest number that is free."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
    except OSError:
        lowest = most
    scarce = most != resource.RLIM_INFINITY and lowest >= 0.9 * most
    text = f"{lowest} of {most} file descriptors are open: stations are refused when none is left"
    return {"descriptors": {"the broker": text} if scarce else {}}


class Files:
    """A Source: certificates that end within 14 days, lists of revoked ones that are overdue, files that do not load. Read in a thread,
    at the first look, when one of them changed, and hourly; their times are compared at each look."""

    def __init__(self, settings: Callable[[], Settings], wall: Callable[[], float], in_thread: Callable[..., Deferred[Findings]]) -> None:
        self._settings, self._wall, self._in_thread = settings, wall, in_thread
        self._read_at = float("-inf")
        self._seen: object = None
        self._found = Findings([], [], [])
        self._broken: dict[str, str] = {}

    def __call__(self) -> Mapping[str, Mapping[str, str]]:
        wall, settings = self._wall(), self._settings()
        seen = [stamp(file) for file in files_of(settings)]
        now = datetime.fromtimestamp(wall, UTC)
        if seen != self._seen or not 0 <= wall - self._read_at < FILES_S:
            self._seen, self._read_at = seen, wall
            self._in_thread(examine, settings, now).addCallback(self._read).addErrback(self._failed)
        ending = {one.file: f"{one.subject} ends on {one.ends:%Y-%m-%d}" for one in self._found.certificates if one.ends - now < SOON}
        late = {one.issuer: one.overdue(now) for one in self._found.revocations if one.overdue(now)}
        return {"certificate": ending, "crl": late, "files": self._broken}

    def _read(self, found: Findings) -> None:
        broken: dict[str, str] = {}
        for line in found.mistakes:
            if not isinstance(line, OutOfDate):
                place, _, why = line.partition(": ")
                broken[place] = f"{why}; what was loaded last stays in use"
        still = [one for one in self._found.revocations if one.place in broken]  # what is in use there grows old all the same
        self._broken, self._found = broken, found._replace(revocations=found.revocations + still)

    def _failed(self, failure: Failure) -> None:
        log.failure("alarms: certificates could not be looked at: a mistake of ours", failure=failure)
