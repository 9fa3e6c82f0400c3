"""What the CPMS alone allows on each EVSE, pessimistically: the lowest limit in any profile of its that was seen going by, embedded
in a remote start, or read from the station before our first profile.

Never clever, never above. What cannot be read, or is of a kind that we do not model, makes the limit unknown, and an unknown limit
means that nothing of ours is sent.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from broker.model import (
    ChargingProfile,
    ClearSeen,
    CompositeSeen,
    Fact,
    LimitUnknown,
    Observation,
    ProfileSeen,
    TransactionSeen,
)
from broker.settings import StationSettings

PURPOSES: Final = frozenset({"max", "default", "tx"})
KINDS: Final = frozenset({"Absolute", "Recurring", "Relative"})
MOST: Final = 64  # profiles remembered; more is nobody's plan, and unknown
NOMINAL_V: Final = 230.0
UNKNOWN: Final = "cpms-limits-unknown"


class Limit(NamedTuple):
    """In A per phase for ac, W in all for dc."""

    known: bool
    value: float | None
    """None: the CPMS sets no limit, as far as we know."""
    why: str = ""


class _Seen(NamedTuple):
    """A profile of the CPMS."""

    evse: int
    purpose: str
    stack_level: int
    lowest: float | None
    """None: it cannot be said."""
    transaction: str | None
    embedded: bool


class Ceiling:
    """One station's."""

    def __init__(self, station: StationSettings, baseline: Literal["ask", "none", "seen"], facts: Iterable[Fact] = ()) -> None:
        self._ac = station.current == "ac"
        self._ask = baseline == "ask"
        self._seen: dict[str, _Seen] = {}
        self._read: dict[int, float | None] = {}
        for fact in facts:
            if fact.topic == "cpms-limit" and isinstance(fact.value, Mapping):
                self._recall(fact.name, fact.value)

    def observe(self, seen: Observation, ours: Container[int], installed: bool) -> tuple[Fact, ...]:
        """Learn; the facts are for a restart. A composite that contains ours (`installed`) says nothing of the CPMS alone."""
        if isinstance(seen, ProfileSeen):
            return self._profile(seen, ours) if seen.accepted else ()
        if isinstance(seen, LimitUnknown):
            return self._put(f"unknown-{seen.evse}", _Seen(seen.evse, "", 0, None, None, False))
        if isinstance(seen, ClearSeen) and seen.accepted:
            return self._clear(seen)
        if isinstance(seen, CompositeSeen) and not installed:
            return self._composite(seen) if seen.accepted and seen.periods else ()
        if isinstance(seen, TransactionSeen) and seen.phase == "ended":
            return self._ended(seen)
        return ()

    def answered(self, seen: CompositeSeen) -> tuple[Fact, ...]:
        """The answer to our own question. Refused or empty: unknown."""
        if seen.accepted and seen.periods:
            return self._composite(seen)
        self._read[seen.evse] = None
        return (Fact("cpms-limit", f"read-{seen.evse}", {"lowest": None}),)

    def forget_baseline(self) -> tuple[Fact, ...]:
        """After a boot, or when everything was cleared: to be asked again."""
        gone = tuple(Fact("cpms-limit", f"read-{evse}", None) for evse in self._read)
        self._read.clear()
        return gone

    def to_ask(self, evse: int) -> tuple[int, ...]:
        """Where the station must still be asked before anything may be sent on `evse`."""
        return tuple(place for place in (evse, 0) if place not in self._read) if self._ask else ()

    def limit(self, evse: int) -> Limit:
        """What the CPMS alone allows there."""
        if self.to_ask(evse):
            return Limit(False, None, UNKNOWN)
        lowest = [seen.lowest for seen in self._seen.values() if seen.evse in (0, evse)]
        lowest += [self._read[place] for place in (evse, 0) if place in self._read]
        if len(self._seen) > MOST or None in lowest:
            return Limit(False, None, UNKNOWN)
        return Limit(True, min((one for one in lowest if one is not None), default=None))

    def explain(self, evse: int) -> dict[str, Any]:
        """As plain data."""
        limit = self.limit(evse)
        return {
            "known": limit.known,
            "limit": limit.value,
            "unit": "A" if self._ac else "W",
            "why": limit.why,
            "profiles": sum(seen.evse in (0, evse) for seen in self._seen.values()),
        }

    # ------------------------------------------------------------

    def _profile(self, seen: ProfileSeen, ours: Container[int]) -> tuple[Fact, ...]:
        profile = seen.profile
        if profile.id in ours:
            return ()
        known = profile.purpose in PURPOSES and profile.kind in KINDS and not profile.more_schedules
        lowest = min(self._own(period.limit, profile.unit) for period in profile.periods) if known and profile.periods else None
        name = f"embedded-{seen.evse}" if seen.embedded else f"profile-{profile.id}"
        return self._put(name, _Seen(seen.evse, profile.purpose, profile.stack_level, lowest, _transaction(profile), seen.embedded))

    def _composite(self, seen: CompositeSeen) -> tuple[Fact, ...]:
        lowest = min(self._own(period.limit, seen.unit) for period in seen.periods)
        self._read[seen.evse] = lowest
        return (Fact("cpms-limit", f"read-{seen.evse}", {"lowest": lowest}),)

    def _clear(self, seen: ClearSeen) -> tuple[Fact, ...]:
        if seen.profile_id is not None:
            return self._drop([f"profile-{seen.profile_id}"])
        if (seen.evse, seen.purpose, seen.stack_level) == (None, None, None):
            return (*self._drop(list(self._seen)), *self.forget_baseline())
        return self._drop([name for name, one in self._seen.items() if one.lowest is not None and _matches(seen, one)])

    def _ended(self, seen: TransactionSeen) -> tuple[Fact, ...]:
        """A TxProfile dies with its transaction; an embedded one with the next that ends where it was."""
        return self._drop(
            [
                name
                for name, one in self._seen.items()
                if one.purpose == "tx"
                and (
                    (one.transaction is not None and one.transaction == seen.transaction_id)
                    or (one.embedded and one.evse > 0 and one.evse == seen.evse)
                )
            ]
        )

    def _own(self, limit: float, unit: str) -> float:
        """In our unit, as low as it can be meant: three phases share watts, one carries amperes."""
        if self._ac:
            return limit if unit == "A" else limit / (NOMINAL_V * 3)
        return limit if unit == "W" else limit * NOMINAL_V

    def _put(self, name: str, seen: _Seen) -> tuple[Fact, ...]:
        if len(self._seen) > MOST and name not in self._seen:
            return ()
        self._seen[name] = seen
        return (Fact("cpms-limit", name, seen._asdict()),)

    def _drop(self, names: list[str]) -> tuple[Fact, ...]:
        dropped = [name for name in names if self._seen.pop(name, None) is not None]
        return tuple(Fact("cpms-limit", name, None) for name in dropped)

    def _recall(self, name: str, value: Mapping[str, Any]) -> None:
        try:
            if name.startswith("read-"):
                self._read[int(name[5:])] = value["lowest"]
            else:
                self._seen[name] = _Seen(**value)
        except (TypeError, KeyError, ValueError):  # another version's: unknown is the safe reading
            self._seen[name] = _Seen(0, "", 0, None, None, False)


def _transaction(profile: ChargingProfile) -> str | None:
    return profile.transaction_id if profile.purpose == "tx" else None


def _matches(seen: ClearSeen, one: _Seen) -> bool:
    criteria = ((seen.evse, one.evse), (seen.purpose, one.purpose), (seen.stack_level, one.stack_level))
    return all(wanted is None or wanted == had for wanted, had in criteria)
