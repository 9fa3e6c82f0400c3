"""What an OCPP 2.x station itself tells of charging limits: those from elsewhere, and the profiles that it holds.

NotifyChargingLimit and ClearedChargingLimit (2.x K11 to K13), ReportChargingProfiles (2.x K09: the answer to the CPMS's
GetChargingProfiles, in as many CALLs as it takes; each is complete in itself). All are read from the CALL: what the CPMS answers changes
nothing. What cannot be read is a limit that is not known, never none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broker.model.observations import LimitCleared, LimitTold, ProfileReported
from broker.model.schedules import ChargingProfile
from broker.ocpp import fields, times, wrapping
from broker.ocpp.charging2 import WORDS
from broker.ocpp.exchanges import Observations, Payload, Reader

SOURCE_MOST: Final = 50  # characters; 2.1 allows 20
SCHEDULES_MOST: Final = 8  # of one limit; the standard foresees a few
CPMS: Final = "CSO"  # chargingLimitSource of what came in a SetChargingProfile


def _notified(call: Payload, answer: Payload | None) -> Observations:
    evse, source = fields.place(call.get("evseId")) or 0, _source(fields.mapping(call.get("chargingLimit")))
    listed = fields.several(call.get("chargingSchedule"))
    try:
        if not 0 < len(listed) <= SCHEDULES_MOST:
            raise ValueError(f"{len(listed)} chargingSchedules")
        return (LimitTold(evse, source, tuple(_schedule(fields.mapping(one)) for one in listed)),)
    except ValueError as why:
        return (LimitTold(evse, source, (), f"the station has a limit from {source or 'elsewhere'} that cannot be read: {why}"),)


def _schedule(said: Mapping[str, Any]) -> ChargingProfile:
    """As a profile of no stack. Raises ValueError for what is not understood whole. Where its clock is not ours it has no start."""
    unit, begun = said.get("chargingRateUnit"), times.parse(said.get("startSchedule"))
    if unit not in ("A", "W"):
        raise ValueError("chargingRateUnit: neither A nor W")
    if "limitAtSoC" in said:
        raise ValueError("limitAtSoC: a limit that hangs on the battery")
    start = None if wrapping.floats(said) else begun
    over = fields.whole(said.get("duration"))
    return ChargingProfile(
        id=0,
        stack_level=0,
        purpose="max",
        kind="Absolute",
        unit=str(unit),
        periods=wrapping.periods(said),
        start=start,
        duration_s=None if start is None else over,
    )


def _cleared(call: Payload, answer: Payload | None) -> Observations:
    return (LimitCleared(fields.place(call.get("evseId")) or 0, _source(call)),)


def _reported(call: Payload, answer: Payload | None) -> Observations:
    """Limits from elsewhere are told of by NotifyChargingLimit, and cleared as such: here they are passed over."""
    if fields.text(call.get("chargingLimitSource")) != CPMS:
        return ()
    evse = fields.place(call.get("evseId")) or 0
    return tuple(_profile(evse, fields.mapping(one)) for one in fields.several(call.get("chargingProfile")))


def _profile(evse: int, said: Mapping[str, Any]) -> ProfileReported:
    id = fields.whole(said.get("id"))
    try:
        found = wrapping.read(said, WORDS, id_name="id")
    except ValueError as why:
        return ProfileReported(evse, id, None, str(why))
    return ProfileReported(0 if found.purpose == "max" else evse, id, found)


def _source(said: Mapping[str, Any]) -> str:
    return fields.text(said.get("chargingLimitSource"))[:SOURCE_MOST]


READERS: Final[Mapping[str, Reader]] = {
    "NotifyChargingLimit": _notified,
    "ClearedChargingLimit": _cleared,
    "ReportChargingProfiles": _reported,
}
"""Of a station's CALLs."""
