"""Ports that come, stay and go, on real loopback TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import make_pki
import pytest
import pytest_twisted
from fakes import upgrade
from running import free_port
from twisted.internet import reactor as twisted_reactor
from twisted.internet.defer import fail
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionRefusedError
from wires import Peer, soon

from broker.config import Mistakes
from broker.net.cpms import Refusal
from broker.net.ports import Ports
from broker.net.stations import StationFactory
from broker.settings import ListenSettings

reactor: Any = twisted_reactor


class Nobody:
    """A door that lets nobody in, and remembers through which port they came."""

    def __init__(self) -> None:
        self.came: list[ListenSettings] = []

    def enter(self, leg: Any, request: Any, listen: ListenSettings) -> Any:
        self.came.append(listen)
        return fail(Refusal(404, "nobody", "station"))

    def refused(self, leg: Any, refusal: Refusal) -> None: ...

    def tls_refused(self, *_: Any) -> None: ...


@pytest_twisted.async_yield_fixture
async def world() -> AsyncIterator[tuple[Ports, Nobody]]:
    door = Nobody()
    ports = Ports(reactor, lambda listen: StationFactory(door, listen, reactor, 1000))
    yield ports, door
    await ports.close()


def at(port: int, tenant: str | None = None, more: str = "") -> ListenSettings:
    return ListenSettings(f"tcp:{port}:interface=127.0.0.1{more}", tenant)


async def knock(port: int) -> int:
    """The status of a handshake there; 0 if what answers is no HTTP."""
    peer = Peer()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), peer)
    peer.write(upgrade())
    await soon(lambda: peer.first or peer.lost)
    if not peer.lost:
        peer.cut()
    return peer.status if peer.first.startswith("HTTP") else 0


@pytest_twisted.ensureDeferred
async def test_one_goes_one_stays_one_comes(world: tuple[Ports, Nobody]) -> None:
    ports, door = world
    gone, stays, comes = at(free_port()), at(free_port()), at(free_port())
    ports.open(gone)
    ports.open(stays)
    kept = ports._open[1].port
    await ports.change([comes, stays])(1000)
    assert [one.listen for one in ports._open] == [stays, comes]
    assert ports._open[0].port is kept
    for listen in (stays, comes):
        assert await knock(int(listen.endpoint.split(":")[1])) == 404
    with pytest.raises(ConnectionRefusedError):
        await knock(int(gone.endpoint.split(":")[1]))
    assert door.came == [stays, comes]


@pytest_twisted.ensureDeferred
async def test_another_tenant_and_another_message_size_need_no_other_socket(world: tuple[Ports, Nobody]) -> None:
    ports, door = world
    number = free_port()
    ports.open(at(number))
    kept = ports._open[0].port
    await ports.change([at(number, "acme")])(77)
    assert ports._open[0].port is kept
    assert ports._open[0].factory.maxMessagePayloadSize == 77
    assert await knock(number) == 404
    assert door.came == [at(number, "acme")]


@pytest_twisted.ensureDeferred
async def test_one_that_cannot_be_bound_changes_nothing(world: tuple[Ports, Nobody]) -> None:
    ports, _ = world
    old, new, taken = at(free_port()), at(free_port()), at(free_port())
    ports.open(old)
    other = Ports(reactor, lambda listen: StationFactory(Nobody(), listen, reactor, 1000))
    other.open(taken)
    with pytest.raises(Mistakes) as wrong:
        ports.change([new, taken])
    assert wrong.value.lines[0].startswith(f"{taken.endpoint}: cannot listen there")
    assert await knock(int(old.endpoint.split(":")[1])) == 404
    await soon(lambda: False, 0.05)
    with pytest.raises(ConnectionRefusedError):
        await knock(int(new.endpoint.split(":")[1]))
    await other.close()


@pytest_twisted.ensureDeferred
async def test_tls_comes_to_a_port_that_stays_and_bad_files_leave_it_as_it_was(world: tuple[Ports, Nobody], tmp_path: Path) -> None:
    ports, _ = world
    make_pki.make(tmp_path)
    number = free_port()
    tls = f"ocpps:{number}:interface=127.0.0.1:certificate={tmp_path}/broker-rsa.pem:privateKey={tmp_path}/broker-rsa.key"
    ports.open(at(number))
    with pytest.raises(Mistakes, match="nowhere"):
        ports.change([ListenSettings(tls.replace("broker-rsa.pem", "nowhere.pem"))])
    for gone in (number, free_port()):
        without = tls.replace(str(number), str(gone), 1) + f":clientCAs={tmp_path}/stations-ca.pem:crl={tmp_path}/nowhere.crl"
        with pytest.raises(Mistakes, match="nowhere"):
            ports.change([ListenSettings(without)])
    assert await knock(number) == 404
    kept = ports._open[0].port
    await ports.change([ListenSettings(tls)])(1000)
    assert ports._open[0].port is kept
    assert await knock(number) == 0, "plain HTTP is no TLS"
    seen = ports._open[0].port.factory.contexts
    before = seen.made
    (tmp_path / "broker-rsa.pem").write_bytes((tmp_path / "broker-rsa.pem").read_bytes() + b"\n")
    await ports.change([ListenSettings(tls)])(1000)
    assert seen.made is not before, "a reload reads renewed certificates at once"
    await ports.change([at(number)])(1000)
    assert await knock(number) == 404
