"""What the station should be told, what it has accepted, and when to say it again.

In: the engine's schedules, observations of this station's traffic, answers to our own CALLs, the time. Out: one CALL of ours at a
time, outcomes for the engine, facts for a restart. Our limit is never above what the CPMS alone allows nor `max_amps`, stands on a
lease, and has its own end. In shadow everything is decided and nothing is sent.

Four storeys: `standing` knows, `deciding` decides, `judging` judges, and here is what comes in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from broker.judging import Judging
from broker.limits import UNANSWERED_S
from broker.model.basics import Instant
from broker.model.observations import (
    Boot,
    Capabilities,
    ClearSeen,
    LimitUnknown,
    Metered,
    Observation,
    ProfileReported,
    ProfileSeen,
    Proven,
    StatusSeen,
    TransactionSeen,
)
from broker.model.orders import Pass, Remember, Report
from broker.model.records import Fact, Outcome
from broker.model.schedules import Schedule
from broker.model.traffic import Exchange
from broker.ocpp.frames import payload_of
from broker.standing import Effect, Effects

CHARGES: Final = frozenset({"Charging", "SuspendedEV", "SuspendedEVSE"})


class Injector(Judging):
    """One station's."""

    __slots__ = ()

    # ------------------------------------------------------------ what comes in

    def observe(self, seen: Observation, now: Instant) -> Effects:
        """Something was learned of this station."""
        if isinstance(seen, Metered):
            return self._meter_spoke(seen, now)
        effects: list[Effect] = []
        if isinstance(seen, ProfileReported) and (seen.profile_id in self._ids() or seen.profile_id in self._clears):
            return ()  # ours, as the station has it
        self._clock.observe(seen, now)
        self._now = now
        self._limits.at(self._station_time(now))
        if isinstance(seen, Proven):
            self._proven = True
        elif isinstance(seen, Boot):
            effects += self._booted(seen, now)
        elif isinstance(seen, Capabilities):
            effects += self._able(seen)
        elif isinstance(seen, StatusSeen):
            effects += self._placed(seen.evse)
            if seen.evse in self._sockets:
                self._sockets[seen.evse].charging = seen.status in CHARGES
        elif isinstance(seen, TransactionSeen):
            seen, gone = self._transaction(seen)
            effects += [*gone, *self._metered(seen, now)]
        elif isinstance(seen, ClearSeen) and seen.accepted:
            effects += self._cleared(seen)
        elif isinstance(seen, ProfileSeen) and seen.accepted and seen.profile.id in self._ids():
            effects += self._named_like_ours(seen.profile.id)
        if isinstance(seen, (ProfileSeen, ClearSeen, LimitUnknown)):
            for socket in self._sockets.values():
                socket.held_mono = 0.0
        effects += map(Remember, self._limits.observe(seen, any(self._standing())))
        return (*effects, *self._move(now))

    def _meter_spoke(self, seen: Metered, now: Instant) -> Effects:
        """What is said most often changes least: the clock may be better known, and whether a limit is kept."""
        self._clock.observe(seen, now)
        placed = self._placed(seen.evse)
        return (*placed, *self._metered(seen, now), *self._move(now, stirred=bool(placed)))

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
        stood = job.socket.lease if job.socket is not None else None
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
        effects += self._pass(self._guards.settled(token, self._made_way(job, stood)), now)
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

    @property
    def make(self) -> dict[str, Any]:
        """What is known of stations of this make, and what it makes of our limits."""
        charging = self._charging
        return {"known": self._quirks.explain(), "lease_s": charging.lease_s, "write_interval_s": charging.write_interval_s}

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
        self._made({"vendor": boot.vendor, "model": boot.model, "firmware": boot.firmware})
        for lease in self._standing():
            self._clears.add(lease.profile_id)
        return [Remember(fact) for fact in self._limits.forget(now.mono)]

    def _transaction(self, seen: TransactionSeen) -> tuple[TransactionSeen, list[Effect]]:
        """Where it runs, if only its start said so. A TxProfile dies with its transaction."""
        effects = self._placed(seen.evse)
        if seen.phase != "ended":
            if seen.evse is not None and seen.transaction_id is not None:
                self._where = {id: evse for id, evse in self._where.items() if evse != seen.evse} | {seen.transaction_id: seen.evse}
            return seen, effects
        evse = seen.evse if seen.evse is not None else self._where.get(seen.transaction_id or "")
        self._where.pop(seen.transaction_id or "", None)
        for socket in self._sockets.values():
            lease = socket.lease
            if lease is not None and lease.purpose == "tx" and lease.transaction_id == seen.transaction_id:
                socket.lease = None
                effects.append(Remember(lease.gone()))
            if evse == socket.evse.number:
                socket.charging = False
        return replace(seen, evse=evse), effects

    def _metered(self, seen: Metered | TransactionSeen, now: Instant) -> list[Effect]:
        """What the meter says of the limits that were accepted. Where nobody charges nothing is watched."""
        evse = self._where.get(seen.transaction_id or "", seen.evse) if seen.evse is None else seen.evse
        socket = self._sockets.get(evse or 0)
        if socket is None or self._shadow or (socket.obedience.idle and isinstance(seen, Metered)):
            return []
        if isinstance(seen, TransactionSeen) and seen.phase != "updated":
            socket.obedience.forget()
            running = self._open_on(socket.evse.number)
            if seen.phase == "started" and running is not None and running.live:
                socket.watch(now)
            return []
        skew = self._clock.skew or 0.0
        return [said for reading in seen.readings for said in self._judged(socket, socket.obedience.metered(reading, skew, now), now)]

    def _cleared(self, seen: ClearSeen) -> list[Effect]:
        """The CPMS cleared what matches its criteria, ours among it; it is put there again if it is still wanted."""
        effects: list[Effect] = []
        for socket in self._sockets.values():
            lease = socket.lease
            if lease is not None and lease.matches(seen):
                socket.lease, socket.urgent = None, True
                self._clears.done(lease.profile_id)
                self._wellness.well("release", self._now.mono)
                effects.append(Remember(lease.gone()))
        return effects

    def _named_like_ours(self, id: int) -> list[Effect]:
        """A profile of the CPMS has an id that might be ours: whatever of ours had it is replaced, and we use another."""
        self._taken |= {id}
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
            self._limits.asked(said, now.mono)
        elif isinstance(said, LimitUnknown):
            clear = {number for number in ours if said.evse in (0, number)}
            for number, socket in self._sockets.items():  # what it allows is not known before its answer, nor after it
                if said.evse in (0, number):
                    socket.held_mono = now.mono + UNANSWERED_S
        elif isinstance(said, ProfileSeen):
            self._limits.asked(said, now.mono)
            full = not self._limits.room(len(ours), self._abilities.max_profiles)
            clear = {number for number, lease in ours.items() if full or (said.evse in (0, number) and lease.collides(said.profile))}
        else:
            return set()
        for number in clear:
            self._clears.add(ours[number].profile_id, at_once=True)
        self._now = now
        return clear | {number for number, lease in ours.items() if self._above(lease)}
