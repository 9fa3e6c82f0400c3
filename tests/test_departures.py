"""What a CPMS changes in its stations: what the operator is told of it, in every mode that captures, and what nobody is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from broker.alarms import KINDS
from broker.departures import MOST_ASKED, TEXTS, Departures
from broker.engine.v1 import V1
from broker.model.basics import Instant, Key
from broker.model.orders import Alarm, NewPassword, PasswordsAnswered, PasswordsSent, Write
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


# ---------------------------------------------------------------- where the station's password is judged here


def sent(seen: Exchange, token: int) -> Exchange:
    """Its CALL, as it goes to the station."""
    return structs.replace(seen, answer=None, kind=0, token=token)


def replied(seen: Exchange, token: int) -> Exchange:
    """Its answer, when the CALL was shown before."""
    return structs.replace(seen, call=b"", asked=token)


PLACES = (("SecurityCtrlr", "BasicAuthPassword"), ("SecurityCtrlr", "SecurityProfile"), ("NetworkConfiguration", "BasicAuthPassword"))


@pytest.mark.parametrize(("version", "seen"), [("ocpp1.6", change("AuthorizationKey")), ("ocpp2.1", variables(PLACES[0]))])
def test_a_password_goes_on_at_once_and_nothing_of_it_stays(version: str, seen: Exchange) -> None:
    departures = Departures(BY_NAME[version])
    (order,) = departures.asked(sent(seen, 5))
    assert order == PasswordsSent(5, (SECRET.encode(),))
    assert SECRET not in repr(order)
    assert SECRET.encode() not in [one.password for _, one in (departures._asked or {})[5]]
    assert departures.saw(replied(seen, 5)) == (PasswordsAnswered(5, (True,)),)
    assert departures._asked == {}


@pytest.mark.parametrize(("kind", "status"), [(3, "Rejected"), (3, "NotSupported"), (4, "Accepted")])
def test_what_the_station_did_not_take_is_said_too(kind: int, status: str) -> None:
    departures = Departures(BY_NAME["ocpp1.6"])
    seen = exchange("ChangeConfiguration", {"key": "AuthorizationKey", "value": SECRET}, {"status": status}, kind=kind)
    departures.asked(sent(seen, 5))
    assert departures.saw(replied(seen, 5)) == (PasswordsAnswered(5, (False,)),)


def test_each_of_several_by_its_own_status_and_the_rest_as_ever() -> None:
    departures = Departures(BY_NAME["ocpp2.1"])
    seen = variables(*PLACES)
    refused = json.loads(seen.answer or b"")
    refused[2]["setVariableResult"][0]["attributeStatus"] = "Rejected"
    seen = structs.replace(seen, answer=json.dumps(refused).encode())
    assert departures.asked(sent(seen, 1)) == (PasswordsSent(1, (SECRET.encode(), SECRET.encode())),)
    answered, alarm = departures.saw(replied(seen, 1))
    assert answered == PasswordsAnswered(1, (False, True))
    assert isinstance(alarm, Alarm)
    assert alarm.name == "security-profile"


@pytest.mark.parametrize("seen", [change("HeartbeatInterval"), structs.replace(change("AuthorizationKey"), call=b"[2,")])
def test_a_call_without_a_password_keeps_nobody_waiting(seen: Exchange) -> None:
    departures = Departures(BY_NAME["ocpp1.6"])
    assert departures.asked(sent(seen, 9)) == (Write((), (), 9),)
    assert departures.saw(replied(seen, 9)) == ()


def test_an_answer_to_what_somebody_else_was_shown_tells_nothing() -> None:
    departures = Departures(BY_NAME["ocpp1.6"])
    assert departures.saw(replied(change("AuthorizationKey"), 3)) == ()
    assert departures.failures == 0


def test_only_so_many_unanswered_ones_are_remembered() -> None:
    departures = Departures(BY_NAME["ocpp1.6"])
    for token in range(MOST_ASKED + 1):
        departures.asked(sent(change("SecurityProfile"), token))
    assert [len(departures.saw(replied(change("SecurityProfile"), token))) for token in (0, 1)] == [0, 1]


@pytest.mark.parametrize("version", BY_NAME)
@pytest.mark.parametrize("mode", ["driver-identification", "shadow", "smart-charging"])
def test_every_mode_that_captures_is_shown_the_call_where_the_password_is_judged_and_only_there(version: str, mode: Any) -> None:
    station = StationSettings("CS-7", mode, "hq", evses=(EvseSettings(1, "socket"),))
    tenant = TenantSettings("acme", "ws://x", engine=ENGINE, sites=("hq",))
    observers = []
    for judged in (False, True, True):
        seat = Seat(Key("acme", "CS-7"), station, tenant, BY_NAME[version], V1(ENGINE), judged=judged)
        life: dict[str, Any] = {"opened": NOW, "flapping": False, "shadow": mode == "shadow", "new_token": iter(range(9)).__next__}
        observers.append(Identifying(seat, ()) if mode == "driver-identification" else Watching(seat, (), **life))
    without, observer, other = observers
    assert without.interest.entrusting == frozenset()
    assert observer.interest is other.interest, "one for all links"
    seen = change("AuthorizationKey") if version == "ocpp1.6" else variables(PLACES[0])
    assert seen.action in observer.interest.entrusting
    assert tuple(observer.saw(sent(seen, 4), NOW)) == (PasswordsSent(4, (SECRET.encode(),)),)
    assert tuple(observer.saw(replied(seen, 4), NOW)) == (PasswordsAnswered(4, (True,)),)
    assert observer.tap_failures == 0
