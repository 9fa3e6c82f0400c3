"""What is kept on disk: what the engine has to be told, and what a restart must know of a station and its transactions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
