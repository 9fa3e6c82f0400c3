"""The snapshot's shape, which scripts rely on."""

from __future__ import annotations

import json

from broker.model.basics import Key
from broker.settings import EvseSettings, Settings, StationSettings, TenantSettings
from broker.status import Connected, overall, page, station


def fleet() -> tuple[Settings, dict[Key, Connected]]:
    listed = {
        id: StationSettings(id=id, mode="smart-charging", site="hq", evses=(EvseSettings(1, f"{id}-1", 16.0, 1),))
        for id in ("CS-1", "CS-2")
    }
    settings = Settings(tenants={"acme": TenantSettings("acme", "ws://cpms", mode="smart-charging", stations=listed)})
    links = [
        Connected(Key("acme", "CS-2"), "acme/CS-2#1", 0.0, "ocpp1.6", "127.0.0.1", lambda: {"limits": {}}),
        Connected(Key("acme", "odd"), "acme/odd#2", 0.0, "", "127.0.0.1", dict),
    ]
    return settings, {link.key: link for link in links}


def ids(answer: dict[str, object]) -> list[str]:
    stations = answer["stations"]
    assert isinstance(stations, list)
    return [f"{one['tenant']}/{one['id']}" for one in stations]


def test_overall_counts_links_by_tenant_and_version() -> None:
    settings, connected = fleet()
    told = overall(settings, connected.values(), {"store": {"healthy": True}})
    assert told["tenants"]["acme"] == {"mode": "smart-charging", "listed": 2, "connected": 2, "versions": {"none": 1, "ocpp1.6": 1}}
    assert told["store"] == {"healthy": True}
    json.dumps(told)


def test_the_listing_pages_through_listed_and_connected_alike() -> None:
    settings, connected = fleet()
    first = page(settings, connected, "", 2, "", "")
    assert (ids(first), first["next"]) == (["acme/CS-1", "acme/CS-2"], "acme/CS-2")
    rest = page(settings, connected, first["next"], 2, "", "")
    assert (ids(rest), rest["next"]) == (["acme/odd"], None)


def test_the_listing_can_be_narrowed() -> None:
    settings, connected = fleet()
    assert ids(page(settings, connected, "", 9, "", "away")) == ["acme/CS-1"]
    assert ids(page(settings, connected, "", 9, "", "connected")) == ["acme/CS-2", "acme/odd"]
    assert ids(page(settings, connected, "", 9, "other", "")) == []


def test_one_station_shows_its_assets_and_what_was_learned() -> None:
    settings, connected = fleet()
    key = Key("acme", "CS-2")
    told = station(settings, connected[key], key)
    assert told is not None
    assert told["evses"] == [{"evse": 1, "asset": "CS-2-1", "max_amps": 16.0, "phases": 1}]
    assert (told["state"], told["since"], told["learned"]) == ("connected", "1970-01-01T00:00:00.000Z", {"limits": {}})
    away = station(settings, None, Key("acme", "CS-1"))
    assert away is not None
    assert (away["state"], away["learned"]) == ("away", None)


def test_an_unlisted_station_is_shown_as_relayed_and_an_unknown_one_not_at_all() -> None:
    settings, connected = fleet()
    odd = station(settings, connected[Key("acme", "odd")], Key("acme", "odd"))
    assert odd is not None
    assert (odd["listed"], odd["mode"], odd["version"], odd["evses"]) == (False, "relay", "none", [])
    assert station(settings, None, Key("acme", "none")) is None
