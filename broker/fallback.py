"""The operator's `fallback_amps`: a TxDefaultProfile of ours at stack level 0 that has no end, for a fuse that needs one.

Opt-in, and the only limit of ours that outlives us: what protects an installation must not expire. It stands beneath every other
profile, so while one of the CPMS or a lease of ours speaks it is not heard. It is put only where the CPMS has no TxDefaultProfile of
its own and a reading (`baseline = "ask"`) shows no limit at all, for at level 0 it could replace one that nobody saw; and it makes way
before the CPMS sets one. Gone with `release`, and when the key is taken out of the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from broker.clears import BACK_OFF_S, SHORT_S
from broker.injector import Injector
from broker.leases import Lease, lease_of
from broker.limits import NOMINAL_V, UNANSWERED_S
from broker.model.basics import Instant
from broker.model.observations import Boot, ClearSeen, Observation, ProfileSeen
from broker.model.orders import Alarm, Remember
from broker.model.records import Fact
from broker.model.schedules import ChargingProfile, Period, Step
from broker.sockets import Socket
from broker.standing import Effect, Effects, Job

NAME: Final = "fallback"
FOREVER: Final = 32_503_680_000.0  # the year 3000, in seconds since 1970: an end that nobody waits for
BEFORE_S: Final = 60.0


class Backed(Injector):
    """One station's."""

    __slots__ = ("_fallbacks", "_not_before", "_released")

    _released: float | None
    """Since when an operator wants nothing of ours there."""

    def _recall(self, facts: Iterable[Fact]) -> None:
        """What stands without an end is kept apart from the leases; without the key in the configuration it goes."""
        self._fallbacks: dict[int, Lease] = {}
        self._not_before: dict[int, float] = {}
        known = tuple(facts)
        kept = [lease for fact in known if (lease := lease_of(fact)) is not None and lease.schedule_id == NAME]
        for lease in kept:
            if lease.evse in self._sockets and self._charging.fallback_amps is not None:
                self._fallbacks[lease.evse] = lease
            else:
                self._clears.add(lease.profile_id)
        ids = {str(lease.profile_id) for lease in kept}
        super()._recall(fact for fact in known if fact.topic != "lease" or fact.name not in ids)

    def _standing(self) -> list[Lease]:
        return [*super()._standing(), *self._fallbacks.values()]

    def _ids(self) -> set[int]:
        return super()._ids() | {self._id(NAME, evse) for evse in self._sockets}

    def _used_level(self, purpose: str, number: int) -> int | None:
        used = super()._used_level(purpose, number)
        return 0 if used is None and purpose == "default" and number in self._fallbacks else used

    # ------------------------------------------------------------ when it is put there

    def _at_rest(self) -> bool:
        return self._charging.fallback_amps is None and not self._fallbacks and super()._at_rest()

    def _decide(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        """The engine's wish first; a fallback when there is time for it."""
        effects = super()._decide(socket, now, times)
        if self._charging.fallback_amps is None or self._shadow or self._job is not None or not self._may(now):
            return effects
        return [*effects, *self._back(socket, now, times)]

    def _back(self, socket: Socket, now: Instant, times: list[float]) -> list[Effect]:
        number = socket.evse.number
        wanted, have = self._fallback(socket, now), self._fallbacks.get(number)
        if self._limits.used_level("default", number) is not None:  # the CPMS's own is in its place
            if have is None:
                return []
            self._clears.add(have.profile_id)
            return self._clear(now, times)
        if self._released is not None or (have is not None and have.sure and have.steps[-1].limit == wanted.steps[-1].limit):
            return []
        waits = max(self._not_before.get(number, 0.0), socket.held_mono)
        if waits > now.mono:
            times.append(waits)
            return []
        unasked = not self._asked_abilities and self._abilities.max_stack_level is None
        obstacle = self._obstacle(socket, now, times) if unasked or self._limits.to_ask(number) else None
        if obstacle is not None:
            return obstacle
        room = self._limits.room(len(self._standing()) + (have is None), self._abilities.max_profiles)
        lease = socket.lease
        taken = lease is not None and (lease.purpose, lease.stack_level) == ("default", 0)
        if taken or self._abilities.smart_charging is False or not room or not self._limits.bare(number) or self._clock.skew is None:
            return []
        return self._put(wanted, now)

    def _fallback(self, socket: Socket, now: Instant) -> Lease:
        """What should stand there. A per phase for ac, W for dc."""
        number, evse = socket.evse.number, socket.evse
        amps = min(self._charging.fallback_amps or 0.0, evse.max_amps if evse.max_amps is not None else float("inf"))
        ac, unit = self._station.current == "ac", self._unit()
        limit = amps if unit == "A" else float(int(amps * NOMINAL_V * evse.phases))
        steps = (Step(now.wall, limit),)
        own = amps if ac else amps * NOMINAL_V * evse.phases
        id, skew = self._id(NAME, number), self._clock.skew or 0.0
        return Lease(id, number, "default", 0, FOREVER, NAME, steps, limit, (Step(now.wall, own),), now.wall, unit, skew=skew)

    def _put(self, wanted: Lease, now: Instant) -> list[Effect]:
        """Recorded before it is sent: from then on it may stand."""
        evse = self._sockets[wanted.evse].evse
        phases = evse.phases if wanted.unit == "A" and self._station.current == "ac" else None
        profile = ChargingProfile(
            wanted.profile_id, 0, "default", "Absolute", "A" if wanted.unit == "A" else "W",
            (Period(0, wanted.steps[0].limit, phases),), float(int(now.wall + wanted.skew - BEFORE_S)),
        )  # fmt: skip
        self._fallbacks[wanted.evse] = wanted
        request = self._speech.set_profile(wanted.evse, profile)
        return [Remember(wanted.fact()), *self._send(NAME, request, None, place=wanted.evse)]

    # ------------------------------------------------------------ what became of it

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> Effects:
        job = self._job
        if job is None or job.token != token or job.kind != NAME:
            return super().answered(token, outcome, answer, now)
        self._job, self._over = None, self._over or outcome == "closed"
        effects = self._was_put(job, outcome, answer, now)
        return (*effects, *self._pass(self._guards.settled(token, job.place), now), *self._move(now))

    def _was_put(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        number = job.place
        have, verdict = self._fallbacks.get(number), self._speech.verdict(answer) if answer is not None else None
        if have is None:
            return []
        if outcome == "answer" and verdict is not None and verdict.accepted:
            self._fallbacks[number] = replace(have, sure=True)
            self._wellness.well(NAME, now.mono, number)
            return [Remember(self._fallbacks[number].fact())]
        self._not_before[number] = now.mono + (SHORT_S if outcome in ("given-up", "no-slot") else BACK_OFF_S)
        if outcome == "no-slot" or (verdict is not None and verdict.status):
            del self._fallbacks[number]
            said = verdict.status if verdict is not None else ""
            if said:
                self._wellness.ill(NAME, number)
            text = f"EVSE {number}: the station refuses the fallback limit ({said}), so it protects no fuse; tried again in an hour"
            return [Remember(have.gone()), *([Alarm("fallback", text)] if said else [])]
        return []  # it may stand: it is put again later, or cleared

    def _was_cleared(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        effects = super()._was_cleared(job, outcome, answer, now)
        if any(isinstance(effect, Remember) for effect in effects):
            self._fallbacks = {evse: one for evse, one in self._fallbacks.items() if one.profile_id != job.place}
        return effects

    # ------------------------------------------------------------ when it goes

    def release(self, now: Instant) -> Effects:
        """Clear everything of ours, by id."""
        for lease in self._fallbacks.values():
            self._clears.add(lease.profile_id)
        return super().release(now)

    def _cleared(self, seen: ClearSeen) -> list[Effect]:
        effects = super()._cleared(seen)
        for evse, one in list(self._fallbacks.items()):
            if one.matches(seen):
                del self._fallbacks[evse]
                self._clears.done(one.profile_id)
                effects.append(Remember(one.gone()))
        return effects

    def _booted(self, boot: Boot, now: Instant) -> list[Effect]:
        """What has no end outlives a boot, where the station keeps its profiles: it is cleared and put again like everything else."""
        effects = super()._booted(boot, now)
        self._not_before.clear()
        return effects

    def _named_like_ours(self, id: int) -> list[Effect]:
        effects = super()._named_like_ours(id)
        for evse, one in list(self._fallbacks.items()):
            if one.profile_id == id:
                del self._fallbacks[evse]
                effects.append(Remember(one.gone()))
        return effects

    def _concerned(self, said: Observation, now: Instant) -> set[int]:
        """A TxDefaultProfile of the CPMS takes the place of ours, which goes before whatever else of ours must: what is waited for is
        the last of them."""
        mine: set[int] = set()
        if isinstance(said, ProfileSeen) and not self._shadow:
            for evse, one in self._fallbacks.items():
                if said.evse in (0, evse) and (said.profile.purpose == "default" or one.collides(said.profile)):
                    self._clears.add(one.profile_id, at_once=True)
                    self._not_before[evse] = now.mono + UNANSWERED_S
                    mine.add(evse)
        return super()._concerned(said, now) | mine

    def well(self, name: str, raised_at: float) -> bool:
        """A fallback that nobody wants any more is none that is missing."""
        unwanted = self._charging.fallback_amps is None or self._released is not None
        return (name == NAME and unwanted) or super().well(name, raised_at)

    def _missing(self, number: int) -> str:
        """Why the fallback that the operator wants does not stand there: then it protects no fuse."""
        limit = self._limits.limit(number)
        reasons = (
            (self._shadow, "nothing is sent in this mode"),
            (self._released is not None, "the station is released"),
            (self._limits.used_level("default", number) is not None, "a TxDefaultProfile of the CPMS is in its place"),
            (self._abilities.smart_charging is False, "the station has no smart charging"),
            (bool(self._limits.to_ask(number)), "the station has not said yet what is in force"),
            (not limit.known, limit.why),
            (not self._limits.bare(number), "the station has a limit that may be a profile nobody saw, and that ours would replace"),
            (self._clock.skew is None, "the station's clock is not known"),
        )
        return next((why for holds, why in reasons if holds), "not accepted yet")

    def explain(self) -> dict[str, Any]:
        """Besides what the injector says: what stands without an end, or why it does not."""
        said = super().explain()
        for number in self._sockets if self._charging.fallback_amps is not None else ():
            if number not in self._fallbacks:
                said[str(number)]["no_fallback"] = self._missing(number)
        for number, one in self._fallbacks.items():
            said[str(number)]["fallback"] = {"limit": one.steps[-1].limit, "unit": one.unit, "profile": one.profile_id, "sure": one.sure}
        return said
