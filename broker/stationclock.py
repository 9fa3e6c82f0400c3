"""How a station's clock stands against ours, learned from the times in what it sends live.

A profile's times are read by the station, so they are written in its clock. A clock that is unknown, or that jumped, is not
written for. A time that lies behind may also be an old message's, delivered late: it is believed only when another, some seconds
later, says the same. A time ahead can be no message's delay.
"""

from __future__ import annotations

from typing import Final

from broker.model.basics import Instant
from broker.model.observations import Boot, Metered, Observation, StatusSeen, TransactionSeen

JUMP_S: Final = 60.0
AGREE_S: Final = 10.0  # two times of a clock that is far off differ by less; those of a queue that is emptied differ by its interval
APART_S: Final = 2.0  # and they come apart: a queue is emptied in one go
PATIENCE_S: Final = 300.0  # for so long old messages may come between ones that fit


class StationClock:
    """`skew`: the station's clock minus ours, in seconds; None while unknown. `jumped`: it is not what it was, and not yet known."""

    __slots__ = ("_doubted", "_fitted_mono", "_hint", "jumped", "skew")

    def __init__(self) -> None:
        self.skew: float | None = None
        self.jumped = False
        self._hint: float | None = None  # the CPMS's clock at the boot, against ours
        self._doubted: tuple[float, float] | None = None  # skew, and when it was first said
        self._fitted_mono = 0.0

    def observe(self, seen: Observation, now: Instant) -> None:
        """Learn from what was said with a time of now. Interval starts, offline events and stops' histories say nothing."""
        if isinstance(seen, Boot):
            self._booted(seen, now)
            return
        at = _moment(seen)
        if at is None:
            return
        skew = at - now.wall
        known = self.skew
        if abs(skew - known) <= JUMP_S if known is not None else (abs(skew) <= JUMP_S or abs(skew - (self._hint or 0.0)) <= JUMP_S):
            # Messages take time, so the largest of what is said is nearest to the truth; it may drift back slowly.
            self._believe(skew if known is None else max(skew, known - 0.1 * abs(known - skew)), now)
        elif self._doubted is not None and abs(skew - self._doubted[0]) <= AGREE_S:
            if now.mono - self._doubted[1] >= APART_S:
                self._believe(skew, now)
        else:
            self._doubted = (skew, now.mono)
            ahead = known is not None and skew > known
            self.jumped = self.jumped or ahead or (known is not None and now.mono - self._fitted_mono > PATIENCE_S)

    @property
    def likely(self) -> float:
        """The skew as far as anything tells: the CPMS's time at the boot, or what the station said once, if no more is known."""
        said = self._doubted[0] if self._doubted is not None else 0.0
        return next((known for known in (self.skew, self._hint) if known is not None), said)

    def stepped(self, by: float) -> None:
        """Our clock was set forward by so many seconds; the station's was not."""
        self.skew = None if self.skew is None else self.skew - by
        self._hint = None if self._hint is None else self._hint - by
        self._doubted = None if self._doubted is None else (self._doubted[0] - by, self._doubted[1])

    def _booted(self, boot: Boot, now: Instant) -> None:
        """A boot sets the clock, mostly to what the CPMS said."""
        if boot.status == "Accepted":
            self.skew, self._doubted, self.jumped = None, None, False
            self._hint = None if boot.clock is None else boot.clock - now.wall

    def _believe(self, skew: float, now: Instant) -> None:
        self.skew, self._fitted_mono = skew, now.mono
        self._doubted, self.jumped = None, False


def _moment(seen: Observation) -> float | None:
    if isinstance(seen, StatusSeen):
        return seen.at
    if isinstance(seen, TransactionSeen):
        return None if seen.offline or seen.phase == "ended" else seen.at
    if isinstance(seen, Metered) and seen.readings:
        last = seen.readings[-1]
        return None if last.context == "Sample.Clock" else last.at
    return None
