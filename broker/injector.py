"""What the station should be told, what it has accepted, and when to say it again.

In: the engine's schedules, observations of this station's traffic, answers to our own CALLs, the time. Out: one CALL of ours at a
time, outcomes for the engine, facts for a restart. Our limit is never above what the CPMS alone allows nor `max_amps`, stands on a
lease, and has its own end. In shadow everything is decided and nothing is sent.

    schedule ─▶ ask (capabilities, baseline) ─▶ shape ─▶ set on a rung ─▶ accepted ─▶ renew … ─▶ lapsed: cleared
                                                          │     └▶ refused: the next rung; after the last one an hour's rest
                                                          └▶ no answer: it may stand all the same; again, later each time

What stands is withdrawn as soon as it is at odds with what the CPMS allows, whoever learned it and however.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from broker.guards import Guards
from broker.leases import BACK_OFF_S, SHORT_S, Clears, Lease, Socket, lease_of
from broker.limits import NOMINAL_V, UNANSWERED_S, Limits
from broker.model import (
    Alarm,
    Boot,
    Capabilities,
    ClearSeen,
    Exchange,
    Fact,
    Inject,
    Instant,
    LimitUnknown,
    Observation,
    OpenTransaction,
    Outcome,
    OutcomeStatus,
    Pass,
    ProfileSeen,
    Proven,
    Remember,
    Report,
    Schedule,
    StatusSeen,
    TransactionSeen,
)
from broker.ocpp.dialect import Dialect, Request, Verdict
from broker.ocpp.frames import payload_of
from broker.profiles.ceiling import Limit
from broker.profiles.ladder import Ladder, Rung, abilities_fact, abilities_of, merged, profile_id
from broker.profiles.shape import AFTER_S, Plan, plan, wrap
from broker.settings import ChargingSettings, StationSettings
from broker.stationclock import StationClock

SETTLE_S: Final = 10.0  # after the link opened: stations that are asked at once reconnect
FLAPPING_S: Final = 300.0  # a link that lasted this long is not one of a series
NO_TRANSACTION: Final = frozenset({"-1", "0", "9223372036854775807"})  # ids that stations make up when they have none
PERIODS: Final = 16  # of a station that does not say how many it takes: the fewest that any is known to take
CLOCK_PATIENCE_S: Final = 300.0
ID_BLOCK: Final = 1000  # further on when the CPMS uses an id of ours
RATE_S: Final = 60.0  # 2.1 stations may refuse more than one profile a minute
CHARGES: Final = frozenset({"Charging", "SuspendedEV", "SuspendedEVSE"})

Effect = Inject | Report | Remember | Pass | Alarm
Effects = tuple[Effect, ...]


class Job(NamedTuple):
    """The one CALL of ours that is under way."""

    token: int
    kind: str
    """set | clear | composite | capabilities"""
    request: Request
    socket: Socket | None = None
    lease: Lease | None = None
    place: int = 0
    """composite: the EVSE; clear: the profile's id."""
    changes: tuple[str, ...] = ()


class Injector:
    """One station's."""

    def __init__(
        self,
        station: StationSettings,
        charging: ChargingSettings,
        dialect: Dialect,
        *,
        facts: Iterable[Fact],
        opened: Instant,
        flapping: bool,
        shadow: bool,
        new_token: Callable[[], int],
        open_transaction: Callable[[int], OpenTransaction | None],
    ) -> None:
        known = tuple(facts)
        self._station, self._charging, self._speech, self._version = station, charging, dialect.charging, dialect.name
        self._gate = opened.mono + (FLAPPING_S if flapping else SETTLE_S)
        self._opened, self._shadow, self._now = opened, shadow, opened
        self._new_token, self._open_on = new_token, open_transaction
        self._limits = Limits(station, charging.baseline, known, opened.mono)
        self._clock = StationClock()
        self._sockets = {evse.number: Socket(evse) for evse in station.evses}
        self._abilities = abilities_of(known)
        self._ladder = Ladder(charging.purposes, known)
        self._clears = Clears()
        self._guards = Guards()
        self._recall(known)
        self._asked_abilities = False
        self._places: set[int] = set()
        self._taken = {id for fact in known if (fact.topic, fact.name) == ("quirk", "taken") for id in fact.value or ()}
        running = {evse: open_transaction(evse) for evse in self._sockets}
        self._where = {t.ocpp_id: evse for evse, t in running.items() if t is not None and t.ocpp_id is not None}
        self._proven = self._over = False
        self._job: Job | None = None
        self.wake_at: float | None = None

    def _recall(self, facts: Iterable[Fact]) -> None:
        """One lease per socket is kept; what else of ours may stand is cleared."""
        for fact in facts:
            lease = lease_of(fact)
            if lease is not None and lease.evse in self._sockets and self._sockets[lease.evse].lease is None:
                self._sockets[lease.evse].lease = lease
            elif fact.topic == "lease" and fact.value is not None and fact.name.isdecimal():
                self._clears.add(int(fact.name))

    # ------------------------------------------------------------ what comes in

    def observe(self, seen: Observation, now: Instant) -> Effects:
        """Something was learned of this station."""
        effects: list[Effect] = []
        self._clock.observe(seen, now)
        if isinstance(seen, Proven):
            self._proven = True
        elif isinstance(seen, Boot):
            effects += self._booted(seen, now)
        elif isinstance(seen, Capabilities):
            effects += self._able(seen)
        elif isinstance(seen, StatusSeen):
            self._places |= {seen.evse} if seen.evse else set()
            if seen.evse in self._sockets:
                self._sockets[seen.evse].charging = seen.status in CHARGES
        elif isinstance(seen, TransactionSeen):
            seen, gone = self._transaction(seen)
            effects += gone
        elif isinstance(seen, ClearSeen) and seen.accepted:
            effects += self._cleared(seen)
        elif isinstance(seen, ProfileSeen) and seen.accepted and seen.profile.id in self._ids():
            effects += self._named_like_ours(seen.profile.id)
        if isinstance(seen, ProfileSeen | ClearSeen | LimitUnknown):
            for socket in self._sockets.values():
                socket.held_mono = 0.0
        effects += map(Remember, self._limits.observe(seen, any(self._standing())))
        return (*effects, *self._move(now))

    def wish(self, schedule: Schedule, now: Instant) -> Effects:
        """The engine's newest schedule for one of this station's assets."""
        effects: list[Effect] = []
        for socket in self._sockets.values():
            old = socket.schedule
            if socket.evse.asset != schedule.asset or (old is not None and old.id == schedule.id):
                continue
            if old is not None and socket.reported is None:
                effects.append(Report(Outcome(old.id, old.asset, "superseded", now.wall)))
            socket.wish(schedule)
        return (*effects, *self._move(now))

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> Effects:
        """A CALL of ours is settled: answer, error, timeout, given-up, closed or no-slot."""
        job = self._job
        if job is None or job.token != token:
            return ()
        self._job, self._over = None, self._over or outcome == "closed"
        effects: list[Effect] = []
        if job.kind == "set":
            effects += self._was_set(job, outcome, answer, now)
        elif job.kind == "clear":
            effects += self._was_cleared(job, outcome, answer, now)
        elif job.kind == "composite":
            effects += self._was_read(job, outcome, answer, now)
        elif outcome == "answer" and answer is not None:
            effects += self._able(self._speech.capabilities(answer))
        elif outcome in ("no-slot", "given-up"):  # it was not the station that did not answer
            self._asked_abilities = False
        place = job.socket.evse.number if job.socket is not None and job.kind in ("set", "clear") else 0
        effects += self._pass(self._guards.settled(token, place), now)
        return (*effects, *self._move(now))

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> Effects:
        """Law 8: a CPMS CALL about profiles waits. What of ours it is at odds with is lowered or cleared first."""
        try:
            said = self._speech.observe(exchange, payload_of(exchange.call), None)
        except Exception:  # RecursionError too; the station will not understand it either
            said = ()
        concerned: set[int] = set()
        for one in said:
            concerned |= self._concerned(one, now)
        if not concerned or not self._may(now):
            return (Pass(token), *self._move(now))
        self._guards.add(token, concerned, self._job.token if self._job is not None else None)
        for number in concerned:
            self._sockets[number].urgent = True
        return self._move(now)

    def release(self, now: Instant) -> Effects:
        """Clear everything of ours, by id."""
        for socket in self._sockets.values():
            socket.schedule = None
            lease = self._of(socket)
            if lease is not None:
                self._clears.add(lease.profile_id)
        return self._move(now)

    def tick(self, now: Instant) -> Effects:
        """Time passed."""
        return self._move(now)

    def explain(self) -> dict[str, Any]:
        """Per EVSE what was asked, what is allowed, what was sent and why not more."""
        return {str(number): socket.explain(self._now.wall, self._limits.explain(number)) for number, socket in self._sockets.items()}

    # ------------------------------------------------------------ what observations change

    def _booted(self, boot: Boot, now: Instant) -> list[Effect]:
        """After a boot nothing is taken for granted: ours is cleared, capabilities and baseline are asked again."""
        if boot.status != "Accepted":  # a station that the CPMS does not want (yet) is none of ours; an error says nothing
            self._proven = self._proven and not boot.status
            return []
        self._proven = True
        self._asked_abilities = False
        for lease in self._standing():
            self._clears.add(lease.profile_id)
        return [Remember(fact) for fact in self._limits.forget(now.mono)]

    def _able(self, said: Capabilities) -> list[Effect]:
        new = merged(self._abilities, said)
        if new == self._abilities:
            return []
        self._abilities = new
        return [Remember(abilities_fact(new))]

    def _transaction(self, seen: TransactionSeen) -> tuple[TransactionSeen, list[Effect]]:
        """Where it runs, if only its start said so. A TxProfile dies with its transaction."""
        self._places |= {seen.evse} if seen.evse else set()
        if seen.phase != "ended":
            if seen.evse is not None and seen.transaction_id is not None:
                self._where = {id: evse for id, evse in self._where.items() if evse != seen.evse} | {seen.transaction_id: seen.evse}
            return seen, []
        evse = seen.evse if seen.evse is not None else self._where.get(seen.transaction_id or "")
        self._where.pop(seen.transaction_id or "", None)
        effects: list[Effect] = []
        for socket in self._sockets.values():
            lease = socket.lease
            if lease is not None and lease.purpose == "tx" and lease.transaction_id == seen.transaction_id:
                socket.lease = None
                effects.append(Remember(lease.gone()))
            if evse == socket.evse.number:
                socket.charging = False
        return replace(seen, evse=evse), effects

    def _cleared(self, seen: ClearSeen) -> list[Effect]:
        """The CPMS cleared what matches its criteria, ours among it; it is put there again if it is still wanted."""
        effects: list[Effect] = []
        for socket in self._sockets.values():
            lease = socket.lease
            if lease is not None and lease.matches(seen):
                socket.lease, socket.urgent = None, True
                self._clears.done(lease.profile_id)
                effects.append(Remember(lease.gone()))
        return effects

    def _named_like_ours(self, id: int) -> list[Effect]:
        """A profile of the CPMS has an id that might be ours: whatever of ours had it is replaced, and we use another."""
        self._taken.add(id)
        self._clears.done(id)
        effects: list[Effect] = [Remember(Fact("quirk", "taken", sorted(self._taken)))]
        for socket in self._sockets.values():
            if socket.lease is not None and socket.lease.profile_id == id:
                effects.append(Remember(socket.lease.gone()))
                socket.lease = None
        return effects

    def _concerned(self, said: Observation, now: Instant) -> set[int]:
        """The EVSEs whose profile of ours this CPMS CALL is at odds with; from now on what it says is reckoned with."""
        if self._shadow:
            return set()
        ours = {number: lease for number, socket in self._sockets.items() if (lease := self._of(socket)) is not None}
        if isinstance(said, ClearSeen):
            clear = self._limits.uncovered(said, ours)
        elif isinstance(said, LimitUnknown):
            clear = {number for number in ours if said.evse in (0, number)}
            for number, socket in self._sockets.items():  # what it allows is not known before its answer, nor after it
                if said.evse in (0, number):
                    socket.held_mono = now.mono + UNANSWERED_S
        elif isinstance(said, ProfileSeen):
            self._limits.asked(said, now.mono)
            clear = {number for number, lease in ours.items() if said.evse in (0, number) and lease.collides(said.profile)}
        else:
            return set()
        for number in clear:
            self._clears.add(ours[number].profile_id, at_once=True)
        return clear | {number for number, lease in ours.items() if lease.above(self._limits.limit(number))}

    # ------------------------------------------------------------ what is to be done next

    def _move(self, now: Instant) -> Effects:
        """Decide for each socket, and send what is most pressing if nothing of ours is under way."""
        self._now = now
        effects: list[Effect] = []
        times = [self._gate] if now.mono < self._gate else []
        effects += map(Remember, self._limits.refresh(now.mono))
        if self._job is None and self._may(now):
            effects += self._clear(now, times)
        for socket in sorted(self._sockets.values(), key=lambda one: not one.urgent):
            effects += self._decide(socket, now, times)
        if self._job is None:  # nothing can be done for those that wait: they go
            effects += self._pass(self._guards.all(), now)
        self.wake_at = min(times, default=None)
        return tuple(effects)

    def _pass(self, ready: Iterable[tuple[int, frozenset[int]]], now: Instant) -> list[Effect]:
        """These CALLs of the CPMS go. Until it is known what came of them nothing of ours takes the place of what made way."""
        effects: list[Effect] = []
        for token, concerned in ready:
            effects.append(Pass(token))
            for number in concerned:
                self._sockets[number].held_mono = now.mono + UNANSWERED_S
        return effects

    def _may(self, now: Instant) -> bool:
        """Whether a CALL of ours may be sent at all."""
        return self._proven and not self._shadow and not self._over and now.mono >= self._gate

    def _clear(self, now: Instant, times: list[float]) -> list[Effect]:
        """The next profile of ours that is not wanted any more."""
        id = self._clears.next(now.mono, times)
        if id is None:
            return []
        socket = next((one for one in self._sockets.values() if one.lease is not None and one.lease.profile_id == id), None)
        return self._send("clear", self._speech.clear_profile(id), socket, place=id)

    def _decide(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        """The engine's wish for one socket, or that nothing of ours may stand there."""
        schedule, lease = socket.schedule, socket.lease
        if self._shadow:
            return self._report(socket, "not-sent", "shadow", now)
        if schedule is not None and schedule.valid_until <= now.wall:
            return self._lapse(socket, now, times)
        if schedule is not None:
            times.append(now.mono + schedule.valid_until - now.wall)
        elif lease is not None and not lease.over(now.wall):
            times.append(now.mono + lease.until + AFTER_S + 1.0 - now.wall)
        if self._job is not None or not self._may(now):
            return []
        odds = lease is not None and lease.above(self._limits.limit(socket.evse.number))
        socket.urgent = socket.urgent or odds
        effects = self._follow(socket, now, times) if schedule is not None else []
        over = lease is not None and schedule is None and lease.over(now.wall)
        return [*effects, *self._withdraw(socket, now, times)] if (odds or over) and self._job is None else effects

    def _follow(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        """One step nearer to what the engine wants."""
        if socket.failures and socket.not_before_mono > now.mono:
            times.append(socket.not_before_mono)
            return []
        if socket.held_mono > now.mono:
            times.append(socket.held_mono)
            return []
        early = socket.schedule.steps[0].at - self._charging.lease_s - now.wall if socket.schedule is not None else 0.0
        if early > 0:  # a profile would say nothing yet
            socket.status, socket.why = "waiting", "for its first period"
            times.append(now.mono + early)
            return []
        obstacle = self._obstacle(socket, now, times)
        if obstacle is not None:
            return obstacle
        rung = self._rung(socket)
        if rung is None:
            return self._report(socket, "not-sent", "unmanaged: no kind of profile is left that it takes", now)
        if isinstance(rung, str):
            socket.status, socket.why = "waiting", "for a transaction"
            return []
        return self._install(socket, rung, now, times)

    def _obstacle(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect] | None:
        """What must be asked, waited for or said before a profile may be shaped; None if nothing stands in the way."""
        number, schedule = socket.evse.number, socket.schedule
        if not self._asked_abilities and self._abilities.max_stack_level is None:
            self._asked_abilities = True
            return self._send("capabilities", self._speech.ask_capabilities(), socket)
        if self._abilities.smart_charging is False:
            return self._report(socket, "not-sent", "unmanaged: the station has no smart charging", now)
        for place in self._limits.to_ask(number):
            in_the_way = [lease for lease in self._standing() if place in (0, lease.evse)]
            if in_the_way:  # what the station reads out would contain it
                for lease in in_the_way:
                    self._clears.add(lease.profile_id)
                return self._clear(now, times)
            return self._send("composite", self._speech.get_composite(place, self._limits.ahead_s, None), socket, place=place)
        limit = self._limits.limit(number)
        if not limit.known:
            times.append(self._limits.refresh_at)
            return self._report(socket, "not-sent", limit.why, now)
        least = self._charging.min_amps * (1.0 if self._station.current == "ac" else NOMINAL_V * socket.evse.phases)
        if limit.value is not None and 0 < limit.value < least:  # nobody could follow ours: it is left to the CPMS
            return self._report(socket, "not-sent", "cpms-lower", now)
        if self._clock.skew is None or self._clock.jumped:
            return self._no_clock(socket, now, times)
        running = self._open_on(number)
        if running is not None and not running.live:
            return []
        if schedule is not None and schedule.transaction is not None and (running is None or running.uid != schedule.transaction):
            return [] if running is None else self._report(socket, "not-sent", "other transaction", now)
        return None

    def _no_clock(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        if not self._clock.jumped and now.mono < self._opened.mono + CLOCK_PATIENCE_S:
            times.append(self._opened.mono + CLOCK_PATIENCE_S)
            return []
        why = "jumps by more than a minute" if self._clock.jumped else "is not known: it sends no times"
        alarm = Alarm("clock", f"the station's clock {why}, so no limit is sent: check its time source and the CPMS's currentTime")
        said = self._report(socket, "not-sent", "clock", now)
        return [*said, alarm] if said else []

    def _rung(self, socket: Socket) -> Rung | str | None:
        """The first of the allowed kinds that fits and was not refused; "wait": for a transaction that can be named; None: none is left."""
        number = socket.evse.number
        running = self._open_on(number)
        single = len(self._sockets) == 1 and self._places <= {number} and (self._abilities.connectors or 1) == 1
        named = running is not None and running.ocpp_id is not None and running.ocpp_id not in NO_TRANSACTION
        for rung in self._ladder.rungs(self._abilities.max_stack_level, lambda purpose: self._limits.used_level(purpose, number)):
            if rung.purpose == "tx" and running is None and not socket.charging:
                return "wait"
            if rung.purpose == "default" or (rung.purpose == "max" and single) or (rung.purpose == "tx" and named):
                return rung
        return None

    def _install(self, socket: Socket, rung: Rung, now: Instant, times: list[float]) -> list[Effect]:
        """Shape the profile; send it unless what stands says the same for long enough."""
        schedule, running, skew = socket.schedule, self._open_on(socket.evse.number), self._clock.skew
        assert schedule is not None
        assert skew is not None
        limit, unit, old = self._limits.limit(socket.evse.number), self._unit(), socket.lease
        shaped = plan(
            schedule, socket.evse, self._station, self._charging,
            ceiling=limit.value, unit=unit, now=now.wall, lease_until=now.wall + self._charging.lease_s,
            max_periods=self._abilities.max_periods or PERIODS,
        )  # fmt: skip
        id = self._id(rung.purpose, socket.evse.number)
        lease = Lease(
            id, socket.evse.number, rung.purpose, rung.level, shaped.tail_at, schedule.id, shaped.steps, shaped.tail,
            self._limits.most(socket.evse, limit), now.wall, unit,
            running.ocpp_id if running is not None and rung.purpose == "tx" else None, skew=skew,
        )  # fmt: skip
        if not self._due(socket, lease, shaped, limit, now, times):
            standing = old is not None and old.until > now.wall
            return self._report(socket, "accepted", "unchanged", now) if standing and old is not None and old.same(lease, now.wall) else []
        phases = socket.evse.phases if self._station.current == "ac" and unit == "A" else None
        profile = wrap(
            shaped, id=id, stack_level=rung.level, purpose=rung.purpose, unit=unit, phases=phases,
            transaction_id=lease.transaction_id, skew=skew, now=now.wall,
        )  # fmt: skip
        request = self._speech.set_profile(socket.evse.number, profile)
        # Recorded before it is sent, together with what it replaces: until the station answers either may stand.
        return [Remember(lease.or_(old).fact()), *self._send("set", request, socket, lease, changes=shaped.changes)]

    def _due(self, socket: Socket, new: Lease, shaped: Plan, limit: Limit, now: Instant, times: list[float]) -> bool:
        """Whether this must be sent now: nothing stands, or something else, or not for long enough any more."""
        old = socket.lease
        idle = limit.value is not None and limit.value == new.most and all(step.limit >= shaped.tail for step in shaped.steps)
        if old is not None and old.same(new, now.wall) and not old.above(limit):
            gains = new.until - old.until >= 1.0
            if old.until > now.wall and (not gains or idle or old.renew_at > now.wall):
                times.append(now.mono + max(1.0, (old.until if idle or not gains else old.renew_at) - now.wall))
                return False
            if idle:  # what stood is over, and the CPMS alone gives the same
                return False
        running = self._open_on(socket.evse.number)
        first = running is not None and socket.transaction != running.uid
        if socket.urgent or first or socket.not_before_mono <= now.mono:
            return True
        times.append(socket.not_before_mono)
        return False

    # ------------------------------------------------------------ how it went

    def _was_set(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        socket, lease = job.socket, job.lease
        assert socket is not None
        assert lease is not None
        old, verdict = socket.lease, self._speech.verdict(answer) if answer is not None else None
        if verdict is not None and verdict.status:
            if outcome == "answer" and verdict.accepted:
                return self._was_accepted(socket, lease, job.changes, now)
            kept = old.fact() if old is not None and old.profile_id == lease.profile_id else lease.gone()
            return [Remember(kept), *self._was_refused(socket, lease, verdict, now)]
        if outcome == "no-slot":  # it was never sent
            return [Remember(old.fact() if old is not None and old.profile_id == lease.profile_id else lease.gone())]
        # It may have taken it all the same: what may stand is remembered, and cleared or replaced later.
        if old is not None and old.profile_id != lease.profile_id:
            self._clears.add(old.profile_id)
        socket.lease = lease.or_(old)
        if outcome == "given-up":
            socket.failures, socket.not_before_mono = max(1, socket.failures), now.mono + SHORT_S
            return []
        if outcome == "closed":
            return []
        socket.failed(now.mono, "no-answer", outcome)
        return self._report(socket, "no-answer", outcome, now)

    def _was_accepted(self, socket: Socket, lease: Lease, changes: tuple[str, ...], now: Instant) -> list[Effect]:
        old, running = socket.lease, self._open_on(socket.evse.number)
        socket.accepted(lease, now.mono, self._charging.write_interval_s)
        socket.transaction = running.uid if running is not None else None
        if socket.schedule is not None and not self._guards.waits_on(lease.evse):
            self._clears.done(lease.profile_id)
        elif socket.schedule is None:  # it ended, or was taken back, while this was under way
            self._clears.add(lease.profile_id)
        if old is not None and old.profile_id != lease.profile_id:
            self._clears.add(old.profile_id)
        if self._version != "ocpp1.6":  # its rate limit is the station's, not a socket's
            for other in self._sockets.values():
                other.not_before_mono = max(other.not_before_mono, socket.not_before_mono)
        schedule = socket.schedule
        said = (
            self._report(socket, "accepted", ", ".join(changes), now) if schedule is not None and schedule.id == lease.schedule_id else []
        )
        assert socket.lease is not None
        return [Remember(socket.lease.fact()), *said]

    def _was_refused(self, socket: Socket, lease: Lease, verdict: Verdict, now: Instant) -> list[Effect]:
        """The next rung; after the last one the station is left alone for an hour, and somebody is told."""
        why = f"{verdict.status} {verdict.reason}".strip()
        if "RateLimit" in verdict.reason:
            said = re.search(r"\d{1,4}", verdict.reason)
            socket.failures, socket.not_before_mono = 1, now.mono + max(RATE_S, float(said.group()) if said else 0.0)
            return self._report(socket, "rejected", why, now)
        running = self._open_on(socket.evse.number)
        if lease.purpose == "tx" and (running is None or running.ocpp_id != lease.transaction_id):
            return []  # it ended meanwhile: no wonder
        effects: list[Effect] = [Remember(self._ladder.refuse(Rung(lease.purpose, lease.stack_level)))]
        if self._rung(socket) is None:
            socket.not_before_mono, socket.failures = now.mono + BACK_OFF_S, 1
            text = f"the station refuses every charging profile we may use ({why}): it is left alone for an hour"
            effects += [Remember(self._ladder.forgive()), Alarm("unmanaged", text)]
        return [*effects, *self._report(socket, "rejected", why, now)]

    def _was_cleared(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        """Accepted and Unknown both mean that it is not there any more."""
        verdict = self._speech.verdict(answer) if outcome == "answer" and answer is not None else None
        if verdict is None or verdict.status not in ("Accepted", "Unknown"):
            failures = self._clears.failed(job.place, now.mono, short=outcome in ("given-up", "no-slot"))
            text = (
                f"the station does not clear our profile {job.place}: its limit ends by itself, then the CPMS's holds; look at the station"
            )
            return [Alarm("release", text)] if failures == 3 else []
        self._clears.done(job.place)
        if job.socket is not None and job.socket.lease is not None and job.socket.lease.profile_id == job.place:
            job.socket.lease = None
        return [Remember(Fact("lease", str(job.place), None))]

    def _was_read(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        """What the station says is in force. An error is a refusal."""
        if outcome in ("answer", "error"):
            running = job.place > 0 and self._open_on(job.place) is not None
            told = self._speech.composite(job.place, answer or b"")
            return [Remember(fact) for fact in self._limits.answered(told, now.mono, running)]
        if job.socket is not None and outcome != "closed":
            job.socket.failed(now.mono, "no-answer", "GetCompositeSchedule")
            return self._report(job.socket, "no-answer", "GetCompositeSchedule", now)
        return []

    def _lapse(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        """The engine's wish is over: ours goes."""
        said = self._report(socket, "lapsed", "", now)
        socket.schedule = None
        return [*said, *self._withdraw(socket, now, times)]

    def _withdraw(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        if socket.lease is None:
            return []
        self._clears.add(socket.lease.profile_id, at_once=self._guards.waits_on(socket.evse.number))
        return self._clear(now, times) if self._may(now) and self._job is None else []

    # ------------------------------------------------------------ small things

    def _send(
        self, kind: str, request: Request, socket: Socket | None, lease: Lease | None = None, place: int = 0, changes: tuple[str, ...] = ()
    ) -> list[Effect]:
        self._job = Job(self._new_token(), kind, request, socket, lease, place, changes)
        return [Inject(self._job.token, *request)]

    def _report(self, socket: Socket, status: OutcomeStatus, detail: str, now: Instant) -> list[Effect]:
        """Once for each schedule, status and reason."""
        schedule = socket.schedule
        socket.status, socket.why = status, detail
        said = f"{status} {detail}" if status == "not-sent" else status
        if schedule is None or socket.reported == said or (detail == "unchanged" and socket.reported is not None):
            return []
        socket.reported = said
        return [Report(Outcome(schedule.id, schedule.asset, status, now.wall, detail))]

    def _standing(self) -> list[Lease]:
        return [socket.lease for socket in self._sockets.values() if socket.lease is not None]

    def _of(self, socket: Socket) -> Lease | None:
        """What stands there, or is on its way."""
        coming = self._job.lease if self._job is not None and self._job.socket is socket else None
        return socket.lease if coming is None else coming.or_(socket.lease)

    def _id(self, purpose: str, evse: int) -> int:
        """Stable, so that an update replaces; never one that the CPMS uses."""
        id = profile_id(purpose, evse, self._abilities.max_external_id)
        while id in self._taken:
            id += ID_BLOCK
        return id

    def _ids(self) -> set[int]:
        """All that are ours now, or may be next."""
        coming = {self._id(purpose, evse) for purpose in self._charging.purposes for evse in self._sockets}
        return coming | {lease.profile_id for lease in self._standing()}

    def _unit(self) -> str:
        wanted = "A" if self._station.current == "ac" else "W"
        units = self._abilities.units
        return wanted if not units or wanted in units else next(iter(units))
