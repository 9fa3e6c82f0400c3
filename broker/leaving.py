"""Clears what of ours still stands on a station that is not to be limited any more, profile by profile, by its id.

In place of an observer, or around one: a station whose mode left smart-charging (or that is no longer ours at all) is told to clear
each profile of ours that was remembered; everything else is the inner observer's business. It does what the injector does at a
release, without anything that could set a limit: here is no code that sends one. When the station says that they are gone, or
their time is over, there is nothing left of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, Protocol

from broker.clears import Clears
from broker.leases import lease_of
from broker.model.basics import Instant
from broker.model.orders import Alarm, Inject, Pass, Passwords, Write
from broker.model.records import Fact
from broker.model.schedules import Schedule
from broker.model.traffic import NOTHING, Exchange, Interest
from broker.ocpp.dialect import Dialect
from broker.profiles.shape import AFTER_S
from broker.standing import FLAPPING_S, SETTLE_S

Effect = Write | Inject | Pass | Alarm | Passwords
TOO_LONG_S: Final = 86_400.0  # what was remembered of another version of us and cannot be read: no lease of ours is longer


class Inner(Protocol):
    """Who learns meanwhile."""

    interest: Interest

    @property
    def wake_at(self) -> float | None: ...

    @property
    def tap_failures(self) -> int: ...

    def saw(self, exchange: Exchange, now: Instant) -> Iterable[Effect]: ...

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> Iterable[Effect]: ...

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> Iterable[Effect]: ...

    def wish(self, schedule: Schedule, now: Instant) -> Iterable[Effect]: ...

    def steer(self, facts: Iterable[Fact], now: Instant) -> Iterable[Effect]: ...

    def tick(self, now: Instant) -> Iterable[Effect]: ...

    def closed(self, now: Instant) -> Iterable[Effect]: ...

    def well(self, name: str, raised_at: float) -> bool: ...

    def explain(self) -> dict[str, Any]: ...


def standing(facts: Iterable[Fact]) -> dict[int, float]:
    """Profiles of ours that may stand there: id → seconds since 1970 when they have ended by themselves."""
    found: dict[int, float] = {}
    for fact in facts:
        if fact.topic == "lease" and fact.value is not None and fact.name.isdecimal():
            lease = lease_of(fact)
            found[int(fact.name)] = lease.until + AFTER_S if lease is not None else float("inf")
    return found


class Leaving:
    """`ours`: what `standing` found. `proven`: both ends of the link are known to live. Nothing is asked before `SETTLE_S`."""

    def __init__(
        self,
        inner: Inner | None,
        dialect: Dialect,
        ours: dict[int, float],
        *,
        opened: Instant,
        flapping: bool,
        proven: bool,
        new_token: Callable[[], int],
    ) -> None:
        self.inner, self._speech = inner, dialect.charging
        self._ours = {id: ends if math.isfinite(ends) else opened.wall + TOO_LONG_S for id, ends in ours.items()}
        self._clears = Clears()
        for id in ours:
            self._clears.add(id)
        self._gate = opened.mono + (FLAPPING_S if flapping else SETTLE_S)
        self._proven, self._over = proven, False
        self._new_token = new_token
        self._job: tuple[int, int] | None = None  # token, profile
        self._wake_at: float | None = self._gate
        interest = inner.interest if inner is not None else NOTHING
        self.interest = replace(interest, proof=interest.proof | dialect.interest.proof)

    @property
    def done(self) -> bool:
        """Nothing of ours stands there any more."""
        return not self._ours

    @property
    def proven(self) -> bool:
        """Both ends are known to live."""
        return self._proven

    @property
    def wake_at(self) -> float | None:
        """Monotonic seconds of the next `tick` that would do something."""
        inner = self.inner.wake_at if self.inner is not None else None
        return min((at for at in (self._wake_at, inner) if at is not None), default=None)

    @property
    def tap_failures(self) -> int:
        return self.inner.tap_failures if self.inner is not None else 0

    def saw(self, exchange: Exchange, now: Instant) -> tuple[Effect, ...]:
        """Both ends live, or something for the inner one."""
        seen: tuple[Effect, ...] = ()
        theirs = exchange.sender == "cpms" or bool(exchange.call)
        if not theirs:
            self._proven = True
        if self.inner is not None and (theirs or exchange.action in self.inner.interest.proof):
            seen = tuple(self.inner.saw(exchange, now))
        elif exchange.token is not None:  # asked before this observer came
            seen = (Write((), (), exchange.token),)
        return (*seen, *self._move(now))

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> tuple[Effect, ...]:
        """Ours goes as fast as it can already: the CPMS is not kept waiting."""
        return (Pass(token),)

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> tuple[Effect, ...]:
        """Accepted and Unknown both mean that it is not there any more."""
        if self._job is None or self._job[0] != token:
            return tuple(self.inner.answered(token, outcome, answer, now)) if self.inner is not None else ()
        id, self._job, self._over = self._job[1], None, outcome == "closed"
        verdict = self._speech.verdict(answer) if outcome == "answer" and answer is not None else None
        if verdict is not None and verdict.status in ("Accepted", "Unknown"):
            return (*self._gone(id), *self._move(now))
        failures = self._clears.failed(id, now.mono, short=outcome in ("given-up", "no-slot"))
        text = f"the station does not clear our profile {id}: its limit ends by itself, then the CPMS's holds; look at the station"
        return (*([Alarm("release", text)] if failures == 3 else []), *self._move(now))

    def wish(self, schedule: Schedule, now: Instant) -> tuple[Effect, ...]:
        return tuple(self.inner.wish(schedule, now)) if self.inner is not None else ()

    def steer(self, facts: Iterable[Fact], now: Instant) -> tuple[Effect, ...]:
        return tuple(self.inner.steer(facts, now)) if self.inner is not None else ()

    def tick(self, now: Instant) -> tuple[Effect, ...]:
        return (*(self.inner.tick(now) if self.inner is not None else ()), *self._move(now))

    def closed(self, now: Instant) -> tuple[Effect, ...]:
        return tuple(self.inner.closed(now)) if self.inner is not None else ()

    def well(self, name: str, raised_at: float) -> bool:
        """What is wrong with limits of ours is over where none is sent any more, and all are gone."""
        return self.done if name == "release" else self.inner is None or self.inner.well(name, raised_at)

    def explain(self) -> dict[str, Any]:
        inner = self.inner.explain() if self.inner is not None else {}
        return {**inner, "withdrawing": sorted(self._ours)} if self._ours else inner

    def _gone(self, id: int) -> tuple[Effect, ...]:
        self._clears.done(id)
        self._ours.pop(id, None)
        return (Write((), (Fact("lease", str(id), None),)),)

    def _move(self, now: Instant) -> tuple[Effect, ...]:
        """The next one, if nothing of ours is under way."""
        effects: list[Effect] = []
        under_way = self._job[1] if self._job is not None else None
        for id in [id for id, ends in self._ours.items() if ends < now.wall and id != under_way]:
            effects += self._gone(id)
        times = [now.mono + max(0.0, ends - now.wall) + 1.0 for ends in self._ours.values()]
        if now.mono < self._gate:
            times.append(self._gate)
        elif self._job is None and self._proven and not self._over:
            following = self._clears.next(now.mono, times)
            if following is not None:
                self._job = (self._new_token(), following)
                effects.append(Inject(self._job[0], *self._speech.clear_profile(following)))
        self._wake_at = min(times, default=None)
        return tuple(effects)
