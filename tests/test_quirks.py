"""What is known of makes of stations narrows what we try with them, and never widens it."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_stations
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_injector import SET, Talk, capability

from broker.config import Mistakes, parse
from broker.makes import KNOWN
from broker.model.observations import Boot, Capabilities
from broker.model.records import Fact
from broker.quirks import Quirks, quirks_of
from broker.settings import ChargingSettings, Quirk

words = st.text(max_size=6)
purposes = st.none() | st.lists(st.sampled_from(["max", "tx", "default"]), unique=True).map(tuple)
numbers = st.none() | st.integers(1, 200)
lines = st.builds(
    Quirk,
    name=words,
    vendor=st.just("*"),
    purposes=purposes,
    top_level=numbers,
    max_periods=numbers,
    unit=st.none() | st.sampled_from(["A", "W"]),
    writes_per_day=numbers,
)
abilities = st.builds(Capabilities, max_stack_level=numbers, max_periods=numbers)


@given(st.lists(lines, max_size=4), abilities, st.floats(60.0, 86_400.0))
def test_quirks_only_narrow(table: list[Quirk], said: Capabilities, lease_s: float) -> None:
    quirks, asked = quirks_of(table, "Acme", "", ""), ChargingSettings(lease_s=lease_s)
    charging, able = quirks.charging(asked), quirks.capabilities(said)
    assert [purpose for purpose in asked.purposes if purpose in charging.purposes] == list(charging.purposes)
    assert charging.write_interval_s >= asked.write_interval_s
    assert asked.lease_s <= charging.lease_s <= max(asked.lease_s, 7200.0)
    for before, after in ((said.max_stack_level, able.max_stack_level), (said.max_periods, able.max_periods)):
        assert before is None or (after is not None and after <= before)
    assert replace(charging, lease_s=0.0, write_interval_s=0.0, purposes=()) == replace(
        asked, lease_s=0.0, write_interval_s=0.0, purposes=()
    )


@pytest.mark.parametrize(
    ("vendor", "model", "firmware", "name"),
    [
        ("ABB", "TAC-W22", "1.6", "ABB Terra AC"),
        ("EASEE AS", "Home", "", "Easee"),
        ("Huawei ", "x", "y", "Huawei FusionCharge"),
        ("Grizzl-E", "Smart", "GWM-03.09", "Grizzl-E"),
    ],
)
def test_who_is_known(vendor: str, model: str, firmware: str, name: str) -> None:
    assert [line.name for line in quirks_of(KNOWN, vendor, model, firmware).lines] == [name]


@pytest.mark.parametrize(("vendor", "firmware"), [("", ""), (" ", ""), ("Unheard-of", ""), ("Grizzl-E", "05.01"), ("Cable & Co", "")])
def test_who_is_not(vendor: str, firmware: str) -> None:
    assert quirks_of((*KNOWN,), vendor, "", firmware) == Quirks()


def test_who_says_no_vendor_fits_no_line_not_even_one_for_all() -> None:
    assert quirks_of((Quirk("all", "*"),), " ", "", "") == Quirks()
    assert quirks_of((Quirk("all", "*"),), "x", "", "") != Quirks()


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        (("ABB ", " Terra AC", "1.2"), True),
        (("abb", "Terra DC", "1.2"), False),
        (("abb", "terra ac", "2.0"), False),
        (("x", "terra ac", "1.2"), False),
    ],
)
def test_a_line_fits_by_all_that_it_names(said: tuple[str, str, str], fits: bool) -> None:
    line = Quirk("one", "*ABB*", model="Terra A*", firmware="1.*")
    assert quirks_of((Quirk("other", "y*"), line), *said).lines == ((line,) if fits else ())


def test_a_daily_budget_of_writes_makes_limits_stand_longer_and_change_seldom() -> None:
    easee = quirks_of(KNOWN, "Easee", "", "").charging(ChargingSettings())
    assert (easee.lease_s, easee.write_interval_s) == (5184.0, 3456.0)
    renewals = 86_400 / (easee.lease_s * 2 / 3)
    assert renewals == pytest.approx(25)


def test_the_operators_line_goes_first() -> None:
    own = Quirk("mine", "*abb*", top_level=3)
    assert quirks_of((own, *KNOWN), "ABB", "", "").capabilities(Capabilities(max_stack_level=8)).max_stack_level == 3


# ---------------------------------------------------------------- at the station


def rungs(talk: Talk, most: int) -> list[tuple[str, int]]:
    said = []
    for _ in range(most):
        if talk.inject is None or talk.inject.action != SET:
            break
        said.append((talk.sent["chargingProfilePurpose"], talk.sent["stackLevel"]))
        talk.hears({"status": "NotSupported"})
    return said


def test_a_station_that_boots_is_known_by_its_make() -> None:
    talk = Talk(baseline="none", facts=(capability(),), purposes=("max", "default"))
    talk.sees(Boot("Accepted", vendor="ABB", model="TAC"))
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.said[-1] == SET, "it need not be asked for its levels: 0 is all it takes"
    assert rungs(talk, 9) == [("ChargePointMaxProfile", 0), ("TxDefaultProfile", 0)]
    assert talk.injector.make["known"][0]["name"] == "ABB Terra AC"


def test_a_restart_knows_the_make_from_the_store() -> None:
    boot = Fact("boot", "boot", {"vendor": "EVBox", "model": "Elvi", "serial": "", "firmware": ""})
    talk = Talk(baseline="none", facts=(capability(), boot))
    talk.live()
    talk.starts("7")
    talk.wants("s1", 16.0)
    talk.waits(11)
    assert talk.sent["chargingProfilePurpose"] == "TxProfile"
    assert talk.sent["stackLevel"] == 6


def test_a_limit_of_a_station_with_a_budget_stands_for_its_longer_lease() -> None:
    boot = Fact("boot", "boot", {"vendor": "Easee"})
    talk = Talk(baseline="none", facts=(capability(), boot))
    talk.live()
    talk.wants("s1", 16.0, valid_s=86_400.0)
    talk.waits(11)
    assert talk.limits[-1] == (5184 + 60, 32.0)
    talk.accepts()
    talk.wants("s2", 20.0, valid_s=86_400.0)
    assert talk.waits(3400) == [], "25 writes a day are one in 3456 s"
    assert talk.waits(100) == [SET]


# ---------------------------------------------------------------- the operator's own

CONFIG = """
[broker]
quirks_file = "mine.toml"
[[listen]]
endpoint = "tcp:9000"
[[tenants]]
name = "acme"
cpms_url = "ws://cpms"
mode = "relay"
"""


def read(own: str) -> Any:
    files = {"/etc/mine.toml": own}

    def contents(path: str) -> str:
        if posixpath.normpath(path) not in files:
            raise FileNotFoundError(2, "No such file or directory")
        return files[path]

    return parse(CONFIG, "/etc/broker.toml", contents, {})


def test_own_lines_are_read() -> None:
    found = read('[[quirks]]\nvendor = "Acme*"\npurposes = ["default", "max"]\ntop_level = 2\nwrites_per_day = 10\nunit = "W"\n')
    assert found.quirks == (Quirk("Acme*", "Acme*", purposes=("max", "default"), top_level=2, writes_per_day=10, unit="W"),)


def test_a_line_may_say_little_or_everything_that_is_allowed() -> None:
    assert read('[[quirks]]\nvendor = "Acme*"\n').quirks == (Quirk("Acme*", "Acme*"),)
    (all_three,) = read('[[quirks]]\nvendor = "A"\npurposes = ["default", "tx", "max"]\n').quirks
    assert all_three.purposes == ("max", "tx", "default")


def test_own_mistakes_are_told_with_their_place() -> None:
    with pytest.raises(Mistakes) as caught:
        read('[[quirks]]\npurposes = ["all"]\ntop_levle = 1\nmax_periods = 1\n')
    assert caught.value.lines == (
        "mine.toml: quirks[0].vendor: is missing",
        'mine.toml: quirks[0].purposes: must be some of "max", "tx" or "default"',
        "mine.toml: quirks[0].max_periods: must be 2 to 1024",
        "mine.toml: quirks[0].top_levle: is not a key that we know (did you mean top_level?)",
    )


def test_the_page_on_stations_is_made_of_the_table() -> None:
    page = Path(__file__).parent.parent / "docs" / "stations.md"
    assert page.read_text(encoding="utf-8") == make_stations.page(), "run: python docs/make_stations.py"
