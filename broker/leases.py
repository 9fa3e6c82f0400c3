"""What the injector knows of one EVSE: what the engine asked, what of ours stands there, when it may be touched again.

Plain state, and the few questions that need no more than it. Times are seconds since 1970 UTC unless a name says mono.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from broker.model import Fact, Instant, Outcome, OutcomeStatus, Report, Schedule, Step
from broker.profiles.shape import Plan
from broker.settings import EvseSettings

RENEW_AT: Final = 1 / 3  # of a lease is left when it is renewed


@dataclass(frozen=True, slots=True)
class Lease:
    """A profile of ours that stands, or may stand, on the station."""

    profile_id: int
    evse: int
    purpose: str
    stack_level: int
    begun: float
    """When it was written."""
    until: float
    """When its tail begins."""
    schedule_id: str
    steps: tuple[Step, ...]
    tail: float
    bound: float | None = None
    """What it never exceeds, in A per phase for ac, W for dc; None: it bounds nothing."""
    skew: float = 0.0
    """Of the clock that it is written in."""
    transaction_id: str | None = None
    sure: bool = False
    """The station has accepted it. Until then this may stand, or what it replaces, or nothing."""

    def fact(self) -> Fact:
        """What a restart must know of it."""
        value = {
            "evse": self.evse,
            "purpose": self.purpose,
            "stack_level": self.stack_level,
            "begun": self.begun,
            "until": self.until,
            "schedule": self.schedule_id,
            "steps": [list(step) for step in self.steps],
            "tail": self.tail,
            "bound": self.bound,
            "skew": self.skew,
            "transaction": self.transaction_id,
            "sure": self.sure,
        }
        return Fact("lease", str(self.profile_id), value)

    def gone(self) -> Fact:
        """It stands no longer."""
        return Fact("lease", str(self.profile_id), None)

    @property
    def renew_at(self) -> float:
        """When a third of it is left."""
        return self.until - (self.until - self.begun) * RENEW_AT

    def instead_of(self, old: Lease | None) -> Lease:
        """While nobody knows which of the two stands, the higher bound counts."""
        if old is None or old.profile_id != self.profile_id:
            return self
        return replace(self, bound=None if self.bound is None or old.bound is None else max(self.bound, old.bound))

    def exceeds(self, limit: float | None) -> bool:
        """It might allow more than `limit` (None: no limit)."""
        return limit is not None and (self.bound is None or self.bound > limit)

    def follows(self, plan: Plan, now: float) -> bool:
        """It says the same as the plan from now until it ends or the plan does."""
        until = min(self.until, plan.until)
        return _course(self.steps, now, until) == _course(plan.steps, now, until)


def lease_of(fact: Fact) -> Lease | None:
    """The lease a fact tells of; None for what is none. What another version of us wrote is a lease that bounds nothing."""
    value = fact.value
    if fact.topic != "lease" or not isinstance(value, Mapping) or not fact.name.isdecimal():
        return None
    try:
        lease = Lease(
            int(fact.name), int(value["evse"]), str(value["purpose"]), int(value["stack_level"]), _finite(value["begun"]),
            _finite(value["until"]), str(value["schedule"]), tuple(Step(_finite(at), _finite(limit)) for at, limit in value["steps"]),
            _finite(value["tail"]), None if value["bound"] is None else _finite(value["bound"]), _finite(value["skew"]),
            None if value["transaction"] is None else str(value["transaction"]), value["sure"] is True,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        evse = value.get("evse")
        return Lease(int(fact.name), evse if isinstance(evse, int) else 0, "", 0, 0.0, 0.0, "", (), 0.0)
    return lease


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a number")
    return float(value)


def _course(steps: tuple[Step, ...], now: float, until: float) -> list[tuple[float | None, float]]:
    """From when on how much, within [now, until): what is in force now begins at None, and what changes nothing is left out."""
    course: list[tuple[float | None, float]] = []
    for step in steps:
        if step.at <= now:
            course = [(None, step.limit)]
        elif step.at < until and (not course or course[-1][1] != step.limit):
            course.append((step.at, step.limit))
    return course


@dataclass(slots=True, eq=False)
class Socket:
    """One EVSE."""

    evse: EvseSettings
    schedule: Schedule | None = None
    lease: Lease | None = None
    over: bool = False
    """The wish has ended, or was taken back: what stands of ours goes. False after a restart, when the wish is only not known yet."""
    not_before_mono: float = 0.0
    """The write interval: when the next wish may be written."""
    turn: int = 0
    """Who was served last waits for the others."""
    status: str = "idle"
    why: str = ""
    sent_for: str | None = None
    """The schedule whose limit was last accepted."""
    transaction: str | None = None
    """uid of the transaction that the last write was for."""
    said: set[tuple[str, str]] = field(default_factory=set)
    """Outcomes of this schedule that were reported."""

    def wish(self, schedule: Schedule, now: Instant) -> list[Report]:
        """A newer schedule; what was not sent of the old one never will be."""
        old, found = self.schedule, list[Report]()
        if old is not None and self.sent_for != old.id and not self.said:
            found = self.report("superseded", "", now)
        self.schedule, self.over, self.said = schedule, False, set()
        self.status, self.why = "wanted", ""
        return found

    def report(self, status: OutcomeStatus, detail: str, now: Instant) -> list[Report]:
        """What became of the schedule, once for each status and reason."""
        self.status, self.why = status, detail
        once = (status, "" if status == "accepted" else detail)
        if self.schedule is None or once in self.said:
            return []
        self.said.add(once)
        return [Report(Outcome(self.schedule.id, self.schedule.asset, status, now.wall, detail))]

    def accepted(self, lease: Lease, transaction: str | None, not_before_mono: float) -> Lease:
        """The station took it."""
        self.lease = replace(lease, sure=True)
        self.sent_for, self.transaction, self.not_before_mono = lease.schedule_id, transaction, not_before_mono
        return self.lease

    def explain(self, now: float, allowed: Mapping[str, Any]) -> dict[str, Any]:
        """As plain data."""
        wanted = [step.limit for step in self.schedule.steps if step.at <= now] if self.schedule else []
        asked = sent = None
        if self.schedule is not None:
            asked = {"schedule": self.schedule.id, "limit": wanted[-1] if wanted else None, "unit": self.schedule.unit}
        if self.lease is not None:
            lease = self.lease
            standing = [lease.tail] if lease.until <= now else [step.limit for step in lease.steps if step.at <= now]
            limit = standing[-1] if standing else None
            sent = {"limit": limit, "profile": lease.profile_id, "purpose": lease.purpose, "until": lease.until, "sure": lease.sure}
        return {"asset": self.evse.asset, "asked": asked, "allowed": dict(allowed), "sent": sent, "status": self.status, "why": self.why}
