"""What went by on a link: who said it, of which message type, and which of it a dialect wants to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

Leg = Literal["station", "cpms"]
"""Which of the two sockets; also: who sent something."""

CALL, CALLRESULT, CALLERROR, CALLRESULTERROR, SEND = 2, 3, 4, 5, 6

OURS = "ocb-"
"""Every message id of ours begins with this; 32 lower-case hex digits follow (36 characters, OCPP-J's limit)."""


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """A CALL that went by, with its answer if that went by too. Frames are whole OCPP-J arrays, as they came."""

    sender: Leg
    action: str
    call: bytes
    """The CALL's frame; b"" when only its answer's kind is of interest."""
    answer: bytes | None
    """The answer's frame; None when this is shown at the CALL."""
    kind: int
    """CALLRESULT or CALLERROR; 0 while unanswered."""
    token: int | None
    """To be given to `Relay.committed` once what was learned is on disk; None when no answer waits for it."""
    asked: int | None = None
    """Of an answer to an entrusting CALL, which is then not here: the token under which that CALL was shown."""


@dataclass(frozen=True, slots=True)
class Interest:
    """Which actions a dialect wants to see, handed to the relay at link-open. The relay knows no other thing of OCPP."""

    at_call: frozenset[str] = frozenset()
    """Station's CALLs (and SENDs) shown as soon as they go by."""
    at_answer: frozenset[str] = frozenset()
    """CALLs (either side's) shown together with their answer."""
    promised: frozenset[str] = frozenset()
    """Station's CALLs whose answer waits (bounded) until what was learned is on disk; each is also in one or both of the above."""
    guarded: frozenset[str] = frozenset()
    """CPMS's CALLs shown to the injector before they go to the station (law 8)."""
    proof: frozenset[str] = frozenset()
    """Station's CALLs whose first CALLRESULT from the CPMS proves that both ends live; shown once, without payload."""
    entrusting: frozenset[str] = frozenset()
    """CPMS's CALLs shown as they go to the station, and at their answer, which waits (bounded) until what the CALL said is on disk."""


NOTHING = Interest()
