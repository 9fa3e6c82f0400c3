"""What one event says of a transaction, and what may become of it: the parts of the book that need no book.

Times are seconds since 1970 UTC. A station's time counts unless it cannot be meant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, NamedTuple

from broker.model.basics import Instant
from broker.model.observations import Reading, TransactionSeen
from broker.model.records import Fact, OpenTransaction

State = Literal["Started", "Updated", "SuspendedEV", "Ended"]

FRESH_S: Final = 300.0  # what is older does not show that a car charges now
CLOCK_SET: Final = 1_577_836_800.0  # 2020: a station that says less has not been told the time yet
LAST: Final = 4_102_444_800.0  # 2100
AHEAD_S: Final = 60.0  # an honest clock's error; a time further ahead is some clock's, but nothing happened then
FUTURE_S: Final = 86_400.0  # nobody is a day ahead; local time without an offset is at most 14 h


class Change(NamedTuple):
    """Something became of a transaction."""

    state: State | None
    """What the engine is to be told; None: nothing, there are only facts or readings."""
    transaction: OpenTransaction
    """As it is from now on. Its `evse` is where the readings belong; 0 while that is not known."""
    at: float
    stopped_at: float | None = None
    reading: Reading | None = None
    """The last of `readings`."""
    facts: tuple[Fact, ...] = ()
    identified: bool = False
    """Driver and EVSE became known just now; once per transaction."""
    readings: tuple[Reading, ...] = ()
    """What the meter said with this, 1.6's meterStart and meterStop included; given once, with one of an event's changes."""


class Gone(NamedTuple):
    """A transaction that ended; `told` is False of one whose start we have not seen."""

    ocpp_id: str | None
    evse: int
    at: float
    told: bool


def learned(old: OpenTransaction, seen: TransactionSeen, at: float, now: Instant) -> tuple[OpenTransaction, bool]:
    """The transaction with what an event says of it, and whether the event is newer than those before."""
    in_order = seen.seq_no is None or old.seq_no is None or seen.seq_no > old.seq_no
    starts = seen.phase == "started"
    new = replace(
        old,
        evse=old.evse or seen.evse or 0,
        connector=old.connector if old.evse else seen.connector or old.connector,
        started_at=min(old.started_at, at) if starts else old.started_at,
        ocpp_id=seen.transaction_id or old.ocpp_id,  # a start sent again may be given another id
        id_token=old.id_token or (seen.id_token if seen.accepted and seen.phase != "ended" else None),
        live=old.live or proves(seen, now),
        meter_start_wh=seen.meter_wh if starts and old.meter_start_wh is None else old.meter_start_wh,
        seq_no=seen.seq_no if in_order and seen.seq_no is not None else old.seq_no,
        phases=(seen.phases or old.phases) if in_order else old.phases,
    )
    return new, in_order


def told(transaction: OpenTransaction) -> tuple[object, ...]:
    """What the engine is told of a transaction, besides its state."""
    return transaction.id_token, transaction.started_at, transaction.phases


def too_late(uid: str, gone: Gone, readings: tuple[Reading, ...], at: float) -> tuple[Change, ...]:
    """Nothing can become of what has ended, but what the meter said was said."""
    if not readings or not gone.evse:
        return ()
    over = OpenTransaction(uid, gone.evse, 1, min(at, gone.at), gone.ocpp_id, live=False)
    return (Change(None, over, at, reading=readings[-1], readings=readings),)


def readings(seen: TransactionSeen, at: float) -> tuple[Reading, ...]:
    """The event's readings, in the order of their times where these are known; 1.6's meterStart or meterStop is one of them."""
    if seen.seq_no is not None or seen.meter_wh is None:
        return seen.readings
    own = Reading(at, energy_wh=seen.meter_wh, context="Transaction.Begin" if seen.phase == "started" else "Transaction.End")
    return (own, *seen.readings) if seen.phase == "started" else (*seen.readings, own)


def moment(at: float | None, now: Instant) -> float:
    """The station's time, or ours where it cannot be meant. A box that does not know the time itself believes the station."""
    if at is None or not CLOCK_SET <= at < LAST:
        return now.wall
    return now.wall if at > now.wall + FUTURE_S and now.wall >= CLOCK_SET else at


def happened(at: float, now: Instant) -> float:
    """When it was so, for others: never ahead of us. A station's own times, compared with each other, stay as it said them."""
    return at if at <= now.wall + AHEAD_S or now.wall < CLOCK_SET else now.wall


def fresh(at: float | None, now: Instant) -> bool:
    return at is not None and abs(now.wall - at) <= FRESH_S


def proves(seen: TransactionSeen, now: Instant) -> bool:
    """This event shows that the transaction runs now."""
    return seen.phase != "ended" and not seen.offline and fresh(seen.at, now)
