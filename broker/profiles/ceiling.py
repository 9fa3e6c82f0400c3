"""What the CPMS alone allows on each EVSE, pessimistically: the lowest limit in any profile of its that was seen going by, embedded
in a remote start, or read from the station before our first profile.

Never clever, never above. What cannot be read, or is of a kind that we do not model, makes the limit unknown, and an unknown limit
means that nothing of ours is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

from broker.model import ChargingProfile, ClearSeen, CompositeSeen, Fact, LimitUnknown, Observation, ProfileSeen, TransactionSeen
from broker.profiles.seen import Seen, recalled, unread
from broker.settings import StationSettings

TOPIC: Final = "cpms-limit"
PURPOSES: Final = frozenset({"max", "default", "tx"})
KINDS: Final = frozenset({"Absolute", "Recurring", "Relative"})
MOST: Final = 64  # profiles, composites, transactions remembered of a station; more is nobody's plan, and then the limit is unknown
OVERFLOW: Final = "overflow"
NOMINAL_V: Final = 230.0
UNKNOWN: Final = "cpms-limits-unknown"


class Limit(NamedTuple):
    """In A per phase for ac, W in all for dc."""

    known: bool
    """False: never send anything on that EVSE; `why` says why."""
    value: float | None
    """None: the CPMS sets no limit, as far as we know."""
    why: str = ""


class Ceiling:
    """One station's. `facts`: what `observe`, `answered` and `forget_baseline` gave before a restart."""

    def __init__(self, station: StationSettings, baseline: Literal["ask", "none", "seen"], facts: Iterable[Fact] = ()) -> None:
        self._ac = station.current == "ac"
        self._only = station.evses[0].number if len(station.evses) == 1 else 0
        self._ask = baseline == "ask"
        self._seen: dict[str, Seen] = {}
        self._read: dict[int, float | None] = {}  # answers to our own question; None: it was refused
        self._heard: dict[int, float] = {}  # answers to the CPMS's: of any length, so never instead of ours
        self._running: dict[int, str] = {}
        for fact in facts:
            if fact.topic == TOPIC and fact.value is not None:
                self._recall(fact.name, fact.value)

    def observe(self, seen: Observation, ours: Container[int], installed: bool) -> tuple[Fact, ...]:
        """Learn; the facts are for a restart. A composite that contains ours (`installed`) says nothing of the CPMS alone."""
        if isinstance(seen, ProfileSeen):
            return self._profile(seen) if seen.accepted and seen.profile.id not in ours else ()
        if isinstance(seen, LimitUnknown):
            return () if seen.profile_id is not None and seen.profile_id in ours else self._put(unread(seen))
        if isinstance(seen, ClearSeen):
            return self._clear(seen) if seen.accepted else ()
        if isinstance(seen, CompositeSeen):
            return self._overhear(seen) if seen.accepted and seen.periods and not installed else ()
        if isinstance(seen, TransactionSeen) and seen.phase != "updated":
            return self._started(seen) if seen.phase == "started" else self._ended(seen)
        return ()

    def answered(self, seen: CompositeSeen) -> tuple[Fact, ...]:
        """The answer to our own question. Refused or empty: unknown, until `forget_baseline`."""
        lowest = self._lowest(seen) if seen.accepted and seen.periods else None
        self._read[seen.evse] = lowest
        return (Fact(TOPIC, f"read-{seen.evse}", {"lowest": lowest}),)

    def forget_baseline(self, evse: int = 0) -> tuple[Fact, ...]:
        """After a boot: to be asked again. What is never asked for is not forgotten either, for nothing would come in its place.

        `evse`: only what was answered for that one; 0: all.
        """
        if evse:
            return (Fact(TOPIC, f"read-{evse}", None),) if self._read.pop(evse, self) is not self else ()
        return (*self._forget("read", self._read), *(self._forget("heard", self._heard) if self._ask else ()))

    def used_level(self, purpose: str, evse: int) -> int | None:
        """The highest stack level that the CPMS uses there for that purpose; None: none that we know of."""
        levels = [one.stack_level for one in self._seen.values() if one.purpose == purpose and one.evse in (0, evse)]
        return max((level for level in levels if level is not None), default=None)

    def to_ask(self, evse: int) -> tuple[int, ...]:
        """Where the station must still be asked before anything may be sent on `evse`."""
        return tuple(place for place in (evse, 0) if place not in self._read) if self._ask else ()

    def limit(self, evse: int) -> Limit:
        """What the CPMS alone allows there. A limit for the whole station is the sum of its EVSEs': as is, it is low enough for one."""
        return self._limit(evse, tuple(self._seen.values()))

    def would(self, seen: ProfileSeen | LimitUnknown, evse: int) -> Limit:
        """The limit if the station took this too; nothing is learned, and what it would replace counts as well."""
        more = unread(seen) if isinstance(seen, LimitUnknown) else self._of(seen)
        return self._limit(evse, (*self._seen.values(), more))

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

    # ------------------------------------------------------------ what it comes to

    def _limit(self, evse: int, all_seen: Iterable[Seen]) -> Limit:
        places = (evse, 0)
        concerned = [seen for seen in all_seen if seen.evse in places]
        asked = [self._read[place] for place in places if place in self._read]
        unclear = sorted(seen.why or "a profile of the CPMS is not understood" for seen in concerned if seen.lowest is None)
        if unclear:
            return Limit(False, None, f"{UNKNOWN}: {unclear[0]}")
        if self.to_ask(evse) or None in asked:
            return Limit(False, None, UNKNOWN)
        found = [seen.lowest for seen in concerned] + asked + [self._heard[place] for place in places if place in self._heard]
        return Limit(True, min((one for one in found if one is not None), default=None))

    def _own(self, limit: float, unit: str) -> float:
        """In our unit, as low as it can be meant: three phases share watts, one carries amperes."""
        if self._ac:
            return limit if unit == "A" else limit / (NOMINAL_V * 3)
        return limit if unit == "W" else limit * NOMINAL_V

    def _lowest(self, said: CompositeSeen | ChargingProfile) -> float:
        return min(self._own(period.limit, said.unit) for period in said.periods)

    # ------------------------------------------------------------ what is learned

    def _of(self, seen: ProfileSeen) -> Seen:
        profile = seen.profile
        why = ""
        if profile.purpose not in PURPOSES or profile.kind not in KINDS:
            why = f"profile {profile.id} is of a kind that we do not model"
        elif profile.more_schedules or not profile.periods:
            why = f"profile {profile.id} has not one schedule"
        evse = seen.evse or (self._only if seen.embedded else 0)
        transaction = profile.transaction_id if profile.purpose == "tx" else None
        if profile.purpose == "tx" and not seen.embedded:
            transaction = transaction or self._running.get(evse)  # 1.6 may leave it out: then it is the one that runs
        lowest = None if why else self._lowest(profile)
        return Seen(profile.id, evse, profile.purpose, profile.stack_level, lowest, transaction, seen.embedded, why)

    def _profile(self, seen: ProfileSeen) -> tuple[Fact, ...]:
        return self._put(self._of(seen))

    def _overhear(self, seen: CompositeSeen) -> tuple[Fact, ...]:
        """Kept at its lowest: the CPMS may ask for the next minute only, and our question was for the day."""
        if seen.evse not in self._heard and len(self._heard) >= MOST:
            return self._put(Seen(why="more composite schedules than we remember"), OVERFLOW)
        lowest = min(self._lowest(seen), self._heard.get(seen.evse, float("inf")))
        self._heard[seen.evse] = lowest
        return (Fact(TOPIC, f"heard-{seen.evse}", {"lowest": lowest}),)

    def _clear(self, seen: ClearSeen) -> tuple[Fact, ...]:
        if (seen.profile_id, seen.evse, seen.purpose, seen.stack_level) == (None, None, None, None):
            everything = self._drop(lambda one: True)
            return (*everything, *self._forget("read", self._read), *self._forget("heard", self._heard))
        return self._drop(lambda one: one.cleared_by(seen))

    def _started(self, seen: TransactionSeen) -> tuple[Fact, ...]:
        """What a remote start brought along is this transaction's from now on."""
        if seen.evse is None or seen.transaction_id is None or seen.offline:
            return ()
        if seen.evse in self._running or len(self._running) < MOST:
            self._running[seen.evse] = seen.transaction_id
        mine = {name: one for name, one in self._seen.items() if one.waits(seen.evse)}
        self._seen |= {name: one._replace(transaction=seen.transaction_id) for name, one in mine.items()}
        return tuple(Fact(TOPIC, name, self._seen[name]._asdict()) for name in mine)

    def _ended(self, seen: TransactionSeen) -> tuple[Fact, ...]:
        """A TxProfile dies with its transaction; one of a remote start whose transaction we missed, with the next that ends there."""
        self._running = {evse: id for evse, id in self._running.items() if id != seen.transaction_id}
        there = None if seen.offline else seen.evse
        return self._drop(lambda one: one.dies_with(seen.transaction_id) or (there is not None and one.waits(there)))

    # ------------------------------------------------------------ memory

    def _put(self, seen: Seen, name: str | None = None) -> tuple[Fact, ...]:
        """The same id on the same EVSE replaces. On another EVSE it does not: some stations keep ids per connector."""
        name = name or seen.name
        if name not in self._seen and name != OVERFLOW and len(self._seen) >= MOST:
            return self._put(Seen(why="more profiles than we remember"), OVERFLOW)
        self._seen[name] = seen
        return (Fact(TOPIC, name, seen._asdict()),)

    def _drop(self, unwanted: Callable[[Seen], bool]) -> tuple[Fact, ...]:
        names = [name for name, one in self._seen.items() if unwanted(one)]
        for name in names:
            del self._seen[name]
        return tuple(Fact(TOPIC, name, None) for name in names)

    @staticmethod
    def _forget(kind: str, table: dict[int, Any]) -> tuple[Fact, ...]:
        gone = tuple(Fact(TOPIC, f"{kind}-{evse}", None) for evse in table)
        table.clear()
        return gone

    def _recall(self, name: str, value: object) -> None:
        kind, _, place = name.partition("-")
        lowest = value.get("lowest") if isinstance(value, Mapping) else None
        number = float(lowest) if isinstance(lowest, int | float) and lowest == lowest else None
        if kind == "read" and place.isdecimal():
            self._read[int(place)] = number
        elif kind == "heard" and place.isdecimal() and number is not None:
            self._heard[int(place)] = number
        else:
            self._seen[name] = recalled(value)
