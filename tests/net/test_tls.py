"""Real TLS handshakes over loopback: who gets in, with what, and what a renewal does to whom."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from make_pki import issue
from OpenSSL import SSL
from tlsports import Caller, Open, Plainly, Port, handle, owned
from twisted.internet import reactor
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, serverFromString, wrapClientTLS

from broker.net.clientcert import chains_to, peer_identity
from broker.net.pem import CannotLoad
from broker.net.tls import client_options
from broker.settings import TenantSettings

TENANT = TenantSettings(name="acme", cpms_url="wss://localhost/ocpp")


# ---------------------------------------------------------------- versions, suites, ALPN


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (None, b""),
        ([b"http/1.1"], b"http/1.1"),
        ([b"h2"], b""),
        ([b"ocpp1.6"], b""),
        ([b"h2", b"http/1.1"], b"http/1.1"),
        ([b"x%d" % number for number in range(200)], b""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_alpn_offer_locks_a_station_out(ports: Open, pki: Path, offered: list[bytes] | None, chosen: bytes) -> None:
    port = await ports(pki)
    caller = await port.dial(**({} if offered is None else {"alpn": offered}))
    assert handle(caller).get_alpn_proto_negotiated() == chosen
    assert await (await port.dial(alpn=[b"h2"])).say(b"again") == b"again"


@pytest.mark.parametrize(("suites", "key"), [(b"ECDHE-RSA-AES128-GCM-SHA256", "rsa"), (b"ECDHE-ECDSA-AES256-GCM-SHA384", "ec")])
@pytest_twisted.ensureDeferred
async def test_a_station_with_only_one_kind_of_suite_gets_the_certificate_for_it(ports: Open, pki: Path, suites: bytes, key: str) -> None:
    caller = await (await ports(pki)).dial(suites=suites, newest=SSL.TLS1_2_VERSION)
    shown = handle(caller).get_peer_certificate(as_cryptography=True)
    assert shown == owned(pki, f"broker-{key}").certificate


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest_twisted.ensureDeferred
async def test_tls_1_2_and_1_3_are_spoken(ports: Open, pki: Path, newest: int) -> None:
    caller = await (await ports(pki)).dial(newest=newest)
    assert handle(caller).get_protocol_version() == newest


@pytest.mark.parametrize(
    "wishes",
    [
        {"newest": SSL.TLS1_1_VERSION, "suites": b"ALL:@SECLEVEL=0"},
        {"newest": SSL.TLS1_VERSION, "suites": b"ALL:@SECLEVEL=0"},
        {"newest": SSL.TLS1_2_VERSION, "suites": b"ECDHE-RSA-AES128-SHA256"},
        {"newest": SSL.TLS1_2_VERSION, "suites": b"AES128-GCM-SHA256"},
        {"newest": SSL.TLS1_2_VERSION, "suites": b"AES128-SHA:@SECLEVEL=0"},
    ],
)
@pytest_twisted.ensureDeferred
async def test_old_versions_and_suites_are_refused(ports: Open, pki: Path, wishes: dict[str, Any]) -> None:
    port = await ports(pki)
    await port.refuses(**wishes)


@pytest_twisted.ensureDeferred
async def test_renegotiation_is_refused(ports: Open, pki: Path) -> None:
    port = await ports(pki)
    caller = await port.dial(newest=SSL.TLS1_2_VERSION)
    connection = handle(caller)
    assert connection.renegotiate()
    with pytest.raises(Exception, match=r"(?i)renegotiation|SSL|Connection"):
        await caller.say(b"after")
    assert len(port.echoes.came) == 1


@pytest_twisted.ensureDeferred
async def test_a_session_can_be_resumed(ports: Open, pki: Path) -> None:
    port, station = await ports(pki), Plainly(newest=SSL.TLS1_2_VERSION)
    first = handle(await port.dial(station))
    station.session = first.get_session()
    assert handle(await port.dial(station)).master_key() == first.master_key()


@pytest_twisted.ensureDeferred
async def test_a_resumed_session_still_says_who_it_is(ports: Open, pki: Path) -> None:
    """Also when an intermediate CA, which only the station has, links it to the tenant's."""
    between = issue("Between", owned(pki, "stations-ca"), ca=True)
    port = await ports(pki, clientCAs=f"{pki}/stations-ca.pem")
    station = Plainly(newest=SSL.TLS1_2_VERSION, shows=issue("CS-8", between, client=True), below=[between])
    first = handle(await port.dial(station))
    station.session = first.get_session()
    assert handle(await port.dial(station)).master_key() == first.master_key()
    assert len(port.echoes.came) == 2
    for transport in port.echoes.came:
        identity = peer_identity(transport)
        assert identity is not None
        assert identity.cn == "CS-8"
        assert chains_to(transport, f"{pki}/stations-ca.pem")


# ---------------------------------------------------------------- client certificates


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest_twisted.ensureDeferred
async def test_a_good_client_certificate_gets_in_and_says_who_it_is(ports: Open, pki: Path, newest: int) -> None:
    port = await ports(pki, clientCAs=f"{pki}/stations-ca.pem")
    await port.dial(newest=newest, shows=owned(pki, "station-CS-7"))
    transport = port.echoes.came[0]
    identity = peer_identity(transport)
    assert identity is not None
    assert (identity.cn, identity.names("CN")) == ("CS-7", ("CS-7",))
    assert identity.names("serialNumber") == ()
    assert chains_to(transport, f"{pki}/stations-ca.pem")
    assert not chains_to(transport, f"{pki}/cpms-ca.pem")


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest_twisted.ensureDeferred
async def test_no_client_certificate_is_refused_where_one_is_needed(ports: Open, pki: Path, newest: int) -> None:
    port = await ports(pki, clientCAs=f"{pki}/stations-ca.pem")
    await port.refuses(newest=newest)


@pytest.mark.parametrize(
    ("which", "why"),
    [("foreign", "unable to get"), ("expired", "cert has expired"), ("server", "invalid purpose"), ("early", "not yet valid")],
)
@pytest_twisted.ensureDeferred
async def test_other_client_certificates_are_refused_by_name(ports: Open, pki: Path, logged: list[str], which: str, why: str) -> None:
    ours, other = owned(pki, "stations-ca"), issue("Development stations CA", None)
    shows = {
        "foreign": issue("CS\r\n7\x1b[31m", other, client=True),
        "expired": issue("CS\r\n7\x1b[31m", ours, client=True, days=(-20, -10)),
        "early": issue("CS\r\n7\x1b[31m", ours, client=True, days=(1, 2)),
        "server": issue("CS\r\n7\x1b[31m", ours),
    }[which]
    port = await ports(pki, clientCAs=f"{pki}/stations-ca.pem")
    await port.refuses(shows=shows)
    said = [line for line in logged if why in line or (which == "foreign" and "refused" in line)]
    assert said
    assert all(line.isprintable() and "CS\\r\\n7" in line for line in said)


@pytest_twisted.ensureDeferred
async def test_without_tls_or_certificate_there_is_no_identity(ports: Open, pki: Path) -> None:
    port = await ports(pki)
    await port.dial()
    assert peer_identity(port.echoes.came[0]) is None
    assert not chains_to(port.echoes.came[0], f"{pki}/stations-ca.pem")
    assert peer_identity(object()) is None


# ---------------------------------------------------------------- renewal


@pytest_twisted.ensureDeferred
async def test_a_renewed_certificate_is_shown_to_the_next_station_and_the_first_one_stays(ports: Open, pki: Path, own: Path) -> None:
    port = await ports(own)
    first = await port.dial()
    renewed = issue("localhost", owned(pki, "broker-ca-ec"), hosts=("localhost",))
    renewed.write(own, "broker-ec")
    second = await port.dial(suites=b"ECDHE-ECDSA-AES128-GCM-SHA256", newest=SSL.TLS1_2_VERSION)
    assert handle(second).get_peer_certificate(as_cryptography=True) == renewed.certificate
    assert await first.say(b"still here") == b"still here"


@pytest_twisted.ensureDeferred
async def test_a_broken_file_keeps_the_old_one_and_telling_of_it_is_left_to_the_watchman(ports: Open, own: Path, logged: list[str]) -> None:
    port = await ports(own)
    (own / "broker-ec.pem").write_text("rubbish")
    for _ in range(3):
        caller = await port.dial(suites=b"ECDHE-ECDSA-AES128-GCM-SHA256", newest=SSL.TLS1_2_VERSION)
        assert handle(caller).get_peer_certificate() is not None
    assert logged == []


@pytest_twisted.ensureDeferred
async def test_a_certificate_without_its_new_key_waits_for_the_key(ports: Open, pki: Path, own: Path) -> None:
    port = await ports(own)
    renewed = issue("localhost", owned(pki, "broker-ca-ec"), hosts=("localhost",))
    wishes = {"suites": b"ECDHE-ECDSA-AES128-GCM-SHA256", "newest": SSL.TLS1_2_VERSION}
    (own / "broker-ec.pem").write_bytes(renewed.pem)
    assert handle(await port.dial(**wishes)).get_peer_certificate(as_cryptography=True) == owned(pki, "broker-ec").certificate
    (own / "broker-ec.key").write_bytes(renewed.key_pem)
    assert handle(await port.dial(**wishes)).get_peer_certificate(as_cryptography=True) == renewed.certificate


@pytest_twisted.ensureDeferred
async def test_files_are_not_looked_at_on_every_connection(ports: Open, own: Path) -> None:
    port = await ports(own)
    port.endpoint.contexts.look_every_s = 60
    before = port.endpoint.contexts.made
    os.utime(own / "broker-ec.pem", ns=(1, 1))
    await port.dial()
    assert port.endpoint.contexts.made is before


@pytest.mark.parametrize("part", ["certificate", "privateKey", "clientCAs"])
@pytest_twisted.ensureDeferred
async def test_a_port_does_not_open_without_its_files(pki: Path, part: str) -> None:
    files = {"certificate": f"{pki}/broker-ec.pem", "privateKey": f"{pki}/broker-ec.key", part: f"{pki}/missing.pem"}
    with pytest.raises(CannotLoad, match=r"missing\.pem: No such file"):
        await Port(pki, **files).open()


def test_what_the_endpoint_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="minTLS: must be"):
        serverFromString(reactor, "ocpps:9443:certificate=a:privateKey=b:minTLS=0.9")
    with pytest.raises(ValueError, match="needs certificate"):
        serverFromString(reactor, "ocpps:9443")


# ---------------------------------------------------------------- toward the CPMS


@pytest_twisted.ensureDeferred
async def test_a_cpms_with_the_tenants_ca_and_our_client_certificate(ports: Open, pki: Path) -> None:
    port = await ports(pki, certificate=f"{pki}/cpms.pem", privateKey=f"{pki}/cpms.key", clientCAs=f"{pki}/cpms-ca.pem")
    tenant = replace(TENANT, cpms_ca_file=f"{pki}/cpms-ca.pem")
    tenant = replace(tenant, cpms_certificate=f"{pki}/cpms-client.pem", cpms_key_file=f"{pki}/cpms-client.key")
    creator = client_options(tenant)
    assert creator is not None
    caller: Caller = await connectProtocol(
        wrapClientTLS(creator, HostnameEndpoint(reactor, b"127.0.0.1", port.port.getHost().port)), Caller()
    )
    port.callers.append(caller)
    assert await caller.answer == b"hello"
    identity = peer_identity(port.echoes.came[0])
    assert identity is not None
    assert identity.cn == "ocppbroker"


@pytest.mark.parametrize(
    ("host", "authority", "certificate"),
    [
        ("elsewhere.example", "cpms-ca", "cpms"),
        ("127.0.0.2", "cpms-ca", "cpms"),
        ("localhost", "stations-ca", "cpms"),
        ("localhost", None, "cpms"),
        ("localhost", "cpms-ca", "expired"),
    ],
    ids=["wrong host", "wrong address", "another CA", "system roots", "expired"],
)
@pytest_twisted.ensureDeferred
async def test_a_cpms_that_is_not_whom_we_dialled_is_refused(
    ports: Open, pki: Path, tmp_path: Path, host: str, authority: str | None, certificate: str
) -> None:
    owned(pki, "cpms").write(tmp_path, "cpms")
    issue("localhost", owned(pki, "cpms-ca"), hosts=("localhost",), days=(-20, -10)).write(tmp_path, "expired")
    port = await ports(tmp_path, certificate=f"{tmp_path}/{certificate}.pem", privateKey=f"{tmp_path}/{certificate}.key")
    tenant = replace(TENANT, cpms_url=f"wss://{host}/ocpp", cpms_ca_file=authority and f"{pki}/{authority}.pem")
    with pytest.raises(Exception, match=r"(?i)certificate|verif"):
        await port.dial(client_options(tenant))
    assert not port.echoes.came


@pytest_twisted.ensureDeferred
async def test_without_its_files_a_dial_fails_and_the_watchman_tells_why(ports: Open, pki: Path, logged: list[str]) -> None:
    port = await ports(pki)
    creator = client_options(replace(TENANT, cpms_ca_file=f"{pki}/missing.pem"))
    for _ in range(2):
        with pytest.raises(Exception, match=r"(?i)certificate|verif"):
            await port.dial(creator)
    assert not [line for line in logged if "missing.pem" in line]


def test_a_ws_cpms_needs_no_tls() -> None:
    assert client_options(replace(TENANT, cpms_url="ws://localhost/ocpp")) is None
