"""Whether a station keeps to a limit that it accepted: judged by what its meter says, for "Accepted" is no guarantee.

A limit goes in with the moment of the station's answer, then what the meter says; one verdict comes out. The first two usable
readings from a minute after the answer on decide: both clearly above the limit, and it was not obeyed. Without a usable one within
three of the station's own intervals nothing can be said. An EVSE where nobody charges is not to be watched at all.

    watch ─▶ a minute to settle ─▶ two readings ─▶ obeyed | not-obeyed
                                └▶ three intervals without one ─▶ unverified
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from broker.model.basics import Instant
from broker.model.observations import Reading
from broker.model.schedules import Step, later

SETTLE_S: Final = 60.0  # cars take that long to follow
READINGS: Final = 2
INTERVALS: Final = 3
INTERVAL_S: Final = 60.0  # of a station whose own is not known yet, or shorter
LONGEST_S: Final = 900.0  # meters at the quarter of an hour are the slowest that say anything of a limit
TOLERANCE: Final = 0.1
TOLERANCE_A: Final = 1.0
NOMINAL_V: Final = 230.0
NEVER: Final = Instant(0.0, 0.0)


class Verdict(NamedTuple):
    kind: Literal["obeyed", "not-obeyed", "unverified"]
    detail: str = ""
    """The last reading against the limit, for people."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What the station accepted. Times are seconds since 1970 UTC, in our clock."""

    steps: tuple[Step, ...]
    until: float
    """From then on ours says nothing."""
    unit: Literal["A", "W"]
    """A: per phase; W: in all."""
    phases: int = 3

    def at(self, since: float, moment: float) -> float | None:
        """The highest that was in force between the two; None: ours said nothing at one of them."""
        if not self.steps or since < self.steps[0].at or moment >= self.until:
            return None
        begun = [step.limit for step in self.steps if step.at <= since][-1]
        return max([begun, *(step.limit for step in self.steps if since < step.at <= moment)])

    def exceeded(self, limit: float, used: float) -> bool:
        """Clearly: by more than a tenth, and by more than an ampere."""
        ampere = TOLERANCE_A if self.unit == "A" else TOLERANCE_A * NOMINAL_V * self.phases
        return used > limit + max(TOLERANCE * limit, ampere)

    def used(self, reading: Reading) -> float | None:
        """What the meter says, in the limit's unit; where it must be converted, no higher than it was. None: it does not say."""
        currents = [current for current in reading.currents_a if current is not None]
        if self.unit == "A":
            if currents:
                return max(currents)
            return None if reading.power_w is None else reading.power_w / (NOMINAL_V * self.phases)
        if reading.power_w is not None:
            return reading.power_w
        pairs = list(zip(reading.currents_a, reading.voltages_v, strict=True))
        known = [current * volts for current, volts in pairs if current is not None and volts is not None]
        return sum(known) if known and len(known) == len(currents) else None


class Obedience:
    """One EVSE's. Watches one limit at a time: the newest."""

    __slots__ = ("_above", "_interval_s", "_last_mono", "_limit", "_since")

    def __init__(self) -> None:
        self._limit: Limit | None = None
        self._since = NEVER
        self._above: list[bool] = []
        self._interval_s = INTERVAL_S
        self._last_mono: float | None = None

    def watch(self, limit: Limit, now: Instant) -> None:
        """The station has accepted this, or a transaction began under it."""
        self._limit, self._since, self._above = limit, now, []

    def forget(self) -> None:
        """The limit is gone, or nobody charges any more."""
        self._limit = None

    def stepped(self, by: float) -> None:
        """Our clock was set forward by so many seconds."""
        self._since = Instant(self._since.mono, self._since.wall + by)
        if self._limit is not None:
            self._limit = replace(self._limit, steps=later(self._limit.steps, by), until=self._limit.until + by)

    @property
    def idle(self) -> bool:
        """No limit is watched."""
        return self._limit is None

    @property
    def wake_at(self) -> float | None:
        """Monotonic seconds of the next `tick` that would say something."""
        if self._limit is None or self._above:
            return None
        return self._since.mono + SETTLE_S + INTERVALS * self._interval_s

    def metered(self, reading: Reading, skew: float, now: Instant) -> Verdict | None:
        """The meter spoke. `skew`: the station's clock minus ours, in seconds."""
        moment = now.wall if reading.at is None else reading.at - skew
        limit = self._limit
        if limit is None or reading.context.startswith(("Transaction.", "Interruption.")):
            return None  # before and after a transaction the car does as it likes
        self._learn_interval(now)
        used = limit.used(reading)
        if used is None or moment < self._since.wall + SETTLE_S or moment > now.wall + SETTLE_S:
            return None
        allowed = limit.at(moment - SETTLE_S, moment)
        if allowed is None:
            return None
        self._above.append(limit.exceeded(allowed, used))
        if len(self._above) < READINGS:
            return None
        self._limit = None
        if not all(self._above):
            return Verdict("obeyed")
        return Verdict("not-obeyed", f"{used:.1f} {limit.unit} where {allowed:g} {limit.unit} was accepted")

    def tick(self, now: Instant) -> Verdict | None:
        """Time passed. A limit that has run out was never judged, and one reading alone is waited on until then."""
        limit = self._limit
        if limit is None:
            return None
        if limit.until <= now.wall:
            self._limit = None
            return None
        if self.wake_at is None or now.mono < self.wake_at:
            return None
        self._limit = None
        return Verdict("unverified", "no usable meter value")

    def _learn_interval(self, now: Instant) -> None:
        """How far apart its readings come. Several at once are one; a long silence is not an interval."""
        if self._last_mono is not None and now.mono - self._last_mono <= LONGEST_S:
            self._interval_s = max(INTERVAL_S, now.mono - self._last_mono)
        self._last_mono = now.mono
