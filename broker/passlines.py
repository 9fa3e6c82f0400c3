"""Which passwords a station may come with: those that its CPMS gave it since the list was written, newest first, and the list's.

A station takes a new password at once, or only after a reboot (1.6 white paper A01, 2.x A01): so until it once came with it, the ones
before count too; what was before the one it comes with counts no more. A password that was sent counts from then on, *pending*: if its
link dies before it answered, it may have taken it. If it says no, it never was one. Who changes the station list has the last word:
what was learned under another `password_hash` counts no more. Nothing here is a password: lines are Argon2id's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from broker.model.records import Fact
from broker.passwords import fault
from broker.settings import StationSettings, TenantSettings

TOPIC: Final = "password"
NAME: Final = "lines"
MOST: Final = 4  # a CPMS that gives several while the station sleeps: the oldest is hardly it; each costs a hash at a wrong password


def judged(tenant: TenantSettings, station: StationSettings) -> bool:
    """Whether we look at this station's password ourselves."""
    return tenant.credentials == "check" or (tenant.credentials == "replace" and bool(station.password_hash))


def followed(tenant: TenantSettings, station: StationSettings) -> bool:
    """Whether what the CPMS gives this station is to count here: we judge it, and know what it has now."""
    return judged(tenant, station) and bool(station.password_hash)


class Kept(NamedTuple):
    """What is known of one station."""

    lines: tuple[str, ...]
    """Those that count, the newest first; the last is the one that it last came with."""
    pending: frozenset[str] = frozenset()
    """Those of them that were sent, and not answered."""


def kept(facts: list[Fact], listed: str) -> Kept:
    """What counts; `listed`: the line of the station list."""
    value: Any = next((fact.value for fact in facts if (fact.topic, fact.name) == (TOPIC, NAME)), None)
    if not isinstance(value, dict) or value.get("listed") != listed or not isinstance(value.get("lines"), list):
        return Kept((listed,))
    found = tuple(line for line in value["lines"] if isinstance(line, str) and not fault(line))
    lines, unanswered = found[:MOST] or (listed,), value.get("pending")
    return Kept(lines, frozenset(line for line in lines if isinstance(unanswered, list) and line in unanswered))


def lines_of(facts: list[Fact], listed: str) -> tuple[str, ...]:
    """The lines that count, the newest first."""
    return kept(facts, listed).lines


def given(known: Kept, new: str, listed: str) -> Fact:
    """The CPMS gave another one, and the station took it."""
    return _fact([new, *known.lines], known.pending, listed)


def sent(known: Kept, new: Sequence[str], listed: str) -> Fact:
    """The CPMS gives these, the newest last; the station has not answered."""
    return _fact([*reversed(new), *known.lines], known.pending | frozenset(new), listed)


def answered(known: Kept, taken: Sequence[str], refused: Sequence[str], listed: str) -> Fact:
    """The station said which of those sent it took. One that was not stored when it was sent is now."""
    lines = [line for line in known.lines if line not in refused] or [listed]
    lost = [line for line in reversed(taken) if line not in lines]
    return _fact([*lost, *lines], known.pending - frozenset((*taken, *refused)), listed)


def came(known: Kept, line: str, listed: str) -> Fact | None:
    """The station came with the password of `line`: what was before it counts no more. None: nothing changes."""
    if line not in known.lines:
        return None
    lines = known.lines[: known.lines.index(line) + 1]
    changed = len(lines) < len(known.lines) or line in known.pending
    return _fact([*lines], known.pending - {line}, listed) if changed else None


def _fact(lines: list[str], pending: frozenset[str], listed: str) -> Fact:
    while len(lines) > MOST:
        del lines[_least(lines, pending)]
    value: dict[str, Any] = {"listed": listed, "lines": lines}
    unanswered = [line for line in lines if line in pending]
    return Fact(TOPIC, NAME, value | ({"pending": unanswered} if unanswered else {}))


def _least(lines: list[str], pending: frozenset[str]) -> int:
    """Which of too many goes: the oldest that was not answered, or else the oldest; never the newest, nor the one it last came with."""
    between = range(1, len(lines) - 1)
    return max((n for n in between if lines[n] in pending), default=between[-1])
