"""What all charging profiles on a station allow together: profiles, a socket and a moment in; amps, and who says so, out.

This is the station's own reading of the rules (OCPP 1.6 3.13, OCPP 2.x K01), written apart from the broker's so that the one
checks the other: within a purpose the highest stack level that is valid now wins, whatever its value; a TxProfile takes the
place of the TxDefaultProfile while it says something; across purposes the least wins. Nothing says anything: hardware.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from broker.sim.cars import Socket

RECURS_S: Final = {"Daily": 86_400, "Weekly": 604_800}
Purpose = Literal["max", "default", "tx"]


class Limit(NamedTuple):
    """From `start_s` after the schedule's start on: A per phase or W in all."""

    start_s: int
    limit: float
    phases: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A charging profile that a station holds, on `evse` (0: all, or the station as a whole)."""

    id: int
    evse: int
    purpose: Purpose
    stack_level: int
    kind: Literal["Absolute", "Relative", "Recurring"]
    unit: Literal["A", "W"]
    periods: tuple[Limit, ...]
    start: float | None = None
    duration_s: int | None = None
    recurrency: str = ""
    transaction: str | None = None
    """TxProfile: whose. None: the one that runs (from a remote start)."""
    valid_from: float | None = None
    valid_to: float | None = None
    received: float = 0.0


class Running(NamedTuple):
    """The transaction at a socket."""

    id: str
    started: float


class Allowed(NamedTuple):
    """A per phase, and the profile that says so; None: the hardware."""

    amps: float
    by: Profile | None


def origin(profile: Profile, at: float, running: Running | None) -> float | None:
    """When the turn of the schedule that covers `at` began; None before the first."""
    if profile.kind == "Relative":
        start = running.started if running else at
    else:
        start = profile.start if profile.start is not None else profile.received
    if at < start:
        return None
    period = RECURS_S.get(profile.recurrency) if profile.kind == "Recurring" else None
    return start + (at - start) // period * period if period else start


def says(profile: Profile, at: float, running: Running | None) -> Limit | None:
    """The period in force at `at`; None when it is not valid, has not begun or is over."""
    if (profile.valid_from is not None and at < profile.valid_from) or (profile.valid_to is not None and at >= profile.valid_to):
        return None
    start = origin(profile, at, running)
    if start is None or (profile.duration_s is not None and at - start >= profile.duration_s):
        return None
    begun = [period for period in profile.periods if period.start_s <= at - start]
    return begun[-1] if begun else None


def amps_of(profile: Profile, period: Limit, socket: Socket) -> float:
    """W means all phases, as many as the period says: three unless it says otherwise (2.x K01.FR.49), or the socket has fewer."""
    if profile.unit == "A":
        return period.limit
    return period.limit / socket.volts / (1 if socket.dc else min(period.phases or 3, socket.phases))


def best(profiles: Iterable[Profile], socket: Socket, at: float, running: Running | None) -> Allowed | None:
    """Of one purpose: the highest level that says something; at one level the socket's own outranks EVSE 0's."""
    speaking = [(profile, period) for profile in profiles if (period := says(profile, at, running)) is not None]
    if not speaking:
        return None
    profile, period = max(speaking, key=lambda pair: (pair[0].stack_level, pair[0].evse > 0, pair[0].received))
    return Allowed(max(0.0, amps_of(profile, period, socket)), profile)


def cap(profiles: Iterable[Profile], socket: Socket, at: float) -> Allowed | None:
    """What the station as a whole may take, in the socket's amps; None: no profile says."""
    return best([p for p in profiles if p.purpose == "max" and p.evse == 0], socket, at, None)


def own(profiles: Iterable[Profile], socket: Socket, at: float, running: Running | None) -> Allowed:
    """What the socket may take by itself, the station's sum left aside."""
    here = [p for p in profiles if p.evse in (0, socket.evse)]
    tx = [p for p in here if p.purpose == "tx" and running is not None and p.transaction in (None, running.id)]
    found = best(tx, socket, at, running) or best([p for p in here if p.purpose == "default"], socket, at, running)
    hardware = Allowed(socket.max_amps, None)
    return found if found is not None and found.amps <= hardware.amps else hardware


def allowed(profiles: Iterable[Profile], socket: Socket, at: float, running: Running | None, charging: int = 1) -> Allowed:
    """What the socket may take at `at`. `charging`: how many sockets share what the station as a whole may take, evenly."""
    held = tuple(profiles)
    mine, whole = own(held, socket, at, running), cap(held, socket, at)
    if whole is None:
        return mine
    share = whole.amps / max(1, charging)
    return Allowed(share, whole.by) if share < mine.amps else mine


def moments(profile: Profile, begin: float, end: float, running: Running | None) -> set[float]:
    """When what `profile` says may change, between `begin` and `end`."""
    found = {at for at in (profile.valid_from, profile.valid_to, profile.start) if at is not None}
    turn = origin(profile, begin, running)
    if turn is None:
        turn = profile.start if profile.start is not None else profile.received
    period = RECURS_S.get(profile.recurrency) if profile.kind == "Recurring" else None
    while turn < end:
        found |= {turn + step.start_s for step in profile.periods} | {turn}
        found |= {turn + profile.duration_s} if profile.duration_s is not None else set()
        if period is None:
            break
        turn += period
    return {at for at in found if begin < at < end}


def schedule(
    profiles: Iterable[Profile], socket: Socket, begin: float, duration_s: int, running: Running | None, whole: bool = False
) -> tuple[Limit, ...]:
    """GetCompositeSchedule: from `begin` on, `duration_s` seconds, A per phase. `whole`: of the station (EVSE 0), not a socket."""
    held = tuple(profiles)
    turns = set().union(*(moments(profile, begin, begin + duration_s, running) for profile in held))
    steps: list[Limit] = []
    for at in (begin, *sorted(turns)):
        if whole:
            top = cap(held, socket, at)
            amps = min(socket.max_amps, top.amps) if top else socket.max_amps
        else:
            amps = allowed(held, socket, at, running).amps
        if not steps or steps[-1].limit != amps:
            steps.append(Limit(int(at - begin), amps))
    return tuple(steps)
