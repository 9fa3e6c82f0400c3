"""Which charging profiles of the CPMS are on one station, as the station accepted them: observations in; profiles and facts out.

A station has no list that may be asked for without side effects (1.6 has none at all), so it is kept here by each version's rules: what
replaces what (1.6 3.13.2 and 5.16.3; 2.x K01.FR.05, .06, .39), what a clear takes along (its criteria are a logical AND, none at all means
everything), what came with a remote start and waits for its transaction, what ends with one. Where it cannot be said whether a
profile is still there, it is not `sure`, and counts with it and without. What could not be read makes the limit unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from broker.model.observations import Boot, ClearSeen, LimitUnknown, Observation, ProfileReported, ProfileSeen, TransactionSeen
from broker.model.records import Fact
from broker.profiles.saying import Placed
from broker.profiles.shadowfacts import PREFIX, Unread, entry_of, fact_of, is_ours

MOST: Final = 64  # profiles of a station; more is nobody's plan, and then the limit is unknown
OVERFLOW: Final = "overflow"
GONE_S: Final = 86_400.0  # after its last moment a profile is of no concern; its place may be taken for a while

Entry = Placed | Unread
Table = dict[str, Entry]


class _Known(NamedTuple):
    """What else hangs together with profiles."""

    one_slot: bool
    """OCPP 1.6: the same purpose and level on a connector replaces."""
    only: int
    """The station's one EVSE; 0: it has several."""
    running: Mapping[int, str]


class Shadow:
    """One station's. `facts`: what `observe` and `expire` gave before a restart; `only`: its one EVSE, 0 if it has several."""

    __slots__ = ("_kept", "_known", "_running", "_table")

    def __init__(self, version: str, only: int = 0, facts: Iterable[Fact] = ()) -> None:
        self._running: dict[int, str] = {}
        self._known = _Known(version == "ocpp1.6", only, self._running)
        self._kept: Table = {fact.name.removeprefix(PREFIX): entry_of(fact.value) for fact in facts if is_ours(fact)}
        self._table = dict(self._kept)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._table.values())

    def observe(self, seen: Observation) -> tuple[Fact, ...]:
        """An answered exchange about profiles or transactions, or a boot. The facts are for a restart."""
        if isinstance(seen, TransactionSeen):
            self._tell_running(seen)
        return self._become(_after(self._table, seen, self._known, True))

    def keep(self, coming: Iterable[Observation]) -> tuple[Fact, ...]:
        """For a restart, as long as these are on their way: their answers may be lost with us."""
        table = self._table
        for seen in coming:
            table = _after(table, seen, self._known, False)
        return self._write(table)

    def with_coming(self, coming: Iterable[Observation]) -> tuple[Entry, ...]:
        """What is there if the station takes any of these, which it has not answered (yet); nothing is learned."""
        table = self._table
        for seen in coming:
            table = _after(table, seen, self._known, False)
        return tuple(table.values())

    def unanswered(self, seen: Observation) -> tuple[Fact, ...]:
        """The CPMS sent it, and nobody knows whether the station took it."""
        return self._become(_after(self._table, seen, self._known, False))

    def expire(self, at: float) -> tuple[Fact, ...]:
        """Forget what is long over. `at`: the station's clock."""
        return self._become({name: one for name, one in self._table.items() if not (isinstance(one, Placed) and _last(one) + GONE_S < at)})

    def _tell_running(self, seen: TransactionSeen) -> None:
        if seen.phase == "ended":
            for evse in [evse for evse, id in self._running.items() if id == seen.transaction_id]:
                del self._running[evse]
        room = seen.evse in self._running or len(self._running) < MOST
        if seen.phase == "started" and seen.evse and seen.transaction_id is not None and not seen.offline and room:
            self._running[seen.evse] = seen.transaction_id

    def _become(self, new: Table) -> tuple[Fact, ...]:
        self._table = new
        return self._write(new)

    def _write(self, new: Table) -> tuple[Fact, ...]:
        if new == self._kept:
            return ()
        old, self._kept = self._kept, dict(new)
        gone = tuple(fact_of(name, None) for name in old if name not in new)
        return (*gone, *(fact_of(name, one) for name, one in new.items() if old.get(name) != one))


# ---------------------------------------------------------------- one observation further


def _after(table: Table, seen: Observation, known: _Known, sure: bool) -> Table:
    """`sure`: the station did it. Else it did or did not."""
    if isinstance(seen, ProfileSeen):
        if sure and not seen.accepted:
            return table
        return _put(table, _placed(seen, known, sure and seen.sure), known)
    if isinstance(seen, LimitUnknown):
        unread = Unread(seen.evse, seen.profile_id, seen.why)
        return _named(table, f"unread-{seen.profile_id}@{seen.evse}", unread)
    if isinstance(seen, ProfileReported):
        return _reported(table, seen, known)
    if isinstance(seen, ClearSeen):
        return _clear(table, seen, sure and seen.accepted)
    if isinstance(seen, TransactionSeen) and seen.phase == "started":
        return _start(table, seen, known)
    if isinstance(seen, TransactionSeen) and seen.phase == "ended":
        return {name: one for name, one in table.items() if not _dies(one, seen)}
    if isinstance(seen, Boot) and seen.status == "Accepted":  # only a TxProfile may be lost with a boot (1.6 errata 3.37)
        return {name: one._replace(sure=False) if _is_tx(one) and isinstance(one, Placed) else one for name, one in table.items()}
    return table


def _reported(table: Table, seen: ProfileReported, known: _Known) -> Table:
    """What we knew is not better known by it; what we did not is added. It may have been gone already when it was reported: not `sure`."""
    if seen.profile is None:
        there = any(_id(one) == seen.profile_id and one.evse in (0, seen.evse) for one in table.values())
        return table if there else _named(table, f"unread-{seen.profile_id}@{seen.evse}", Unread(seen.evse, seen.profile_id, seen.why))
    new = _placed(ProfileSeen(seen.evse, seen.profile, True), known, False)
    same = any(isinstance(one, Placed) and one.profile == new.profile and one.evse in (0, new.evse) for one in table.values())
    return table if same else _put(table, new, known)


def _id(one: Entry) -> int | None:
    return one.profile.id if isinstance(one, Placed) else one.id


def _placed(seen: ProfileSeen, known: _Known, sure: bool) -> Placed:
    profile, evse = seen.profile, seen.evse or (known.only if seen.embedded else 0)
    if profile.purpose == "tx":  # 1.6 may leave its transaction out: then it is the one that runs
        id = None if seen.embedded else profile.transaction_id or known.running.get(evse)
        profile = replace(profile, transaction_id=id)
    return Placed(evse, profile, sure, seen.embedded)


def _waits(one: Entry) -> bool:
    """It came with a remote start, and no transaction has begun with it yet."""
    return isinstance(one, Placed) and one.embedded and _is_tx(one) and one.profile.transaction_id is None


def _is_tx(one: Entry) -> bool:
    return isinstance(one, Placed) and one.profile.purpose == "tx"


def _put(table: Table, new: Placed, known: _Known) -> Table:
    """What it replaces is gone, or may be."""
    left: Table = {}
    for name, old in table.items():
        if isinstance(old, Placed) and _waits(new) and _waits(old) and 0 in (old.evse, new.evse, old.evse - new.evse):
            left[name] = old._replace(sure=False)  # of two remote starts one may come to nothing
        elif not _replaces(new, old, known):
            left[name] = old
        elif isinstance(old, Unread):
            left |= {} if new.sure and not _waits(new) else {name: old}
        elif not new.sure or _waits(new) or _waits(old) or old.evse != new.evse:  # some stations keep ids by connector
            left[name] = old._replace(sure=False)
    return _named(left, f"{new.profile.id}@{new.evse}", new)


def _replaces(new: Placed, old: Entry, known: _Known) -> bool:
    if isinstance(old, Unread):
        return (old.id, old.evse) == (new.profile.id, new.evse)
    one, other = new.profile, old.profile
    same_slot = (one.purpose, one.stack_level, new.evse) == (other.purpose, other.stack_level, old.evse)
    return one.id == other.id or (known.one_slot and same_slot)


def _named(table: Table, name: str, new: Entry) -> Table:
    """Beside others of its name, if it is not known which of them is there."""
    names = [name, *(f"{name}?{nth}" for nth in range(1, MOST))]
    free = next((one for one in names if table.get(one) == new), None) or next((one for one in names if one not in table), OVERFLOW)
    if free not in table and len(table) >= MOST:
        return {**table, OVERFLOW: Unread(0, None, "more profiles than we remember")}
    return {**table, free: new if free != OVERFLOW else Unread(0, None, "more profiles than we remember")}


def _clear(table: Table, seen: ClearSeen, sure: bool) -> Table:
    left: Table = {}
    for name, one in table.items():
        if not _matches(one, seen):
            left[name] = one
        elif isinstance(one, Unread):
            left |= {} if sure else {name: one}
        elif not sure or _waits(one):  # what waits is not a profile to some stations yet
            left[name] = one._replace(sure=False)
    return left


def _matches(one: Entry, seen: ClearSeen) -> bool:
    """All criteria. Of what could not be read only the id is known."""
    wanted = (seen.profile_id, seen.evse, seen.purpose, seen.stack_level)
    if isinstance(one, Unread):
        return wanted == (None, None, None, None) or (seen.profile_id is not None and seen.profile_id == one.id)
    had = (one.profile.id, one.evse, one.profile.purpose, one.profile.stack_level)
    return all(criterion is None or criterion == value for criterion, value in zip(wanted, had, strict=True))


def _start(table: Table, seen: TransactionSeen, known: _Known) -> Table:
    """What a remote start brought along is this transaction's from now on; what was an earlier one's there is over, if that is over."""
    if not seen.evse or seen.transaction_id is None or seen.offline:
        return table
    others = {name: one for name, one in table.items() if not (_waits(one) and isinstance(one, Placed) and one.evse == seen.evse)}
    begun = others | {
        name: one._replace(sure=False)
        for name, one in others.items()
        if isinstance(one, Placed) and _is_tx(one) and one.evse == seen.evse and one.profile.transaction_id != seen.transaction_id
    }
    for one in table.values():
        if isinstance(one, Placed) and _waits(one) and one.evse in (0, seen.evse):
            bound = replace(one.profile, transaction_id=seen.transaction_id)
            begun = _put(begun, Placed(seen.evse, bound, one.sure and one.evse > 0), known)
    return begun


def _dies(one: Entry, seen: TransactionSeen) -> bool:
    """A TxProfile dies with its transaction; one whose transaction we missed, with the next that ends there."""
    if not isinstance(one, Placed) or not _is_tx(one):
        return False
    of_it = seen.transaction_id is not None and one.profile.transaction_id == seen.transaction_id
    there = bool(seen.evse) and not seen.offline and one.evse == seen.evse
    return of_it or (there and (one.profile.transaction_id is None or not one.sure))


def _last(one: Placed) -> float:
    """Its last moment; infinite if it has none."""
    profile = one.profile
    ends = [] if profile.valid_to is None else [profile.valid_to]
    if profile.kind == "Absolute" and profile.start is not None and profile.duration_s is not None:
        ends.append(profile.start + profile.duration_s)
    return min(ends, default=float("inf"))
