"""Observations: version-free facts from an exchange. A new thing to observe is a class here, and a branch in each dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from broker.model.schedules import ChargingProfile, Period


class Reading(NamedTuple):
    """What a meter said for one moment, normalised. None = not said."""

    at: float | None
    """As the station's clock said; None if unreadable."""
    energy_wh: float | None = None
    power_w: float | None = None
    currents_a: tuple[float | None, float | None, float | None] = (None, None, None)
    voltages_v: tuple[float | None, float | None, float | None] = (None, None, None)
    soc_percent: float | None = None
    offered_a: float | None = None
    """Current.Offered: the limit in force, not a measurement."""
    context: str = "Sample.Periodic"


@dataclass(frozen=True, slots=True)
class Boot:
    status: str
    """Accepted, Pending, Rejected; "" when the CPMS answered an error."""
    vendor: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    clock: float | None = None
    """The CPMS's currentTime, if readable."""


@dataclass(frozen=True, slots=True)
class Authorized:
    id_token: str = field(repr=False)
    status: str = ""


class Metered(NamedTuple):
    """Meter values outside a transaction event."""

    evse: int
    """0 = the whole station's main meter."""
    readings: tuple[Reading, ...]
    transaction_id: str | None = None
    connector: int = 1


class StatusSeen(NamedTuple):
    evse: int
    connector: int
    status: str
    """As sent: 1.6's nine (Available … Faulted) or 2.x's five (Available, Occupied, Reserved, Unavailable, Faulted)."""
    at: float | None = None


@dataclass(frozen=True, slots=True)
class TransactionSeen:
    """A transaction began, changed or ended, as the station told it (1.6 Start/Stop, 2.x TransactionEvent)."""

    phase: Literal["started", "updated", "ended"]
    transaction_id: str | None
    """The CPMS's (1.6, decimal digits) or the station's (2.x) id, the one that OCPP uses; None when not known (yet)."""
    evse: int | None
    connector: int | None
    at: float | None
    at_text: str
    """The timestamp as sent: part of 1.6's globally unique id."""
    id_token: str | None = field(default=None, repr=False)
    """Who charges. Never the token of a stop."""
    accepted: bool = True
    """False when the CPMS refused the driver (Invalid, Blocked, …) in its answer."""
    meter_wh: float | None = None
    charging_state: str | None = None
    """2.x: EVConnected, Charging, SuspendedEV, SuspendedEVSE, Idle."""
    seq_no: int | None = None
    offline: bool = False
    phases: int | None = None
    reason: str | None = None
    readings: tuple[Reading, ...] = ()


class Proven(NamedTuple):
    """The CPMS answered a CALL of this station with a CALLRESULT on this link: both ends live and agree."""

    action: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the station said of its smart charging. None = not said; later facts override earlier ones field by field."""

    max_stack_level: int | None = None
    units: frozenset[str] | None = None
    """Subset of {"A", "W"}."""
    max_periods: int | None = None
    max_profiles: int | None = None
    connectors: int | None = None
    phase_switching: bool | None = None
    max_external_id: int | None = None
    smart_charging: bool | None = None


@dataclass(frozen=True, slots=True)
class ProfileSeen:
    """A profile of the CPMS went to the station (SetChargingProfile, or embedded in a remote start)."""

    evse: int
    profile: ChargingProfile
    accepted: bool
    """The station accepted it; False when it refused, did not answer in the shape we know, or answered an error."""
    embedded: bool = False
    id_token: str | None = field(default=None, repr=False)
    sure: bool = True
    """It said so; False: it answered an error or what we cannot read, and may have taken it."""


@dataclass(frozen=True, slots=True)
class ClearSeen:
    """The CPMS cleared profiles. Criteria are a logical AND; all None = everything."""

    accepted: bool
    profile_id: int | None = None
    evse: int | None = None
    purpose: str | None = None
    stack_level: int | None = None


@dataclass(frozen=True, slots=True)
class CompositeSeen:
    """What a station said is in force (GetCompositeSchedule's answer, whoever asked)."""

    evse: int
    start: float | None
    unit: str
    periods: tuple[Period, ...]
    """Empty = refused, or nothing in force."""
    accepted: bool = True
    duration_s: int | None = None


@dataclass(frozen=True, slots=True)
class LimitUnknown:
    """The CPMS sent a profile that we cannot read: what it allows on that EVSE is unknown from here on."""

    evse: int
    why: str
    profile_id: int | None = None
    """The profile's, if that much was readable: replaced or cleared by it, the limit is known again."""


@dataclass(frozen=True, slots=True)
class LimitTold:
    """A 2.x station told of a limit that is not the CPMS's (NotifyChargingLimit). It holds beside all others until it is cleared."""

    evse: int
    """0: the whole station."""
    source: str
    """EMS, SO, Other, or what else the station calls it."""
    schedules: tuple[ChargingProfile, ...] = ()
    """What it allows, as profiles of no stack: all of them hold."""
    why: str = ""
    """Not empty: how low it is is not known, and why."""


@dataclass(frozen=True, slots=True)
class LimitCleared:
    """The station told that the limit of that source is gone (ClearedChargingLimit). `evse` 0: wherever it was."""

    evse: int
    source: str


@dataclass(frozen=True, slots=True)
class ProfileReported:
    """A profile that a 2.x station says it holds for its CPMS (ReportChargingProfiles): the CPMS's, or ours."""

    evse: int
    profile_id: int | None
    profile: ChargingProfile | None
    """None: it cannot be read."""
    why: str = ""


Observation = (
    Boot
    | Authorized
    | Metered
    | StatusSeen
    | TransactionSeen
    | Proven
    | Capabilities
    | ProfileSeen
    | ClearSeen
    | CompositeSeen
    | LimitUnknown
    | LimitTold
    | LimitCleared
    | ProfileReported
)


@dataclass(frozen=True, slots=True)
class SettingTaken:
    """The station accepted a setting of its CPMS's by which it may not come back to us as it is. Never the value, but for a password."""

    what: Literal["password", "url", "security-profile", "root-certificate", "identity"]
    name: str
    """What OCPP, or the station's maker, calls it."""
    password: bytes = field(default=b"", repr=False)
