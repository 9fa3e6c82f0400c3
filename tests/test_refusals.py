"""Does a CPMS refuse everybody, or is it one station's own affair?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.refusals import MANY, STATIONS, Refusals

DIALS = st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from([101, 401, 403, 404, 500, 503])), max_size=60)


@given(DIALS)
def test_it_is_said_when_enough_in_a_row_speak_of_the_cpms_itself(dials: list[tuple[str, int]]) -> None:
    one, row = Refusals(), list[tuple[str, int]]()
    for station, status in dials:
        if status == 101:
            one.accepted()
            row.clear()
        else:
            one.refused(station, status)
            row.append((station, status))
        many = len(row) >= MANY and (row[-1][1] >= 500 or len({who for who, _ in row}) >= STATIONS)
        assert bool(one.said) == many
        assert not many or (f"the last {len(row)} dials" in one.said and str(row[-1][1]) in one.said)


def test_one_station_alone_is_enough_for_a_cpms_that_says_it_is_broken() -> None:
    one = Refusals()
    for _ in range(MANY):
        one.refused("CS-7", 500)
    assert one.said == "the CPMS refused the last 10 dials of one station, at last with 500: it takes nobody"
