"""A CPMS CALL that waits for ours goes once: when all that it waited for is settled, or when everybody goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.guards import Guards


def test_it_goes_when_ours_made_way_on_every_evse() -> None:
    guards = Guards()
    guards.add(1, {1, 2}, after=None)
    assert guards.settled(10, 1) == []
    assert guards.waits_on(2)
    assert not guards.waits_on(1)
    assert guards.settled(11, 2) == [(1, frozenset({1, 2}))]
    assert not guards.waits_on(2)
    assert len(guards) == 0


def test_the_end_of_what_was_under_way_already_is_not_what_it_waits_for() -> None:
    guards = Guards()
    guards.add(1, {1}, after=10)
    assert guards.settled(10, 1) == []
    assert guards.settled(10, 1) == [(1, frozenset({1}))], "a token is passed over once"


def test_what_is_something_else_frees_nobody() -> None:
    guards = Guards()
    guards.add(1, {1}, after=None)
    assert guards.settled(10, 0) == []
    assert guards.settled(11, 2) == []
    assert guards.all() == [(1, frozenset({1}))]
    assert guards.all() == []


def test_what_it_waits_for_is_its_own() -> None:
    """Whoever asked may go on changing the set that it gave."""
    guards, places = Guards(), {1}
    guards.add(1, places, after=None)
    places.add(2)
    assert guards.settled(10, 1) == [(1, frozenset({1}))]


adds = st.tuples(st.just("add"), st.sets(st.integers(1, 3), min_size=1), st.none() | st.integers(0, 4))
ends = st.tuples(st.just("settled"), st.integers(0, 4), st.integers(0, 3))


@given(st.lists(adds | ends, max_size=30))
def test_each_goes_once_and_never_before_its_evses_are_free(story: list[tuple[str, object, object]]) -> None:
    guards = Guards()
    waits: dict[int, set[int]] = {}
    given_: dict[int, frozenset[int]] = {}
    gone: list[tuple[int, frozenset[int]]] = []
    for token, (deed, one, other) in enumerate(story):
        if deed == "add":
            assert isinstance(one, set)
            guards.add(token, one, other if isinstance(other, int) else None)
            waits[token], given_[token] = set(one), frozenset(one)
            continue
        assert isinstance(one, int)
        assert isinstance(other, int)
        ready = guards.settled(one, other)
        gone += ready
        for left in waits.values():
            left.discard(other)
        assert all(not waits[each] for each, _ in ready)
    gone += guards.all()
    assert sorted(each for each, _ in gone) == sorted(given_)
    assert all(concerned == given_[each] for each, concerned in gone)
