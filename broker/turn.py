"""The one CALL of ours that there may be: waiting for its turn, open at the station, or given up and perhaps still answered.

    wish ─▶ waits ─▶ open ─▶ answer, error, timeout
               │       └──▶ given-up ─▶ (lingers until its answer or its end; no other of ours is sent meanwhile)
               └──▶ no-slot                                            … and "closed" from everywhere

Each is settled exactly once: an `Answered` is made on the way out of "waits" or "open", and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.effects import Answered, Counted, Effect, Sent, Tell
from broker.model.traffic import CALLRESULT
from broker.ocpp.frames import Frame


@dataclass(slots=True, eq=False)
class Ours:
    """A CALL of ours."""

    token: int
    id: str
    frame: Frame
    timeout: float
    """Seconds the station has to answer."""
    until: float
    """While it waits: the end of its patience. Once sent: the end of the station's time."""


class Turn:
    """Who of ours waits, who is at the station."""

    __slots__ = ("_given_up", "_sent", "_waits")

    def __init__(self) -> None:
        self._waits: Ours | None = None
        self._sent: Ours | None = None
        self._given_up = False  # the one sent is settled already

    @property
    def idle(self) -> bool:
        """None waits and none is at the station."""
        return self._waits is None and self._sent is None

    @property
    def waits(self) -> bool:
        return self._waits is not None

    @property
    def open(self) -> bool:
        """One is at the station, and its answer is still awaited."""
        return self._sent is not None and not self._given_up

    @property
    def ready(self) -> bool:
        """One waits, and none of ours is in its way."""
        return self._waits is not None and self._sent is None

    @property
    def id(self) -> str | None:
        """The message id of the one at the station, also of one that was given up."""
        return self._sent.id if self._sent is not None else None

    @property
    def until(self) -> float | None:
        """When the next of them comes to its end."""
        return min((ours.until for ours in (self._waits, self._sent) if ours is not None), default=None)

    def wish(self, ours: Ours) -> None:
        self._waits = ours

    def send(self, now: float) -> tuple[Effect, ...]:
        """Its turn has come. Only when `ready`."""
        ours, self._waits = self._waits, None
        assert ours is not None
        ours.until = now + ours.timeout
        self._sent, self._given_up = ours, False
        return (Tell("station", ours.frame), Sent(ours.token))

    def answered(self, frame: Frame, kind: int) -> Effect:
        """Its answer came. Only when `id` is not None."""
        ours, self._sent = self._sent, None
        assert ours is not None
        if self._given_up:
            return Counted("late-answer")
        return Answered(ours.token, "answer" if kind == CALLRESULT else "error", frame.text)

    def give_up(self, until: float) -> tuple[Effect, ...]:
        """The CPMS wants the station. A slow station may still answer: it is not asked by us again before `until`."""
        if self._sent is None or self._given_up:
            return ()
        self._given_up = True
        self._sent.until = min(self._sent.until, until)
        return (Answered(self._sent.token, "given-up", None),)

    def time_out(self, now: float) -> tuple[Effect, ...]:
        """The station's time is up."""
        ours = self._sent
        if ours is None or ours.until > now:
            return ()
        self._sent = None
        return () if self._given_up else (Answered(ours.token, "timeout", None),)

    def lose_patience(self, now: float) -> tuple[Effect, ...]:
        """Its turn did not come in time."""
        ours = self._waits
        if ours is None or ours.until > now:
            return ()
        self._waits = None
        return (Answered(ours.token, "no-slot", None),)

    def close(self) -> tuple[Effect, ...]:
        """The link is gone."""
        both = (None if self._given_up else self._sent, self._waits)
        self._sent = self._waits = None
        return tuple(Answered(ours.token, "closed", None) for ours in both if ours is not None)
