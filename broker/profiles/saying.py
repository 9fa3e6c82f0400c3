"""What one charging profile says at a moment, as far as that can be said: which period is in force, and what it means in the socket's unit.

The kinds as OCPP defines them (1.6 3.13 and 7.12, 2.x K01): Absolute from its start on, Recurring by day or week, Relative from when the
transaction's energy flows. Where that moment is not known the schedule runs since some time between two, and may say any of several
things; `Said` holds the least and the most of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import pairwise
from operator import itemgetter
from typing import Final, NamedTuple

from broker.model.schedules import ChargingProfile

PURPOSES: Final = frozenset({"max", "default", "tx"})
KINDS: Final = frozenset({"Absolute", "Recurring", "Relative"})
RECURS_S: Final = {"Daily": 86_400.0, "Weekly": 604_800.0}
NOMINAL_V: Final = 230.0
MOST_TURNS: Final = 6000  # changes of one profile that are worth counting
PHASES: Final = 3  # that share watts if a period does not say how many (1.6 7.12, 2.x K01.FR.49)
_START: Final = itemgetter(0)
DC_V: Final = 1000.0  # the most that a car's battery has: amperes of a dc station say not at which voltage


class Placed(NamedTuple):
    """A profile that stands on the station, or may."""

    evse: int
    """0: the whole station, or every EVSE, or nobody knows which."""
    profile: ChargingProfile
    sure: bool = True
    """False: it may be there or not."""
    embedded: bool = False
    """It came with a remote start."""


class Running(NamedTuple):
    """The transaction at a socket."""

    id: str | None
    started: float
    ready: float | None = None
    """When energy flowed for certain: a Relative schedule began between `started` and then. None: not known to flow yet."""


class Place(NamedTuple):
    """A socket."""

    evse: int
    ac: bool = True
    phases: int = PHASES


class Said(NamedTuple):
    """What a profile may say at a moment. `low` > `high`: nothing."""

    low: float
    high: float
    sure: bool
    """It says something for certain."""
    phases: int | None = None


SILENT: Final = Said(math.inf, -math.inf, False)


def unclear(placed: Placed) -> str:
    """Why it cannot be said what this profile allows; "" if it can."""
    profile = placed.profile
    if profile.purpose not in PURPOSES or profile.kind not in KINDS or (profile.kind == "Recurring" and profile.recurrency not in RECURS_S):
        return f"profile {profile.id} is of a kind that we do not model"
    if profile.more_schedules or not profile.periods:
        return f"profile {profile.id} has not one schedule"
    starts = [period.start_s for period in profile.periods]
    if starts[0] != 0 or any(after <= before for before, after in pairwise(starts)):
        return f"profile {profile.id} has periods that do not follow each other from 0 on"
    if profile.purpose == "max" and placed.evse:
        return f"profile {profile.id} limits the whole station on one EVSE"
    return ""


def fewest(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)


def says(profile: ChargingProfile, at: float, place: Place, running: Running | None, begin: float) -> Said:
    """`begin`: where no transaction runs, one may from then on."""
    slack = profile.slack_s
    since = math.inf if profile.valid_from is None else _since(profile.valid_from, at)
    left = math.inf if profile.valid_to is None else _since(at, profile.valid_to)
    if since < -slack or left <= -slack:
        return SILENT
    least, most, begun = _elapsed(profile, at, running, begin)
    begun = begun and since >= slack and left > slack
    over = math.inf if profile.duration_s is None else float(profile.duration_s)
    if most < 0 or least >= over:
        return SILENT
    first = max(0, bisect_right(profile.periods, least, key=_START) - 1)
    last = min(bisect_right(profile.periods, most, key=_START), bisect_left(profile.periods, over, key=_START))
    return meant(profile, first, last, place, begun and (most < over or profile.duration_s is None))


def meant(profile: ChargingProfile, first: int, last: int, place: Place, sure: bool) -> Said:
    """The periods [first, last) in the socket's unit. Watts mean all phases: those that the period says, three, or the socket's."""
    low, high, phases = math.inf, -math.inf, None
    for period in profile.periods[first:last]:
        shared = max(1, period.phases or PHASES)
        if place.ac:
            by = (1.0, 1.0) if profile.unit == "A" else (NOMINAL_V * shared, NOMINAL_V * min(shared, place.phases))
        else:
            by = (1.0, 1.0) if profile.unit == "W" else (1 / NOMINAL_V, 1 / DC_V)
        low, high = min(low, period.limit / by[0]), max(high, period.limit / by[1])
        phases = fewest(phases, period.phases)
    return Said(low, high, sure, phases)


def _origins(profile: ChargingProfile, running: Running | None, begin: float) -> tuple[float, float | None] | None:
    """The first and last moment at which a schedule without a start of its own may have begun; last None: any later one too."""
    if profile.kind != "Relative" or profile.start is not None:
        return None
    return (begin, None) if running is None else (running.started, running.ready)


def _elapsed(profile: ChargingProfile, at: float, running: Running | None, begin: float) -> tuple[float, float, bool]:
    """How long the schedule runs at `at`: at least, at most (below 0: it has not begun), and whether it has begun for certain."""
    origins = _origins(profile, running, begin)
    if origins is not None:  # of no transaction yet: one may begin from `begin` on
        first, last = origins
        return max(0.0, _since(last, at)) if last is not None else 0.0, max(0.0, _since(first, at)), True
    if profile.start is None or profile.kind == "Relative":  # nobody says from when on
        return 0.0, math.inf, True
    since, slack = _since(profile.start, at), profile.slack_s
    if profile.kind == "Recurring":  # before its first turn some stations reckon with an earlier one
        turn = RECURS_S[profile.recurrency or ""]
        into = round(since % turn, 3) % turn
        return (0.0, turn, since >= slack) if slack else (into, into, since >= 0)
    return max(0.0, since - slack), since + slack, since >= slack


def _since(start: float, at: float) -> float:
    """To the millisecond, as fine as times are written: floats of this size are no finer than some hundred nanoseconds."""
    return round(at - start, 3)


def turns_of(profile: ChargingProfile, running: Running | None, begin: float, end: float) -> set[float]:
    """When what a profile says may change within (begin, end)."""
    found = {at for at in (profile.valid_from, profile.valid_to, profile.start) if at is not None}
    marks = [float(period.start_s) for period in profile.periods]
    marks += [] if profile.duration_s is None else [float(profile.duration_s)]
    origins = _origins(profile, running, begin)
    if origins is not None:
        found |= {origin + mark for origin in origins if origin is not None for mark in marks}
    elif profile.start is not None and profile.kind == "Recurring":
        turn = RECURS_S[profile.recurrency or ""]
        origin = profile.start + (begin - profile.start) // turn * turn
        while origin < end and len(found) <= MOST_TURNS:
            found |= {origin + mark for mark in marks if mark < turn}
            origin += turn
    elif profile.start is not None:
        found |= {profile.start + mark for mark in marks}
    if profile.slack_s:
        found |= {at + slack for at in found for slack in (-profile.slack_s, profile.slack_s)}
    return {at for at in found if begin < at < end}
