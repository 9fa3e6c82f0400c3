"""OCPP 1.6: the CPMS changes how a station connects: its password, URL, security profile or trusted roots.

Read from ChangeConfiguration, InstallCertificate and DeleteCertificate together with their answers (1.6 5.3; the security white paper's
A00 and M05, M04). What the station did not accept changed nothing.
"""

from __future__ import annotations

import re
from typing import Final

from broker.model.observations import SettingTaken
from broker.ocpp import fields
from broker.ocpp.dialect import Changes, Wanted
from broker.ocpp.exchanges import Payload

TAKEN: Final = ("Accepted", "RebootRequired")
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}").fullmatch
_PLAIN: Final = re.compile(r"[^a-z0-9]")
_URL: Final = re.compile(
    r"(?:.*(?:centralsystem|central|csms|cpms|backend|backoffice|service|server|ocpp|websocket))?(?:url|uri|address|endpoint|host)\d?"
)
_OTHER_URL: Final = ("ntp", "time", "firmware", "update", "log", "diagnos", "dns", "ftp", "payment", "qr")


def looks_like_url(key: str) -> bool:
    """Whether a maker's configuration key is where its CPMS is: CentralSystemURL, BackendUrl, ServiceURL, Ocpp.Url, in any case."""
    plain = _PLAIN.sub("", key.lower())
    return _URL.fullmatch(plain) is not None and not any(word in plain for word in _OTHER_URL)


def wanted(action: str, call: Payload) -> Wanted:
    """What the CPMS would change. The payload may be anything."""
    found = _configured(call) if action == "ChangeConfiguration" else certificate(action, call, "CentralSystemRootCertificate")
    return tuple(((), one) for one in found)


def accepted(action: str, wanted: Wanted, answer: Payload) -> Wanted:
    """What of it the station took: all or nothing."""
    good = TAKEN if action == "ChangeConfiguration" else TAKEN[:1]
    return wanted if fields.text(answer.get("status")) in good else ()


def certificate(action: str, call: Payload, root: str) -> tuple[SettingTaken, ...]:
    """An InstallCertificate of the root that CPMSs are trusted by, or DeleteCertificate: which one, only its hash says."""
    if action == "DeleteCertificate":
        return (SettingTaken("root-certificate", "DeleteCertificate"),)
    installed = call.get("certificateType") == root
    return (SettingTaken("root-certificate", root),) if installed else ()


def _configured(call: Payload) -> tuple[SettingTaken, ...]:
    key, value = fields.text(call.get("key")), call.get("value")
    low = key.lower()
    if low == "authorizationkey":
        return (SettingTaken("password", "AuthorizationKey", value.encode()),) if isinstance(value, str) and value else ()
    if low == "securityprofile":
        return (SettingTaken("security-profile", "SecurityProfile"),)
    return (SettingTaken("url", key),) if _NAME(key) and looks_like_url(key) else ()


class _Changes16:
    actions: frozenset[str] = frozenset({"ChangeConfiguration", "InstallCertificate", "DeleteCertificate"})
    entrusting: frozenset[str] = frozenset({"ChangeConfiguration"})
    wanted = staticmethod(wanted)
    accepted = staticmethod(accepted)


CHANGES: Final[Changes] = _Changes16()
