"""What may be drawn, and when: OCPP's charging profiles with their periods, version-free, and the engine's schedules with their steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Period(NamedTuple):
    """From `start_s` seconds after the schedule's start on, at most `limit` (A per phase, or W in all)."""

    start_s: int
    limit: float
    phases: int | None = None


@dataclass(frozen=True, slots=True)
class ChargingProfile:
    """A schedule as OCPP wraps it. Purposes have 1.6's and 2.x's names folded to four words."""

    id: int
    stack_level: int
    purpose: str
    """max (ChargePointMaxProfile, ChargingStationMaxProfile) | default (TxDefaultProfile) | tx (TxProfile) | any other: as sent."""
    kind: str
    """Absolute | Recurring | Relative | any other: as sent."""
    unit: str
    """A or W."""
    periods: tuple[Period, ...]
    start: float | None = None
    duration_s: int | None = None
    recurrency: str | None = None
    transaction_id: str | None = None
    valid_from: float | None = None
    valid_to: float | None = None
    more_schedules: bool = False
    """2.x: there were further schedules in the profile that this does not hold."""
    slack_s: float = 0.0
    """By how much the station may read its times otherwise, either way: they bear no offset from UTC."""


class Step(NamedTuple):
    """From `at` (seconds since 1970 UTC) on, `limit`."""

    at: float
    limit: float


def in_force(steps: tuple[Step, ...], wall: float) -> float | None:
    """The limit at that time (seconds since 1970 UTC); None before the first step. They rise strictly."""
    return next((step.limit for step in reversed(steps) if step.at <= wall), None)


def later(steps: Iterable[Step], by_s: float) -> tuple[Step, ...]:
    """Each so much later."""
    return tuple(Step(step.at + by_s, step.limit) for step in steps)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule of the engine for one asset, validated whole."""

    id: str
    asset: str
    issued_at: float
    valid_until: float
    unit: str
    """W: total of all phases; A: per phase."""
    steps: tuple[Step, ...]
    """Strictly rising; the last one holds until `valid_until`."""
    transaction: str | None = None
    """The engine's (globally unique) transaction id; None = whatever charges there."""
    phases: int | None = None
