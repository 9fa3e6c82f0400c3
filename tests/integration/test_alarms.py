"""Alarms of the service as it runs: a CPMS that is away is told by the admin side, the metric, the log and the command."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from running import Running, free_port

CONFIG = """
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{cpms}/ocpp"
unlisted = "relay"
"""


def dial(port: int, station: str) -> bytes:
    """A station's handshake; the first line of the answer."""
    lines = [f"GET /acme/{station} HTTP/1.1", "Host: broker", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: ocpp1.6"]
    with socket.create_connection(("127.0.0.1", port), 5) as one:
        one.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return one.recv(64)


@pytest.mark.timeout(90)
def test_a_cpms_that_is_away_is_told_everywhere(tmp_path: Path) -> None:
    port = free_port()
    with Running(tmp_path, CONFIG.format(port=port, cpms=free_port())) as broker:
        assert broker.get("/api/v1/alarms") == {"alarms": []}
        for n in range(10):
            assert b" 503 " in dial(port, f"CS-{n}")
        deadline = time.monotonic() + 30
        while not broker.get("/api/v1/alarms")["alarms"] and time.monotonic() < deadline:
            time.sleep(0.2)  # a process has its own clock; it looks every 10 s
        command = [sys.executable, "-m", "broker.cli", "alarms", "--json", "--config", str(tmp_path / "broker.toml")]
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=tmp_path)
        (alarm,) = json.loads(said.stdout)["alarms"]
        assert (alarm["name"], alarm["subject"], alarm["fault"], alarm["count"]) == ("cpms", "acme", "cpms", 1)
        assert 'ocppbroker_alarms{name="cpms"} 1.0' in broker.get("/metrics")
        assert "alarm cpms of acme raised" in broker.log.read_text()
        assert broker.stop() == 0


class Hook(BaseHTTPRequestHandler):
    """Keeps what it is told."""

    told: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test says what it saw."""


@pytest.mark.timeout(90)
def test_a_cpms_that_is_away_is_told_to_the_webhook(tmp_path: Path) -> None:
    """Raised by the running service; the command's test arrives too."""
    port, cpms = free_port(), free_port()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        alarms = f'[broker.alarms]\nwebhook_url = "http://127.0.0.1:{server.server_port}/in"\ngather = "0s"\n'
        with Running(tmp_path, alarms + CONFIG.format(port=port, cpms=cpms)) as broker:
            command = [sys.executable, "-m", "broker.cli", "alarms", "--test", "--config", str(tmp_path / "broker.toml")]
            said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, cwd=tmp_path)
            assert said.stdout == "webhook: sent\n"
            for n in range(10):
                assert b" 503 " in dial(port, f"CS-{n}")
            deadline = time.monotonic() + 40
            while len(Hook.told) < 2 and time.monotonic() < deadline:
                time.sleep(0.2)  # a process has its own clock; it looks every 10 s
            assert [(one["event"], one["name"]) for message in Hook.told for one in message["alarms"]] == [
                ("test", "test"),
                ("raised", "cpms"),
            ]
            assert broker.stop() == 0
        server.shutdown()
