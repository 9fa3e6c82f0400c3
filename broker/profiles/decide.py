"""What ours may be: no more than the CPMS alone allows, at any moment, by any reading of its profiles.

A `Limit` is what is known of that, over time. Its times are in the station's clock, as are the profiles' own.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from broker.model.schedules import Step
from broker.profiles.composite import Course, Span
from broker.profiles.saying import fewest

UNKNOWN: Final = "cpms-limits-unknown"
TINY: Final = 1e-6  # floats' own noise, in A or W
DAY_S: Final = 86_400.0
_AT: Final = itemgetter(0)
TENTH: Final = 0.1  # A; ours is rounded down by less


class Limit(NamedTuple):
    """In A per phase for ac, W in all for dc."""

    known: bool
    """False: never send anything on that EVSE; `why` says why."""
    value: float | None
    """At the time it was asked for. None: the CPMS sets no limit, as far as we know."""
    why: str = ""
    spans: tuple[Span, ...] = ()
    """From then on; empty: no limit ever."""

    @property
    def phases(self) -> int | None:
        """The fewest that are allowed at some time; None: nobody says."""
        return min((span.phases for span in self.spans if span.phases is not None), default=None)

    def steps(self, skew: float) -> tuple[Step, ...]:
        """The least that is allowed, in our clock; the station's is `skew` seconds ahead."""
        return tuple(Step(span.at - skew, span.low) for span in self.spans)

    def capped(self, at: float, most: float | None) -> Limit:
        """And no more than `most`, from `at` on."""
        if most is None or not self.known:
            return self
        spans = tuple(span._replace(low=min(span.low, most)) for span in self.spans) or (Span(at, most, math.inf),)
        return self._replace(value=spans[0].low, spans=spans)

    def next_change(self, after: float) -> float | None:
        """When another limit begins."""
        return next((span.at for span in self.spans if span.at > after), None)


def limit_of(courses: Iterable[Course], at: float) -> Limit:
    """What all of them allow from `at` on, each of them known from then on at least."""
    found = tuple(courses)
    why = next((course.why for course in found if course.why), "")
    if why:
        return Limit(False, None, f"{UNKNOWN}: {why}")
    if len(found) == 1:
        begun = _in_force(found[0].spans, at)
        return _limit((begun._replace(at=at), *(span for span in found[0].spans if span.at > at)))
    turns = sorted({at} | {span.at for course in found for span in course.spans if span.at > at})
    spans: list[Span] = []
    for turn in turns:
        there = [_in_force(course.spans, turn) for course in found]
        span = Span(turn, min((one.low for one in there), default=math.inf), min((one.high for one in there), default=math.inf))
        for one in there:
            span = span._replace(phases=fewest(span.phases, one.phases))
        if not spans or spans[-1][1:] != span[1:]:
            spans.append(span)
    return _limit(tuple(spans))


def _limit(spans: tuple[Span, ...]) -> Limit:
    if spans[0].low == math.inf and len(spans) == 1:
        return Limit(True, None)
    return Limit(True, None if spans[0].low == math.inf else spans[0].low, "", spans)


def exceeds(ours: Sequence[Step], limit: Limit, begin: float, end: float) -> bool:
    """Whether what ours allows may be more than `limit` at some moment in [begin, end], or nobody knows."""
    if not limit.known or (limit.spans and not ours):
        return True
    return any(ours_there > span.low + TINY for ours_there, span in _side_by_side(ours, limit, begin, end))


def says_no_less(ours: Sequence[Step], limit: Limit, begin: float, end: float) -> bool:
    """Whether the CPMS alone gives no more than ours anyway, by every reading, all through [begin, end]."""
    pairs = _side_by_side(ours, limit, begin, end)
    return limit.known and bool(pairs) and all(there + TENTH * max(1.0, there / 100) >= span.high for there, span in pairs)


def _side_by_side(ours: Sequence[Step], limit: Limit, begin: float, end: float) -> list[tuple[float, Span]]:
    if not ours or not limit.spans:
        return []
    changes = [*(step.at for step in ours), *(span.at for span in limit.spans)]
    turns = {begin} | {at for at in changes if begin < at <= end}
    return [(_step(ours, at).limit, _in_force(limit.spans, at)) for at in sorted(turns)]


def _in_force(spans: Sequence[Span], at: float) -> Span:
    return spans[max(0, bisect_right(spans, at, key=_AT) - 1)]


def _step(steps: Sequence[Step], at: float) -> Step:
    return steps[max(0, bisect_right(steps, at, key=_AT) - 1)]


def higher(one: Sequence[Step], other: Sequence[Step]) -> tuple[Step, ...]:
    """At each moment the more of both, for of two profiles either may stand; empty: nobody knows."""
    if not one or not other:  # of one of them it is not known
        return ()
    turns = sorted({step.at for step in (*one, *other)})
    return tuple(Step(at, max(_step(one, at).limit, _step(other, at).limit)) for at in turns)
