"""Real TLS handshakes over loopback: who gets in, with what, and what a renewal does to whom."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_pki
import pytest
import pytest_twisted
from make_pki import Issued, issue
from OpenSSL import SSL
from twisted.internet import defer, reactor
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, connectProtocol, serverFromString, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from broker.net.pem import CannotLoad
from broker.net.tls import TLSServerEndpoint, chains_to, client_options, peer_identity
from broker.settings import TenantSettings

TENANT = TenantSettings(name="acme", cpms_url="wss://localhost/ocpp")


class Echo(Protocol):
    """The server's side: gives back what it gets."""

    def dataReceived(self, data: bytes) -> None:
        self.factory.came.append(self.transport)  # type: ignore[union-attr]
        self.transport.write(data)  # type: ignore[union-attr]


class Echoes(Factory):
    protocol = Echo

    def __init__(self) -> None:
        self.came: list[Any] = []


class Caller(Protocol):
    """The client's side: says something, waits for the echo or the end."""

    def __init__(self) -> None:
        self.answer: defer.Deferred[bytes] = defer.Deferred()
        self.lost: defer.Deferred[None] = defer.Deferred()

    def say(self, what: bytes = b"ping") -> defer.Deferred[bytes]:
        self.answer = defer.Deferred()
        self.transport.write(what)  # type: ignore[union-attr]
        return self.answer

    def connectionMade(self) -> None:
        self.transport.write(b"hello")  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if not self.answer.called:
            self.answer.callback(data)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.answer.called:
            self.answer.errback(reason)
        self.lost.callback(None)


@implementer(IOpenSSLClientConnectionCreator)
class Plainly:
    """A client as a test wants it: no verification, whatever versions, suites, ALPN and certificate it says."""

    def __init__(self, **wishes: Any) -> None:
        self.wishes = wishes
        self.session: Any = None
        self.context = context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if "newest" in self.wishes:
            context.set_min_proto_version(SSL.TLS1_VERSION)
            context.set_max_proto_version(self.wishes["newest"])
        if "suites" in self.wishes:
            context.set_cipher_list(self.wishes["suites"])
        if "alpn" in self.wishes:
            context.set_alpn_protos(self.wishes["alpn"])
        if "shows" in self.wishes:
            shows: Issued = self.wishes["shows"]
            context.use_certificate(shows.certificate)
            context.use_privatekey(shows.key)
            for issued in self.wishes.get("below", ()):
                context.add_extra_chain_cert(issued.certificate)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self.context, None)
        if self.session is not None:
            connection.set_session(self.session)
        return connection


class Port:
    """An `ocpps:` port that listens."""

    def __init__(self, folder: Path, **parts: str) -> None:
        named = {"certificate": f"{folder}/broker-rsa.pem,{folder}/broker-ec.pem"}
        named["privateKey"] = f"{folder}/broker-rsa.key,{folder}/broker-ec.key"
        named.update(parts)
        text = "ocpps:0:interface=127.0.0.1:" + ":".join(f"{key}={value}" for key, value in named.items())
        self.endpoint: TLSServerEndpoint = serverFromString(reactor, text)  # type: ignore[assignment]
        self.endpoint.contexts.look_every_s = 0
        self.echoes = Echoes()
        self.callers: list[Caller] = []

    async def open(self) -> Port:
        self.port = await self.endpoint.listen(self.echoes)
        return self

    async def dial(self, creator: Any = None, **wishes: Any) -> Caller:
        """A connection whose TLS was tried with an echo: raises what ended it."""
        factory = TLSMemoryBIOFactory(creator or Plainly(**wishes), True, Factory.forProtocol(Caller))
        wrapped: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port).connect(factory)
        caller: Caller = wrapped.wrappedProtocol
        self.callers.append(caller)
        await caller.answer
        return caller

    async def refuses(self, **wishes: Any) -> None:
        with pytest.raises(Exception, match=r".*") as caught:
            await self.dial(**wishes)
        assert "SSL" in repr(caught.value) or "Connection" in type(caught.value).__name__
        assert not self.echoes.came

    async def close(self) -> None:
        await self.port.stopListening()
        for caller in self.callers:
            if not caller.lost.called:
                caller.transport.abortConnection()  # type: ignore[union-attr]
                await caller.lost


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pki")
    make_pki.make(folder, stations=("CS-7",))
    return folder


@pytest_twisted.async_yield_fixture
async def ports() -> AsyncIterator[Open]:
    opened: list[Port] = []

    async def open(folder: Path, **parts: str) -> Port:
        opened.append(await Port(folder, **parts).open())
        return opened[-1]

    yield open
    for port in opened:
        await port.close()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    def note(event: Any) -> None:
        if str(event.get("log_namespace", "")).startswith("broker"):
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


def handle(caller: Caller) -> SSL.Connection:
    connection: SSL.Connection = caller.transport.getHandle()  # type: ignore[union-attr]
    return connection


def owned(folder: Path, name: str) -> Issued:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key: Any = load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
    return Issued(x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()), key)


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
    assert (identity.cn, identity.organisation, identity.names("CN")) == ("CS-7", "Development", ("CS-7",))
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


@pytest.fixture
def own(pki: Path, tmp_path: Path) -> Path:
    for name in ("broker-rsa", "broker-ec"):
        owned(pki, name).write(tmp_path, name)
    return tmp_path


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
async def test_a_broken_file_keeps_the_old_one_and_is_said_once(ports: Open, own: Path, logged: list[str]) -> None:
    port = await ports(own)
    (own / "broker-ec.pem").write_text("rubbish")
    for _ in range(3):
        caller = await port.dial(suites=b"ECDHE-ECDSA-AES128-GCM-SHA256", newest=SSL.TLS1_2_VERSION)
        assert handle(caller).get_peer_certificate() is not None
    alarms = [line for line in logged if "ALARM tls-files" in line]
    assert len(alarms) == 1
    assert "broker-ec.pem" in alarms[0]


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
    with pytest.raises(ValueError, match="minTLS: not yet"):
        serverFromString(reactor, "ocpps:9443:certificate=a:privateKey=b:minTLS=1.0")
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
async def test_without_its_files_a_dial_fails_and_the_missing_file_is_said_once(ports: Open, pki: Path, logged: list[str]) -> None:
    port = await ports(pki)
    creator = client_options(replace(TENANT, cpms_ca_file=f"{pki}/missing.pem"))
    for _ in range(2):
        with pytest.raises(Exception, match=r"(?i)certificate|verif"):
            await port.dial(creator)
    assert [line for line in logged if "ALARM" in line] == [f"ALARM tls-files: acme: {pki}/missing.pem: No such file or directory"]


def test_a_ws_cpms_needs_no_tls() -> None:
    assert client_options(replace(TENANT, cpms_url="ws://localhost/ocpp")) is None
