"""What a simulated station answers its CPMS (and whoever speaks in its place): one table per version.

In: a station as `Desk` shows it, an action and a payload. Out: a CALLRESULT's payload, or `Wrong` for a CALLERROR.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from broker.ocpp import times
from broker.sim import held as reading
from broker.sim.composite import Limit
from broker.sim.held import Held
from broker.sim.wire import Wrong
from broker.sim.words import Spec


class Desk(Protocol):
    """What of a station its answers may see and do."""

    spec: Spec
    held: Held

    def now(self) -> float: ...
    def running(self) -> Mapping[int, str]: ...
    def composite(self, evse: int, duration_s: int) -> tuple[Limit, ...]: ...
    def in_watts(self, evse: int, amps: float) -> float: ...
    def remote_start(self, evse: int, token: str, remote_id: int | None) -> bool: ...
    def remote_stop(self, id: str) -> bool: ...
    def reset(self) -> None: ...
    def trigger(self, what: str, evse: int | None) -> bool: ...


Answer = Callable[[Desk, Mapping[str, Any]], dict[str, Any]]


def accepted(yes: bool) -> dict[str, Any]:
    return {"status": "Accepted" if yes else "Rejected"}


def refused(reason: str) -> dict[str, Any]:
    return {"status": "Rejected", "statusInfo": {"reasonCode": reason}}


# ---------------------------------------------------------------- profiles


def install(desk: Desk, evse: int, said: Mapping[str, Any]) -> str:
    """Nothing when kept, else a 2.x reasonCode."""
    try:
        profile = reading.read(evse, said, desk.now())
    except ValueError as why:
        return str(why)
    return desk.held.set(profile, desk.running())


def set_16(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    check_connector(desk, said["connectorId"])
    if said["csChargingProfiles"]["chargingProfilePurpose"] not in reading.PURPOSES:
        raise Wrong("PropertyConstraintViolation", "chargingProfilePurpose")
    return accepted(not install(desk, said["connectorId"], said["csChargingProfiles"]))


def set_2(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    why = install(desk, said["evseId"], said["chargingProfile"])
    return refused(why) if why else accepted(True)


def clear_16(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    gone = desk.held.clear(said.get("id"), said.get("connectorId"), said.get("chargingProfilePurpose"), said.get("stackLevel"))
    return {"status": "Accepted" if gone else "Unknown"}


def clear_2(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    which = said.get("chargingProfileCriteria", {})
    gone = desk.held.clear(said.get("chargingProfileId"), which.get("evseId"), which.get("chargingProfilePurpose"), which.get("stackLevel"))
    return {"status": "Accepted" if gone else "Unknown"}


def check_connector(desk: Desk, number: int) -> None:
    if number not in (0, *desk.held.evses):
        raise Wrong("PropertyConstraintViolation", "connectorId")


def rate(desk: Desk, said: Mapping[str, Any]) -> str:
    """The unit to answer in; "" when it cannot."""
    unit = str(said.get("chargingRateUnit") or ("A" if "A" in desk.spec.units else "W"))
    return unit if unit in desk.spec.units else ""


def periods(desk: Desk, evse: int, duration_s: int, unit: str) -> list[dict[str, Any]]:
    found = desk.composite(evse, duration_s)[: desk.spec.max_periods]
    limits = ((step, step.limit if unit == "A" else desk.in_watts(evse, step.limit)) for step in found)
    # Rounded down to a tenth; the small step up first keeps 16.1 from becoming 16.0.
    return [{"startPeriod": step.start_s, "limit": int(limit * 10 + 1e-6) / 10} for step, limit in limits]


def composite_16(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    evse, unit = said["connectorId"], rate(desk, said)
    check_connector(desk, evse)
    if not unit:
        return accepted(False)
    plan = {"duration": said["duration"], "chargingRateUnit": unit}
    plan["chargingSchedulePeriod"] = periods(desk, evse, said["duration"], unit)
    return accepted(True) | {"connectorId": evse, "scheduleStart": times.text(desk.now()), "chargingSchedule": plan}


def composite_2(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    evse, unit = said["evseId"], rate(desk, said)
    if not unit:
        return refused("UnsupportedRateUnit")
    if evse not in (0, *desk.held.evses):
        return refused("UnknownEvse")
    plan = {"evseId": evse, "duration": said["duration"], "scheduleStart": times.text(desk.now()), "chargingRateUnit": unit}
    return accepted(True) | {"schedule": plan | {"chargingSchedulePeriod": periods(desk, evse, said["duration"], unit)}}


# ---------------------------------------------------------------- what it can


def configuration(desk: Desk) -> dict[str, str]:
    spec = desk.spec
    units = {"A": "Current", "W": "Power"}
    return {
        "SupportedFeatureProfiles": "Core,SmartCharging,RemoteTrigger",
        "ChargeProfileMaxStackLevel": str(spec.max_level),
        "ChargingScheduleAllowedChargingRateUnit": ",".join(units[unit] for unit in sorted(spec.units)),
        "ChargingScheduleMaxPeriods": str(spec.max_periods),
        "MaxChargingProfilesInstalled": "10",
        "NumberOfConnectors": str(len(spec.sockets)),
        "MeterValueSampleInterval": f"{spec.every_s:.0f}",
        "GetConfigurationMaxKeys": "50",
    }


def get_configuration(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    known = configuration(desk)
    asked = said.get("key") or list(known)
    answer: dict[str, Any] = {"configurationKey": [{"key": key, "readonly": True, "value": known[key]} for key in asked if key in known]}
    unknown = [key for key in asked if key not in known]
    return answer | ({"unknownKey": unknown} if unknown else {})


def variables(desk: Desk) -> dict[tuple[str, str], str]:
    spec = desk.spec
    smart = {
        "Available": "true",
        "Enabled": "true",
        "ProfileStackLevel": str(spec.max_level),
        "RateUnit": ",".join(sorted(spec.units)),
        "PeriodsPerSchedule": str(spec.max_periods),
        "Entries": "10",
        "Phases3to1": "false",
    }
    return {("SmartChargingCtrlr", name): value for name, value in smart.items()}


def get_variables(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    known = variables(desk)
    components = {component for component, _ in known}
    results = []
    for one in said["getVariableData"]:
        value = known.get((one["component"]["name"], one["variable"]["name"]))
        status = "UnknownVariable" if one["component"]["name"] in components else "UnknownComponent"
        result = {"component": one["component"], "variable": one["variable"], "attributeStatus": status if value is None else "Accepted"}
        results.append(result | ({"attributeValue": value} if value is not None else {}))
    return {"getVariableResult": results}


# ---------------------------------------------------------------- what it is made to do


def start_16(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    evse = said.get("connectorId", desk.held.evses[0])
    check_connector(desk, evse)
    return accepted(desk.remote_start(evse, said["idTag"], None) and embedded(desk, evse, said))


def start_2(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    evse = said.get("evseId", desk.held.evses[0])
    return accepted(desk.remote_start(evse, said["idToken"]["idToken"], said["remoteStartId"]) and embedded(desk, evse, said))


def embedded(desk: Desk, evse: int, said: Mapping[str, Any]) -> bool:
    """A remote start's own TxProfile has no transactionId yet: it is of the transaction it starts."""
    if "chargingProfile" in said:
        desk.held.profiles.append(reading.read(evse, said["chargingProfile"], desk.now()))
    return True


def stop(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    return accepted(desk.remote_stop(str(said["transactionId"])))


def reset(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    desk.reset()
    return accepted(True)


def trigger(desk: Desk, said: Mapping[str, Any]) -> dict[str, Any]:
    evse = said.get("connectorId", said.get("evse", {}).get("id"))
    return {"status": "Accepted" if desk.trigger(said["requestedMessage"], evse) else "NotImplemented"}


TABLE_16: Final[Mapping[str, Answer]] = {
    "SetChargingProfile": set_16,
    "ClearChargingProfile": clear_16,
    "GetCompositeSchedule": composite_16,
    "GetConfiguration": get_configuration,
    "RemoteStartTransaction": start_16,
    "RemoteStopTransaction": stop,
    "Reset": reset,
    "TriggerMessage": trigger,
}
TABLE_2: Final[Mapping[str, Answer]] = {
    "SetChargingProfile": set_2,
    "ClearChargingProfile": clear_2,
    "GetCompositeSchedule": composite_2,
    "GetVariables": get_variables,
    "RequestStartTransaction": start_2,
    "RequestStopTransaction": stop,
    "Reset": reset,
    "TriggerMessage": trigger,
}


def answer(desk: Desk, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """A CALL's answer; `Wrong("NotImplemented")` for an action that this station does not know."""
    found = (TABLE_16 if desk.spec.version == "ocpp1.6" else TABLE_2).get(action)
    if found is None:
        raise Wrong("NotImplemented", f"{action} is not implemented")
    return found(desk, payload)
