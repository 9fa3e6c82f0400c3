"""The engine's schedule and an operator's limit as one: at every moment the lower of the two."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model.schedules import Schedule, Step
from broker.operating import OwnLimit, limit_at, lowers, own_limit, together, wanted
from broker.settings import EvseSettings, StationSettings

EVSE = EvseSettings(1, "socket", 32.0, 3)
STATION = StationSettings("CS", "smart-charging", "hq", "ac", (EVSE, EvseSettings(2, "other", 16.0, 1)))


@st.composite
def schedules(draw: Any) -> Schedule:
    moments = sorted(draw(st.sets(st.integers(0, 50), min_size=1, max_size=6)))
    unit = draw(st.sampled_from(["A", "W"]))
    steps = tuple(Step(float(at), draw(st.integers(0, 40)) * (690.0 if unit == "W" else 1.0)) for at in moments)
    return Schedule("s1", "socket", 0.0, moments[-1] + float(draw(st.integers(1, 40))), unit, steps)


@given(asked=schedules(), amps=st.integers(0, 40), since=st.integers(0, 60), lasts=st.integers(1, 60))
def test_it_is_the_lower_of_the_two_at_every_moment(asked: Schedule, amps: int, since: int, lasts: int) -> None:
    own = OwnLimit(1, float(amps), float(since), float(since + lasts))
    both = together(asked, own, EVSE)
    assert (both.id, both.unit) == ("s1", asked.unit)
    assert [step.at for step in both.steps] == sorted({step.at for step in both.steps})
    assert both.valid_until == max(asked.valid_until, own.until)
    per_amp = 690.0 if asked.unit == "W" else 1.0
    for half in range(0, 240):
        at = half / 2
        engines = limit_at(asked.steps, at) if at < asked.valid_until else float("inf")
        operators = own.amps * per_amp if own.since <= at < own.until else float("inf")
        lowest = min(engines, operators)
        if at < both.valid_until and lowest < float("inf"):
            assert limit_at(both.steps, at) == lowest
        elif at < both.valid_until and at >= both.steps[0].at:
            assert limit_at(both.steps, at) >= 1000.0  # nobody asks for anything: no limit of ours
    assert (
        lowers(asked, both, 0.0)
        == any(
            limit_at(both.steps, half / 2) < limit_at(asked.steps, half / 2)
            for half in range(0, 240)
            if asked.steps[0].at <= half / 2 < asked.valid_until
        )
        or since < asked.steps[0].at
    )


def test_alone_it_is_a_schedule_of_its_own() -> None:
    own = OwnLimit(1, 8.0, 100.0, 700.0)
    assert together(None, own, EVSE) == Schedule("operator-1-100", "socket", 100.0, 700.0, "A", (Step(100.0, 8.0),))
    assert own_limit(own.fact()) == own


def test_without_an_evse_each_of_them_is_limited() -> None:
    assert wanted({"amps": 8, "for_s": 600}, STATION, 100.0) == (OwnLimit(1, 8.0, 100.0, 700.0), OwnLimit(2, 8.0, 100.0, 700.0))
    assert wanted({"amps": 0, "for_s": 60, "evse": 2}, STATION, 100.0) == (OwnLimit(2, 0.0, 100.0, 160.0),)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (None, "say {"),
        ([], "say {"),
        ({"amps": 8, "for_s": 600, "more": 1}, "say {"),
        ({"for_s": 600}, "amps: must be"),
        ({"amps": "8", "for_s": 600}, "amps: must be"),
        ({"amps": True, "for_s": 600}, "amps: must be"),
        ({"amps": float("nan"), "for_s": 600}, "amps: must be"),
        ({"amps": 10**400, "for_s": 600}, "amps: must be"),
        ({"amps": 8}, "for_s: must be"),
        ({"amps": 8, "for_s": 59}, "for_s: must be"),
        ({"amps": 8, "for_s": 1e9}, "for_s: must be"),
        ({"amps": 8, "for_s": 600, "evse": 3}, "evse: CS has 1, 2"),
        ({"amps": 8, "for_s": 600, "evse": True}, "evse: CS has"),
        ({"amps": 8, "for_s": 600, "evse": "1"}, "evse: CS has"),
    ],
)
def test_what_is_no_limit_is_refused_in_one_line(body: Any, why: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as problem:
        wanted(body, STATION, 0.0)
    assert str(problem.value).startswith(why)
