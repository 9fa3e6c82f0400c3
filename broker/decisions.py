"""Why a limit is as it is: of each EVSE the last profiles of ours that were sent, what was asked and allowed then, and what came of it.

Kept to be shown to an operator, as plain data; a restart forgets them.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from broker.leases import Lease
from broker.model.schedules import Schedule
from broker.ocpp.times import text
from broker.operating import OwnLimit
from broker.sockets import asked_now

DECISIONS: Final = 8  # the last ones of each EVSE


class Decisions:
    """One station's."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[int, deque[dict[str, Any]]] = {}

    def sent(self, lease: Lease, asked: Schedule | None, own: OwnLimit | None, allowed: float | None, wall: float) -> None:
        """This is on its way. `allowed`: by the CPMS and `max_amps`; None: nobody limits, or nobody knows."""
        decision = {
            "at": text(wall),
            "asked": asked_now(asked, wall),
            "operator": operators(own),
            "allowed": allowed,
            "sent": {"profile": lease.profile_id, "purpose": lease.purpose, "limit": lease.steps[0].limit, "unit": lease.unit},
            "why": list(lease.why),
            "until": text(lease.until),
            "outcome": "sent",
        }
        self._kept.setdefault(lease.evse, deque(maxlen=DECISIONS)).append(decision)

    def came(self, evse: int, outcome: str) -> None:
        """What came of the last one."""
        if evse in self._kept:
            self._kept[evse][-1]["outcome"] = outcome

    def of(self, evse: int) -> list[dict[str, Any]]:
        """The oldest first."""
        return [dict(decision) for decision in self._kept.get(evse, ())]


def operators(own: OwnLimit | None) -> dict[str, Any] | None:
    """What an operator asks."""
    return None if own is None else {"amps": own.amps, "since": text(own.since), "until": text(own.until)}
