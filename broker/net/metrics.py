"""What Prometheus reads: the plain integers of `broker.counts` and a few gauges, put into families at scrape time.

Counting on the relay's path is a dictionary update; everything here runs only when somebody scrapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from broker.counts import BUCKETS_S, Counts, Timing

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "frames": ("OCPP-J frames passed on", ("direction", "kind")),
    "opaque_frames": ("frames passed on that are not an OCPP-J array we know", ()),
    "refused": ("connections refused", ("reason", "whose")),
    "other_user_names": ("handshakes whose HTTP Basic user name is not the identity in the path; the CPMS judges them", ()),
    "injected": ("CALLs of ours to stations, by what became of them", ("action", "outcome")),
    "engine_requests": ("requests to the engine", ("call", "status")),
    "tap_failures": ("exchanges the tap could not read", ()),
    "untapped": ("exchanges relayed without being read: too big, or too many at once", ()),
    "unpromised": ("answers given to either side before what was learned was on disk", ()),
    "unguarded": ("CPMS CALLs that were let go before a profile of ours could be lowered", ()),
    "hold_full": ("times that too many frames waited for one side of a link, and went", ()),
    "forgotten": ("CPMS CALLs no longer followed: too many were unanswered", ()),
    "late_answers": ("answers to CALLs of ours that came too late or twice, kept from the CPMS", ()),
    "alarm_messages": ("messages of alarms to a webhook or by mail", ("to", "outcome")),
    "store_failures": ("observations that could not be stored", ()),
}
"""Every counter there is: name → (help, labels). A name counted but not listed here is a mistake, and a test finds it."""

TIMINGS: Mapping[str, str] = {
    "relay_seconds": "from the read of a frame's last byte to its write, sampled",
    "held_seconds": "how long a CPMS CALL waited for one of ours",
}


class Gauges(NamedTuple):
    """Values read at scrape time."""

    links: Callable[[], Mapping[tuple[str, str], int]]
    """(tenant, version) → links open."""
    outbox: Callable[[], Mapping[str, tuple[int, float]]]
    """tenant → (rows waiting, age of the oldest in seconds)."""
    alarms: Callable[[], Mapping[str, int]] = dict
    """name → alarms that stand."""
    dead: Callable[[], Mapping[str, int]] = dict
    """tenant → dead letters kept."""


class Collector:
    """Turns `Counts` and `Gauges` into metric families."""

    def __init__(self, counts: Counts, gauges: Gauges) -> None:
        self._counts = counts
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        for name, text in TIMINGS.items():
            yield _histogram(name, text, self._counts.timings.get(name, Timing()))
        yield from self._gauge_families()

    def _counters(self) -> Iterator[Metric]:
        for name, (text, labels) in COUNTERS.items():
            family = CounterMetricFamily(f"ocppbroker_{name}", text, labels=labels)
            seen = [(at[1:], n) for at, n in self._counts.of.items() if at[0] == name]
            for values, n in seen or ([((), 0)] if not labels else []):
                family.add_metric(values, n)
            yield family

    def _gauge_families(self) -> Iterable[Metric]:
        links = GaugeMetricFamily("ocppbroker_links", "stations connected", labels=("tenant", "version"))
        for labels, n in self._gauges.links().items():
            links.add_metric(labels, n)
        pending = GaugeMetricFamily("ocppbroker_outbox_pending", "observations the engine has yet to be told", labels=("tenant",))
        oldest = GaugeMetricFamily("ocppbroker_outbox_oldest_seconds", "age of the oldest of them", labels=("tenant",))
        for tenant, (rows, age) in self._gauges.outbox().items():
            pending.add_metric((tenant,), rows)
            oldest.add_metric((tenant,), age)
        alarms = GaugeMetricFamily("ocppbroker_alarms", "alarms that stand", labels=("name",))
        for name, n in self._gauges.alarms().items():
            alarms.add_metric((name,), n)
        dead = GaugeMetricFamily("ocppbroker_dead_letters", "what the engine refused and is kept aside", labels=("tenant",))
        for tenant, n in self._gauges.dead().items():
            dead.add_metric((tenant,), n)
        return (links, pending, oldest, alarms, dead)


def _histogram(name: str, text: str, timing: Timing) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"ocppbroker_{name}", text)
    buckets: list[tuple[str, float]] = []
    seen = 0
    for bound, n in zip([*map(str, BUCKETS_S), "+Inf"], timing.slots, strict=True):
        seen += n
        buckets.append((bound, seen))
    family.add_metric((), buckets, timing.total)
    return family


def exposition(counts: Counts, gauges: Gauges) -> Callable[[], bytes]:
    """A function that renders the present state in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(counts, gauges))
    return lambda: bytes(generate_latest(registry))
