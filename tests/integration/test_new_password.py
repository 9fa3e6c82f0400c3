"""credentials = "check" on the running service: the CPMS gives a station another password, and the station comes back with it."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faulty
import pytest
from running import Running, free_port
from threaded_cpms import ThreadedCpms
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection
from websockets.typing import Subprotocol

from broker.passwords import hashed

OLD, NEW_HEX = b"listed-s3cret", "00112233445566778899aabbccddeeff00112233"
NEW = bytes.fromhex(NEW_HEX)
OCPP, OCPP21 = Subprotocol("ocpp1.6"), Subprotocol("ocpp2.1")

CONFIG = """
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{cpms}/ocpp"
mode = "{mode}"
unlisted = "refuse"
credentials = "check"
[tenants.engine]
url = "http://127.0.0.1:{engine}"
client_id = "acme"
client_secret_file = "secret"
[[tenants.sites]]
name = "hq"
[[tenants.stations]]
id = "CS-7"
password_hash = "{line}"
"""


class Cpms(ThreadedCpms):
    """Says to each station that connects what it was told to say."""

    def __init__(self) -> None:
        self.say: list[str] = []
        self.shown: list[str] = []
        super().__init__(OCPP, OCPP21)

    def came(self, link: ServerConnection) -> None:
        assert link.request is not None
        self.shown.append(link.request.headers.get("Authorization", ""))
        for one in self.say:
            link.send(one)


@pytest.fixture
def cpms() -> Iterator[Cpms]:
    one = Cpms()
    yield one
    one.stop()


def dial(port: int, password: bytes, version: Subprotocol = OCPP) -> ClientConnection:
    shown = "Basic " + b64encode(b"CS-7:" + password).decode()
    headers = {"Authorization": shown}
    return connect(f"ws://127.0.0.1:{port}/acme/CS-7", subprotocols=[version], additional_headers=headers, open_timeout=15)


def status(port: int, password: bytes) -> int:
    """Connects and leaves again; what it was answered."""
    try:
        with dial(port, password):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def until(true: Any) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # two processes and a thread have no clock to wind


def stored(folder: Path) -> str:
    """Every fact on disk."""
    with sqlite3.connect(f"file:{folder / 'var' / 'store.sqlite'}?mode=ro", uri=True) as store:
        tables = [row[0] for row in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "\n".join(repr(row) for table in tables for row in store.execute(f'SELECT * FROM "{table}"'))


@pytest.mark.parametrize("mode", ["driver-identification", "shadow"])
def test_a_password_that_the_cpms_gives_counts_from_the_next_connection_and_after_a_restart(tmp_path: Path, cpms: Cpms, mode: str) -> None:
    port = free_port()
    (tmp_path / "secret").write_text("x")
    line = hashed(OLD, b"0123456789abcdef")
    given = json.dumps([2, "cfg-1", "ChangeConfiguration", {"key": "AuthorizationKey", "value": NEW_HEX}])
    config = CONFIG.format(port=port, cpms=cpms.port, engine=free_port(), mode=mode, line=line)
    with Running(tmp_path, config) as broker:
        assert status(port, NEW) == 401, "not yet"
        cpms.say = [given]
        with dial(port, OLD) as station:
            assert station.recv(10) == given, "the CALL passes as it came"
            station.send('[3,"cfg-1",{"status":"Accepted"}]')
            until(lambda: '[3,"cfg-1",{"status":"Accepted"}]' in cpms.heard)
        cpms.say = []
        assert status(port, OLD) == 101, "it may take the new one only after a reboot"
        assert status(port, b"wrong") == 401
        broker.kill()
        broker.start()
        assert status(port, NEW) == 101, "as the bytes that the hex stands for"
        until(lambda: status(port, OLD) == 401)
        assert status(port, NEW_HEX.upper().encode()) == 101, "as the hex text"
        as_it_came = "Basic " + b64encode(b"CS-7:" + NEW_HEX.upper().encode()).decode()
        until(lambda: cpms.shown[-1] == as_it_came)  # its thread notes it once the station is in
        assert broker.get("/api/v1/alarms") == {"alarms": []}
        broker.stop()
    said = broker.log.read_text() + stored(tmp_path)
    assert "its CPMS gave it another password: its hash is stored" in said
    for secret in (NEW_HEX, repr(NEW), OLD.decode(), b64encode(NEW).decode()):
        assert secret.lower() not in said.lower()


def given(value: str, id: str = "cfg-1") -> str:
    return json.dumps([2, id, "ChangeConfiguration", {"key": "AuthorizationKey", "value": value}])


def configured(folder: Path, port: int, cpms: Cpms, mode: str = "shadow") -> str:
    (folder / "secret").write_text("x")
    return CONFIG.format(port=port, cpms=cpms.port, engine=free_port(), mode=mode, line=hashed(OLD, b"0123456789abcdef"))


def count(broker: Running, name: str) -> float:
    """What the metric says."""
    found = re.search(rf"^ocppbroker_{name} (\S+)$", broker.get("/metrics"), re.M)
    assert found is not None
    return float(found[1])


def variables(value: str, id: str) -> tuple[str, str]:
    """SetVariables and its answer."""
    place = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    call = [2, id, "SetVariables", {"setVariableData": [{"attributeValue": value, **place}]}]
    return json.dumps(call), json.dumps([3, id, {"setVariableResult": [{"attributeStatus": "Accepted", **place}]}])


def profile(value: str, id: str) -> tuple[str, str]:
    """SetNetworkProfile (2.1) and its answer."""
    connection = {"ocppInterface": "Wired0", "ocppTransport": "JSON", "ocppCsmsUrl": "ws://127.0.0.1", "messageTimeout": 30}
    connection |= {"securityProfile": 1, "identity": "CS-7", "basicAuthPassword": value}
    call = [2, id, "SetNetworkProfile", {"configurationSlot": 1, "connectionData": connection}]
    return json.dumps(call), json.dumps([3, id, {"status": "Accepted"}])


def configuration(value: str, id: str) -> tuple[str, str]:
    """ChangeConfiguration (1.6) and its answer."""
    return given(value, id), json.dumps([3, id, {"status": "RebootRequired"}])


@pytest.mark.parametrize(("version", "ways"), [(OCPP, [configuration] * 3), (OCPP21, [variables, profile])])
def test_a_kill_as_soon_as_the_cpms_knows_that_a_password_was_taken_never_loses_it(
    tmp_path: Path, cpms: Cpms, monkeypatch: pytest.MonkeyPatch, version: Subprotocol, ways: list[Callable[[str, str], tuple[str, str]]]
) -> None:
    """The station answers at once, long before the hash is made; each time it comes back with the new one, and is let in.

    How long an answer may wait is stretched: a machine that is busy for more than 250 ms breaks the promise, and is allowed to.
    """
    port, own = free_port(), OLD
    faulty.install(tmp_path, monkeypatch)
    (tmp_path / "patient").write_text("50")
    with Running(tmp_path, 'hold = "60s"\n' + configured(tmp_path, port, cpms)) as broker:
        cpms.on_heard = lambda _: broker.kill()
        for n, way in enumerate(ways):
            call, answer = way(f"newer-password-{n}", f"cfg-{n}")
            cpms.say = [call]
            with dial(port, own, version) as station:
                assert station.recv(10) == call
                station.send(answer)
                with pytest.raises(ConnectionClosed):
                    station.recv(60)
            assert cpms.heard[-1] == answer
            broker.start()
            cpms.say, own = [], f"newer-password-{n}".encode()
            assert status(port, own) == 101, n
        broker.stop()


@pytest.mark.parametrize("answer", ['[3,"cfg-1",{"status":"Rejected"}]', '[4,"cfg-1","InternalError","",{}]'])
def test_a_password_that_the_station_refuses_never_counts(tmp_path: Path, cpms: Cpms, answer: str) -> None:
    port = free_port()
    with Running(tmp_path, configured(tmp_path, port, cpms)) as broker:
        cpms.say = [given("refused-password")]
        with dial(port, OLD) as station:
            station.recv(10)
            station.send(answer)
            until(lambda: "it counts no more" in broker.log.read_text())
        cpms.say = []
        assert cpms.heard == [answer]
        assert status(port, b"refused-password") == 401
        broker.kill()
        broker.start()
        assert status(port, b"refused-password") == 401
        assert status(port, OLD) == 101
        assert broker.get("/api/v1/alarms") == {"alarms": []}
        broker.stop()


def test_a_password_whose_link_died_before_an_answer_counts_beside_the_old_one(tmp_path: Path, cpms: Cpms) -> None:
    port = free_port()
    with Running(tmp_path, configured(tmp_path, port, cpms)) as broker:
        cpms.say = [given("unanswered-password")]
        with dial(port, OLD) as station:
            station.recv(10)
        cpms.say = []
        assert status(port, OLD) == 101, "it was waited with until it is known what counts"
        broker.kill()
        broker.start()
        assert status(port, OLD) == 101, "it did not take it"
        assert status(port, b"unanswered-password") == 101, "or it did"
        until(lambda: status(port, OLD) == 401)
        broker.stop()
    assert "pending" not in stored(tmp_path)


def test_what_the_station_says_meanwhile_waits_behind_its_answer_and_a_disk_that_is_too_slow_is_not_waited_for(
    tmp_path: Path, cpms: Cpms, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    faulty.install(tmp_path, monkeypatch)
    with Running(tmp_path, configured(tmp_path, port, cpms)) as broker:
        cpms.say = [given("newer-password")]
        answer, later = '[3,"cfg-1",{"status":"Accepted"}]', ['[2,"h1","Heartbeat",{}]', '[6,"h2","Stream",{}]', "rubbish"]
        with dial(port, OLD) as station:
            (tmp_path / "slow").write_text("1")
            station.recv(10)
            began = time.monotonic()
            for text in (answer, *later):
                station.send(text)
            until(lambda: cpms.heard)
            assert time.monotonic() - began >= 0.24
            until(lambda: len(cpms.heard) == 4)
            assert cpms.heard == [answer, *later]
            assert count(broker, "unpromised_total") == 1
            (tmp_path / "slow").unlink()
        cpms.say = []
        until(lambda: status(port, b"newer-password") == 101)
        assert broker.get("/api/v1/alarms") == {"alarms": []}, "it was stored in the end"
        broker.stop()


def test_a_disk_that_refuses_is_an_alarm_and_holds_nothing(tmp_path: Path, cpms: Cpms, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    faulty.install(tmp_path, monkeypatch)
    with Running(tmp_path, configured(tmp_path, port, cpms)) as broker:
        cpms.say = [given("newer-password")]
        with dial(port, OLD) as station:
            (tmp_path / "refuse").touch()
            station.recv(10)
            station.send('[3,"cfg-1",{"status":"Accepted"}]')
            until(lambda: cpms.heard)
            until(lambda: [one for one in broker.get("/api/v1/alarms")["alarms"] if one["name"] == "password"])
            assert count(broker, "unpromised_total") == 1
        broker.stop()
    assert "newer-password" not in broker.log.read_text()


def test_a_url_that_the_cpms_gives_is_an_alarm_that_says_what_follows(tmp_path: Path, cpms: Cpms) -> None:
    port = free_port()
    (tmp_path / "secret").write_text("x")
    given = '[2,"cfg-1","ChangeConfiguration",{"key":"BackendUrl","value":"wss://s3cret.example"}]'
    cpms.say = [given]
    config = CONFIG.format(
        port=port, cpms=cpms.port, engine=free_port(), mode="driver-identification", line=hashed(OLD, b"0123456789abcdef")
    )
    with Running(tmp_path, config) as broker:
        with dial(port, OLD) as station:
            assert station.recv(10) == given
            station.send('[3,"cfg-1",{"status":"RebootRequired"}]')
            until(lambda: broker.get("/api/v1/alarms")["alarms"])
        (alarm,) = broker.get("/api/v1/alarms")["alarms"]
        assert (alarm["name"], alarm["subject"], alarm["fault"]) == ("url", "acme/CS-7", "cpms")
        assert "BackendUrl" in alarm["text"]
        assert "after its next reboot" in alarm["text"]
        broker.stop()
    assert "s3cret" not in broker.log.read_text()
