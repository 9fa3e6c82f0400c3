"""The ids of our profiles: stable, each its own, and above those that a 2.1 station keeps for others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.profiles.ladder import IDS, PLACES, profile_id

EXTERNAL = st.none() | st.sampled_from([0, IDS - 2, IDS - 1, IDS, IDS + 1]) | st.integers(0, 2**31)


@given(EXTERNAL)
def test_ids_are_above_the_stations_own_and_no_two_are_the_same(max_external: int | None) -> None:
    ids = [profile_id(purpose, evse, max_external) for evse in range(20) for purpose in PLACES]
    assert len(set(ids)) == len(ids)
    assert min(ids) > max(IDS, max_external or 0)


def test_where_they_begin() -> None:
    assert profile_id("max", 0, None) == IDS + 1
    assert profile_id("tx", 3, IDS) == IDS + 1 + 30 + PLACES["tx"]
