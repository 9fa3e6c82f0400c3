"""How a station's clock stands against ours, learned from the times in what it sends live.

A profile's times are read by the station, so they are written in its clock. A clock that is unknown, or that jumped, is not
written for.
"""

from __future__ import annotations

from typing import Final

from broker.model import Instant, Metered, Observation, StatusSeen, TransactionSeen

JUMP_S: Final = 60.0
LATE_S: Final = 3600.0  # a time this far in the past may be an offline queue's as well as a wrong clock's
SURE: Final = 2  # times that must agree before a clock that is far off, or that jumped, is believed


class StationClock:
    """`skew`: the station's clock minus ours, in seconds; None while unknown."""

    def __init__(self) -> None:
        self.skew: float | None = None
        self.jumped = False
        self._doubted: float | None = None
        self._agreeing = 0

    def observe(self, seen: Observation, now: Instant) -> None:
        """Learn from what was said with a time of now. Interval starts, offline events and stops' histories say nothing."""
        at = _moment(seen)
        if at is None:
            return
        skew = at - now.wall
        known = self.skew
        if abs(skew - (known or 0.0)) <= JUMP_S:
            # Messages take time, so the largest of what is said is nearest to the truth; it may drift back slowly.
            self.skew = skew if known is None else max(skew, known - 0.1 * abs(known - skew))
            self._doubted, self._agreeing, self.jumped = None, 0, False
            return
        if self._doubted is None or abs(skew - self._doubted) > JUMP_S:
            self._doubted, self._agreeing = skew, 0
        self._agreeing += 1
        self.jumped = known is not None
        if self._agreeing >= SURE:
            self.skew, self.jumped = skew, False
            self._doubted, self._agreeing = None, 0


def _moment(seen: Observation) -> float | None:
    if isinstance(seen, StatusSeen):
        return seen.at
    if isinstance(seen, TransactionSeen):
        return None if seen.offline or seen.phase == "ended" else seen.at
    if isinstance(seen, Metered) and seen.readings:
        last = seen.readings[-1]
        return None if last.context == "Sample.Clock" else last.at
    return None
