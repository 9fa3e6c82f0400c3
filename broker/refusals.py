"""Does a CPMS refuse everybody? Handshakes that it refused in a row, over all of its stations, until it takes one.

One station with a wrong password is its own affair, however often it tries: a refusal that may be meant for the station (4xx) counts
only with those of others; one that speaks of the CPMS itself (5xx) counts alone.
"""

from __future__ import annotations

from typing import Final

MANY: Final = 10  # in a row
STATIONS: Final = 3  # different ones, before 4xx is thought to be the CPMS's or the configuration's fault


class Refusals:
    """One CPMS's."""

    def __init__(self) -> None:
        self._in_a_row = self._last = 0
        self._stations: set[str] = set()  # STATIONS of them at most

    def refused(self, station: str, status: int) -> None:
        """It answered this station with this status."""
        self._in_a_row, self._last = self._in_a_row + 1, status
        if len(self._stations) < STATIONS:
            self._stations.add(station)

    def accepted(self) -> None:
        """It took one: so it takes stations."""
        self._in_a_row = 0
        self._stations.clear()

    @property
    def said(self) -> str:
        """What an operator should know; "" if nothing."""
        if self._in_a_row < MANY or (self._last < 500 and len(self._stations) < STATIONS):
            return ""
        whose = "one station" if len(self._stations) == 1 else "several stations"
        return f"the CPMS refused the last {self._in_a_row} dials of {whose}, at last with {self._last}: it takes nobody"
