"""For how long what the engine asked may still stand: a lease, counted from when the engine was last heard, not from when we wrote.

An engine that is down, or answers nothing about this site any more, cannot take a limit back. So its limits are vouched for by its
answers: every answer to the poll for schedules counts, also one that brings nothing new. A limit written or renewed now ends a lease
after the last of them, so that with a dead engine the station is back in the CPMS's own state within the lease, however far the
schedule's `valid_until` is away. What an operator asked alone is his: he is asked no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from broker.model.basics import Instant
from broker.sockets import Socket
from broker.standing import Standing

SILENT: Final = "engine-silent"
LOOK_AGAIN_S: Final = 60.0  # whether the engine is heard again
LEAST: Final = 1 / 3  # of a lease: with less than this left nothing is begun or renewed


class Vouching(Standing):
    """One station's. `engine_heard`: monotonic seconds of the engine's last answer about this site's schedules, None: none yet.

    Without it nobody need be heard.
    """

    __slots__ = ("_engine_heard", "_heard_mono")

    def __init__(self, *known: Any, engine_heard: Callable[[], float | None] | None = None, **more: Any) -> None:
        self._engine_heard = engine_heard
        self._heard_mono = -math.inf
        super().__init__(*known, **more)

    def _left_s(self, socket: Socket, now: Instant) -> float:
        """How long from now on a limit may stand there, in seconds: the lease, less what the engine has been silent for."""
        return self._charging.lease_s - self._silence_s(now)

    def _silence_s(self, now: Instant) -> float:
        if self._engine_heard is None:
            return 0.0
        heard = self._engine_heard()
        if heard is not None:  # None after the settings changed: what it said before still counts
            self._heard_mono = max(self._heard_mono, heard)
        return max(0.0, now.mono - self._heard_mono)

    def _forsaken(self, left_s: float, now: Instant, times: list[float]) -> bool:
        """It was silent for so long that nothing of its is begun or renewed. When to look again is added to `times`."""
        spare = left_s - self._charging.lease_s * LEAST
        if spare > 0:
            if self._engine_heard is not None:
                times.append(now.mono + max(1.0, spare))
            return False
        times.append(now.mono + max(1.0, min(LOOK_AGAIN_S, self._charging.lease_s * LEAST)))
        return True
