"""Profiles of ours that are not wanted any more, and how long a station that did not answer is left alone. Seconds, monotonic."""

from __future__ import annotations

from typing import Final

FIRST_BACK_OFF_S: Final = 60.0
SHORT_S: Final = 10.0  # a CPMS that wanted the station meanwhile has had its say by then
BACK_OFF_S: Final = 3600.0  # the longest pause after a station did not answer, and the pause after every rung was refused


def back_off_s(failures: int) -> float:
    """How long it is left alone after it failed so often in a row: each time longer."""
    return min(BACK_OFF_S, FIRST_BACK_OFF_S * 2.0 ** (failures - 1))


class Clears:
    """By id, until the station says that they are gone."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[int, tuple[int, float]] = {}

    def add(self, id: int, at_once: bool = False) -> None:
        """`at_once`: whatever it said when it was last asked."""
        failures, at = self._ids.get(id, (0, 0.0))
        self._ids[id] = (failures, 0.0 if at_once else at)

    def done(self, id: int) -> None:
        self._ids.pop(id, None)

    def __contains__(self, id: object) -> bool:
        return id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def next(self, now_mono: float, times: list[float]) -> int | None:
        """Which one now; if they all wait, `times` is told until when."""
        ready = [id for id, (_, at) in self._ids.items() if at <= now_mono]
        if not ready and self._ids:
            times.append(min(at for _, at in self._ids.values()))
        return ready[0] if ready else None

    def failed(self, id: int, now_mono: float, short: bool) -> int:
        """It is tried again later, each time later; `short`: soon, for it was not the station's fault. How often it failed so far."""
        failures = self._ids.get(id, (0, 0.0))[0] + (not short)
        wait = SHORT_S if short else back_off_s(failures)
        self._ids[id] = (failures, now_mono + wait)
        return failures
