"""What the injector knows of one EVSE: what the engine asked, what of ours stands there, when it may be touched again.

Plain state, and the few questions that need no more than it. Times are seconds since 1970 UTC unless a name says mono.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.model import Fact, Schedule, Step
from broker.profiles.shape import Plan
from broker.settings import EvseSettings

FIRST_BACK_OFF_S: Final = 60.0
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
    transaction_id: str | None = None

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
            "transaction": self.transaction_id,
        }
        return Fact("lease", str(self.profile_id), value)

    def gone(self) -> Fact:
        """It stands no longer."""
        return Fact("lease", str(self.profile_id), None)

    @property
    def highest(self) -> float:
        """The most that it ever allows."""
        return max([*(step.limit for step in self.steps), self.tail])

    def follows(self, plan: Plan, now: float) -> bool:
        """It says the same as the plan from now until it ends or the plan does."""
        until = min(self.until, plan.until)
        return _course(self.steps, now, until) == _course(plan.steps, now, until)


def lease_of(fact: Fact) -> Lease | None:
    """The lease a fact tells of; None for what is none (of another version of us)."""
    value = fact.value
    if fact.topic != "lease" or not isinstance(value, Mapping):
        return None
    try:
        return Lease(
            int(fact.name), int(value["evse"]), str(value["purpose"]), int(value["stack_level"]), float(value["until"]),
            str(value["schedule"]), tuple(Step(float(at), float(limit)) for at, limit in value["steps"]), float(value["tail"]),
            None if value["transaction"] is None else str(value["transaction"]),
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
    reported: tuple[str, str, str] | None = None
    sent_for: str | None = None
    """The schedule whose limit was last accepted."""
    transaction: str | None = None
    """uid of the transaction that the last write was for."""

    def wish(self, schedule: Schedule) -> None:
        """A newer schedule."""
        self.schedule = schedule
        self.status, self.why = "wanted", ""

    def accepted(self, lease: Lease, now_mono: float, interval_s: float) -> None:
        """The station took it."""
        self.lease, self.failures, self.urgent = lease, 0, False
        self.sent_for = lease.schedule_id
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
            sent = {"limit": limit, "profile": lease.profile_id, "purpose": lease.purpose, "until": lease.until}
        return {
            "asset": self.evse.asset,
            "asked": asked,
            "allowed": dict(allowed),
            "sent": sent,
            "status": self.status,
            "why": self.why,
        }
