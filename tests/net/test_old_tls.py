"""Ports for old stations, on real handshakes: TLS below 1.2 and suites without forward secrecy only where a port says so, and for 1.6."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig, Wire, accept, clock, until, upgrade
from OpenSSL import SSL
from tlsports import Open, Plainly, handle
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from broker.config_endpoints import concessions, take_apart

OLD = b"ALL:@SECLEVEL=0"
TLS1_0, TLS1_1, TLS1_2, TLS1_3 = SSL.TLS1_VERSION, SSL.TLS1_1_VERSION, SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION


@pytest.mark.parametrize(
    ("least", "newest", "gets_in"),
    [
        ("1.0", TLS1_0, True),
        ("1.0", TLS1_1, True),
        ("1.0", TLS1_2, True),
        ("1.0", TLS1_3, True),
        ("1.1", TLS1_0, False),
        ("1.1", TLS1_1, True),
        ("1.2", TLS1_1, False),
        ("1.3", TLS1_2, False),
        ("1.3", TLS1_3, True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_port_speaks_the_versions_it_says(ports: Open, pki: Path, least: str, newest: int, gets_in: bool) -> None:
    port = await ports(pki, minTLS=least)
    if gets_in:
        caller = await port.dial(newest=newest, suites=OLD)
        assert handle(caller).get_protocol_version() == newest
    else:
        await port.refuses(newest=newest, suites=OLD)


@pytest.mark.parametrize(
    ("parts", "newest", "suite", "gets_in"),
    [
        ({}, TLS1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ({}, TLS1_2, "ECDHE-ECDSA-AES256-GCM-SHA384", True),
        ({}, TLS1_2, "AES128-GCM-SHA256", False),
        ({}, TLS1_2, "ECDHE-RSA-AES128-SHA", False),
        ({"legacySuites": "no"}, TLS1_2, "AES128-GCM-SHA256", False),
        ({"legacySuites": "yes"}, TLS1_2, "AES128-GCM-SHA256", True),
        ({"legacySuites": "yes"}, TLS1_2, "AES256-GCM-SHA384", True),
        ({"legacySuites": "yes"}, TLS1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ({"legacySuites": "yes"}, TLS1_2, "AES128-SHA", False),
        ({"legacySuites": "yes"}, TLS1_1, "AES128-SHA", False),
        ({"minTLS": "1.0"}, TLS1_0, "ECDHE-RSA-AES128-SHA", True),
        ({"minTLS": "1.0"}, TLS1_0, "ECDHE-ECDSA-AES256-SHA", True),
        ({"minTLS": "1.0"}, TLS1_0, "AES128-SHA", False),
        ({"minTLS": "1.0"}, TLS1_2, "AES128-GCM-SHA256", False),
        ({"minTLS": "1.0", "legacySuites": "yes"}, TLS1_0, "AES128-SHA", True),
        ({"minTLS": "1.1", "legacySuites": "yes"}, TLS1_1, "AES256-SHA", True),
        ({"minTLS": "1.0", "legacySuites": "yes"}, TLS1_2, "DES-CBC3-SHA", False),
        ({"minTLS": "1.0", "legacySuites": "yes"}, TLS1_2, "NULL-SHA", False),
        ({"minTLS": "1.0", "legacySuites": "yes"}, TLS1_2, "AECDH-AES128-SHA", False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_port_knows_the_suites_it_says(
    ports: Open, pki: Path, parts: dict[str, str], newest: int, suite: str, gets_in: bool
) -> None:
    port = await ports(pki, **parts)
    wishes: dict[str, Any] = {"newest": newest, "suites": f"{suite}:@SECLEVEL=0".encode()}
    try:
        Plainly(**wishes)
    except SSL.Error:  # this OpenSSL does not know the suite, then nor does the port
        assert not gets_in
        return
    if gets_in:
        assert handle(await port.dial(**wishes)).get_cipher_name() == suite
    else:
        await port.refuses(**wishes)


@pytest_twisted.ensureDeferred
async def test_what_is_newest_and_strongest_is_chosen_on_an_old_port_too(ports: Open, pki: Path) -> None:
    port = await ports(pki, minTLS="1.0", legacySuites="yes")
    caller = await port.dial(newest=TLS1_2, suites=b"AES128-SHA:AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0")
    assert handle(caller).get_cipher_name() == "ECDHE-ECDSA-AES128-GCM-SHA256"
    assert handle(await port.dial()).get_protocol_version() == TLS1_3


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"newest": TLS1_1, "suites": OLD}, "speaks no TLS version of this port's: give old stations a port of their own with minTLS="),
        ({"newest": TLS1_2, "suites": b"AES128-GCM-SHA256"}, "knows no cipher suite of this port's"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_old_station_is_refused_with_what_to_do(
    ports: Open, pki: Path, logged: list[str], wishes: dict[str, Any], says: str
) -> None:
    port = await ports(pki)
    await port.refuses(**wishes)
    (line,) = logged
    assert line.startswith("refused at the TLS handshake: a connection from 127.0.0.1 ")
    assert says in line


def test_an_operator_reads_what_a_port_allows() -> None:
    keys = "certificate=a:privateKey=b"
    assert str(concessions(take_apart(f"ocpps:1:{keys}"))) == str(concessions(take_apart(f"ocpps:1:{keys}:minTLS=1.3"))) == ""
    old = "TLS below 1.2 and suites without forward secrecy allowed: for old stations only, OCPP 1.6 only"
    assert str(concessions(take_apart(f"ocpps:1:{keys}:minTLS=1.0:legacySuites=yes"))) == old
    rsa = "suites without forward secrecy allowed: for old stations only"
    assert str(concessions(take_apart(f"ocpps:1:{keys}:legacySuites=yes"))) == rsa
    assert not any(concessions(take_apart("tcp:1:minTLS=1.0")))


# ---------------------------------------------------------------- for 1.6 only


class OldPort:
    """A rig with a port that allows TLS 1.0; its stations' subprotocols and versions as a test wants them."""

    def __init__(self, rig: Rig, port: int) -> None:
        self.rig, self.port = rig, port

    async def status(self, newest: int, protocols: str, chosen: str = "") -> int:
        self.rig.cpms.on_head = lambda wire: accept(wire, protocol=chosen.encode())
        factory = TLSMemoryBIOFactory(Plainly(newest=newest, suites=OLD), True, Factory.forProtocol(lambda: Wire(True)))
        outer: Any = await TCP4ClientEndpoint(clock, "127.0.0.1", self.port).connect(factory)
        wire: Wire = outer.wrappedProtocol
        self.rig._stations.append(wire)
        wire.transport.write(upgrade("/acme/CS-7", protocols=protocols))
        status = await wire.status()
        if not wire.gone:
            wire.abort()
        await until(lambda: not self.rig.links.taken and not len(self.rig.links))
        return status


@pytest_twisted.async_yield_fixture
async def old(pki: Path) -> AsyncIterator[OldPort]:
    rig = await Rig().start()
    parts = f"certificate={pki}/broker-ec.pem:privateKey={pki}/broker-ec.key:minTLS=1.0"
    yield OldPort(rig, await rig.listen(f"ocpps:0:interface=127.0.0.1:{parts}"))
    await rig.stop()


@pytest_twisted.ensureDeferred
async def test_below_tls_1_2_only_ocpp_1_6_is_spoken(old: OldPort) -> None:
    assert await old.status(TLS1_1, "ocpp1.6", "ocpp1.6") == 101
    assert len(old.rig.cpms.wires) == 1
    assert await old.status(TLS1_1, "ocpp2.0.1", "ocpp2.0.1") == 403
    assert await old.status(TLS1_0, "ocpp2.1, ocpp2.0.1", "ocpp2.1") == 403
    assert len(old.rig.cpms.wires) == 1, "nothing reached the CPMS"
    assert await old.status(TLS1_2, "ocpp2.0.1", "ocpp2.0.1") == 101


@pytest_twisted.ensureDeferred
async def test_a_station_that_offers_both_gets_in_if_the_cpms_chooses_1_6(old: OldPort) -> None:
    assert await old.status(TLS1_1, "ocpp2.0.1, ocpp1.6", "ocpp1.6") == 101
    assert await old.status(TLS1_1, "ocpp2.0.1, ocpp1.6", "ocpp2.0.1") == 403
    await old.rig.cpms.wires[-1].end()
    assert len(old.rig.opened) == 1


@pytest_twisted.ensureDeferred
async def test_a_failed_handshake_is_counted(pki: Path) -> None:
    rig = await Rig().start()
    port = await rig.listen(f"ocpps:0:interface=127.0.0.1:certificate={pki}/broker-ec.pem:privateKey={pki}/broker-ec.key")
    with pytest.raises(Exception, match=r".*"):
        await OldPort(rig, port).status(TLS1_1, "ocpp1.6")
    await until(lambda: ("refused", "tls", "station") in rig.world.counts.of)
    assert rig.world.counts.of["refused", "tls", "station"] == 1
    await rig.stop()
