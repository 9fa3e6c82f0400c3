"""The demo's claims about power: what each socket took every second, and what the engine gave it; in come both, out come claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from broker.sim.proof import Claim, listed

OVER: Final = 1.02  # rounding
GRACE_S: Final = 12.0  # from a schedule to the current: 5 s between writes, the CALL, and the car's ramp of up to 5 s
CLOSE: Final = 0.90  # this near to its limit a car that could take more follows it


class Point(NamedTuple):
    """One socket at one moment."""

    at: float
    asset: str
    watts: float
    free: bool = False
    """The battery wants more than the limit, and the limit is the engine's."""
    ruled: bool = True
    """A session runs there for longer than `GRACE_S`: the engine knows of it and its schedule must be obeyed."""


class Plan(NamedTuple):
    """A schedule the engine gave out, and when."""

    at: float
    asset: str
    steps: tuple[tuple[float, float], ...]
    until: float

    def limit(self, at: float) -> float | None:
        begun = [watts for start, watts in self.steps if start <= at]
        return begun[-1] if begun and at < self.until else None


def site(points: Iterable[Point], begin: float, end: float) -> list[tuple[float, float]]:
    """(time, W) of all sockets together between two moments."""
    sums: dict[float, float] = {}
    for point in points:
        if begin <= point.at < end:
            sums[point.at] = sums.get(point.at, 0.0) + point.watts
    return sorted(sums.items())


def lasting(sums: Sequence[tuple[float, float]], seconds: float) -> float | None:
    """The highest power that the site never fell below for so long; None if it was not measured for so long."""
    lowest: list[float] = []
    for n, (begin, _) in enumerate(sums):
        if sums[-1][0] >= begin + seconds:
            lowest.append(min(watts for at, watts in sums[n:] if at <= begin + seconds))
    return max(lowest, default=None)


def peaks(points: Sequence[Point], limit_w: float, control: float | None, settled: float | None) -> Claim:
    """Without control the wishes go above the limit; with it they do not, but while cars come down for one that has just come.

    `settled`: from when on the limit must hold.
    """
    before = site(points, 0, control) if control is not None else []
    after = site(points, settled, float("inf")) if settled is not None else []
    span = after[-1][0] - after[0][0] if after else 0.0
    without, with_it = lasting(before, 0.0), lasting(after, min(GRACE_S, span / 2))
    shown = ", ".join(f"{name} {in_kw(watts)}" for name, watts in (("without", without), ("with", with_it)))
    highest = lasting(after, 0.0) or 0.0
    moments = f" (for moments {in_kw(highest)})" if with_it is not None and highest > limit_w * OVER else ""
    ok = without is not None and with_it is not None and without > limit_w * 1.2 and 0 < with_it <= limit_w * OVER
    return Claim("site peak without and with control", ok, f"{shown}{moments}, limit {in_kw(limit_w)}")


def in_kw(watts: float | None) -> str:
    return "not measured" if watts is None else f"{watts / 1000:.1f} kW"


def follows(points: Iterable[Point], plans: Sequence[Plan], settled: float | None) -> Claim:
    """No socket above what the engine gave it lately; and one that wants more takes what it may."""
    by_asset: dict[str, list[Plan]] = {}
    for plan in plans:
        by_asset.setdefault(plan.asset, []).append(plan)
    seen = free = near = 0
    above: list[str] = []
    for point in points:
        lately = limits(by_asset.get(point.asset, ()), point.at) if settled is not None and point.ruled and point.at >= settled else []
        if lately:
            seen += 1
            if point.watts > max(lately) * OVER + 50:
                above.append(f"{point.asset} took {in_kw(point.watts)}, was given {in_kw(max(lately))}")
            free += point.free
            near += point.free and point.watts >= min(lately) * CLOSE
    ok = seen > 0 and not above and free > 0 and near >= 0.95 * free
    numbers = f"{len(above)} of {seen} samples above, {near} of {free} limited ones at their limit"
    return Claim("power follows the engine's schedules", ok, listed(numbers, above))


def limits(plans: Sequence[Plan], at: float) -> list[float]:
    """Every limit the engine gave for an asset during the last `GRACE_S`, the one before included; empty if there was none."""
    known = [plan for plan in plans if plan.at <= at]
    if not known or known[0].at > at - GRACE_S:
        return []
    older = [plan for plan in known if plan.at <= at - GRACE_S][-1:]
    lately = older + [plan for plan in known if plan.at > at - GRACE_S]
    moments = {at - GRACE_S, at, *(start for plan in lately for start, _ in plan.steps if at - GRACE_S < start <= at)}
    return [limit for plan in lately for moment in moments if (limit := plan.limit(moment)) is not None]
