"""What the words of a sample mean, and that what is kept of them has a bound. What follows for readings is in test_samples."""

from __future__ import annotations

from typing import Any

import pytest

from broker.ocpp import measurands
from broker.ocpp.measurands import Meaning, Quantity, meaning_of, understood

PLAIN = Meaning("energy", 1.0, 0, "", "Sample.Periodic")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[Any, ...], Meaning]:
    """Nothing is known yet, and others learn nothing from here."""
    kept: dict[tuple[Any, ...], Meaning] = {}
    monkeypatch.setattr(measurands, "_known", kept)
    return kept


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (("", "", "", "", "", ""), PLAIN),
        (("energy.active.import.register", "kWh", "", "", "", ""), PLAIN._replace(factor=1000.0)),
        (("Power.Active.Import", "k W", "l1 - n", "Outlet", "Raw", "Trigger"), Meaning("power", 1000.0, 0, "L1-N", "Trigger")),
        (("Current.Import", "mA", "", "Inlet", "", ""), Meaning("current", 0.001, 2, "", "Sample.Periodic")),
        (("Power.Active.Import", "", "", "", "", ""), Meaning("power", 1.0, 0, "", "Sample.Periodic")),
        (("Current.Import", "", "L2", "Cable", "", ""), Meaning("current", 1.0, 1, "L2", "Sample.Periodic")),
        (("SoC", "", "", "", "", ""), Meaning("soc", 1.0, 0, "", "Sample.Periodic")),
        (("Power.Factor", "", "", "", "", ""), Meaning("factor", 1.0, 0, "", "Sample.Periodic")),
        (("Power.Active.Export", "W", "", "Body", "", ""), Meaning("export", 1.0, 4, "", "Sample.Periodic")),
        (("Current.Import.Offered", "A", "", "", "", ""), Meaning("offered", 1.0, 0, "", "Sample.Periodic")),
        (("Voltage", "kV", "", "", "", ""), Meaning("voltage", 1000.0, 0, "", "Sample.Periodic")),
        (("Voltage", "", "", "nowhere", "", ""), Meaning("voltage", 1.0, 6, "", "Sample.Periodic")),
        (("Current.Offered", "A", "", "Upstream", "", ""), Meaning("offered", 1.0, 5, "", "Sample.Periodic")),
        (("SoC", "%", "", "EV", "", ""), Meaning("soc", 1.0, 0, "", "Sample.Periodic")),
        (("Display.PresentSOC", "Percent", "", "EV", "", ""), Meaning("shown soc", 1.0, 0, "", "Sample.Periodic")),
        (("Power.Factor", "%", "", "", "", ""), Meaning("factor", 0.01, 0, "", "Sample.Periodic")),
    ],
)
def test_words(words: tuple[str, str, str, str, str, str], meaning: Meaning) -> None:
    assert understood(*words) == meaning


@pytest.mark.parametrize(
    "words",
    [
        ("Temperature", "Celsius", "", "", "", ""),  # no use to us
        ("Energy.Active.Import.Register", "J", "", "", "", ""),  # a unit that it does not have
        ("Power.Active.Import", "Wh", "", "", "", ""),
        ("Voltage", "V", "", "", "SignedData", ""),  # a blob
    ],
)
def test_what_is_passed_over_still_has_its_context(words: tuple[str, str, str, str, str, str]) -> None:
    assert understood(*words).kind == ""
    assert understood(*words).context == "Sample.Periodic"


def test_the_unit_of_2_x_goes_first_and_one_beside_it_counts_where_it_says_none() -> None:
    assert meaning_of({"unitOfMeasure": {"unit": "kWh"}, "unit": "Wh"}).factor == 1000.0
    assert meaning_of({"unitOfMeasure": {"multiplier": 3}, "unit": "kWh"}).factor == 1000.0
    assert meaning_of({"unitOfMeasure": "kWh", "unit": "Wh"}).factor == 1.0


def test_each_combination_is_understood_once(known: dict[tuple[Any, ...], Meaning]) -> None:
    first = meaning_of({"measurand": "Voltage", "value": "230"})
    assert meaning_of({"measurand": "Voltage", "value": "231"}) is first
    assert list(known.values()) == [first]


@pytest.mark.parametrize("odd", [["Voltage"], {"is": "Voltage"}, 7, True, "V" * 51])
def test_what_is_no_word_is_not_kept(known: dict[tuple[Any, ...], Meaning], odd: Any) -> None:
    assert meaning_of({"measurand": odd}).factor in (0.0, 1.0)
    assert not known
    meaning_of({"measurand": "V" * 50})
    assert len(known) == 1


def test_no_station_fills_the_memory_with_words(known: dict[tuple[Any, ...], Meaning]) -> None:
    for number in range(1024):
        meaning_of({"context": f"context {number}"})
    assert len(known) == 1024
    assert meaning_of({"context": "one more"}).context == "one more"
    assert len(known) == 1


def test_the_best_location_counts_and_the_last_value_said_there() -> None:
    quantity = Quantity()
    quantity.put(5, "", 1.0)
    quantity.put(5, "L2", 2.0)
    quantity.put(2, "L1", 3.0)
    assert (quantity.whole, quantity.phases) == (None, [3.0, None, None])
    quantity.put(5, "L3", 4.0)
    quantity.put(2, "L1", 5.0)
    quantity.put(2, "L2-N", 6.0)
    quantity.put(2, "L3-L1", 7.0)
    assert (quantity.phases, quantity.pairs, quantity.known()) == ([5.0, 6.0, None], [None, None, 7.0], [5.0, 6.0])


@pytest.mark.parametrize("phase", ["N", "L4", "L1-L3"])
def test_a_phase_that_nobody_knows_takes_no_place_of_another(phase: str) -> None:
    quantity = Quantity()
    quantity.put(3, "L1", 1.0)
    quantity.put(0, phase, 9.0)
    assert (quantity.rank, quantity.whole, quantity.phases, quantity.pairs) == (3, None, [1.0, None, None], [None, None, None])
