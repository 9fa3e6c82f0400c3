"""What a set of charging profiles allows on one EVSE over time: profiles, a socket and its transaction in; spans of time out.

The composite schedule as OCPP defines it (1.6 3.13, 2.x K01): within a purpose the highest stack level that says something now wins,
whatever its value; a TxProfile goes before TxDefaultProfiles; across purposes the least holds; nothing said means no limit.
A limit for the whole station is one for the sum of its sockets: here it is what one socket may have if it is alone, the most that any
way of sharing it out can give it (docs/protocol.md says why that is safe).

Where stations read the rules differently, or not all is known, both ends are given: `low` is the least that any reading allows
and `high` the most, so that nobody relies on one of them. What is not settled: whether a TxDefaultProfile counts in a gap of the
TxProfile (2.x says so in one place and not in another); in 1.6, whether a connector's own TxDefaultProfile goes before one for all
connectors of a higher level; when a Relative schedule began; and what went to the station unanswered (`Placed.sure`).
All times are in one clock: the station's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from broker.profiles.saying import Place, Placed, Running, Said, fewest, meant, says, turns_of, unclear

__all__ = ["Course", "Place", "Placed", "Running", "Span", "course"]

MOST_WORK: Final = 6000  # changes times profiles, some 50 ms; beyond, the least of everything counts at all times


class Span(NamedTuple):
    """From `at` on: A per phase for ac, W in all for dc; infinite: no limit."""

    at: float
    low: float
    high: float
    phases: int | None = None
    """The fewest that are allowed; None: nobody says."""


class Course(NamedTuple):
    """Spans in their order, without gaps; the last one holds until `end`."""

    spans: tuple[Span, ...]
    end: float
    why: str = ""
    """Not empty: what is allowed is not known, and why."""

    def low(self, begin: float, end: float) -> float:
        """The least in [begin, end)."""
        ends = [span.at for span in self.spans[1:]] + [math.inf]
        return min((span.low for span, over in zip(self.spans, ends, strict=True) if span.at < end and begin < over), default=math.inf)


def course(
    placed: Iterable[Placed],
    place: Place,
    running: Running | None,
    begin: float,
    end: float,
    *,
    own_first: bool = False,
    outlives: bool = False,
) -> Course:
    """What `placed` allows at `place` within [begin, end).

    `own_first`: OCPP 1.6, where a connector's own TxDefaultProfile may replace the one for all. `outlives`: for what does not end
    with the transaction, so that a TxProfile may be gone at any time, and a Relative schedule begin anew.
    """
    here = [one for one in placed if one.evse in (0, place.evse)]
    why = next(iter(sorted(filter(None, map(unclear, here)))), "")
    if why:
        return Course((Span(begin, math.inf, math.inf),), end, why)
    if outlives and running is not None:
        running = running._replace(ready=None)  # the next one's Relative schedules begin anew
    turns = {begin}
    for one in here:
        turns |= turns_of(one.profile, running, begin, end)
        if len(turns) * len(here) > MOST_WORK:  # more changes than anybody plans
            return Course((Span(begin, *_lowest(here, place)),), end)
    board = _Board(here, place, running, begin, own_first, outlives)
    spans: list[Span] = []
    for at in sorted(turns):
        span = board.at(at)
        if not spans or spans[-1][1:] != span[1:]:
            spans.append(span)
    return Course(tuple(spans), end)


def _lowest(placed: Sequence[Placed], place: Place) -> tuple[float, float, int | None]:
    """The least of all that is said anywhere, at all times."""
    said = [meant(one.profile, 0, len(one.profile.periods), place, True) for one in placed]
    return min(one.low for one in said), math.inf, min((one.phases for one in said if one.phases is not None), default=None)


class _Board:
    """The profiles that concern one socket, by purpose."""

    def __init__(self, here: list[Placed], place: Place, running: Running | None, begin: float, own_first: bool, outlives: bool) -> None:
        self._place, self._running, self._begin = place, running, begin
        self._max = [one for one in here if one.profile.purpose == "max"]
        self._tx = [one if self._of(one) and not outlives else one._replace(sure=False) for one in here if one.profile.purpose == "tx"]
        self._default = [one for one in here if one.profile.purpose == "default"]
        own = [one for one in self._default if one.evse]
        self._own = own if own_first and any(one.sure for one in own) else None

    def _of(self, one: Placed) -> bool:
        """It is the running transaction's, for certain."""
        id = self._running.id if self._running is not None else None
        return one.evse != 0 and id is not None and one.profile.transaction_id == id

    def at(self, at: float) -> Span:
        """What all of them come to at a moment."""
        tx, default, whole = self._strongest(self._tx, at), self._strongest(self._default, at), self._strongest(self._max, at)
        if self._own is not None:
            default = _either(default, self._strongest(self._own, at))
        own = tx
        if not tx.sure:  # a gap: some stations look at the TxDefaultProfile now, others do not
            beneath = math.inf if self._tx or not default.sure else default.high
            own = Said(min(tx.low, default.low), max(tx.high, beneath), False, fewest(tx.phases, default.phases))
        high = min(own.high, whole.high if whole.sure else math.inf)
        return Span(at, max(0.0, min(own.low, whole.low)), max(0.0, high), fewest(own.phases, whole.phases))

    def _strongest(self, placed: list[Placed], at: float) -> Said:
        """Of one purpose: from the highest level down to the first that speaks for certain; at one level a socket's own goes first."""
        low, high, phases = math.inf, -math.inf, None
        said = [
            ((one.profile.stack_level, one.evse > 0), one.sure, says(one.profile, at, self._place, self._running, self._begin))
            for one in placed
        ]
        for rank in sorted({rank for rank, _, _ in said}, reverse=True):
            level = [(sure, one) for its, sure, one in said if its == rank and one.low <= one.high]
            low, high = min([low, *(one.low for _, one in level)]), max([high, *(one.high for _, one in level)])
            for _, one in level:
                phases = fewest(phases, one.phases)
            if any(sure and one.sure for sure, one in level):
                return Said(low, high, True, phases)
        return Said(low, high, False, phases)


def _either(one: Said, other: Said) -> Said:
    """Two readings of the same profiles."""
    return Said(min(one.low, other.low), max(one.high, other.high), one.sure and other.sure, fewest(one.phases, other.phases))
