"""What the injector knows of one EVSE: what the engine asked, what of ours stands there, when it may be touched again.

Plain state, and the few questions that need no more than it. Times are seconds since 1970 UTC unless a name says mono.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker.clears import back_off_s
from broker.leases import Lease
from broker.model.basics import Instant
from broker.model.schedules import Schedule, in_force
from broker.obedience import Limit, Obedience
from broker.settings import EvseSettings


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
            self.obedience.watch(Limit(lease.steps, lease.until, "A" if lease.unit == "A" else "W", self.evse.phases), now)

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
        self.not_before_mono = now_mono + back_off_s(self.failures)
        self.urgent = False
        self.status, self.why = status, why

    def explain(self, now: float, allowed: Mapping[str, Any]) -> dict[str, Any]:
        """As plain data."""
        sent = None
        if self.lease is not None:
            lease = self.lease
            limit = in_force(lease.steps, now)
            sent = {"limit": limit, "profile": lease.profile_id, "purpose": lease.purpose, "until": lease.until, "why": list(lease.why)}
        seen = {"asset": self.evse.asset, "asked": asked_now(self.schedule, now), "allowed": dict(allowed), "sent": sent}
        return {**seen, "status": self.status, "why": self.why}


def asked_now(asked: Schedule | None, wall: float) -> dict[str, Any] | None:
    """What the engine asks, and how much of it is in force."""
    return None if asked is None else {"schedule": asked.id, "limit": in_force(asked.steps, wall), "unit": asked.unit}
