"""What an OCPP 2.x station tells of itself as components and variables: what it can, and which of its connectors are taken.

NotifyReport (2.x B06 to B08: the answer to the CPMS's GetBaseReport or GetReport, in as many CALLs as it takes; each is complete in
itself): the smart-charging controller, how many profiles it holds, how many EVSEs there are. NotifyEvent (2.x N07), by which a station may
say what StatusNotification says: AvailabilityState of connectors. We ask for neither. Both are read from the CALL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from broker.model.observations import Capabilities, StatusSeen
from broker.ocpp import fields, times, wrapping
from broker.ocpp.charging2 import CONTROLLER, able
from broker.ocpp.exchanges import Observations, Payload, Reader

STATUSES_MOST: Final = 64  # of one NotifyEvent; a station has a handful of connectors


def _reported(call: Payload, answer: Payload | None) -> Observations:
    told: dict[str, str] = {}
    profiles: int | None = None
    evses = 0
    for row in map(fields.mapping, fields.several(call.get("reportData"))):
        component, variable = fields.mapping(row.get("component")), fields.mapping(row.get("variable"))
        evses = max(evses, fields.place(fields.mapping(component.get("evse")).get("id")) or 0)
        name = fields.text(variable.get("name"))
        if component.get("name") != CONTROLLER:
            continue
        if name == "Entries" and variable.get("instance") == "ChargingProfiles":
            profiles = wrapping.count(fields.mapping(row.get("variableCharacteristics")).get("maxLimit"))
        elif value := _actual(row):
            told[name] = value
    # Of a part that tells of the first EVSE only it is not known whether there are more.
    found = replace(able(told), max_profiles=profiles, connectors=evses if evses > 1 else None)
    return () if found == Capabilities() else (found,)


def _actual(row: Mapping[str, Any]) -> str:
    """The attribute that holds now; it is Actual where nothing else is said."""
    attributes = map(fields.mapping, fields.several(row.get("variableAttribute")))
    return next((fields.text(one.get("value")) for one in attributes if one.get("type", "Actual") == "Actual"), "")


def _happened(call: Payload, answer: Payload | None) -> Observations:
    events = [fields.mapping(one) for one in fields.several(call.get("eventData"))[:STATUSES_MOST]]
    return tuple(seen for one in events for seen in _status(one))


def _status(said: Mapping[str, Any]) -> Iterator[StatusSeen]:
    component, variable = fields.mapping(said.get("component")), fields.mapping(said.get("variable"))
    if (component.get("name"), variable.get("name")) != ("Connector", "AvailabilityState"):
        return
    where, status = fields.mapping(component.get("evse")), fields.text(said.get("actualValue"))
    evse, connector = fields.place(where.get("id")), fields.place(where.get("connectorId"))
    if evse is not None and connector is not None and status:
        yield StatusSeen(evse, connector, status, times.parse(said.get("timestamp")))


READERS: Final[Mapping[str, Reader]] = {"NotifyReport": _reported, "NotifyEvent": _happened}
"""Of a station's CALLs."""
