"""One bucket of meter values in, one reading out: the recipe, sample by sample."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.observations import Reading
from broker.ocpp import samples

AT = "2026-01-10T12:00:00Z"
NOON = 1768046400.0


def sample(
    measurand: str | None = None, value: Any = "1", phase: str | None = None, unit: str | None = None, **more: Any
) -> dict[str, Any]:
    given = {"value": value, "measurand": measurand, "phase": phase, "unit": unit, **more}
    return {name: what for name, what in given.items() if what is not None}


def bucket(*sampled: Any, at: Any = AT) -> dict[str, Any]:
    return {"timestamp": at, "sampledValue": list(sampled)}


def read(*sampled: Any) -> Reading:
    (reading,) = samples.readings([bucket(*sampled)])
    return reading


def energy(value: Any = "1000", **more: Any) -> float | None:
    return read(sample("Energy.Active.Import.Register", value, **more), sample("Voltage", 1)).energy_wh


AMPS, VOLTS, WATTS = "Current.Import", "Voltage", "Power.Active.Import"


# ------------------------------------------------------------------------------------------------ defaults, units, numbers


def test_a_bare_value_is_the_register_in_wh() -> None:
    assert samples.readings([bucket({"value": "12345"})]) == (Reading(NOON, energy_wh=12345.0),)


@pytest.mark.parametrize(
    ("value", "more", "wh"),
    [
        ("12.345", {"unit": "kWh"}, 12345.0),
        ("12.345", {"unit": "KWH "}, 12345.0),
        (12.345, {"unitOfMeasure": {"unit": "kWh"}}, 12345.0),
        (12.345, {"unitOfMeasure": {"unit": "kWh", "multiplier": 0}}, 12345.0),
        (123, {"unitOfMeasure": {"multiplier": 2}}, 12300.0),
        (12345, {"unitOfMeasure": {"unit": "Wh", "multiplier": -1}}, 1234.5),
        (12345, {"unitOfMeasure": {"unit": "Wh", "multiplier": None}}, 12345.0),
        (" 1 234.5 ", {}, 1234.5),
        ("1\u00a0234", {}, 1234.0),
        ("230,5", {}, 230.5),
        ("0,125", {}, 0.125),
        ("12345,678", {}, 12345.678),
        ("+5", {}, 5.0),
        (".5", {}, 0.5),
        ("1.5E3", {}, 1500.0),
        ("7\x00", {}, 7.0),
        (0, {}, 0.0),
    ],
)
def test_numbers_and_units_as_stations_write_them(value: Any, more: dict[str, Any], wh: float) -> None:
    assert energy(value, **more) == pytest.approx(wh)


@pytest.mark.parametrize(
    ("value", "more"),
    [
        ("1,234", {}),  # a thousand or one and a bit
        ("1,234,567", {}),
        ("1.234,5", {}),
        ("NaN", {}),
        ("inf", {}),
        ("1_000", {}),
        ("0x10", {}),
        ("", {}),
        ("٣", {}),
        (math.nan, {}),
        (math.inf, {}),
        (10**400, {}),
        ("1e999", {}),
        (1e308, {"unit": "kWh"}),
        (1, {"unitOfMeasure": {"multiplier": 400}}),
        (1, {"unitOfMeasure": {"multiplier": "x"}}),
        (True, {}),
        (None, {}),
        ([1], {}),
        ("5", {"unit": "A"}),  # an ampere is no energy
        ("5", {"unit": "kvarh"}),
        ("4F434D46", {"format": "SignedData"}),
        ("123456", {"format": "SignedData"}),
        ('OCMF|{"FV":"1.0"}|{}', {}),
    ],
)
def test_what_is_no_number_or_in_no_unit_of_its_own_is_left_out(value: Any, more: dict[str, Any]) -> None:
    assert energy(value, **more) is None


def test_a_signed_blob_beside_a_number_does_not_hide_it() -> None:
    signed = {"signedMeterData": "b2NtZg==", "encodingMethod": "OCMF", "signingMethod": "", "publicKey": ""}
    assert energy(4711, signedMeterValue=signed) == 4711


def test_kilowatts_milliamperes_and_percent() -> None:
    reading = read(sample(WATTS, "11.04", unit="kW"), sample(AMPS, "16000", "L1", "mA"), sample("SoC", "54", unit="Percent", location="EV"))
    assert reading.power_w == pytest.approx(11040)
    assert (reading.currents_a, reading.soc_percent) == ((16, None, None), 54)


@pytest.mark.parametrize(("value", "soc"), [("0", 0), ("100", 100), ("100.5", None), ("-1", None)])
def test_a_state_of_charge_is_a_percentage(value: str, soc: float | None) -> None:
    assert read(sample("SoC", value), sample(VOLTS, 1)).soc_percent == soc


def test_2_1_s_displayed_state_of_charge_serves_where_there_is_no_other() -> None:
    assert read(sample("Display.PresentSOC", 61)).soc_percent == 61
    assert read(sample("SoC", 60), sample("Display.PresentSOC", 61)).soc_percent == 60


# ------------------------------------------------------------------------------------------------ phases


@pytest.mark.parametrize("n", ["", "-N"])
def test_phases_with_and_without_n(n: str) -> None:
    reading = read(
        *(sample(AMPS, a, f"L{p}{n}") for p, a in ((1, 16), (2, 15), (3, 14))), *(sample(VOLTS, 230 + p, f"L{p}{n}") for p in (1, 2, 3))
    )
    assert reading.currents_a == (16, 15, 14)
    assert reading.voltages_v == (231, 232, 233)
    assert reading.power_w == pytest.approx(16 * 231 + 15 * 232 + 14 * 233)


def test_the_neutral_counts_for_nothing() -> None:
    assert read(sample(AMPS, 10, "L1"), sample(AMPS, 10, "N"), sample(VOLTS, 230, "L1-N")).power_w == 2300
    assert samples.readings([bucket(sample(AMPS, 10, "N"))]) == ()


def test_line_to_line_volts_become_line_to_neutral() -> None:
    reading = read(*(sample(VOLTS, 400, pair) for pair in ("L1-L2", "L2-L3", "L3-L1")), sample(AMPS, 10, "L2"))
    assert reading.voltages_v == pytest.approx((230.94, 230.94, 230.94), abs=0.01)
    assert reading.power_w == pytest.approx(2309.4, abs=0.1)
    assert read(sample(VOLTS, 400, "L1-L2"), sample(VOLTS, 229, "L1")).voltages_v == (229, None, None)


def test_power_is_what_the_station_says_then_the_sum_of_phases_then_volts_times_amperes() -> None:
    amperes, volts = sample(AMPS, 10, "L1"), sample(VOLTS, 230, "L1")
    assert read(sample(WATTS, 2222), sample(WATTS, 1111, "L1"), amperes, volts).power_w == 2222
    assert read(sample(WATTS, 1100, "L1"), sample(WATTS, 1100, "L2"), sample(WATTS, 1100, "L3"), amperes, volts).power_w == 3300
    assert read(amperes, volts).power_w == 2300
    assert read(amperes).power_w == 2300, "nominal volts"
    assert read(amperes, sample(VOLTS, 0, "L1")).power_w == 2300, "0 V is not measured"
    assert read(amperes, sample(VOLTS, 240)).power_w == 2400, "one voltage for all"
    assert read(amperes, sample(VOLTS, 400)).power_w == pytest.approx(2309.4, abs=0.1), "line to line"
    assert read(volts).power_w is None


def test_a_power_factor_counts() -> None:
    amperes, volts = sample(AMPS, 10, "L1"), sample(VOLTS, 230, "L1")
    assert read(amperes, volts, sample("Power.Factor", "0.9")).power_w == pytest.approx(2070)
    assert read(amperes, volts, sample("Power.Factor", 90, unit="Percent", phase="L1")).power_w == pytest.approx(2070)
    assert read(amperes, volts, sample("Power.Factor", "0")).power_w == 2300


def test_dc_is_the_product_of_its_two_values() -> None:
    reading = read(sample(VOLTS, 400.0), sample(AMPS, 125.0))
    assert (reading.power_w, reading.currents_a, reading.voltages_v) == (50000, (125, None, None), (400, None, None))


def test_an_overall_current_of_several_phases_is_ambiguous() -> None:
    assert read(sample(AMPS, 10), sample(VOLTS, 230, "L1"), sample(VOLTS, 230, "L2"), sample(VOLTS, 230, "L3")).power_w is None
    assert read(sample(AMPS, 10)).power_w is None
    assert read(sample(AMPS, 10), sample(VOLTS, 230, "L1")).power_w == 2300


def test_an_overall_current_gives_way_to_phases() -> None:
    assert read(sample(AMPS, 48), sample(AMPS, 16, "L1"), sample(AMPS, 16, "L2")).currents_a == (16, 16, None)


def test_a_missing_phase_spoils_a_sum_only_while_it_carries_current() -> None:
    only = (sample(WATTS, 2300, "L1"), sample("Energy.Active.Import.Register", 500, "L1"))
    assert read(*only).power_w == 2300
    assert read(*only).energy_wh == 500
    idle = read(*only, sample(AMPS, 10, "L1"), sample(AMPS, 0.2, "L2"), sample(AMPS, 0, "L3"))
    assert (idle.power_w, idle.energy_wh) == (2300, 500)
    used = read(*only, sample(AMPS, 10, "L1"), sample(AMPS, 10, "L2"), sample(AMPS, 10, "L3"))
    assert (used.power_w, used.energy_wh) == (6900, None)


def test_energy_per_phase_is_summed() -> None:
    assert read(*(sample(None, 1000 * p, f"L{p}", "Wh") for p in (1, 2, 3))).energy_wh == 6000
    assert read(sample(None, 7000), *(sample(None, 1000 * p, f"L{p}", "Wh") for p in (1, 2, 3))).energy_wh == 7000


def test_what_is_fed_back_is_subtracted() -> None:
    export = "Power.Active.Export"
    assert read(sample(WATTS, 0), sample(export, 5000)).power_w == -5000
    assert read(sample(WATTS, 7000), sample(export, 0)).power_w == 7000
    assert read(sample(export, 5000), sample(AMPS, 22, "L1")).power_w == -5000
    assert read(sample(export, 0), sample(AMPS, 10, "L1")).power_w == 2300
    assert samples.readings([bucket(sample(export, 0))]) == ()


def test_what_is_offered_is_a_limit() -> None:
    assert read(sample("Current.Offered", "16")).offered_a == 16
    assert read(sample("Current.Offered", 10, "L1"), sample("Current.Offered", 0, "L2")).offered_a == 10
    assert read(sample("Current.Import.Offered", 20)).offered_a == 20
    assert samples.readings([bucket(sample("Power.Offered", "11000"))]) == ()


# ------------------------------------------------------------------------------------------------ places and moments


def test_the_outlet_is_preferred_and_anything_else_better_than_nothing() -> None:
    inlet, outlet = sample(WATTS, 9000, location="Inlet"), sample(WATTS, 7000, location="Outlet")
    assert read(inlet, outlet).power_w == read(outlet, inlet).power_w == read(inlet, sample(WATTS, 7000)).power_w == 7000
    assert read(inlet).power_w == 9000
    assert read(sample(WATTS, 1, location="Elsewhere")).power_w == 1
    assert read(sample(WATTS, 9000, location="Inlet"), sample(WATTS, 1, "N", location="Outlet")).power_w == 9000
    assert read(sample(AMPS, 5, "L1", location="Inlet"), sample(AMPS, 4, "L2", location="Outlet")).currents_a == (None, 4, None)


def test_values_of_one_moment_are_one_reading_however_they_are_packed() -> None:
    packed = [bucket(sample(WATTS, 2300)), bucket(sample(AMPS, 10, "L1"), at="2026-01-10T13:00:00+01:00")]
    assert samples.readings(packed) == (Reading(NOON, power_w=2300, currents_a=(10, None, None)),)


def test_moments_stay_in_the_order_in_which_they_came() -> None:
    later = bucket(sample(WATTS, 2), at="2026-01-10T12:01:00Z")
    assert [r.power_w for r in samples.readings([later, bucket(sample(WATTS, 1))])] == [2, 1]


def test_contexts_stay_apart_and_are_kept() -> None:
    begin, end = sample(None, 100, context="Transaction.Begin"), sample(None, 900, context="Transaction.End")
    assert samples.readings([bucket(begin, end)]) == (
        Reading(NOON, energy_wh=100, context="Transaction.Begin"),
        Reading(NOON, energy_wh=900, context="Transaction.End"),
    )


def test_moments_nobody_can_read_are_not_thrown_together() -> None:
    assert samples.readings([bucket(sample(WATTS, 1), at=""), bucket(sample(WATTS, 2), at=7)]) == (
        Reading(None, power_w=1),
        Reading(None, power_w=2),
    )


def test_a_bare_object_instead_of_an_array() -> None:
    assert samples.readings({"timestamp": AT, "sampledValue": sample(WATTS, 5)}) == (Reading(NOON, power_w=5),)


@pytest.mark.parametrize(
    "nothing", [None, [], {}, "x", 5, [None], [[]], [{}], [bucket()], [bucket(None, [], "x")], [bucket(sample("Frequency", 50))]]
)
def test_nothing_usable_is_no_reading(nothing: Any) -> None:
    assert samples.readings(nothing) == ()


def test_the_last_of_two_equal_values_counts() -> None:
    assert read(sample(WATTS, 1), sample(WATTS, 2)).power_w == 2


def test_measurands_whatever_their_case() -> None:
    assert read(sample("power.active.IMPORT ", 5)).power_w == 5


def test_the_register_of_a_context_is_found() -> None:
    found = samples.readings([bucket(sample(WATTS, 1)), bucket(sample(None, 5), at=""), bucket(sample(None, 7, context="Transaction.End"))])
    assert samples.first_energy(found, "Transaction.End") == 7
    assert samples.first_energy(found, "Transaction.Begin") == 5
    assert samples.first_energy((), "Transaction.Begin") is None


# ------------------------------------------------------------------------------------------------ for everything there is

rubbish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6), lambda inner: st.lists(inner, max_size=3)
)
names = st.sampled_from(
    ["", "SoC", "Voltage", AMPS, WATTS, "Power.Active.Export", "Power.Factor", "Current.Offered", "Energy.Active.Import.Register"]
)
phases = st.sampled_from(["", "L1", "L2", "L3", "N", "L1-N", "L2-N", "L1-L2", "L3-L1"])
values = st.floats() | st.floats().map(str) | st.integers() | rubbish
units = st.sampled_from(["Wh", "kWh", "W", "kW", "A", "V", "%"]) | rubbish
odd_samples = st.fixed_dictionaries(
    {"value": values},
    optional={
        "measurand": names | rubbish,
        "phase": phases | rubbish,
        "unit": units,
        "unitOfMeasure": st.fixed_dictionaries({}, optional={"unit": units, "multiplier": st.integers(-400, 400) | rubbish}) | rubbish,
        "location": st.sampled_from(["Inlet", "EV", "Outlet"]) | rubbish,
        "context": rubbish,
        "format": rubbish,
    },
)
odd_meter_values = st.lists(
    st.fixed_dictionaries({"sampledValue": st.lists(odd_samples | rubbish, max_size=8)}, optional={"timestamp": st.just(AT) | rubbish})
    | rubbish,
    max_size=4,
)


@given(odd_meter_values)
@settings(max_examples=200)
def test_no_meter_value_raises_or_yields_what_is_no_number(meter_value: Any) -> None:
    for reading in samples.readings(meter_value):
        said = [reading.energy_wh, reading.power_w, reading.soc_percent, reading.offered_a, *reading.currents_a, *reading.voltages_v]
        numbers = [value for value in said if value is not None]
        assert numbers, "a reading that says nothing"
        assert all(math.isfinite(value) for value in numbers)
