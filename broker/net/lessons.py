"""What links learn waits until the frames of a reactor's turn have all gone on: relaying comes first, learning after it.

    a turn: frame ─▶ other leg, frame ─▶ other leg, … ─▶ then, link by link: what went by ─▶ its observer

Nobody's frame waits while something is learned from another's; and learning by itself is cheaper than learning between frames, for
what it takes of the processor's caches stays there. Outside a turn (a timer, a thread's answer, a test) it is learned at once.
"""

from __future__ import annotations

from typing import Final, Protocol

from twisted.logger import Logger

log = Logger()

MOST: Final = 256  # lessons that wait: some ten milliseconds of work; then all of them are learned at once


class Learner(Protocol):
    """A link."""

    name: str

    def learn(self) -> None: ...


class Lessons:
    """Who has yet to learn, once for each exchange that went by. Given to `lean.lighten`, which says when a turn begins and ends."""

    def __init__(self) -> None:
        self._turning = False
        self._waiting: list[Learner] = []

    def add(self, link: Learner) -> None:
        """Something went by on this link: it learns at the end of the turn, or now if there is none, or if many wait already."""
        self._waiting.append(link)
        if not self._turning or len(self._waiting) >= MOST:
            self._learn()

    def begin(self) -> None:
        """A turn begins: sockets are read."""
        self._turning = True

    def end(self) -> None:
        """All of them were read."""
        self._turning = False
        if self._waiting:
            self._learn()

    def _learn(self) -> None:
        waiting, self._waiting = self._waiting, []
        for link in waiting:
            try:
                link.learn()
            except Exception as failure:  # one link's own: the others learn all the same. Its text may quote a frame
                log.error("{link} could not go on after a lesson, which is our fault: {kind}", link=link.name, kind=type(failure).__name__)
