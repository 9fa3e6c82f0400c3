"""The running service's admin side, asked by somebody who does not mean well: with raw sockets."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Running, free_port

from broker.net.admin_web import MOST_CONNECTIONS
from broker.net.gate import TRIES
from broker.settings import BrokerSettings

SECRET = "s3cret-of-the-engine"
CONFIG = """
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:9/ocpp"
[tenants.engine]
url = "http://127.0.0.1:9"
client_id = "acme"
client_secret_file = "secret"
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("admin")
    (folder / "secret").write_text(SECRET)
    with Running(folder, CONFIG.format(port=free_port())) as running:
        yield running
        assert running.stop() == 0
        log = running.log.read_text()
        assert token(running) not in log
        assert not [line for line in log.splitlines() if "Traceback" in line or "Unhandled" in line or "mistake of ours" in line]


def token(broker: Running) -> str:
    return (broker.folder / "var" / "token").read_text().strip()


def asked(broker: Running, request: bytes) -> bytes:
    """All it says until it has nothing more to say; `{token}` in the request is the right one."""
    with socket.create_connection(("127.0.0.1", broker.admin), 10) as one:
        said = b""
        try:
            one.sendall(request.replace(b"{token}", token(broker).encode()))
            while more := one.recv(65536):
                said += more
        except (ConnectionResetError, BrokenPipeError):
            pass  # it had enough of us before we had said it all
    return said


def get(path: str, *headers: str, method: str = "GET", body: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")


RIGHT = "Authorization: Bearer {token}"
LIMIT = "/api/v1/stations/acme/CS-7/limit"
ODD: dict[str, tuple[bytes, bytes]] = {
    "a star": (get("*", method="OPTIONS"), b"200"),
    "another origin asks whether it may": (
        get("/api/v1/status", "Origin: http://evil", "Access-Control-Request-Method: GET", method="OPTIONS"), b"405",
    ),
    "another origin": (get("/healthz", "Origin: http://evil"), b"200"),
    "trace": (get("/api/v1/status", RIGHT, method="TRACE"), b"405"),
    "put": (get("/api/v1/status", RIGHT, method="PUT"), b"405"),
    "the token in the query": (get("/api/v1/status?token={token}"), b"401"),
    "a token that is not ASCII": (get("/api/v1/status", "Authorization: Bearer \xff\xfe"), b"401"),
    "reload without a token": (get("/api/v1/reload", "Content-Length: 0", method="POST"), b"401"),
    "a foreign authority": (get("http://evil/api/v1/status", RIGHT), b"404"),
    "dots": (get("/api/v1/stations/../status", RIGHT), b"404"),
    "dots, encoded": (get("/api/v1/stations/%2e%2e/status", RIGHT), b"404"),
    "NUL and no UTF-8": (get("/api/v1/stations/a%00b/%ff%fe", RIGHT), b"404"),
    "half a surrogate": (get("/api/v1/stations?after=%ED%A0%80", RIGHT), b"200"),
    "a number of 5,000 digits": (get("/api/v1/stations?limit=" + "9" * 5000, RIGHT), b"400"),
    "a digit that is none of ours": (get("/api/v1/stations?limit=%D9%A1", RIGHT), b"400"),
    "no JSON": (get(LIMIT, RIGHT, "Content-Length: 3", method="POST", body="{{{"), b"404"),
    "two lengths": (get(LIMIT, RIGHT, "Content-Length: 1", "Content-Length: 2", method="POST", body="xx"), b"400"),
    "a length and chunks": (get(LIMIT, RIGHT, "Content-Length: 5", "Transfer-Encoding: chunked", method="POST", body="0\r\n\r\n"), b"400"),
    "chunks that are none": (get(LIMIT, RIGHT, "Transfer-Encoding: chunked", method="POST", body="zz\r\n\r\n"), b"400"),
    "a form without a boundary": (
        get(LIMIT, RIGHT, "Content-Type: multipart/form-data", "Content-Length: 2", method="POST", body="--"), b"400",
    ),
    "HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
    "no version": (b"GET /api/v1/status\r\n\r\n", b"400"),
    "a long path": (get("/" + "a" * 20_000), b""),
    "a long header": (get("/", "X: " + "a" * 70_000), b""),
    "many headers": (get("/", *["X: a"] * 2000), b"400"),
    "a tail that is a HEAD": (get("/api/v1/stations/acme/CS-7/tail", RIGHT, method="HEAD"), b"405"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_requests_are_answered_without_a_banner_a_page_or_a_secret(broker: Running, name: str) -> None:
    request, code = ODD[name]
    said = asked(broker, request)
    assert said[9:12] == code, said[:200]
    for unwanted in (b"twisted", b"<html", b"access-control", b"traceback", b"python", token(broker).lower().encode(), SECRET.encode()):
        assert unwanted not in said.lower()


def test_no_answer_holds_a_secret(broker: Running) -> None:
    paths = ("/api/v1/status", "/api/v1/stations", "/api/v1/alarms", "/metrics", "/api/v1/tenants/acme/shadow-report", "/readyz")
    for path in paths:
        said = asked(broker, get(path, RIGHT))
        assert said[9:12] in (b"200", b"409"), said[:200]
        assert token(broker).encode() not in said
        assert SECRET.encode() not in said


def test_it_answers_on_loopback_only_unless_told_otherwise() -> None:
    """What an operator gets who says nothing of it."""
    assert BrokerSettings().admin.endswith(":interface=127.0.0.1")


def test_connections_have_a_bound_and_others_are_let_in_once_they_are_gone(broker: Running) -> None:
    """The bound holds for all; once they are gone others are let in."""
    pid = broker.process.pid if broker.process is not None else 0
    before, many = len(os.listdir(f"/proc/{pid}/fd")), []
    try:
        for _ in range(MOST_CONNECTIONS + 50):
            many.append(socket.create_connection(("127.0.0.1", broker.admin), 10))
            many[-1].settimeout(10)
        for late in many[MOST_CONNECTIONS:]:
            assert late.recv(1) == b"", "closed at once"
        assert len(os.listdir(f"/proc/{pid}/fd")) <= before + MOST_CONNECTIONS
    finally:
        for one in many:
            one.close()
    deadline = time.monotonic() + 60
    while not asked_or_closed(broker).startswith(b"HTTP/1.1 200") and time.monotonic() < deadline:
        time.sleep(0.05)  # the process has its own clock
    assert asked_or_closed(broker).startswith(b"HTTP/1.1 200")


def asked_or_closed(broker: Running) -> bytes:
    try:
        return asked(broker, get("/healthz"))
    except OSError:
        return b""


def test_who_guesses_is_not_listened_to_even_when_right(tmp_path: Path) -> None:
    with Running(tmp_path, CONFIG.format(port=free_port()).partition("[tenants.engine]")[0]) as broker:
        codes = [asked(broker, get("/api/v1/status", f"Authorization: Bearer wrong-{n}"))[9:12] for n in range(TRIES + 1)]
        assert codes == [b"401"] * TRIES + [b"429"]
        said = asked(broker, get("/api/v1/status", RIGHT))
        assert said.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert b"\r\nRetry-After: 60\r\n" in said
        assert asked(broker, get("/healthz")).startswith(b"HTTP/1.1 200 "), "who asks whether it lives is answered"
        assert broker.stop() == 0
