"""A simulated engine: it takes what the broker tells it, plans, and hands out schedules. For the demo, tests and load.

In come measurements, transactions, identifications and outcomes (each kept in a list, each stored once for its idempotency
key); out go schedules: a site's limit shared among the sockets that charge, planned anew at every transaction event and every
period. The HTTP around it is `broker.sim.engine_web`; its faults are knobs here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.web.server import Site

from broker.sim.engine_web import Api
from broker.sim.plan import Charging, plan

AWAKE_W = 200.0  # a suspended car that takes more than this charges again, whatever its station says
PERIODS = 10  # how far a plan reaches


class SimAsset(NamedTuple):
    """A socket as the engine's site configuration has it."""

    site: str
    phases: int = 3
    max_amps: float = 32.0


@dataclass(slots=True)
class Faults:
    """What goes wrong, while it is set."""

    down: bool = False
    """Connections are dropped without an answer, and nothing is stored."""
    delay_s: float = 0.0
    status: int = 0
    """Everything but the login is answered with this."""
    retry_after: str | None = None
    login_status: int = 0
    rubbish: bytes = b""
    """Everything but the login is answered 200 with these bytes, and nothing is stored."""
    lose_answers: int = 0
    """So many of the next posts are stored and then dropped without an answer."""


class Published(NamedTuple):
    revision: int
    schedule: dict[str, Any]


def rfc3339(at: float) -> str:
    """RFC 3339 UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class SimEngine:
    """One engine for all sites and tenants of a simulation."""

    def __init__(
        self,
        reactor: Any,
        sites: Mapping[str, float],
        assets: Mapping[str, SimAsset],
        *,
        period_s: float = 60.0,
        control: bool = True,
        sun: Callable[[float], float] = lambda at: 0.0,
        client_id: str = "demo",
        client_secret: str = "demo-secret",
        expires_in: int = 3600,
        asset_key: str = "asset_id",
        clock: Any = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`sites`: site → W; `sun`: what it adds to every site's limit at a moment; `clock`: for timers, the reactor's by default."""
        self.sites = dict(sites)
        self.assets = dict(assets)
        self.control = control
        """False: nothing is planned. May be switched while it runs; then call `replan`."""
        self.faults = Faults()
        self.credentials = (client_id, client_secret)
        self.expires_in = expires_in
        self.asset_key = asset_key
        self.measurements: list[dict[str, Any]] = []
        self.transactions: list[dict[str, Any]] = []
        self.identifications: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.repeats = 0
        """Posts whose key was known already."""
        self.on_schedules: list[Callable[[str], None]] = []
        """Called with a site that has new schedules."""
        self.clock = clock if clock is not None else reactor
        self.wall = wall
        self._reactor = reactor
        self._period_s = period_s
        self._sun = sun
        self._stored: dict[tuple[str, str], int] = {}
        self._open: dict[str, dict[str, Any]] = {}
        self._suspended: set[str] = set()
        self._published: dict[str, Published] = {}
        self._revision = 0
        self._timer: Any = None
        self._port: Any = None
        self._api = Api(self)

    # ------------------------------------------------------------ life

    def listen(self, port: int = 0) -> Deferred[str]:
        """Serve on 127.0.0.1; gives the base URL."""
        self._port = self._reactor.listenTCP(port, Site(self._api), interface="127.0.0.1")
        self.replan()
        return succeed(f"http://127.0.0.1:{self._port.getHost().port}")

    def stop(self) -> Deferred[None]:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._api.close()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)

    def revoke(self) -> None:
        """Every token given so far is refused from now on."""
        self._api.tokens.clear()

    # ------------------------------------------------------------ what it is told

    def accept(self, kind: str, key: str, body: Any) -> tuple[int, str]:
        """Store one thing once. Returns an HTTP status and, unless it is 200, what is wrong."""
        if not 1 <= len(key) <= 64:
            return 422, "header.Idempotency-Key"
        if (kind, key) in self._stored:
            self.repeats += 1
            return self._stored[kind, key], ""
        wrong = self._wrong(kind, body)
        if wrong:
            return 422, f"body.{wrong}"
        self._stored[kind, key] = 200
        {
            "measurement": self._measured,
            "transaction": self._transacted,
            "identification": self.identifications.append,
            "outcome": self.outcomes.append,
        }[kind](body)
        return 200, ""

    def _wrong(self, kind: str, body: Any) -> str:
        """The first field that is missing or unknown; "" if all is well."""
        key = self.asset_key if kind == "measurement" else "asset_id" if kind == "outcome" else "assetId"
        needed = {
            "measurement": ("site_id", key, "timestamp", "energyValue", "powerValue"),
            "transaction": ("site_id", key, "transactionId", "timestamp", "transactionState", "startTime"),
            "identification": ("site_id", key, "transactionId", "driverId", "timestamp"),
            "outcome": ("schedule_id", key, "status", "timestamp"),
        }[kind]
        if not isinstance(body, dict):
            return "body"
        missing = next((name for name in needed if name not in body), "")
        if missing:
            return missing
        numbers = ("energyValue", "powerValue") if kind == "measurement" else ()
        unfit = [name for name in needed if not isinstance(body[name], (int, float) if name in numbers else str)]
        if unfit:
            return unfit[0]
        asset = self.assets.get(body[key])
        if asset is None:
            return "" if kind == "outcome" else key
        return "" if body.get("site_id", asset.site) == asset.site else "site_id"

    def _measured(self, body: dict[str, Any]) -> None:
        self.measurements.append(body)
        asset = body[self.asset_key]
        if asset in self._suspended and body["powerValue"] > AWAKE_W:
            self._suspended.discard(asset)
            self.replan(self.assets[asset].site)

    def _transacted(self, body: dict[str, Any]) -> None:
        self.transactions.append(body)
        asset, state = body["assetId"], body["transactionState"]
        if state == "Ended":
            # Another transaction may have begun on the socket before the end of this one was told.
            if self._open.get(asset, body)["transactionId"] == body["transactionId"]:
                self._open.pop(asset, None)
                self._published.pop(asset, None)
        else:
            self._open[asset] = body
        (self._suspended.add if state == "SuspendedEV" else self._suspended.discard)(asset)
        self.replan(self.assets[asset].site)

    # ------------------------------------------------------------ what it wants

    def charging(self, site: str) -> list[Charging]:
        """The sockets of a site with an open transaction."""
        return [
            Charging(name, asset.phases, asset.max_amps, name in self._suspended)
            for name, asset in self.assets.items()
            if asset.site == site and name in self._open
        ]

    def replan(self, site: str | None = None) -> None:
        """Plan this site (all of them, and set the next period's timer, without one) and publish."""
        for name in self.sites if site is None else (site,):
            self._plan(name)
        if site is None and self._port is not None:
            self._timer = self.clock.callLater(self._period_s - self.wall() % self._period_s, self.replan)

    def _plan(self, site: str) -> None:
        now, sockets = self.wall(), self.charging(site)
        if not self.control or not sockets or site not in self.sites:
            return
        limit_w = self.sites[site]
        steps = plan(now, self._period_s, PERIODS, lambda at: limit_w + self._sun(at), sockets)
        for socket in sockets:
            self._revision += 1
            self._published[socket.asset] = Published(self._revision, self._schedule(socket, steps[socket.asset], now))
        for tell in self.on_schedules:
            tell(site)

    def _schedule(self, socket: Charging, steps: list[tuple[float, int]], now: float) -> dict[str, Any]:
        return {
            "id": f"plan-{self._revision}",
            "asset_id": socket.asset,
            "transactionId": self._open[socket.asset]["transactionId"],
            "issued_at": rfc3339(now),
            "valid_until": rfc3339(steps[-1][0] + self._period_s),
            "unit": "W",
            "phases": socket.phases,
            "periods": [{"start": rfc3339(start), "limit": watts} for start, watts in steps],
        }

    def schedules(self, site: str, after: str) -> dict[str, Any]:
        """The newest schedule of each asset of the site that is newer than the cursor `after`; a strange cursor is an old one."""
        seen = int(after) if after.isdecimal() and int(after) <= self._revision else 0
        news = [one for asset, one in self._published.items() if self.assets[asset].site == site and one.revision > seen]
        return {"schedules": [one.schedule for one in news], "cursor": str(self._revision)}

    def site(self, site: str) -> dict[str, Any] | None:
        """The site as the engine's API shows it."""
        if site not in self.sites:
            return None
        devices = [{"name": name, "type": "charging_pole_3phase"} for name, asset in self.assets.items() if asset.site == site]
        heard = any(one["site_id"] == site for one in self.measurements)
        return {
            "site_id": site,
            "name": site,
            "active": True,
            "configurations": {"site_configuration": {"device_list": devices}},
            "validation_status": {"receiving_measurement_data": heard},
        }
