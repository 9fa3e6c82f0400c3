from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from broker.model.observations import Proven
from broker.model.traffic import Exchange
from broker.ocpp.dialects import BY_NAME
from broker.ocpp.exchanges import Observations, Payload, answer, observe, payload

CHARGING = BY_NAME["ocpp1.6"].charging


def shown(call: bytes = b'[2,"1","Told",{"a":1}]', said: bytes | None = None, kind: int = 0, sender: Any = "station") -> Exchange:
    return Exchange(sender, "Told", call, said, kind, None)


def read(exchange: Exchange) -> tuple[Observations, list[tuple[Payload, Payload | None]]]:
    got: list[tuple[Payload, Payload | None]] = []

    def reader(call: Payload, answer: Payload | None) -> Observations:
        got.append((call, answer))
        return (Proven("read"),)

    return observe(exchange, {"Told": reader}, CHARGING), got


def test_a_reader_gets_both_payloads() -> None:
    assert read(shown()) == ((Proven("read"),), [({"a": 1}, None)])
    assert read(shown(said=b'[3,"1",{"b":2}]', kind=3))[1] == [({"a": 1}, {"b": 2})]


def test_an_error_is_no_answer_and_a_null_an_empty_one() -> None:
    assert read(shown(said=b'[4,"1","InternalError","",{}]', kind=4))[1] == [({"a": 1}, None)]
    assert read(shown(said=b'[3,"1",null]', kind=3))[1] == [({"a": 1}, {})]


def test_nobody_reads_what_is_not_the_station_s_or_not_known() -> None:
    assert read(shown(sender="cpms")) == ((), [])
    assert observe(shown(), {}, CHARGING) == ()


def test_a_station_cannot_clear_limits_in_the_cpms_s_name() -> None:
    clear = Exchange("cpms", "ClearChargingProfile", b'[2,"1","ClearChargingProfile",{}]', b'[3,"1",{"status":"Accepted"}]', 3, None)
    assert observe(clear, {}, CHARGING)
    assert observe(structs.replace(clear, sender="station"), {}, CHARGING) == ()


def test_without_a_call_it_is_proof() -> None:
    assert read(shown(b"", b"", 3)) == ((Proven("Told"),), [])
    assert read(shown(b"", b"", 4)) == ((), [])


def test_a_payload_is_an_object() -> None:
    with pytest.raises(ValueError, match="no object"):
        payload(shown(b'[2,"1","Told",[]]'))
    with pytest.raises(ValueError, match=r"."):
        answer(shown(said=b"[3", kind=3))
