"""The engine's view of a site against ours: what is at odds is one line that says what to do; what is not said is nobody's fault."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.engine.sites import MOST_NAMED, site_faults, site_seen
from broker.settings import EvseSettings, StationSettings, TenantSettings


def tenant(*assets: str, mode: Any = "shadow") -> TenantSettings:
    station = StationSettings("CS-7", mode, "hq", "ac", tuple(EvseSettings(n, asset) for n, asset in enumerate(assets, 1)))
    other = StationSettings("CS-8", mode, "elsewhere", "ac", (EvseSettings(1, "other"),))
    return TenantSettings("acme", "ws://c", sites=("hq", "elsewhere"), stations={"CS-7": station, "CS-8": other})


def site(*assets: str, missing: Any = (), ingress: str = "OK", status: str = "OK") -> dict[str, Any]:
    return {
        "site_id": "hq",
        "configurations": {"site_configuration": {"device_list": [{"name": asset, "type": "charging_pole"} for asset in assets]}},
        "validation_status": {
            "status": "OK",
            "site_configuration_status": {"status": status, "configuration_complete": {"status": "OK", "missing_assets": list(missing)}},
            "ingress_status": {"status": ingress},
        },
    }


def test_who_agrees_has_nothing_said() -> None:
    assert site_faults(tenant("a", "b"), "hq", site_seen(site("a", "b", "grid-meter"))) == []


def test_an_asset_that_the_site_lacks_is_named_with_its_station() -> None:
    (line,) = site_faults(tenant("a", "b"), "hq", site_seen(site("a")))
    assert line.startswith("acme, site hq: the engine has no asset b (station CS-7)")


def test_relayed_stations_are_no_assets() -> None:
    assert site_faults(tenant("a", mode="relay"), "hq", site_seen(site())) == []


def test_what_the_engine_misses_and_how_its_ingress_is() -> None:
    missing, ingress, configured = site_faults(
        tenant("a"), "hq", site_seen(site("a", missing=["x", "y"], ingress="ERROR", status="WARNING"))
    )
    assert "misses assets: x, y" in missing
    assert "says WARNING of its site configuration" in ingress
    assert "says ERROR of its ingress" in configured
    assert site_faults(tenant("a"), "hq", site_seen(site("a", ingress="UNKNOWN"))) == []


def test_a_site_without_a_configuration_cannot_be_planned() -> None:
    (line,) = site_faults(tenant("a"), "hq", site_seen({"site_id": "hq", "configurations": None}))
    assert "no configuration" in line


def test_a_long_list_is_cut() -> None:
    lines = site_faults(tenant(*(f"a{n}" for n in range(MOST_NAMED + 5))), "hq", site_seen(site()))
    assert len(lines) == MOST_NAMED + 1
    assert "and 5 more" in lines[-1]


@pytest.mark.parametrize("body", [None, [], "site", 7])
def test_what_is_no_site_is_said_to_be_none(body: Any) -> None:
    with pytest.raises(ValueError, match="not an object"):
        site_seen(body)


anything = st.recursive(st.none() | st.text() | st.integers(), lambda one: st.lists(one) | st.dictionaries(st.text(), one), max_leaves=8)
keys = ["configurations", "site_configuration", "device_list", "validation_status", "site_configuration_status", "ingress_status", "status"]
shapes = st.recursive(anything, lambda one: st.dictionaries(st.sampled_from(keys), one), max_leaves=8)


@given(st.dictionaries(st.sampled_from(keys), shapes))
def test_whatever_an_engine_says_lines_come_out(body: Any) -> None:
    for line in site_faults(tenant("a"), "hq", site_seen(body)):
        assert line.startswith("acme, site hq: ")
        assert line.isprintable()
