"""What a CPMS changes in its stations: what the operator is told of it, in every mode that captures, and what nobody is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from broker.alarms import KINDS
from broker.departures import TEXTS, Departures
from broker.engine.v1 import V1
from broker.model.basics import Instant, Key
from broker.model.orders import Alarm, NewPassword
from broker.model.traffic import Exchange
from broker.observer import Identifying, Seat, Watching
from broker.ocpp.dialects import BY_NAME
from broker.settings import EngineSettings, EvseSettings, StationSettings, TenantSettings

NOW = Instant(1000.0, 1_800_000_000.0)
ENGINE = EngineSettings("http://x", "acme", "x")
SECRET = "s3cret-0123456789abcdef"


def exchange(action: str, call: Any, answer: Any, sender: Any = "cpms", kind: int = 3) -> Exchange:
    asked, said = json.dumps([2, "1", action, call]).encode(), json.dumps([kind, "1", answer]).encode()
    return Exchange(sender, action, asked, said, kind, None)


def change(key: str, **more: Any) -> Exchange:
    return exchange("ChangeConfiguration", {"key": key, "value": SECRET}, {"status": "Accepted"}, **more)


def variables(*names: tuple[str, str]) -> Exchange:
    places = [{"component": {"name": component}, "variable": {"name": variable}} for component, variable in names]
    call = {"setVariableData": [{"attributeValue": SECRET, **one} for one in places]}
    return exchange("SetVariables", call, {"setVariableResult": [{"attributeStatus": "Accepted", **one} for one in places]})


def test_a_password_is_handed_on_and_shown_to_nobody() -> None:
    for version, seen in (("ocpp1.6", change("AuthorizationKey")), ("ocpp2.1", variables(("SecurityCtrlr", "BasicAuthPassword")))):
        (found,) = Departures(BY_NAME[version]).saw(seen)
        assert found == NewPassword(SECRET.encode())
        assert SECRET not in repr(found)


@pytest.mark.parametrize("key", ["SecurityProfile", "CentralSystemURL"])
def test_an_alarm_names_what_was_changed_and_when_it_shows_but_not_the_value(key: str) -> None:
    (alarm,) = Departures(BY_NAME["ocpp1.6"]).saw(change(key))
    assert isinstance(alarm, Alarm)
    assert key in alarm.text
    assert "next reboot" in alarm.text
    assert SECRET not in alarm.text


def test_several_variables_of_one_kind_are_one_alarm() -> None:
    names = [("OCPPCommCtrlr", "NetworkConfigurationPriority"), ("NetworkConfiguration", "OcppCsmsUrl"), ("SecurityCtrlr", "Identity")]
    found = Departures(BY_NAME["ocpp2.1"]).saw(variables(*names))
    assert [one.name for one in found if isinstance(one, Alarm)] == ["url", "identity"]
    assert "NetworkConfigurationPriority, OcppCsmsUrl" in str(found[0])


def test_only_what_the_cpms_asked_and_the_station_answered_counts() -> None:
    departures = Departures(BY_NAME["ocpp1.6"])
    assert departures.saw(change("SecurityProfile", sender="station")) == ()
    assert departures.saw(change("SecurityProfile", kind=4)) == ()
    assert departures.saw(exchange("Reset", {"type": "Soft"}, {"status": "Accepted"})) == ()
    assert departures.failures == 0


def test_what_cannot_be_read_is_counted() -> None:
    departures = Departures(BY_NAME["ocpp1.6"])
    broken = structs.replace(change("SecurityProfile"), call=b'[2,"1","ChangeConfiguration",7]')
    assert departures.saw(broken) == ()
    surrogate = exchange("ChangeConfiguration", {"key": "AuthorizationKey", "value": "\ud800"}, {"status": "Accepted"})
    assert departures.saw(surrogate) == ()
    assert departures.failures == 2


def test_each_has_a_line_in_the_table_of_alarms_and_ends_by_itself() -> None:
    assert all(KINDS[name].ttl_s and KINDS[name].fault == "cpms" for name in ("password", *TEXTS))


@pytest.mark.parametrize("version", BY_NAME)
@pytest.mark.parametrize("mode", ["driver-identification", "shadow", "smart-charging"])
def test_every_mode_that_captures_sees_it_and_does_not_take_it_back(version: str, mode: Any) -> None:
    station = StationSettings("CS-7", mode, "hq", evses=(EvseSettings(1, "socket"),))
    tenant = TenantSettings("acme", "ws://x", engine=ENGINE, sites=("hq",))
    seat = Seat(Key("acme", "CS-7"), station, tenant, BY_NAME[version], V1(ENGINE))
    life: Any = {"opened": NOW, "flapping": False, "shadow": mode == "shadow", "new_token": lambda: 1}
    observer: Any = Identifying(seat, ()) if mode == "driver-identification" else Watching(seat, (), **life)
    seen = change("SecurityProfile") if version == "ocpp1.6" else variables(("SecurityCtrlr", "SecurityProfile"))
    assert seen.action in observer.interest.at_answer
    (alarm,) = [one for one in observer.saw(seen, NOW) if isinstance(one, Alarm)]
    assert alarm.name == "security-profile"
    assert not observer.well(alarm.name, NOW.mono)
    assert observer.tap_failures == 0
