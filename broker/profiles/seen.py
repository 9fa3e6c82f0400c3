"""One profile of the CPMS as far as its limit hangs on it: where it is, when it goes, and the lowest that it ever allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from broker.model import ClearSeen, LimitUnknown


class Seen(NamedTuple):
    """A profile that stands, or may stand, on the station."""

    id: int | None = None
    """None: it could not be read."""
    evse: int = 0
    """0: the whole station, or nobody knows which."""
    purpose: str = ""
    stack_level: int | None = None
    lowest: float | None = None
    """In the station's unit; None: it cannot be said, and `why`."""
    transaction: str | None = None
    embedded: bool = False
    why: str = ""

    @property
    def name(self) -> str:
        """What it is remembered by: ids are the CPMS's, and some stations keep them per connector."""
        return f"{'unread' if self.id is None else self.id}@{self.evse}"

    def waits(self, evse: int) -> bool:
        """It came with a remote start on this EVSE, and no transaction has begun with it yet."""
        return self.embedded and self.purpose == "tx" and self.transaction is None and self.evse == evse and evse > 0

    def dies_with(self, transaction: str | None) -> bool:
        """It is that transaction's."""
        return self.purpose == "tx" and transaction is not None and self.transaction == transaction

    def cleared_by(self, seen: ClearSeen) -> bool:
        """It matches all criteria for certain: what came embedded may be on any EVSE, and of what was unread only the id is known."""
        unsure = self.id is None or (seen.profile_id is None and not self.purpose)
        if unsure or (seen.evse == 0 and self.evse == 0 and self.embedded):
            return False
        criteria = (
            (seen.profile_id, self.id),
            (seen.evse, self.evse),
            (seen.purpose, self.purpose or None),
            (seen.stack_level, self.stack_level),
        )
        return all(wanted is None or wanted == had for wanted, had in criteria)


def unread(seen: LimitUnknown) -> Seen:
    """A profile of which we know no limit."""
    return Seen(id=seen.profile_id, evse=seen.evse, why=seen.why)


def recalled(value: object) -> Seen:
    """What a fact remembers, checked field by field; another version's is a profile that could not be read."""
    lost = Seen(why="remembered by another version")
    if not isinstance(value, Mapping) or set(value) != set(Seen._fields):
        return lost
    one = Seen(**value)
    right = (
        _whole(one.id, True)
        and _whole(one.evse, False)
        and isinstance(one.purpose, str)
        and _whole(one.stack_level, True)
        and (one.lowest is None or (isinstance(one.lowest, int | float) and math.isfinite(one.lowest)))
        and isinstance(one.transaction, str | None)
        and isinstance(one.embedded, bool)
        and isinstance(one.why, str)
    )
    return one if right else lost


def _whole(value: object, or_none: bool) -> bool:
    return (or_none and value is None) or (isinstance(value, int) and not isinstance(value, bool))
