"""A snapshot of it all, as plain JSON-able data: what the admin side answers.

Comes in: the settings, who is connected, what the parts say of themselves. Goes out: dictionaries whose keys are a contract
with scripts and dashboards. No secret, no id token.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from broker.model.basics import Key
from broker.ocpp.times import text
from broker.settings import Settings, StationSettings


class Connected(NamedTuple):
    """One live link, as seen from outside it."""

    key: Key
    name: str
    """The link's name in the log: `acme/CS-7#3`."""
    since: float
    """Seconds since 1970 UTC."""
    version: str
    """The subprotocol in use; "" when none was agreed."""
    address: str
    learned: Callable[[], Mapping[str, Any]]
    """What is known of the station: transactions, latest values, limits and why."""


def overall(settings: Settings, connected: Iterable[Connected], parts: Mapping[str, Any]) -> dict[str, Any]:
    """`/api/v1/status`: per tenant how many stations are listed and connected by version; and what the other parts say."""
    links = Counter((link.key.tenant, link.version) for link in connected)
    tenants: dict[str, Any] = {}
    for name, tenant in settings.tenants.items():
        versions = {version or "none": n for (of, version), n in sorted(links.items()) if of == name}
        tenants[name] = {"mode": tenant.mode, "listed": len(tenant.stations), "connected": sum(versions.values()), "versions": versions}
    return {"tenants": tenants, **parts}


def page(settings: Settings, connected: Mapping[Key, Connected], after: str, limit: int, tenant: str, state: str) -> dict[str, Any]:
    """`/api/v1/stations`: listed and connected stations in order of `tenant/id`, after `after`, at most `limit`.

    `state`: "connected", "away" or "" for both; `tenant` "" for all. `next` is the `after` of the next page, None at the end.
    """
    listed = {Key(name, id) for name, of in settings.tenants.items() for id in of.stations}
    of_tenant = (key for key in listed | set(connected) if tenant in ("", key.tenant))
    wanted = sorted((key for key in of_tenant if state in ("", "connected" if key in connected else "away")), key=str)
    first = bisect_right(wanted, after, key=str) if after else 0
    shown = wanted[first : first + limit]
    more = first + limit < len(wanted)
    return {"stations": [_line(settings, connected.get(key), key) for key in shown], "next": str(shown[-1]) if more else None}


def station(settings: Settings, link: Connected | None, key: Key) -> dict[str, Any] | None:
    """`/api/v1/stations/{tenant}/{id}`: the line of the listing, the assets, and what was learned; None if neither listed nor connected."""
    of = settings.tenants.get(key.tenant)
    listed = of.stations.get(key.station) if of else None
    if listed is None and link is None:
        return None
    assets = [{"evse": e.number, "asset": e.asset, "max_amps": e.max_amps, "phases": e.phases} for e in listed.evses] if listed else []
    return {**_line(settings, link, key), "evses": assets, "learned": dict(link.learned()) if link else None}


def _line(settings: Settings, link: Connected | None, key: Key) -> dict[str, Any]:
    of = settings.tenants.get(key.tenant)
    decided: StationSettings | None = of.station(key.station) if of else None
    return {
        "tenant": key.tenant,
        "id": key.station,
        "listed": bool(of and key.station in of.stations),
        "mode": decided.mode if decided else None,
        "site": decided.site if decided else None,
        "state": "connected" if link else "away",
        "link": link.name if link else None,
        "since": text(link.since) if link else None,
        "version": (link.version or "none") if link else None,
        "address": link.address if link else None,
    }
