"""What a station of a known make does otherwise than the standard says, and what follows from it for our limits.

The table is `broker.makes`; an operator's own lines (`quirks_file`) go before it. A line fits by the vendor, model and firmware of
BootNotification. Quirks only narrow what we try (fewer purposes, lower stack levels, fewer periods, fewer writes): a wrong line can
cost control of a station, never its safety. The relay knows none of this.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from broker.model.observations import Capabilities
from broker.settings import ChargingSettings, Quirk

BUDGET_S: Final = 36 * 3600.0  # a lease of 36 h / B, renewed when a third is left, is B writes a day
LONGEST_LEASE_S: Final = 7200.0
DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Quirks:
    """All that fits one station, the first line that says something winning; with nothing, the standard holds."""

    lines: tuple[Quirk, ...] = ()

    def _first(self, name: str) -> object:
        return next((said for line in self.lines if (said := getattr(line, name)) is not None), None)

    def charging(self, asked: ChargingSettings) -> ChargingSettings:
        """The operator's rules for our limits, narrowed to what the station can bear."""
        purposes, budget = self._first("purposes"), self._first("writes_per_day")
        if isinstance(purposes, tuple):
            asked = replace(asked, purposes=tuple(purpose for purpose in asked.purposes if purpose in purposes))
        if isinstance(budget, int):
            lease_s = min(max(asked.lease_s, BUDGET_S / budget), max(asked.lease_s, LONGEST_LEASE_S))
            asked = replace(asked, lease_s=lease_s, write_interval_s=max(asked.write_interval_s, DAY_S / budget))
        return asked

    def capabilities(self, said: Capabilities) -> Capabilities:
        """What the station said of itself, corrected."""
        level, periods, unit = self._first("top_level"), self._first("max_periods"), self._first("unit")
        if isinstance(level, int):
            said = replace(said, max_stack_level=level if said.max_stack_level is None else min(level, said.max_stack_level))
        if isinstance(periods, int):
            said = replace(said, max_periods=periods if said.max_periods is None else min(periods, said.max_periods))
        if isinstance(unit, str):
            said = replace(said, units=frozenset({unit}))
        return said

    def explain(self) -> list[dict[str, str]]:
        """For an operator: which lines fit, and what they say."""
        return [{"name": line.name, "note": line.note} for line in self.lines]


NO_QUIRKS: Final = Quirks()


def quirks_of(table: Iterable[Quirk], vendor: str, model: str, firmware: str) -> Quirks:
    """The lines that fit a station, in the table's order. One that names no vendor fits nothing."""
    who, what, which = (word.casefold().strip() for word in (vendor, model, firmware))
    if not who:
        return NO_QUIRKS
    # Nearly all lines are of other vendors, and each station that connects asks this twice.
    mine = [line for line in table if fnmatchcase(who, line.vendor.casefold())]
    fit = [line for line in mine if fnmatchcase(what, line.model.casefold()) and fnmatchcase(which, line.firmware.casefold())]
    return Quirks(tuple(fit)) if fit else NO_QUIRKS
