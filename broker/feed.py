"""The latest value of each of a station's assets, and when to say it again.

The engine wants one measurement per asset at least every `every_s` seconds while it changes, and every five minutes while nothing
does. It never gets a value that nobody vouches for: after 15 minutes without a word of the meter, and no status that says
"idle", an asset falls silent. Values of the past (a station's offline queue) are passed on with their own times and change
nothing of the present.

What a reading leaves out is filled in by `meter`. Without a register and a power there is no measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broker.meter import NONE, Line, Three, plausible
from broker.model.basics import Instant
from broker.model.observations import Reading

KEEP_S: Final = 300.0  # the engine's documents: at least every 5 minutes
STALE_S: Final = 900.0
PAST_S: Final = 300.0  # a reading older than this is of the past
ALIGNED_S: Final = STALE_S + 60.0  # Sample.Clock is sent at the end of its interval and bears its begin (OCPP 1.6 9.1.5)
SKEW_S: Final = 60.0  # a clock that is further off is not believed, in the present
CLOCK_SET: Final = 1_577_836_800.0  # 2020: who says less has not been told the time yet
LATE_MOST: Final = 1000  # values of the past kept for the next `due`; beyond it the oldest are dropped

NOTHING_HELD: Final[Mapping[int, float]] = {}


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
    """The present of one EVSE, and what is to be said of its past."""

    live: Line = field(default_factory=Line)
    past: Line | None = None
    late: list[Measurement] = field(default_factory=list)
    soc: tuple[float, float] | None = None
    """(time, %); a car's, so not kept for the next one."""
    heard: float | None = None
    """Monotonic time of the last reading."""
    idle: bool = False
    changed: bool = False
    urgent: bool = False
    said: float | None = None
    """Monotonic time of the last measurement."""
    said_at: float = 0.0

    @property
    def values(self) -> tuple[object, ...]:
        return self.live.energy_wh, self.live.power_w, self.soc[1] if self.soc else None


class Feed:
    """One station's. EVSE 0, the main meter, is nobody's asset and is passed over, as is any EVSE that was not named.

    `registers`: EVSE → Wh as an earlier link left them. A station that comes back idle may not say its register for hours.
    """

    __slots__ = ("_assets", "_every_s", "_hold_s")

    def __init__(
        self, evses: Iterable[int], every_s: float = 60.0, hold_s: float = KEEP_S, registers: Mapping[int, float] = NOTHING_HELD
    ) -> None:
        self._every_s = every_s
        self._hold_s = hold_s
        self._assets = {number: _Asset(Line(energy_wh=registers.get(number))) for number in evses if number > 0}

    def metered(self, evse: int, reading: Reading, now: Instant) -> None:
        """The meter of an EVSE said this."""
        asset = self._assets.get(evse)
        metered = reading.energy_wh is not None or reading.power_w is not None
        if asset is None or not (metered or reading.soc_percent is not None) or not plausible(reading):
            return
        at = _moment(reading, now)
        if at < asset.live.at or at < now.wall - PAST_S:
            self._of_the_past(evse, asset, reading, at)
            return
        before = asset.values
        asset.live.read(reading, at)
        if reading.soc_percent is not None:
            asset.soc = at, reading.soc_percent
        elif reading.context == "Transaction.Begin":
            asset.soc = None
        if metered:  # a car's charge vouches for no power
            asset.heard, asset.idle = now.mono, asset.idle and asset.live.power_w == 0.0
        vouched = asset.idle or (asset.heard is not None and now.mono <= asset.heard + STALE_S)
        asset.changed = asset.changed or (vouched and before != asset.values)

    def idle(self, evse: int, now: Instant) -> None:
        """A status says that no power flows: 0 W, the register held. Many stations send no final zero."""
        asset = self._assets.get(evse)
        if asset is None:
            return
        line = asset.live
        asset.changed = asset.changed or line.power_w != 0.0
        line.stands(now.wall)
        asset.idle = True
        first, second, third = (None if amps is None else 0.0 for amps in line.currents_a)
        line.currents_a = first, second, third

    def busy(self, evse: int, now: Instant) -> None:
        """A status says that power flows: 0 W is true no longer; how much it is, only the meter knows."""
        asset = self._assets.get(evse)
        if asset is not None:
            asset.idle = False
            asset.live.flows(now.wall)

    def urgent(self, evse: int) -> None:
        """A transaction began or ended: say the latest at the next `due`."""
        asset = self._assets.get(evse)
        if asset is not None:
            asset.urgent = True

    def link_closed(self) -> None:
        """Nobody vouches for anything from now on: the next `due` says what is new, and then nothing more."""
        for asset in self._assets.values():
            asset.urgent, asset.idle, asset.heard = asset.urgent or asset.changed, False, None

    def due(self, now: Instant) -> tuple[Measurement, ...]:
        """What is to be said now; it counts as said."""
        told: list[Measurement] = []
        for evse, asset in self._assets.items():
            if asset.late:
                told += asset.late
                asset.late.clear()
            if not asset.changed and not asset.idle and (asset.heard is None or now.mono - asset.heard > STALE_S):
                asset.urgent = False  # nothing that could be vouched for
            when = self._due_at(asset)
            if when is not None and when <= now.mono:
                told.append(self._say(evse, asset, now))
        return tuple(told)

    @property
    def wake_at(self) -> float | None:
        """Monotonic seconds of the next measurement, if nothing changes before; in the past = at once."""
        soonest: float | None = None
        for asset in self._assets.values():
            at = 0.0 if asset.late else self._due_at(asset)
            if at is not None and (soonest is None or at < soonest):
                soonest = at
        return soonest

    def latest(self) -> dict[int, tuple[float | None, float | None]]:
        """EVSE → (Wh, W), as last known."""
        return {evse: (asset.live.energy_wh, asset.live.power_w) for evse, asset in self._assets.items()}

    # ------------------------------------------------------------

    def _of_the_past(self, evse: int, asset: _Asset, reading: Reading, at: float) -> None:
        line = asset.past
        if line is None or at < line.at:  # a second queue, or no order at all: nothing can be derived from what came before
            line = asset.past = Line()
        line.read(reading, at)
        if reading.energy_wh is None or line.energy_wh is None or line.power_w is None:
            return
        asset.late.append(Measurement(evse, at, line.energy_wh, line.power_w, reading.soc_percent, reading.currents_a, reading.voltages_v))
        del asset.late[:-LATE_MOST]

    def _due_at(self, asset: _Asset) -> float | None:
        if asset.live.energy_wh is None or asset.live.power_w is None:
            return None
        if asset.urgent or (asset.said is None and asset.changed):
            return 0.0
        if asset.said is None or asset.changed:
            return None if asset.said is None else asset.said + self._every_s
        again = asset.said + self._hold_s
        fresh = asset.idle or (asset.heard is not None and again <= asset.heard + STALE_S)
        return again if fresh else None

    def _say(self, evse: int, asset: _Asset, now: Instant) -> Measurement:
        line = asset.live
        at = max(line.at, line.power_at) if asset.changed else now.wall  # a repeat says what is true now
        at = round(max(at, asset.said_at + 0.001), 3)  # never two values for one millisecond, never backwards
        asset.changed = asset.urgent = False
        asset.said, asset.said_at = now.mono, at
        soc = asset.soc[1] if asset.soc and asset.soc[0] >= at - STALE_S else None
        assert line.energy_wh is not None
        assert line.power_w is not None
        return Measurement(evse, at, line.energy_wh, line.power_w, soc, line.currents_a, line.voltages_v)


def _moment(reading: Reading, now: Instant) -> float:
    """When it was so: the station's own time within a minute of ours, ours if its clock is merely off, its own again in the past."""
    at = reading.at
    if at is None or at < CLOCK_SET or at > now.wall + SKEW_S:
        return now.wall
    late = now.wall - at
    if SKEW_S < late <= (ALIGNED_S if reading.context == "Sample.Clock" else PAST_S):
        return now.wall
    return at
