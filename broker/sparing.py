"""Which of many alike lines are worth a line: of each kind the first ones in full, the rest as one number when its minute is over.

In: that something of a kind happened, and the time; out: whether to say it in full, and later how often it was not said. Who comes
while the table is full shares one place with all others that do: neither the table nor the log grows with what a stranger thinks up.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

FIRST: Final = 5  # in full: who mends one station sees each of its tries, or enough of them
WINDOW_S: Final = 60.0
MOST: Final = 200  # kinds in a minute: with all their first lines some 17 a second, 2 kB

Kind = TypeVar("Kind", bound=Hashable)


class Spared(NamedTuple, Generic[Kind]):
    """`n` more of this kind were not said; None: of kinds for which there was no room."""

    kind: Kind | None
    n: int


class Sparing(Generic[Kind]):
    """`now` is monotonic seconds."""

    def __init__(self, first: int = FIRST, window_s: float = WINDOW_S, most: int = MOST) -> None:
        self._first, self._window_s, self._most = first, window_s, most
        self._of: dict[Kind | None, tuple[float, int]] = {}  # since when, how often; the oldest first

    def __len__(self) -> int:
        return len(self._of)

    def happened(self, kind: Kind, now: float) -> bool:
        """Once more; is it to be said in full? What `due` has to tell is asked for first."""
        at = kind if kind in self._of or len(self._of) < self._most else None
        since, n = self._of.get(at, (now, 0))
        self._of[at] = since, n + 1
        return n < self._first

    def due(self, now: float) -> list[Spared[Kind]]:
        """What was not said of minutes that are over, each once. Their kinds begin anew."""
        over = [kind for kind, (since, _) in self._of.items() if now - since >= self._window_s]
        return [Spared(kind, n - self._first) for kind in over if (n := self._of.pop(kind)[1]) > self._first]

    def rest(self) -> list[Spared[Kind]]:
        """The same of all minutes, over or not: nobody will ask again."""
        return self.due(float("inf"))

    @property
    def wake_at(self) -> float | None:
        """When `due` has something to tell; None while nothing was left unsaid."""
        return min((since + self._window_s for since, n in self._of.values() if n > self._first), default=None)
