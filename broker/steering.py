"""The injector, and the operator beside it: an operator's limit goes the same way as the engine's, through the same clamp.

    engine's schedule ─┐
                       ├─ at every moment the lower ─▶ one schedule ─▶ ask, clamp, set, renew … (`deciding`)
    operator's limit ──┘

An operator's limit ends by itself; when it does, the engine's schedule holds again, or what stands is cleared. A released station
has everything of ours cleared by id, and nothing is sent to it until that is taken back. Each profile that is sent leaves behind why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.clockset import ClockSet, later_own, later_schedule
from broker.decisions import Decisions, operators
from broker.leases import Lease
from broker.model.basics import EMPTY, Instant
from broker.model.orders import Remember, Report
from broker.model.records import Fact, OutcomeStatus
from broker.model.schedules import Schedule
from broker.ocpp.dialect import Dialect, Request
from broker.ocpp.times import text
from broker.operating import TOPIC, OwnLimit, lowers, own_limit, released, together
from broker.profiles.shape import Plan
from broker.settings import ChargingSettings, StationSettings
from broker.sockets import Socket, asked_now
from broker.standing import Effect, Effects, Job


class Steered(ClockSet):
    """One station's."""

    __slots__ = ("_decisions", "_engines", "_only_operators", "_operators")

    def __init__(
        self, station: StationSettings, charging: ChargingSettings, dialect: Dialect, *, facts: Iterable[Fact], **more: Any
    ) -> None:
        known = tuple(facts)
        self._engines: dict[int, Schedule] = {}  # what the engine wants, alone
        self._operators: dict[int, OwnLimit] = {}
        self._only_operators: frozenset[int] = EMPTY  # EVSEs whose schedule is the operator's only: the engine hears nothing of it
        self._released: float | None = None
        self._decisions = Decisions()
        super().__init__(station, charging, dialect, facts=known, **more)
        for fact in known:
            self._learn(fact)
        if self._released is not None:
            for lease in self._standing():
                self._clears.add(lease.profile_id)

    def _learn(self, fact: Fact) -> None:
        own = own_limit(fact)
        if own is not None and own.evse in self._sockets:
            self._operators[own.evse] = own
            self._sockets[own.evse].urgent = True
        elif fact.name == "released":
            self._released = released(fact) if fact.topic == TOPIC else self._released

    # ------------------------------------------------------------ what comes in

    def wish(self, schedule: Schedule, now: Instant) -> Effects:
        """The engine's newest schedule. While an operator's limit holds, the lower of the two counts."""
        effects: list[Effect] = []
        new = False
        for number, socket in self._sockets.items():
            old = self._engines.get(number)
            if socket.evse.asset != schedule.asset or (old is not None and old.id == schedule.id):
                continue
            new = True
            if number in self._operators:  # the engine hears what became of its own
                socket.schedule = old
            self._engines[number] = schedule
            self._engine_hears(number)
            if self._released is not None:
                socket.wish(schedule)
                effects += self._report(socket, "not-sent", "released", now)
                socket.schedule = None
        if self._released is not None or not new:
            return (*effects, *self._move(now))
        return super().wish(schedule, now)

    def steer(self, facts: Iterable[Fact], now: Instant) -> Effects:
        """What an operator decided, as facts that are on disk already. To be told the same twice changes nothing."""
        effects: list[Effect] = []
        for fact in facts:
            if fact.topic != TOPIC:
                continue
            if fact.name == "released":
                effects += self._let_go(released(fact), now)
            elif fact.value is None:
                effects += self._withdrawn(fact.name)
            elif own_limit(fact) not in self._operators.values():
                self._learn(fact)
        return (*effects, *self._move(now))

    def _let_go(self, at: float | None, now: Instant) -> list[Effect]:
        """Everything of ours is cleared, and no more is sent; or, with None, again what the engine asks from now on."""
        before, self._released = self._released, at
        if (at is None) == (before is None):
            return []
        effects: list[Effect] = []
        if at is None:
            for socket in self._sockets.values():
                socket.status = "idle" if socket.status == "released" else socket.status
            for number, asked in self._engines.items():
                self._follow_this(self._sockets[number], asked, alone=False)
            return []
        for number, socket in self._sockets.items():
            self._engine_hears(number)
            if number in self._engines:
                socket.schedule, socket.reported = self._engines[number], None
                effects += self._report(socket, "not-sent", "released", now)
            effects += self._withdrawn(f"limit-{number}")
            socket.status, socket.why = "released", ""
        return [*effects, *super().release(now)]

    def _withdrawn(self, name: str) -> list[Effect]:
        """An operator's limit is taken back: the engine's holds again; without one, what stands goes."""
        own = next((one for one in self._operators.values() if one.gone().name == name), None)
        if own is None:
            return []
        del self._operators[own.evse]
        socket = self._sockets[own.evse]
        socket.urgent = True
        asked, lease = self._engines.get(own.evse), self._of(socket)
        if asked is not None:
            self._follow_this(socket, asked, alone=False)
        else:
            self._engine_hears(own.evse)
            socket.schedule, socket.status, socket.why = None, "idle", ""
            if lease is not None:
                self._clears.add(lease.profile_id, at_once=True)
        return [Remember(own.gone())]

    def _shift(self, by: float, now: Instant) -> list[Effect]:
        for socket in self._sockets.values():
            socket.schedule = None if socket.schedule is None else later_schedule(socket.schedule, by, now.wall)
        self._engines = {number: later_schedule(asked, by, now.wall) for number, asked in self._engines.items()}
        self._operators = {number: later_own(own, by) for number, own in self._operators.items()}
        return [*super()._shift(by, now), *(Remember(own.fact()) for own in self._operators.values())]

    # ------------------------------------------------------------ what is decided

    def _at_rest(self) -> bool:
        return not (self._operators or self._engines or self._only_operators) and super()._at_rest()

    def _decide(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        number = socket.evse.number
        effects = self._combine(socket, now, times) if number in self._operators and self._released is None else []
        effects += super()._decide(socket, now, times)
        if socket.schedule is None and self._released is None:  # it lapsed
            self._engines.pop(number, None)
            self._engine_hears(number)
        return effects

    def _combine(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        """The engine's schedule and the operator's limit as one, as long as both last."""
        number = socket.evse.number
        own, asked = self._operators[number], self._engines.get(number)
        if own.until <= now.wall:
            del self._operators[number]
            if asked is not None:
                self._follow_this(socket, asked, alone=False)
            elif socket.schedule is None and socket.lease is not None:
                self._clears.add(socket.lease.profile_id)
            return [Remember(own.gone())]  # a schedule that is the operator's alone lapses like any other
        times.append(now.mono + own.until - now.wall)
        effects: list[Effect] = []
        if asked is not None and asked.valid_until <= now.wall:
            socket.schedule = asked
            self._engine_hears(number)
            effects += self._report(socket, "lapsed", "", now)
            del self._engines[number]
            asked = None
        elif asked is not None:
            times.append(now.mono + asked.valid_until - now.wall)
        running = self._open_on(number)
        if asked is not None and asked.transaction is not None and (running is None or running.uid != asked.transaction):
            asked = None  # the engine's is for another one; the operator's is for whoever charges
        if asked is not None and self._forsaken(self._charging.lease_s - self._silence_s(now), now, times):
            asked = None  # nobody vouches for it any more
        self._follow_this(socket, together(asked, own, socket.evse), alone=asked is None)
        return effects

    def _left_s(self, socket: Socket, now: Instant) -> float:
        """What is the operator's alone needs no engine."""
        return self._charging.lease_s if socket.evse.number in self._only_operators else super()._left_s(socket, now)

    def _follow_this(self, socket: Socket, schedule: Schedule, alone: bool) -> None:
        if alone:
            self._only_operators |= {socket.evse.number}
        else:
            self._engine_hears(socket.evse.number)
        if socket.schedule != schedule:
            socket.schedule, socket.reported = schedule, None

    def _engine_hears(self, number: int) -> None:
        """What becomes of this EVSE's schedule concerns the engine (too)."""
        self._only_operators = self._only_operators - {number} or EMPTY

    def _report(self, socket: Socket, status: OutcomeStatus, detail: str, now: Instant) -> list[Effect]:
        """The engine hears what became of its own schedule, and if the operator lowered it."""
        number = socket.evse.number
        asked = self._engines.get(number)
        both = socket.schedule if number in self._operators else None
        if status == "accepted" and detail != "unchanged" and asked is not None and both is not None and lowers(asked, both, now.wall):
            detail = ", ".join(part for part in (detail, "operator-lower") if part)
        said = super()._report(socket, status, detail, now)
        return [one for one in said if not isinstance(one, Report)] if number in self._only_operators else said

    # ------------------------------------------------------------ why

    def _reasons(self, socket: Socket, shaped: Plan, now: Instant) -> tuple[str, ...]:
        """The operator's limit is one of them where it takes something from what the engine asked, or is all that is asked."""
        number = socket.evse.number
        asked, both = self._engines.get(number), socket.schedule if number in self._operators else None
        lower = both is not None and (number in self._only_operators or (asked is not None and lowers(asked, both, now.wall)))
        return (*super()._reasons(socket, shaped, now), *(["operator-lower"] if lower else []))

    def _send(
        self, kind: str, request: Request, socket: Socket | None, lease: Lease | None = None, place: int = 0, changes: tuple[str, ...] = ()
    ) -> list[Effect]:
        effects = super()._send(kind, request, socket, lease, place, changes)
        if socket is not None and lease is not None:
            number = lease.evse
            allowed = self._limits.limit(number).value
            self._decisions.sent(lease, self._engines.get(number), self._operators.get(number), allowed, self._now.wall)
        return effects

    def _was_set(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        assert job.socket is not None
        effects = super()._was_set(job, outcome, answer, now)
        self._decisions.came(job.socket.evse.number, job.socket.status if outcome in ("answer", "error") else outcome)
        return effects

    def explain(self) -> dict[str, Any]:
        """Besides what the injector says: what the engine asks alone, the operator's limit, and the last decisions."""
        said = super().explain()
        for number, socket in self._sockets.items():
            one = said[str(number)]
            if number in self._operators or number in self._only_operators:
                one["asked"] = asked_now(self._engines.get(number), self._now.wall)
            if socket.lease is not None:
                one["sent"]["unit"] = socket.lease.unit
            one["operator"] = operators(self._operators.get(number))
            one["released"] = None if self._released is None else text(self._released)
            one["decisions"] = self._decisions.of(number)
        return said
