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
from twisted.logger import Logger
from twisted.python import usage

from broker.config import Mistakes
from broker.config_endpoints import concessions, take_apart
from broker.counts import Counts
from broker.net import jsonlog, textlog
from broker.net.admin import read_token, site
from broker.net.files import load
from broker.net.fleet import Fleet
from broker.net.lean import lighten
from broker.net.lessons import Lessons
from broker.net.ports import Ports, listen_at
from broker.net.reloading import Reloading, read_again
from broker.settings import Settings

log = Logger()


class Options(usage.Options):
    """twistd's own options come before `ocppbroker`, these after it."""

    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", "broker.toml", "The configuration; `ocppbroker check` explains it."],
        ["log-format", None, "text", "text, or json: one object a line with time, level, link and text."],
    ]

    def postOptions(self) -> None:
        wanted, parent = self["log-format"], self.parent if self.parent is not None else {}
        if wanted not in ("text", "json"):
            raise usage.UsageError("--log-format: must be text or json")
        if wanted == "json" and (parent.get("logger") or parent.get("syslog")):
            raise usage.UsageError("--log-format json: not together with twistd's own --logger or --syslog")
        own = parent.get("logger") or parent.get("syslog") or parent.get("logfile") == "-"
        if wanted == "json" or not own:
            # twistd makes its observer after it has read its options, ours among them.
            ours = jsonlog if wanted == "json" else textlog
            parent["logger"] = ours.to(parent.get("logfile"), daemon=not parent.get("nodaemon"))


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
    lessons = Lessons()
    lighten(reactor, lessons)
    path = os.path.abspath(options["config"])  # what it is called after a change of folder, too
    return cast(IService, Broker(read_settings(options["config"]), reactor, path, lessons))


class Broker(Service):
    """The running whole."""

    def __init__(self, settings: Settings, reactor: Any, path: str, lessons: Lessons) -> None:
        self._settings = settings
        self._reactor = reactor
        self._fleet = Fleet(settings, reactor, Counts(), time.time, lessons)
        self._ports = Ports(reactor, self._fleet.stations)
        self._admin: Any = None
        self._reloading = Reloading(settings, lambda: read_again(path), self._ports, self._fleet.change, reactor)

    def privilegedStartService(self) -> None:
        """Bind every port, or say in one line which cannot be bound, and exit 1."""
        # What the operating system does with a SIGHUP that nobody takes would end us: from now on it is a reload.
        signal.signal(signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._reloading.signalled))
        admin = self._settings.broker
        try:
            for listen in self._settings.listen:
                self._ports.open(listen)
            token = read_token(admin.admin_token_file)
            views = self._fleet.views(version("ocppbroker"))._replace(reload=self._reloading.reload)
            self._admin = listen_at(self._reactor, admin.admin, site(views, token))
        except Mistakes as mistakes:
            raise SystemExit("\n".join(mistakes.lines)) from None
        except (OSError, ValueError) as error:
            raise SystemExit(f"broker.admin_token_file: {error}") from None

    def startService(self) -> None:
        """Open the store, begin telling the engines, take the signals."""
        super().startService()
        self._fleet.start()
        # Twisted installs its own signal handlers while the reactor starts: ours come after.
        self._reactor.callWhenRunning(self._reactor.callLater, 0, self._take_signals)
        ports = ", ".join(listen.endpoint.partition(":certificate")[0] for listen in self._settings.listen)
        for listen in self._settings.listen:
            weak = str(concessions(take_apart(listen.endpoint)))
            if weak:
                log.warn("stations at {port}: {weak}", port=listen.endpoint.partition(":certificate")[0], weak=weak)
        log.info("ocppbroker {version}: stations dial {ports}", version=version("ocppbroker"), ports=ports)

    def stopService(self) -> Deferred[None]:
        """Drain; fires when all is flushed."""
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._reloading.stop()
        drain_s = self._reloading.settings.broker.drain_s
        log.info("stopping: {links} links are closed within {most} s", links=len(self._fleet.links), most=drain_s + 5)
        await self._ports.close()
        if self._admin is not None:
            await self._admin.stopListening()
        await self._fleet.stop(drain_s)
        log.info("stopped: the store is flushed")

    def _take_signals(self) -> None:
        # twistd re-raises a SIGTERM it caught, so that the exit status would be the signal's; a drained broker exits 0.
        def first(signum: int, frame: object) -> None:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
            self._reactor.callFromThread(self._reactor.stop)

        signal.signal(signal.SIGTERM, first)
