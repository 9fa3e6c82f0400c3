"""OCPP 2.x: the CPMS changes how a station connects: its password, URL, security profile, identity or trusted roots.

Read from SetVariables, each item by its own status (B05), SetNetworkProfile (B09), InstallCertificate and DeleteCertificate (M05, M04).
"""

from __future__ import annotations

from typing import Any, Final, Literal

from broker.model.observations import SettingTaken
from broker.ocpp import fields
from broker.ocpp.changes16 import TAKEN, certificate
from broker.ocpp.dialect import Changes, Wanted
from broker.ocpp.exchanges import Payload

What = Literal["password", "url", "security-profile", "root-certificate", "identity"]
VARIABLES: Final[dict[str, tuple[What, str]]] = {
    "basicauthpassword": ("password", "BasicAuthPassword"),
    "securityprofile": ("security-profile", "SecurityProfile"),
    "networkconfigurationpriority": ("url", "NetworkConfigurationPriority"),
    "ocppcsmsurl": ("url", "OcppCsmsUrl"),
    "identity": ("identity", "Identity"),
}
"""Of the components that hold them (SecurityCtrlr, OCPPCommCtrlr, 2.1's NetworkConfiguration): what it is, and its name as OCPP has it."""
COMPONENTS: Final = ("securityctrlr", "ocppcommctrlr", "networkconfiguration")


def wanted(action: str, call: Payload) -> Wanted:
    """What the CPMS would change. The payload may be anything."""
    if action == "SetVariables":
        return tuple((_place(one), found) for one in _objects(call.get("setVariableData")) for found in _variable(one))
    if action == "SetNetworkProfile":
        password = _password(fields.mapping(call.get("connectionData")).get("basicAuthPassword"))
        return tuple(((), one) for one in (SettingTaken("url", "SetNetworkProfile"), *password))
    return tuple(((), one) for one in certificate(action, call, "CSMSRootCertificate"))


def accepted(action: str, wanted: Wanted, answer: Payload) -> Wanted:
    """What of it the station took: in SetVariables each item by its own status."""
    if action != "SetVariables":
        return wanted if fields.text(answer.get("status")) == "Accepted" else ()
    results = {_place(one): fields.text(one.get("attributeStatus")) for one in _objects(answer.get("setVariableResult"))}
    return tuple(one for one in wanted if results.get(one[0]) in TAKEN)


def _objects(value: object) -> list[dict[str, Any]]:
    return [one for one in fields.several(value) if isinstance(one, dict)]


def _place(one: Payload) -> tuple[str, ...]:
    """Which attribute of which variable; names in any case, as they compare in OCPP (part 2, 1.6.2)."""
    component, variable = fields.mapping(one.get("component")), fields.mapping(one.get("variable"))
    names = (component.get("name"), component.get("instance"), variable.get("name"), variable.get("instance"), _attribute(one))
    return tuple(fields.text(name).lower() for name in names)


def _attribute(one: Payload) -> str:
    return fields.text(one.get("attributeType")) or "Actual"  # what its absence means


def _variable(one: Payload) -> tuple[SettingTaken, ...]:
    component, _, variable, _, attribute = _place(one)
    known = VARIABLES.get(variable) if component in COMPONENTS and attribute == "actual" else None
    if known is None:
        return ()
    what, name = known
    return _password(one.get("attributeValue")) if what == "password" else (SettingTaken(what, name),)


def _password(value: object) -> tuple[SettingTaken, ...]:
    return (SettingTaken("password", "BasicAuthPassword", value.encode()),) if isinstance(value, str) and value else ()


class _Changes2:
    actions: frozenset[str] = frozenset({"SetVariables", "SetNetworkProfile", "InstallCertificate", "DeleteCertificate"})
    entrusting: frozenset[str] = frozenset({"SetVariables", "SetNetworkProfile"})
    wanted = staticmethod(wanted)
    accepted = staticmethod(accepted)


CHANGES: Final[Changes] = _Changes2()
