"""What the operator decided, as frozen data. `broker.config` makes these from text; everybody else only reads them.

Durations are seconds, sizes bytes. Secrets are kept out of every `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from broker.model.basics import Mode

Purpose = Literal["max", "tx", "default"]


@dataclass(frozen=True, slots=True)
class Quirk:
    """One line: whom it fits, and what is known. Patterns are a shell's (`*`, `?`), in any case; None = as the standard says."""

    name: str
    """For people."""
    vendor: str
    model: str = "*"
    firmware: str = "*"
    purposes: tuple[Purpose, ...] | None = None
    """The only ones it takes."""
    top_level: int | None = None
    """The highest stack level it takes, whatever it reports."""
    max_periods: int | None = None
    unit: Literal["A", "W"] | None = None
    """The only one it takes."""
    writes_per_day: int | None = None
    """How often its memory may be written."""
    note: str = ""
    """What an operator should know. Plain text, one line."""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvseSettings:
    """A socket, and what the engine calls it."""

    number: int
    asset: str
    max_amps: float | None = None
    phases: int = 3


@dataclass(frozen=True, slots=True)
class StationSettings:
    id: str
    mode: Mode
    """Its own, else its site's, else its tenant's."""
    site: str | None = None
    """None: captured data has nowhere to go; such a station is relayed only."""
    current: Literal["ac", "dc"] = "ac"
    evses: tuple[EvseSettings, ...] = ()
    """Never empty for a listed station: EVSE 1 with asset `<id>-1` when nothing was said."""
    password_hash: str = field(default="", repr=False)
    """An Argon2id line, for tenants whose credentials are checked here."""

    def evse(self, number: int) -> EvseSettings | None:
        return next((e for e in self.evses if e.number == number), None)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    url: str
    client_id: str
    client_secret: str = field(repr=False)
    api: str = "v1"
    batch: bool = False
    asset_key: str = "asset_id"
    """How a measurement spells its asset."""
    measure_every_s: float = 60.0
    """How often a changing measurement is told, at most; the engine asks for one a minute."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Overrides: login, site, measurements, transactions, identifications, schedules, outcomes, batch → path; `{site_id}` is filled in."""


@dataclass(frozen=True, slots=True)
class ChargingSettings:
    baseline: Literal["ask", "none", "seen"] = "ask"
    purposes: tuple[Purpose, ...] = ("max", "tx", "default")
    lease_s: float = 900.0
    write_interval_s: float = 60.0
    min_amps: float = 6.0
    below_min: Literal["pause", "min"] = "pause"
    fallback_amps: float | None = None
    """What a limit without an end gives, for a fuse that needs one (`broker.fallback`); None: none."""
    conflict: Literal["smallest", "cpms"] = "smallest"
    """`cpms`: ours is withdrawn on an EVSE while a profile of the CPMS is in force there."""


Credentials = Literal["forward", "check", "replace"]


@dataclass(frozen=True, slots=True)
class TenantSettings:
    name: str
    cpms_url: str
    """Without a trailing slash; stations are dialled as `<cpms_url>/<raw path tail>`."""
    mode: Mode = "shadow"
    security_profile: int = 0
    """The least accepted, 0..3: 1 = Basic; 2 = TLS and Basic; 3 = TLS and a client certificate."""
    cpms_ca_file: str | None = None
    cpms_certificate: str | None = None
    cpms_key_file: str | None = None
    station_ca_file: str | None = None
    certificate_identity: str = "CN"
    unlisted: Literal["relay", "refuse"] = "relay"
    max_links: int | None = None
    """How many of its stations may be connected at once; None: as many as the broker has room for."""
    credentials: Credentials = "forward"
    """`check`: a password that does not fit the station's `password_hash` is refused here; one that does goes on as it came.
    `replace`: the same of stations that have a `password_hash`; the CPMS is shown `cpms_user` and `cpms_password` instead."""
    cpms_user: str = ""
    """"": the station's id."""
    cpms_password: str = field(default="", repr=False)
    engine: EngineSettings | None = None
    charging: ChargingSettings = ChargingSettings()
    sites: tuple[str, ...] = ()
    stations: Mapping[str, StationSettings] = field(default_factory=dict)

    def station(self, id: str) -> StationSettings | None:
        """The listed station, or a relay-only stand-in, or None when unlisted stations are refused."""
        listed = self.stations.get(id)
        if listed is not None or self.unlisted == "refuse":
            return listed
        return StationSettings(id=id, mode="relay")


@dataclass(frozen=True, slots=True)
class ListenSettings:
    endpoint: str
    tenant: str | None = None
    """Binds the port to one tenant: its stations dial `…/<station id>` without a prefix."""


@dataclass(frozen=True, slots=True)
class MailSettings:
    """Where alarms are mailed to, and through whom."""

    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AlarmSettings:
    """Who is told of alarms, of which, how often. Without `webhook_url` and `mail` nobody is."""

    name: str = "ocppbroker"
    """Which broker speaks: who has several must know."""
    webhook_url: str = field(default="", repr=False)
    """May itself be a secret: many chat systems' are."""
    webhook_token: str = field(default="", repr=False)
    mail: MailSettings | None = None
    ca_file: str | None = None
    """Roots to trust instead of the machine's."""
    least: Literal["warning", "critical"] = "warning"
    gather_s: float = 30.0
    repeat_s: float = 86400.0


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    state: str = "var/ocppbroker.sqlite"
    admin: str = "tcp:8080:interface=127.0.0.1"
    admin_token_file: str = "var/admin-token"
    hold_s: float = 5.0
    dial_timeout_s: float = 5.0
    ping_s: float = 30.0
    drain_s: float = 10.0
    max_message: int = 8 * 1024 * 1024
    max_links: int = 20000
    rate: int = 100
    """Messages and control frames a second that each side of a link may say for long; 0 = no bound."""
    burst: int = 500
    """How many of them it may say at once."""
    alarms: AlarmSettings = AlarmSettings()


@dataclass(frozen=True, slots=True)
class Settings:
    broker: BrokerSettings = BrokerSettings()
    listen: tuple[ListenSettings, ...] = ()
    tenants: Mapping[str, TenantSettings] = field(default_factory=dict)
    quirks: tuple[Quirk, ...] = ()
    """The operator's own lines; they go before those we know (`broker.makes`)."""
