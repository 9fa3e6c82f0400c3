"""How much one peer may say: a token bucket for each leg. Times in, delay out.

Each message takes a token, and each control frame; `rate` of them come back a second, `burst` at most are kept. Who has none left
is not read until some are back: what it said waits, whole and in order, in its own socket's buffers and then at the peer itself.
Nothing is dropped.
"""

from __future__ import annotations

from typing import Final

PAUSE_S: Final = 0.05  # reading goes on with the tokens of so long: not one timer a frame, and the others never wait for more at once


class Bucket:
    """One leg's. `rate` in tokens/s, 0 = no bound; `burst` in tokens, at least 1; `now` in monotonic seconds.

    `left` is the tokens that are left: whoever takes one subtracts it, and asks `wait` when there is not another whole one. In any
    t seconds at most `burst + rate * t` are taken, if `fill` is told the time of each read.
    """

    __slots__ = ("_at", "_burst", "_rate", "left")

    def __init__(self, rate: int, burst: int, now: float) -> None:
        self._rate = float(rate)
        self._burst = float(burst)
        self._at = now
        self.left = self._burst if rate else float("inf")

    def fill(self, now: float) -> None:
        """What came back since it was last told the time. A clock that goes back gives nothing, and takes nothing."""
        if now > self._at and self._rate:
            self.left = min(self._burst, self.left + (now - self._at) * self._rate)
            self._at = now

    def wait(self, now: float) -> float:
        """Seconds until reading goes on; 0.0: a token is there now."""
        self.fill(now)
        if self.left >= 1.0:
            return 0.0
        enough = min(self._burst, max(1.0, self._rate * PAUSE_S))
        return (enough - self.left) / self._rate


FREE: Final = Bucket(0, 1, 0.0)
"""Without a bound: one for all who have none."""
