"""The box's clock is set while limits of ours stand: what was agreed goes on by the time that passes, what comes new is read by the clock.

A lease, an operator's limit and the engine's schedule are kept in our clock's time. When that jumps they are moved along, and so is
what is known of the station's clock, which did not jump: at the station nothing changes, and nothing of ours ends early, is forgotten
or stands longer. An engine's schedule that is in force by the clock as it is now is taken as it says: then the clock was put right.

Which clock an event's time is judged by is the station's to say: the one of ours, as it is or as it was, that its own is nearer to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from broker.fallback import FOREVER, Backed
from broker.leases import Lease, lease_of
from broker.model.basics import Instant
from broker.model.orders import Remember
from broker.model.records import Fact
from broker.model.schedules import Schedule, later
from broker.operating import OwnLimit
from broker.standing import Effect, Standing
from broker.stationclock import JUMP_S

STEP_S: Final = 5.0  # less is drift, and smaller than what leases and clocks may be off anyway
FRAMES: Final = 3  # clocks of ours that were: a box that is set more often than that has none


class ClockSet(Backed):
    """One station's."""

    __slots__ = ("_frames", "_offset")

    def __init__(self, *known: Any, opened: Instant, **more: Any) -> None:
        self._offset = opened.wall - opened.mono
        self._frames: tuple[float, ...] = ()  # what our clock said before it was set, against what it says now
        super().__init__(*known, opened=opened, **more)

    def inherit(self, proven: bool, older: Standing | None) -> None:
        """What is on disk is in the time of the one before it; without one, our clock counts as it is at the next moment."""
        super().inherit(proven, older)
        self._offset, self._frames = (older._offset, older._frames) if isinstance(older, ClockSet) else (math.nan, ())

    def set_by(self, now: Instant) -> list[Effect]:
        """To be asked before anything else: was our clock set since? Then everything is moved along, and a restart must know it."""
        by = now.wall - now.mono - self._offset
        if -STEP_S < by < STEP_S:
            return []
        if math.isnan(by):
            self._offset = now.wall - now.mono
            return []
        by = float(round(by))
        self._offset += by
        frames = [frame - by for frame in (0.0, *self._frames)]
        self._frames = tuple(frame for frame in frames if abs(frame) >= STEP_S)[:FRAMES]
        return self._shift(by, now)

    def believed(self, now: Instant) -> Instant:
        """The same moment by the clock that the station's is nearer to."""
        if not self._frames:
            return now
        skew = self._clock.likely
        return Instant(now.mono, now.wall + min((0.0, *self._frames), key=lambda frame: abs(skew - frame)))

    def _shift(self, by: float, now: Instant) -> list[Effect]:
        """Our clock went forward by so many seconds; nothing else did. A fallback has no end, and is written in its own skew: it stays."""
        self._clock.stepped(by)
        for socket in self._sockets.values():
            socket.obedience.stepped(by)
            socket.lease = None if socket.lease is None else later_lease(socket.lease, by)
        if self._job is not None and self._job.lease is not None:
            self._job = self._job._replace(lease=later_lease(self._job.lease, by))
        return [Remember(socket.lease.fact()) for socket in self._sockets.values() if socket.lease is not None]


def doubted(facts: Iterable[Fact], now: float) -> list[Fact]:
    """What is known of a station that comes. A lease that begins after `now` was written by a clock that was set back since: how much
    of it is left nobody knows, and no more than all."""
    return [_doubted(fact, now) if fact.topic == "lease" else fact for fact in facts]


def _doubted(fact: Fact, now: float) -> Fact:
    lease = lease_of(fact)
    ahead = lease.begun - now if lease is not None and lease.until < FOREVER else 0.0
    if lease is None or ahead <= JUMP_S:
        return fact
    return replace(lease, begun=now, until=lease.until - ahead, sure=False).fact()


def later_lease(lease: Lease, by: float) -> Lease:
    """The same at the station: our times later, its clock so much further behind ours."""
    steps, most = later(lease.steps, by), later(lease.most, by)
    return replace(lease, until=lease.until + by, begun=lease.begun + by, steps=steps, most=most, skew=lease.skew - by)


def later_schedule(schedule: Schedule, by: float, now: float) -> Schedule:
    """As it is, if it is in force at `now`, else so much later."""
    if schedule.steps[0].at <= now < schedule.valid_until:
        return schedule
    issued_at, valid_until = schedule.issued_at + by, schedule.valid_until + by
    return replace(schedule, issued_at=issued_at, valid_until=valid_until, steps=later(schedule.steps, by))


def later_own(own: OwnLimit, by: float) -> OwnLimit:
    """An operator's limit is for so long from when it was given."""
    return replace(own, since=own.since + by, until=own.until + by)
