"""The scrape: every name that dashboards rely on, with its labels."""

from __future__ import annotations

import re
from pathlib import Path

from broker.counts import Counts
from broker.net.metrics import COUNTERS, TIMINGS, Gauges, exposition


def scrape(counts: Counts) -> str:
    gauges = Gauges(links=lambda: {("acme", "ocpp1.6"): 3}, outbox=lambda: {"acme": (7, 1.5)})
    return exposition(counts, gauges)().decode()


def test_counts_and_gauges_are_told_with_their_labels() -> None:
    counts = Counts()
    counts.add("frames", "to-cpms", "call", n=2)
    counts.add("frames", "to-cpms", "call")
    counts.add("injected", "SetChargingProfile", "Accepted")
    text = scrape(counts)
    assert 'ocppbroker_frames_total{direction="to-cpms",kind="call"} 3.0' in text
    assert 'ocppbroker_injected_total{action="SetChargingProfile",outcome="Accepted"} 1.0' in text
    assert 'ocppbroker_links{tenant="acme",version="ocpp1.6"} 3.0' in text
    assert 'ocppbroker_outbox_pending{tenant="acme"} 7.0' in text
    assert 'ocppbroker_outbox_oldest_seconds{tenant="acme"} 1.5' in text


def test_a_counter_without_labels_stands_at_zero_before_it_counts() -> None:
    assert "ocppbroker_tap_failures_total 0.0" in scrape(Counts())


def test_a_timing_is_a_cumulative_histogram() -> None:
    counts = Counts()
    for seconds in (0.0001, 0.003, 9.0):
        counts.took("relay_seconds", seconds)
    text = scrape(counts)
    assert 'ocppbroker_relay_seconds_bucket{le="0.0001"} 1.0' in text
    assert 'ocppbroker_relay_seconds_bucket{le="0.005"} 2.0' in text
    assert 'ocppbroker_relay_seconds_bucket{le="+Inf"} 3.0' in text
    assert "ocppbroker_relay_seconds_count 3.0" in text
    assert "ocppbroker_relay_seconds_sum 9.0031" in text


BROKER = Path(__file__).parent.parent.parent / "broker"
SOURCES = {path: path.read_text(encoding="utf-8") for path in BROKER.rglob("*.py") if path.name != "metrics.py"}


def test_whatever_is_counted_anywhere_is_listed_with_as_many_labels() -> None:
    counted = re.compile(r'counts\.(add|took)\(\s*"(\w+)"')
    found = {(kind, name) for text in SOURCES.values() for kind, name in counted.findall(text)}
    assert len(found) > 5
    unlisted = {name for kind, name in found if name not in (COUNTERS if kind == "add" else TIMINGS)}
    assert not unlisted, f"counted but never shown: {sorted(unlisted)}"


def test_whatever_is_listed_is_counted_somewhere() -> None:
    listed = {*COUNTERS, *TIMINGS}
    uncounted = {name for name in listed if not any(f'"{name}"' in text for text in SOURCES.values())}
    assert not uncounted, f"shown but never counted: {sorted(uncounted)}"
