"""What the console prints of a station: for each state and mode that a station can be in, of what the admin side really says."""

from __future__ import annotations

from typing import Any

import pytest

from broker.engine.v1 import V1
from broker.model.basics import Instant, Key
from broker.model.records import Fact
from broker.observer import Identifying, Seat, Watching
from broker.ocpp.dialects import BY_NAME
from broker.settings import EngineSettings, EvseSettings, Settings, StationSettings, TenantSettings
from broker.shown import report_page, station_page, tail_line
from broker.status import Connected, station

KEY = Key("acme", "CS-7")
NOW = Instant(1000.0, 1_800_000_000.0)
ENGINE = EngineSettings("http://engine", "acme", "secret")
BOOT = Fact("boot", "last", {"status": "Accepted", "vendor": "Acme", "model": "One", "serial": "", "firmware": "1.2", "clock": None})


def tenant(mode: Any) -> TenantSettings:
    listed = StationSettings("CS-7", mode, "hq", evses=(EvseSettings(1, "garage-1", 32.0, 3), EvseSettings(2, "garage-2", 16.0, 1)))
    return TenantSettings("acme", "ws://cpms", mode=mode, engine=ENGINE, stations={"CS-7": listed})


def learned(mode: Any) -> Any:
    """What an observer of this mode says when its station has just come."""
    of = tenant(mode)
    seat = Seat(KEY, of.stations["CS-7"], of, BY_NAME["ocpp1.6"], V1(ENGINE))
    if mode == "relay":
        return dict
    if mode == "driver-identification":
        return Identifying(seat, ()).explain
    shadow = mode == "shadow"
    return Watching(seat, (BOOT,), opened=NOW, flapping=False, shadow=shadow, new_token=lambda: 1).explain


def page(mode: Any, connected: bool) -> str:
    link = Connected(KEY, "acme/CS-7#1", 0.0, "ocpp1.6", "127.0.0.1", learned(mode)) if connected else None
    shown = station(Settings(tenants={"acme": tenant(mode)}), link, KEY)
    assert shown is not None
    return "\n".join(station_page(shown))


@pytest.mark.parametrize("mode", ["relay", "driver-identification", "shadow", "smart-charging"])
def test_a_station_is_shown_in_each_mode_away_and_connected(mode: str) -> None:
    away, here = page(mode, False), page(mode, True)
    assert away.splitlines()[:2] == ["acme/CS-7: away", f"  mode {mode}, site hq"]
    assert here.startswith("acme/CS-7: connected since 1970-01-01T00:00:00.000Z as acme/CS-7#1, ocpp1.6, from 127.0.0.1\n")
    for text in (away, here):
        assert "EVSE 1 (garage-1): at most 32 A, 3 phases" in text
        assert "EVSE 2 (garage-2): at most 16 A, 1 phase" in text
    assert here.count("engine asks  nothing") == (2 if mode in ("shadow", "smart-charging") else 0)
    assert here.count("meter        nothing yet") == (2 if mode in ("shadow", "smart-charging") else 0)
    assert ("  Acme One, firmware 1.2, serial not said" in here) is (mode in ("shadow", "smart-charging"))


def test_a_station_that_is_not_listed_is_shown_too() -> None:
    key = Key("acme", "new")
    link = Connected(key, "acme/new#2", 0.0, "", "127.0.0.1", dict)
    shown = station(Settings(tenants={"acme": tenant("relay")}), link, key)
    assert shown is not None
    assert station_page(shown)[1] == "  mode relay, not listed"


def test_what_was_asked_allowed_and_sent_stands_below_its_evse() -> None:
    shown = station(Settings(tenants={"acme": tenant("smart-charging")}), None, KEY)
    assert shown is not None
    limits = {
        "asked": {"limit": 6900.0, "unit": "W", "schedule": "plan-1"},
        "operator": {"amps": 8.0, "until": "2027-01-15T09:00:00.000Z"},
        "allowed": {"known": False, "why": "the station refuses to say"},
        "sent": {"purpose": "tx", "profile": 7, "until": 1_800_000_000.0, "limit": 8.0, "unit": "A", "why": ["unit"]},
        "status": "accepted",
        "why": "operator",
        "fallback": {"limit": 6.0, "unit": "A", "profile": 9, "sure": True},
        "released": "2027-01-15T07:00:00.000Z",
    }
    latest = {"power_w": 5520.0, "energy_wh": 12_345.0}
    running = {"evse": 1, "started_at": "2027-01-15T07:30:00.000Z", "ocpp_id": "123"}
    told = {"limits": {"1": limits}, "latest": {"1": latest}, "transactions": [running], "tap_failures": 2, "withdrawing": [7, 8]}
    lines = station_page({**shown, "learned": told})
    assert [line.split(maxsplit=1)[0] for line in lines[3:10]] == ["charges", "meter", "released", "engine", "operator", "CPMS", "we"]
    text = "\n".join(lines)
    assert "since 2027-01-15T07:30:00.000Z, transaction 123" in text
    assert "5.52 kW, 12.345 kWh" in text
    assert "engine asks  6900 W (schedule plan-1)" in text
    assert "at most 8 A until 2027-01-15T09:00:00.000Z" in text
    assert "not known: the station refuses to say" in text
    assert "8 A as tx, profile 7, until 2027-01-15T08:00:00.000Z (unit)" in text
    assert "fallback     6 A without an end, profile 9" in text
    assert "accepted: operator" in text
    assert lines[-2] == "  ours that are being cleared: profiles 7, 8"
    assert lines[-1] == "  2 messages could not be read"


@pytest.mark.parametrize(
    ("would", "line"),
    [
        ({"limit": 8.0, "unit": "A", "why": ["cpms-lower", "unit"]}, "    would send   8 A (cpms-lower, unit)"),
        ({"limit": 8.0, "unit": "A", "why": []}, "    would send   8 A"),
        ({"refused": "cpms-lower"}, "    would send   nothing: cpms-lower"),
    ],
)
def test_in_shadow_mode_what_would_be_sent_stands_there(would: dict[str, Any], line: str) -> None:
    shown = station(Settings(tenants={"acme": tenant("shadow")}), None, KEY)
    assert shown is not None
    limits = {"asked": None, "allowed": {"known": False, "why": "x"}, "sent": None, "status": "not-sent", "why": "shadow", "would": would}
    assert line in station_page({**shown, "learned": {"limits": {"1": limits}}})
    limits["no_fallback"] = "the station is released"
    assert "    fallback     none: the station is released" in station_page({**shown, "learned": {"limits": {"1": limits}}})


def test_a_frame_that_cannot_be_shown_is_measured() -> None:
    at = "2027-01-15T08:00:00.000Z"
    assert tail_line({"at": at, "from": "station", "to": "cpms", "frame": [2, "1", "Heartbeat", {}]}).endswith(
        '> cpms     [2, "1", "Heartbeat", {}]'
    )
    assert tail_line({"at": at, "from": "station", "to": "cpms", "unreadable": 70_000}).endswith("(70000 bytes that cannot be shown)")
    assert tail_line({"at": at, "event": "dropped", "frames": 3}) == f"{at}  -- dropped 3 frames: shown were only the others"


def test_a_report_of_nobody_says_so() -> None:
    assert report_page({"tenant": "acme", "stations": {}}) == ["acme: nothing was decided in shadow mode yet"]
