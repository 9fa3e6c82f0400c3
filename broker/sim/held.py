"""The charging profiles a station holds: SetChargingProfile and ClearChargingProfile payloads in; kept, or why not, out.

Each version's own rules of what is refused and what replaces what (OCPP 1.6 3.13.2 and 5.16.3; OCPP 2.x K01.FR.03 to .56).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from broker.ocpp import times
from broker.sim.composite import Limit, Profile, Purpose

PURPOSES: Final[Mapping[str, Purpose]] = {
    "ChargePointMaxProfile": "max",
    "ChargingStationMaxProfile": "max",
    "TxDefaultProfile": "default",
    "TxProfile": "tx",
}
KINDS: Final = ("Absolute", "Relative", "Recurring")
FOREVER: Final = float("inf")


def read(evse: int, said: Mapping[str, Any], received: float) -> Profile:
    """A 1.6 csChargingProfiles or a 2.x chargingProfile. ValueError(reasonCode of 2.x) for what no station can follow."""
    purpose, kind = PURPOSES.get(said["chargingProfilePurpose"]), said["chargingProfileKind"]
    if purpose is None:
        raise ValueError("UnsupportedPurpose")
    if kind not in KINDS:
        raise ValueError("UnsupportedKind")
    schedules = said["chargingSchedule"]
    if isinstance(schedules, list) and len(schedules) != 1:
        raise ValueError("InvalidSchedule")  # several are for ISO 15118 only
    schedule = schedules[0] if isinstance(schedules, list) else schedules
    periods = tuple(Limit(p["startPeriod"], p["limit"], p.get("numberPhases")) for p in schedule["chargingSchedulePeriod"] if in_amps(p))
    starts = [period.start_s for period in periods]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        raise ValueError("InvalidSchedule")
    number = said.get("transactionId")
    return Profile(
        id=said.get("id", said.get("chargingProfileId")),
        evse=evse,
        purpose=purpose,
        stack_level=said["stackLevel"],
        kind=kind,
        unit=schedule["chargingRateUnit"],
        periods=periods,
        start=times.parse(schedule.get("startSchedule")),
        duration_s=schedule.get("duration"),
        recurrency=said.get("recurrencyKind", ""),
        transaction=None if number is None else str(number),
        valid_from=times.parse(said.get("validFrom")),
        valid_to=times.parse(said.get("validTo")),
        received=received,
    )


def in_amps(period: Mapping[str, Any]) -> bool:
    """2.1's other operation modes are beyond this station."""
    if period.get("operationMode", "ChargingOnly") != "ChargingOnly" or "limit" not in period:
        raise ValueError("InvalidOperationMode")
    return True


@dataclass(slots=True)
class Held:
    """What one station holds, and what it can."""

    version: str
    evses: tuple[int, ...]
    units: frozenset[str] = frozenset({"A", "W"})
    max_level: int = 8
    max_periods: int = 24
    dc: bool = False
    profiles: list[Profile] = field(default_factory=list)

    def set(self, new: Profile, running: Mapping[int, str]) -> str:
        """Nothing when kept, else why not, as a 2.x reasonCode. `running`: EVSE → transactionId as OCPP calls it."""
        why = self.refusal(new, running)
        if why:
            return why
        self.profiles = [old for old in self.profiles if not self.replaces(new, old)] + [new]
        return ""

    def refusal(self, new: Profile, running: Mapping[int, str]) -> str:
        if new.unit not in self.units:
            return "UnsupportedRateUnit"
        if not 0 <= new.stack_level <= self.max_level:
            return "InvalidStackLevel"
        if len(new.periods) > self.max_periods:
            return "TooManyElements"
        if new.evse not in (0, *self.evses) or (new.purpose == "max" and new.evse) or (new.purpose == "tx" and not new.evse):
            return "InvalidValue"
        if self.dc and any(period.phases is not None for period in new.periods):
            return "NoPhaseForDC"
        if new.kind == "Recurring" and (not new.recurrency or new.start is None):
            return "MissingParam"
        return self.transaction_refusal(new, running) or ("" if self.version == "ocpp1.6" else self.refusal_2(new))

    def transaction_refusal(self, new: Profile, running: Mapping[int, str]) -> str:
        if new.purpose != "tx":
            return ""
        if new.transaction is None and self.version != "ocpp1.6":
            return "MissingParam"
        known = running.get(new.evse)
        return "" if known is not None and new.transaction in (None, known) else "TxNotFound"

    def refusal_2(self, new: Profile) -> str:
        if new.kind == "Absolute" and new.start is None:
            return "MissingParam"
        if new.kind == "Relative" and (new.start is not None or new.purpose == "max"):
            return "InvalidProfile"
        return "DuplicateProfile" if any(self.collides(new, old) for old in self.profiles) else ""

    def collides(self, new: Profile, old: Profile) -> bool:
        """Another id at the same purpose and level, for the same or a covering EVSE, at an overlapping time (K01.FR.06, .39, .53)."""
        apart = (new.valid_from or 0) >= (old.valid_to or FOREVER) or (old.valid_from or 0) >= (new.valid_to or FOREVER)
        same = (new.purpose, new.stack_level, new.transaction) == (old.purpose, old.stack_level, old.transaction)
        return same and new.id != old.id and (new.evse == old.evse or 0 in (new.evse, old.evse)) and not apart

    def replaces(self, new: Profile, old: Profile) -> bool:
        """The same id; in 1.6 also the same purpose and level on the same connector (3.13.2)."""
        if new.id == old.id:
            return True
        return self.version == "ocpp1.6" and (new.purpose, new.stack_level, new.evse) == (old.purpose, old.stack_level, old.evse)

    def clear(self, id: int | None = None, evse: int | None = None, purpose: str | None = None, level: int | None = None) -> bool:
        """Whether anything went. An id stands alone; the rest is a logical AND; nothing at all clears all."""

        def matches(held: Profile) -> bool:
            if id is not None:
                return held.id == id
            kind = cast("str | None", PURPOSES.get(purpose, "?")) if purpose else held.purpose
            return held.purpose == kind and evse in (None, held.evse) and level in (None, held.stack_level)

        left = [held for held in self.profiles if not matches(held)]
        gone = len(left) < len(self.profiles)
        self.profiles = left
        return gone

    def ended(self, evse: int) -> None:
        """A TxProfile dies with its transaction."""
        self.profiles = [held for held in self.profiles if not (held.purpose == "tx" and held.evse == evse)]
