"""The service as an operator runs it: `twistd -n ocppbroker` in a process of its own, told by a broker.toml, stopped by SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from broker.sim.ports import free_port

TWISTD = Path(sys.executable).parent / "twistd"


class Running:
    """A broker with this configuration, whose `[broker]` section is added here. Use as a context manager."""

    def __init__(self, folder: Path, config: str, *options: str, drain: str = "1s") -> None:
        self.options = options
        self.folder = folder
        self.admin = free_port()
        self.log = folder / "broker.log"
        (folder / "broker.toml").write_text(
            f'[broker]\nstate = "var/store.sqlite"\nadmin_token_file = "var/token"\nadmin = "tcp:{self.admin}:interface=127.0.0.1"\n'
            f'drain = "{drain}"\n{config}'
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def toml(self) -> Path:
        return self.folder / "broker.toml"

    def edit(self, old: str, new: str) -> None:
        """Change its configuration; it counts from the next reload, or start."""
        text = self.toml.read_text()
        assert old in text
        self.toml.write_text(text.replace(old, new))

    def reload(self) -> int:
        """SIGHUP. Returns how much the log says before."""
        assert self.process is not None
        before = len(self.log.read_text())
        self.process.send_signal(signal.SIGHUP)
        return before

    def reloaded(self, before: int) -> str:
        """What the log says since, once it says what came of the reload."""
        said = self.log.read_text()[before:]
        return said if "reload: done" in said or "stays in force" in said else ""

    def __enter__(self) -> Running:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def launch(self) -> None:
        """Start it, and do not wait."""
        with self.log.open("ab") as log:
            command = [str(TWISTD), "-n", "--pidfile=", "ocppbroker", "--config", "broker.toml", *self.options]
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)

    def start(self) -> None:
        """Start it and wait until it is ready. Raises AssertionError with its log if it is not within 60 s."""
        self.launch()
        assert self.process is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/readyz")["ready"] and self.get("/api/v1/status"):  # which only this one answers to its token
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)  # there is no clock to wind: the process has its own
        raise AssertionError("the broker did not become ready:\n" + self.log.read_text()[-4000:])

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def get(self, path: str) -> Any:
        """An admin path's JSON (or, for metrics, its text)."""
        headers = {}
        token = self.folder / "var" / "token"
        if token.exists():
            headers["Authorization"] = f"Bearer {token.read_text().strip()}"
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body.startswith(b"{") else body.decode()
