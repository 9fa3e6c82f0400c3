"""What one station needs next: a question, a profile, a clear, a word to the engine, or time.

    schedule ─▶ ask (capabilities, baseline) ─▶ shape ─▶ set on a rung ─▶ accepted ─▶ renew … ─▶ lapsed: cleared

What stands is withdrawn as soon as it is at odds with what the CPMS allows, whoever learned it and however.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from broker.leases import Lease
from broker.limits import NOMINAL_V, UNANSWERED_S
from broker.model.basics import Instant
from broker.model.orders import Alarm, Pass, Remember
from broker.profiles.decide import Limit, says_no_less
from broker.profiles.ladder import Rung
from broker.profiles.shape import AFTER_S, Plan, plan, wrap
from broker.sockets import Socket
from broker.standing import Effect, Effects
from broker.vouching import SILENT, Vouching

NO_TRANSACTION: Final = frozenset({"-1", "0", "9223372036854775807"})  # ids that stations make up when they have none
PERIODS: Final = 16  # of a station that does not say how many it takes: the fewest that any is known to take
CLOCK_PATIENCE_S: Final = 300.0
LOOK_AGAIN_S: Final = 60.0  # whether a profile of the CPMS is still in force


class Deciding(Vouching):
    """One station's next CALL of ours, if any."""

    __slots__ = ()

    def _move(self, now: Instant, stirred: bool = True) -> Effects:
        """Decide for each socket, and send what is most pressing if nothing of ours is under way.

        Not `stirred`: nothing came that could wake an injector at rest, so whether it rests is not asked again.
        """
        self._now = now
        self._limits.at(self._station_time(now))
        facts = self._limits.refresh(now.mono)
        effects: list[Effect] = [Remember(fact) for fact in facts] if facts else []
        times = [self._gate] if now.mono < self._gate else []
        self._rests = self._at_rest() if stirred or not self._rests else True
        if self._rests:
            self.wake_at = times[0] if times else None
            return tuple(effects)
        if self._job is None and self._may(now):
            effects += self._clear(now, times)
        for socket in sorted(self._sockets.values(), key=lambda one: not one.urgent):
            effects += self._kept(socket, now, times)
            effects += self._decide(socket, now, times)
        if self._job is None:  # nothing can be done for those that wait: they go
            effects += self._pass(self._guards.all(), now)
        self.wake_at = min(times, default=None)
        return tuple(effects)

    def _at_rest(self) -> bool:
        """Nothing of ours is wished for, stands or is under way anywhere: there is nothing to decide."""
        if self._shadow or self._job is not None or self._clears or self._guards:
            return False
        return all(one.schedule is None and one.lease is None and one.obedience.idle for one in self._sockets.values())

    def _kept(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        """Whether the station keeps to what it accepted, as far as time tells."""
        if socket.lease is None or not socket.lease.sure:
            socket.obedience.forget()
        effects = self._judged(socket, socket.obedience.tick(now), now)
        if socket.obedience.wake_at is not None:
            times.append(socket.obedience.wake_at)
        return effects

    def _pass(self, ready: Iterable[tuple[int, frozenset[int]]], now: Instant) -> list[Effect]:
        """These CALLs of the CPMS go. Until it is known what came of them nothing of ours takes the place of what made way."""
        effects: list[Effect] = []
        for token, concerned in ready:
            effects.append(Pass(token))
            for number in concerned:
                self._sockets[number].held_mono = now.mono + UNANSWERED_S
        return effects

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
        if lease is not None and self._charging.conflict == "cpms":
            times.append(now.mono + LOOK_AGAIN_S)
        odds = lease is not None and self._above(lease)
        socket.urgent = socket.urgent or odds
        effects = self._follow(socket, now, times) if schedule is not None else []
        over = lease is not None and schedule is None and lease.over(now.wall)
        return [*effects, *self._withdraw(socket, now, times)] if (odds or over) and self._job is None else effects

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

    # ------------------------------------------------------------ what stands in the way

    def _follow(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        """One step nearer to what the engine wants, while it is there to want it."""
        if self._forsaken(self._left_s(socket, now), now, times):
            return self._outlast(socket, now, times)
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
            whole = socket.lease is not None and socket.lease.purpose == "max" and not self._single(socket.evse.number)
            return self._withdraw(socket, now, times) if whole else []  # it would bind EVSEs that nobody asked about
        return self._install(socket, rung, now, times)

    def _outlast(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        """Nobody vouches for the schedule any more: what stands ends with its lease; the schedule is kept, it may be vouched for again."""
        lease = socket.lease
        if lease is not None and lease.until > now.wall:
            times.append(now.mono + lease.until - now.wall)
            return []
        if lease is None:
            return self._report(socket, "not-sent", SILENT, now) if socket.why != SILENT else []
        return [*self._report(socket, "lapsed", SILENT, now), *self._withdraw(socket, now, times)]

    def _obstacle(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect] | None:
        """What must be asked, waited for or said before a profile may be shaped; None if nothing stands in the way."""
        number, schedule = socket.evse.number, socket.schedule
        question = self._question(socket, now, times)
        if question is not None:
            return question
        if self._charging.conflict == "cpms" and self._limits.in_force(number):
            times.append(now.mono + LOOK_AGAIN_S)
            return self._report(socket, "not-sent", "cpms-in-force", now)
        ours = len({number, *(lease.evse for lease in self._standing())})
        if not self._limits.room(ours, self._abilities.max_profiles):
            return self._report(socket, "not-sent", "no-room: the CPMS needs all the profiles that the station holds", now)
        limit = self._limits.limit(number)
        if not limit.known:
            times.append(self._limits.refresh_at)
            return self._report(socket, "not-sent", limit.why, now)
        least = self._charging.min_amps * (1.0 if self._station.current == "ac" else NOMINAL_V * socket.evse.phases)
        if limit.value is not None and 0 < limit.value < least:  # nobody could follow ours: it is left to the CPMS
            change = limit.next_change(self._station_time(now))
            times += [] if change is None else [now.mono + max(1.0, change - self._station_time(now))]
            return self._report(socket, "not-sent", "cpms-lower", now)
        if self._clock.skew is None or self._clock.jumped:
            return self._no_clock(socket, now, times)
        running = self._open_on(number)
        if running is not None and not running.live:
            return []
        if schedule is not None and schedule.transaction is not None and (running is None or running.uid != schedule.transaction):
            return [] if running is None else self._report(socket, "not-sent", "other transaction", now)
        return None

    def _question(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect] | None:
        """What the station must say first: what it can do, and what the CPMS allows there; None if all is said."""
        if not self._asked_abilities and self._abilities.max_stack_level is None:
            self._asked_abilities = True
            return self._send("capabilities", self._speech.ask_capabilities(), socket)
        if self._abilities.smart_charging is False:
            return self._report(socket, "not-sent", "unmanaged: the station has no smart charging", now)
        for place in self._limits.to_ask(socket.evse.number):
            in_the_way = [lease for lease in self._standing() if place in (0, lease.evse)]
            if in_the_way:  # what the station reads out would contain it
                for lease in in_the_way:
                    self._clears.add(lease.profile_id)
                return self._clear(now, times)
            return self._send("composite", self._speech.get_composite(place, self._limits.ahead_s, None), socket, place=place)
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
        single = self._single(number)
        named = running is not None and running.ocpp_id is not None and running.ocpp_id not in NO_TRANSACTION
        for rung in self._ladder.rungs(self._abilities.max_stack_level, lambda purpose: self._used_level(purpose, number)):
            if rung.purpose == "tx" and running is None and not socket.charging:
                return "wait"
            if rung.purpose == "default" or (rung.purpose == "max" and single) or (rung.purpose == "tx" and named):
                return rung
        return None

    def _single(self, number: int) -> bool:
        """This is the station's one EVSE, as far as anybody has seen."""
        return len(self._sockets) == 1 and self._places in ((), (number,)) and (self._abilities.connectors or 1) == 1

    def _used_level(self, purpose: str, number: int) -> int | None:
        """The highest stack level there that ours must stay above."""
        return self._limits.used_level(purpose, number)

    # ------------------------------------------------------------ the profile

    def _install(self, socket: Socket, rung: Rung, now: Instant, times: list[float]) -> list[Effect]:
        """Shape the profile; send it unless what stands says the same for long enough."""
        schedule, running, skew = socket.schedule, self._open_on(socket.evse.number), self._clock.skew
        assert schedule is not None
        assert skew is not None
        limit, unit, old = self._limits.limit(socket.evse.number, rung.purpose), self._unit(), socket.lease
        evse = socket.evse if limit.phases is None else replace(socket.evse, phases=min(socket.evse.phases, limit.phases))
        shaped = plan(
            schedule, evse, self._station, self._charging,
            ceiling=limit.steps(skew), unit=unit, now=now.wall, lease_until=now.wall + self._left_s(socket, now),
            max_periods=self._abilities.max_periods or PERIODS,
        )  # fmt: skip
        id = self._id(rung.purpose, socket.evse.number)
        lease = Lease(
            id, socket.evse.number, rung.purpose, rung.level, shaped.tail_at, schedule.id, shaped.steps, shaped.tail,
            shaped.most, now.wall, unit,
            running.ocpp_id if running is not None and rung.purpose == "tx" else None, skew=skew, why=self._reasons(socket, shaped, now),
        )  # fmt: skip
        if not self._due(socket, lease, shaped, limit, now, times):
            standing = old is not None and old.until > now.wall
            return self._report(socket, "accepted", "unchanged", now) if standing and old is not None and old.same(lease, now.wall) else []
        phases = evse.phases if self._station.current == "ac" and unit == "A" else None
        profile = wrap(
            shaped, id=id, stack_level=rung.level, purpose=rung.purpose, unit=unit, phases=phases,
            transaction_id=lease.transaction_id, skew=skew, now=now.wall,
        )  # fmt: skip
        request = self._speech.set_profile(socket.evse.number, profile)
        # Recorded before it is sent, together with what it replaces: until the station answers either may stand.
        return [Remember(lease.or_(old).fact()), *self._send("set", request, socket, lease, changes=shaped.changes)]

    def _reasons(self, socket: Socket, shaped: Plan, now: Instant) -> tuple[str, ...]:
        """Why what is sent is not what was asked."""
        return shaped.changes

    def _due(self, socket: Socket, new: Lease, shaped: Plan, limit: Limit, now: Instant, times: list[float]) -> bool:
        """Whether this must be sent now: nothing stands, or something else, or not for long enough any more."""
        old = socket.lease
        idle = says_no_less(new.in_station_time(), limit, self._station_time(now), new.until + new.skew)
        if old is not None and old.same(new, now.wall) and not self._above(old):
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
