"""What a module that knows one OCPP version offers. The only thing the rest of the broker knows of OCPP's vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from broker.model.basics import Instant
from broker.model.observations import Capabilities, CompositeSeen, Observation, SettingTaken
from broker.model.schedules import ChargingProfile
from broker.model.traffic import Exchange, Interest

Request = tuple[str, dict[str, Any]]
"""(action, payload) of a CALL of ours."""


class Verdict(NamedTuple):
    """What a station answered to a CALL of ours that sets or clears a profile."""

    status: str
    """Accepted, Rejected, NotSupported, Unknown; for a CALLERROR its code."""
    reason: str = ""
    """2.x statusInfo.reasonCode, or the CALLERROR's description, cut to 80 characters."""

    @property
    def accepted(self) -> bool:
        return self.status == "Accepted"


class Charging(Protocol):
    """Smart charging in one version: our CALLs, the answers to them, and the CPMS's own conversation about profiles."""

    actions: frozenset[str]
    """The CPMS's (and station's) actions about profiles and capabilities that `observe` reads, at their answer."""

    def set_profile(self, evse: int, profile: ChargingProfile) -> Request: ...

    def clear_profile(self, profile_id: int) -> Request: ...

    def get_composite(self, evse: int, duration_s: int, unit: str | None) -> Request: ...

    def ask_capabilities(self) -> Request:
        """One CALL with named keys."""
        ...

    def verdict(self, answer: bytes) -> Verdict:
        """Of a set or clear; `answer` is the whole frame (CALLRESULT or CALLERROR). Raises nothing: unreadable = status ""."""
        ...

    def composite(self, evse: int, answer: bytes) -> CompositeSeen: ...

    def capabilities(self, answer: bytes) -> Capabilities: ...

    def observe(self, exchange: Exchange, payload: Mapping[str, Any], answer: Mapping[str, Any] | None) -> tuple[Observation, ...]:
        """An answered exchange of one of `actions`, payloads decoded; `answer` is None when it was a CALLERROR."""
        ...


Wanted = tuple[tuple[tuple[str, ...], SettingTaken], ...]
"""What a CALL would change: each with its place, by which the answer names it."""


class Changes(Protocol):
    """What the CPMS may change in a station so that it does not come back to us as it is."""

    actions: frozenset[str]
    """The CPMS's; read at their answer."""
    entrusting: frozenset[str]
    """Those of them that may give the station a password."""

    def wanted(self, action: str, call: Mapping[str, Any]) -> Wanted:
        """What such a CALL would change; its payload decoded."""
        ...

    def accepted(self, action: str, wanted: Wanted, answer: Mapping[str, Any]) -> Wanted:
        """What of it the station accepted; the answer's payload decoded."""
        ...


class Dialect(Protocol):
    """One OCPP version."""

    name: str
    """The WebSocket subprotocol: ocpp1.6, ocpp2.0.1, ocpp2.1."""
    interest: Interest
    """What full capture (shadow, smart-charging) wants to see."""
    identification: Interest
    """What driver-identification mode wants to see, and nothing else."""
    charging: Charging
    changes: Changes

    def observe(self, exchange: Exchange, now: Instant) -> tuple[Observation, ...]:
        """What an exchange tells, in full capture. May raise on rubbish: the tap catches and counts."""
        ...

    def identify(self, exchange: Exchange, now: Instant) -> tuple[Observation, ...]:
        """Only TransactionSeen, read from StartTransaction and TransactionEvent CALLs, only the fields identification needs."""
        ...
