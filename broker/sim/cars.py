"""Cars and their sockets: what is offered and time in; current, power and state of charge out. Pure physics, no clock.

A car takes the least of what it is offered, what it can and what its battery still wants; it follows a new offer on a ramp;
below 6 A an AC offer is no offer (IEC 61851-1 cannot signal it) and the car pauses. Batteries may run fast, so that a demo
shows a full charge in minutes: then the state of charge moves faster than the meter says; the meter is always true.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

VOLTS: Final = 230.0
DC_VOLTS: Final = 400.0
FLOOR_A: Final = 6.0  # the least a control pilot can offer
UP_A_S: Final = 3.0  # most cars take 5 to 10 s from 6 to 32 A
UP_DC_A_S: Final = 20.0  # CCS: a few seconds to 100 A
DOWN_DC_A_S: Final = 60.0
DOWN_A_S: Final = 12.0  # IEC 61851-1 lets a car take 5 s to come down
WAKE_S: Final = 3.0  # from an offer to the first ampere: contactor and charger's self-test


@dataclass(frozen=True, slots=True)
class Socket:
    """An EVSE's hardware. `max_amps` is per phase; a DC socket counts as one phase of `DC_VOLTS`."""

    evse: int
    phases: int = 3
    max_amps: float = 32.0
    dc: bool = False

    @property
    def volts(self) -> float:
        return DC_VOLTS if self.dc else VOLTS


@dataclass(frozen=True, slots=True)
class Car:
    """A car's charger and battery. On AC `max_amps` is per phase and `phases` what its charger uses."""

    capacity_wh: float = 60_000.0
    max_amps: float = 32.0
    phases: int = 3
    taper_percent: float = 80.0
    """From here to full the battery takes linearly less, down to a tenth."""


class Charge(NamedTuple):
    """A car at a socket at one moment."""

    soc_percent: float
    amps: float = 0.0
    """Per phase in use."""
    waited_s: float = 0.0
    """How long there has been an offer to a car that draws nothing yet."""


def wanted(car: Car, soc_percent: float) -> float:
    """A per phase that the battery takes, whatever is offered."""
    if soc_percent >= 100.0:
        return 0.0
    if soc_percent <= car.taper_percent:
        return car.max_amps
    left = (100.0 - soc_percent) / (100.0 - car.taper_percent)
    return car.max_amps * (0.1 + 0.9 * left)


def phases_used(car: Car, socket: Socket) -> int:
    return 1 if socket.dc else min(car.phases, socket.phases)


def watts(car: Car, socket: Socket, charge: Charge) -> float:
    return charge.amps * socket.volts * phases_used(car, socket)


def offered(socket: Socket, allowed_amps: float) -> float:
    """What the socket tells the car: nothing below the floor, never more than its hardware can."""
    amps = min(allowed_amps, socket.max_amps)
    return 0.0 if amps <= 0 or (not socket.dc and amps < FLOOR_A) else amps


def step(car: Car, socket: Socket, charge: Charge, allowed_amps: float, dt: float, fast: float = 1.0) -> Charge:
    """`dt` seconds later. The current of the result flowed during the whole step; `fast` is how much faster batteries fill."""
    offer = offered(socket, allowed_amps)
    if charge.amps == 0 and offer > 0 and charge.waited_s < WAKE_S:
        return charge._replace(waited_s=charge.waited_s + dt)
    target = min(offer, wanted(car, charge.soc_percent))
    up, down = (UP_DC_A_S, DOWN_DC_A_S) if socket.dc else (UP_A_S, DOWN_A_S)
    low, high = charge.amps - down * dt, charge.amps + up * dt
    amps = max(min(target, high), low) if offer > 0 else max(0.0, low)
    drawn = charge._replace(amps=amps)
    gained = 100.0 * fast * watts(car, socket, drawn) * dt / 3600.0 / car.capacity_wh
    return Charge(min(100.0, charge.soc_percent + gained), amps, charge.waited_s if offer > 0 else 0.0)
