"""Shadow mode: the engine's schedules are decided about as if they were sent, the meter is held against them, and nothing is sent.

A station is asked nothing either, so of the CPMS's limits only what was seen going by is known; what would have been sent after
asking may be lower.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from broker.limits import NOMINAL_V
from broker.model.basics import Instant
from broker.model.observations import Metered, Observation, TransactionSeen
from broker.model.orders import Remember
from broker.model.records import Fact
from broker.model.schedules import Schedule
from broker.ocpp.dialect import Dialect
from broker.profiles.shape import Plan, plan
from broker.settings import ChargingSettings, StationSettings
from broker.shadowbook import ShadowBook
from broker.sockets import Socket
from broker.standing import Effect, Effects
from broker.steering import Steered

PERIODS = 1000  # as many as the engine likes: it is not the station's memory that is tried here


class Shadowed(Steered):
    """One station's."""

    __slots__ = ("_books",)

    def __init__(
        self, station: StationSettings, charging: ChargingSettings, dialect: Dialect, *, facts: Iterable[Fact], **more: Any
    ) -> None:
        known = tuple(facts)
        asks_nothing = replace(charging, baseline="seen") if charging.baseline == "ask" else charging
        super().__init__(station, asks_nothing, dialect, facts=known, **more)
        self._books = {evse.number: ShadowBook(evse.number, known) for evse in station.evses}

    def wish(self, schedule: Schedule, now: Instant) -> Effects:
        """The engine's newest schedule: what would be sent is noted."""
        before = {number: socket.schedule for number, socket in self._sockets.items()}
        effects: list[Effect] = [*super().wish(schedule, now)]
        for number, socket in self._sockets.items():
            if socket.evse.asset == schedule.asset and socket.schedule != before[number]:
                would = self._would(socket, now)
                changes, refused = (would.changes, "") if isinstance(would, Plan) else ((), would)
                effects += map(Remember, self._books[number].decided(now.wall, changes, refused))
        return tuple(effects)

    def observe(self, seen: Observation, now: Instant) -> Effects:
        """What the meter says is held against what would stand there."""
        evse = self._where.get(seen.transaction_id or "", seen.evse) if isinstance(seen, Metered | TransactionSeen) else None
        effects: list[Effect] = [*super().observe(seen, now)]
        if isinstance(seen, Metered | TransactionSeen):
            evse = seen.evse if seen.evse is not None else evse
            ended = isinstance(seen, TransactionSeen) and seen.phase == "ended"
            powers = [reading.power_w for reading in seen.readings if reading.power_w is not None]
            book = self._books.get(evse or 0)
            if book is not None and (powers or ended):
                watts = 0.0 if ended else powers[-1]
                effects += map(Remember, book.metered(now.wall, watts, self._most_now(self._sockets[evse or 0], now)))
        return tuple(effects)

    def _most_now(self, socket: Socket, now: Instant) -> float | None:
        """What our limit would be now, in W; None: there would be none."""
        schedule = socket.schedule
        if schedule is None or schedule.steps[0].at > now.wall or schedule.valid_until <= now.wall:
            return None
        would = self._would(socket, now)
        return would.steps[0].limit if isinstance(would, Plan) else None

    def explain(self) -> dict[str, Any]:
        """Besides what is said in every mode: where nothing is sent, what would be now, as far as can be known without asking."""
        said = super().explain()
        for number, socket in self._sockets.items() if self._shadow else ():
            if socket.schedule is not None:
                unit = self._unit()
                would = self._would(socket, self._now, unit)
                plain = {"limit": would.steps[0].limit, "unit": unit, "why": [*would.changes]} if isinstance(would, Plan) else None
                said[str(number)]["would"] = plain or {"refused": would}
        return said

    def _would(self, socket: Socket, now: Instant, unit: str = "W") -> Plan | str:
        """What would be sent; or why nothing would."""
        limit, schedule = self._limits.limit(socket.evse.number), socket.schedule
        least = self._charging.min_amps * (1.0 if self._station.current == "ac" else NOMINAL_V * socket.evse.phases)
        if schedule is None or schedule.valid_until <= now.wall:
            return "lapsed"
        if self._released is not None:
            return "released"
        if self._abilities.smart_charging is False:
            return "unmanaged"
        if not limit.known:
            return limit.why
        if limit.value is not None and 0 < limit.value < least:
            return "cpms-lower"
        return plan(
            schedule, socket.evse, self._station, self._charging, ceiling=limit.steps(self._clock.skew or 0.0), unit=unit, now=now.wall,
            lease_until=schedule.valid_until, max_periods=PERIODS,
        )  # fmt: skip
