"""From a wish of the engine to a profile of ours: what the station may be told, in its unit, with its own end.

A `Plan` is absolute and in our clock; `wrap` writes it as a charging profile in the station's clock. Limits are 0 or between the
least a car can charge with and what the CPMS and the installation allow; always rounded down, never above. The last period gives
what the CPMS alone allows, so that a station that ignores a profile's expiry is still right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from broker.model.schedules import ChargingProfile, Period, Schedule, Step
from broker.settings import ChargingSettings, EvseSettings, StationSettings

NOMINAL_V: Final = 230.0
TINY: Final = 1e-6  # floats' own noise, in A or W
DC_V: Final = 1000.0  # the most that a car's battery has: a dc station that counts amperes says not at which voltage
BEFORE_S: Final = 60.0  # a profile begins a little in the past, so that there is no gap before it
DAY_S: Final = 86_400.0  # a tail is right for as long, on a station that ignores a profile's end
AFTER_S: Final = 300.0  # how long the tail stands before the profile itself ends
LEAST_PERIODS: Final = 2  # one for the wish and one for its end: a limit that does not end by itself is never sent
BOUNDLESS: Final = {"A": 1000.0, "W": 1_000_000.0}
"""A tail that limits nothing, for when neither the CPMS nor the operator says a limit: an absent one would be a gap."""


class Plan(NamedTuple):
    """What one EVSE is told. Times are seconds since 1970 UTC, whole but for the first; limits in the unit on the wire."""

    steps: tuple[Step, ...]
    """The first begins now or before."""
    tail_at: float
    """When the lease ends."""
    tail: float
    """What the CPMS alone allows from then on, `max_amps` at most; `BOUNDLESS` if neither says a limit."""
    most: tuple[Step, ...]
    """All of it in the socket's own unit (A per phase for ac, W for dc), the tail last."""
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
    ceiling: Sequence[Step],
    unit: str,
    now: float,
    lease_until: float,
    max_periods: int,
) -> Plan:
    """`ceiling`: what the CPMS alone allows and from when on, in A per phase for ac and W for dc; empty or infinite = no limit.
    `unit`: A or W, on the wire.

    `max_periods` counts the tail; less than two leave no room for it and are taken for two.
    """
    size = _Size(evse, station, charging, unit)
    changes: set[str] = set()
    tail_at = until = float(math.floor(min(lease_until, schedule.valid_until)))
    wanted: list[Step] = []
    for at in sorted({now, *(step.at for step in (*schedule.steps, *ceiling) if now < step.at < tail_at)}):
        begun, allowed = [step for step in schedule.steps if step.at <= at], _least(ceiling, at, at)
        # Of the time before its first period the engine says nothing: then the CPMS's limit alone is in force.
        wanted.append(Step(at, size.fit(begun[-1].limit, allowed, schedule, changes) if begun else size.tail(allowed)))
    if any(before.limit == after.limit for before, after in pairwise(wanted)):
        changes.add("merged")
    wanted = [step for step in _whole_seconds(wanted) if step.at < tail_at or step.at <= now]
    steps = [wanted[0], *(after for before, after in pairwise(wanted) if after.limit != before.limit)]
    room = max(LEAST_PERIODS, max_periods) - 1
    if len(steps) > room:
        until = tail_at = steps[room].at
        steps = steps[:room]
        changes.add("window")
    tail = size.tail(_least(ceiling, tail_at, tail_at + DAY_S))
    most = tuple(Step(at, size.own(limit)) for at, limit in (*steps, Step(tail_at, tail)))
    return Plan(tuple(steps), tail_at, tail, most, until, tuple(sorted(changes)))


def _least(ceiling: Sequence[Step], begin: float, end: float) -> float:
    """In [begin, end]; infinite where nothing is said."""
    begun = [step.limit for step in ceiling if step.at <= begin]
    return min([*begun[-1:], *(step.limit for step in ceiling if begin < step.at <= end)], default=math.inf)


def _whole_seconds(steps: list[Step]) -> list[Step]:
    """In every second the lowest of what holds in it: OCPP counts whole ones, and a lower limit is never late."""
    slots: dict[int, float] = {}
    before = steps[0].limit
    for at, limit in steps[1:]:
        second = math.floor(at)
        if at > second:
            slots[second] = min(slots.get(second, before), limit)
            second += 1
        slots[second] = before = limit
    first, now = steps[0].limit, steps[0].at
    for second in [second for second in slots if second <= now]:
        first = min(first, slots.pop(second))
    return [Step(now, first), *(Step(float(second), slots[second]) for second in sorted(slots))]


class _Size:
    """Limits of one EVSE, from the engine's unit to the wire's."""

    def __init__(self, evse: EvseSettings, station: StationSettings, charging: ChargingSettings, unit: str) -> None:
        self._ac = station.current == "ac"
        self._watts = NOMINAL_V * evse.phases  # of one ampere per phase
        own_per_amp = 1.0 if self._ac else self._watts
        self._most = math.inf if evse.max_amps is None else evse.max_amps * own_per_amp
        self._fallback = math.inf if charging.fallback_amps is None else charging.fallback_amps * own_per_amp
        self._least = charging.min_amps * own_per_amp
        self._floor = charging.below_min == "min"
        self._unit = unit
        if self._ac == (unit == "A"):
            self._factor = 1.0
        else:
            self._factor = self._watts if self._ac else 1.0 / DC_V

    def fit(self, limit: float, ceiling: float, schedule: Schedule, changes: set[str]) -> float:
        """0, or between the least and what is allowed; in the wire's unit. What had to be changed is added to `changes`."""
        own = max(0.0, limit)
        if self._ac and schedule.unit == "W":
            own /= self._watts
            changes.add("unit")
        elif not self._ac and schedule.unit == "A":
            own *= self._watts
            changes.add("unit")
        allowed = min(ceiling, self._most)
        if own > allowed:
            changes.add("cpms-lower" if ceiling <= self._most else "max-amps")
            own = max(0.0, allowed)
        if 0 < own < self._least:
            own = self._least if self._floor and self._least <= allowed else 0.0
            changes.add("minimum" if own else "paused")
        said = self._wire(own)
        if said < own * self._factor - TINY:
            changes.add("rounded")
        if own > 0 and said < self._least * self._factor - TINY:  # rounding took it below what a car can charge with
            changes.add("paused")
            return 0.0
        return said

    def tail(self, ceiling: float) -> float:
        """What the CPMS alone allows, bounded by the installation."""
        allowed = min(ceiling, self._most, self._fallback)
        return BOUNDLESS[self._unit] if math.isinf(allowed) else self._wire(allowed)

    def own(self, said: float) -> float:
        """What was said on the wire."""
        return said / self._factor

    def _wire(self, own: float) -> float:
        """Rounded down to one decimal, in the wire's unit. 6.3 A * 690 W/A is 4346.999… in floats and meant as 4347."""
        return math.floor(round(max(0.0, own) * self._factor * 10, 6)) / 10


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
    """The plan as an Absolute profile, in the station's clock (`skew` seconds ahead of ours). `now`: the plan's."""
    start = math.floor(now - BEFORE_S)
    periods = [Period(0, plan.steps[0].limit, phases)]
    for at, limit in (*plan.steps[1:], Step(plan.tail_at, plan.tail)):
        periods.append(Period(max(int(at - start), periods[-1].start_s + 1), limit, phases))
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
