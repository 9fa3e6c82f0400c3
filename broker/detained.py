"""Frames of the station that must wait a moment before the CPMS gets them. Nothing overtakes.

An answer of the station waits until what its CALL entrusted the station with (a password) is on disk, at most as long as it is
told; everything the station says meanwhile waits behind it. More than a few frames or bytes are not kept: then all go. Whatever
goes without what it waited for is counted. In come frames, commits and the time; out comes what is to be done, frames first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.calls import Promise
from broker.effects import Counted, Effect, Tell
from broker.ocpp.frames import Frame
from broker.waiting import MOST, MOST_BYTES


@dataclass(slots=True, eq=False)
class Stayer:
    """One frame on its way to the CPMS."""

    frame: Frame
    until: float
    """Monotonic seconds at which it goes in any case; without tokens it goes as soon as those before it are gone."""
    tokens: Promise = field(default_factory=Promise)
    """Commits it waits for."""


class Detained:
    """The queue toward one CPMS, in the order in which the station spoke."""

    __slots__ = ("_bytes", "line")

    def __init__(self) -> None:
        self.line: list[Stayer] = []
        """To be looked at, not to be changed."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.line)

    @property
    def until(self) -> float | None:
        """When the first of them must go; None when none waits."""
        return min((one.until for one in self.line if one.tokens), default=None)

    def join(self, stayer: Stayer) -> list[Effect]:
        """One more, the last."""
        self.line.append(stayer)
        self._bytes += len(stayer.frame.text)
        if len(self.line) > MOST or (self._bytes > MOST_BYTES and len(self.line) > 1):
            return [*self._let_go(float("inf")), Counted("hold-full")]
        return self._let_go()

    def committed(self, token: int, kept: bool) -> list[Effect]:
        """What this token stood for is on disk, or (not `kept`) never will be."""
        for one in self.line:
            one.tokens.settle(token, kept)
        return self._let_go()

    def tick(self, now: float) -> list[Effect]:
        """Time went by."""
        return self._let_go(now)

    def close(self) -> list[Effect]:
        """The link closes: what the station has said is said."""
        return self._let_go(float("inf"))

    def _let_go(self, now: float = float("-inf")) -> list[Effect]:
        """From the front, those that wait for nothing any more, or whose time is up by `now`."""
        gone = 0
        for one in self.line:
            if one.tokens and one.until > now:
                break
            gone += 1
        go, self.line = self.line[:gone], self.line[gone:]
        self._bytes -= sum(len(one.frame.text) for one in go)
        unpromised = [Counted("unpromised") for one in go if one.tokens or one.tokens.broken]
        return [*(Tell("cpms", one.frame) for one in go), *unpromised]
