"""Orders: what those who learn from a link want the link to do next. (What the relay wants is in `broker.effects`.)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from broker.model.records import Fact, Outcome, Record


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


@dataclass(frozen=True, slots=True)
class NewPassword:
    """The station accepted another password from its CPMS, with which it will come from now on, or after its next reboot."""

    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PasswordsSent:
    """The CPMS gives the station these: put their hashes on disk, whatever it answers; then `Relay.committed(token)`."""

    token: int
    passwords: tuple[bytes, ...] = field(repr=False)


class PasswordsAnswered(NamedTuple):
    """The station answered to those that were sent with this token: which of them it took, in their order."""

    token: int
    taken: tuple[bool, ...]


Passwords = NewPassword | PasswordsSent | PasswordsAnswered
