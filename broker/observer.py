"""What one link's traffic means and what follows from it: the tap's observations go to the book of transactions, to the feed
of measurements and to the injector; out come things to write down, CALLs of ours and alarms.

One of these lives per link of a station whose mode captures. `Identifying` is the whole of driver-identification mode: it has
no injector, no feed, and reads nothing but who began to charge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from broker.change import Change, happened
from broker.departures import TEXTS, Departures, entrusting
from broker.engine.v1 import V1
from broker.feed import Feed, Measurement
from broker.makes import KNOWN
from broker.model.basics import Instant, Key
from broker.model.observations import Boot, Metered, Observation, StatusSeen, TransactionSeen
from broker.model.orders import Alarm, Inject, Pass, Passwords, Remember, Report, Write
from broker.model.records import Fact, Record
from broker.model.schedules import Schedule
from broker.model.traffic import Exchange, Interest
from broker.ocpp.dialect import Dialect
from broker.ocpp.times import text
from broker.settings import Quirk, StationSettings, TenantSettings
from broker.shadowed import Shadowed
from broker.steering import Steered
from broker.tap import Tap
from broker.transactions import Transactions

Effect = Write | Inject | Pass | Alarm | Passwords

REGISTER = "register"
BY_TIME = frozenset({"password", *TEXTS})
"""Alarms that end by their time-to-live: nothing on a link shows that they are over."""

IDLE = frozenset(
    {
        "Available", "Preparing", "Finishing", "Reserved", "Unavailable", "Faulted",
        "SuspendedEV", "SuspendedEVSE", "EVConnected", "Idle",
    }
)  # fmt: skip
"""Statuses (and 2.x chargingStates) in which no power flows, though many stations send no final zero."""


class Seat(NamedTuple):
    """Where a link sits: whose station it is, what it speaks, how the engine is told."""

    key: Key
    station: StationSettings
    tenant: TenantSettings
    dialect: Dialect
    codec: V1
    makes: tuple[Quirk, ...] = KNOWN
    """What is known of makes of stations, the operator's own lines first."""
    judged: bool = False
    """Its password is judged here, so the CPMS's giving it another is followed."""

    def wants(self, interest: Interest) -> Interest:
        """What to see of a link that sits here."""
        return entrusting(interest, self.dialect.changes.entrusting) if self.judged else interest


class _Book:
    """What both modes share: the tap, and the book of transactions."""

    __slots__ = ("_departures", "_seat", "_tap", "_transactions")

    def __init__(self, seat: Seat, facts: Iterable[Fact], identify_only: bool) -> None:
        self._seat = seat
        self._tap = Tap(seat.dialect, identify_only)
        self._departures = Departures(seat.dialect)
        self._transactions = Transactions(seat.key, facts)

    @property
    def tap_failures(self) -> int:
        """How many exchanges could not be read."""
        return self._tap.failures + self._departures.failures

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> tuple[Effect, ...]:
        """A CPMS CALL waits under law 8."""
        return (Pass(token),)

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> tuple[Effect, ...]:
        """A CALL of ours is settled."""
        return ()

    def wish(self, schedule: Schedule, now: Instant) -> tuple[Effect, ...]:
        """The engine's newest schedule for one of this station's assets."""
        return ()

    def steer(self, facts: Iterable[Fact], now: Instant) -> tuple[Effect, ...]:
        """What an operator decided about this station; it is on disk already."""
        return ()

    def tick(self, now: Instant) -> tuple[Effect, ...]:
        """Time passed."""
        return ()

    def closed(self, now: Instant) -> tuple[Effect, ...]:
        """The link is gone."""
        return ()

    def well(self, name: str, raised_at: float) -> bool:
        """Is what an alarm of this name told, last at that moment, over? Here nothing is sent; what the CPMS changed, time tells."""
        return name not in BY_TIME

    def explain(self) -> dict[str, Any]:
        """What is known of the station, as plain data without id tokens."""
        running = [
            {"id": t.uid, "ocpp_id": t.ocpp_id, "evse": t.evse, "started_at": text(t.started_at), "state": t.state, "live": t.live}
            for t in self._transactions.all
        ]
        return {"transactions": running, "tap_failures": self.tap_failures}


class Identifying(_Book):
    """Driver-identification mode. There is no injector here, and no feed."""

    __slots__ = ("interest",)

    wake_at: float | None = None

    def __init__(self, seat: Seat, facts: Iterable[Fact]) -> None:
        super().__init__(seat, facts, identify_only=True)
        self.interest = seat.wants(seat.dialect.identification)

    def saw(self, exchange: Exchange, now: Instant) -> tuple[Effect, ...]:
        """A start or a transaction event went by, or something that the CPMS asked."""
        if exchange.sender == "cpms":
            return self._departures.saw(exchange) if exchange.token is None else self._departures.asked(exchange)
        records: list[Record] = []
        facts: list[Fact] = []
        seat = self._seat
        for seen in self._tap.observe(exchange, now):
            for change in self._transactions.observe(seen, now):
                facts += change.facts
                evse = seat.station.evse(change.transaction.evse)
                if change.identified and evse is not None and seat.station.site is not None:
                    at = happened(change.at, now)
                    records.append(seat.codec.identification(seat.key, seat.station.site, evse, change.transaction, at=at))
        write = (Write(tuple(records), tuple(facts), exchange.token),) if records or facts or exchange.token is not None else ()
        return write


class Watching(_Book):
    """Full capture (shadow and smart-charging). Time, tokens and what was known before are given to it."""

    __slots__ = ("_boot", "_feed", "_injector", "_registers", "interest", "wake_at")

    def __init__(
        self, seat: Seat, facts: Iterable[Fact], *, opened: Instant, flapping: bool, shadow: bool, new_token: Callable[[], int],
        engine_heard: Callable[[], float | None] | None = None,
    ) -> None:  # fmt: skip
        known = tuple(facts)
        super().__init__(seat, known, identify_only=False)
        self.interest = seat.wants(seat.dialect.interest)
        every_s = seat.tenant.engine.measure_every_s if seat.tenant.engine else 60.0
        self._registers = {int(fact.name): float(fact.value) for fact in known if fact.topic == REGISTER}
        self._feed = Feed((evse.number for evse in seat.station.evses), every_s, registers=self._registers)
        self._boot: Mapping[str, Any] = next((fact.value for fact in known if fact.topic == "boot"), {})
        self._injector = (Shadowed if shadow else Steered)(
            seat.station,
            seat.tenant.charging,
            seat.dialect,
            facts=known,
            opened=opened,
            flapping=flapping,
            shadow=shadow,
            new_token=new_token,
            open_transaction=self._transactions.open_on,
            makes=seat.makes,
            engine_heard=engine_heard,
        )
        self.wake_at = self._injector.wake_at
        """Monotonic seconds of the next `tick` that would do something."""

    @property
    def proven(self) -> bool:
        """Both ends of the link are known to live."""
        return self._injector.proven

    def inherit(self, proven: bool, older: Watching | None) -> None:
        """It takes over in the middle of a link's life."""
        self._injector.inherit(proven, older._injector if older is not None else None)

    def saw(self, exchange: Exchange, now: Instant) -> tuple[Effect, ...]:
        """An exchange went by. Its Write carries the exchange's token, so that a promised answer may go once it is on disk."""
        if exchange.token is not None and exchange.sender == "cpms":
            return self._departures.asked(exchange)
        records: list[Record] = []
        facts: list[Fact] = []
        wishes: list[Any] = self._injector.set_by(now)
        then = self._injector.believed(now)
        for seen in self._tap.observe(exchange, now):
            for change in self._transactions.observe(seen, then):
                facts += change.facts
                records += self._told(change, then)
            facts += self._noted(seen)
            self._meter(seen, then)
            wishes += self._injector.observe(seen, now)
        return (*self._settled(records, facts, wishes, now, exchange.token), *self._departures.saw(exchange))

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> tuple[Effect, ...]:
        return self._asked(now, self._injector.guarded, token, exchange)

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> tuple[Effect, ...]:
        return self._asked(now, self._injector.answered, token, outcome, answer)

    def wish(self, schedule: Schedule, now: Instant) -> tuple[Effect, ...]:
        return self._asked(now, self._injector.wish, schedule)

    def steer(self, facts: Iterable[Fact], now: Instant) -> tuple[Effect, ...]:
        return self._asked(now, self._injector.steer, facts)

    def tick(self, now: Instant) -> tuple[Effect, ...]:
        return self._asked(now, self._injector.tick)

    def closed(self, now: Instant) -> tuple[Effect, ...]:
        self._feed.link_closed()
        return self._settled([], [], (), now)

    def well(self, name: str, raised_at: float) -> bool:
        return name not in BY_TIME and self._injector.well(name, raised_at)

    def explain(self) -> dict[str, Any]:
        latest = {str(evse): {"energy_wh": wh, "power_w": w} for evse, (wh, w) in self._feed.latest().items()}
        make, limits = self._injector.make, self._injector.explain()
        return {"boot": dict(self._boot), "make": make, **super().explain(), "latest": latest, "limits": limits}

    # ------------------------------------------------------------ one observation

    def _meter(self, seen: Observation, now: Instant) -> None:
        """Readings of a transaction come with its changes, where it is known whose they are."""
        if isinstance(seen, Metered):
            for reading in seen.readings:
                self._feed.metered(seen.evse, reading, now)
        elif isinstance(seen, StatusSeen):
            self._flow(seen.evse, seen.status, now)
        elif isinstance(seen, TransactionSeen) and seen.charging_state is not None and not seen.offline:
            running = self._transactions.with_id(seen.transaction_id or "")
            if running is not None and running.seq_no == seen.seq_no:  # the newest event there is of it
                self._flow(running.evse, seen.charging_state, now)

    def _flow(self, evse: int, status: str, now: Instant) -> None:
        """A status says whether power flows."""
        if status in IDLE:
            self._feed.idle(evse, now)
        elif status == "Charging":
            self._feed.busy(evse, now)

    def _noted(self, seen: Observation) -> list[Fact]:
        if not isinstance(seen, Boot) or seen.status != "Accepted":
            return []
        boot = {"vendor": seen.vendor, "model": seen.model, "serial": seen.serial, "firmware": seen.firmware}
        if boot == self._boot:  # after a power cut all of them say what is on disk already
            return []
        self._boot = boot
        return [Fact("boot", "boot", dict(boot))]

    def _told(self, change: Change, now: Instant) -> list[Record]:
        """A transaction's change: its readings to the feed, its news to the engine."""
        seat, transaction = self._seat, change.transaction
        for reading in change.readings:
            self._feed.metered(transaction.evse, reading, now)
        evse = seat.station.evse(transaction.evse)
        if change.state is None or evse is None or seat.station.site is None:
            return []
        if change.state == "Ended" and self._transactions.open_on(transaction.evse) is None:
            self._feed.idle(transaction.evse, now)
        if change.state in ("Started", "Ended"):
            self._feed.urgent(transaction.evse)
        soc = change.reading.soc_percent if change.reading is not None else None
        record = seat.codec.transaction(
            seat.key,
            seat.station.site,
            evse,
            transaction,
            state=change.state,
            at=happened(change.at, now),
            # Our own clock may have been set back since the start.
            stopped_at=None if change.stopped_at is None else max(happened(change.stopped_at, now), transaction.started_at),
            soc_percent=soc,
            dc=seat.station.current == "dc",
        )
        return [record]

    # ------------------------------------------------------------ what follows

    def _asked(self, now: Instant, question: Callable[..., Iterable[Any]], *what: Any) -> tuple[Effect, ...]:
        """The injector's answer. That our clock was set since, it learns before anything else."""
        return self._settled([], [], (*self._injector.set_by(now), *question(*what, now)), now)

    def _settled(
        self, records: list[Record], facts: list[Fact], wishes: Iterable[Any], now: Instant, token: int | None = None
    ) -> tuple[Effect, ...]:
        """One Write for all of it, before anything is sent: what we are about to do is recorded first."""
        rest: list[Effect] = []
        for wish in wishes:
            if isinstance(wish, Report):
                records.append(self._seat.codec.outcome(self._seat.key.tenant, wish.outcome))
            elif isinstance(wish, Remember):
                facts.append(wish.fact)
            else:
                rest.append(wish)
        for measurement in self._feed.due(self._injector.believed(now)):
            records += self._measured(measurement)
            facts += self._held(measurement)
        if records or facts or token is not None:
            rest.insert(0, Write(tuple(records), tuple(facts), token))
        feed, injector = self._feed.wake_at, self._injector.wake_at
        self.wake_at = feed if injector is None or (feed is not None and feed < injector) else injector
        return tuple(rest)

    def _held(self, measurement: Measurement) -> list[Fact]:
        """The register as it stands now, for the next link."""
        evse, held = measurement.evse, self._feed.latest()[measurement.evse][0]
        if held is None or self._registers.get(evse) == held:
            return []
        self._registers[evse] = held
        return [Fact(REGISTER, str(evse), held)]

    def _measured(self, measurement: Measurement) -> list[Record]:
        evse, site = self._seat.station.evse(measurement.evse), self._seat.station.site
        if evse is None or site is None:
            return []
        record = self._seat.codec.measurement(
            self._seat.key,
            site,
            evse,
            at=measurement.at,
            energy_wh=measurement.energy_wh,
            power_w=measurement.power_w,
            soc_percent=measurement.soc_percent,
            currents_a=measurement.currents_a,
            voltages_v=measurement.voltages_v,
        )
        return [record]
