"""What one link's traffic means and what follows from it: the tap's observations go to the book of transactions, to the feed
of measurements and to the injector; out come things to write down, CALLs of ours and alarms.

One of these lives per link of a station whose mode captures. `Identifying` is the whole of driver-identification mode: it has
no injector, no feed, and reads nothing but who began to charge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from broker.engine.v1 import V1
from broker.feed import Feed, Measurement
from broker.injector import Injector
from broker.model import (
    Alarm,
    Boot,
    Exchange,
    Fact,
    Inject,
    Instant,
    Key,
    Metered,
    Observation,
    Pass,
    Reading,
    Record,
    Remember,
    Report,
    Schedule,
    StatusSeen,
    TransactionSeen,
    Write,
)
from broker.ocpp.dialect import Dialect
from broker.ocpp.times import text
from broker.settings import EvseSettings, StationSettings, TenantSettings
from broker.tap import Tap
from broker.transactions import Change, Transactions

Effect = Write | Inject | Pass | Alarm

IDLE = frozenset({"Available", "Preparing", "Finishing", "Reserved", "Unavailable", "Faulted", "SuspendedEV", "SuspendedEVSE"})
"""Statuses (and 2.x chargingStates) in which no power flows, though many stations send no final zero."""


class Seat(NamedTuple):
    """Where a link sits: whose station it is, what it speaks, how the engine is told."""

    key: Key
    station: StationSettings
    tenant: TenantSettings
    dialect: Dialect
    codec: V1


class Observer:
    """Full capture (shadow and smart-charging). Time, tokens and what was known before are given to it."""

    def __init__(
        self, seat: Seat, facts: Iterable[Fact], *, opened: Instant, flapping: bool, shadow: bool, new_token: Callable[[], int]
    ) -> None:
        known = tuple(facts)
        self.interest = seat.dialect.interest
        self._seat = seat
        self._tap = Tap(seat.dialect)
        self._transactions = Transactions(seat.key, known)
        every_s = seat.tenant.engine.measure_every_s if seat.tenant.engine else 60.0
        self._feed = Feed((evse.number for evse in seat.station.evses), every_s)
        self._boot: Mapping[str, Any] = next((fact.value for fact in known if fact.topic == "boot"), {})
        self._injector = Injector(
            seat.station,
            seat.tenant.charging,
            seat.dialect,
            facts=known,
            opened=opened,
            flapping=flapping,
            shadow=shadow,
            new_token=new_token,
            open_transaction=self._transactions.open_on,
        )

    @property
    def tap_failures(self) -> int:
        return self._tap.failures

    @property
    def wake_at(self) -> float | None:
        """Monotonic seconds of the next `tick` that would do something."""
        return min((at for at in (self._feed.wake_at, self._injector.wake_at) if at is not None), default=None)

    def saw(self, exchange: Exchange, now: Instant) -> tuple[Effect, ...]:
        """An exchange went by. Its Write carries the exchange's token, so that a promised answer may go once it is on disk."""
        records: list[Record] = []
        facts: list[Fact] = []
        wishes: list[Any] = []
        for seen in self._tap.observe(exchange, now):
            for change in self._transactions.observe(seen, now):
                records += self._told(change)
                facts += change.facts
            facts += self._noted(seen)
            self._meter(seen, now)
            wishes += self._injector.observe(seen, now)
        return self._settled(records, facts, wishes, now, exchange.token)

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> tuple[Effect, ...]:
        """A CPMS CALL waits under law 8."""
        return self._settled([], [], self._injector.guarded(token, exchange, now), now)

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> tuple[Effect, ...]:
        """A CALL of ours is settled."""
        return self._settled([], [], self._injector.answered(token, outcome, answer, now), now)

    def wish(self, schedule: Schedule, now: Instant) -> tuple[Effect, ...]:
        """The engine's newest schedule for one of this station's assets."""
        return self._settled([], [], self._injector.wish(schedule, now), now)

    def release(self, now: Instant) -> tuple[Effect, ...]:
        """Clear everything of ours at the station."""
        return self._settled([], [], self._injector.release(now), now)

    def tick(self, now: Instant) -> tuple[Effect, ...]:
        """Time passed."""
        return self._settled([], [], self._injector.tick(now), now)

    def closed(self, now: Instant) -> tuple[Effect, ...]:
        """The link is gone; what it owed the engine is told, what it held dies with it."""
        return self._settled([], [], (), now)

    def explain(self) -> dict[str, Any]:
        """What is known of the station, as plain data without id tokens."""
        return {
            "boot": dict(self._boot),
            "transactions": [
                {
                    "id": t.uid,
                    "ocpp_id": t.ocpp_id,
                    "evse": t.evse,
                    "started_at": text(t.started_at),
                    "state": t.state,
                    "live": t.live,
                }
                for t in self._transactions.all
            ],
            "limits": self._injector.explain(),
            "tap_failures": self._tap.failures,
        }

    # ------------------------------------------------------------ one observation

    def _meter(self, seen: Observation, now: Instant) -> None:
        if isinstance(seen, Metered):
            for reading in seen.readings:
                self._feed.metered(seen.evse, reading, now)
        elif isinstance(seen, StatusSeen):
            if seen.status in IDLE:
                self._feed.idle(seen.evse, now)

    def _noted(self, seen: Observation) -> list[Fact]:
        if isinstance(seen, Boot) and seen.status == "Accepted":
            self._boot = {"vendor": seen.vendor, "model": seen.model, "serial": seen.serial, "firmware": seen.firmware}
            return [Fact("boot", "boot", dict(self._boot))]
        return []

    def _told(self, change: Change) -> list[Record]:
        raise NotImplementedError

    # ------------------------------------------------------------ what follows

    def _settled(
        self, records: list[Record], facts: list[Fact], wishes: Iterable[Any], now: Instant, token: int | None = None
    ) -> tuple[Effect, ...]:
        rest: list[Effect] = []
        for wish in wishes:
            if isinstance(wish, Report):
                records.append(self._seat.codec.outcome(self._seat.key.tenant, wish.outcome))
            elif isinstance(wish, Remember):
                facts.append(wish.fact)
            else:
                rest.append(wish)
        records += [self._measured(m) for m in self._feed.due(now)]
        if records or facts or token is not None:
            rest.insert(0, Write(tuple(records), tuple(facts), token))
        return tuple(rest)

    def _measured(self, measurement: Measurement) -> Record:
        raise NotImplementedError
