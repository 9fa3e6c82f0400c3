"""A profile of ours on a station: what it allows and until when, what a restart must know of it, and what it is held against.

Times are seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from broker.model.observations import ClearSeen
from broker.model.records import Fact
from broker.model.schedules import ChargingProfile, Step
from broker.profiles.decide import Limit, exceeds, higher
from broker.profiles.shape import AFTER_S
from broker.stationclock import JUMP_S


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
