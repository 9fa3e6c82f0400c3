from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import blanks, ids, json_strings, spelled_arrays

from broker.ocpp.frames import Frame, Head, call, frame, payload_of, read_head


@pytest.mark.parametrize(
    ("text", "head"),
    [
        (b'[2,"1","Heartbeat",{}]', Head(2, "1", "Heartbeat")),
        (b'[ 2 ,\t"1",\n "Heartbeat" , {}]', Head(2, "1", "Heartbeat")),
        (b'[3,"19223201",{"currentTime":"2013-02-01T20:53:32.486Z"}]', Head(3, "19223201", "")),
        (b'[4,"1","NotSupported","",{}]', Head(4, "1", "")),
        (b'[5,"1","FormatViolation","",{}]', Head(5, "1", "")),
        (b'[6,"1","NotifyPeriodicEventStream",{}]', Head(6, "1", "NotifyPeriodicEventStream")),
        (b'[3,"\\u0031",{}]', Head(3, "1", "")),
        (b'[2,"1","Heart\\u0062eat",{}]', Head(2, "1", "Heartbeat")),
        (b' [3,"a\\"b",{}]', Head(3, 'a"b', "")),
        (b"[3,5,{}]", Head(3, "5", "")),
        (b"[3,5.0,{}]", Head(3, "5.0", "")),
        (b"[4,-1]", Head(4, "-1", "")),
        (b'[3.0,"1",{}]', Head(3, "1", "")),
        (b'["3","1",{}]', Head(3, "1", "")),
        (b'\xef\xbb\xbf[3,"1",{}]', Head(3, "1", "")),
        ('[3,"\u00fc",{}]'.encode(), Head(3, "\u00fc", "")),
        (b'[3,"\\ud800",{}]', Head(3, "\ud800", "")),
        (b"[3," + b"9" * 5000 + b",{}]", Head(3, "9" * 5000, "")),
    ],
)
def test_a_head_is_read_in_any_spelling(text: bytes, head: Head) -> None:
    assert read_head(text) == head


@pytest.mark.parametrize(
    "text",
    [b'[3,"1",{"configurationKey":[]', b'[3,"1"', b'[3,"1" oops', b'[3,"1",{}]]', b'[3,"1",\xff', b' [3,"\\u0031",{', b'[3,1,{"a":'],
)
def test_the_beginning_decides_even_if_the_end_is_broken(text: bytes) -> None:
    assert read_head(text) == Head(3, "1", "")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[",
        b"\x00",
        b"null",
        b'"[3,"',
        b'{"2":"1"}',
        b'[1,"1",{}]',
        b'[7,"1","Heartbeat",{}]',
        b'[22,"1","Heartbeat",{}]',
        b'[-3,"1",{}]',
        b'[2.5,"1",{}]',
        b'[0x3,"1",{}]',
        b'[03,"1",{}]',
        b'["three","1",{}]',
        b'[1e999,"1",{}]',
        b'[NaN,"1",{}]',
        b'[true,"1",{}]',
        b'[2,"1"]',
        b'[2,"1",5,{}]',
        b'[2,"1","Heart',
        b"[3,null,{}]",
        b"[3,5x,{}]",
        b"[3,[5],{}]",
        b'[3,"1',
        b'[3,"\xff",{}]',
        b'[3,"\\q",{}]',
        b'[3,"a\tb",{}]',
        b'[[3],"1",{}]',
        b"[" * 100_000,
        b"[3," + b"[" * 100_000,
        b"[" + b"3" * 5000 + b',"1",{}]',
        b'[3,"' + b"\\u0031" * 10_000,
    ],
)
def test_other_beginnings_are_no_frame(text: bytes) -> None:
    assert read_head(text) is None


class Number(str):
    """How a number was spelled."""


def as_json_says(text: bytes) -> Head | None:
    """The head according to a JSON parser that reads the whole text."""
    elements: list[Any] = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number)
    if len(elements) < 2 or not isinstance(elements[1], str) or not isinstance(elements[0], str):
        return None
    try:
        kind = float(elements[0])
    except ValueError:
        return None
    if kind not in (2, 3, 4, 5, 6):
        return None
    if kind in (3, 4, 5):
        return Head(int(kind), str(elements[1]), "")
    if len(elements) < 3 or not isinstance(elements[2], str) or isinstance(elements[2], Number):
        return None
    return Head(int(kind), str(elements[1]), elements[2])


@settings(max_examples=400, deadline=None)
@given(spelled_arrays())
@example(b'[3,"\\u006fcb-0",{}]')
def test_the_pattern_agrees_with_a_json_parser(text: bytes) -> None:
    assert read_head(text) == as_json_says(text)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text('[]{}",: \\u0023456ocb-\t', max_size=40).map(str.encode)))
def test_nothing_makes_it_raise(text: bytes) -> None:
    head = read_head(text)
    assert head is None or head.kind in (2, 3, 4, 5, 6)
    with suppress(ValueError):
        payload_of(text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["3", "4", "3.0"]), ids, st.data(), st.binary(max_size=20))
def test_whatever_follows_an_id_the_answer_stays_that_answer(kind: str, id: str, data: st.DataObject, rest: bytes) -> None:
    spelled = data.draw(json_strings(st.just(id)))
    text = f"[{data.draw(blanks)}{kind},{data.draw(blanks)}{spelled}{data.draw(blanks)},".encode()
    assert read_head(text + rest) == Head(int(float(kind)), id, "")


def test_a_binary_frame_is_not_looked_into() -> None:
    assert frame(b'[3,"1",{}]', binary=True) == Frame(None, b'[3,"1",{}]', True, None)
    assert frame(b'[3,"1",{}]') == Frame(Head(3, "1", ""), b'[3,"1",{}]', False, None)


def test_a_call_of_ours_is_compact() -> None:
    assert call("ocb-1", "Reset", {"type": "Soft", "a": [1, 2.5]}) == b'[2,"ocb-1","Reset",{"type":"Soft","a":[1,2.5]}]'
    assert call("ocb-1", "Reset", b"{}") == b'[2,"ocb-1","Reset",{}]'
    with pytest.raises(ValueError, match="JSON compliant"):
        call("ocb-1", "Reset", {"limit": float("inf")})


@pytest.mark.parametrize(
    ("text", "payload"),
    [
        (b'[2,"1","Heartbeat",{"a":1}]', {"a": 1}),
        (b'[6,"1","Stream",[]]', []),
        (b'[3,"1",{"a":1}]', {"a": 1}),
        (b'[3,"1",null]', None),
        (b'[2,"1","Signed",{"a":1},{"extension":1}]', {"a": 1}),
    ],
)
def test_payloads(text: bytes, payload: object) -> None:
    assert payload_of(text) == payload


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b'[2,"1","Heartbeat"]',
        b'[3,"1"]',
        b'[4,"1","E","",{}]',
        b'[5,"1","E","",{}]',
        b'[7,"1",{}]',
        b'[3,"1",{"a":',
        b'[3,"1",' + b"[" * 100_000 + b"]" * 100_000 + b"]",
        b'[3,"1",' + b"9" * 5000 + b"]",
        b'[3,"1","\xff"]',
        b'{"a":[3,"1",{}]}',
    ],
)
def test_payloads_that_are_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        payload_of(text)


ODD = ["1e400", "NaN", '"\\ud800"', "123456789012345678901234567890", "-0.0", '{"a": 1, "a": 2}', "1E5", '"\x7f"']


@pytest.mark.parametrize("value", ODD)
def test_a_payload_is_what_python_says_it_is(value: str) -> None:
    text = f'[3,"1",{{"v":{value}}}]'.encode()
    assert repr(payload_of(text)) == repr(json.loads(text)[2])


_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(st.dictionaries(st.text(), _anything, max_size=4), st.booleans())
def test_any_payload_is_read_as_python_reads_it(payload: dict[str, Any], ascii_only: bool) -> None:
    text = json.dumps([3, "1", payload], ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert repr(payload_of(text)) == repr(json.loads(text)[2])
