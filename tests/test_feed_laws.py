"""The feed, given anything: what comes out can be written down, each moment once, exactly when it was announced."""

from __future__ import annotations

import json
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from broker.engine.v1 import V1
from broker.feed import Feed, Measurement
from broker.model.basics import Instant, Key
from broker.model.observations import Reading
from broker.ocpp.times import text
from broker.settings import EngineSettings, EvseSettings

T = 1_767_225_600.0
CODEC = V1(EngineSettings("http://127.0.0.1:1", "id", "secret"))
EVSE = EvseSettings(1, "P-07", phases=3)

values = st.none() | st.sampled_from([0.0, 1.0, 5e4, 1e12, 1e300, -1e300]) | st.floats()
threes = st.tuples(values, values, values)
contexts = st.sampled_from(["Sample.Periodic", "Sample.Clock", "Transaction.Begin", "Transaction.End"])
clocks = st.none() | st.sampled_from([0.0, -0.0004, -59.0, -61.0, -299.0, -5000.0, 61.0, 1e9, -T])
readings = st.tuples(clocks, st.builds(Reading, st.none(), values, values, threes, threes, values, st.none(), contexts))
waits = st.sampled_from([0.0, 0.0003, 1.0, 30.0, 61.0, 400.0, 2000.0, -0.5])


def written(told: Measurement) -> str:
    """As the store would have it; ValueError for what is no number."""
    record = CODEC.measurement(
        Key("acme", "CS-7"),
        "hq",
        EVSE,
        at=told.at,
        energy_wh=told.energy_wh,
        power_w=told.power_w,
        soc_percent=told.soc_percent,
        currents_a=told.currents_a,
        voltages_v=told.voltages_v,
    )
    return json.dumps(record.body, allow_nan=False)


@given(st.lists(st.tuples(waits, readings | st.sampled_from(["idle", "busy", "urgent", "closed"])), max_size=30), st.floats(0, 1))
@effort(max_examples=200, deadline=None)
def test_what_is_told_is_numbers_each_moment_once_and_when_announced(
    story: list[tuple[float, tuple[float | None, Reading] | str]], fraction: float
) -> None:
    feed, mono, step = Feed([1]), 0.0, fraction
    present: list[str] = []
    for wait, what in story:
        mono, step = mono + max(0.0, wait), step + min(0.0, wait)  # a negative wait: our clock is set back
        now = Instant(mono, T + mono + step)
        wake = feed.wake_at
        if isinstance(what, tuple):
            shift, reading = what
            at = None if shift is None else now.wall + shift
            feed.metered(1, Reading(at, *(getattr(reading, name) for name in list(Reading.__slots__)[1:])), now)
        elif what == "closed":
            feed.link_closed()
        elif what == "idle":
            feed.idle(1, now)
        elif what == "busy":
            feed.busy(1, now)
        else:
            getattr(feed, what)(1)
        wake = feed.wake_at
        late = {text(each.at) for asset in feed._assets.values() for each in asset.late}
        told = feed.due(now)
        if what != "urgent":  # of an old value there is nothing to be said, urgent or not
            assert bool(told) == (wake is not None and wake <= now.mono), "wake_at says exactly when"
        assert feed.due(now) == (), "said is said"
        assert feed.wake_at is None or feed.wake_at > now.mono
        for each in told:
            assert isfinite(each.energy_wh)
            assert isfinite(each.power_w)
            assert written(each)
        present += [text(each.at) for each in told if text(each.at) not in late]
    assert present == sorted(set(present)), "forwards, and no two for one moment"


def test_half_a_millisecond_is_not_two_moments() -> None:
    """The engine knows a measurement by its asset and its time in milliseconds: two of one would be stored once."""
    for thousandth in range(1000):
        feed, at = Feed([1]), T + thousandth / 1000 + 0.0005
        feed.metered(1, Reading(None, energy_wh=1.0, power_w=1.0), Instant(0.0, at))
        first = feed.due(Instant(0.0, at))
        feed.urgent(1)
        second = feed.due(Instant(0.0, at))
        assert text(first[0].at) < text(second[0].at)


@pytest.mark.parametrize("energy", [float("nan"), float("inf"), 1e13, -1e13])
def test_what_no_meter_can_say_is_not_heard(energy: float) -> None:
    feed = Feed([1])
    feed.metered(1, Reading(T, energy_wh=energy, power_w=1.0), Instant(0.0, T))
    assert feed.latest() == {1: (None, None)}
    assert feed.wake_at is None


def test_a_cars_charge_vouches_for_no_power() -> None:
    feed = Feed([1])
    feed.metered(1, Reading(T, energy_wh=1000.0, power_w=7000.0), Instant(0.0, T))
    said = list[float]()
    for n in range(0, 40):
        now = Instant(n * 100.0, T + n * 100.0)
        feed.metered(1, Reading(now.wall, soc_percent=20.0 + n), now)
        said += [now.mono for _ in feed.due(now)]
    assert said[-1] == 900.0
    feed.metered(1, Reading(T + 4000, energy_wh=2000.0, power_w=6000.0), Instant(4000.0, T + 4000))
    assert [(told.power_w, told.soc_percent) for told in feed.due(Instant(4000.0, T + 4000))] == [(6000.0, 59.0)]


def test_a_new_meter_does_not_give_back_what_the_old_one_counted() -> None:
    feed = Feed([1])
    for n, energy in enumerate((51_000.0, 51_100.0, 5.0, 6.0, 106.0)):
        feed.metered(1, Reading(T + 60 * n, energy_wh=energy), Instant(60.0 * n, T + 60 * n))
        _, power = feed.latest()[1]
        assert power is None or power >= 0.0
    assert feed.latest() == {1: (106.0, 6000.0)}
