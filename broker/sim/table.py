"""The demo's table: each socket's power, its limit and who sets it, as text; redrawn in place on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TextIO

from broker.sim import cars
from broker.sim.bay import Bay
from broker.sim.cpms import PROFILE_ID

HEAD = f"{'station':<10} {'OCPP':<6} {'socket':<11} {'mode':<8} {'state':<13} {'power':>9} {'limit':>9}  {'who limits':<10} {'battery':>7}"


MODES = {"smart-charging": "smart", "driver-identification": "drivers"}


class Row(NamedTuple):
    station: str
    version: str
    asset: str
    mode: str
    state: str
    watts: float
    limit_w: float | None
    who: str
    soc_percent: float | None


def limiter(bay: Bay) -> str:
    """Who keeps the power down: the engine or the CPMS by a profile, the socket's hardware, the car, or nobody."""
    if bay.session is None or bay.car is None:
        return ""
    offer = cars.offered(bay.socket, bay.limit.amps)
    if cars.wanted(bay.car, bay.charge.soc_percent) < offer:
        return "car"
    if bay.limit.by is None:
        return "hardware"
    return "CPMS" if bay.limit.by.id == PROFILE_ID else "engine"


def limit_w(bay: Bay) -> float | None:
    if bay.session is None or bay.car is None:
        return None
    return cars.offered(bay.socket, bay.limit.amps) * bay.socket.volts * cars.phases_used(bay.car, bay.socket)


def lines(rows: Sequence[Row], foot: str) -> list[str]:
    """The table as text."""
    body = [
        f"{row.station:<10} {row.version.removeprefix('ocpp'):<6} {row.asset:<11} {MODES.get(row.mode, row.mode):<8} {row.state:<13} "
        f"{row.watts / 1000:>6.1f} kW {kilowatts(row.limit_w):>9}  {row.who:<10} "
        f"{f'{row.soc_percent:.0f} %' if row.soc_percent is not None else '':>7}"
        for row in rows
    ]
    return [HEAD, "-" * len(HEAD), *body, foot]


def kilowatts(watts: float | None) -> str:
    return "" if watts is None else f"{watts / 1000:.1f} kW"


class Screen:
    """Where the table goes: redrawn in place on a terminal, else a snapshot now and then."""

    def __init__(self, out: TextIO, every_s: float = 10.0) -> None:
        self.live = out.isatty()
        self._out, self._every_s = out, every_s
        self._drawn = 0
        self._last: float | None = None

    def draw(self, text: Sequence[str], now: float) -> None:
        """Called every second; on a terminal it draws each time."""
        if not self.live and self._last is not None and now - self._last < self._every_s:
            return
        self._last = now
        if self.live:
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            self._out.write(up + "".join(f"\x1b[2K{line}\n" for line in text))
            self._drawn = len(text)
        else:
            self._out.write("\n".join(["", *text]) + "\n")
        self._out.flush()

    def say(self, line: str) -> None:
        """A line above the table; the table is drawn below it the next time."""
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0
        self._out.write(line + "\n")
        self._out.flush()
