"""Is a peer alive, and does it read what it is sent? Times only; the leg that has this does the sending.

A peer is pinged after `ping` seconds without a byte from it, and is dead if it stays silent for 15 s more. Any byte is life. A
peer that never answers pings, yet sends messages, is no liar: it is judged by 15 minutes of silence instead. A peer for which
bytes wait, and that takes none of them for 20 s, is as good as dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PONG_S: Final = 15.0
FIRST_PING_S: Final = 5.0  # the first ping comes early: whether a peer pongs at all must be known before it goes silent
SILENT_S: Final = 900.0  # how long a peer that never pongs may say nothing
STALL_S: Final = 20.0  # how long a peer may read nothing while we have something for it
LOOK_S: Final = 5.0  # how often we look whether it took some of it: slow is not dead


class Pulse:
    """One peer's. `clock()` is monotonic seconds."""

    __slots__ = ("_answers", "_looked_at", "_moved_at", "_pinged_at", "_reads", "_spoken", "_unsent", "clock", "heard_at", "spoke_at")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.heard_at = self.spoke_at = clock()
        """When the last byte, and when the last message came; at first, when it began."""
        self._spoken = False
        self._answers = False
        self._pinged_at: float | None = None
        self._moved_at: float | None = None  # when it last took something, while bytes wait for it
        self._looked_at = 0.0
        self._unsent = 0
        self._reads = True

    # ------------------------------------------------------------ what happens

    def heard(self) -> None:
        """A byte came."""
        self.heard_at = self.clock()

    def spoke(self) -> None:
        """A message came."""
        self.spoke_at = self.heard_at
        self._spoken = True

    def opened(self) -> None:
        """The handshake is done: silence counts from here."""
        self.heard_at = self.spoke_at = self.clock()

    def pinged(self) -> None:
        """We ask."""
        self._pinged_at = self.clock()

    def ponged(self) -> None:
        """It is one that answers."""
        self._answers = True

    def flow(self, stalled: bool, unsent: int) -> None:
        """The peer stopped, or began again, to take what it is sent; so many bytes wait for it."""
        self._looked_at = self.clock()
        self._moved_at = self._looked_at if stalled else None
        self._unsent = unsent

    def reading(self, on: bool) -> None:
        """We stopped, or began again, to read from it: meanwhile it can prove nothing."""
        self._reads = on
        if on:
            self.heard_at = self.clock()

    # ------------------------------------------------------------ what follows

    @property
    def stalled(self) -> bool:
        """Bytes wait for the peer."""
        return self._moved_at is not None

    @property
    def _waits(self) -> bool:
        return self._pinged_at is not None and self._pinged_at >= self.heard_at

    def due(self, every_s: float) -> float:
        """When `check` is wanted next."""
        if self._moved_at is not None:
            return self._looked_at + LOOK_S
        if not self._reads:
            return self.clock() + every_s
        if self._waits and self._pinged_at is not None:
            return self._pinged_at + (PONG_S if self._answers else max(PONG_S, every_s))
        if self._pinged_at is None:
            return self.heard_at + min(FIRST_PING_S, every_s)
        return self.heard_at + every_s

    def check(self, every_s: float, unsent: int) -> str | None:
        """None: nothing to do. "": ping it. Otherwise why it is taken for dead. `unsent`: bytes that wait for it."""
        now = self.clock()
        if now < self.due(every_s):
            return None
        if self._moved_at is not None:
            return self._check_flow(now, self._moved_at, unsent)
        if not self._reads:
            return None
        if self._waits and (self._answers or not self._spoken or now - self.spoke_at >= SILENT_S):
            return f"has said nothing for {now - self.heard_at:.0f} s"
        return ""

    def _check_flow(self, now: float, moved_at: float, unsent: int) -> str | None:
        if unsent < self._unsent:
            moved_at = now
        self._moved_at, self._looked_at, self._unsent = moved_at, now, unsent
        return f"has read nothing for {now - moved_at:.0f} s" if now - moved_at >= STALL_S else None
