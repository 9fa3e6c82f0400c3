"""Which rungs are worth a try, in which order; what is known of a station after a restart; the ids of our profiles."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.model.observations import Capabilities
from broker.model.records import Fact
from broker.profiles.ladder import IDS, PLACES, Ladder, Rung, abilities_fact, abilities_of, merged, profile_id

EXTERNAL = st.none() | st.sampled_from([0, IDS - 2, IDS - 1, IDS, IDS + 1]) | st.integers(0, 2**31)


@given(EXTERNAL)
def test_ids_are_above_the_stations_own_and_no_two_are_the_same(max_external: int | None) -> None:
    ids = [profile_id(purpose, evse, max_external) for evse in range(20) for purpose in PLACES]
    assert len(set(ids)) == len(ids)
    assert min(ids) > max(IDS, max_external or 0)


def test_where_they_begin() -> None:
    assert IDS == 9_120_000, "what stands at stations bears these: a newer version of us must know them again"
    assert profile_id("max", 0, None) == IDS + 1
    assert profile_id("tx", 3, IDS) == IDS + 1 + 30 + PLACES["tx"]


# ---------------------------------------------------------------- rungs


def rungs(ladder: Ladder, top: int | None = 8, **used: int) -> list[str]:
    return [str(rung) for rung in ladder.rungs(top, used.get)]


def test_each_purpose_in_order_from_the_highest_level_and_then_the_lowest() -> None:
    assert rungs(Ladder(["tx", "default"])) == ["tx:8", "tx:0", "default:8", "default:0"]
    assert rungs(Ladder(["default"]), top=0) == ["default:0"], "once"
    assert rungs(Ladder(["default"]), top=None) == ["default:0"], "it does not say how many levels it has"


def test_ours_is_above_the_cpms_s_or_is_not_tried() -> None:
    ladder = Ladder(["tx", "default"])
    assert rungs(ladder, tx=3) == ["tx:8", "tx:4", "default:8", "default:0"]
    assert rungs(ladder, tx=7) == ["tx:8", "default:8", "default:0"]
    assert rungs(ladder, tx=8) == ["default:8", "default:0"]
    assert rungs(ladder, top=None, default=2) == ["tx:0", "default:3"]


def test_what_is_refused_is_remembered_until_it_is_forgiven() -> None:
    ladder = Ladder(["tx", "default"])
    ladder.refuse(Rung("tx", 8))
    fact = ladder.refuse(Rung("default", 0))
    assert fact == Fact("quirk", "rung", ["default:0", "tx:8"])
    assert rungs(ladder) == rungs(Ladder(["tx", "default"], [fact])) == ["tx:0", "default:8"]
    assert ladder.forgive() == Fact("quirk", "rung", None)
    assert len(rungs(ladder)) == 4


@pytest.mark.parametrize(
    "fact", [Fact("quirk", "taken", ["tx:8"]), Fact("quirk", "rung", None), Fact("quirk", "rung", "tx:8"), Fact("x", "rung", ["tx:8"])]
)
def test_other_facts_refuse_nothing(fact: Fact) -> None:
    assert len(rungs(Ladder(["tx"], [fact]))) == 2


# ---------------------------------------------------------------- what it can

SAID = Capabilities(8, frozenset({"A", "W"}), 10, 5, 2, False, 999, True)


def test_what_it_said_is_known_after_a_restart() -> None:
    fact = abilities_fact(SAID)
    assert fact.value["units"] == ["A", "W"]
    assert abilities_of([Fact("boot", "last", {}), Fact(fact.topic, fact.name, json.loads(json.dumps(fact.value)))]) == SAID
    assert abilities_of([abilities_fact(Capabilities())]) == Capabilities()


def test_what_another_version_of_us_knew_is_passed_over() -> None:
    assert abilities_of([Fact("capability", "capability", {"max_periods": 7, "of_tomorrow": 1, "units": []})]) == Capabilities(
        max_periods=7
    )
    assert abilities_of([Fact("capability", "capability", None), Fact("capability", "capability", [8])]) == Capabilities()
    assert abilities_of([Fact("else", "capability", {"max_periods": 7})]) == Capabilities()


def test_what_is_said_last_counts_field_by_field() -> None:
    assert merged(SAID, Capabilities(max_periods=3, smart_charging=False)) == Capabilities(
        8, frozenset({"A", "W"}), 3, 5, 2, False, 999, False
    )
    assert merged(SAID, Capabilities()) == SAID
