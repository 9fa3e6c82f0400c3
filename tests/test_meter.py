"""One meter, reading after reading: which register and which power it comes to. When they are told is in test_feed."""

from __future__ import annotations

from typing import Any

import pytest

from broker.meter import DERIVE_S, HOLD_POWER_S, MOST, Line, plausible
from broker.model.observations import Reading

AMPS, VOLTS = (16.0, 15.0, 14.0), (230.0, 231.0, 229.0)


def line(*said: tuple[float, Any], **begins: Any) -> Line:
    """(when, the register, or a whole reading)."""
    one = Line(**begins)
    for at, what in said:
        one.read(what if isinstance(what, Reading) else Reading(at, energy_wh=what), at)
    return one


def test_power_that_the_meter_says_counts_with_its_currents() -> None:
    one = line((100.0, Reading(100.0, 5000.0, 7000.0, AMPS, VOLTS)))
    assert (one.at, one.energy_wh, one.power_w, one.power_at) == (100.0, 5000.0, 7000.0, 100.0)
    assert (one.currents_a, one.voltages_v, one.assumed) == (AMPS, VOLTS, False)


def test_power_is_what_the_register_gained_over_ten_seconds_at_least() -> None:
    assert line((0.0, 1000.0), (DERIVE_S - 1, 1010.0)).power_w is None
    assert line((0.0, 1000.0), (DERIVE_S, 1020.0)).power_w == 7200.0
    still = line((0.0, 1000.0), (DERIVE_S, 1000.0))
    still.flows(12.0)
    assert still.power_w == 0.0, "the meter said so, not a status"
    assert line((1000.0, 1000.0), (1010.0, 1020.0), (1015.0, 1035.0)).power_w == 7200.0, "counted anew after ten seconds"
    assert line((0.0, 1000.0), (4.0, 1010.0), (12.0, 1024.0)).power_w == 7200.0, "counted from the first, not from the one between"


def test_power_that_was_said_holds_for_a_minute_and_is_then_what_the_register_gained() -> None:
    said = (0.0, Reading(0.0, 1000.0, 7000.0, AMPS, VOLTS))
    held = line(said, (HOLD_POWER_S, 1060.0))
    assert (held.power_w, held.currents_a) == (7000.0, AMPS)
    derived = line(said, (HOLD_POWER_S + 1, 1061.0))
    assert derived.power_w == pytest.approx(3600.0)
    assert derived.currents_a == (None, None, None), "the currents were of another power"


def test_a_register_that_falls_back_is_the_next_car_s_or_a_new_meter_s() -> None:
    session = Reading(50.0, 3.0, context="Transaction.Begin")
    assert line((0.0, 1000.0), (50.0, session)).energy_wh == 1000.0
    assert line((0.0, 1000.0), (50.0, 3.0)).energy_wh == 1000.0, "said once"
    assert line((0.0, 1000.0), (50.0, 3.0), (60.0, 4.0)).energy_wh == 4.0
    assert line((0.0, 1000.0), (50.0, 3.0), (60.0, 3.0)).energy_wh == 3.0
    assert line((0.0, 1000.0), (50.0, 3.0), (60.0, 2.0)).energy_wh == 1000.0, "lower still: no meter counts so"
    assert line((0.0, 1000.0), (50.0, 3.0), (60.0, 1000.0), (70.0, 4.0)).energy_wh == 1000.0, "it had come back meanwhile"


def test_a_reading_without_a_register_changes_nothing_of_it() -> None:
    one = line((0.0, 1000.0), (50.0, 3.0), (55.0, Reading(55.0, power_w=0.0)), (60.0, 4.0))
    assert one.energy_wh == 4.0, "the lower one still counts as said once"


@pytest.mark.parametrize("context", ["Transaction.Begin", "Transaction.End"])
def test_nothing_flows_at_a_begin_or_an_end_until_the_register_says_otherwise(context: str) -> None:
    boundary = (0.0, Reading(0.0, 1000.0, context=context))
    assert (line(boundary).power_w, line(boundary).assumed) == (0.0, True)
    assert line(boundary, (5.0, 1000.0)).power_w == 0.0
    assert line(boundary, (5.0, 1001.0)).power_w is None, "something does flow; how much, nobody knows yet"
    assert line(boundary, (DERIVE_S, 1020.0)).power_w == 7200.0
    still = line(boundary, (DERIVE_S, 1000.0))
    assert (still.power_w, still.assumed) == (0.0, True)


def test_a_status_s_zero_holds_until_the_register_gains_from_then_on() -> None:
    one = line((0.0, Reading(0.0, 1000.0, 7000.0)))
    one.stands(30.0)
    assert (one.power_w, one.assumed) == (0.0, True)
    one.read(Reading(40.0, 1080.0), 40.0)
    assert one.power_w == 0.0, "what is in it may have flowed before"
    one.read(Reading(45.0, 1081.0), 45.0)
    assert one.power_w is None


def test_a_status_that_power_flows_ends_only_what_was_assumed() -> None:
    said = line((0.0, Reading(0.0, 1000.0, 7000.0, AMPS)))
    said.flows(5.0)
    assert (said.power_w, said.currents_a) == (7000.0, AMPS)
    assumed = line((0.0, Reading(0.0, 1000.0, context="Transaction.Begin")))
    assumed.flows(5.0)
    assert (assumed.power_w, assumed.assumed, assumed.base) == (None, False, (5.0, 1000.0))
    assumed.read(Reading(14.0, 1009.0), 14.0)
    assert assumed.power_w is None, "counted from when it began to flow"
    assumed.read(Reading(15.0, 1020.0), 15.0)
    assert assumed.power_w == 7200.0


@pytest.mark.parametrize("field", ["energy_wh", "power_w", "soc_percent", "currents_a", "voltages_v"])
def test_what_no_meter_can_have_said(field: str) -> None:
    def said(value: float | None) -> Reading:
        return Reading(0.0, **{field: (None, None, value) if field.endswith(("_a", "_v")) else value})

    assert plausible(said(MOST))
    assert plausible(said(-MOST))
    assert plausible(said(None))
    assert not any(map(plausible, map(said, (MOST * 1.01, -MOST * 1.01, float("nan"), float("inf")))))
