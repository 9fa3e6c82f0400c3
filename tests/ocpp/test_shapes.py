"""The quick reader and the careful one are shown the same frames: whatever the quick one dares to answer, they say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.model.basics import Instant
from broker.model.observations import Metered, Reading
from broker.model.traffic import Exchange
from broker.ocpp import samples, shapes, times, v16, v201
from broker.ocpp.dialects import BY_NAME
from broker.ocpp.exchanges import observe

NOW = Instant(5.0, 1_768_046_400.0)
AT = "2026-01-10T12:00:00Z"

MEASURANDS = [
    "Energy.Active.Import.Register", "Power.Active.Import", "Power.Active.Export", "Power.Factor", "Current.Import", "Current.Offered",
    "Voltage", "SoC", "Display.PresentSOC", "Temperature", "power.active.import", "Energy.Active.Import.Interval", "",
]  # fmt: skip
UNITS = ["Wh", "kWh", "W", "kW", "A", "mA", "V", "kV", "Percent", "%", "Celsius", "K W h", "", "x" * 60]
PHASES = ["L1", "L2", "L3", "L1-N", "L2-N", "L3-N", "L1-L2", "L2-L3", "L3-L1", "N", "", " l1"]
values = st.one_of(
    st.floats(-1e5, 1e5).map(lambda value: f"{value:.2f}"),
    st.integers(-10, 400),
    st.floats(-1e4, 1e4),
    st.sampled_from(
        ["", "nan", "inf", "-Infinity", "1e400", "1e308", 1e308, "1_0", " 7", "7 ", "7,5", "1,234", "+5", ".5", "5.", "-0", "007", None,
         True, [], {}, "0x10", "\u0663", "1e3", "1\0", 10**400]
    ),
)  # fmt: skip
odd = st.sampled_from([None, 7, True, [], {}, "\ud800", "x" * 300, " \t", "Wh\0"])


def word(*usual: str) -> st.SearchStrategy[Any]:
    return st.one_of(*[st.sampled_from(usual)] * 15, odd)


unit_of_measure = st.one_of(
    st.fixed_dictionaries({}, optional={"unit": word(*UNITS), "multiplier": st.sampled_from([0, 0, 0, 3, -3, "3", 1.0, 400, None])}), odd
)
odd_samples = st.fixed_dictionaries(
    {"value": values},
    optional={
        "measurand": word(*MEASURANDS), "unit": word(*UNITS), "phase": word(*PHASES), "format": word("Raw", "SignedData"),
        "location": word("Outlet", "Inlet", "EV", "Body", "Cable", "Upstream", "Elsewhere"), "unitOfMeasure": unit_of_measure,
        "context": word("Sample.Periodic", "Sample.Clock", "Transaction.Begin", "Transaction.End", "Other"), "vendor": odd,
    },
)  # fmt: skip


@st.composite
def plain_samples(draw: st.DrawFn) -> list[dict[str, Any]]:
    """As a meter says them: for each measurand in its unit the whole, some phases, or both."""
    said: list[dict[str, Any]] = []
    kinds = [("Energy.Active.Import.Register", ["Wh", "kWh"]), ("Power.Active.Import", ["W", "kW"]), ("Current.Import", ["A"]),
             ("Voltage", ["V"]), ("SoC", ["Percent", ""]), ("Current.Offered", ["A"]), ("Temperature", ["Celsius"])]  # fmt: skip
    for measurand, units in draw(st.lists(st.sampled_from(kinds), min_size=1, unique_by=lambda kind: kind[0])):
        unit = draw(st.sampled_from(units))
        for phase in draw(
            st.sampled_from([[""], ["L1", "L2", "L3"], ["L1"], ["L1-N", "L2-N", "L3-N"], ["", "L1", "L2", "L3"], ["L2", "L3"]])
        ):
            value = draw(st.one_of(st.integers(0, 300).map(str), st.floats(-50, 500).map(lambda value: f"{value:.1f}"), values))
            said.append({"value": value, "measurand": measurand, "unit": unit, **({"phase": phase} if phase else {})})
    return said


moments = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": st.one_of(st.just(AT), st.just(AT), st.sampled_from(["2026-01-10T12:01:00.1Z", "2026-01-10 12:00", "", "now"]), odd),
        "sampledValue": st.one_of(plain_samples(), plain_samples(), st.lists(odd_samples, max_size=9), odd, odd_samples),
    },
)  # fmt: skip
meter_values = st.one_of(st.lists(moments, max_size=3), st.lists(moments, max_size=3), moments, odd)


@settings(max_examples=400, deadline=None)
@given(meter_values)
@example([{"timestamp": AT, "sampledValue": [{"value": "7", "measurand": "Power.Active.Import", "phase": "L1"},
                                             {"value": "9", "measurand": "Current.Import", "phase": "L2"}]}])  # fmt: skip
@example([{"timestamp": AT, "sampledValue": [{"value": "1e308", "phase": "L1", "measurand": "Power.Active.Import"},
                                             {"value": "1e308", "phase": "L2", "measurand": "Power.Active.Import"}]}])  # fmt: skip
@example([{"timestamp": AT, "sampledValue": [{"value": "3"}]}, {"timestamp": "2026-01-10T12:00:00.0Z", "sampledValue": [{"value": "4"}]}])
def test_both_readers_say_the_same(said: Any) -> None:
    careful = samples.readings(said)
    for _ in range(2):  # learnt, and known
        assert shapes.readings(said) == careful
    shapes._known.clear()


envelope = st.sampled_from(
    ['[2,"1","MeterValues",%s]', '[2, "1" , "MeterValues",\n%s ]', '[6,"1","MeterValues",%s]', '[2.0,"1","MeterValues",%s]',
     '["2","1","MeterValues",%s]', '[2,1,"MeterValues",%s]', '[2,"1","MeterValues",%s,{}]', '[3,"1",%s]', '[2,"1","MeterValues",%s',
     "\ufeff" + '[2,"1","MeterValues",%s]']
)  # fmt: skip
places = st.one_of(st.integers(0, 3), st.sampled_from(["1", "1.0", 1.0, -1, 2**31, 2**64, True, None, " 1", "one"]))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["ocpp1.6", "ocpp2.0.1"]), envelope, places, places, meter_values, st.booleans())
def test_both_readers_of_a_frame_say_the_same(version: str, frame: str, place: Any, transaction: Any, said: Any, twice: bool) -> None:
    call = {"connectorId": place, "evseId": place, "meterValue": said, "transactionId": transaction}
    text = json.dumps(call)
    if twice:  # the last one counts
        text = '{"meterValue":[],' + text[1:]
    exchange = Exchange("station", "MeterValues", (frame % text).encode(), None, 0, None)
    dialect = BY_NAME[version]
    readers = v16._READERS if version == "ocpp1.6" else v201._READERS
    assert outcome(lambda: dialect.observe(exchange, NOW)) == outcome(lambda: observe(exchange, readers, dialect.charging))


def outcome(ask: Any) -> Any:
    try:
        return ask()
    except ValueError:
        return "not to be read"


# ---------------------------------------------------------------- that it is quick where it should be


def sampled(*said: tuple[Any, ...]) -> list[dict[str, Any]]:
    names = ("measurand", "value", "unit", "phase")
    return [{"timestamp": AT, "sampledValue": [dict(zip(names, one, strict=False)) for one in said]}]


THREE = [(kind, str(value + n / 10), unit, f"L{n}") for kind, value, unit in
         (("Power.Active.Import", 3680, "W"), ("Current.Import", 16, "A"), ("Voltage", 230, "V")) for n in (1, 2, 3)]  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        sampled(("Energy.Active.Import.Register", "1000", "Wh"), *THREE),
        sampled(("Energy.Active.Import.Register", 1.5, "kWh"), ("Power.Active.Import", 7.2, "kW"), ("SoC", 55, "Percent")),
        sampled(("", "1000")),
        sampled(("Current.Offered", "16", "A"), ("Temperature", "30", "Celsius")),
    ],
)
def test_what_stations_mostly_say_needs_no_careful_reader(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = samples.readings(said)
    assert expected
    monkeypatch.setattr(samples, "readings", None)
    assert shapes.readings(said) == expected
    exchange = Exchange(
        "station", "MeterValues", json.dumps([2, "1", "MeterValues", {"connectorId": 1, "meterValue": said}]).encode(), None, 0, None
    )
    assert BY_NAME["ocpp1.6"].observe(exchange, NOW) == (Metered(1, expected),)


def test_three_phases_of_everything() -> None:
    (reading,) = shapes.readings(sampled(("Energy.Active.Import.Register", "1.5", "kWh"), *THREE))
    assert reading == Reading(1_768_046_400.0, 1500.0, 3680.1 + 3680.2 + 3680.3, (16.1, 16.2, 16.3), (230.1, 230.2, 230.3))


def test_what_is_known_is_bounded_however_many_words_are_made_up() -> None:
    for n in range(3 * shapes.MOST_SHAPES):
        assert shapes.readings(sampled((f"Made.Up.{n}", "1"), ("", "5")))[0].energy_wh == 5.0
        assert len(shapes._known) <= shapes.MOST_SHAPES
    before = len(shapes._known)
    assert shapes.readings(sampled(*[("", "5")] * (shapes.MOST_SAMPLES + 1)))[0].energy_wh == 5.0
    assert shapes.readings(sampled(("x" * 100, "1"), ("", "5")))[0].energy_wh == 5.0
    assert len(shapes._known) == before
    shapes._known.clear()


def test_minutes_are_known_once_and_not_for_ever() -> None:
    for n in range(2 * times._MOST_MINUTES):
        assert times.parse(f"2026-01-10T{n // 60 % 24:02}:{n % 60:02}:30.5Z") == 1_768_003_200.0 + 60 * n % 86400 + 30.5
        assert len(times._minutes) <= times._MOST_MINUTES
    assert times.parse("2026-02-30T12:00:00Z") is None


@settings(max_examples=300, deadline=None)
@given(
    st.datetimes(),
    st.sampled_from(["", ".1", ".123", ".000001", ".123456789012345678"]),
    st.sampled_from(["Z", "z", "", "+00:00", "-03", "Z "]),
)
def test_the_usual_time_is_read_as_any_other(moment: Any, fraction: str, zone: str) -> None:
    text = f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + fraction + zone
    assert times.parse(text) == times._parse(text)


@pytest.mark.parametrize("multiplier", [3, -3, "3", 1.0, 400])
def test_a_power_of_ten_is_never_passed_over(multiplier: Any) -> None:
    said = [{"timestamp": AT, "sampledValue": [{"value": 7, "unitOfMeasure": {"unit": "Wh", "multiplier": multiplier}}, {"value": 5}]}]
    assert shapes.readings(said) == samples.readings(said)
    assert shapes.readings(said)[0].energy_wh == 5.0
    assert shapes.readings([{"sampledValue": said[0]["sampledValue"][:1]}]) == samples.readings(
        [{"sampledValue": said[0]["sampledValue"][:1]}]
    )


def test_a_unit_of_2_x_counts_like_one_of_1_6() -> None:
    said = [{"timestamp": AT, "sampledValue": [{"value": 1.5, "unitOfMeasure": {"unit": "kWh", "multiplier": 0}}]}]
    assert shapes.readings(said) == samples.readings(said)
    assert shapes.readings(said)[0].energy_wh == 1500.0
