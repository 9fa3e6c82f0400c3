"""Smart charging in OCPP 2.0.1 and 2.1: our CALLs, what stations answer to them, and the CPMS's own conversation about profiles.

The two differ here in one thing only: 2.1 numbers above the ids that a station keeps for external constraints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broker.model.observations import Capabilities, ClearSeen, CompositeSeen, LimitUnknown, Observation, ProfileSeen
from broker.model.schedules import ChargingProfile
from broker.ocpp import fields, times, wrapping
from broker.ocpp.dialect import Request, Verdict

Payload = Mapping[str, Any]

PURPOSES: Final = {"max": "ChargingStationMaxProfile", "default": "TxDefaultProfile", "tx": "TxProfile"}
WORDS: Final = {name: word for word, name in PURPOSES.items()}
CLEAR: Final = frozenset({"chargingProfileId", "chargingProfileCriteria", "customData"})
CRITERIA: Final = frozenset({"evseId", "chargingProfilePurpose", "stackLevel", "customData"})
CONTROLLER: Final = "SmartChargingCtrlr"
VARIABLES: Final = ("Available", "Enabled", "ProfileStackLevel", "RateUnit", "PeriodsPerSchedule")
SCHEDULE_ID: Final = 1


class Charging2:
    """`broker.ocpp.dialect.Charging` for OCPP 2.x. `variables`: what is asked of the smart-charging controller."""

    actions: frozenset[str] = frozenset(
        {"SetChargingProfile", "ClearChargingProfile", "RequestStartTransaction", "GetCompositeSchedule", "GetVariables"}
    )

    def __init__(self, variables: tuple[str, ...]) -> None:
        self._variables = variables

    # ------------------------------------------------------------ ours

    def set_profile(self, evse: int, profile: ChargingProfile) -> Request:
        said: dict[str, Any] = {
            "id": profile.id,
            "stackLevel": profile.stack_level,
            "chargingProfilePurpose": PURPOSES[profile.purpose],
            "chargingProfileKind": profile.kind,
            "chargingSchedule": [{"id": SCHEDULE_ID, **wrapping.schedule(profile)}],
            **wrapping.validity(profile),
        }
        if profile.transaction_id is not None and profile.purpose == "tx":
            said["transactionId"] = profile.transaction_id
        if profile.recurrency is not None:
            said["recurrencyKind"] = profile.recurrency
        return "SetChargingProfile", {"evseId": 0 if profile.purpose == "max" else evse, "chargingProfile": said}

    def clear_profile(self, profile_id: int) -> Request:
        return "ClearChargingProfile", {"chargingProfileId": profile_id}

    def get_composite(self, evse: int, duration_s: int, unit: str | None) -> Request:
        asked: dict[str, Any] = {"evseId": evse, "duration": duration_s}
        return "GetCompositeSchedule", asked if unit is None else {**asked, "chargingRateUnit": unit}

    def ask_capabilities(self) -> Request:
        asked = [{"component": {"name": CONTROLLER}, "variable": {"name": name}} for name in self._variables]
        return "GetVariables", {"getVariableData": asked}

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
            return _seen(payload.get("evseId"), payload.get("chargingProfile"), accepted=taken, sure=sure)
        if action == "RequestStartTransaction":
            embedded = payload.get("chargingProfile")
            return () if embedded is None else _seen(payload.get("evseId") or 0, embedded, accepted=taken, embedded=True, sure=sure)
        if action == "ClearChargingProfile":
            return _cleared(payload, accepted=sure)
        if answer is None:
            return ()
        if action == "GetCompositeSchedule":
            evse = fields.place(payload.get("evseId"))
            return () if evse is None else (_composite(evse, answer),)
        return (_capabilities(answer),) if action == "GetVariables" else ()


def _seen(evse: object, said: object, *, accepted: bool, sure: bool, embedded: bool = False) -> tuple[Observation, ...]:
    """What cannot be read, and was not refused, makes the limit unknown."""
    place = fields.place(evse) or 0
    try:
        found = wrapping.read(fields.mapping(said), WORDS, id_name="id")
    except ValueError as why:
        return (LimitUnknown(place, str(why), fields.whole(fields.mapping(said).get("id"))),) if accepted else ()
    return (ProfileSeen(place, found, accepted, embedded, sure=sure),)


def _cleared(said: Payload, *, accepted: bool) -> tuple[ClearSeen, ...]:
    criteria = said.get("chargingProfileCriteria")
    wanted = fields.mapping(criteria)
    # A criterion of whose making? Without it this might be a clear of everything.
    if (criteria is not None and not isinstance(criteria, dict)) or not (CLEAR.issuperset(said) and CRITERIA.issuperset(wanted)):
        return ()
    place, purpose, level = (wanted.get(name) for name in ("evseId", "chargingProfilePurpose", "stackLevel"))
    return wrapping.clear(accepted, WORDS, said.get("chargingProfileId"), place, purpose, level)


def _composite(evse: int, said: Payload) -> CompositeSeen:
    if said.get("status") != "Accepted":
        return CompositeSeen(evse, None, "A", (), accepted=False)
    schedule = fields.mapping(said.get("schedule"))
    unit, periods = wrapping.composite(schedule)
    return CompositeSeen(evse, times.parse(schedule.get("scheduleStart")), unit, periods, True, fields.whole(schedule.get("duration")))


def _capabilities(said: Payload) -> Capabilities:
    told: dict[str, str] = {}
    for row in map(fields.mapping, fields.several(said.get("getVariableResult"))):
        if fields.mapping(row.get("component")).get("name") == CONTROLLER and row.get("attributeStatus") == "Accepted":
            told[fields.text(fields.mapping(row.get("variable")).get("name"))] = fields.text(row.get("attributeValue"))
    return able(told)


def able(told: Mapping[str, str]) -> Capabilities:
    """What the values of the smart-charging controller's variables come to."""
    there = [told[name].lower() == "true" for name in ("Available", "Enabled") if told.get(name)]
    switching = told.get("Phases3to1")
    return Capabilities(
        max_stack_level=wrapping.count(told.get("ProfileStackLevel")),
        units=wrapping.units(told.get("RateUnit")),
        max_periods=wrapping.count(told.get("PeriodsPerSchedule")),
        phase_switching=switching.lower() == "true" if switching else None,
        max_external_id=wrapping.count(told.get("MaxExternalConstraintsId")),
        smart_charging=all(there) if there else None,
    )


CHARGING_201: Final = Charging2(VARIABLES)
CHARGING_21: Final = Charging2((*VARIABLES, "MaxExternalConstraintsId"))
