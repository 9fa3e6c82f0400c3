"""Each tenant's uplink: begun when the store is open, and begun, ended or begun anew when a reload wants it otherwise.

An uplink that ends leaves what its engine has yet to be told in the store; the next one tells it, with the same keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import Logger

from broker.counts import Counts
from broker.engine.v1 import V1
from broker.model.schedules import Schedule
from broker.net.engine_http import EngineClient
from broker.net.store import Store
from broker.net.uplink import Uplink
from broker.settings import Settings, TenantSettings

log = Logger()


class Uplinks:
    """`deliver(tenant)` takes the schedules of that tenant's engine."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        reactor: Any,
        *,
        deliver: Callable[[str], Callable[[Schedule], None]],
        counts: Counts,
        wall: Callable[[], float],
    ) -> None:
        self.codecs = _codecs(settings)
        self._settings = settings
        self._store, self._reactor, self._deliver, self._counts, self._wall = store, reactor, deliver, counts, wall
        self._running: dict[str, Uplink] = {}
        self._clients: dict[str, EngineClient] = {}
        self._begun = self._stopped = False

    def begin(self) -> None:
        """The store is open."""
        self._begun = True
        for name in self.codecs:
            self._start(name)

    def _start(self, name: str) -> None:
        tenant, codec = self._settings.tenants[name], self.codecs[name]
        assert tenant.engine is not None
        client = EngineClient(tenant.engine, codec, self._reactor)
        uplink = Uplink(
            tenant, self._store, client, codec, self._reactor, deliver=self._deliver(name), counts=self._counts, wall=self._wall
        )
        self._running[name], self._clients[name] = uplink, client
        uplink.start()

    def change(self, settings: Settings) -> Callable[[], Any]:
        """From now on these. Returns what ends the old uplinks and begins the new ones: an async function of no arguments."""
        old, self._settings = self._settings, settings
        codecs = _codecs(settings)
        # An engine that did not change keeps its codec: its links need not hear of it.
        same = {name for name in codecs if name in old.tenants and old.tenants[name].engine == settings.tenants[name].engine}
        self.codecs = {name: self.codecs.get(name, codec) if name in same else codec for name, codec in codecs.items()}
        ending = {name for name in self._running if name not in codecs or _asks(old, name) != _asks(settings, name)}

        async def apply() -> None:
            for name in sorted(ending):
                uplink = self._running.pop(name, None)
                self._clients.pop(name, None)
                if uplink is not None:
                    await uplink.stop()
                rows = self._store.pending().get(name, (0, None))[0]
                if name not in self._settings.tenants and rows:
                    log.warn("{tenant} is gone; {rows} rows for its engine stay in the store, untold", tenant=name, rows=rows)
            for name in self.codecs:
                if self._begun and not self._stopped and name not in self._running:
                    self._start(name)

        return apply

    async def stop(self) -> None:
        self._stopped = True
        for uplink in self._running.values():
            await uplink.stop()

    def latest(self, tenant: str, asset: str) -> Schedule | None:
        """The engine's newest schedule for the asset, if it is still valid."""
        uplink = self._running.get(tenant)
        return uplink.latest(asset) if uplink is not None else None

    def heard(self, tenant: str, site: str | None) -> float | None:
        """Monotonic seconds of the engine's last answer about a site's schedules; None: not yet."""
        uplink = self._running.get(tenant)
        return uplink.heard(site) if uplink is not None else None

    def clients(self) -> Mapping[str, EngineClient]:
        """Who asks each tenant's engine."""
        return dict(self._clients)

    def status(self) -> dict[str, Any]:
        return {name: uplink.status() for name, uplink in self._running.items()}


def _codecs(settings: Settings) -> dict[str, V1]:
    return {name: V1(tenant.engine) for name, tenant in settings.tenants.items() if tenant.engine is not None}


def _asks(settings: Settings, name: str) -> Any:
    """What an uplink does: another answer means another uplink."""
    tenant: TenantSettings | None = settings.tenants.get(name)
    if tenant is None:
        return None
    planned = {
        (station.site, station.id, evse.asset)
        for station in tenant.stations.values()
        for evse in station.evses
        if station.site is not None and station.mode in ("shadow", "smart-charging")
    }
    return tenant.engine, planned
