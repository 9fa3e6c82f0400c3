"""CPMS CALLs that wait under law 8 until ours is lowered or cleared: which, and for which EVSEs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Guard:
    places: set[int]
    """EVSEs whose profile of ours is still to be lowered or cleared."""
    concerned: frozenset[int]
    """All EVSEs whose profile of ours made way."""
    after: int | None
    """Token of a CALL of ours that was under way already: its end is not what is waited for."""


class Guards:
    """Each token added comes out once, of `settled` or of `all`."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[int, _Guard] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, token: int, places: set[int], after: int | None) -> None:
        self._waiting[token] = _Guard(set(places), frozenset(places), after)

    def settled(self, ours: int, place: int) -> list[tuple[int, frozenset[int]]]:
        """Our CALL with token `ours`, a set or clear for EVSE `place` (0: something else), ended: who may go now, and what made way."""
        ready = []
        for token, guard in list(self._waiting.items()):
            if guard.after == ours:
                guard.after = None
                continue
            guard.places.discard(place)
            if not guard.places:
                ready.append((token, guard.concerned))
                del self._waiting[token]
        return ready

    def all(self) -> list[tuple[int, frozenset[int]]]:
        """Everybody may go."""
        ready = [(token, guard.concerned) for token, guard in self._waiting.items()]
        self._waiting.clear()
        return ready

    def waits_on(self, place: int) -> bool:
        return any(place in guard.places for guard in self._waiting.values())
