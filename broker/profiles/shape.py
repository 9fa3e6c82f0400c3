"""From a wish of the engine to a profile of ours: what the station may be told, in its unit, with its own end.

A `Plan` is absolute and in our clock; `wrap` writes it as a charging profile in the station's clock. Limits are 0 or between the
least a car can charge with and what the CPMS and the installation allow; always rounded down, never above. The last period gives
what the CPMS alone allows, so that a station that ignores a profile's expiry is still right.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final, NamedTuple

from broker.model import ChargingProfile, Period, Schedule, Step
from broker.settings import ChargingSettings, EvseSettings, StationSettings

NOMINAL_V: Final = 230.0
BEFORE_S: Final = 60.0  # a profile begins a little in the past, so that there is no gap before it
AFTER_S: Final = 300.0  # how long the tail stands before the profile itself ends
BOUNDLESS: Final = {"A": 1000.0, "W": 1_000_000.0}
"""A tail that limits nothing, for when neither the CPMS nor the operator says a limit: an absent one would be a gap."""


class Plan(NamedTuple):
    """What one EVSE is told. Times are seconds since 1970 UTC, limits in the unit on the wire."""

    steps: tuple[Step, ...]
    """The first begins now or before."""
    tail_at: float
    """When the lease ends."""
    tail: float
    """What the CPMS alone allows from then on."""
    until: float
    """For how long the steps say what the engine wants: the lease, or less if the station takes no more periods."""
    changes: tuple[str, ...]
    """What was changed: unit, rounded, cpms-lower, max-amps, minimum, paused, merged, window."""


def plan(
    schedule: Schedule,
    evse: EvseSettings,
    station: StationSettings,
    charging: ChargingSettings,
    *,
    ceiling: float | None,
    unit: str,
    now: float,
    lease_until: float,
    max_periods: int,
) -> Plan:
    """`ceiling`: what the CPMS alone allows, in A per phase for ac and W for dc; None = no limit. `unit`: A or W, on the wire."""
    size = _Size(evse, station, charging, ceiling, unit)
    changes: set[str] = set()
    tail = size.tail()
    tail_at = min(lease_until, schedule.valid_until)
    wanted: list[Step] = []
    for step in schedule.steps:
        limit = size.fit(step.limit, schedule, changes)
        if step.at <= now:
            wanted = [Step(now, limit)]
        elif step.at < tail_at:
            wanted.append(Step(step.at, limit))
    if not wanted or wanted[0].at > now:  # of the time before its first period the engine says nothing
        wanted.insert(0, Step(now, tail))
    steps = [wanted[0], *(b for a, b in pairwise(wanted) if b.limit != a.limit)]
    if len(steps) < len(wanted):
        changes.add("merged")
    until = tail_at
    if len(steps) > max_periods - 1:
        until = tail_at = steps[max_periods - 1].at
        steps = steps[: max_periods - 1]
        changes.add("window")
    return Plan(tuple(steps), tail_at, tail, until, tuple(sorted(changes)))


class _Size:
    """Limits of one EVSE, from the engine's unit to the wire's."""

    def __init__(
        self, evse: EvseSettings, station: StationSettings, charging: ChargingSettings, ceiling: float | None, unit: str
    ) -> None:
        self._ac = station.current == "ac"
        self._watts = NOMINAL_V * evse.phases
        most = evse.max_amps if self._ac or evse.max_amps is None else evse.max_amps * self._watts
        self._ceiling = math.inf if ceiling is None else ceiling
        self._most = math.inf if most is None else most
        self._least = charging.min_amps * (1.0 if self._ac else self._watts)
        self._floor = charging.below_min == "min"
        self._unit = unit

    def fit(self, limit: float, schedule: Schedule, changes: set[str]) -> float:
        """0, or between the least and what is allowed."""
        own = limit
        if self._ac and schedule.unit == "W":
            own = limit / self._watts
            changes.add("unit")
        elif not self._ac and schedule.unit == "A":
            own = limit * self._watts
            changes.add("unit")
        allowed = min(self._ceiling, self._most)
        if own > allowed:
            changes.add("cpms-lower" if self._ceiling <= self._most else "max-amps")
            own = allowed
        if 0 < own < self._least:
            own = self._least if self._floor and self._least <= allowed else 0.0
            changes.add("minimum" if own else "paused")
        said = self._wire(own)
        if own > 0 and self._back(said) < own - 1e-9:
            changes.add("rounded")
        return said

    def tail(self) -> float:
        """What the CPMS alone allows, bounded by the installation."""
        allowed = min(self._ceiling, self._most)
        return BOUNDLESS[self._unit] if math.isinf(allowed) else self._wire(allowed)

    def _wire(self, own: float) -> float:
        """Rounded down to one decimal, in the wire's unit."""
        factor = 1.0 if self._ac == (self._unit == "A") else self._watts if self._unit == "W" else 1.0 / self._watts
        return math.floor(max(0.0, own) * factor * 10 + 1e-6) / 10

    def _back(self, said: float) -> float:
        factor = 1.0 if self._ac == (self._unit == "A") else 1.0 / self._watts if self._unit == "W" else self._watts
        return said * factor


def wrap(
    plan: Plan,
    *,
    id: int,
    stack_level: int,
    purpose: str,
    unit: str,
    phases: int | None,
    transaction_id: str | None,
    skew: float,
    now: float,
) -> ChargingProfile:
    """The plan as an Absolute profile, in the station's clock (`skew` seconds ahead of ours)."""
    start = math.floor(now - BEFORE_S)
    periods = [Period(0, plan.steps[0].limit, phases)]
    for at, limit in (*plan.steps[1:], Step(plan.tail_at, plan.tail)):
        # Rounded so that a limit is never late: a lower one begins a second early, a higher one a second late.
        exact = at - start
        second = math.ceil(exact) if limit > periods[-1].limit else math.floor(exact)
        periods.append(Period(max(second, periods[-1].start_s + 1), limit, phases))
    ends = periods[-1].start_s + int(AFTER_S)
    return ChargingProfile(
        id=id,
        stack_level=stack_level,
        purpose=purpose,
        kind="Absolute",
        unit=unit,
        periods=tuple(periods),
        start=start + skew,
        duration_s=ends,
        transaction_id=transaction_id,
        valid_to=None if purpose == "tx" else start + skew + ends,
    )
