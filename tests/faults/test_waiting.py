"""Rows whose stories take half a minute and more: they were begun when the session began (slow.py), and are judged here at its end."""

from __future__ import annotations

import pytest
from faults.outside import INNOCENT_MOST_S, LATE_S, told
from faults.slow import Slow


def test_row_10_a_flood_of_pings_whose_pongs_nobody_reads_ends_with_the_stall(slow: Slow) -> None:
    seen = slow.of("10")
    told("10", seen)
    assert seen["upstream_codes"] == [1001]
    assert 20.0 <= seen["dropped_after_s"] <= 25.0 + LATE_S


@pytest.mark.parametrize("row", ["30", "31"])
def test_row_30_31_who_reads_nothing_stops_who_talks_and_is_dropped_at_the_stall(slow: Slow, row: str) -> None:
    seen = slow.of(row)
    told(row, seen)
    assert seen["held"] <= 256 * 1024 + seen["frame"]
    assert seen["poured"] < 400 * seen["frame"], "the talker was stopped"
    assert seen["codes"] == [1001]
    assert 20.0 <= seen["dropped_after_s"] <= 28.0 + LATE_S
    assert "Gone" in seen["deaf_end"]


def test_row_33_a_peer_that_went_without_an_end_is_found_out_and_the_other_told(slow: Slow) -> None:
    seen = slow.of("33")
    told("33", seen)
    for name, one in seen.items():
        assert one["codes"] == [1001], name
        assert one["dead_end"] in ("eof", "reset"), name
        assert one["told_s"] <= 45.0 + LATE_S, name


def test_row_34_ten_seconds_without_a_network_lose_nothing(slow: Slow) -> None:
    seen = dict(slow.of("34"))
    heard = seen.pop("heard")
    told("34", seen)
    texts = [b'[2,"%d","Heartbeat",{}]' % n for n in range(seen["said"])]
    assert seen["held_s"] >= 9.0
    assert heard == {"station": texts, "cpms": texts}
    assert seen["codes"] == [1000], "the connection was kept"


def test_row_f11_a_process_that_stood_still_reads_what_came_before_it_judges_anybody(slow: Slow) -> None:
    seen = slow.of("F11")
    told("F11", seen)
    assert seen["stood_still_s"] >= 20.0
    assert (seen["kept"], seen["errors"]) == (5, [])


def test_nobody_was_harmed_meanwhile(slow: Slow) -> None:
    seen = slow.of("all")
    told("all that waits", seen)
    assert seen["exit"] == 0
    assert seen["errors"] == []
    assert seen["innocent"]["lost"] == 0
    assert seen["innocent"]["max_ms"] <= 1000 * INNOCENT_MOST_S
    assert seen["grew_mib"] <= 16.0
