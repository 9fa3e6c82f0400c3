"""The demo's fleet and the broker.toml made for it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from broker.config import parse
from broker.sim import scenario
from broker.sim.scenario import FLEET, LIMIT_W, Addresses, broker_toml

WHERE = Addresses(9000, 8080, "ws://127.0.0.1:9001/ocpp", "http://127.0.0.1:9002")


def test_the_configuration_is_accepted_and_says_what_the_fleet_is() -> None:
    settings = parse(broker_toml(WHERE), "/demo/broker.toml", {"/demo/engine.secret": "s\n"}.__getitem__, {})
    assert [listen.endpoint for listen in settings.listen] == ["tcp:9000:interface=127.0.0.1"]
    acme, drivers = settings.tenants["acme"], settings.tenants["driverid"]
    assert {s.mode for s in acme.stations.values()} == {"smart-charging"}
    assert {s.mode for s in drivers.stations.values()} == {"driver-identification"}
    assert (acme.charging.baseline, acme.charging.write_interval_s) == ("ask", 5.0)
    assert acme.engine is not None
    assert acme.engine.measure_every_s == 5.0
    for place in FLEET:
        listed = settings.tenants[place.tenant].stations[place.spec.id]
        assert [(e.number, e.asset, e.max_amps) for e in listed.evses] == [
            (s.evse, place.asset(s.evse), place.max_amps) for s in place.spec.sockets
        ]
        assert (listed.current == "dc") == place.spec.dc


def test_it_shows_what_it_is_to_show() -> None:
    for tenant, versions in (("acme", {"ocpp1.6", "ocpp2.0.1", "ocpp2.1"}), ("driverid", {"ocpp1.6", "ocpp2.1"})):
        assert {place.spec.version for place in FLEET if place.tenant == tenant} == versions
    sockets = [socket for place in FLEET for socket in place.spec.sockets]
    assert {socket.phases for socket in sockets if not socket.dc} == {1, 3}
    assert any(socket.dc for socket in sockets)
    assert any(len(place.spec.sockets) == 2 for place in FLEET)
    wishes = sum(v.car.max_amps * (400 if p.spec.dc else 230 * v.car.phases) for p in FLEET if p.tenant == "acme" for v in p.visits[:1])
    assert wishes > 2 * LIMIT_W


def test_nobody_comes_while_another_is_there() -> None:
    for place in FLEET:
        for evse in {visit.evse for visit in place.visits}:
            here = sorted((v for v in place.visits if v.evse == evse), key=lambda v: v.begin)
            assert all(a.end < b.begin for a, b in pairwise(here))
    assert max(Counter(visit.token for place in FLEET for visit in place.visits).values()) == 1
    assert 0 < scenario.CONTROL < scenario.SETTLED < scenario.END < 1
