"""Rubbish in good conversations, through the real observers: nothing is raised, nothing grows without bound, nobody else is touched.

The frames are those of a whole visit in each version, with parts replaced, bytes flipped and ends cut off; the bytes themselves pass
by elsewhere, untouched (tests/test_relay_laws.py): here is what the tap, the book, the feed and the injector make of them.
"""

from __future__ import annotations

import itertools
import json
import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reachable import reachable
from test_observer import TIME, VERSIONS, seat

from broker.model.basics import Instant
from broker.model.orders import Inject, Write
from broker.model.traffic import CALLERROR, CALLRESULT, Exchange
from broker.observer import Identifying, Watching

START = 1_800_000_000.0

WHO = {"idToken": "TAG", "type": "ISO14443"}
SAMPLES = [{"value": "2000", "measurand": "Energy.Active.Import.Register"}, {"value": "6900", "measurand": "Power.Active.Import"}]
METER = [{"timestamp": TIME, "sampledValue": SAMPLES}]
OK16: dict[str, Any] = {"transactionId": 5, "idTagInfo": {"status": "Accepted"}}
PROFILE: dict[str, Any] = {"chargingProfileId": 1, "id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile"}
PROFILE["chargingProfileKind"] = "Relative"
SCHEDULE = {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 16.0}]}
LIMIT16 = {"connectorId": 0, "csChargingProfiles": {**PROFILE, "chargingSchedule": SCHEDULE}}
LIMIT2 = {"evseId": 0, "chargingProfile": {**PROFILE, "chargingSchedule": [SCHEDULE]}}


def event(kind: str, n: int, **more: Any) -> dict[str, Any]:
    info = {"transactionId": "tx", "chargingState": "Charging"}
    return {"eventType": kind, "timestamp": TIME, "triggerReason": "Authorized", "seqNo": n, "transactionInfo": info, **more}


BOOT = {"currentTime": TIME, "interval": 300, "status": "Accepted"}
VISIT16: list[tuple[str, str, Any, Any]] = [
    ("station", "BootNotification", {"chargePointModel": "M", "chargePointVendor": "V"}, BOOT),
    ("cpms", "SetChargingProfile", LIMIT16, {"status": "Accepted"}),
    ("station", "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Preparing", "timestamp": TIME}, {}),
    ("station", "Authorize", {"idTag": "TAG"}, {"idTagInfo": {"status": "Accepted"}}),
    ("station", "StartTransaction", {"connectorId": 1, "idTag": "TAG", "meterStart": 1000, "timestamp": TIME}, OK16),
    ("station", "MeterValues", {"connectorId": 1, "transactionId": 5, "meterValue": METER}, {}),
    ("station", "StopTransaction", {"transactionId": 5, "meterStop": 3000, "timestamp": TIME, "transactionData": METER}, {}),
]
STATUS2 = {"timestamp": TIME, "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1}
VISIT2: list[tuple[str, str, Any, Any]] = [
    ("station", "BootNotification", {"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V"}}, BOOT),
    ("cpms", "SetChargingProfile", LIMIT2, {"status": "Accepted"}),
    ("station", "StatusNotification", STATUS2, {}),
    ("station", "Authorize", {"idToken": WHO}, {"idTokenInfo": {"status": "Accepted"}}),
    ("station", "TransactionEvent", event("Started", 0, idToken=WHO, evse={"id": 1, "connectorId": 1}), {}),
    ("station", "TransactionEvent", event("Updated", 1, meterValue=METER), {}),
    ("station", "TransactionEvent", event("Ended", 2, meterValue=METER), {}),
]
VISITS = {"ocpp1.6": VISIT16, "ocpp2.0.1": VISIT2, "ocpp2.1": VISIT2}

deep = "[" * 100_000 + "]" * 100_000
ODD = [
    *("null", "true", "-1", "0", "1e999", "-1e999", "NaN", "Infinity", "1e-999", "9" * 5000, "2147483648", "1.5"),
    *('""', '"\\ud800"', '"\\u0000"', '"' + "x" * 5000 + '"', '"1970-01-01T00:00:00Z"', '"9999-12-31T23:59:59.999+23:59"', '"TAG"'),
    *("[]", "{}", "[[[]]]", '{"status":{"status":[]}}', '{"a":1,"a":2}', deep, "[" + "0," * 50_000 + "0]"),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inside in inner for found in places(inside, (*path, key)))]


def spelled(value: Any, at: tuple[Any, ...], odd: str, mark: str = "\ufdd0") -> str:
    """JSON with what is at that place replaced by a raw text."""

    def put(value: Any, path: tuple[Any, ...]) -> Any:
        if not path:
            return mark
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[path[0]] = put(value[path[0]], path[1:])
        return copy

    return json.dumps(put(value, at), ensure_ascii=False).replace(f'"{mark}"', odd, 1)


@st.composite
def frames(draw: st.DrawFn, version: str) -> Exchange:
    """One exchange of a visit, mostly with something wrong in it."""
    sender, action, call, answer = draw(st.sampled_from(VISITS[version]))
    asked, said = [2, "1", action, call], [3, "1", answer]
    odd = st.sampled_from(ODD)
    texts = [
        spelled(each, (first, *draw(st.sampled_from(places(each[first])))), draw(odd)) if draw(st.booleans()) else json.dumps(each)
        for each, first in ((asked, 3), (said, 2))
    ]
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    hurt = draw(st.sampled_from(["no", "no", "cut", "flip", "bom"]))
    which = draw(st.integers(0, 1))
    if hurt == "cut":
        raw[which] = raw[which][: draw(st.integers(0, len(raw[which])))]
    elif hurt == "flip" and raw[which]:
        at = draw(st.integers(0, len(raw[which]) - 1))
        raw[which] = raw[which][:at] + bytes([raw[which][at] ^ draw(st.integers(1, 255))]) + raw[which][at + 1 :]
    elif hurt == "bom":
        raw[which] = b"\xef\xbb\xbf" + raw[which]
    kind = draw(st.sampled_from([CALLRESULT, CALLRESULT, CALLERROR, 0]))
    token = draw(st.none() | st.integers(1, 9))
    return Exchange(sender, action, raw[0], None if kind == 0 else raw[1], kind, token)  # type: ignore[arg-type]


def observers(version: str) -> list[Any]:
    opened, tokens = Instant(100.0, START), itertools.count(1)
    mine: Any = {"opened": opened, "flapping": False, "new_token": lambda: next(tokens)}
    return [
        Identifying(seat(version, "driver-identification"), ()),
        *(Watching(seat(version), (), shadow=shadow, **mine) for shadow in (True, False)),
    ]


def fits(effect: Any) -> None:
    """What it wants done can be done: records and facts are JSON of sane size."""
    if isinstance(effect, Write):
        for record in effect.records:
            assert len(json.dumps(dict(record.body), allow_nan=False)) < 20_000
            assert len(record.key) <= 64
        for fact in effect.facts:
            assert len(json.dumps(fact.value, allow_nan=False)) < 100_000
    elif isinstance(effect, Inject):
        json.dumps(effect.payload, allow_nan=False)


@given(st.sampled_from(VERSIONS), st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_rubbish_raises_or_wants_the_impossible(version: str, data: st.DataObject) -> None:
    conversation = data.draw(st.lists(frames(version), min_size=1, max_size=12))
    for observer in observers(version):
        now = Instant(100.0, START)
        for exchange in conversation:
            now = Instant(now.mono + 7.0, now.wall + 7.0)
            for effect in (*observer.saw(exchange, now), *observer.tick(now)):
                fits(effect)
                if isinstance(effect, Inject):
                    for more in observer.answered(effect.token, "answered", exchange.answer, now):
                        fits(more)
        for effect in observer.closed(now):
            fits(effect)
        json.dumps(observer.explain(), allow_nan=False)
        assert observer.tap_failures <= len(conversation) * 2


# ---------------------------------------------------------------- bounds

LEAVES = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)


def weight(root: Any) -> int:
    """Bytes of everything that is reachable from it alone: not code, not classes."""
    return sum(map(sys.getsizeof, reachable(root, LEAVES).values()))


def renamed(value: Any, n: int) -> Any:
    """The same with other ids: transactions, tokens, profiles, sockets."""
    if isinstance(value, dict):
        return {key: n if key in ("chargingProfileId", "seqNo") else renamed(inner, n) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner, n) for inner in value]
    return {"TAG": f"TAG{n}", "tx": f"tx{n}", 5: 1000 + n}.get(value, value) if isinstance(value, str | int) else value


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", ["everything", "never ended"])
def test_nine_hundred_new_ids_weigh_no_more_than_three_hundred(version: str, which: str) -> None:
    """Sessions that never end, badges that come once, profiles without number: each has a bound."""
    kept = {
        "everything": lambda action, call: True,
        "never ended": lambda action, call: action != "StopTransaction" and call.get("eventType") != "Ended",
    }[which]
    visit = [frame for frame in VISITS[version] if kept(frame[1], frame[2])]
    for observer in (observers(version)[0], observers(version)[2]):
        weights: list[int] = []
        for n in range(900):
            now = Instant(100.0 + n, START + n)
            for sender, action, call, answer in visit:
                texts = [json.dumps(renamed(each, n)).encode() for each in ([2, f"{n}", action, call], [3, f"{n}", answer])]
                observer.saw(Exchange(sender, action, texts[0], texts[1], CALLRESULT, None), now)  # type: ignore[arg-type]
            if n in (299, 899):
                weights.append(weight(observer))
        assert weights[1] <= 1.2 * weights[0] + 20_000, f"{type(observer).__name__} grows"
