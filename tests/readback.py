"""What a station tells a CPMS that reads its profiles back: ReportChargingProfiles (2.x K09) and GetCompositeSchedule's answer (all).

Profiles as the simulated station holds them in; OCPP payloads out, the same for the same profiles in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.ocpp import times
from broker.sim.cars import Socket
from broker.sim.composite import Profile, Running, schedule

PURPOSES = {"max": "ChargingStationMaxProfile", "default": "TxDefaultProfile", "tx": "TxProfile"}


def said(profile: Profile) -> dict[str, Any]:
    """As 2.x writes a profile."""
    periods = [{"startPeriod": one.start_s, "limit": one.limit} for one in profile.periods]
    plan: dict[str, Any] = {"id": 1, "chargingRateUnit": profile.unit, "chargingSchedulePeriod": periods}
    if profile.start is not None:
        plan["startSchedule"] = times.text(profile.start)
    if profile.duration_s is not None:
        plan["duration"] = profile.duration_s
    told: dict[str, Any] = {
        "id": profile.id,
        "stackLevel": profile.stack_level,
        "chargingProfilePurpose": PURPOSES[profile.purpose],
        "chargingProfileKind": profile.kind,
        "chargingSchedule": [plan],
    }
    more = {
        "recurrencyKind": profile.recurrency or None,
        "transactionId": profile.transaction,
        "validFrom": None if profile.valid_from is None else times.text(profile.valid_from),
        "validTo": None if profile.valid_to is None else times.text(profile.valid_to),
    }
    return told | {name: value for name, value in more.items() if value is not None}


def reports(profiles: Iterable[Profile], request: int = 1) -> list[dict[str, Any]]:
    """One CALL for each EVSE that has any."""
    held = sorted(profiles, key=lambda one: (one.evse, one.id, one.stack_level))
    evses = sorted({one.evse for one in held})
    return [
        {
            "requestId": request,
            "chargingLimitSource": "CSO",
            "evseId": evse,
            "tbc": evse != evses[-1],
            "chargingProfile": [said(one) for one in held if one.evse == evse],
        }
        for evse in evses
    ]


def composite(
    version: str, profiles: Iterable[Profile], socket: Socket, evse: int, at: float, running: Running | None, duration_s: int = 86_400
) -> dict[str, Any]:
    """GetCompositeSchedule's answer, in A. `evse` 0: of the station."""
    steps = schedule(profiles, socket, at, duration_s, running, whole=evse == 0)
    plan = {
        "duration": duration_s,
        "chargingRateUnit": "A",
        "chargingSchedulePeriod": [{"startPeriod": one.start_s, "limit": int(one.limit * 10 + 1e-6) / 10} for one in steps],
    }
    begins = {"scheduleStart": times.text(at)}
    if version == "ocpp1.6":
        return {"status": "Accepted", "connectorId": evse, "chargingSchedule": plan, **begins}
    return {"status": "Accepted", "schedule": {"evseId": evse, **plan, **begins}}
