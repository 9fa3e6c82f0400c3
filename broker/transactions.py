"""The book of one station's open transactions: observations go in, what the engine must hear and a restart must know comes out.

It copes with what stations do: starts sent twice, stops that never come, events late and out of order, a driver or an EVSE that
is known only later, ids that mean nothing. OCPP 2.x requires a seqNo in each event and 1.6 has none, so a `seq_no` tells them apart.
A transaction's own id is derived from what is seen of its start; who sees less (driver identification leaves out 1.6's meterStart)
derives another.

    (unknown) ─▶ open, EVSE unknown ─▶ told: Started ─▶ Updated | SuspendedEV … ─▶ Ended, remembered for a while

The rules that are decisions rather than OCPP's:
  * A start on an EVSE ends what is still open there from before. 1.6 `Available` ends what its stop should have ended; that stop,
    if it comes after all, is a repeat. SuspendedEVSE (a pause of ours, or of the station) is Updated, never SuspendedEV.
  * A 1.6 stop for -1, 0 or 2^63-1 (OCPP-J 1.6 errata 3.18: a start that was not delivered) belongs to the one open transaction with
    such an id; if there is none, or more than one, it is passed over. So is the stop of a transaction that began before us.
  * Of a late 2.x event (seqNo not above the last) only readings, driver, EVSE and the start count. After Ended nothing counts, but
    readings. An end that overtook its start is told when the start comes.
  * A start is never told ahead of our clock (a station's local time); ends and repeats are compared in the station's own times.
  * A driver whom the CPMS refused is nobody's driver: not identified, and no driver is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from broker.change import Change, Gone, State, fresh, happened, learned, moment, readings, told, too_late
from broker.engine.v1 import derived
from broker.model.basics import Instant, Key
from broker.model.observations import Boot, Metered, Observation, Reading, StatusSeen, TransactionSeen
from broker.model.records import Fact, OpenTransaction

BEFORE_S: Final = 2.0  # statuses are often stamped in whole seconds, starts in milliseconds
OPEN_MOST: Final = 64  # per station; beyond it the oldest is taken for ended
ENDED_MOST: Final = 32  # ends remembered per station, so that what comes late opens nothing
NO_ID: Final = frozenset({None, "-1", "0", "9223372036854775807"})  # ids that name no transaction
RUNS: Final = frozenset({"Charging", "SuspendedEV", "SuspendedEVSE"})  # 1.6 statuses that exist within a transaction only
ENDED: Final = "ended"  # the name of the fact that holds the remembered ends
_FIELDS: Final = tuple(field.name for field in fields(OpenTransaction))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A transaction, and what the car was last said to do in it (a chargingState of 2.x)."""

    transaction: OpenTransaction
    charging: str


class Transactions:
    """One station's. `facts`: what was remembered of it; other topics are passed over."""

    __slots__ = ("_gone", "_key", "_open")

    def __init__(self, key: Key, facts: Iterable[Fact] = ()) -> None:
        self._key = key
        self._open: dict[str, _Entry] = {}
        self._gone: dict[str, Gone] = {}
        for fact in facts:
            if fact.topic == "transaction" and isinstance(fact.value, Mapping):
                self._recall(fact.name, fact.value)

    @property
    def all(self) -> tuple[OpenTransaction, ...]:
        """In the order of their starts, whatever order a restart found them in."""
        return tuple(sorted((entry.transaction for entry in self._open.values()), key=lambda t: (t.started_at, t.uid)))

    def open_on(self, evse: int) -> OpenTransaction | None:
        """The transaction that runs there: the latest, if a late start brought in an older one."""
        latest: OpenTransaction | None = None
        for entry in self._open.values() if evse > 0 else ():
            one = entry.transaction
            if one.evse == evse and (latest is None or (-one.started_at, one.uid) < (-latest.started_at, latest.uid)):
                latest = one
        return latest

    def with_id(self, ocpp_id: str) -> OpenTransaction | None:
        """The transaction that OCPP calls this; None also if the id names none (-1, 0, 2^63-1)."""
        return None if ocpp_id in NO_ID else max((t for t in self.all if t.ocpp_id == ocpp_id), key=lambda t: t.started_at, default=None)

    def observe(self, seen: Observation, now: Instant) -> tuple[Change, ...]:
        """What became of which transaction, in order. A change's facts are to be stored together with what is told of it."""
        if isinstance(seen, TransactionSeen):
            return self._event(seen, now)
        if isinstance(seen, StatusSeen):
            return self._status(seen, now)
        if isinstance(seen, Metered):
            return self._metered(seen, now)
        if isinstance(seen, Boot) and seen.status == "Accepted":  # it may count its events from 0 again
            again = [entry for entry in self._open.values() if entry.transaction.seq_no is not None]
            return tuple(c for e in again for c in self._became(e, replace(e.transaction, seq_no=-1), e.charging, [], now.wall))
        return ()

    # ------------------------------------------------------------ what is seen

    def _event(self, seen: TransactionSeen, now: Instant) -> tuple[Change, ...]:
        at, starts = moment(seen.at, now), seen.seq_no is None and seen.phase == "started"
        uid = self._uid(seen) if starts else ""
        entry = self._open.get(uid) if starts else self._find(seen)
        if entry is not None:
            return self._learn(entry, seen, at, now)
        uid = uid or self._uid(seen)
        gone = self._gone.get(uid)
        if gone is not None and gone.told and seen.phase == "started" and at > gone.at:  # an id, or a start, used again
            uid = derived("transaction", *self._key, seen.transaction_id, seen.at_text)
            gone = self._gone.get(uid)
            if uid in self._open:
                return self._learn(self._open[uid], seen, at, now)
        if gone is not None and (gone.told or seen.phase == "ended"):
            return too_late(uid, gone, readings(seen, at), at)
        if seen.phase == "ended":
            return self._overtook(uid, seen, at)
        if gone is not None and seen.phase != "started":
            return ()  # its start will say the rest
        begun = self._begin(uid, seen, at, now)
        return begun if gone is None else (*begun, *self._end(uid, gone.at))

    def _status(self, seen: StatusSeen, now: Instant) -> tuple[Change, ...]:
        """1.6 says with these what 2.x says with events."""
        at = moment(seen.at, now)
        here = [t for t in self.all if t.evse == seen.evse > 0 and t.seq_no is None and (seen.at is None or at >= t.started_at - BEFORE_S)]
        if seen.status == "Available":
            return tuple(change for t in here for change in self._end(t.uid, at))
        if seen.status not in RUNS or not here:
            return ()
        entry = self._open[max(here, key=lambda t: t.started_at).uid]
        old = entry.transaction
        new = replace(old, live=old.live or seen.at is None or fresh(seen.at, now))
        states: list[State] = [] if seen.status == entry.charging else ["SuspendedEV" if seen.status == "SuspendedEV" else "Updated"]
        return self._became(entry, new, seen.status, states, at)

    def _metered(self, seen: Metered, now: Instant) -> tuple[Change, ...]:
        """Meter values are the feed's; here they only show that a transaction known from an old start really runs."""
        old = self.open_on(seen.evse)
        if old is None or old.live or (seen.transaction_id not in NO_ID and old.ocpp_id not in (*NO_ID, seen.transaction_id)):
            return ()
        if not any(fresh(reading.at, now) and reading.context != "Transaction.End" for reading in seen.readings):
            return ()
        entry = self._open[old.uid]
        return self._became(entry, replace(old, live=True), entry.charging, [], now.wall)

    # ------------------------------------------------------------ which transaction

    def _uid(self, seen: TransactionSeen) -> str:
        """The globally unique id of a start, or of any event of 2.x; for a stop of 1.6 that of the ended one it is about, or ""."""
        if seen.seq_no is not None:
            return derived("transaction", *self._key, seen.transaction_id)
        if seen.phase != "ended":
            meter = None if seen.meter_wh is None else float(seen.meter_wh)
            return derived("transaction", *self._key, seen.evse, seen.at_text, seen.id_token, meter)
        id = seen.transaction_id
        named = [(gone.at, uid) for uid, gone in self._gone.items() if gone.ocpp_id == id and id not in NO_ID]
        return max(named, default=(0.0, ""))[1]

    def _find(self, seen: TransactionSeen) -> _Entry | None:
        """The open transaction that goes by the id that this bears."""
        id = seen.transaction_id
        if seen.seq_no is None and id in NO_ID:
            nameless = [entry for entry in self._open.values() if entry.transaction.ocpp_id in NO_ID]
            return nameless[0] if len(nameless) == 1 else None
        named = [entry for entry in self._open.values() if entry.transaction.ocpp_id == id]
        return max(named, key=lambda entry: (entry.transaction.started_at, entry.transaction.uid), default=None)

    # ------------------------------------------------------------ what becomes of it

    def _begin(self, uid: str, seen: TransactionSeen, at: float, now: Instant) -> tuple[Change, ...]:
        crowded: tuple[Change, ...] = ()
        if len(self._open) >= OPEN_MOST:
            crowded = self._end(min(self.all, key=lambda t: t.started_at).uid, at)
        # A 1.6 station that starts is charging; a 2.x station says what it does.
        blank = OpenTransaction(uid, 0, 1, happened(at, now), live=False, seq_no=None if seen.seq_no is None else -1)
        return crowded + self._learn(_Entry(blank, "Charging" if seen.seq_no is None else ""), seen, at, now)

    def _learn(self, entry: _Entry, seen: TransactionSeen, at: float, now: Instant) -> tuple[Change, ...]:
        """What an event adds to a transaction: that it began, changed, ended, or only what the meter said."""
        old = entry.transaction
        new, in_order = learned(old, seen, at, now)
        charging = (seen.charging_state or entry.charging) if in_order else entry.charging
        begins = bool(new.evse and not old.evse)
        before = self._supersede(new, at if seen.phase == "started" else new.started_at) if begins else ()
        states: list[State] = ["Started"] if begins else []
        if seen.phase == "ended":
            states += ["Ended"] if new.evse else []
            return before + self._became(entry, new, charging, states, at, readings(seen, at), ended=True)
        if new.evse and (charging != entry.charging or begins or told(new) != told(old)):
            states += ["SuspendedEV"] if charging == "SuspendedEV" else [] if begins else ["Updated"]
        return before + self._became(entry, new, charging, states, at, readings(seen, at))

    def _supersede(self, new: OpenTransaction, at: float) -> tuple[Change, ...]:
        """One transaction at a time on an EVSE: what began there before `new` is over. 1.6 tells in order, whatever its clock says."""
        over = [t for t in self.all if t.evse == new.evse and t.uid != new.uid and (new.seq_no is None or t.started_at <= new.started_at)]
        return tuple(change for t in over for change in self._end(t.uid, at))

    def _end(self, uid: str, at: float) -> tuple[Change, ...]:
        """Over, though no event of its own says so."""
        entry = self._open[uid]
        states: list[State] = ["Ended"] if entry.transaction.evse else []
        return self._became(entry, entry.transaction, entry.charging, states, at, ended=True)

    def _overtook(self, uid: str, seen: TransactionSeen, at: float) -> tuple[Change, ...]:
        """An end without a start: in 2.x the start may still come. One of 1.6 began before us, or means nothing."""
        if seen.seq_no is None:
            return ()
        gone = Gone(seen.transaction_id, seen.evse or 0, at, False)
        nobody, said = OpenTransaction(uid, gone.evse, 1, at, live=False), readings(seen, at)
        facts = (self._remember_end(uid, gone),)
        return (Change(None, nobody, at, None, said[-1] if said else None, facts, False, said),)

    def _became(
        self,
        entry: _Entry,
        new: OpenTransaction,
        charging: str,
        states: list[State],
        at: float,
        readings: tuple[Reading, ...] = (),
        ended: bool = False,
    ) -> tuple[Change, ...]:
        """Write it into the book; nothing at all if nothing is new."""
        uid, at = new.uid, max(at, new.started_at)
        identified = bool(new.evse and new.id_token and not new.identified)
        if identified:
            new = replace(new, identified=True)
        changes: list[Change] = []
        for state in states:
            if state not in ("Ended", new.state):
                new = replace(new, state=state)
            when = new.started_at if state == "Started" else at
            changes.append(Change(state, new, when, at if state == "Ended" else None))
        written = _Entry(new, charging)
        facts: tuple[Fact, ...] = ()
        if ended:
            self._open.pop(uid, None)
            facts = Fact("transaction", uid, None), self._remember_end(uid, Gone(new.ocpp_id, new.evse, at, True))
        elif written != entry or uid not in self._open:
            self._open[uid] = written
            facts = (Fact("transaction", uid, {**{name: getattr(new, name) for name in _FIELDS}, "charging": charging}),)
        if not changes and (facts or readings):
            changes.append(Change(None, new, at))
        if changes:
            last = readings[-1] if readings else None
            changes[0] = changes[0]._replace(identified=identified)
            changes[-1] = changes[-1]._replace(reading=last, readings=readings, facts=facts)
        return tuple(changes)

    # ------------------------------------------------------------ what a restart must know

    def _remember_end(self, uid: str, gone: Gone) -> Fact:
        self._gone.pop(uid, None)
        self._gone[uid] = gone
        while len(self._gone) > ENDED_MOST:
            del self._gone[min((gone.at, other) for other, gone in self._gone.items() if other != uid)[1]]
        return Fact("transaction", ENDED, {uid: list(gone) for uid, gone in self._gone.items()})

    def _recall(self, name: str, value: Mapping[str, Any]) -> None:
        """A fact of another version of ours may not fit: then it is passed over."""
        try:
            if name == ENDED:
                self._gone = {uid: Gone(*gone) for uid, gone in value.items()}
            else:
                known = OpenTransaction(**{field: what for field, what in value.items() if field in _FIELDS})
                self._open[name] = _Entry(known, str(value.get("charging", "")))
        except (TypeError, ValueError):
            return
