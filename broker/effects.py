"""What a relay wants done, in the order in which it says it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from broker.model.traffic import Exchange, Leg
from broker.ocpp.frames import Frame

Settlement = Literal["answer", "error", "timeout", "given-up", "closed", "no-slot"]


class Tell(NamedTuple):
    """Send this frame on that leg."""

    leg: Leg
    frame: Frame


class Saw(NamedTuple):
    """This exchange went by; of interest to the tap."""

    exchange: Exchange


class Guarded(NamedTuple):
    """A CPMS CALL waits until `Relay.passed(token)`, at most `hold`."""

    token: int
    exchange: Exchange


class Answered(NamedTuple):
    """What became of a CALL of ours; said once for each `inject`."""

    token: int
    outcome: Settlement
    """answer: CALLRESULT; error: CALLERROR; given-up: the CPMS wanted the station; no-slot: never sent."""
    answer: bytes | None
    """The whole frame, for "answer" and "error"."""


class Sent(NamedTuple):
    """A CALL of ours is on its way."""

    token: int


class Counted(NamedTuple):
    """Something to count: opaque, late-answer, untapped, unpromised, unguarded, hold-full or forgotten."""

    what: str


class Held(NamedTuple):
    """How many seconds a CPMS CALL waited that goes now."""

    seconds: float


Effect = Tell | Saw | Guarded | Answered | Sent | Counted | Held
Effects = tuple[Effect, ...]


class _Forward(tuple[Effect, ...]):
    """An empty tuple that is like no other."""

    __slots__ = ()


FORWARD: Final[Effects] = _Forward()
"""`effects is FORWARD`: send this very frame on the other leg and do nothing else. `wake_at` has not come nearer."""

Heard = Effects | Exchange
"""What a frame leads to. An `Exchange` by itself: send this very frame on, then show it; nothing else."""


def spelled_out(heard: Heard, to: Leg, frame: Frame) -> Effects:
    """The same without its two short forms, for who is not in a hurry: `frame` came, and would go on to `to`."""
    if heard is FORWARD:
        return (Tell(to, frame),)
    return (Tell(to, frame), Saw(heard)) if isinstance(heard, Exchange) else heard
