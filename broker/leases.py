"""What the injector knows of one EVSE: what the engine asked, what of ours stands there, when it may be touched again.

Plain state, and the few questions that need no more than it. Times are seconds since 1970 UTC unless a name says mono.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from broker.model.basics import Instant
from broker.model.observations import ClearSeen
from broker.model.records import Fact
from broker.model.schedules import ChargingProfile, Schedule, Step
from broker.obedience import Limit as Limited
from broker.obedience import Obedience
from broker.profiles.decide import Limit, exceeds, higher
from broker.profiles.shape import AFTER_S
from broker.settings import EvseSettings
from broker.stationclock import JUMP_S

FIRST_BACK_OFF_S: Final = 60.0
SHORT_S: Final = 10.0  # a CPMS that wanted the station meanwhile has had its say by then
BACK_OFF_S: Final = 3600.0  # the longest pause after a station did not answer, and the pause after every rung was refused


@dataclass(frozen=True, slots=True)
class Lease:
    """A profile of ours that stands, or may stand, on the station."""

    profile_id: int
    evse: int
    purpose: str
    stack_level: int
    until: float
    """When its tail begins."""
    schedule_id: str
    steps: tuple[Step, ...]
    tail: float
    most: tuple[Step, ...]
    """All that it allows, its tail last; of what it replaces too, while that may still stand. A per phase for ac, W for dc; empty:
    nobody knows."""
    begun: float
    unit: str = "A"
    transaction_id: str | None = None
    sure: bool = False
    """The station has accepted it. Until then this may stand, or what it replaces, or nothing."""
    skew: float = 0.0
    """Of the clock that its times were written in, against ours."""
    why: tuple[str, ...] = ()
    """What was changed in what was asked, when it was decided."""

    @property
    def renew_at(self) -> float:
        """When a third is left."""
        return self.until - (self.until - self.begun) / 3

    def fact(self) -> Fact:
        """What a restart must know of it."""
        value = {
            "evse": self.evse,
            "purpose": self.purpose,
            "stack_level": self.stack_level,
            "until": self.until,
            "schedule": self.schedule_id,
            "steps": [list(step) for step in self.steps],
            "tail": self.tail,
            "most": [list(step) for step in self.most],
            "begun": self.begun,
            "unit": self.unit,
            "sure": self.sure,
            "skew": self.skew,
            "transaction": self.transaction_id,
            "why": list(self.why),
        }
        return Fact("lease", str(self.profile_id), value)

    def gone(self) -> Fact:
        """It stands no longer."""
        return Fact("lease", str(self.profile_id), None)

    def same(self, new: Lease, now: float) -> bool:
        """It says the same in the same way as `new`, from now until either ends, to a station that reads its times as they are meant."""
        if abs(self.skew - new.skew) > JUMP_S:
            return False
        until = min(self.until, new.until)
        alike = all(getattr(self, name) == getattr(new, name) for name in ("purpose", "stack_level", "unit", "transaction_id"))
        return self.sure and alike and _course(self.steps, now, until) == _course(new.steps, now, until)

    def or_(self, old: Lease | None) -> Lease:
        """This one, or the one that it replaces: nobody knows which stands."""
        if old is None or old.profile_id != self.profile_id:
            return self
        then = tuple(Step(step.at + old.skew - self.skew, step.limit) for step in old.most)
        return replace(self, most=higher(self.most, then))

    def in_station_time(self) -> tuple[Step, ...]:
        """`most` as the station reads its times."""
        return tuple(Step(step.at + self.skew, step.limit) for step in self.most)

    def above(self, limit: Limit, now: float) -> bool:
        """It may allow more than the CPMS does, or nobody knows. `now`: the station's clock."""
        return exceeds(self.in_station_time(), limit, now, max([now, *(step.at + self.skew + AFTER_S for step in self.most[-1:])]))

    def over(self, now: float) -> bool:
        """It has ended by itself."""
        return self.until + AFTER_S < now

    def matches(self, seen: ClearSeen) -> bool:
        """A clear's criteria are a logical AND; none at all means everything."""
        place = 0 if self.purpose == "max" else self.evse
        criteria = (
            (seen.profile_id, self.profile_id),
            (seen.evse, place),
            (seen.purpose, self.purpose),
            (seen.stack_level, self.stack_level),
        )
        return all(wanted is None or wanted == ours for wanted, ours in criteria)

    def collides(self, theirs: ChargingProfile) -> bool:
        """A station has room for one of the two: 1.6 would let theirs replace ours, 2.x would refuse theirs as a duplicate."""
        same_rung = (theirs.purpose, theirs.stack_level) == (self.purpose, self.stack_level)
        return theirs.id == self.profile_id or same_rung


def lease_of(fact: Fact) -> Lease | None:
    """The lease a fact tells of; None for what is none (of another version of us)."""
    value = fact.value
    if fact.topic != "lease" or not isinstance(value, Mapping):
        return None
    try:
        return Lease(
            int(fact.name), int(value["evse"]), str(value["purpose"]), int(value["stack_level"]), float(value["until"]),
            str(value["schedule"]), tuple(Step(float(at), float(limit)) for at, limit in value["steps"]), float(value["tail"]),
            tuple(Step(float(at), float(limit)) for at, limit in value["most"]), float(value["begun"]), str(value["unit"]),
            None if value["transaction"] is None else str(value["transaction"]), value["sure"] is True, float(value["skew"]),
            tuple(map(str, value.get("why", ()))),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None


def _course(steps: tuple[Step, ...], now: float, until: float) -> list[tuple[float | None, float]]:
    """From when on how much, within [now, until): what is in force now begins at None."""
    course: list[tuple[float | None, float]] = []
    for step in steps:
        if step.at <= now:
            course = [(None, step.limit)]
        elif step.at < until:
            course.append((step.at, step.limit))
    return course


@dataclass(slots=True, eq=False)
class Socket:
    """One EVSE."""

    evse: EvseSettings
    schedule: Schedule | None = None
    lease: Lease | None = None
    not_before_mono: float = 0.0
    """Between two wishes: the write interval, or a back-off."""
    failures: int = 0
    urgent: bool = False
    """Safety, or a transaction's first limit: the write interval does not hold it back."""
    status: str = "idle"
    why: str = ""
    reported: str | None = None
    """What was last told to the engine of this schedule."""
    transaction: str | None = None
    """uid of the transaction that the last write was for."""
    held_mono: float = 0.0
    """Nothing is set before: a CALL of the CPMS that ours made way for is on its way."""
    charging: bool = False
    """Its status says that a car charges there, whether its transaction is known or not."""

    obedience: Obedience = field(default_factory=Obedience)
    judged: str | None = None
    """The schedule of which it is known whether the station keeps to it."""

    def watch(self, now: Instant) -> None:
        """What stands is held against the meter, once for each schedule. Only while somebody charges."""
        lease = self.lease
        if lease is not None and lease.sure and lease.schedule_id != self.judged:
            self.obedience.watch(Limited(lease.steps, lease.until, "A" if lease.unit == "A" else "W", self.evse.phases), now)

    def wish(self, schedule: Schedule) -> None:
        """A newer schedule."""
        self.schedule, self.reported = schedule, None
        self.status, self.why = "wanted", ""

    def accepted(self, lease: Lease, now_mono: float, interval_s: float) -> None:
        """The station took it."""
        self.lease, self.failures, self.urgent = replace(lease, sure=True), 0, False
        self.not_before_mono = now_mono + interval_s
        self.status, self.why = "accepted", ""

    def failed(self, now_mono: float, status: str, why: str) -> None:
        """The station did not answer: each time it is left alone for longer."""
        self.failures += 1
        self.not_before_mono = now_mono + min(BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** (self.failures - 1))
        self.urgent = False
        self.status, self.why = status, why

    def explain(self, now: float, allowed: Mapping[str, Any]) -> dict[str, Any]:
        """As plain data."""
        wanted = [step.limit for step in self.schedule.steps if step.at <= now] if self.schedule else []
        standing = [step.limit for step in self.lease.steps if step.at <= now] if self.lease else []
        asked = sent = None
        if self.schedule is not None:
            asked = {"schedule": self.schedule.id, "limit": wanted[-1] if wanted else None, "unit": self.schedule.unit}
        if self.lease is not None:
            lease = self.lease
            limit = standing[-1] if standing else None
            sent = {"limit": limit, "profile": lease.profile_id, "purpose": lease.purpose, "until": lease.until, "why": list(lease.why)}
        seen = {"asset": self.evse.asset, "asked": asked, "allowed": dict(allowed), "sent": sent}
        return {**seen, "status": self.status, "why": self.why}


class Clears:
    """Profiles of ours that are not wanted any more, by id, until the station says that they are gone."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[int, tuple[int, float]] = {}

    def add(self, id: int, at_once: bool = False) -> None:
        """`at_once`: whatever it said when it was last asked."""
        failures, at = self._ids.get(id, (0, 0.0))
        self._ids[id] = (failures, 0.0 if at_once else at)

    def done(self, id: int) -> None:
        self._ids.pop(id, None)

    def __contains__(self, id: object) -> bool:
        return id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def next(self, now_mono: float, times: list[float]) -> int | None:
        """Which one now; if they all wait, `times` is told until when."""
        ready = [id for id, (_, at) in self._ids.items() if at <= now_mono]
        if not ready and self._ids:
            times.append(min(at for _, at in self._ids.values()))
        return ready[0] if ready else None

    def failed(self, id: int, now_mono: float, short: bool) -> int:
        """It is tried again later, each time later; `short`: soon, for it was not the station's fault. How often it failed so far."""
        failures = self._ids.get(id, (0, 0.0))[0] + (not short)
        wait = SHORT_S if short else min(BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** (failures - 1))
        self._ids[id] = (failures, now_mono + wait)
        return failures
