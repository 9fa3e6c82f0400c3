"""The latest value of each of a station's assets, and when to say it again.

The engine wants one measurement per asset at least every `every_s` seconds while it changes, and every five minutes while nothing
does. It never gets a value that nobody vouches for: after 15 minutes without a word of the meter, and no status that says
"idle", an asset falls silent. Values of the past (a station's offline queue) are passed on with their own times and change
nothing of the present.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broker.model import Instant, Reading

KEEP_S: Final = 300.0  # the engine's documents: at least every 5 minutes
STALE_S: Final = 900.0
PAST_S: Final = 300.0  # a reading older than this is of the past
SKEW_S: Final = 60.0  # a reading further in the future than this has a wrong clock
LATE_MOST: Final = 1000  # values of the past kept for the next `due`; beyond it the oldest are dropped

Three = tuple[float | None, float | None, float | None]
NONE: Final[Three] = (None, None, None)


class Measurement(NamedTuple):
    """What the engine is told of one EVSE at one moment (seconds since 1970 UTC)."""

    evse: int
    at: float
    energy_wh: float
    power_w: float
    soc_percent: float | None = None
    currents_a: Three = NONE
    voltages_v: Three = NONE


@dataclass(slots=True, eq=False)
class _Asset:
    """The present of one EVSE."""

    energy_wh: float | None = None
    energy_at: float = 0.0
    power_w: float | None = None
    power_said: bool = False
    """The station gives power itself; then it is never derived."""
    soc_percent: float | None = None
    currents_a: Three = NONE
    voltages_v: Three = NONE
    at: float = 0.0
    heard: float | None = None
    """Monotonic time of the last reading."""
    idle: bool = False
    idle_at: float = 0.0
    changed: bool = False
    urgent: bool = False
    said: float | None = None
    """Monotonic time of the last measurement."""
    said_at: float = 0.0
    late: list[Measurement] = field(default_factory=list)


class Feed:
    """One station's. EVSE 0, the main meter, is nobody's asset and is passed over, as is any EVSE that was not named."""

    def __init__(self, evses: Iterable[int], every_s: float = 60.0, hold_s: float = KEEP_S) -> None:
        self._every_s = every_s
        self._hold_s = hold_s
        self._assets = {number: _Asset() for number in evses if number > 0}

    def metered(self, evse: int, reading: Reading, now: Instant) -> None:
        """The meter of an EVSE said this."""
        asset = self._assets.get(evse)
        if asset is None:
            return
        at = now.wall if reading.at is None or reading.at > now.wall + SKEW_S else reading.at
        if at < now.wall - PAST_S or at < asset.at:
            self._of_the_past(evse, asset, reading, at)
            return
        if reading.energy_wh is None and reading.power_w is None and reading.soc_percent is None:
            return
        before = (asset.energy_wh, asset.power_w, asset.soc_percent)
        self._merge(asset, reading, at)
        asset.at, asset.heard, asset.idle = at, now.mono, False
        asset.changed = asset.changed or before != (asset.energy_wh, asset.power_w, asset.soc_percent)

    def idle(self, evse: int, now: Instant) -> None:
        """A status says that no power flows: 0 W, the register held. Many stations send no final zero."""
        asset = self._assets.get(evse)
        if asset is None:
            return
        asset.changed = asset.changed or asset.power_w != 0.0
        asset.power_w, asset.currents_a, asset.idle = 0.0, NONE, True
        asset.idle_at = now.wall  # the meter's own time stays: its last word (a stop's) often comes after the status

    def urgent(self, evse: int) -> None:
        """A transaction began or ended: say the latest at the next `due`."""
        asset = self._assets.get(evse)
        if asset is not None:
            asset.urgent = True

    def due(self, now: Instant) -> tuple[Measurement, ...]:
        """What is to be said now; it counts as said."""
        told: list[Measurement] = []
        for evse, asset in self._assets.items():
            told += asset.late
            asset.late.clear()
            when = self._due_at(asset)
            if when is not None and when <= now.mono and asset.energy_wh is not None and asset.power_w is not None:
                told.append(self._say(evse, asset, now))
        return tuple(told)

    @property
    def wake_at(self) -> float | None:
        """Monotonic seconds of the next measurement, if nothing changes before."""
        return min((when for asset in self._assets.values() if (when := self._due_at(asset)) is not None), default=None)

    def latest(self) -> dict[int, tuple[float | None, float | None]]:
        """EVSE → (Wh, W), as last known."""
        return {evse: (asset.energy_wh, asset.power_w) for evse, asset in self._assets.items()}

    # ------------------------------------------------------------

    def _merge(self, asset: _Asset, reading: Reading, at: float) -> None:
        if reading.power_w is not None:
            asset.power_w, asset.power_said = reading.power_w, True
            asset.currents_a, asset.voltages_v = reading.currents_a, reading.voltages_v
        elif not asset.power_said and reading.energy_wh is not None and asset.energy_wh is not None and at > asset.energy_at:
            gained = reading.energy_wh - asset.energy_wh
            if gained >= 0:  # a register that fell was reset: nothing can be said of the power in between
                asset.power_w = gained * 3600.0 / (at - asset.energy_at)
        if reading.energy_wh is not None:
            asset.energy_wh, asset.energy_at = reading.energy_wh, at
            if asset.power_w is None and reading.context in ("Transaction.Begin", "Transaction.End"):
                asset.power_w = 0.0
        if reading.soc_percent is not None:
            asset.soc_percent = reading.soc_percent

    def _of_the_past(self, evse: int, asset: _Asset, reading: Reading, at: float) -> None:
        if reading.energy_wh is None or reading.power_w is None:
            return
        told = Measurement(evse, at, reading.energy_wh, reading.power_w, reading.soc_percent, reading.currents_a, reading.voltages_v)
        asset.late.append(told)
        del asset.late[:-LATE_MOST]

    def _due_at(self, asset: _Asset) -> float | None:
        if asset.energy_wh is None or asset.power_w is None:
            return None
        if asset.said is None or asset.urgent or asset.late:
            return 0.0
        if asset.changed:
            return asset.said + self._every_s
        again = asset.said + self._hold_s
        fresh = asset.idle or (asset.heard is not None and again <= asset.heard + STALE_S)
        return again if fresh else None

    def _say(self, evse: int, asset: _Asset, now: Instant) -> Measurement:
        news = asset.changed or asset.urgent or asset.said is None
        at = max(asset.at, asset.idle_at) if news else now.wall
        at = max(at, asset.said_at + 0.001)  # never two values for one moment, never backwards
        asset.changed = asset.urgent = False
        asset.said, asset.said_at = now.mono, at
        assert asset.energy_wh is not None
        assert asset.power_w is not None
        return Measurement(evse, at, asset.energy_wh, asset.power_w, asset.soc_percent, asset.currents_a, asset.voltages_v)
