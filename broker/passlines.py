"""Which passwords a station may come with: those that its CPMS gave it since the list was written, newest first, and the list's.

A station takes a new password at once, or only after a reboot (1.6 white paper A01, 2.x A01): so until it once came with the newest, the
ones before count too. Then the newest counts alone. Who changes the station list has the last word: what was learned under another
`password_hash` counts no more. Nothing here is a password: lines are Argon2id's.
"""

from __future__ import annotations

from typing import Any, Final

from broker.model.records import Fact
from broker.passwords import fault
from broker.settings import StationSettings, TenantSettings

TOPIC: Final = "password"
NAME: Final = "lines"
MOST: Final = 4  # a CPMS that gives several while the station sleeps: the oldest is hardly it; each costs a hash at a wrong password


def judged(tenant: TenantSettings, station: StationSettings) -> bool:
    """Whether we look at this station's password ourselves."""
    return tenant.credentials == "check" or (tenant.credentials == "replace" and bool(station.password_hash))


def lines_of(facts: list[Fact], listed: str) -> tuple[str, ...]:
    """The lines that count, the newest first; `listed`: the one of the station list."""
    value: Any = next((fact.value for fact in facts if (fact.topic, fact.name) == (TOPIC, NAME)), None)
    if not isinstance(value, dict) or value.get("listed") != listed or not isinstance(value.get("lines"), list):
        return (listed,)
    found = tuple(line for line in value["lines"] if isinstance(line, str) and not fault(line))
    return found[:MOST] or (listed,)


def given(lines: tuple[str, ...], new: str, listed: str) -> Fact:
    """The CPMS gave another one."""
    return Fact(TOPIC, NAME, {"listed": listed, "lines": [new, *lines][:MOST]})


def came(lines: tuple[str, ...], line: str, listed: str) -> Fact | None:
    """The station came with the password of `line`: if that is the newest, it counts alone. None: nothing changes."""
    return Fact(TOPIC, NAME, {"listed": listed, "lines": [line]}) if len(lines) > 1 and lines[0] == line else None
