"""One [[tenants]] in, TenantSettings out: the customer's CPMS, engine, sites and stations; mistakes are noted with their place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal
from urllib.parse import urlsplit

from broker.config_modes import settle
from broker.config_stations import MODES, Draft, Rules, draft_from_table, drafts_from_csv
from broker.config_table import Table
from broker.model.basics import Mode
from broker.settings import ChargingSettings, Credentials, EngineSettings, Purpose, TenantSettings

TENANT = re.compile(r"[A-Za-z0-9._~-]{1,64}")
SITE = re.compile(r"[a-zA-Z0-9_-]{1,64}")
PURPOSES: tuple[Purpose, ...] = ("max", "tx", "default")
PATHS = ("login", "site", "measurements", "transactions", "identifications", "schedules", "outcomes", "batch")
UNLISTED: tuple[Literal["relay", "refuse"], ...] = ("relay", "refuse")
CONFLICTS: tuple[Literal["smallest", "cpms"], ...] = ("smallest", "cpms")
BASELINES: tuple[Literal["ask", "none", "seen"], ...] = ("ask", "none", "seen")
USER = re.compile(r"[!-9;-~]{1,255}")
UNKNOWN: Final[Mapping[str, str]] = {
    "check": "of an unlisted station we know no password",
    "replace": "any stranger would come to the CPMS with our credentials",
}
BELOW_MIN: tuple[Literal["pause", "min"], ...] = ("pause", "min")
CREDENTIALS: tuple[Credentials, ...] = ("forward", "check", "replace")


def read_tenant(table: Table) -> TenantSettings:
    """One [[tenants]] with all that hangs below it."""
    name = table.text("name", "", required=True, grammar=TENANT, says="must be 1 to 64 of A-Z a-z 0-9 . _ ~ -")
    if name in (".", ".."):
        table.wrong("name", 'must not be "." or ".."')
    engine, charging = table.table("engine"), table.table("charging")
    mode = table.choice("mode", MODES, "shadow")
    credentials = table.choice("credentials", CREDENTIALS, "forward")
    user, password = read_account(table, credentials)
    settings = TenantSettings(
        name=name,
        cpms_url=url(table, "cpms_url", ("ws", "wss")),
        mode=mode,
        security_profile=table.whole("security_profile", 0, 0, 3),
        cpms_ca_file=table.path_or_none("cpms_ca_file"),
        cpms_certificate=table.path_or_none("cpms_certificate"),
        cpms_key_file=table.path_or_none("cpms_key_file"),
        station_ca_file=table.path_or_none("station_ca_file"),
        certificate_identity=table.choice("certificate_identity", ("CN", "serialNumber", "SAN"), "CN"),
        unlisted=table.choice("unlisted", UNLISTED, "relay"),
        max_links=table.whole("max_links", 0, 1, 1_000_000) or None,
        credentials=credentials,
        cpms_user=user,
        cpms_password=password,
        engine=read_engine(engine) if engine else None,
        charging=read_charging(charging) if charging else ChargingSettings(),
    )
    sites = read_sites(table, mode)
    drafts = read_drafts(table)
    table.end()
    check_tls(table, settings)
    if settings.unlisted != "refuse" and credentials in UNKNOWN:
        table.wrong("unlisted", f'must be "refuse" with credentials = "{credentials}": {UNKNOWN[credentials]}')
    # A station that shows no password (profile 0) has none to be judged; one with a certificate (3) neither.
    judged = credentials == "check" or (credentials == "replace" and settings.security_profile > 0)
    hashes = credentials if judged and settings.security_profile < 3 else ""
    rules = Rules(mode, sites, settings.charging.baseline, settings.charging.min_amps, hashes)
    stations = settle(drafts, rules, table.reading)
    captures = any(station.mode != "relay" for station in stations.values())
    if not table.has("engine") and (captures or (table.has("mode") and mode != "relay")):
        table.wrong("engine", 'is missing: what every mode but "relay" captures is for an engine')
    return replace(settings, sites=tuple(sites), stations=stations)


def read_account(table: Table, credentials: Credentials) -> tuple[str, str]:
    """What the CPMS is shown instead of a station's own: a user ("" for the station's id) and a password."""
    keys = ("cpms_user", "cpms_password_file", "cpms_password_env")
    if credentials == "replace":
        return table.text("cpms_user", "", grammar=USER, says="must be printable ASCII without a colon"), table.secret("cpms_password")
    table.known += keys
    for key in filter(table.has, keys):
        table.wrong(key, 'is only for credentials = "replace"')
    return "", ""


def read_engine(table: Table) -> EngineSettings:
    paths = table.table("paths")
    settings = EngineSettings(
        url=url(table, "url", ("http", "https")),
        client_id=table.text("client_id", "", required=True),
        client_secret=table.secret("client_secret"),
        api=table.choice("api", ("v1",), "v1"),
        batch=table.flag("batch", False),
        asset_key=table.text("asset_key", "asset_id"),
        measure_every_s=table.seconds("measure_every", 60.0, "1s", "15m"),
        paths=read_paths(paths) if paths else {},
    )
    table.end()
    return settings


def read_paths(table: Table) -> dict[str, str]:
    paths = {key: table.text(key, "", grammar=re.compile(r"/[\x21-\x7e]*"), says="must be a path that starts with /") for key in PATHS}
    table.end()
    return {key: path for key, path in paths.items() if path}


def read_charging(table: Table) -> ChargingSettings:
    plain = ChargingSettings()
    wanted = table.strings("purposes")
    if wanted is not None and (not wanted or len(set(wanted)) < len(wanted) or not set(wanted) <= set(PURPOSES)):
        table.wrong("purposes", 'must be some of "max", "tx", "default", each once, the first to be tried first')
        wanted = None
    by_name: dict[str, Purpose] = {purpose: purpose for purpose in PURPOSES}
    settings = ChargingSettings(
        baseline=table.choice("baseline", BASELINES, plain.baseline),
        purposes=plain.purposes if wanted is None else tuple(by_name[name] for name in wanted),
        conflict=table.choice("conflict", CONFLICTS, plain.conflict),
        lease_s=table.seconds("lease", plain.lease_s, "10s", "24h"),
        write_interval_s=table.seconds("write_interval", plain.write_interval_s, "1s", "1h"),
        min_amps=table.number("min_amps", 0, 80) or plain.min_amps,
        below_min=table.choice("below_min", BELOW_MIN, plain.below_min),
        fallback_amps=table.number("fallback_amps", 0, 1000),
    )
    if settings.fallback_amps is not None and settings.fallback_amps < settings.min_amps:
        table.wrong("fallback_amps", f"must be at least min_amps ({settings.min_amps:g}): below it no car charges, and it has no end")
    table.end()
    return settings


def read_sites(table: Table, default: Mode) -> dict[str, Mode]:
    """Each site's name and the mode it gives its stations."""
    sites: dict[str, Mode] = {}
    for site in table.tables("sites"):
        name = site.text("name", "", required=True, grammar=SITE, says="must be 1 to 64 of A-Z a-z 0-9 _ -")
        mode = site.choice("mode", MODES, default)
        site.end()
        if name in sites:
            site.wrong("name", f"{name} is here a second time")
        elif name:
            sites[name] = mode
    return sites


def read_drafts(table: Table) -> list[Draft]:
    """The stations of this file, then those of the list it names."""
    drafts = [draft for draft in map(draft_from_table, table.tables("stations")) if draft is not None]
    name = table.text("stations_file", "")
    text = table.reading.contents(table.at("stations_file"), name) if name else None
    if text is not None:
        drafts += drafts_from_csv(text, table.reading.shown(name), table.reading)
    return drafts


def url(table: Table, key: str, schemes: Sequence[str]) -> str:
    """An absolute URL without a trailing slash, "" after noting what is wrong with it. May name a port and a path, nothing more."""
    value = table.text(key, "", required=True)
    if not value:
        return ""
    if not value.lower().startswith(tuple(f"{scheme}://" for scheme in schemes)):
        table.wrong(key, f"must start with {schemes[0]}:// or {schemes[1]}://")
        return ""
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        table.wrong(key, "must name a host, and a port from 1 to 65535 if any")
    elif "@" in parts.netloc:
        table.wrong(key, "must not hold a user or password")
    elif "?" in value or "#" in value:
        table.wrong(key, "must not hold a query or fragment")
    elif not re.fullmatch(r"[\x21-\x7e]+", value):
        table.wrong(key, "must be ASCII without blanks")
    else:
        return value.rstrip("/")
    return ""


def check_tls(table: Table, tenant: TenantSettings) -> None:
    """The CPMS's certificates only matter for wss://, and a client certificate needs its key."""
    for key in ("cpms_ca_file", "cpms_certificate", "cpms_key_file"):
        if getattr(tenant, key) and tenant.cpms_url.lower().startswith("ws:"):
            table.wrong(key, "is only for a wss:// cpms_url")
    if tenant.cpms_certificate and not tenant.cpms_key_file:
        table.wrong("cpms_key_file", "is missing: cpms_certificate needs its key")
    if tenant.cpms_key_file and not tenant.cpms_certificate:
        table.wrong("cpms_certificate", "is missing: cpms_key_file needs its certificate")
