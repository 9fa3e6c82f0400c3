"""The nouns everybody shares: who is speaking, what was said, what it meant, what the engine wants.

Nothing here does anything. Energy is Wh, power W, current A per phase, voltage V line to neutral, state of charge %;
times of the world are seconds since 1970 UTC (`float`), times for timers are monotonic seconds. An id token is personal
data: the classes that carry one keep it out of their `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Leg = Literal["station", "cpms"]
"""Which of the two sockets; also: who sent something."""

Mode = Literal["relay", "driver-identification", "shadow", "smart-charging"]

CALL, CALLRESULT, CALLERROR, CALLRESULTERROR, SEND = 2, 3, 4, 5, 6

OURS = "ocb-"
"""Every message id of ours begins with this; 32 lower-case hex digits follow (36 characters, OCPP-J's limit)."""


class Instant(NamedTuple):
    """One moment on both clocks."""

    mono: float
    """Monotonic seconds: for timers, immune to clock steps."""
    wall: float
    """Seconds since 1970 UTC: for what is written down."""


class Key(NamedTuple):
    """A station's identity. `station` is the decoded last path segment."""

    tenant: str
    station: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.station}"


class Exchange(NamedTuple):
    """A CALL that went by, with its answer if that went by too. Frames are whole OCPP-J arrays, as they came."""

    sender: Leg
    action: str
    call: bytes
    """The CALL's frame; b"" when only its answer's kind is of interest."""
    answer: bytes | None
    """The answer's frame; None when this is shown at the CALL."""
    kind: int
    """CALLRESULT or CALLERROR; 0 while unanswered."""
    token: int | None
    """To be given to `Relay.committed` once what was learned is on disk; None when no answer waits for it."""


@dataclass(frozen=True, slots=True)
class Interest:
    """Which actions a dialect wants to see, handed to the relay at link-open. The relay knows no other thing of OCPP."""

    at_call: frozenset[str] = frozenset()
    """Station's CALLs (and SENDs) shown as soon as they go by."""
    at_answer: frozenset[str] = frozenset()
    """CALLs (either side's) shown together with their answer."""
    promised: frozenset[str] = frozenset()
    """Station's CALLs whose answer waits (bounded) until what was learned is on disk; each is also in one or both of the above."""
    guarded: frozenset[str] = frozenset()
    """CPMS's CALLs shown to the injector before they go to the station (law 8)."""
    proof: frozenset[str] = frozenset()
    """Station's CALLs whose first CALLRESULT from the CPMS proves that both ends live; shown once, without payload."""


NOTHING = Interest()


# ---------------------------------------------------------------- observations: version-free facts from an exchange


@dataclass(frozen=True, slots=True)
class Reading:
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


@dataclass(frozen=True, slots=True)
class Metered:
    """Meter values outside a transaction event."""

    evse: int
    """0 = the whole station's main meter."""
    readings: tuple[Reading, ...]
    transaction_id: str | None = None
    connector: int = 1


@dataclass(frozen=True, slots=True)
class StatusSeen:
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


@dataclass(frozen=True, slots=True)
class Proven:
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


# ---------------------------------------------------------------- charging profiles, as OCPP has them, version-free


class Period(NamedTuple):
    """From `start_s` seconds after the schedule's start on, at most `limit` (A per phase, or W in all)."""

    start_s: int
    limit: float
    phases: int | None = None


@dataclass(frozen=True, slots=True)
class ChargingProfile:
    """A schedule as OCPP wraps it. Purposes have 1.6's and 2.x's names folded to four words."""

    id: int
    stack_level: int
    purpose: str
    """max (ChargePointMaxProfile, ChargingStationMaxProfile) | default (TxDefaultProfile) | tx (TxProfile) | any other: as sent."""
    kind: str
    """Absolute | Recurring | Relative | any other: as sent."""
    unit: str
    """A or W."""
    periods: tuple[Period, ...]
    start: float | None = None
    duration_s: int | None = None
    recurrency: str | None = None
    transaction_id: str | None = None
    valid_from: float | None = None
    valid_to: float | None = None
    more_schedules: bool = False
    """2.x: there were further schedules in the profile that this does not hold."""


# ---------------------------------------------------------------- what the engine wants, what it is told


class Step(NamedTuple):
    """From `at` (seconds since 1970 UTC) on, `limit`."""

    at: float
    limit: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule of the engine for one asset, validated whole."""

    id: str
    asset: str
    issued_at: float
    valid_until: float
    unit: str
    """W: total of all phases; A: per phase."""
    steps: tuple[Step, ...]
    """Strictly rising; the last one holds until `valid_until`."""
    transaction: str | None = None
    """The engine's (globally unique) transaction id; None = whatever charges there."""
    phases: int | None = None


OutcomeStatus = Literal[
    "accepted",
    "rejected",
    "no-answer",
    "superseded",
    "not-obeyed",
    "unverified",
    "lapsed",
    "offline",
    "refused",
    "not-sent",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a schedule."""

    schedule: str
    asset: str
    status: OutcomeStatus
    at: float
    detail: str = ""


RecordKind = Literal["measurement", "transaction", "identification", "outcome"]


@dataclass(frozen=True, slots=True)
class Record:
    """One thing the engine has to be told; durable, in order per station, with the key that makes repeats harmless."""

    key: str
    """Idempotency key, ≤ 64 characters; the same for every try, also after a restart."""
    kind: RecordKind
    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something a restart must know of a station: (topic, name) → JSON-able value. A value of None forgets it."""

    topic: str
    """boot | capability | transaction | cpms-limit | lease | quirk"""
    name: str
    value: Any = field(repr=False)


# ---------------------------------------------------------------- transactions


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that runs, as far as we know."""

    uid: str
    """Globally unique and the same after a restart: what the engine knows it by."""
    evse: int
    connector: int
    started_at: float
    """Station's own time of the start; receive time if unreadable."""
    ocpp_id: str | None = None
    """What OCPP calls it: 1.6 the CPMS's number as decimal digits, 2.x the station's string."""
    id_token: str | None = field(default=None, repr=False)
    live: bool = True
    """False while only an old or offline start is known: nothing may be told to the station for it."""
    state: str = "Started"
    """Started | Updated | SuspendedEV: what the engine was told last."""
    meter_start_wh: float | None = None
    seq_no: int | None = None
    phases: int | None = None
    identified: bool = False


# ---------------------------------------------------------------- effects of learning: what the link is to do next


class Write(NamedTuple):
    """Put these on disk, in this order; then `Relay.committed(token)` if a token is given."""

    records: tuple[Record, ...]
    facts: tuple[Fact, ...]
    token: int | None = None


class Inject(NamedTuple):
    """Send a CALL of ours to the station when law 3 lets it."""

    token: int
    action: str
    payload: Mapping[str, Any]
    wait_s: float = 30.0
    """How long it may wait for its turn before it is settled as `no-slot`."""
    timeout_s: float = 30.0
    """How long the station may take to answer."""


class Pass(NamedTuple):
    """The guarded CPMS CALL with this token may go on (law 8)."""

    token: int


class Report(NamedTuple):
    """Tell the engine what became of its schedule."""

    outcome: Outcome


class Remember(NamedTuple):
    """Persist a fact of this station."""

    fact: Fact


class Alarm(NamedTuple):
    """Something an operator should know: `text` says what is wrong, whose fault it is and what to do. No personal data."""

    name: str
    text: str
