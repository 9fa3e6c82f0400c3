"""What a CPMS changes in a station so that it may not come back: real exchanges, checked against the standard's own schemas."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standard import TWO, asked, valid

from broker.model.observations import SettingTaken
from broker.ocpp.changes16 import looks_like_url
from broker.ocpp.dialect import Changes
from broker.ocpp.dialects import BY_NAME

KEY = "0001020304050607FFFFFFFFFFFFFFFFFFFFFFFF"


def taken(version: str, action: str, call: Any, answer: Any) -> tuple[SettingTaken, ...]:
    valid(version, asked(version, action), call)
    valid(version, f"{action}Response", answer)
    changes = BY_NAME[version].changes
    assert action in changes.actions
    return took(changes, action, call, answer)


def took(changes: Changes, action: str, call: Any, answer: Any) -> tuple[SettingTaken, ...]:
    return tuple(one for _, one in changes.accepted(action, changes.wanted(action, call), answer))


def configured(key: str, value: str, status: str = "Accepted") -> tuple[SettingTaken, ...]:
    return taken("ocpp1.6", "ChangeConfiguration", {"key": key, "value": value}, {"status": status})


# ---------------------------------------------------------------- 1.6


@pytest.mark.parametrize("status", ["Accepted", "RebootRequired"])
@pytest.mark.parametrize("key", ["AuthorizationKey", "authorizationkey"])
def test_a_password_of_1_6(status: str, key: str) -> None:
    (found,) = configured(key, KEY, status)
    assert (found.what, found.name, found.password) == ("password", "AuthorizationKey", KEY.encode())
    assert KEY not in repr(found)


@pytest.mark.parametrize("status", ["Rejected", "NotSupported"])
@pytest.mark.parametrize("key", ["AuthorizationKey", "SecurityProfile", "CentralSystemURL"])
def test_what_1_6_did_not_accept_changed_nothing(status: str, key: str) -> None:
    assert configured(key, KEY, status) == ()


def test_a_security_profile_of_1_6() -> None:
    assert configured("SecurityProfile", "2") == (SettingTaken("security-profile", "SecurityProfile"),)


URLS = [
    "CentralSystemURL",
    "BackendUrl",
    "ServiceURL",
    "OcppUrl",
    "ocppurl",
    "CPMS_URL",
    "Ocpp.ServerAddress",
    "csmsUrl2",
    "WebSocketEndpoint",
    "URL",
]


@pytest.mark.parametrize("key", URLS)
def test_a_url_of_1_6_by_whatever_name(key: str) -> None:
    assert configured(key, "wss://elsewhere.example/ocpp") == (SettingTaken("url", key),)


@pytest.mark.parametrize(
    "key",
    [
        "WebSocketPingInterval",
        "HeartbeatInterval",
        "FirmwareServerUrl",
        "NtpServerAddress",
        "TimeServerUrl",
        "DiagnosticsUrl",
        "QRcodeUrl",
        "",
    ],
)
def test_other_keys_are_nobody_s_departure(key: str) -> None:
    assert not looks_like_url(key)
    assert took(BY_NAME["ocpp1.6"].changes, "ChangeConfiguration", {"key": key, "value": "x"}, {"status": "Accepted"}) == ()


def test_a_key_that_is_anybody_s_text_is_not_repeated() -> None:
    key = "s3cret url\n"
    assert took(BY_NAME["ocpp1.6"].changes, "ChangeConfiguration", {"key": key, "value": "x"}, {"status": "Accepted"}) == ()


# ---------------------------------------------------------------- certificates, in all versions

HASH = {"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "1"}
ROOTS = {"ocpp1.6": "CentralSystemRootCertificate", "ocpp2.0.1": "CSMSRootCertificate", "ocpp2.1": "CSMSRootCertificate"}
OTHERS = {"ocpp1.6": "ManufacturerRootCertificate", "ocpp2.0.1": "V2GRootCertificate", "ocpp2.1": "V2GRootCertificate"}


@pytest.mark.parametrize("version", BY_NAME)
def test_the_root_that_a_cpms_is_trusted_by(version: str) -> None:
    call = {"certificateType": ROOTS[version], "certificate": "PEM"}
    assert taken(version, "InstallCertificate", call, {"status": "Accepted"}) == (SettingTaken("root-certificate", ROOTS[version]),)
    assert taken(version, "InstallCertificate", call, {"status": "Rejected"}) == ()
    other = {"certificateType": OTHERS[version], "certificate": "PEM"}
    assert taken(version, "InstallCertificate", other, {"status": "Accepted"}) == ()


@pytest.mark.parametrize("version", BY_NAME)
def test_a_root_that_goes(version: str) -> None:
    call = {"certificateHashData": HASH}
    assert taken(version, "DeleteCertificate", call, {"status": "Accepted"}) == (SettingTaken("root-certificate", "DeleteCertificate"),)
    assert taken(version, "DeleteCertificate", call, {"status": "NotFound"}) == ()


# ---------------------------------------------------------------- 2.x


def item(component: str, variable: str, value: str = "x", **more: Any) -> dict[str, Any]:
    return {"attributeValue": value, "component": {"name": component}, "variable": {"name": variable}, **more}


def result(component: str, variable: str, status: str = "Accepted", **more: Any) -> dict[str, Any]:
    return {"attributeStatus": status, "component": {"name": component}, "variable": {"name": variable}, **more}


def variables(version: str, items: list[Any], results: list[Any]) -> tuple[SettingTaken, ...]:
    return taken(version, "SetVariables", {"setVariableData": items}, {"setVariableResult": results})


PASSWORD = ("SecurityCtrlr", "BasicAuthPassword")
PROFILE = ("SecurityCtrlr", "SecurityProfile")
PRIORITY = ("OCPPCommCtrlr", "NetworkConfigurationPriority")


@pytest.mark.parametrize("version", TWO)
def test_each_variable_by_its_own_status_in_any_order(version: str) -> None:
    items = [item(*PASSWORD, "pass-word-0123456789"), item(*PROFILE, "3"), item(*PRIORITY, "1,2"), item("Other", "BasicAuthPassword")]
    results = [result("Other", "BasicAuthPassword"), result(*PRIORITY, "RebootRequired"), result(*PROFILE, "Rejected"), result(*PASSWORD)]
    assert variables(version, items, results) == (
        SettingTaken("password", "BasicAuthPassword", b"pass-word-0123456789"),
        SettingTaken("url", "NetworkConfigurationPriority"),
    )
    assert variables(version, items, [result("x", "y")]) == ()


@pytest.mark.parametrize("version", TWO)
def test_names_compare_in_any_case_and_only_the_actual_value_counts(version: str) -> None:
    found = variables(version, [item("securityctrlr", "BASICAUTHPASSWORD", "p")], [result(*PASSWORD, attributeType="Actual")])
    assert [one.password for one in found] == [b"p"]
    target = {"attributeType": "Target"}
    assert variables(version, [item(*PASSWORD, **target)], [result(*PASSWORD, **target)]) == ()
    assert variables(version, [item(*PASSWORD)], [result(*PASSWORD, **target)]) == (), "another attribute's answer"


@pytest.mark.parametrize("version", TWO)
def test_a_network_profile(version: str) -> None:
    connection = {
        "ocppInterface": "Wired0",
        "ocppTransport": "JSON",
        "ocppCsmsUrl": "wss://elsewhere.example",
        "messageTimeout": 30,
        "securityProfile": 2,
    }
    connection |= {"ocppVersion": "OCPP20"} if version == "ocpp2.0.1" else {"basicAuthPassword": "pass-word-0123456789"}
    call = {"configurationSlot": 1, "connectionData": connection}
    found = taken(version, "SetNetworkProfile", call, {"status": "Accepted"})
    assert found[0] == SettingTaken("url", "SetNetworkProfile")
    assert [one.password for one in found[1:]] == ([] if version == "ocpp2.0.1" else [b"pass-word-0123456789"])
    assert taken(version, "SetNetworkProfile", call, {"status": "Rejected"}) == ()


# ---------------------------------------------------------------- rubbish

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["Accepted", "SecurityCtrlr", "BasicAuthPassword"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "key",
                    "value",
                    "status",
                    "setVariableData",
                    "setVariableResult",
                    "component",
                    "variable",
                    "name",
                    "connectionData",
                    "attributeValue",
                    "attributeStatus",
                    "attributeType",
                    "certificateType",
                    "basicAuthPassword",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
OBJECTS = ANY.filter(lambda value: isinstance(value, dict))


@given(st.sampled_from(sorted(BY_NAME)), OBJECTS, OBJECTS)
def test_whatever_they_hold_nothing_is_raised_and_no_name_is_anybody_s_text(version: str, call: Any, answer: Any) -> None:
    changes = BY_NAME[version].changes
    for action in changes.actions:
        for found in took(changes, action, call, answer):
            assert found.name.isascii()
            assert found.name.isprintable()
            assert bool(found.password) == (found.what == "password")
            assert not found.password or action in changes.entrusting
