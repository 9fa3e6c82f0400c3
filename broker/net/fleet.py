"""The running whole: the store, each tenant's uplink, every link, and who tells whom.

Stations come in through `stations`; a link's observer is made here, from what the store knows of the station; schedules go from
the uplinks to the links; the admin side asks here what there is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker import status
from broker.clockset import doubted
from broker.counts import Counts
from broker.makes import KNOWN
from broker.model.basics import Instant, Key
from broker.model.orders import Alarm, Write
from broker.model.records import Fact, Outcome
from broker.model.schedules import Schedule
from broker.model.traffic import OURS
from broker.net.actions import Actions
from broker.net.admin import Views
from broker.net.door import Entrance
from broker.net.heralds import Heralds
from broker.net.lessons import Lessons
from broker.net.letters import DeadLetters, Lettered
from broker.net.link import Link, Observer
from broker.net.links import Links
from broker.net.metrics import Gauges, exposition
from broker.net.newpasswords import NewPasswords
from broker.net.online import Hourly
from broker.net.operator import Operator
from broker.net.seating import Seating
from broker.net.stations import StationFactory
from broker.net.store import Store
from broker.net.tailing import Tails
from broker.net.uplinks import Uplinks
from broker.net.watchman import Files, Watchman, of_cpms, of_descriptors, of_engines, of_store
from broker.observer import Seat
from broker.ocpp.dialects import BY_NAME
from broker.passlines import followed
from broker.settings import ListenSettings, Settings, StationSettings, TenantSettings

log = Logger()

RELAYED_S: Final = 60.0  # by then somebody clears what was left at a station that is relayed only, if anything was
DIALLED_S: Final = 2.0  # how long a station that dials may wait for what is known of it; it gives up after 10 s at the earliest


class Fleet:
    """Implements `link.Surroundings` and `door.Known`. Made before the reactor runs; `start` and `stop` are its life."""

    def __init__(self, settings: Settings, reactor: Any, counts: Counts, wall: Callable[[], float], lessons: Lessons) -> None:
        self.reactor = reactor
        self.lessons = lessons
        self.counts = counts
        self.wall = wall
        self.hold_s, self.ping_s = settings.broker.hold_s, settings.broker.ping_s
        self.links = Links(reactor)
        self._settings = settings
        self._store = Store(settings.broker.state, reactor, counts=counts, ledger=Lettered)
        self._letters = DeadLetters(self._store, lambda: self._settings)
        self._store.on_opened.append(self._begin)
        self._makes = (*settings.quirks, *KNOWN)
        self._started = False
        self._opening: list[Deferred[None]] | None = []
        self._uplinks = Uplinks(settings, self._store, reactor, deliver=self._deliver, counts=counts, wall=wall)
        self._places = {name: _places(tenant) for name, tenant in settings.tenants.items()}
        self._operator = Operator(lambda: self._settings, self.links, self._store, self._again, wall, reactor)
        self._tails = Tails(self.links, reactor, wall, self._exists)
        self._seating = Seating(
            self.links, reactor, settings=lambda: self._settings, codecs=lambda: self._uplinks.codecs, facts=self._facts,
            latest=self._uplinks.latest, orders=self._operator.orders, heard=self._uplinks.heard,
        )  # fmt: skip
        self._hourly = Hourly(lambda: self._settings, self._uplinks.clients, reactor)
        self._passwords = NewPasswords(
            lambda: self._settings, self._facts, lambda key, facts: self._store.write(key, (), facts), self._alarmed, reactor
        )
        self._entrance = Entrance(lambda: self._settings, self.links, self, self.known, self._opened, self._passwords)
        sources = (
            of_cpms(self._entrance.failures, self._entrance.refusing), of_engines(self._uplinks.status, wall, reactor.seconds),
            of_store(self._store, settings.broker.state), Files(lambda: self._settings, wall, deferToThread), self._letters.look,
            of_descriptors,
        )  # fmt: skip
        self._watchman = Watchman(sources, reactor, wall)
        self._watchman.well = self._well
        self._on_alarm, self._on_password = self._alarmed, self._passwords.heard  # bound once, not once for each link
        self.links.on_duplicate = self._watchman.duplicate
        self._heralds = Heralds(settings.broker.alarms, reactor, counts, wall, self._watchman.book.current)
        self._watchman.on_changed, self._watchman.on_look = self._heralds.changed, self._heralds.look

    # ------------------------------------------------------------ life

    def stations(self, listen: ListenSettings) -> StationFactory:
        """The factory for one listener."""
        return StationFactory(self._entrance, listen, self.reactor, self._settings.broker.max_message)

    def start(self) -> None:
        """Open the store, and begin telling the engines what it holds, now or as soon as it can be opened."""
        self._watchman.start()
        self._store.start().addErrback(self._no_store).addCallback(self._opened_or_not)

    def _begin(self) -> None:
        if self._started:
            return
        self._started = True
        self._opened_or_not()
        self._uplinks.begin()
        self._hourly.start()

    def change(self, settings: Settings) -> Deferred[None]:
        """From now on these, for new links and old; fires when the uplinks are as they should be."""
        self._settings, self._makes = settings, (*settings.quirks, *KNOWN)
        self.hold_s, self.ping_s = settings.broker.hold_s, settings.broker.ping_s
        self._places = {name: _places(tenant) for name, tenant in settings.tenants.items()}
        uplinks = self._uplinks.change(settings)
        self._heralds.change(settings.broker.alarms)
        self._entrance.forget()
        self._seating.settle_all()
        return ensureDeferred(uplinks())

    def _opened_or_not(self, _: object = None) -> None:
        waiting, self._opening = self._opening or [], None
        for one in waiting:
            one.callback(None)

    def _no_store(self, failure: Failure) -> None:
        text = "the store takes nothing ({why}): frames are relayed, what is learned waits in memory; it is tried every second"
        log.error(text, why=failure.getErrorMessage())

    async def stop(self, drain_s: float) -> None:
        """Send every station away, stop telling the engines, flush the store."""
        await self.links.drain(drain_s)
        self._entrance.stop()
        self._hourly.stop()
        self._watchman.stop()
        self._heralds.stop()
        await self._uplinks.stop()
        await self._store.stop()

    # ------------------------------------------------------------ for links

    @staticmethod
    def new_id() -> str:
        """A message id of ours that no CPMS will ever use."""
        return OURS + secrets.token_hex(16)

    def write(self, key: Key, write: Write) -> Deferred[None]:
        """Put on disk what was learned; at once done if there was nothing."""
        if not write.records and not write.facts:
            return succeed(None)
        # A promised answer waits for it, or it may stand at the station from now on; nobody waits for the rest.
        soon = write.token is not None or any(fact.topic == "lease" for fact in write.facts)
        return self._store.write(key, write.records, write.facts, soon=soon, keep=True)

    def known(
        self, key: Key, station: StationSettings, tenant: TenantSettings, subprotocol: str | None, opened: Instant, flapping: bool
    ) -> Deferred[Observer | None]:
        """See `door.Known`. A store that is broken or hangs is not waited for: then the station is taken for new."""
        dialect, codec = BY_NAME.get(subprotocol or ""), self._uplinks.codecs.get(key.tenant)
        if station.mode == "relay" or dialect is None or codec is None or station.site is None:
            return succeed(None)
        seat = Seat(key, station, tenant, dialect, codec, self._makes, followed(tenant, station))

        def make(facts: list[Fact]) -> Observer | None:
            return self._seating.make(seat, doubted(facts, opened.wall), opened=opened, flapping=flapping)

        return self._facts(key).addTimeout(DIALLED_S, self.reactor).addErrback(lambda _: []).addCallback(make)

    def _facts(self, key: Key) -> Deferred[list[Fact]]:
        """Stations that dial again while the file is still being opened are waited with: they have transactions running."""
        if self._started:
            return self._store.facts(key)
        if self._opening is None:
            return succeed([])
        self._opening.append(waiting := Deferred[None]())
        return waiting.addCallback(lambda _: self._facts(key))

    def _opened(self, link: Link) -> None:
        """A station that comes (back) gets what an operator decided, and the newest schedules for its sockets, once it is whole."""
        link.on_alarm, link.on_password = self._on_alarm, self._on_password
        self._tails.opened(link)
        self._seating.opened(link)
        self.reactor.callLater(0, self._again, link)

    def _alarmed(self, key: Key, alarm: Alarm) -> None:
        self._watchman.of_station(key, alarm)

    def _again(self, link: Link) -> None:
        if link.place is not None:
            self._seating.tell(link, link.place)

    def _deliver(self, tenant: str) -> Callable[[Schedule], None]:
        def deliver(schedule: Schedule) -> None:
            key = self._places.get(tenant, {}).get(schedule.asset)
            link = self.links.get(key) if key is not None else None
            if link is not None:
                link.wish(schedule)
            elif key is not None and tenant in self._uplinks.codecs:
                outcome = Outcome(schedule.id, schedule.asset, "offline", self.wall())
                record = self._uplinks.codecs[tenant].outcome(tenant, outcome)
                self._store.write(key, (record,), ()).addErrback(lambda _: None)  # the store has counted it

        return deliver

    # ------------------------------------------------------------ for the operator

    def views(self, version: str) -> Views:
        """What the admin side may ask."""
        gauges = Gauges(links=self._by_version, outbox=self._pending, alarms=self._watchman.book.counted, dead=lambda: self._letters.counts)
        return Views(
            ready=self._missing,
            status=lambda: status.overall(self._settings, self._connected().values(), self._parts(version)),
            stations=lambda after, limit, tenant, state: status.page(self._settings, self._connected(), after, limit, tenant, state),
            station=lambda tenant, id: status.station(self._settings, self._connected().get(Key(tenant, id)), Key(tenant, id)),
            metrics=exposition(self.counts, gauges),
            actions=Actions(self._operator, self._tails, self._letters),
            alarms=self._watchman.current,
            test_alarms=lambda: ensureDeferred(self._heralds.test()),
        )

    def _missing(self) -> str:
        if not self._started:
            return "the store is not open"
        return "" if self._store.healthy else "the store does not accept writes"

    def _connected(self) -> Mapping[Key, status.Connected]:
        return {
            link.key: status.Connected(link.key, link.name, link.opened_at, link.subprotocol or "", link.address, link.explain)
            for link in self.links
        }

    def _well(self, key: Key, name: str, raised_at: float) -> bool:
        """See `Watchman.well`. A station that is away proves nothing; one that is not ours any more concerns nobody."""
        link = self.links.get(key)
        if link is None or not self._exists(key):
            return not self._exists(key)
        if link.observer is not None:
            return link.observer.well(name, raised_at)
        return link.place is not None and link.place.station.mode == "relay" and self.reactor.seconds() - link.opened.mono >= RELAYED_S

    def _exists(self, key: Key) -> bool:
        tenant = self._settings.tenants.get(key.tenant)
        return tenant is not None and tenant.station(key.station) is not None

    def _by_version(self) -> Mapping[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for link in self.links:
            at = (link.key.tenant, link.subprotocol or "none")
            found[at] = found.get(at, 0) + 1
        return found

    def _pending(self) -> Mapping[str, tuple[int, float]]:
        now = self.wall()
        waiting = self._store.pending()
        return {
            tenant: (rows, max(0.0, now - oldest) if oldest is not None else 0.0)
            for tenant in self._uplinks.codecs
            for rows, oldest in (waiting.get(tenant, (0, None)),)
        }

    def _room(self) -> dict[str, Any]:
        disk = self._store.disk
        return {
            "dropped": self._store.dropped,
            "kept": self._store.kept,
            "disk": None if disk is None else disk._asdict(),
            "dead_letters": dict(self._letters.counts),
        }

    def _parts(self, version: str) -> dict[str, Any]:
        return {
            "version": version,
            "links": len(self.links),
            "store": {"open": self._started, "healthy": self._store.healthy, **self._room()},
            "engines": self._uplinks.status(),
        }


def _places(tenant: TenantSettings) -> dict[str, Key]:
    """Which station an asset is a socket of."""
    return {evse.asset: Key(tenant.name, station.id) for station in tenant.stations.values() for evse in station.evses}
