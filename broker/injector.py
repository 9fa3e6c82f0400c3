"""What the station should be told, what it has accepted, and when to say it again.

In: the engine's schedules, observations of this station's traffic, answers to our own CALLs, the time. Out: one CALL of ours at a
time, outcomes for the engine, facts for a restart. Our limit is never above what the CPMS alone allows nor `max_amps`, stands on a
lease, and has its own end. In shadow everything is decided and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any, Final, NamedTuple

from broker.leases import BACK_OFF_S, Lease, Socket, lease_of
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
    TransactionSeen,
)
from broker.ocpp.dialect import Dialect, Request
from broker.ocpp.frames import payload_of
from broker.profiles.ceiling import Ceiling
from broker.profiles.shape import Plan, plan, wrap
from broker.settings import ChargingSettings, StationSettings
from broker.stationclock import StationClock

SETTLE_S: Final = 10.0  # after the link opened: stations that are asked at once reconnect
IDS: Final = 9_120_000  # our block of profile ids: + 10 × EVSE + the purpose's place
PLACES: Final = {"max": 1, "tx": 2, "default": 3}
NO_TRANSACTION: Final = frozenset({"-1", "0", "9223372036854775807"})  # ids that stations make up when they have none
PERIODS: Final = 20  # of a station that does not say how many it takes: the fewest seen is 16, less our tail's margin
DAY_S: Final = 86400
CLOCK_PATIENCE_S: Final = 300.0

Effect = Inject | Report | Remember | Pass | Alarm
Effects = tuple[Effect, ...]


class Job(NamedTuple):
    """The one CALL of ours that is under way."""

    kind: str
    """set | clear | composite | capabilities"""
    socket: Socket | None
    request: Request
    lease: Lease | None = None
    evse: int = 0
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
        self._station, self._charging, self._speech = station, charging, dialect.charging
        self._old = dialect.name == "ocpp1.6"
        self._opened, self._flapping, self._shadow = opened, flapping, shadow
        self._new_token, self._open_on = new_token, open_transaction
        self._ceiling = Ceiling(station, charging.baseline, known)
        self._clock = StationClock()
        self._sockets = {evse.number: Socket(evse) for evse in station.evses}
        self._abilities = Capabilities()
        self._refused: set[str] = set()
        self._recall(known)
        self._asked_abilities = self._abilities.max_stack_level is not None
        self._proven = False
        self._now = opened
        self._jobs: dict[int, Job] = {}
        self._to_clear: list[int] = []
        self._guards: dict[int, Socket | None] = {}
        self.wake_at: float | None = None

    def _recall(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            lease = lease_of(fact)
            if lease is not None and lease.evse in self._sockets:
                self._sockets[lease.evse].lease = lease
            elif fact.topic == "quirk" and fact.name == "refused" and isinstance(fact.value, list):
                self._refused |= {str(rung) for rung in fact.value}
            elif fact.topic == "capability" and isinstance(fact.value, dict):
                self._abilities = _abilities(fact.value)

    # ------------------------------------------------------------ what comes in

    def observe(self, seen: Observation, now: Instant) -> Effects:
        """Something was learned of this station."""
        effects: list[Effect] = []
        self._clock.observe(seen, now)
        if isinstance(seen, Proven):
            self._proven = True
        elif isinstance(seen, Boot):
            effects += self._booted(seen)
        elif isinstance(seen, Capabilities):
            effects += self._able(seen)
        elif isinstance(seen, TransactionSeen) and seen.phase == "ended":
            effects += self._ended(seen)
        elif isinstance(seen, ClearSeen) and seen.accepted:
            effects += self._cleared(seen)
        ours = {lease.profile_id for lease in self._leases()}
        effects += [Remember(fact) for fact in self._ceiling.observe(seen, ours, bool(ours))]
        return (*effects, *self._move(now))

    def wish(self, schedule: Schedule, now: Instant) -> Effects:
        """The engine's newest schedule for one of this station's assets."""
        effects: list[Effect] = []
        for socket in self._sockets.values():
            if socket.evse.asset == schedule.asset and (socket.schedule is None or socket.schedule.id != schedule.id):
                old = socket.schedule
                if old is not None and socket.sent_for != old.id and socket.reported is None:
                    effects.append(Report(Outcome(old.id, old.asset, "superseded", now.wall)))
                socket.wish(schedule)
                socket.reported = None
        return (*effects, *self._move(now))

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> Effects:
        """A CALL of ours is settled: answer, error, timeout, given-up, closed or no-slot."""
        job = self._jobs.pop(token, None)
        if job is None:
            return ()
        effects: list[Effect] = []
        if job.kind == "set":
            effects += self._was_set(job, outcome, answer, now)
        elif job.kind == "clear":
            effects += self._was_cleared(job, outcome, answer, now)
        elif job.kind == "composite":
            seen = self._speech.composite(job.evse, answer) if outcome == "answer" and answer is not None else None
            if seen is not None or outcome == "error":
                told = seen or self._speech.composite(job.evse, answer or b"")
                effects += [Remember(fact) for fact in self._ceiling.answered(told)]
            elif job.socket is not None:
                job.socket.failed(now.mono, "no-answer", "GetCompositeSchedule was not answered")
        elif outcome == "answer" and answer is not None:
            effects += self._able(self._speech.capabilities(answer))
        return (*effects, *self._release_guards(job), *self._move(now))

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> Effects:
        """Law 8: a CPMS CALL about profiles waits. If it lowers what is allowed below ours, ours is lowered or cleared first."""
        concerned = None if self._shadow or not self._proven else self._concerned(exchange)
        if concerned is None:
            return (Pass(token),)
        socket, lease, limit = concerned
        self._guards[token] = socket
        socket.urgent = True
        if limit is None or limit < self._least(socket):
            self._to_clear.append(lease.profile_id)
        return self._move(now)

    def release(self, now: Instant) -> Effects:
        """Clear everything of ours, by id."""
        for socket in self._sockets.values():
            socket.schedule = None
            if socket.lease is not None:
                self._to_clear.append(socket.lease.profile_id)
        return self._move(now)

    def tick(self, now: Instant) -> Effects:
        """Time passed."""
        return self._move(now)

    def explain(self) -> dict[str, Any]:
        """Per EVSE what was asked, what is allowed, what was sent and why not more."""
        now = self._now.wall
        return {str(number): socket.explain(now, self._ceiling.explain(number)) for number, socket in self._sockets.items()}

    # ------------------------------------------------------------ what observations change

    def _booted(self, boot: Boot) -> list[Effect]:
        """After a boot nothing is taken for granted: ours is cleared, capabilities and baseline are asked again."""
        self._proven = self._proven or boot.status == "Accepted"
        if boot.status != "Accepted":
            return []
        self._asked_abilities = self._abilities.max_stack_level is not None
        self._to_clear += [lease.profile_id for lease in self._leases()]
        return [Remember(fact) for fact in self._ceiling.forget_baseline()]

    def _able(self, said: Capabilities) -> list[Effect]:
        new = replace(self._abilities, **{name: value for name, value in _told(said).items() if value is not None})
        if new == self._abilities:
            return []
        self._abilities = new
        told = {name: sorted(value) if isinstance(value, frozenset) else value for name, value in _told(new).items()}
        return [Remember(Fact("capability", "capability", told))]

    def _ended(self, seen: TransactionSeen) -> list[Effect]:
        """A TxProfile dies with its transaction."""
        effects: list[Effect] = []
        for socket in self._sockets.values():
            lease = socket.lease
            if lease is not None and lease.purpose == "tx" and lease.transaction_id == seen.transaction_id:
                socket.lease = None
                effects.append(Remember(lease.gone()))
        return effects

    def _cleared(self, seen: ClearSeen) -> list[Effect]:
        """The CPMS cleared what matches its criteria, ours among it; it is put there again if it is still wanted."""
        effects: list[Effect] = []
        for socket in self._sockets.values():
            lease = socket.lease
            if lease is not None and _matches(seen, lease):
                socket.lease, socket.urgent = None, True
                effects.append(Remember(lease.gone()))
        return effects

    def _concerned(self, exchange: Exchange) -> tuple[Socket, Lease, float | None] | None:
        """The socket whose profile of ours this CPMS CALL is at odds with, and what it would be allowed then (None: unknown, clear)."""
        try:
            seen = self._speech.observe(exchange, payload_of(exchange.call), None)
        except (ValueError, TypeError, AttributeError):
            return None
        for said in seen:
            if not isinstance(said, ProfileSeen | LimitUnknown):
                continue
            for socket in self._sockets.values():
                lease = socket.lease or next((job.lease for job in self._jobs.values() if job.socket is socket and job.lease), None)
                if lease is None or said.evse not in (0, socket.evse.number):
                    continue
                before = {one.profile_id for one in self._leases()}
                self._ceiling.observe(said, before, True)  # as if it were accepted already; the answer's observation makes it lasting
                limit = self._ceiling.limit(socket.evse.number)
                if not limit.known or limit.value is None or _collides(said, lease, self._old):
                    return socket, lease, None
                if limit.value < lease.highest:
                    return socket, lease, limit.value
        return None

    # ------------------------------------------------------------ what is to be done next

    def _move(self, now: Instant) -> Effects:
        """Decide for each socket, and send what is most pressing if nothing of ours is under way."""
        self._now = now
        effects: list[Effect] = []
        times = [self._opened.mono + SETTLE_S] if now.mono < self._opened.mono + SETTLE_S else []
        may = self._may(now)
        if may and self._to_clear and not self._jobs:
            effects += self._clear(now)
        for socket in sorted(self._sockets.values(), key=lambda one: not one.urgent):
            effects += self._decide(socket, now, may, times)
        if self._guards and not self._jobs:  # nothing can be done for those that wait: they go
            effects += self._let_go()
        self.wake_at = min(times, default=None)
        return tuple(effects)

    def _may(self, now: Instant) -> bool:
        """Whether a CALL of ours may be sent at all."""
        return self._proven and not self._shadow and not self._flapping and now.mono >= self._opened.mono + SETTLE_S

    def _clear(self, now: Instant) -> list[Effect]:
        id = self._to_clear.pop(0)
        socket = next((one for one in self._sockets.values() if one.lease is not None and one.lease.profile_id == id), None)
        return self._send(Job("clear", socket, self._speech.clear_profile(id), socket.lease if socket else None, id))

    def _decide(self, socket: Socket, now: Instant, may: bool, times: list[float]) -> list[Effect]:
        schedule, lease = socket.schedule, socket.lease
        if schedule is None:
            return []
        if self._shadow:
            return self._report(socket, "not-sent", "shadow", now)
        if schedule.valid_until <= now.wall:
            return self._lapse(socket, now)
        times.append(now.mono + schedule.valid_until - now.wall)
        if not may or self._jobs:
            return []
        obstacle = self._obstacle(socket, now, times)
        if obstacle is not None:
            return obstacle
        rung = self._rung(socket, now)
        if rung is None:
            return []
        purpose, level = rung
        if lease is None and not socket.urgent and socket.not_before_mono > now.mono and not self._first(socket):
            times.append(socket.not_before_mono)
            return []
        return self._install(socket, purpose, level, now, times)

    def _obstacle(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect] | None:
        """What must be asked, waited for or said before a profile may be shaped; None if nothing stands in the way."""
        number = socket.evse.number
        schedule = socket.schedule
        assert schedule is not None
        if socket.failures and socket.not_before_mono > now.mono:
            times.append(socket.not_before_mono)
            return []
        if not self._asked_abilities:
            self._asked_abilities = True
            return self._send(Job("capabilities", socket, self._speech.ask_capabilities()))
        if self._abilities.smart_charging is False:
            return self._report(socket, "not-sent", "unmanaged: the station has no smart charging", now)
        ask = self._ceiling.to_ask(number)
        if ask:
            return self._send(Job("composite", socket, self._speech.get_composite(ask[0], DAY_S, None), evse=ask[0]))
        limit = self._ceiling.limit(number)
        if not limit.known:
            return [*self._withdraw(socket, now), *self._report(socket, "not-sent", limit.why or "cpms-limits-unknown", now)]
        if limit.value is not None and 0 < limit.value < self._least(socket):
            return [*self._withdraw(socket, now), *self._report(socket, "not-sent", "cpms-lower", now)]
        if self._clock.skew is None or self._clock.jumped:
            return self._no_clock(socket, now, times)
        running = self._open_on(number)
        if running is not None and not running.live:
            return []
        if schedule.transaction is not None and (running is None or running.uid != schedule.transaction):
            return [] if running is None else self._report(socket, "not-sent", "another transaction runs there", now)
        return None

    def _no_clock(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        if not self._clock.jumped and now.mono < self._opened.mono + CLOCK_PATIENCE_S:
            times.append(self._opened.mono + CLOCK_PATIENCE_S)
            return []
        why = "jumps by more than a minute" if self._clock.jumped else "is not known: it sends no times"
        alarm = Alarm("clock", f"the station's clock {why}, so no limit is sent: check its time source and the CPMS's currentTime")
        said = self._report(socket, "not-sent", "clock", now)
        return [*said, alarm] if said else []

    def _rung(self, socket: Socket, now: Instant) -> tuple[str, int] | None:
        """The first of the allowed purposes that fits and was not refused, with its stack level."""
        top = self._abilities.max_stack_level
        levels = (top, 0) if top else (0,)
        running = self._open_on(socket.evse.number)
        fits = {
            "max": len(self._sockets) == 1,
            "tx": running is not None and running.ocpp_id is not None and running.ocpp_id not in NO_TRANSACTION,
            "default": True,
        }
        for purpose in self._charging.purposes:
            for level in levels:
                if fits[purpose] and f"{purpose}:{level}" not in self._refused:
                    return purpose, level
        return None

    def _first(self, socket: Socket) -> bool:
        """This would be the running transaction's first limit."""
        running = self._open_on(socket.evse.number)
        return running is not None and socket.transaction != running.uid

    def _install(self, socket: Socket, purpose: str, level: int, now: Instant, times: list[float]) -> list[Effect]:
        """Shape the profile; send it unless what stands says the same for long enough."""
        schedule, running = socket.schedule, self._open_on(socket.evse.number)
        assert schedule is not None
        assert self._clock.skew is not None
        ceiling = self._ceiling.limit(socket.evse.number).value
        unit = self._unit()
        shaped = plan(
            schedule, socket.evse, self._station, self._charging,
            ceiling=ceiling, unit=unit, now=now.wall, lease_until=now.wall + self._charging.lease_s,
            max_periods=max(2, self._abilities.max_periods or PERIODS),
        )  # fmt: skip
        transaction = running.ocpp_id if running is not None and purpose == "tx" else None
        if not self._due(socket, shaped, purpose, transaction, ceiling, now, times):
            return []
        id = self._id(socket, purpose)
        phases = socket.evse.phases if self._station.current == "ac" and unit == "A" else None
        profile = wrap(
            shaped, id=id, stack_level=level, purpose=purpose, unit=unit, phases=phases,
            transaction_id=transaction, skew=self._clock.skew, now=now.wall,
        )  # fmt: skip
        tail = shaped.tail
        lease = Lease(id, socket.evse.number, purpose, level, shaped.tail_at, schedule.id, shaped.steps, tail, transaction)
        job = Job("set", socket, self._speech.set_profile(socket.evse.number, profile), lease, changes=shaped.changes)
        return [Remember(lease.fact()), *self._send(job)]

    def _due(
        self, socket: Socket, shaped: Plan, purpose: str, transaction: str | None, ceiling: float | None, now: Instant, times: list[float]
    ) -> bool:
        """Whether this must be sent now: nothing stands, or something else, or not for long enough any more."""
        lease = socket.lease
        if lease is None:
            return True
        if (lease.purpose, lease.transaction_id) != (purpose, transaction):
            return True
        # The CPMS alone gives the same: a lease that says no more is not renewed.
        idle = ceiling is not None and all(step.limit >= ceiling for step in shaped.steps)
        if lease.until <= now.wall:
            return not idle
        if not lease.follows(shaped, now.wall):
            if socket.urgent or self._first(socket) or socket.not_before_mono <= now.mono:
                return True
            times.append(socket.not_before_mono)
            return False
        window = shaped.until - 60.0 if shaped.until < lease.until else lease.until
        renew = min(lease.until - self._charging.lease_s / 3, max(window, now.wall))
        if renew > now.wall or idle:
            times.append(now.mono + max(1.0, (lease.until if idle else renew) - now.wall))
            return False
        return True

    # ------------------------------------------------------------ how it went

    def _was_set(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        socket, lease = job.socket, job.lease
        assert socket is not None
        assert lease is not None
        verdict = self._speech.verdict(answer) if answer is not None else None
        running = self._open_on(socket.evse.number)
        if verdict is not None and outcome == "answer" and verdict.accepted:
            old = socket.lease
            socket.accepted(lease, now.mono, self._charging.write_interval_s)
            socket.transaction = running.uid if running is not None else None
            if old is not None and old.profile_id != lease.profile_id:
                self._to_clear.append(old.profile_id)
            return self._report(socket, "accepted", ", ".join(job.changes), now)
        forget = [] if socket.lease is not None and socket.lease.profile_id == lease.profile_id else [Remember(lease.gone())]
        if verdict is None:
            # It may have taken it all the same: what may stand is remembered, and cleared or replaced later.
            if outcome in ("timeout", "given-up", "closed"):
                socket.lease, forget = lease, []
            if outcome in ("timeout", "given-up"):
                socket.failed(now.mono, "no-answer", outcome)
                return self._report(socket, "no-answer", outcome, now)
            return [*forget]
        return [*forget, *self._was_refused(socket, lease, f"{verdict.status} {verdict.reason}".strip(), now)]

    def _was_refused(self, socket: Socket, lease: Lease, why: str, now: Instant) -> list[Effect]:
        """The next rung; after the last one the station is left alone for an hour, and somebody is told."""
        self._refused.add(f"{lease.purpose}:{lease.stack_level}")
        effects: list[Effect] = [Remember(Fact("quirk", "refused", sorted(self._refused)))]
        if self._rung(socket, now) is None:
            self._refused.clear()
            socket.not_before_mono, socket.failures, socket.urgent = now.mono + BACK_OFF_S, 1, False
            text = f"the station refuses every charging profile we may use ({why}): it is left alone for an hour"
            effects += [Remember(Fact("quirk", "refused", None)), Alarm("unmanaged", text)]
        return [*effects, *self._report(socket, "rejected", why, now)]

    def _was_cleared(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        """Accepted and Unknown both mean that it is not there any more."""
        verdict = self._speech.verdict(answer) if outcome == "answer" and answer is not None else None
        if verdict is None or verdict.status not in ("Accepted", "Unknown"):
            if job.socket is not None and outcome not in ("closed", "no-slot"):
                job.socket.failed(now.mono, "no-answer", "ClearChargingProfile was not accepted")
            return []
        gone: list[Effect] = [Remember(Fact("lease", str(job.evse), None))]
        if job.socket is not None and job.socket.lease is not None and job.socket.lease.profile_id == job.evse:
            job.socket.lease = None
        return gone

    def _lapse(self, socket: Socket, now: Instant) -> list[Effect]:
        """The engine's wish is over: ours goes."""
        withdrawn = self._withdraw(socket, now)
        said = self._report(socket, "lapsed", "", now)
        socket.schedule = None
        socket.status = "lapsed"
        return [*said, *withdrawn]

    def _withdraw(self, socket: Socket, now: Instant) -> list[Effect]:
        if socket.lease is None:
            return []
        if socket.lease.profile_id not in self._to_clear:
            self._to_clear.append(socket.lease.profile_id)
        return self._clear(now) if self._may(now) and not self._jobs else []

    # ------------------------------------------------------------ small things

    def _send(self, job: Job) -> list[Effect]:
        token = self._new_token()
        self._jobs[token] = job
        action, payload = job.request
        return [Inject(token, action, payload)]

    def _report(self, socket: Socket, status: OutcomeStatus, detail: str, now: Instant) -> list[Effect]:
        """Once for each schedule, status and reason."""
        schedule = socket.schedule
        socket.status, socket.why = status, detail
        if schedule is None or socket.reported == (schedule.id, status, detail):
            return []
        socket.reported = (schedule.id, status, detail)
        return [Report(Outcome(schedule.id, schedule.asset, status, now.wall, detail))]

    def _release_guards(self, job: Job) -> list[Effect]:
        """A CPMS CALL that waited for this one may go."""
        ready = [token for token, socket in self._guards.items() if socket is job.socket and job.kind in ("set", "clear")]
        for token in ready:
            del self._guards[token]
        return [Pass(token) for token in ready]

    def _let_go(self) -> list[Effect]:
        tokens, self._guards = list(self._guards), {}
        return [Pass(token) for token in tokens]

    def _leases(self) -> list[Lease]:
        return [socket.lease for socket in self._sockets.values() if socket.lease is not None]

    def _least(self, socket: Socket) -> float:
        """The least that is not a pause, in the station's unit."""
        return self._charging.min_amps * (1.0 if self._station.current == "ac" else 230.0 * socket.evse.phases)

    def _unit(self) -> str:
        wanted = "A" if self._station.current == "ac" else "W"
        units = self._abilities.units
        return wanted if not units or wanted in units else next(iter(units))

    def _id(self, socket: Socket, purpose: str) -> int:
        """Stable, so that an update replaces; above the ids that a station keeps for external constraints."""
        return max(IDS, (self._abilities.max_external_id or 0) + 1) + 10 * socket.evse.number + PLACES[purpose]


def _told(said: Capabilities) -> dict[str, Any]:
    return asdict(said)


def _abilities(value: dict[str, Any]) -> Capabilities:
    known = {name: value[name] for name in asdict(Capabilities()) if name in value}
    if isinstance(known.get("units"), list):
        known["units"] = frozenset(str(unit) for unit in known["units"])
    return Capabilities(**known)


def _matches(seen: ClearSeen, lease: Lease) -> bool:
    """A clear's criteria are a logical AND; none at all means everything."""
    place = 0 if lease.purpose == "max" else lease.evse
    return all(
        wanted is None or wanted == ours
        for wanted, ours in (
            (seen.profile_id, lease.profile_id),
            (seen.evse, place),
            (seen.purpose, lease.purpose),
            (seen.stack_level, lease.stack_level),
        )
    )


def _collides(said: Observation, lease: Lease, old: bool) -> bool:
    """The CPMS's profile has our id; or our purpose and stack level, which 2.x stations refuse as a duplicate, and 1.6 ones replace."""
    if not isinstance(said, ProfileSeen):
        return False
    same_level = (said.profile.purpose, said.profile.stack_level) == (lease.purpose, lease.stack_level)
    return said.profile.id == lease.profile_id or (same_level and not old)
