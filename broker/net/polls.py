"""Schedules from one tenant's engine: one long poll per site, for ever.

    client ─ answer ─▶ codec ─▶ schedules ─▶ deliver, and kept as each asset's latest
                          └──▶ refused ones ─▶ store, as outcomes for the engine

An engine that fails is asked again with a full-jitter back-off; one that answers rubbish likewise.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from broker.engine.v1 import V1
from broker.model.basics import Key
from broker.model.records import Outcome
from broker.model.schedules import Schedule
from broker.net.engine_http import EngineClient
from broker.net.store import Store
from broker.settings import TenantSettings

log = Logger()

WAIT_S = 55  # a long poll's length: below the 60 s after which many proxies give up
PART = 0.25  # of a lease: an engine that has nothing new to say must be heard before its limits end (`broker.vouching`)
POLL_FLOOR_S = 1.0  # between the beginnings of two polls: an engine that ignores `wait` must not make us spin
POLL_CAP_S = 60.0
MOST_REFUSED = 1000  # refusals remembered, so that a schedule repeated in each answer is reported once


class Polls:
    """What the engine wants, per site."""

    def __init__(
        self,
        tenant: TenantSettings,
        store: Store,
        client: EngineClient,
        codec: V1,
        reactor: Any,
        *,
        deliver: Callable[[Schedule], None],
        reached: Callable[[], None],
        jitter: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.stopped = False
        self.sites: dict[str, dict[str, Any]] = {}
        """Site → {last_success: wall time or None, why: what is wrong}."""
        self.heard: dict[str, float] = {}
        """Site → monotonic time of the last answer: for so long its limits are vouched for."""
        self._tenant = tenant
        self._store = store
        self._client = client
        self._codec = codec
        self._reactor = reactor
        self._deliver = deliver
        self._reached = reached
        self._jitter = jitter
        self._wall = wall
        self._wait = max(1, min(WAIT_S, int(tenant.charging.lease_s * PART)))
        self._latest: dict[str, Schedule] = {}
        self._refused: OrderedDict[Outcome, None] = OrderedDict()
        self._warned: OrderedDict[tuple[str, str], None] = OrderedDict()  # (asset, why): logged once, however often it is planned anew

    def start(self) -> list[Deferred[None]]:
        """One endless poll per site with stations that follow schedules; to be cancelled after setting `stopped`."""
        planned = _planned(self._tenant)
        self.sites = {site: {"last_success": None, "why": "not asked yet"} for site in planned}
        return [ensureDeferred(self._poll(site, assets)) for site, assets in planned.items()]

    def latest(self, asset: str) -> Schedule | None:
        """The newest schedule for the asset, if it is still valid."""
        schedule = self._latest.get(asset)
        return schedule if schedule is not None and schedule.valid_until > self._wall() else None

    async def _poll(self, site: str, assets: dict[str, str]) -> None:
        """Ask for schedules of a site until stopped."""
        cursor: str | None = None
        failures = 0
        while not self.stopped:
            begun = self._reactor.seconds()
            pause = 0.0
            try:
                body = await self._client.schedules(site, cursor, self._wait)
                parsed = self._codec.parse_schedules(body, assets, self._wall())
            except Exception as error:
                failures += 1
                pause = max(self._jitter() * min(POLL_CAP_S, 2.0**failures), getattr(error, "retry_after", None) or 0.0)
                self._poll_failed(site, error)
            else:
                cursor, failures = parsed.cursor, 0
                self.sites[site] = {"last_success": self._wall(), "why": ""}
                self.heard[site] = self._reactor.seconds()
                self._reached()
                self._take(parsed.schedules, parsed.refused, assets)
            if not self.stopped:
                floor = POLL_FLOOR_S - (self._reactor.seconds() - begun)
                await self._pause(max(pause, floor))

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await deferLater(self._reactor, seconds, lambda: None)
            except Exception:
                return  # cancelled: the loop sees that it is to stop

    def _poll_failed(self, site: str, error: Exception) -> None:
        if self.stopped:
            return
        why = f"schedules of {site}: {error}" if str(error) else f"schedules of {site}: {type(error).__name__}"
        if self.sites[site]["why"] != why:
            log.warn("{tenant}: {why}", tenant=self._tenant.name, why=why)
        self.sites[site]["why"] = why

    def _take(self, schedules: Iterable[Schedule], refused: Iterable[Outcome], assets: dict[str, str]) -> None:
        if self.stopped:
            return
        for schedule in schedules:
            if self._latest.get(schedule.asset) != schedule:
                self._latest[schedule.asset] = schedule
                self._give(schedule)
        for outcome in refused:
            self._report(outcome, assets)

    def _give(self, schedule: Schedule) -> None:
        try:
            self._deliver(schedule)
        except Exception:
            log.failure("{tenant}: schedule {id} could not be delivered: a mistake of ours", tenant=self._tenant.name, id=schedule.id)

    def _report(self, outcome: Outcome, assets: dict[str, str]) -> None:
        """Tell the engine that its schedule is refused, once; and the log that such ones are."""
        if not _first(self._refused, Outcome(outcome.schedule, outcome.asset, outcome.status, 0.0, outcome.detail)):
            return
        if _first(self._warned, (outcome.asset, outcome.detail)):
            log.warn(
                "{tenant}: schedule {id} of the engine for {asset} is refused, and so will be all like it: {why}",
                tenant=self._tenant.name, id=_line(outcome.schedule), asset=_line(outcome.asset), why=outcome.detail,
            )  # fmt: skip
        station = Key(self._tenant.name, assets.get(outcome.asset, ""))
        self._store.write(station, [self._codec.outcome(self._tenant.name, outcome)], ()).addErrback(lambda failure: None)


def _line(text: str) -> str:
    """What an engine calls something, as a part of one line."""
    return (text if text.isprintable() else repr(text))[:80] or "(nothing)"


def _first(known: OrderedDict[Any, None], one: Any) -> bool:
    """Whether it is not known yet; from now on it is, among `MOST_REFUSED` at most."""
    if one in known:
        return False
    known[one] = None
    if len(known) > MOST_REFUSED:
        known.popitem(last=False)
    return True


def _planned(tenant: TenantSettings) -> dict[str, dict[str, str]]:
    """Site → {asset: station id} of what schedules are wanted for: stations whose mode uses them."""
    sites: dict[str, dict[str, str]] = {}
    for station in tenant.stations.values():
        if station.site is not None and station.mode in ("shadow", "smart-charging"):
            sites.setdefault(station.site, {}).update((evse.asset, station.id) for evse in station.evses)
    return sites
