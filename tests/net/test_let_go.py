"""What is over is freed at once: a thousand stations that come and go leave nothing for the collector, which stops everybody for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig, Wire, accept, clock, until, upgrade
from OpenSSL import SSL
from twisted.internet import tcp
from twisted.internet.endpoints import TCP4ClientEndpoint, serverFromString
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, _InstanceFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from broker.net.cpms import CpmsLeg, Refusal, _Dial
from broker.net.reach import _Attempt, _Dialling
from broker.net.stations import StationLeg


@implementer(IOpenSSLClientConnectionCreator)
class Trusting:
    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)


@pytest_twisted.async_yield_fixture
async def rig() -> AsyncIterator[Rig]:
    rig = await Rig().start()
    rig.cpms.on_head = accept
    yield rig
    await rig.stop()


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ocpps(pki: Path, name: str) -> str:
    return f"ocpps:0:interface=127.0.0.1:certificate={pki}/{name}.pem:privateKey={pki}/{name}.key"


async def station(rig: Rig, pki: Path, tls: bool) -> Wire:
    if not tls:
        return (await rig.pair())[0]
    port = await rig.listen(ocpps(pki, "broker-ec"))
    factory = TLSMemoryBIOFactory(Trusting(), True, Factory.forProtocol(lambda: Wire(True)))  # type: ignore[arg-type]
    wrapped: Any = await TCP4ClientEndpoint(clock, "127.0.0.1", port).connect(factory)
    wire: Wire = wrapped.wrappedProtocol
    rig._stations.append(wire)
    wire.transport.write(upgrade())
    assert await wire.status() == 101
    return wire


def parts(rig: Rig) -> dict[str, weakref.ref[Any]]:
    """The link and all that is below it."""
    (link,) = rig.links
    found: dict[str, Any] = {"link": link}
    for side, leg in link._legs.items():
        found |= {f"{side}'s leg": leg, f"{side}'s transport": leg.transport}
        under = getattr(leg.transport, "transport", None)
        if under is not None:
            found[f"{side}'s socket"] = under
    return {name: weakref.ref(one) for name, one in found.items()}


@pytest.mark.parametrize("end", ["good-bye", "cut by the station", "cut by the CPMS", "ours"])
@pytest.mark.parametrize("tls", [(False, False), (True, False), (True, True)])
@pytest_twisted.ensureDeferred
async def test_a_link_that_is_over_is_freed_without_the_collector(
    rig: Rig, pki: Path, uncollected: None, tls: tuple[bool, bool], end: str
) -> None:
    if tls[1]:
        port = await serverFromString(clock, ocpps(pki, "cpms")).listen(rig.cpms)
        rig._ports.append(port)
        rig.tenant(cpms_url=f"wss://localhost:{port.getHost().port}/ocpp", cpms_ca_file=str(pki / "cpms-ca.pem"))
    wire = await station(rig, pki, tls[0])
    cpms = rig.cpms.wires[-1]
    wire.say(b'[2,"1","Heartbeat",{}]')
    assert await cpms.hear() == b'[2,"1","Heartbeat",{}]'
    held = parts(rig)
    assert len(held) == 5 + sum(tls)
    wire.polite = cpms.polite = True
    match end:
        case "good-bye":
            wire.close(1000)
        case "ours":
            rig.opened[0].close(1012, "restart")
        case "cut by the station":
            wire.abort()
        case _:
            cpms.abort()
    rig.opened.clear()
    await until(lambda: not [name for name, one in held.items() if one() is not None])


def refuse(wire: Wire) -> None:
    wire.transport.write(b"HTTP/1.1 401 No\r\n\r\n")
    wire.transport.loseConnection()


@pytest.mark.parametrize("why", ["nobody there", "the CPMS's 401", "no such tenant", "no answer"])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_is_refused_is_freed_without_the_collector(rig: Rig, uncollected: None, why: str) -> None:
    """While a CPMS is away, its stations dial again and again."""
    if why == "no answer":
        rig.settings = replace(rig.settings, broker=replace(rig.settings.broker, dial_timeout_s=0.3))
    rig.cpms.on_head = refuse if why == "the CPMS's 401" else lambda wire: None
    if why == "nobody there":
        rig.tenant(cpms_url="ws://127.0.0.1:1")

    async def refused() -> int:
        wire = await rig.dial("/acme/CS-7" if why != "no such tenant" else "/none/CS-7")
        status = await wire.status()
        await wire.end()
        rig._stations.clear()
        return status

    statuses = {await refused() for _ in range(2)}
    assert statuses == {{"nobody there": 503, "the CPMS's 401": 401, "no such tenant": 404, "no answer": 504}[why]}
    before = len(made())
    await refused()
    await until(lambda: len(made()) == before)


@pytest.mark.parametrize("tls", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_handshake_that_is_given_up_is_freed_without_the_collector(rig: Rig, pki: Path, uncollected: None, tls: bool) -> None:
    """A CPMS that hangs makes its stations give up and dial again."""
    heard: list[Wire] = []
    rig.cpms.on_head = heard.append
    if tls:
        port = await serverFromString(clock, ocpps(pki, "cpms")).listen(rig.cpms)
        rig._ports.append(port)
        rig.tenant(cpms_url=f"wss://localhost:{port.getHost().port}/ocpp", cpms_ca_file=str(pki / "cpms-ca.pem"))

    async def gives_up() -> None:
        wire = await rig.dial()
        await until(lambda: heard)
        wire.abort()
        await heard.pop().end()
        rig._stations.clear()
        await until(lambda: not rig.links.taken)

    for _ in range(2):
        await gives_up()
    before = len(made())
    await gives_up()
    await until(lambda: len(made()) == before)


def made() -> list[object]:
    """What lives of the broker's parts of a connection, and of its sockets to a CPMS."""
    ours = (StationLeg, CpmsLeg, Refusal, _Dial, _Attempt, _Dialling)
    wires = [one for one in gc.get_objects() if type(one) is tcp.Client and not isinstance(one.connector.factory, _InstanceFactory)]
    return [*wires, *(one for one in gc.get_objects() if isinstance(one, ours))]
