"""SIGHUP to a running service under links that live: certificates, revocation, credentials, tenants, modes, and files that are broken."""

from __future__ import annotations

import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faulty
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from make_pki import Issued, issue
from running import Running, free_port
from threaded_cpms import ThreadedCpms
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection
from websockets.typing import Subprotocol

from broker.passwords import hashed

OCPP = Subprotocol("ocpp1.6")
HEARTBEAT = '[2,"h","Heartbeat",{}]'
ACCEPTED = '[3,"g",{"status":"Accepted"}]'
LISTED = hashed(b"listed", b"0123456789abcdef")


class Cpms(ThreadedCpms):
    """Answers every CALL with {}, tells what it heard, and says what it is told to."""

    def __init__(self) -> None:
        self.links: list[ServerConnection] = []
        super().__init__(OCPP)

    def came(self, link: ServerConnection) -> None:
        self.links.append(link)

    def said(self, link: ServerConnection, text: str) -> None:
        if text.startswith("[2"):
            link.send(f'[3,"{json.loads(text)[1]}",{{}}]')

    def give(self, password: str) -> None:
        self.links[-1].send(json.dumps([2, "g", "ChangeConfiguration", {"key": "AuthorizationKey", "value": password}]))


@pytest.fixture
def cpms() -> Iterator[Cpms]:
    one = Cpms()
    yield one
    one.stop()


class World(Running):
    """A broker whose configuration a test changes."""

    port: int

    def hang_up(self) -> str:
        """SIGHUP, and what the log says of it."""
        before = self.reload()
        until(lambda: self.reloaded(before))
        return self.reloaded(before)

    def dial(self, path: str, password: bytes = b"listed", tls: ssl.SSLContext | None = None) -> ClientConnection:
        shown = "Basic " + b64encode(path.rpartition("/")[2].encode() + b":" + password).decode()
        url = f"{'wss' if tls else 'ws'}://localhost:{self.port}/{path}"
        headers = {"Authorization": shown}
        return connect(url, subprotocols=[OCPP], additional_headers=headers, ssl=tls, open_timeout=15, close_timeout=2)

    def status(self, path: str, password: bytes = b"listed") -> int:
        """Connects and leaves again; what it was answered."""
        try:
            with self.dial(path, password):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


def until(true: Callable[[], object], most_s: float = 60.0) -> None:
    deadline = time.monotonic() + most_s
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)  # two processes have no clock to wind


def lives(station: ClientConnection) -> None:
    """A frame goes there and back."""
    station.send(HEARTBEAT)
    assert station.recv(10) == '[3,"h",{}]'


@pytest.fixture
def patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer waits for its commit as long as a busy machine takes."""
    faulty.install(tmp_path, monkeypatch)
    (tmp_path / "patient").write_text("50")


def world(folder: Path, config: str, *, listen: str = "tcp:{port}:interface=127.0.0.1") -> World:
    (folder / "secret").write_text("x")
    port = free_port()
    one = World(folder, f'hold = "60s"\n[[listen]]\nendpoint = "{listen.format(port=port)}"\n{config}')
    one.port = port
    return one


def tenant(name: str, cpms: Cpms, *more: str) -> str:
    return "\n".join(["[[tenants]]", f'name = "{name}"', f'cpms_url = "{cpms.url}"', *more, ""])


def judged(cpms: Cpms, credentials: str, mode: str) -> str:
    """One station, and an engine that is away."""
    lines = [f'mode = "{mode}"', f'credentials = "{credentials}"', 'unlisted = "refuse"', "[tenants.engine]", 'client_id = "acme"']
    lines += [f'url = "http://127.0.0.1:{free_port()}"', 'client_secret_file = "secret"', "[[tenants.sites]]", 'name = "hq"']
    return tenant("acme", cpms, *lines, "[[tenants.stations]]", 'id = "S"', f'password_hash = "{LISTED}"')


# ---------------------------------------------------------------- certificates


def revoking(authority: Issued, *revoked: Issued) -> bytes:
    """A CA's list of these."""
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(now - timedelta(days=1)).next_update(now + timedelta(days=1))
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def shown(station: ClientConnection) -> bytes:
    """The certificate that the broker showed."""
    assert isinstance(station.socket, ssl.SSLSocket)
    return station.socket.getpeercert(binary_form=True) or b""


def trusting(folder: Path, name: str) -> ssl.SSLContext:
    tls = ssl.create_default_context(cafile=folder / "ca.pem")
    tls.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return tls


def test_a_renewed_certificate_and_another_revocation_list_count_for_who_comes_and_disturb_nobody(tmp_path: Path, cpms: Cpms) -> None:
    authority, stations = issue("Broker CA", None), issue("Stations", None)
    good, bad = issue("good", stations, client=True), issue("bad", stations, client=True)
    old, new = (issue("localhost", authority, hosts=("localhost",)) for _ in range(2))
    for name, issued in (("ca", authority), ("stations", stations), ("good", good), ("bad", bad), ("broker", old)):
        issued.write(tmp_path, name)
    (tmp_path / "list.pem").write_bytes(revoking(stations))
    listen = "ocpps:{port}:interface=127.0.0.1:certificate=broker.pem:privateKey=broker.key:clientCAs=stations.pem:crl=list.pem"
    lines = ['mode = "relay"', "security_profile = 3", 'station_ca_file = "stations.pem"']
    with world(tmp_path, tenant("acme", cpms, *lines), listen=listen) as broker:
        with broker.dial("acme/bad", tls=trusting(tmp_path, "bad")) as living:
            assert shown(living) == old.certificate.public_bytes(serialization.Encoding.DER)
            new.write(tmp_path, "broker")
            (tmp_path / "list.pem").write_bytes(revoking(stations, bad))
            assert "reload: done" in broker.hang_up()

            def renewed() -> bool:
                with broker.dial("acme/good", tls=trusting(tmp_path, "good")) as another:
                    return shown(another) == new.certificate.public_bytes(serialization.Encoding.DER)

            until(renewed)
            lives(living)
        with (
            pytest.raises((OSError, EOFError, WebSocketException)),
            broker.dial("acme/bad", tls=trusting(tmp_path, "bad")) as refused,
        ):
            refused.recv(10)
        assert "client certificate 'bad': cert revoked" in broker.log.read_text()
        (tmp_path / "broker.pem").write_text("rubbish")
        said = broker.hang_up()
        assert "broker.pem" in said
        assert "the old configuration stays in force" in said
        assert renewed(), "and the good one is still shown"
        broker.stop()


# ---------------------------------------------------------------- credentials and modes


def follows(broker: World, cpms: Cpms, station: ClientConnection, password: str) -> None:
    """The CPMS gives the station of this link a password: it is on disk when the CPMS hears that it was taken."""
    cpms.heard.clear()
    cpms.on_heard = lambda text: broker.kill() if text == ACCEPTED else None
    cpms.give(password)
    assert json.loads(station.recv(10))[1] == "g"
    station.send(ACCEPTED)
    until(lambda: ACCEPTED in cpms.heard)
    cpms.on_heard = lambda _: None
    broker.start()
    assert broker.status("acme/S", password.encode()) == 101


@pytest.mark.usefixtures("patient")
def test_credentials_checked_from_now_on_end_no_link_and_what_its_cpms_gives_is_followed_at_once(tmp_path: Path, cpms: Cpms) -> None:
    with world(tmp_path, judged(cpms, "forward", "shadow")) as broker:
        assert broker.status("acme/S", b"whatever") == 101, "the CPMS judges it"
        with broker.dial("acme/S", b"whatever") as living:
            broker.edit('credentials = "forward"', 'credentials = "check"')
            assert "tenant acme: credentials: forward → check" in broker.hang_up()
            assert broker.status("acme/S", b"whatever") == 401
            lives(living)
            follows(broker, cpms, living, "newer")
        broker.edit('credentials = "check"', 'credentials = "forward"')
        assert "tenant acme: credentials: check → forward" in broker.hang_up()
        assert broker.status("acme/S", b"whatever") == 101
        broker.stop()


@pytest.mark.usefixtures("patient")
def test_a_mode_that_changes_both_ways_changes_who_learns_from_the_link_that_lives(tmp_path: Path, cpms: Cpms) -> None:
    with world(tmp_path, judged(cpms, "check", "relay")) as broker:
        with broker.dial("acme/S") as living:
            link = broker.get("/api/v1/stations/acme/S")["link"]
            for mode, before in (("driver-identification", "relay"), ("shadow", "driver-identification"), ("relay", "shadow")):
                broker.edit(f'mode = "{before}"', f'mode = "{mode}"')
                assert f"mode: {before} → {mode}" in broker.hang_up()
                until(lambda mode=mode: ("learned" in found(broker, mode)) == (mode != "relay"))  # type: ignore[misc]
                lives(living)
            assert broker.get("/api/v1/stations/acme/S")["link"] == link, "one link all the time"
            cpms.give("unseen")
            assert json.loads(living.recv(10))[1] == "g"
            living.send(ACCEPTED)
            until(lambda: ACCEPTED in cpms.heard)
            broker.edit('mode = "relay"', 'mode = "shadow"')
            broker.hang_up()
            until(lambda: "learned" in found(broker, "shadow"))
            follows(broker, cpms, living, "newer")
        assert broker.status("acme/S", b"unseen") == 401, "in mode relay nothing is read"
        broker.stop()


def found(broker: World, mode: str) -> dict[str, object]:
    """What is known of the station, once it is in that mode."""
    told: dict[str, object] = broker.get("/api/v1/stations/acme/S")
    assert told["mode"] == mode
    return {name: value for name, value in told.items() if value}


# ---------------------------------------------------------------- tenants


def test_a_tenant_comes_and_goes_beside_one_that_does_not_notice(tmp_path: Path, cpms: Cpms) -> None:
    other = Cpms()
    try:
        with world(tmp_path, tenant("acme", cpms, 'mode = "relay"')) as broker, broker.dial("acme/S") as living:
            assert broker.status("beta/S") == 404
            before = broker.toml.read_text()
            broker.toml.write_text(before + tenant("beta", other, 'mode = "relay"'))
            assert "reload: tenant beta: added" in broker.hang_up()
            with broker.dial("beta/S") as guest:
                lives(guest)
                assert len(other.links) == 1, "at its own CPMS"
                broker.toml.write_text(before)
                assert "reload: tenant beta: removed" in broker.hang_up()
                with pytest.raises(ConnectionClosed) as closed:
                    guest.recv(60)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1008
            assert broker.status("beta/S") == 404
            lives(living)
            broker.stop()
    finally:
        other.stop()


# ---------------------------------------------------------------- broken files


def test_a_broken_file_is_one_clear_line_and_changes_nothing(tmp_path: Path, cpms: Cpms) -> None:
    (tmp_path / "acme.csv").write_text("station\nS\n")
    lines = ['mode = "relay"', 'unlisted = "refuse"', 'stations_file = "acme.csv"']
    with world(tmp_path, tenant("acme", cpms, *lines)) as broker, broker.dial("acme/S") as living:
        good = broker.toml.read_text()
        broken = [
            (lambda: broker.toml.write_text(good + '[[tenants]\nname = "x"\n'), "broker.toml"),
            (lambda: broker.toml.write_bytes(good.encode() + b"# \xff\n"), "broker.toml"),
            (broker.toml.unlink, "broker.toml"),
            (lambda: (tmp_path / "acme.csv").write_text("station,evse\nS,none\n"), "acme.csv:2"),
            ((tmp_path / "acme.csv").unlink, "acme.csv"),
        ]
        for spoil, where in broken:
            spoil()
            said = [line for line in broker.hang_up().splitlines() if "reload: " in line]
            assert len(said) == 2, said
            assert where in said[0]
            assert "1 mistakes; the old configuration stays in force" in said[1]
            broker.toml.write_text(good)
            lives(living)
            assert broker.status("acme/other") == 404, "the old list holds"
        (tmp_path / "acme.csv").write_text("station\nS\nother\n")
        assert "station acme/other: added" in broker.hang_up()
        assert broker.status("acme/other") == 101
        broker.stop()
    assert "Traceback" not in broker.log.read_text()
