"""`twistd ocppbroker`: which parts there are, and from which settings they are made.

Started: the listeners are bound before privileges are dropped, then the store opens, the uplinks begin, the admin side answers.
Stopped (SIGTERM): nothing new is accepted, each link is closed with 1012 once nothing is open on it, spread over `drain`; the
uplinks stop, the store is flushed, exit 0. A second SIGTERM exits at once.
"""

from __future__ import annotations

import os
import signal
import time
from importlib.metadata import version
from typing import Any, ClassVar, cast

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger
from twisted.python import usage

from broker.config import Mistakes
from broker.counts import Counts
from broker.net.admin import AdminSite, read_token
from broker.net.files import load
from broker.net.fleet import Fleet
from broker.settings import Settings

log = Logger()

BACKLOG = 2048  # connections the kernel holds until we accept them


class Options(usage.Options):
    """twistd's own options come before `ocppbroker`, these after it."""

    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", "broker.toml", "The configuration; `ocppbroker check` explains it."],
        ["log-format", None, "text", "text; json is not yet implemented."],
    ]

    def postOptions(self) -> None:
        if self["log-format"] != "text":
            raise usage.UsageError("--log-format: only text for now; json is not yet implemented")


def read_settings(path: str) -> Settings:
    """The settings in this file. Raises SystemExit with every mistake, one a line."""
    try:
        return load(path)
    except Mistakes as mistakes:
        raise SystemExit("\n".join(mistakes.lines)) from None


def makeService(options: Options) -> IService:
    """The whole broker as one service."""
    from twisted.internet import reactor

    # reactor.seconds is wall time: a clock step would freeze or fire every timer.
    cast(Any, reactor).seconds = time.monotonic
    return cast(IService, Broker(read_settings(options["config"]), reactor))


class Broker(Service):
    """The running whole."""

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._fleet = Fleet(settings, reactor, Counts(), time.time)
        self._ports: list[Any] = []

    def privilegedStartService(self) -> None:
        """Bind every port, or say in one line which cannot be bound, and exit 1."""
        for listen in self._settings.listen:
            self._bind(listen.endpoint, self._fleet.stations(listen))
        admin = self._settings.broker
        try:
            token = read_token(admin.admin_token_file)
        except (OSError, ValueError) as error:
            raise SystemExit(f"broker.admin_token_file: {error}") from None
        self._bind(admin.admin, AdminSite(self._fleet.views(version("ocppbroker")), token))

    def startService(self) -> None:
        """Open the store, begin telling the engines, take the signals."""
        super().startService()
        self._fleet.start()
        # Twisted installs its own signal handlers while the reactor starts: ours come after.
        self._reactor.callWhenRunning(self._reactor.callLater, 0, self._take_signals)
        ports = ", ".join(listen.endpoint.partition(":certificate")[0] for listen in self._settings.listen)
        log.info("ocppbroker {version}: stations dial {ports}", version=version("ocppbroker"), ports=ports)

    def stopService(self) -> Deferred[None]:
        """Drain; fires when all is flushed."""
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        drain_s = self._settings.broker.drain_s
        log.info("stopping: {links} links are closed within {most} s", links=len(self._fleet.links), most=drain_s + 5)
        for port in self._ports:
            await port.stopListening()
        await self._fleet.stop(drain_s)
        log.info("stopped: the store is flushed")

    def _bind(self, endpoint: str, factory: Any) -> None:
        failures: list[Any] = []
        if endpoint.startswith(("tcp:", "tcp6:", "ssl:")) and "backlog=" not in endpoint:
            endpoint += f":backlog={BACKLOG}"  # Twisted's 50 makes a thousand stations that come back at once wait for seconds
        serverFromString(self._reactor, endpoint).listen(factory).addCallbacks(self._ports.append, failures.append)
        if failures:
            raise SystemExit(f"{endpoint}: cannot listen there: {failures[0].getErrorMessage()}")

    def _take_signals(self) -> None:
        # twistd re-raises a SIGTERM it caught, so that the exit status would be the signal's; a drained broker exits 0.
        def first(signum: int, frame: object) -> None:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
            self._reactor.callFromThread(self._reactor.stop)

        signal.signal(signal.SIGTERM, first)
