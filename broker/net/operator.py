"""What an operator may do to stations while the broker runs: a limit of his own, its removal, and the release of all that is ours.

Each order is written to the store first, as a fact of its station, then told to the station's link. A station that is away
gets it from the store when it comes; orders of this process are kept as well, for a store that is slow just then. A disk that refuses
or hangs keeps nobody from ordering: the order holds until a restart, and the answer says so (`stored`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred, FirstError, TimeoutError, gatherResults

from broker.fallback import FOREVER
from broker.leases import Lease, lease_of
from broker.model.basics import Key
from broker.model.records import Fact
from broker.model.schedules import in_force
from broker.net.link import Link
from broker.net.links import Links
from broker.net.replies import Refused
from broker.net.store import NotStored, Store
from broker.ocpp.times import text
from broker.operating import OwnLimit, own_limit, release_fact, released, wanted
from broker.settings import Settings, StationSettings
from broker.shadowbook import report

ORDERS: Final = 10_000  # stations whose orders are kept in memory too; the store has them all
AT_ONCE: Final = 500  # writes of one release that may wait for the disk
SHOWN: Final = 100  # stations named in one answer; all are counted
PATIENCE_S: Final = 3.0  # with a disk: a console gives up after 15 (`admin_client.PATIENCE_S`), and one order asks up to three times

Found = TypeVar("Found")


class Operator:
    """`again` gives a link the engine's newest schedules; `wall` is seconds since 1970 UTC."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        links: Links,
        store: Store,
        again: Callable[[Link], None],
        wall: Callable[[], float],
        reactor: Any,
    ) -> None:
        self._settings, self._links, self._store, self._again, self._wall, self._reactor = settings, links, store, again, wall, reactor
        self._orders: OrderedDict[Key, dict[str, Fact]] = OrderedDict()

    def orders(self, key: Key) -> Sequence[Fact]:
        """What was ordered for this station since the start."""
        return tuple(self._orders.get(key, {}).values())

    # ------------------------------------------------------------ a limit

    async def limit(self, key: Key, body: Any) -> dict[str, Any]:
        """An operator's limit. Raises Refused."""
        station = self._steerable(key)
        try:
            own = wanted(body, station, self._wall())
        except ValueError as problem:
            raise Refused(400, "bad-limit", str(problem)) from None
        if await self._released(key):
            raise Refused(409, "released", f"{key} is released, nothing is sent to it: take that back first (ocppbroker release --undo)")
        found = await self._order(key, [one.fact() for one in own])
        evses = [one.evse for one in own]
        return {"station": str(key), "evses": evses, "amps": own[0].amps, "until": text(own[0].until), **found}

    async def clear(self, key: Key) -> dict[str, Any]:
        """No operator's limit any more. Raises Refused."""
        station = self._steerable(key)
        return {"station": str(key), **await self._order(key, [OwnLimit(evse.number, 0.0, 0.0, 0.0).gone() for evse in station.evses])}

    def _steerable(self, key: Key) -> StationSettings:
        tenant = self._settings().tenants.get(key.tenant)
        station = tenant.stations.get(key.station) if tenant is not None else None
        if station is None:
            raise Refused(404, "unknown-station", f"{key} is not in the station list")
        if station.mode != "smart-charging":
            why = f'{key} is in mode "{station.mode}", where nothing is sent to a station: set mode = "smart-charging" for it'
            raise Refused(409, "mode", why)
        return station

    async def _released(self, key: Key) -> bool:
        """As the disk has it, or, if that does not answer, as it was ordered since the start."""
        facts = await self._patiently(self._store.facts(key))
        return any(released(fact) is not None for fact in (self.orders(key) if facts is None else facts))

    # ------------------------------------------------------------ release

    async def release(self, tenant: str, station: str | None, undo: bool) -> dict[str, Any]:
        """Everything of ours goes, and nothing more is sent; or, `undo`, again from now on. Raises Refused."""
        keys = await self._concerned(tenant, station)
        fact = release_fact(None if undo else self._wall())
        stored = True
        for some in (keys[n : n + AT_ONCE] for n in range(0, len(keys), AT_ONCE)):
            stored = await self._write([(key, [*self._no_limits(key), fact]) for key in some], wait=stored)
            for key in some:
                self._tell(key, [fact])
                link = self._links.get(key)
                if undo and link is not None:
                    self._again(link)
        left = await self.left(tenant, station) if stored else {"left": None, "stations": []}
        return {"released": not undo, "stored": stored, **left}

    async def left(self, tenant: str, station: str | None) -> dict[str, Any]:
        """Where profiles of ours still stand, or may stand. A profile that has ended by itself stands no more. Raises Refused."""
        self._tenant(tenant)
        now = self._wall()
        found: dict[str, tuple[list[str], list[float]]] = {}
        for id, fact in self._known(await self._about(tenant, "lease")):
            lease = lease_of(fact)
            if (station is None or id == station) and (lease is None or not lease.over(now)):
                profiles, ends = found.get(id, ([], []))
                found[id] = [*profiles, fact.name], [*ends, *([lease.until] if lease is not None else [])]
        stations = [
            {"station": f"{tenant}/{id}", "state": self._state(Key(tenant, id)), "profiles": profiles, "until": _last(ends)}
            for id, (profiles, ends) in list(found.items())[:SHOWN]
        ]
        return {"left": len(found), "stations": stations}

    async def standing(self, key: Key) -> dict[str, Any] | None:
        """What of ours may stand at a station that is away, and what an operator ordered; None: the store does not answer."""
        now = self._wall()
        facts = await self._patiently(self._store.facts(key))
        if facts is None:
            return None
        leases = [lease for fact in facts if (lease := lease_of(fact)) is not None and not lease.over(now)]
        since = next((at for fact in facts if (at := released(fact)) is not None), None)
        orders = [own for fact in facts if (own := own_limit(fact)) is not None and own.until > now]
        return {
            "profiles": [_standing(one, now) for one in leases],
            "released": text(since) if since is not None else None,
            "operator": [{"evse": one.evse, "amps": one.amps, "until": text(one.until)} for one in orders],
        }

    async def _concerned(self, tenant: str, station: str | None) -> list[Key]:
        """The stations that we may send to, and those where something of ours is left from before, if the disk says which."""
        listed = self._tenant(tenant)
        if station is not None:
            self._steerable(Key(tenant, station))
            return [Key(tenant, station)]
        before = {id for id, _ in await self._about(tenant, "lease") or ()}
        ours = before | {id for id, one in listed.items() if one.mode == "smart-charging"}
        return [Key(tenant, id) for id in sorted(ours)]

    def _tenant(self, name: str) -> Any:
        tenant = self._settings().tenants.get(name)
        if tenant is None:
            raise Refused(404, "unknown-tenant", f"there is no tenant {name}")
        return tenant.stations

    def _state(self, key: Key) -> str:
        """What its profiles wait for."""
        return "clearing" if self._links.get(key) is not None else "away"

    def _no_limits(self, key: Key) -> list[Fact]:
        listed = self._settings().tenants[key.tenant].stations.get(key.station)
        return [OwnLimit(evse.number, 0.0, 0.0, 0.0).gone() for evse in listed.evses] if listed is not None else []

    # ------------------------------------------------------------ shadow

    async def shadow_report(self, tenant: str) -> dict[str, Any]:
        """What shadow mode would have sent in the last days, and what that would have done. Raises Refused."""
        self._tenant(tenant)
        return report(tenant, self._known(await self._about(tenant, "shadow")))

    # ------------------------------------------------------------ on disk, then on its way

    async def _order(self, key: Key, facts: Sequence[Fact]) -> dict[str, Any]:
        """What became of it, for an answer."""
        stored = await self._write([(key, facts)])
        state, link = self._tell(key, facts), self._links.get(key)
        return {"stored": stored, "state": state, "limits": link.explain().get("limits", {}) if link is not None else {}}

    def _tell(self, key: Key, facts: Iterable[Fact]) -> str:
        """heard: its link follows it; away: it will when it comes; deaf: we do not speak this station's OCPP."""
        kept = self._orders.setdefault(key, {})
        kept |= {fact.name: fact for fact in facts}
        self._orders.move_to_end(key)
        if len(self._orders) > ORDERS:
            self._orders.popitem(last=False)
        link = self._links.get(key)
        if link is None:
            return "away"
        return "heard" if link.steer(tuple(facts)) else "deaf"

    async def _write(self, orders: Sequence[tuple[Key, Sequence[Fact]]], wait: bool = True) -> bool:
        """Whether they are on disk. What a disk that hangs has not taken by now it takes when it answers again."""
        written = gatherResults([self._store.write(key, (), facts) for key, facts in orders], consumeErrors=True)
        written.addCallback(lambda _: True)
        return await self._patiently(written, wait) is not None

    async def _about(self, tenant: str, topic: str) -> list[tuple[str, Fact]] | None:
        return await self._patiently(self._store.about(tenant, topic))

    async def _patiently(self, asked: Deferred[Found], wait: bool = True) -> Found | None:
        """What the store says; None if it refuses, or does not say it in time."""
        try:
            return await asked.addTimeout(PATIENCE_S if wait else 0.0, self._reactor)
        except Exception as problem:
            first = problem.subFailure.value if isinstance(problem, FirstError) else problem
            if not isinstance(first, NotStored | TimeoutError | CancelledError):
                raise
            return None

    @staticmethod
    def _known(found: Found | None) -> Found:
        """Raises Refused."""
        if found is None:
            raise Refused(503, "store", "the store does not answer, or refuses: `ocppbroker alarms` says more")
        return found


def _standing(lease: Lease, now: float) -> dict[str, Any]:
    """`limit`: None where it allows everything now; `until`: None where it has no end."""
    return {
        "evse": lease.evse, "profile": lease.profile_id, "purpose": lease.purpose, "limit": in_force(lease.steps, now), "unit": lease.unit,
        "until": text(lease.until) if lease.until < FOREVER else None, "sure": lease.sure,
    }  # fmt: skip


def _last(ends: Sequence[float]) -> str | None:
    return text(max(ends)) if ends else None
