"""The demo's claims about power on made-up samples and schedules."""

from __future__ import annotations

from broker.sim import power
from broker.sim.power import GRACE_S, Plan, Point

T = 1_767_225_600.0


def points(*watts: float, asset: str = "a-1", free: bool = False) -> list[Point]:
    return [Point(T + n, asset, power, free) for n, power in enumerate(watts)]


STEADY = [2000.0] * int(GRACE_S + 1)


def test_peaks_are_of_the_whole_site() -> None:
    both = points(6000, 6000, 4000, *STEADY) + points(6000, 7000, 4000, *(watts + 1000 for watts in STEADY), asset="b-1")
    claim = power.peaks(both, 5000, T + 2, T + 3)
    assert claim.ok
    assert claim.numbers == "without 13.0 kW, with 5.0 kW, limit 5.0 kW"
    assert not power.peaks(both, 4000, T + 2, T + 3).ok  # above
    assert not power.peaks(both, 20_000, T + 2, T + 3).ok  # the wishes were below anyway
    assert not power.peaks(both, 5000, T + 2, None).ok
    assert not power.peaks(both, 5000, None, T + 3).ok


def test_a_moment_in_which_cars_come_down_for_another_is_said_and_no_peak() -> None:
    moment, longer = [6000.0] * 6, [6000.0] * int(GRACE_S + 1)
    claim = power.peaks(points(9000, *STEADY, *moment, *STEADY), 5000, T + 1, T + 1)
    assert claim.ok
    assert claim.numbers == "without 9.0 kW, with 2.0 kW (for moments 6.0 kW), limit 5.0 kW"
    assert not power.peaks(points(9000, *STEADY, *longer, *STEADY), 5000, T + 1, T + 1).ok
    assert not power.peaks(points(9000, *moment), 5000, T + 1, T + 1).ok, "of a short story half must be below"
    assert power.peaks(points(9000, *moment[:2], *STEADY[:4]), 5000, T + 1, T + 1).ok


def plan(at: float, *steps: tuple[float, float]) -> Plan:
    return Plan(T + at, "a-1", tuple((T + start, watts) for start, watts in steps), T + 1000)


def test_power_is_held_against_what_the_engine_gave_lately() -> None:
    plans = [plan(-60, (-60, 4000)), plan(30, (-60, 8000))]
    good = points(*[4000] * 30, *[7900] * 30, free=True)
    assert power.follows(good, plans, T).ok
    assert not power.follows([p._replace(watts=8000) for p in good], plans, T).ok  # before it was given
    assert power.follows([p._replace(watts=4000, free=False) for p in good] + good[:5], plans, T).ok  # less is the car's right
    assert not power.follows([p._replace(watts=4000) for p in good], plans, T).ok  # but a car that wants more takes it
    assert power.follows([*good, good[0]._replace(watts=9000, ruled=False)], plans, T).ok


def test_limits_of_the_last_seconds_include_the_one_before_and_its_steps() -> None:
    plans = [plan(0, (0, 4000), (100, 5000)), plan(200, (0, 6000))]
    assert power.limits(plans, T + GRACE_S - 1) == []
    assert set(power.limits(plans, T + 50)) == {4000}
    assert set(power.limits(plans, T + 100 + GRACE_S / 2)) == {4000, 5000}
    assert set(power.limits(plans, T + 150)) == {5000}
    assert set(power.limits(plans, T + 200 + GRACE_S / 2)) == {5000, 6000}
    assert set(power.limits(plans, T + 200 + GRACE_S)) == {6000}
