"""The simulated CPMS over real sockets, with simulated stations of every version dialling it: what one sends is what the other gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater

from broker.sim.bay import Settings
from broker.sim.cars import Car
from broker.sim.cpms import Cpms, Policy, capabilities_asked, default_profile
from broker.sim.proof import Ends, transparent
from broker.sim.station import Station
from broker.sim.words import Spec

VERSIONS = ("ocpp1.6", "ocpp2.0.1", "ocpp2.1")


async def soon(holds: Callable[[], bool], within: float = 20.0) -> bool:
    """Does it become true in time?"""
    for _ in range(round(within / 0.02)):
        if holds():
            return True
        await deferLater(reactor, 0.02, lambda: None)
    return holds()


@pytest_twisted.ensureDeferred
async def test_every_version_charges_and_both_ends_wrote_down_the_same() -> None:
    cpms = Cpms(reactor, lambda id: Policy(limit=16, asks=True))
    url = await cpms.listen()
    stations = [Station(Spec(f"CS-{version}", version, every_s=0.2), url, reactor, Settings()) for version in VERSIONS]
    for station in stations:
        station.start()
    try:
        assert await soon(lambda: all(len(station.held.profiles) == 1 for station in stations))
        for station in stations:
            station.plug(1, Car(), "CARD")
        assert await soon(
            lambda: all(sum(s.action in ("MeterValues", "TransactionEvent") for s in st.wire.log.sent) > 2 for st in stations)
        )
        assert all(await gatherResults([Deferred.fromCoroutine(station.finish()) for station in stations]))
        cpms.hush()
        assert await soon(lambda: all(guest.wire.quiet for guest in cpms.guests.values()))
    finally:
        await gatherResults([station.stop() for station in stations])
        await cpms.stop()
    ends = [Ends(s.spec.id, s.wire.log, cpms.guests[s.spec.id].wire.log) for s in stations]
    claim = transparent(ends)
    assert claim.ok, claim.numbers
    assert cpms.ours() == 0
    assert [set(cpms.guests[s.spec.id].transactions.values()) for s in stations] == [{"Ended"}] * 3


@pytest_twisted.ensureDeferred
async def test_a_station_dials_again_when_its_link_goes_and_when_nobody_listens() -> None:
    cpms = Cpms(reactor, lambda id: Policy(limit=None))
    url = await cpms.listen()
    station = Station(Spec("CS-7", "ocpp2.0.1"), url, reactor, Settings())
    station.start()
    try:
        assert await soon(lambda: station.booted)
        station._dialler.drop()
        assert await soon(lambda: cpms.guests["CS-7"].links == 2)
        assert cpms.guests["CS-7"].boots == 1
    finally:
        await station.stop()
        await cpms.stop()
    lonely = Station(Spec("CS-8", "ocpp1.6"), url, reactor, Settings())
    lonely.start()
    assert await soon(lambda: lonely._dialler.failures > 0)
    await lonely.stop()


class Stranger(WebSocketClientProtocol):
    """A client that only notes how its handshake went."""

    def onOpen(self) -> None:
        self.factory.outcome.callback("open")
        self.sendClose(1000)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self.factory.outcome.called:
            self.factory.outcome.callback("refused")


@pytest.mark.parametrize(("offer", "result"), [(["ocpp1.5"], "refused"), (["ocpp1.5", "ocpp1.6"], "open"), ([], "refused")])
@pytest_twisted.ensureDeferred
async def test_only_versions_it_knows(offer: list[str], result: str) -> None:
    cpms = Cpms(reactor)
    url = await cpms.listen()
    factory: Any = WebSocketClientFactory(f"{url}/CS-9", protocols=offer, reactor=reactor)
    factory.protocol = Stranger
    factory.outcome = Deferred()
    await TCP4ClientEndpoint(reactor, "127.0.0.1", factory.port).connect(factory)
    assert await factory.outcome == result
    await cpms.stop()
    assert (("CS-9" in cpms.guests) and result == "open") or result == "refused"


@pytest.mark.parametrize("version", VERSIONS)
def test_its_own_limit_has_no_end_and_the_lowest_level(version: str) -> None:
    said = default_profile(version, Policy(limit=20.0, evse=1))
    profile = said["csChargingProfiles" if version == "ocpp1.6" else "chargingProfile"]
    assert said["connectorId" if version == "ocpp1.6" else "evseId"] == 1
    assert profile["stackLevel"] == 0
    assert "validTo" not in profile
    assert capabilities_asked(version)[0] == ("GetConfiguration" if version == "ocpp1.6" else "GetVariables")
