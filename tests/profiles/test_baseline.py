"""What a station said is in force: exact under a transaction, at its lowest before it, unknown when refused; and after a restart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.model.observations import CompositeSeen
from broker.model.records import Fact
from broker.model.schedules import Period
from broker.profiles.baseline import Baseline
from broker.profiles.composite import Place

T = 1_768_046_400.0


def said(evse: int, *limits: float, unit: str = "A", accepted: bool = True, start: float | None = T) -> CompositeSeen:
    return CompositeSeen(evse, start, unit, tuple(Period(600 * nth, limit) for nth, limit in enumerate(limits)), accepted)


def lows(baseline: Baseline, evse: int = 1, **place: Any) -> Any:
    found = baseline.courses(Place(evse, **place), T, T + 3600)
    return None if found is None else [[(span.at - T, span.low) for span in one.spans] for one in found]


def asked(*seen: CompositeSeen, exact: bool = False, **how: Any) -> Baseline:
    baseline = Baseline(True, how.pop("ac", True), **how)
    for one in seen:
        baseline.answered(one, exact)
    return baseline


def test_nothing_is_known_before_socket_and_station_were_asked() -> None:
    assert asked().to_ask(1) == (1, 0)
    assert lows(asked(said(1, 16.0))) is None
    assert lows(asked(said(1, 16.0), said(0, 20.0))) == [[(0, 16.0)], [(0, 20.0)]]


def test_exact_period_by_period_else_the_lowest() -> None:
    assert lows(asked(said(1, 16.0, 8.0, 32.0), said(0, 32.0), exact=True))[0] == [(0, 16.0), (600, 8.0), (1200, 32.0)]
    assert lows(asked(said(1, 16.0, 8.0, 32.0), said(0, 32.0)))[0] == [(0, 8.0)]
    assert lows(asked(said(1, 16.0, 8.0, start=None), said(0, 32.0), exact=True))[0] == [(0, 8.0)]
    odd = CompositeSeen(1, T, "A", (Period(5, 16.0), Period(0, 8.0)))
    assert lows(asked(odd, said(0, 32.0), exact=True))[0] == [(0, 8.0)]


def test_what_varies_is_worth_another_question() -> None:
    assert asked(said(1, 16.0, 8.0)).varies(1)
    assert not asked(said(1, 16.0, 16.0)).varies(1)
    assert not asked(said(1, 16.0, 8.0), exact=True).varies(1)
    assert not asked().varies(1)


@pytest.mark.parametrize("refused", [said(1, accepted=False), said(1)])
def test_refused_or_empty_is_unknown_until_forgotten(refused: CompositeSeen) -> None:
    baseline = asked(said(0, 20.0), refused)
    assert (baseline.to_ask(1), lows(baseline)) == ((), None)
    assert baseline.forget(1) == (Fact("cpms-limit", "read-1", None),)
    assert baseline.forget(1) == ()
    assert baseline.to_ask(1) == (1,)


def test_watts_are_taken_as_low_as_they_can_be_meant() -> None:
    assert lows(asked(said(1, 6900.0, unit="W"), said(0, 32.0)))[0] == [(0, 10.0)]
    assert lows(asked(said(1, 100.0), said(0, 90_000.0, unit="W"), ac=False), ac=False) == [[(0, pytest.approx(23_000.0))], [(0, 90_000.0)]]


def test_what_was_overheard_counts_at_its_lowest_and_is_forgotten_only_where_we_ask() -> None:
    quiet, asking = Baseline(False, True), asked(said(1, 32.0), said(0, 32.0))
    for baseline in (quiet, asking):
        for one in (said(1, 16.0), said(1, 8.0, 20.0), said(1, 32.0), said(1, accepted=False)):
            baseline.overheard(one)
        assert [(0, 8.0)] in lows(baseline)
        baseline.forget()
    assert lows(quiet) == [[(0, 8.0)]]
    assert lows(asked(said(1, 32.0), said(0, 32.0))) == [[(0, 32.0)], [(0, 32.0)]]
    assert {fact.name for fact in quiet.cleared()} == {"heard-1"}
    assert lows(quiet) == []


def test_a_restart_keeps_the_lowest() -> None:
    before = asked(said(1, 16.0, 8.0), exact=True)
    facts = (*before.answered(said(1, 16.0, 8.0), True), *before.answered(said(0, accepted=False), True), *before.overheard(said(2, 7.0)))
    kept = [Fact(fact.topic, fact.name, json.loads(json.dumps(fact.value))) for fact in facts]
    after = Baseline(True, True, kept)
    assert after.to_ask(1) == ()
    assert lows(after) is None
    after.answered(said(0, 32.0), False)
    assert lows(after) == [[(0, 8.0)], [(0, 32.0)]]
    assert lows(Baseline(False, True, kept), 2) is None  # the station's own was refused


@pytest.mark.parametrize("value", [3, {}, {"lowest": "x"}, {"lowest": float("nan")}, {"lowest": None}])
def test_what_another_version_remembered_of_an_answer_is_unknown(value: object) -> None:
    assert lows(Baseline(True, True, [Fact("cpms-limit", "read-1", value), Fact("cpms-limit", "read-0", value)])) is None
