"""Smart charging in OCPP 1.6: our CALLs, what stations answer to them, and the CPMS's own conversation about profiles.

1.6 has no way to list the profiles on a station, so what the CPMS sets has to be seen going by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broker.model.observations import Capabilities, ClearSeen, CompositeSeen, LimitUnknown, Observation, ProfileSeen
from broker.model.schedules import ChargingProfile
from broker.ocpp import fields, times, wrapping
from broker.ocpp.dialect import Request, Verdict

Payload = Mapping[str, Any]

PURPOSES: Final = {"max": "ChargePointMaxProfile", "default": "TxDefaultProfile", "tx": "TxProfile"}
WORDS: Final = {name: word for word, name in PURPOSES.items()}
CRITERIA: Final = frozenset({"id", "connectorId", "chargingProfilePurpose", "stackLevel"})
KEYS: Final = (
    "ChargeProfileMaxStackLevel",
    "ChargingScheduleAllowedChargingRateUnit",
    "ChargingScheduleMaxPeriods",
    "MaxChargingProfilesInstalled",
    "SupportedFeatureProfiles",
    "NumberOfConnectors",
    "ConnectorSwitch3to1PhaseSupported",
)


class Charging16:
    """`broker.ocpp.dialect.Charging` for OCPP 1.6."""

    actions: frozenset[str] = frozenset(
        {"SetChargingProfile", "ClearChargingProfile", "RemoteStartTransaction", "GetCompositeSchedule", "GetConfiguration"}
    )

    # ------------------------------------------------------------ ours

    def set_profile(self, evse: int, profile: ChargingProfile) -> Request:
        """A TxProfile gets no validFrom and validTo: 1.6's first edition forbade them there."""
        said: dict[str, Any] = {
            "chargingProfileId": profile.id,
            "stackLevel": profile.stack_level,
            "chargingProfilePurpose": PURPOSES[profile.purpose],
            "chargingProfileKind": profile.kind,
            "chargingSchedule": wrapping.schedule(profile),
        }
        if profile.purpose == "tx":
            number = fields.whole(profile.transaction_id)
            if number is not None:  # without one it is for whatever runs on that connector
                said["transactionId"] = number
        else:
            said |= wrapping.validity(profile)
        if profile.recurrency is not None:
            said["recurrencyKind"] = profile.recurrency
        return "SetChargingProfile", {"connectorId": 0 if profile.purpose == "max" else evse, "csChargingProfiles": said}

    def clear_profile(self, profile_id: int) -> Request:
        """By id only: with an id every other criterion is ignored."""
        return "ClearChargingProfile", {"id": profile_id}

    def get_composite(self, evse: int, duration_s: int, unit: str | None) -> Request:
        asked: dict[str, Any] = {"connectorId": evse, "duration": duration_s}
        return "GetCompositeSchedule", asked if unit is None else {**asked, "chargingRateUnit": unit}

    def ask_capabilities(self) -> Request:
        return "GetConfiguration", {"key": list(KEYS)}

    def verdict(self, answer: bytes) -> Verdict:
        return wrapping.verdict(answer)

    def composite(self, evse: int, answer: bytes) -> CompositeSeen:
        return _composite(evse, wrapping.result(answer))

    def capabilities(self, answer: bytes) -> Capabilities:
        return _capabilities(wrapping.result(answer))

    # ------------------------------------------------------------ the CPMS's

    def observe(self, exchange: object, payload: Payload, answer: Payload | None) -> tuple[Observation, ...]:
        """See `Charging.observe`. What cannot be read makes the limit unknown; it never raises for a profile's shape."""
        action = getattr(exchange, "action", "")
        taken = wrapping.taken(answer)
        sure = answer is not None and fields.text(answer.get("status")) == "Accepted"
        if action == "SetChargingProfile":
            return _seen(payload.get("connectorId"), payload.get("csChargingProfiles"), accepted=taken, sure=sure)
        if action == "RemoteStartTransaction":
            embedded = payload.get("chargingProfile")
            if embedded is None:
                return ()
            return _seen(payload.get("connectorId") or 0, embedded, accepted=taken, embedded=True, sure=sure)
        if action == "ClearChargingProfile":
            return _cleared(payload, accepted=sure)
        if answer is None:
            return ()
        if action == "GetCompositeSchedule":
            evse = fields.place(payload.get("connectorId"))
            return () if evse is None else (_composite(evse, answer),)
        return (_capabilities(answer),) if action == "GetConfiguration" else ()


def _seen(evse: object, said: object, *, accepted: bool, sure: bool, embedded: bool = False) -> tuple[Observation, ...]:
    """What cannot be read, and was not refused, makes the limit unknown."""
    place = fields.place(evse)
    try:
        found = wrapping.read(fields.mapping(said), WORDS, id_name="chargingProfileId")
    except ValueError as why:
        return (LimitUnknown(place or 0, str(why), fields.whole(fields.mapping(said).get("chargingProfileId"))),) if accepted else ()
    return (ProfileSeen(place or 0, found, accepted, embedded, sure=sure),)


def _cleared(said: Payload, *, accepted: bool) -> tuple[ClearSeen, ...]:
    id = said.get("id")
    if id is not None:  # with an id all else is ignored (errata, 3.25)
        return wrapping.clear(accepted, WORDS, id, None, None, None)
    if not CRITERIA.issuperset(said):  # a criterion of whose making? Without it this might be a clear of everything
        return ()
    return wrapping.clear(accepted, WORDS, None, said.get("connectorId"), said.get("chargingProfilePurpose"), said.get("stackLevel"))


def _composite(evse: int, said: Payload) -> CompositeSeen:
    if said.get("status") != "Accepted":
        return CompositeSeen(evse, None, "A", (), accepted=False)
    schedule = fields.mapping(said.get("chargingSchedule"))
    unit, periods = wrapping.composite(schedule)
    start = times.parse(said.get("scheduleStart")) or times.parse(schedule.get("startSchedule"))
    return CompositeSeen(evse, start, unit, periods, True, fields.whole(schedule.get("duration")))


def _capabilities(said: Payload) -> Capabilities:
    rows = map(fields.mapping, fields.several(said.get("configurationKey")))
    told = {fields.text(row.get("key")): fields.text(row.get("value")) for row in rows}
    features = told.get("SupportedFeatureProfiles")
    switching = told.get("ConnectorSwitch3to1PhaseSupported")
    return Capabilities(
        max_stack_level=wrapping.count(told.get("ChargeProfileMaxStackLevel")),
        units=wrapping.units(told.get("ChargingScheduleAllowedChargingRateUnit")),
        max_periods=wrapping.count(told.get("ChargingScheduleMaxPeriods")),
        max_profiles=wrapping.count(told.get("MaxChargingProfilesInstalled")),
        connectors=wrapping.count(told.get("NumberOfConnectors")),
        phase_switching=switching.strip().lower() == "true" if switching else None,
        smart_charging="smartcharging" in features.replace(" ", "").lower() if features else None,
    )


CHARGING: Final = Charging16()
