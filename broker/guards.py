"""CPMS CALLs that wait under law 8 until ours is lowered or cleared: which, and for which EVSEs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Guard:
    places: set[int]
    """EVSEs whose profile of ours is still to be lowered or cleared."""
    after: int | None
    """Token of a CALL of ours that was under way already: its end is not what is waited for."""


class Guards:
    """Each token added comes out once, of `settled` or of `all`."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Guard] = {}

    def add(self, token: int, places: set[int], after: int | None) -> None:
        self._waiting[token] = _Guard(set(places), after)

    def settled(self, ours: int, place: int) -> list[int]:
        """Our CALL with token `ours`, a set or clear for EVSE `place` (0: something else), ended, however: who may go now."""
        ready = []
        for token, guard in list(self._waiting.items()):
            if guard.after == ours:
                guard.after = None
                continue
            guard.places.discard(place)
            if not guard.places:
                ready.append(token)
                del self._waiting[token]
        return ready

    def all(self) -> list[int]:
        """Everybody may go."""
        tokens = list(self._waiting)
        self._waiting.clear()
        return tokens

    def waits_on(self, place: int) -> bool:
        return any(place in guard.places for guard in self._waiting.values())
