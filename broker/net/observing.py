"""What learns from a link and has wishes for it, asked so that its failures stay its own.

A link asks after each frame of interest, after each settled CALL of ours, and when it is time. Whatever goes wrong in there is
logged once for each place it goes wrong at, without a word of any payload, and counted; the link hears "it does not know".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.logger import Logger

from broker.counts import Counts
from broker.model.basics import EMPTY, Instant
from broker.model.orders import Alarm, Inject, Pass, Passwords, Write
from broker.model.records import Fact
from broker.model.schedules import Schedule
from broker.model.traffic import Exchange, Interest

log = Logger()

Wish = Write | Inject | Pass | Alarm | Passwords


class Observer(Protocol):
    """What learns from a link and has wishes for it. Pure: `broker.observer`."""

    interest: Interest

    @property
    def wake_at(self) -> float | None: ...

    @property
    def tap_failures(self) -> int: ...

    def saw(self, exchange: Exchange, now: Instant) -> Iterable[Wish]: ...

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> Iterable[Wish]: ...

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> Iterable[Wish]: ...

    def wish(self, schedule: Schedule, now: Instant) -> Iterable[Wish]: ...

    def steer(self, facts: Iterable[Fact], now: Instant) -> Iterable[Wish]: ...

    def tick(self, now: Instant) -> Iterable[Wish]: ...

    def closed(self, now: Instant) -> Iterable[Wish]: ...

    def explain(self) -> dict[str, Any]: ...

    def well(self, name: str, raised_at: float) -> bool: ...


class Observing:
    """One link's observer, or none. `link` is the link's name in the log."""

    __slots__ = ("_counts", "_failures", "_link", "_observer", "_told")

    def __init__(self, observer: Observer | None, link: str, counts: Counts) -> None:
        self._observer = observer
        self._link = link
        self._counts = counts
        self._failures = 0
        self._told: frozenset[str] = EMPTY

    @property
    def observer(self) -> Observer | None:
        """Who learns now."""
        return self._observer

    def seat(self, observer: Observer | None) -> None:
        """From now on this one learns."""
        self._observer = observer
        self._failures = observer.tap_failures if observer is not None else 0

    def saw(self, exchange: Exchange, now: Instant) -> tuple[Wish, ...] | None:
        """As `ask` does, for what is asked after nearly every frame."""
        if self._observer is None:
            return None
        try:
            wishes = tuple(self._observer.saw(exchange, now))
        except Exception as failure:
            self.failed(failure)
            return None
        self._count(self._observer)
        return wishes

    def ask(self, question: Callable[[Observer], Iterable[Wish]]) -> tuple[Wish, ...] | None:
        """Its wishes; None if there is no observer, or if it failed."""
        if self._observer is None:
            return None
        try:
            wishes = tuple(question(self._observer))
        except Exception as failure:
            self.failed(failure)
            return None
        self._count(self._observer)
        return wishes

    def _count(self, observer: Observer) -> None:
        failures = observer.tap_failures
        if failures > self._failures:
            self._counts.add("tap_failures", n=failures - self._failures)
            self._failures = failures

    def failed(self, failure: BaseException) -> None:
        """Something of the observer's failed. Its text may quote a frame: only its kind and its place are told."""
        self._counts.add("tap_failures")
        at = failure.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        place = f"{at.tb_frame.f_code.co_filename.rpartition('/')[2]}:{at.tb_lineno}" if at is not None else "?"
        what = f"{type(failure).__name__} at {place}"
        if what not in self._told:
            self._told |= {what}
            log.error("{link} could not learn from a frame, which is our fault: {what}", link=self._link, what=what)

    @property
    def wake_at(self) -> float | None:
        """When it wants to be ticked, monotonic seconds."""
        return self._observer.wake_at if self._observer is not None else None

    def due(self, mono: float) -> bool:
        """Whether a tick would do something now."""
        at = self.wake_at
        return at is not None and at <= mono

    def explain(self) -> dict[str, Any]:
        """What is known of the station, as plain data."""
        return self._observer.explain() if self._observer is not None else {}
