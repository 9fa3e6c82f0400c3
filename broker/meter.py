"""What one meter said, reading after reading: the register and the power that follow from it.

What a reading leaves out is filled in with care. Power that the meter said up to a minute ago still holds; else it is what the
register gained since, over at least ten seconds; never 0 because it is unknown: 0 W by a status holds until the register gains or a
status says otherwise. Energy is the meter's register: a start's or a stop's own lower number counts a session, so the register is
held; one that the meter itself repeats is a new meter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.model.observations import Reading

HOLD_POWER_S: Final = 60.0
DERIVE_S: Final = 10.0  # registers count whole Wh: over less than this a difference says little
MOST: Final = 1e12  # of any unit; no charger's meter says more, and what follows from it could be no number

Three = tuple[float | None, float | None, float | None]
NONE: Final[Three] = (None, None, None)


@dataclass(slots=True, eq=False)
class Line:
    """One EVSE's meter, of the present or of the past."""

    at: float = 0.0
    energy_wh: float | None = None
    power_w: float | None = None
    power_at: float = 0.0
    currents_a: Three = NONE
    voltages_v: Three = NONE
    base: tuple[float, float] | None = None
    """(time, Wh) that the register's gain is counted from."""
    assumed: bool = False
    """Power is 0 by a status or a transaction's begin or end: the meter did not say so, and its register may say otherwise."""
    lower_wh: float | None = None
    """A register below the one that is held, said once."""

    def read(self, reading: Reading, at: float) -> None:
        """One more reading, not older than the last."""
        self.at = at
        energy_wh = self._register(reading)
        if energy_wh is not None:
            self.energy_wh = energy_wh
        if reading.power_w is not None:
            self.power_w, self.power_at, self.assumed = reading.power_w, at, False
            self.currents_a, self.voltages_v = reading.currents_a, reading.voltages_v
        elif energy_wh is not None:
            self._derive(reading, energy_wh, at)
        if energy_wh is not None and (self.base is None or at - self.base[0] >= DERIVE_S or energy_wh < self.base[1]):
            self.base = at, energy_wh

    def _register(self, reading: Reading) -> float | None:
        said, held = reading.energy_wh, self.energy_wh
        if said is None or held is None or said >= held:
            self.lower_wh = None if said is not None else self.lower_wh
            return said
        if reading.context in ("Transaction.Begin", "Transaction.End"):
            return None
        first, self.lower_wh = self.lower_wh, said
        return said if first is not None and said >= first else None

    def _derive(self, reading: Reading, energy_wh: float, at: float) -> None:
        boundary = reading.context in ("Transaction.Begin", "Transaction.End")
        if self.power_w is not None and (boundary if self.assumed else True) and at - self.power_at <= HOLD_POWER_S:
            return
        if self.base is not None and at - self.base[0] >= DERIVE_S and energy_wh >= self.base[1]:
            self.power_w = (energy_wh - self.base[1]) * 3600.0 / (at - self.base[0])
            self.assumed, self.currents_a = self.assumed and not self.power_w, NONE
        elif self.power_w is None and boundary:
            self.power_w, self.power_at, self.assumed = 0.0, at, True  # nothing flows yet, or any more
        elif self.assumed and self.base is not None and at > self.base[0] and energy_wh > self.base[1]:
            self.unknown()

    def stands(self, at: float) -> None:
        """A status says that nothing flows. A register read from now on may hold what flowed before: only the next tells more."""
        self.power_w, self.power_at, self.assumed, self.base = 0.0, at, True, None

    def flows(self, at: float) -> None:
        """A status says that power flows, from now on; how much, nobody knows yet."""
        if self.assumed:
            self.unknown()
            self.base = None if self.base is None else (max(self.base[0], at), self.base[1])

    def unknown(self) -> None:
        """Nobody knows what flows."""
        self.power_w, self.assumed, self.currents_a = None, False, NONE


def plausible(reading: Reading) -> bool:
    """Whether a meter can have said this."""
    for value in (reading.energy_wh, reading.power_w, reading.soc_percent, *reading.currents_a, *reading.voltages_v):
        if value is not None and not -MOST <= value <= MOST:
            return False
    return True
