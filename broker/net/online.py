"""Is the engine there, does it know us, and does it know the assets that we tell it of? For `check --online`, and hourly in the service.

Only GET requests beside the login: nothing is changed at the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from broker.engine.sites import site_faults, site_seen
from broker.engine.v1 import V1
from broker.net.engine_http import EngineClient, Trouble
from broker.settings import Settings, TenantSettings

log = Logger()

EVERY_S: Final = 3600.0
AWAY: Final = ("network", "timeout", "stopped")
"""An engine that is away: whoever tells it says so already."""


async def compare(tenant: TenantSettings, client: EngineClient, *, away: bool = True) -> list[str]:
    """What is wrong between this tenant and its engine, one line each. `away`: also that it does not answer at all."""
    lines: list[str] = []
    for site in ("", *tenant.sites):
        try:
            if site:
                lines += site_faults(tenant, site, site_seen(await client.site(site)))
            else:
                await client.login()
        except Trouble as trouble:
            if site and trouble.status in (403, 404):
                lines.append(f"{tenant.name}, site {site}: the engine answers {trouble.status}: it has no such site for this account")
            elif trouble.what not in AWAY:
                lines.append(f"{tenant.name}: {trouble}")
            elif away:
                lines.append(f"{tenant.name}: {trouble}: check engine.url and the way there")
            if not site or trouble.what in (*AWAY, "login"):
                break  # the other sites would say the same
        except ValueError as rubbish:
            lines.append(f"{tenant.name}, site {site}: {rubbish}")
    return lines


async def compare_all(settings: Settings, reactor: Any) -> dict[str, list[str]]:
    """The same for each tenant with an engine, over connections of its own."""
    found = {}
    for name, tenant in settings.tenants.items():
        if tenant.engine is not None:
            client = EngineClient(tenant.engine, V1(tenant.engine), reactor)
            found[name] = await compare(tenant, client)
            await client.stop()
    return found


class Hourly:
    """Compares at the start and every hour, and warns of what is new; once of each, until it is over."""

    def __init__(self, settings: Callable[[], Settings], clients: Callable[[], Mapping[str, EngineClient]], reactor: Any) -> None:
        self._settings, self._clients = settings, clients
        self._said: dict[str, frozenset[str]] = {}
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor
        self._looking: Deferred[None] | None = None

    def start(self) -> None:
        if not self._loop.running:
            self._loop.start(EVERY_S)

    def stop(self) -> None:
        if self._loop.running:
            self._loop.stop()
        if self._looking is not None:
            self._looking.cancel()

    def _look(self) -> None:
        if self._looking is None:
            self._looking = ensureDeferred(self._compare()).addErrback(self._failed)
            self._looking.addBoth(self._looked)

    def _looked(self, _: object) -> None:
        self._looking = None

    def _failed(self, failure: Any) -> None:
        if self._loop.running:
            log.failure("comparing with the engines failed: a mistake of ours", failure=failure)

    async def _compare(self) -> None:
        clients = self._clients()
        self._said = {name: said for name, said in self._said.items() if name in clients}
        for name, client in clients.items():
            tenant = self._settings().tenants.get(name)
            if tenant is None:
                continue
            lines = await compare(tenant, client, away=False)
            before, self._said[name] = self._said.get(name, frozenset()), frozenset(lines)
            for line in lines:
                if line not in before:
                    log.warn("{line}", line=line)
            if before and not lines:
                log.info("{tenant}: the engine and we agree again", tenant=name)
