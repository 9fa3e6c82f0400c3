"""Alarms of the service as it runs: a CPMS that is away is told by the admin side, the metric, the log and the command."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from running import Running, free_port

from broker.net.ledger import Entry
from broker.net.letters import Lettered

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


def test_a_cpms_that_is_away_is_told_everywhere(tmp_path: Path) -> None:
    port = free_port()
    with Running(tmp_path, CONFIG.format(port=port, cpms=free_port())) as broker:
        assert broker.get("/api/v1/alarms") == {"alarms": []}
        for n in range(10):
            assert b" 503 " in dial(port, f"CS-{n}")
        deadline = time.monotonic() + 90
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
            deadline = time.monotonic() + 90
            while len(Hook.told) < 2 and time.monotonic() < deadline:
                time.sleep(0.2)  # a process has its own clock; it looks every 10 s
            assert [(one["event"], one["name"]) for message in Hook.told for one in message["alarms"]] == [
                ("test", "test"),
                ("raised", "cpms"),
            ]
            assert broker.stop() == 0
        server.shutdown()


def test_dead_letters_on_the_console(tmp_path: Path) -> None:
    """Left by an earlier life of the broker: listed, told again (they wait for an engine), thrown away."""
    (tmp_path / "var").mkdir()
    ledger = Lettered(str(tmp_path / "var" / "store.sqlite"), 1000)
    ledger.open()
    ledger.begin()
    body = json.dumps({"assetId": "A-1", "driverId": "BADGE-7"})
    ledger.add(Entry("acme", "CS-7", tuple((f"k-{n}", "transaction", body) for n in range(3)), ()))
    for seq in (1, 2, 3):
        ledger.dead(seq, "422 body.assetId: value_error")
    ledger.commit()
    ledger.close()
    with Running(tmp_path, CONFIG.format(port=free_port(), cpms=free_port())) as broker:

        def said(*arguments: str) -> str:
            command = [sys.executable, "-m", "broker.cli", "dead-letters", "acme", *arguments, "--config", str(tmp_path / "broker.toml")]
            ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
            assert (ran.returncode, ran.stderr) == (0, "")
            return ran.stdout

        lines = said().splitlines()
        assert [line.split()[0] for line in lines] == ["1", "2", "3"]
        assert lines[0].endswith('CS-7  transaction: 422 body.assetId: value_error  {"assetId": "A-1", "driverId": "<7 characters>"}')
        assert said("--drop", "2") == "1 thrown away, 2 dead letters left\n"
        assert broker.get("/api/v1/status")["store"]["dead_letters"] == {"acme": 2}
        assert said("--replay") == "2 wait to be told again, 0 dead letters left\n"
        assert json.loads(said("--json")) == {"letters": []}
        assert broker.stop() == 0
    with sqlite3.connect(tmp_path / "var" / "store.sqlite") as db:
        assert db.execute("SELECT seq, key FROM outbox ORDER BY seq").fetchall() == [(4, "k-0"), (5, "k-2")]
