"""The console's end of the admin side, against an HTTP server that is none of ours."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from broker.cli import main
from broker.net.admin_client import AdminClient, Unanswered, path_of
from broker.settings import BrokerSettings, Settings

CONFIG = """
[broker]
admin = "{admin}"
admin_token_file = "token"
[[listen]]
endpoint = "tcp:9000"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:1/ocpp"
"""


class Said(BaseHTTPRequestHandler):
    """Answers all with what the server is told to, and keeps what it was asked."""

    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Not on the tests' output."""


@pytest.fixture(params=["tcp", "unix"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A server with `.admin` (its endpoint), `.answer` to be set, `.asked`, `.folder`."""
    unix = str(tmp_path / "admin.sock")
    server: Any = socketserver.UnixStreamServer(unix, Said) if request.param == "unix" else socketserver.TCPServer(("127.0.0.1", 0), Said)
    server.admin = f"unix:{unix}" if request.param == "unix" else f"tcp:{server.server_address[1]}:interface=127.0.0.1"
    server.asked, server.answer, server.folder = [], (200, b"{}"), tmp_path
    (tmp_path / "token").write_text("let-me-in\n")
    (tmp_path / "broker.toml").write_text(CONFIG.format(admin=server.admin))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with server:
        yield server
        server.shutdown()
        thread.join()


def client(broker: Any) -> AdminClient:
    return AdminClient(Settings(broker=BrokerSettings(admin=broker.admin, admin_token_file=str(broker.folder / "token"))))


def refusal(broker: Any, status: int, body: bytes) -> Unanswered:
    broker.answer = (status, body)
    with pytest.raises(Unanswered) as refused:
        client(broker).get("/x")
    assert "let-me-in" not in str(refused.value)
    return refused.value


def test_it_is_asked_with_the_token(broker: Any) -> None:
    broker.answer = (200, b'{"stations": []}')
    assert client(broker).get(path_of("acme", "CS/7")) == {"stations": []}
    assert broker.asked == [("GET", "/api/v1/stations/acme/CS%2F7", "Bearer let-me-in")]


def test_a_stream_is_read_line_by_line(broker: Any) -> None:
    broker.answer = (200, b'{"n": 1}\n\n{"n": 2}\n')
    assert list(client(broker).stream("/tail", 5.0)) == [{"n": 1}, {"n": 2}]


def test_a_refused_stream_says_why(broker: Any) -> None:
    broker.answer = (404, b'{"error": {"code": "not-found", "message": "no such station"}}')
    with pytest.raises(Unanswered, match=r"^no such station$"):
        list(client(broker).stream("/tail", 5.0))


def test_a_refusal_says_why(broker: Any) -> None:
    refused = refusal(broker, 409, b'{"error": {"code": "released", "message": "it is released"}}')
    assert (str(refused), refused.code) == ("it is released", "released")
    assert "broker.admin_token_file" in str(refusal(broker, 401, b'{"error": {}}'))
    assert "is no broker of ours (HTTP 200)" in str(refusal(broker, 200, b"<html>"))


def test_a_reload_says_what_changed(broker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    broker.answer = (200, b'{"changes": ["tenant acme: added"]}')
    assert main(["reload", "-c", str(broker.folder / "broker.toml")]) == 0
    assert capsys.readouterr().out == "tenant acme: added\n"
    assert [asked[:2] for asked in broker.asked] == [("POST", "/api/v1/reload")]


def test_a_refused_reload_names_each_mistake(broker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    broker.answer = (422, b'{"error": {"code": "mistakes", "message": "the old one stays"}, "mistakes": ["a: wrong", "b: wrong"]}')
    assert main(["reload", "-c", str(broker.folder / "broker.toml")]) == 1
    assert capsys.readouterr().err == "ocppbroker: a: wrong\nb: wrong\nthe old one stays\n"


@pytest.mark.parametrize("command", [["reload"], ["stations"], ["show", "acme", "CS-7"]])
def test_without_a_broker_no_token_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    (tmp_path / "broker.toml").write_text(CONFIG.format(admin="tcp:1:interface=127.0.0.1"))
    asked = [*command, "-c", str(tmp_path / "broker.toml")]
    assert main(asked) == 1
    assert "a running broker makes it" in capsys.readouterr().err
    assert not (tmp_path / "token").exists()
    (tmp_path / "token").write_text("let-me-in")
    assert main(asked) == 1
    assert "no running broker at tcp:1:interface=127.0.0.1 (" in capsys.readouterr().err


def test_a_broker_that_hangs_is_not_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("let-me-in")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"tcp:{silent.getsockname()[1]}:interface=127.0.0.1"
        settings = Settings(broker=BrokerSettings(admin=at, admin_token_file=str(tmp_path / "token")))
        with pytest.raises(Unanswered, match=f"^nobody answers at {at}: does the broker hang"):
            AdminClient(settings).ask("GET", "/x", patience_s=0.1)


def test_what_no_command_can_dial(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("let-me-in")
    settings = Settings(broker=BrokerSettings(admin="ssl:9001", admin_token_file=str(tmp_path / "token")))
    with pytest.raises(Unanswered, match="use tcp:, tcp6: or unix:"):
        AdminClient(settings).get("/x")


def test_a_tenant_that_is_none_has_no_stations_to_list(broker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    broker.answer = (200, b'{"stations": [], "next": null, "tenants": {"acme": {}}}')
    where = ["-c", str(broker.folder / "broker.toml")]
    assert main(["stations", "--tenant", "acme", *where]) == 0
    assert main(["stations", "--tenant", "acmee", *where]) == 1
    assert capsys.readouterr().err == "ocppbroker: there is no tenant acmee\n"
