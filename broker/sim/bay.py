"""One socket of a simulated station: what stands there, what runs, what it may take; and how a station is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from broker.sim import cars
from broker.sim.cars import Car, Charge, Socket
from broker.sim.composite import Allowed
from broker.sim.meter import Meter, Sample
from broker.sim.wire import Log
from broker.sim.words import Session, State

EMPTY = Charge(0.0)
NOTHING_YET = Allowed(0.0, None)


@dataclass(slots=True)
class Bay:
    """The socket with its meter, its car and its session."""

    socket: Socket
    meter: Meter
    car: Car | None = None
    charge: Charge = EMPTY
    session: Session | None = None
    limit: Allowed = NOTHING_YET
    metered_at: float = 0.0

    @property
    def watts(self) -> float:
        return cars.watts(self.car, self.socket, self.charge) if self.car else 0.0

    def sample(self) -> Sample:
        phases = cars.phases_used(self.car, self.socket) if self.car else self.socket.phases
        offer = cars.offered(self.socket, self.limit.amps)
        volts, soc = self.socket.volts, self.charge.soc_percent
        return Sample(self.meter.register_wh, self.watts, self.charge.amps, phases, volts, soc, offer, self.socket.dc)

    def charging_state(self) -> State:
        """Who holds the current back, if anybody."""
        if cars.offered(self.socket, self.limit.amps) == 0:
            return "SuspendedEVSE"
        full = self.car is not None and cars.wanted(self.car, self.charge.soc_percent) == 0
        return "SuspendedEV" if full else "Charging"


@dataclass(slots=True)
class Settings:
    """How a station is run. `fast`: how much faster batteries fill; `skew_s`: what its clock is ahead of the world's."""

    fast: float = 1.0
    skew_s: float = 0.0
    registers_wh: float = 1_234_000.0
    log: Log = field(default_factory=Log)
    new_id: Callable[[], str] = lambda: uuid4().hex
    wall: Callable[[], float] = time.time
    tls: Any = None
    """Whom it trusts, where it dials wss://; the system's roots by default."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of its handshake."""
