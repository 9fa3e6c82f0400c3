"""The broker as a process of its own, started as an operator would start it: `twistd -n ocppbroker --config broker.toml`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import treq
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.client import HTTPConnectionPool

SECRET: Final = "demo-secret"
READY_S: Final = 30.0  # a cold start reads a thousand modules from a slow disk
STOP_S: Final = 20.0


class Broker:
    """One broker with its files in `folder`."""

    def __init__(self, reactor: Any, folder: Path, config: str, admin_port: int) -> None:
        self._reactor, self._folder, self._admin = reactor, folder, f"http://127.0.0.1:{admin_port}"
        (folder / "broker.toml").write_text(config, encoding="utf-8")
        secret = folder / "engine.secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET + "\n", encoding="utf-8")
        twistd = Path(sys.executable).with_name("twistd")
        command = [str(twistd)] if twistd.exists() else [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        with (folder / "broker.log").open("wb") as log:
            # A session of its own: Ctrl-C in the terminal is for the demo, which then ends the broker itself.
            self._process = subprocess.Popen(
                [*command, "-n", "--pidfile=", "ocppbroker", "--config", "broker.toml"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join((self._folder / "broker.log").read_text(encoding="utf-8", errors="replace").splitlines()[-12:])

    async def ready(self) -> None:
        """Fires when it says that it is ready. `RuntimeError` if it dies or takes too long."""
        until = self._reactor.seconds() + READY_S
        while not await self._is_ready():
            if not self.alive:
                raise RuntimeError(f"the broker did not start:\n{self.last_words()}")
            if self._reactor.seconds() > until:
                raise RuntimeError(f"the broker was not ready within {READY_S:.0f} s:\n{self.last_words()}")
            await self._pause(0.2)

    async def _is_ready(self) -> bool:
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        try:
            answer = await treq.get(f"{self._admin}/readyz", timeout=2, pool=pool, reactor=self._reactor)
            await treq.content(answer)
        except Exception:  # not listening yet, in whichever way
            return False
        return bool(answer.code == 200)

    async def stop(self) -> None:
        """SIGTERM; if that does not end it in time, SIGKILL."""
        if self.alive:
            self._process.terminate()
        until = self._reactor.seconds() + STOP_S
        while self.alive and self._reactor.seconds() < until:
            await self._pause(0.1)
        self.kill()

    def kill(self) -> None:
        """At once."""
        if self.alive:
            self._process.kill()
        self._process.wait()

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self._reactor, seconds, lambda: None)
