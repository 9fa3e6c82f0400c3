"""An operator's own word about a station: a limit for an EVSE until a moment, or that nothing of ours may stand there any more.

It is kept as facts of the station, so that it outlives links and restarts. `together` makes of the engine's schedule and an
operator's limit the one schedule that the injector follows: at every moment the lower of the two. Times are seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.model.records import Fact
from broker.model.schedules import Schedule, Step
from broker.profiles.shape import BOUNDLESS, NOMINAL_V
from broker.settings import EvseSettings, StationSettings

TOPIC: Final = "operator"
RELEASED: Final = "released"
LIMIT: Final = "limit-"
MOST_AMPS: Final = 2000.0  # as for max_amps: more is a typing error
LEAST_S: Final = 60.0  # shorter than the pause between two wishes it would be over before it holds
MOST_S: Final = 7 * 86_400.0  # what must hold for longer belongs into the configuration, as max_amps


@dataclass(frozen=True, slots=True)
class OwnLimit:
    """At most `amps` per phase on this EVSE, from `since` until `until`."""

    evse: int
    amps: float
    since: float
    until: float

    @property
    def id(self) -> str:
        """What stands in for a schedule's id; the engine never hears it."""
        return f"operator-{self.evse}-{self.since:.0f}"

    def fact(self) -> Fact:
        """For a restart."""
        return Fact(TOPIC, f"{LIMIT}{self.evse}", {"amps": self.amps, "since": self.since, "until": self.until})

    def gone(self) -> Fact:
        """It ended, or was taken back."""
        return Fact(TOPIC, f"{LIMIT}{self.evse}", None)


def own_limit(fact: Fact) -> OwnLimit | None:
    """The limit that a fact tells of, if it tells of one."""
    number = fact.name.removeprefix(LIMIT)
    if fact.topic != TOPIC or number == fact.name or not number.isdecimal() or not isinstance(fact.value, Mapping):
        return None
    try:
        return OwnLimit(int(number), float(fact.value["amps"]), float(fact.value["since"]), float(fact.value["until"]))
    except (KeyError, TypeError, ValueError):
        return None


def released(fact: Fact) -> float | None:
    """Since when the station is released, if that is what the fact tells."""
    if (fact.topic, fact.name) != (TOPIC, RELEASED) or not isinstance(fact.value, Mapping):
        return None
    at = fact.value.get("at")
    return float(at) if isinstance(at, int | float) else None


def release_fact(at: float | None) -> Fact:
    """Released at that moment; None: not any more."""
    return Fact(TOPIC, RELEASED, None if at is None else {"at": at})


def wanted(body: Any, station: StationSettings, now: float) -> tuple[OwnLimit, ...]:
    """What an operator asks for: `{"amps": 16, "for_s": 900, "evse": 1}`; without `evse` for every EVSE. Raises ValueError, in one line."""
    if not isinstance(body, Mapping) or not set(body) <= {"amps", "for_s", "evse"}:
        raise ValueError('say {"amps": 16, "for_s": 900} and, for one EVSE only, "evse": 1')
    amps, for_s, evse = _number(body.get("amps")), _number(body.get("for_s")), body.get("evse")
    if not 0 <= amps <= MOST_AMPS:
        raise ValueError(f"amps: must be from 0 to {MOST_AMPS:g}, per phase")
    if not LEAST_S <= for_s <= MOST_S:
        raise ValueError(f"for_s: must be from {LEAST_S:g} s to {MOST_S:g} s (a week); longer is max_amps in the configuration")
    numbers = [one.number for one in station.evses]
    if evse is not None and (isinstance(evse, bool) or evse not in numbers):
        raise ValueError(f"evse: {station.id} has {', '.join(map(str, numbers))}")
    return tuple(OwnLimit(number, amps, now, now + for_s) for number in ([evse] if evse is not None else numbers))


def _number(value: Any) -> float:
    """As a number; what is none is out of every range."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12 else float("nan")


def together(asked: Schedule | None, own: OwnLimit, evse: EvseSettings) -> Schedule:
    """One schedule that is never above either. It is called like the engine's, if there is one, for it is the engine that hears of it."""
    if asked is None:
        return Schedule(own.id, evse.asset, own.since, own.until, "A", (Step(own.since, own.amps),))
    ours = own.amps if asked.unit == "A" else own.amps * NOMINAL_V * evse.phases
    ends = max(asked.valid_until, own.until)
    moments = sorted({own.since, own.until, asked.valid_until, *(step.at for step in asked.steps)})
    steps = tuple(Step(at, _lowest(asked, own, ours, at)) for at in moments if at < ends)
    return Schedule(asked.id, asked.asset, asked.issued_at, ends, asked.unit, steps, asked.transaction, asked.phases)


def lowers(asked: Schedule, both: Schedule, now: float) -> bool:
    """Whether the operator's limit takes something from what the engine asked, from now on."""
    return any(step.limit < limit_at(asked.steps, step.at) for step in _from(both.steps, now) if step.at < asked.valid_until)


def limit_at(steps: Iterable[Step], at: float) -> float:
    """What the steps say at that moment; infinity before the first."""
    begun = [step.limit for step in steps if step.at <= at]
    return begun[-1] if begun else float("inf")


def _lowest(asked: Schedule, own: OwnLimit, ours: float, at: float) -> float:
    engines = limit_at(asked.steps, at) if at < asked.valid_until else float("inf")
    lowest = min(engines, ours if own.since <= at < own.until else float("inf"))
    return min(lowest, BOUNDLESS[asked.unit])  # nobody asks for anything then: the CPMS's limit alone holds


def _from(steps: tuple[Step, ...], now: float) -> tuple[Step, ...]:
    """What holds now, and what comes."""
    begun = [Step(now, step.limit) for step in steps if step.at <= now]
    return (*begun[-1:], *(step for step in steps if step.at > now))
