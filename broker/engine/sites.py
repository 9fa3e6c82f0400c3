"""The engine's own view of a site, held against what an operator mapped to it. Pure: JSON in, lines for an operator out.

The engine calls its assets by the `name` of a device in the site's configuration; its `validation_status` says which of them it misses
and whether data arrives. Whatever it does not say is not held against anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from broker.settings import TenantSettings

MOST_NAMED: Final = 20  # of one kind, in one line
MOST_LETTERS: Final = 80  # of a name of the engine's
FINE: Final = frozenset({"OK", "UNKNOWN", ""})


class SiteSeen(NamedTuple):
    """What an answer to GET site says."""

    assets: frozenset[str] | None
    """None: it has no configuration yet."""
    missing: tuple[str, ...]
    """What the engine expects and has not got (`missing_assets`)."""
    statuses: Mapping[str, str]
    """Part of its validation → ERROR or WARNING; what is fine or unknown is left out."""


def site_seen(body: Any) -> SiteSeen:
    """Read an answer. Raises ValueError, in one line, if it is no site at all."""
    if not isinstance(body, Mapping):
        raise ValueError("the engine's answer about a site is not an object")
    validation = _part(body, "validation_status")
    configured = _part(validation, "site_configuration_status")
    parts = {
        "site configuration": configured,
        "optimisation": _part(configured, "valid_for_optimization"),
        "ingress": _part(validation, "ingress_status"),
    }
    found = {name: str(part.get("status") or "") for name, part in parts.items()}
    missing = _part(configured, "configuration_complete").get("missing_assets")
    return SiteSeen(
        _assets(body),
        tuple(map(_shown, missing)) if isinstance(missing, list) else (),
        {name: _shown(status) for name, status in found.items() if status not in FINE},
    )


def site_faults(tenant: TenantSettings, site: str, seen: SiteSeen) -> list[str]:
    """What is at odds, one line each; empty if nothing is."""
    at = f"{tenant.name}, site {site}"
    mapped = dict(_mapped(tenant, site))
    if seen.assets is None:
        return [f"{at}: the engine has no configuration of it yet: it cannot plan; ask the engine's operator to add its assets"]
    lines = [
        f"{at}: the engine has no asset {asset} (station {station}): nothing will be planned for it; correct `asset`, or add it there"
        for asset, station in sorted(mapped.items())
        if asset not in seen.assets
    ]
    if len(lines) > MOST_NAMED:
        lines = [*lines[:MOST_NAMED], f"{at}: and {len(lines) - MOST_NAMED} more assets that the engine does not have"]
    if seen.missing:
        named = ", ".join(seen.missing[:MOST_NAMED]) + (", …" if len(seen.missing) > MOST_NAMED else "")
        lines.append(f"{at}: the engine misses assets: {named}; map them to stations here, or remove them there")
    said = ((name, status) for name, status in seen.statuses.items())
    return [*lines, *(f"{at}: the engine says {status} of its {name}" for name, status in said)]


def _mapped(tenant: TenantSettings, site: str) -> Iterator[tuple[str, str]]:
    for station in tenant.stations.values():
        if station.site == site and station.mode != "relay":
            yield from ((evse.asset, station.id) for evse in station.evses)


def _assets(body: Mapping[str, Any]) -> frozenset[str] | None:
    devices: Any = _part(_part(body, "configurations"), "site_configuration").get("device_list")
    if not isinstance(devices, Iterable) or isinstance(devices, str | Mapping):
        return None
    return frozenset(one["name"] for one in devices if isinstance(one, Mapping) and isinstance(one.get("name"), str))


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = of.get(name)
    return part if isinstance(part, Mapping) else {}


def _shown(name: Any) -> str:
    """A word of the engine's, fit for one line."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(name))[:MOST_LETTERS]
