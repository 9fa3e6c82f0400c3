"""Whatever happens how often: few lines of a kind, each that was not said is in one number, and the table is bounded."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from broker.sparing import Sparing

STORIES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.01, 0.5, 3.0, 9.99, 10.0, 40.0])), max_size=200)


@given(STORIES, st.integers(0, 3), st.integers(1, 8))
def test_each_is_said_or_in_a_number_and_neither_grows(story: list[tuple[int, float]], first: int, most: int) -> None:
    sparing: Sparing[int] = Sparing(first, 10.0, most)
    said: list[tuple[int, float]] = []
    told: Counter[int | None] = Counter()
    now = 0.0
    for kind, wait in story:
        now += wait
        for spared in sparing.due(now):
            assert spared.n > 0
            told[spared.kind] += spared.n
        if sparing.happened(kind, now):
            said.append((kind, now))
        assert len(sparing) <= most + 1
        wake_at = sparing.wake_at
        assert wake_at is None or now < wake_at <= now + 10.0, "it is not forgotten"
    for spared in sparing.rest():
        told[spared.kind] += spared.n
    assert not len(sparing)
    assert sparing.wake_at is None
    assert len(said) + told.total() == len(story)
    happened = Counter(kind for kind, _ in story)
    for kind in happened:
        times = [at for one, at in said if one == kind]
        assert len(times) + told[kind] <= happened[kind]
        # Two windows of a kind do not overlap; while there is no room a kind may speak for the others too.
        in_a_window = max((sum(at <= other < at + 10.0 for other in times) for at in times), default=0)
        assert in_a_window <= 3 * first


def test_the_first_of_each_minute_are_said() -> None:
    sparing: Sparing[str] = Sparing()
    assert [sparing.happened("404", float(n)) for n in range(7)] == [True] * 5 + [False] * 2
    assert sparing.happened("401", 7.0), "another kind has its own"
    assert sparing.wake_at == 60.0
    assert sparing.due(59.9) == []
    assert sparing.due(60.0) == [("404", 2)]
    assert sparing.due(61.0) == [], "once"
    assert sparing.happened("404", 61.0)
    assert sparing.due(1000.0) == [], "nothing was left unsaid"
    assert not len(sparing), "and nothing is kept of it"


def test_who_finds_no_room_shares_a_place() -> None:
    sparing: Sparing[str] = Sparing(1, 60.0, 2)
    assert [sparing.happened(kind, 0.0) for kind in "aabcde"] == [True, False, True, True, False, False]
    assert sparing.due(60.0) == [("a", 1), (None, 2)]
