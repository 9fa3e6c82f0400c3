from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.ocpp import fields

anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.integers())
    | st.dictionaries(st.text(), st.integers())
)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (" a\0b ", "ab"), ("\ud800é", "?é"), ("x" * 300, "x" * 255), (5, ""), (None, ""), (["a"], "")],
)
def test_text(value: Any, text: str) -> None:
    assert fields.text(value) == text


def test_a_name_is_never_cut() -> None:
    assert fields.name(" 04AABB ") == "04AABB"
    assert fields.name("x" * 255) == "x" * 255
    assert fields.name("x" * 256) is None
    assert fields.name(" \0 ") is None
    assert fields.name(5) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [(2**64 - 1, 2**64 - 1), (2**64, None), (-(2**63), -(2**63)), (-(2**63) - 1, None), (2.0**53, 2**53), (2.0**54, None)],
)
def test_whole_numbers_have_64_bits_and_are_exact(value: Any, number: int | None) -> None:
    assert fields.whole(value) == number


@pytest.mark.parametrize(
    ("value", "number"),
    [(0, 0), ("3", 3), (1.0, 1), (-1, None), (2**31, None), (True, None), ("", None), (math.nan, None), (math.inf, None)],
)
def test_places(value: Any, number: int | None) -> None:
    assert fields.place(value) == number


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400, "1e999", "nan", "", True, None, [1]])
def test_what_is_no_finite_number(value: Any) -> None:
    assert fields.number(value) is None


def test_containers() -> None:
    assert fields.mapping([1]) == {}
    assert fields.mapping({"a": 1}) == {"a": 1}
    assert fields.several({"a": 1}) == [{"a": 1}]
    assert fields.several([1, 2]) == [1, 2]
    assert fields.several("ab") == []


@given(anything)
@settings(max_examples=200)
def test_nothing_raises_and_everything_that_comes_out_can_be_stored(value: Any) -> None:
    number, whole = fields.number(value), fields.whole(value)
    assert number is None or math.isfinite(number)
    assert whole is None or -(2**63) <= whole < 2**64
    assert len(fields.text(value).encode()) <= 4 * fields.LONGEST
    assert fields.name(value) != ""
    assert isinstance(fields.mapping(value), dict)
    assert isinstance(fields.several(value), list)
