"""The engine's schedules: believed whole, or refused with the field."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from contract import fits
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from broker.engine.v1 import V1
from broker.engine.v1_schedules import MOST_STEPS, parse_schedules
from broker.model.schedules import Step
from broker.ocpp.times import text
from broker.settings import EngineSettings

CODEC = V1(EngineSettings("http://127.0.0.1:1", "id", "secret"))
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def schedule(**more: Any) -> dict[str, Any]:
    return {
        "id": "s-1",
        "asset_id": "P-07",
        "issued_at": text(NOW),
        "valid_until": text(NOW + 3600),
        "periods": [{"start": text(NOW), "limit": 11000}, {"start": text(NOW + 900), "limit": 0}],
        **more,
    }


def parse(*schedules: Any) -> Any:
    return parse_schedules({"schedules": list(schedules), "cursor": "7"}, {"P-07", "P-08"}, NOW)


def test_a_schedule_is_taken_whole() -> None:
    assert fits("Schedule", schedule())
    parsed = parse(schedule(unit="A", phases=3, transactionId="u-1"))
    (taken,) = parsed.schedules
    assert (parsed.cursor, parsed.refused) == ("7", ())
    assert (taken.id, taken.asset, taken.unit, taken.phases, taken.transaction) == ("s-1", "P-07", "A", 3, "u-1")
    assert (taken.issued_at, taken.valid_until) == (NOW, NOW + 3600)
    assert taken.steps == (Step(NOW, 11000.0), Step(NOW + 900, 0.0))


def test_what_is_left_out_has_its_default() -> None:
    (taken,) = parse(schedule()).schedules
    assert (taken.unit, taken.phases, taken.transaction) == ("W", None, None)


def test_offsets_are_understood() -> None:
    (taken,) = parse(schedule(valid_until="2026-01-01t03:30:00.5+02:30")).schedules
    assert taken.valid_until == NOW + 3600.5


def periods(*pairs: tuple[float, Any]) -> list[dict[str, Any]]:
    return [{"start": text(at), "limit": limit} for at, limit in pairs]


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("id", {"id": ""}),
    ("id", {"id": "x" * 65}),
    ("id", {"id": 7}),
    ("id", {"id": "\ud800"}),
    ("asset_id", {"asset_id": "P-99"}),
    ("asset_id", {"asset_id": ["P-07"]}),
    ("unit", {"unit": "kW"}),
    ("unit", {"unit": None}),
    ("unit", {"unit": {}}),
    ("phases", {"phases": 0}),
    ("phases", {"phases": 4}),
    ("phases", {"phases": True}),
    ("phases", {"phases": 1.5}),
    ("transactionId", {"transactionId": 5}),
    ("transactionId", {"transactionId": "\udfff"}),
    ("issued_at", {"issued_at": None}),
    ("valid_until", {"valid_until": text(NOW)}),
    ("valid_until", {"valid_until": text(NOW - 1)}),
    ("valid_until", {"valid_until": text(NOW), "periods": periods((NOW - 900, 1))}),
    ("valid_until", {"valid_until": "soon"}),
    ("valid_until", {"valid_until": "2026-01-01T01:00:00"}),
    ("valid_until", {"valid_until": "2026-01-01 01:00:00Z"}),
    ("valid_until", {"valid_until": "9999-12-31T23:59:59-01:00"}),
    ("valid_until", {"periods": periods((NOW + 3600, 1))}),
    ("periods", {"periods": []}),
    ("periods", {"periods": None}),
    ("periods", {"periods": periods(*((NOW + n, 1) for n in range(MOST_STEPS + 1)))}),
    ("periods[1]", {"periods": [*periods((NOW, 1)), "later"]}),
    ("periods[0].start", {"periods": [{"limit": 5}]}),
    ("periods[0].start", {"periods": periods((NOW + 48 * 3600 + 1, 1)), "valid_until": text(NOW + 60 * 3600)}),
    ("periods[1].start", {"periods": periods((NOW, 1), (NOW, 2))}),
    ("periods[2].start", {"periods": periods((NOW, 1), (NOW + 2, 2), (NOW + 1, 3))}),
    ("periods[0].limit", {"periods": [{"start": text(NOW)}]}),
    ("periods[0].limit", {"periods": periods((NOW, float("nan")))}),
    ("periods[0].limit", {"periods": periods((NOW, float("inf")))}),
    ("periods[0].limit", {"periods": periods((NOW, float("-inf")))}),
    ("periods[0].limit", {"periods": periods((NOW, 1_000_001))}),
    ("periods[0].limit", {"periods": periods((NOW, 10**400))}),
    ("periods[0].limit", {"periods": periods((NOW, -1))}),
    ("periods[0].limit", {"periods": periods((NOW, "16"))}),
    ("periods[0].limit", {"periods": periods((NOW, True))}),
    ("periods[1].limit", {"periods": periods((NOW, 1), (NOW + 1, None))}),
]


@pytest.mark.parametrize(("field", "wrong"), WRONG)
def test_a_wrong_schedule_is_refused_whole_with_its_field_and_the_others_survive(field: str, wrong: dict[str, Any]) -> None:
    good = schedule(id="s-2", asset_id="P-08")
    parsed = parse(schedule(**wrong), good)
    assert [taken.id for taken in parsed.schedules] == ["s-2"]
    (outcome,) = parsed.refused
    assert outcome.status == "refused"
    assert outcome.detail.startswith(f"{field}: "), outcome.detail
    assert fits("Outcome", CODEC.outcome("acme", outcome).body)


@pytest.mark.parametrize("what", [None, 3, "s-1", [], [{}]])
def test_what_is_no_schedule_at_all_is_refused_and_the_others_survive(what: Any) -> None:
    parsed = parse(what, schedule(id="s-2", asset_id="P-08"))
    assert [taken.id for taken in parsed.schedules] == ["s-2"]
    (outcome,) = parsed.refused
    assert (outcome.status, outcome.detail) == ("refused", "is not an object")
    assert fits("Outcome", CODEC.outcome("acme", outcome).body)


@pytest.mark.parametrize("limit", [0, 1_000_000, 0.1])
def test_limits_that_are_just_right(limit: float) -> None:
    assert parse(schedule(periods=periods((NOW, limit)))).schedules[0].steps[0].limit == limit


def test_as_many_periods_as_are_legal_starting_as_late_as_is_legal() -> None:
    many = periods(*((NOW + 48 * 3600 + n, n) for n in range(MOST_STEPS)))
    (taken,) = parse(schedule(periods=many, valid_until=text(NOW + 60 * 3600))).schedules
    assert len(taken.steps) == MOST_STEPS == 1024


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"schedules": []},
        {"schedules": {}, "cursor": "1"},
        {"schedules": [], "cursor": 1},
        {"schedules": [], "cursor": "x" * 1025},
        {"schedules": [], "cursor": "\ud800"},
    ],
)
def test_an_answer_that_is_none_is_said_in_one_line(body: Any) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parse_schedules(body, {"P-07"}, NOW)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.just("\ud800")
    | st.just(text(NOW + 5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
spots = st.sampled_from(
    ["id", "asset_id", "unit", "phases", "transactionId", "issued_at", "valid_until", "periods", "start", "limit", "all"]
)


@given(st.lists(st.tuples(spots, anything), max_size=4), st.booleans())
@effort(max_examples=200, deadline=None)
def test_whatever_the_engine_says_is_taken_or_refused_or_a_value_error(changes: list[tuple[str, Any]], gone: bool) -> None:
    one = copy.deepcopy(schedule())
    for spot, value in changes:
        if spot == "all":
            one = value
        elif not isinstance(one, dict):
            break
        elif spot in ("start", "limit") and isinstance(one.get("periods"), list) and one["periods"] and isinstance(one["periods"][0], dict):
            one["periods"][0][spot] = value
        elif gone:
            one.pop(spot, None)
        else:
            one[spot] = value
    parsed = parse(one)
    assert len(parsed.schedules) + len(parsed.refused) == 1
    for taken in parsed.schedules:
        assert taken.asset in ("P-07", "P-08")
        assert taken.valid_until > NOW
        assert all(0 <= step.limit <= 1e6 for step in taken.steps)
        assert list(taken.steps) == sorted(set(taken.steps))
        assert all(text(step.at) for step in taken.steps)
    for outcome in parsed.refused:
        assert fits("Outcome", json.loads(json.dumps(CODEC.outcome("acme", outcome).body)))


@given(anything)
@effort(max_examples=100, deadline=None)
def test_any_answer_at_all(body: Any) -> None:
    try:
        parsed = parse_schedules(body, {"P-07"}, NOW)
    except ValueError:
        return
    assert parsed.schedules == ()
