"""Revocation lists on real handshakes: who is taken back stays out, and a list that is overdue locks nobody out in silence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st
from make_pki import Issued, issue
from OpenSSL import SSL
from tlsports import Open, Plainly, Port, owned, reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import Clock

from broker.net.clientcert import peer_identity
from broker.net.crl import Lists, end, load_lists, read_lists
from broker.net.expiry import examine
from broker.net.pem import CannotLoad
from broker.net.watchman import Files, Watchman
from broker.settings import ListenSettings, Settings

DAY = 86400.0
VERSIONS = [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION]


def revoking(authority: Issued, *revoked: Issued, due: float = 1, begins: float = -30) -> x509.CertificateRevocationList:
    """A CA's list of these, `due` days from now."""
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(now + timedelta(days=begins)).next_update(now + timedelta(days=due))
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(now - timedelta(days=1))
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, hashes.SHA256())


def pem(*lists: x509.CertificateRevocationList) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in lists)


class Revoking:
    """A folder with a CA, two of its stations, and a port that reads `list.pem`."""

    def __init__(self, folder: Path, pki: Path, ports: Open) -> None:
        self.folder, self.pki, self.ports = folder, pki, ports
        self.authority = issue("Stations", None)
        self.authority.write(folder, "stations")
        self.good, self.bad = (issue(name, self.authority, client=True) for name in ("CS-7", "CS-8"))

    def publish(self, *lists: x509.CertificateRevocationList) -> None:
        (self.folder / "list.pem").write_bytes(pem(*lists))

    async def port(self, **parts: str) -> Port:
        port: Port = await self.ports(self.pki, **{"clientCAs": f"{self.folder}/stations.pem", "crl": f"{self.folder}/list.pem", **parts})
        port.endpoint.lists.look_every_s = 0
        return port


@pytest.fixture
def world(tmp_path: Path, pki: Path, ports: Open) -> Revoking:
    return Revoking(tmp_path, pki, ports)


# ---------------------------------------------------------------- who gets in


@pytest.mark.parametrize("newest", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_revoked_certificate_is_refused_by_name_and_the_others_get_in(world: Revoking, logged: list[str], newest: int) -> None:
    world.publish(revoking(world.authority, world.bad))
    port = await world.port()
    await port.refuses(newest=newest, shows=world.bad)
    assert logged == ["refused at the TLS handshake: client certificate 'CS-8': cert revoked, from 127.0.0.1"]
    await port.dial(newest=newest, shows=world.good)
    identity = peer_identity(port.echoes.came[0])
    assert identity is not None
    assert identity.cn == "CS-7"


@pytest.mark.parametrize("newest", VERSIONS)
@pytest_twisted.ensureDeferred
async def test_a_renewed_list_counts_for_the_next_handshake_and_a_session_cannot_be_resumed_past_it(world: Revoking, newest: int) -> None:
    world.publish(revoking(world.authority))
    port, station = await world.port(), Plainly(newest=newest, shows=world.bad)
    first = await port.dial(station)
    station.session = first.transport.getHandle().get_session()  # type: ignore[union-attr]
    world.publish(revoking(world.authority, world.bad, due=2))
    with pytest.raises(Exception, match=r".*") as caught:
        await port.dial(station)
    assert "SSL" in repr(caught.value) or "Connection" in type(caught.value).__name__
    assert len(port.echoes.came) == 1
    assert await first.say(b"a link that lives is left alone") == b"a link that lives is left alone"


@pytest.mark.parametrize(
    ("due", "grace", "gets_in"),
    [(-6, "7d", True), (-8, "7d", False), (-6, None, True), (-8, None, False), (-0.01, "0s", False), (-20, "30d", True)],
)
@pytest_twisted.ensureDeferred
async def test_an_overdue_list_is_used_as_long_as_it_may_be(
    world: Revoking, logged: list[str], due: float, grace: str | None, gets_in: bool
) -> None:
    world.publish(revoking(world.authority, world.bad, due=due))
    port = await world.port(**({} if grace is None else {"crlGrace": grace}))
    if gets_in:
        await port.dial(shows=world.good)
        port.echoes.came.clear()
    else:
        await port.refuses(shows=world.good)
        assert logged == ["refused at the TLS handshake: client certificate 'CS-7': crl has expired, from 127.0.0.1"]
    await port.refuses(shows=world.bad)


@pytest_twisted.ensureDeferred
async def test_a_clock_of_ours_that_is_behind_refuses_the_revoked_only(world: Revoking) -> None:
    world.publish(revoking(world.authority, world.bad, begins=1, due=2))
    port = await world.port()
    await port.refuses(shows=world.bad)
    await port.dial(shows=world.good)


@pytest_twisted.ensureDeferred
async def test_a_ca_between_is_judged_by_its_parents_list_and_judges_by_its_own(world: Revoking, tmp_path: Path, logged: list[str]) -> None:
    between, gone = (issue(name, world.authority, ca=True) for name in ("Between", "Gone"))
    station, lost, below = issue("CS-1", between, client=True), issue("CS-2", between, client=True), issue("CS-3", gone, client=True)
    world.publish(revoking(world.authority, gone), revoking(between, lost), revoking(gone))
    port = await world.port()
    await port.refuses(shows=lost, below=[between])
    await port.refuses(shows=below, below=[gone])
    assert "'Gone': cert revoked" in logged[1]
    await port.dial(shows=station, below=[between])
    between.write(tmp_path, "between")
    alone = await world.port(clientCAs=f"{tmp_path}/between.pem")  # its parent is not known here, nor that one's list
    await alone.dial(shows=station)


@pytest_twisted.ensureDeferred
async def test_a_parent_that_issues_to_no_station_needs_no_list(world: Revoking, tmp_path: Path) -> None:
    between = issue("Between", world.authority, ca=True)
    (tmp_path / "both.pem").write_bytes(world.authority.pem + between.pem)
    lost = issue("CS-2", between, client=True)
    world.publish(revoking(between, lost))
    port = await world.port(clientCAs=f"{tmp_path}/both.pem")
    await port.refuses(shows=lost)
    await port.dial(shows=issue("CS-1", between, client=True))


@pytest_twisted.ensureDeferred
async def test_a_list_that_somebody_else_signed_revokes_nothing_and_vouches_for_nothing(world: Revoking, logged: list[str]) -> None:
    upper = issue("Upper", world.authority, ca=True)
    between = issue("Between", upper, ca=True)
    world.publish(revoking(world.authority), revoking(issue("Upper", None)), revoking(between))
    port = await world.port()
    await port.refuses(shows=issue("CS-1", between, client=True), below=[between, upper])
    assert "'Between': crl signature failure" in logged[0]


@pytest_twisted.ensureDeferred
async def test_a_station_below_a_ca_without_a_list_is_refused_by_name(world: Revoking, logged: list[str]) -> None:
    between = issue("Between", world.authority, ca=True)
    world.publish(revoking(world.authority))
    port = await world.port()
    await port.refuses(shows=issue("CS-1", between, client=True), below=[between])
    assert "'CS-1': unable to get crl" in logged[0]


# ---------------------------------------------------------------- files


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("becomes", [None, b"rubbish", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "foreign"])
async def test_a_list_that_goes_bad_leaves_the_last_good_one_and_holds_up_no_certificate(
    world: Revoking, own: Path, pki: Path, becomes: Any
) -> None:
    world.publish(revoking(world.authority, world.bad))
    parts = {name: f"{own}/broker-ec.{end}" for name, end in (("certificate", "pem"), ("privateKey", "key"))}
    port = await world.port(**parts)
    if becomes is None:
        (world.folder / "list.pem").unlink()
    else:
        foreign = pem(revoking(issue("Stations", None)))
        (world.folder / "list.pem").write_bytes(foreign if becomes == "foreign" else becomes)
    renewed = issue("localhost", owned(pki, "broker-ca-ec"), hosts=("localhost",))
    renewed.write(own, "broker-ec")
    await port.refuses(shows=world.bad)
    caller = await port.dial(shows=world.good)
    shown = caller.transport.getHandle().get_peer_certificate(as_cryptography=True)  # type: ignore[union-attr]
    assert shown == renewed.certificate


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file"),
        (b"", "holds no revocation list"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "holds no revocation list"),
        ("foreign", "CN=Stations,O=Development did not sign its list"),
        ("another", "no list of CN=Stations,O=Development, which is one of clientCAs"),
        (b"x" * (4 * 1024 * 1024 + 1), "is longer than"),
    ],
    ids=["missing", "empty", "broken", "foreign", "another CA", "long"],
)
@pytest_twisted.ensureDeferred
async def test_without_a_list_of_its_ca_a_port_opens_at_a_start_alone_and_lets_nobody_in_until_there_is_one(
    world: Revoking, logged: list[str], text: Any, why: str
) -> None:
    lists = {"foreign": revoking(issue("Stations", None)), "another": revoking(issue("Other", None))}
    if text is not None:
        (world.folder / "list.pem").write_bytes(pem(lists[text]) if isinstance(text, str) else text)
    port = await world.port()
    said = logged.pop()
    assert re.search(rf"list\.pem: .*{why}.*: until it loads, stations are refused at port 0", said), said
    with pytest.raises(CannotLoad, match=rf"list\.pem: .*{why}"):
        serverFromString(reactor, port.text).wrapped(port.echoes)  # type: ignore[attr-defined]  # as a reload does
    await port.refuses(shows=world.good)
    assert logged == ["refused at the TLS handshake: client certificate 'CS-7': unable to get crl, from 127.0.0.1"]
    await port.refuses()
    world.publish(revoking(world.authority, world.bad))
    await port.refuses(shows=world.bad)
    await port.dial(shows=world.good)


def test_a_list_may_come_as_der_and_a_parent_that_signs_no_stations_needs_none(tmp_path: Path) -> None:
    root = issue("Root", None)
    between = issue("Between", root, ca=True)
    file = tmp_path / "list.der"
    file.write_bytes(revoking(between).public_bytes(serialization.Encoding.DER))
    authorities = [root.certificate, between.certificate]
    assert len(read_lists(str(file))) == 1
    assert load_lists([str(file)], authorities, timedelta()).crls[0].issuer == between.certificate.subject


# ---------------------------------------------------------------- the alarm


def alarms(world: Revoking, wall: Callable[[], float]) -> tuple[Watchman, Settings]:
    parts = f"certificate={world.pki}/broker-ec.pem:privateKey={world.pki}/broker-ec.key"
    endpoint = f"ocpps:0:{parts}:clientCAs={world.folder}/stations.pem:crl={world.folder}/list.pem"
    settings = Settings(listen=(ListenSettings(endpoint),))
    return Watchman((Files(lambda: settings, wall, maybeDeferred),), Clock(), wall), settings


def test_an_overdue_list_is_an_alarm_that_says_until_when_and_ends_with_the_next_list(world: Revoking) -> None:
    now = [datetime.now(UTC).timestamp()]
    world.publish(revoking(world.authority, due=1))
    watchman, settings = alarms(world, lambda: now[0])
    watchman.look()
    assert watchman.current() == []
    now[0] += 2 * DAY
    watchman.look()
    (alarm,) = watchman.current()
    assert (alarm["name"], alarm["subject"], alarm["fault"]) == ("crl", "CN=Stations,O=Development", "operator")
    assert "it is used until" in alarm["text"]
    assert "then that CA's stations are refused" in alarm["text"]
    now[0] += 7 * DAY
    watchman.look()
    assert "it was used until" in watchman.current()[0]["text"]
    (mistake,) = examine(settings, datetime.fromtimestamp(now[0], UTC)).mistakes
    assert mistake.startswith(f"listen[0].endpoint: {world.folder}/list.pem: CN=Stations,O=Development: its list of revoked certificates")
    world.publish(revoking(world.authority, due=30))
    watchman.look()
    assert watchman.current() == []


def test_a_list_that_went_missing_is_an_alarm_and_the_one_in_use_still_grows_old(world: Revoking) -> None:
    now = [datetime.now(UTC).timestamp()]
    world.publish(revoking(world.authority, due=1))
    watchman, _ = alarms(world, lambda: now[0])
    watchman.look()
    (world.folder / "list.pem").unlink()
    watchman.look()
    assert [one["name"] for one in watchman.current()] == ["files"]
    now[0] += 2 * DAY
    watchman.look()
    assert [one["name"] for one in watchman.current()] == ["crl", "files"]
    world.publish(revoking(world.authority, due=30))
    watchman.look()
    assert watchman.current() == []


# ---------------------------------------------------------------- the rule by itself


AUTHORITY = issue("Stations", None)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=4), st.integers(0, 10), st.integers(-30, 40))
def test_lists_are_usable_until_the_last_of_them_is_overdue_for_longer_than_the_grace(dues: Sequence[int], grace: int, day: int) -> None:
    lists = Lists(tuple(revoking(AUTHORITY, due=due) for due in dues), timedelta(days=grace))
    (newest,) = lists.newest()
    now = datetime.now(UTC) + timedelta(days=day + 0.5)
    assert lists.usable(AUTHORITY.certificate.subject, now) is (day + 0.5 < max(dues) + grace)
    assert end(newest, lists.grace) == max(one.next_update_utc or now for one in lists.crls) + lists.grace
    assert not lists.usable(x509.Name([]), now)
