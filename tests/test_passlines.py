"""Which passwords count: laws over any sequence of what a CPMS gives, what a station comes with, and what the operator writes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import passlines
from broker.model.records import Fact
from broker.passwords import hashed
from broker.settings import StationSettings, TenantSettings

LINES = [hashed(b"password-%d" % n, b"%016d" % n) for n in range(6)]
LISTED, OTHER = LINES[0], LINES[1]
GIVEN = st.integers(2, 5)


def kept(fact: Fact | None) -> list[Fact]:
    return [] if fact is None else [Fact(fact.topic, fact.name, json.loads(json.dumps(fact.value)))]


@given(st.lists(st.tuples(st.sampled_from(["given", "came"]), GIVEN | st.just(0))))
def test_the_newest_always_counts_and_those_before_until_it_was_used(steps: list[tuple[str, int]]) -> None:
    facts: list[Fact] = []
    newest, before = LISTED, set[str]()
    for what, n in steps:
        lines, line = passlines.lines_of(facts, LISTED), LINES[n]
        if what == "given":
            facts = kept(passlines.given(lines, line, LISTED))
            before, newest = before | {newest}, line
        elif line in lines:
            facts = kept(passlines.came(lines, line, LISTED)) or facts
            before = set() if line == newest else before
        lines = passlines.lines_of(facts, LISTED)
        assert lines[0] == newest
        assert set(lines[1:]) <= before | {newest}
        assert bool(before) <= (len(lines) > 1)
        assert len(lines) <= passlines.MOST


def test_who_changes_the_station_list_has_the_last_word() -> None:
    facts = kept(passlines.given((LISTED,), LINES[2], LISTED))
    assert passlines.lines_of(facts, LISTED) == (LINES[2], LISTED)
    assert passlines.lines_of(facts, OTHER) == (OTHER,)


@pytest.mark.parametrize(
    "value",
    [None, 1, [], {}, {"listed": LISTED}, {"listed": LISTED, "lines": None}, {"listed": LISTED, "lines": [1, "x", None]}],
)  # fmt: skip
def test_a_fact_that_is_damaged_is_none(value: object) -> None:
    assert passlines.lines_of([Fact("password", "lines", value)], LISTED) == (LISTED,)


def test_whose_passwords_are_looked_at() -> None:
    with_line, without = StationSettings("A", "relay", password_hash=LISTED), StationSettings("B", "relay")
    for credentials, expected in (("forward", (False, False)), ("check", (True, True)), ("replace", (True, False))):
        tenant = TenantSettings("acme", "ws://x", credentials=credentials)  # type: ignore[arg-type]
        assert (passlines.judged(tenant, with_line), passlines.judged(tenant, without)) == expected
