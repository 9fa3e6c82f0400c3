"""What is shown of a frame: never a driver, a password, or anybody's free text; everything else as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.masking import ALIASES, Masks

SECRET = "S3CRET-0815"


def shown(frame: Any, masks: Masks | None = None) -> Any:
    return (masks or Masks()).shown(json.dumps(frame).encode())


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("Authorize", {"idTag": SECRET}),
        ("StartTransaction", {"connectorId": 1, "idTag": SECRET, "meterStart": 0}),
        ("RemoteStartTransaction", {"idTag": SECRET, "chargingProfile": {"chargingProfileId": 1}}),
        ("SendLocalList", {"localAuthorizationList": [{"idTag": SECRET, "idTagInfo": {"status": "Accepted", "parentIdTag": SECRET}}]}),
        ("Authorize", {"idToken": {"idToken": SECRET, "type": "ISO14443", "additionalInfo": [{"additionalIdToken": SECRET, "type": "x"}]}}),
        ("TransactionEvent", {"idToken": {"idToken": SECRET, "type": "eMAID"}, "seqNo": 1}),
        ("SendLocalList", {"localAuthorizationList": [{"idTokenInfo": {"groupIdToken": {"idToken": SECRET}}}]}),
        ("ReserveNow", {"IdTag": SECRET}),
        ("CustomerInformation", {"customerIdentifier": SECRET, "idToken": {"idToken": SECRET}}),
        ("ChangeConfiguration", {"key": "AuthorizationKey", "value": SECRET}),
        ("ChangeConfiguration", {"key": "MasterPassGroupId", "value": SECRET}),
        ("SetVariables", {"setVariableData": [{"attributeValue": SECRET, "variable": {"name": "BasicAuthPassword"}}]}),
        ("SetNetworkProfile", {"connectionData": {"vpn": {"password": SECRET, "user": SECRET}, "apn": {"apnPassword": SECRET}}}),
        ("DataTransfer", {"vendorId": "v", "data": json.dumps({"idTag": SECRET})}),
        ("DataTransfer", {"vendorId": "v", "data": {"who": SECRET}}),
        ("StatusNotification", {"connectorId": 1, "info": f"card {SECRET}"}),
        ("GetDiagnostics", {"location": f"ftp://user:{SECRET}@host/"}),
        ("Authorize", {"iso15118CertificateHashData": [], "certificate": SECRET}),
    ],
)  # fmt: skip
def test_no_secret_is_shown(action: str, payload: dict[str, Any]) -> None:
    for frame in ([2, "1", action, payload], [6, "1", action, payload], [3, "1", payload]):
        said = shown(frame)
        assert SECRET not in json.dumps(said)
        assert said[:2] == frame[:2]


@pytest.mark.parametrize(
    "frame",
    [
        [4, "1", "GenericError", f"unknown card {SECRET}", {"idTag": SECRET}],
        [5, "1", "GenericError", SECRET, {"x": SECRET}],
        [4, "1", SECRET + "!", "", {}],
        [2, "1", {"idTag": SECRET}, {}],
        [2, "1", SECRET + " ", {}],
        [3, "1", SECRET],
        [3, "1", [{"x": SECRET}]],
        [7, "1", SECRET],
        [2, {"idTag": SECRET}, "x", {}],
        {"idTag": SECRET},
        SECRET,
    ],
)
def test_what_has_no_known_place_is_measured(frame: Any) -> None:
    assert SECRET not in json.dumps(shown(frame))


@pytest.mark.parametrize("text", [b"", b"[2,", b"\xff", b"[" * 100_000, b'[2,"1","A",{"x":' + b"[" * 500 + b"]" * 500 + b"}]"])
def test_what_cannot_be_read_is_measured(text: bytes) -> None:
    said = Masks().shown(text)
    assert said == {"unreadable": len(text)} or said[:3] == [2, "1", "A"]


def test_the_rest_is_as_it_was() -> None:
    meter = [2, "7", "MeterValues", {"connectorId": 1, "meterValue": [{"timestamp": "t", "sampledValue": [{"value": "7", "unit": "Wh"}]}]}]
    key = [3, "7", {"configurationKey": [{"key": "HeartbeatInterval", "readonly": False, "value": "60"}]}]
    for frame in (meter, key, [2, "1", "Heartbeat", {}], [3, "ocb-1", {}], [4, "1", "NotImplemented", "", {}]):
        assert shown(frame) == frame


def test_a_driver_can_be_followed_without_being_known() -> None:
    masks = Masks()
    assert shown([2, "1", "Authorize", {"idTag": "A"}], masks)[3] == {"idTag": "token-1"}
    assert shown([2, "2", "Authorize", {"idTag": "B"}], masks)[3] == {"idTag": "token-2"}
    assert shown([2, "3", "StopTransaction", {"idTag": "A", "reason": "A"}], masks)[3] == {"idTag": "token-1", "reason": "token-1"}
    for n in range(ALIASES + 5):
        shown([2, "1", "Authorize", {"idTag": f"T{n}"}], masks)
    assert shown([2, "1", "Authorize", {"idTag": "one too many"}], masks)[3] == {"idTag": "token"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["idTag", "idToken", "key", "value"]), inner, max_size=3),
    max_leaves=15,
)


@given(kind=st.integers(0, 8), parts=st.lists(JSON, max_size=4))
def test_whatever_comes_it_shows_json_and_no_token(kind: int, parts: list[Any]) -> None:
    said = shown([kind, "1", *parts, {"idTag": SECRET, "deep": {"idToken": {"idToken": SECRET}}}])
    assert SECRET not in json.dumps(said, allow_nan=False)


def test_the_password_in_a_network_profile_of_2_1_is_not_shown() -> None:
    call = b'[2,"1","SetNetworkProfile",{"configurationSlot":1,"connectionData":{"basicAuthPassword":"s3cret","securityProfile":2}}]'
    shown = Masks().shown(call)
    assert "s3cret" not in str(shown)
    assert shown[3]["connectionData"]["securityProfile"] == 2
