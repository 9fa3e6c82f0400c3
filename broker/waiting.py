"""Frames of the CPMS that must wait a moment before the station gets them, and who may overtake whom.

A frame waits for one of three reasons, and always for a bounded time:

* a CALL waits while a CALL of ours is open at the station (law 4), or while it is guarded (law 8): at most `hold`;
* an answer waits until what its exchange taught us is on disk (law 2): at most `commit_wait`;
* any frame waits behind one that waits, for the CPMS's order is kept.

Overtaking has two cases and no third. An answer overtakes CALLs that wait for the first reason. An answer overtakes
answers that wait for the second, if it belongs to an older CALL of the station than they do. Nothing overtakes an answer
that is free to go but for its place, nor a frame that is neither CALL nor answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from broker.calls import Promise
from broker.ocpp.frames import Frame

MOST: Final = 64  # messages, as law 4 says
MOST_BYTES: Final = 256 * 1024  # of one link, or a single message of any size: what one slow side may cost us

Sort = Literal["call", "answer", "other"]


@dataclass(slots=True, eq=False)
class Waiter:
    """One frame on its way to the station."""

    sort: Sort
    frame: Frame
    since: float
    """Monotonic seconds at which it came."""
    until: float
    """When it must go, whatever it waits for."""
    order: int | None = None
    """Of an answer: the place of the station's CALL among those we follow; None when we did not follow it."""
    tokens: Promise = field(default_factory=Promise)
    """Of an answer: commits it waits for."""
    guard: int | None = None
    """Of a CALL: the token under which the injector may let it pass."""


class Waiting:
    """The queue toward one station. It decides order; the relay decides when one of ours is in the way."""

    __slots__ = ("_bytes", "line")

    def __init__(self) -> None:
        self.line: list[Waiter] = []
        """In the order in which they came; to be looked at, not to be changed."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.line)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self.line)

    @property
    def full(self) -> bool:
        """More is waiting than may."""
        return len(self.line) > MOST or (self._bytes > MOST_BYTES and len(self.line) > 1)

    @property
    def until(self) -> float | None:
        """When the first of them must go; None when none waits. What only keeps its place behind another goes with that one."""
        return min((waiter.until for waiter in self.line if waiter.tokens or waiter.sort == "call"), default=None)

    @property
    def commits(self) -> bool:
        """An answer waits for its commit: ours must not overtake it, for it may depend on what the answer says."""
        return any(waiter.tokens for waiter in self.line)

    def join(self, waiter: Waiter) -> None:
        self.line.append(waiter)
        self._bytes += len(waiter.frame.text)

    def committed(self, token: int, kept: bool = True) -> None:
        """What this token stood for is on disk, or (not `kept`) never will be."""
        for waiter in self.line:
            waiter.tokens.settle(token, kept)

    def passed(self, token: int) -> None:
        """The guarded CALL with this token need not wait for the injector any more."""
        for waiter in self.line:
            if waiter.guard == token:
                waiter.guard = None

    def release(self, ours_open: bool) -> list[Waiter]:
        """Those that may go now, in the order in which they go; they are no longer here."""
        go: list[Waiter] = []
        stay: list[Waiter] = []
        scan = _Scan(ours_open)
        for waiter in self.line:
            (stay if scan.stays(waiter) else go).append(waiter)
        self.line = stay
        self._bytes -= sum(len(waiter.frame.text) for waiter in go)
        return go

    def abandon(self) -> list[Waiter]:
        """The link closes: those that a station could still be given without breaking order or promise; the rest is dropped."""
        go: list[Waiter] = []
        for waiter in self.line:
            if waiter.tokens:
                break
            go.append(waiter)
        self.line, self._bytes = [], 0
        return go


class _Scan:
    """One walk from the front of the line to its end: what stays decides what may follow."""

    __slots__ = ("call_stays", "law", "oldest_promise", "wall")

    def __init__(self, ours_open: bool) -> None:
        self.law = ours_open  # a CALL that stays does so by law 4 or 8, not merely behind an answer
        self.call_stays = False
        self.oldest_promise: int | None = None  # order of the oldest answer that waits for its commit
        self.wall = False  # something stays that nothing overtakes

    def stays(self, waiter: Waiter) -> bool:
        if self.wall:
            return True
        if waiter.sort == "answer":
            return self._answer_stays(waiter)
        behind = self.call_stays or self.oldest_promise is not None
        if waiter.sort == "other":
            self.wall = behind
            return behind
        self.law = self.law or waiter.guard is not None
        stays = behind or self.law
        if stays:
            self.call_stays = True
            self.wall = not self.law
        return stays

    def _answer_stays(self, waiter: Waiter) -> bool:
        first = self.oldest_promise
        if waiter.tokens:
            if waiter.order is not None and (first is None or waiter.order < first):
                self.oldest_promise = waiter.order
            return True
        self.wall = first is not None and (waiter.order is None or waiter.order >= first)
        return self.wall
