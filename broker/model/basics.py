"""Whose station, at what moment, in which mode."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import msgspec

Mode = Literal["relay", "driver-identification", "shadow", "smart-charging"]

EMPTY: Final[frozenset[Any]] = frozenset()
"""For whoever holds a set that nearly always is empty: one of its own is 216 bytes, for each link."""


class Instant(msgspec.Struct, frozen=True, gc=False):
    """One moment on both clocks. A struct, as whatever is made for each frame: half a named tuple's time to make and to read."""

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
