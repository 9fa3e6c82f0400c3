"""How much a peer may say: the bucket by times alone, then on both legs, then over real sockets beside a station that says little."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from autobahn.websocket.protocol import WebSocketProtocol
from fakes import WAIT_S, Rig, Wire, clock, delayed, nap, until
from hypothesis import given
from hypothesis import strategies as st
from legs import SIDES, Sink, Transport, open_leg, wire

from broker.net.bucket import FREE, PAUSE_S, Bucket
from broker.net.leg import FLOW
from broker.net.paced import FRAGMENT, RATE
from broker.net.pulse import PONG_S

BOTH_PATHS = pytest.mark.parametrize("fast", [True, False])
BOTH_SIDES = pytest.mark.parametrize("side", SIDES)
EVERY_S = 30.0

# ---------------------------------------------------------------- times only

rates, bursts = st.integers(1, 2000), st.integers(1, 2000)
reads = st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 3000)), max_size=40)


def taken(bucket: Bucket, at: float, wanted: int) -> int:
    """As a leg takes them: one after the other, until it has to wait."""
    bucket.fill(at)
    if bucket.left < 1.0:
        return 0
    for n in range(wanted):
        bucket.left -= 1.0
        if bucket.left < 1.0 and bucket.wait(at):
            return n + 1
    return wanted


@given(rates, bursts, reads)
def test_in_any_time_no_more_than_a_burst_and_the_rate(rate: int, burst: int, reads: list[tuple[float, int]]) -> None:
    bucket, now, took = Bucket(rate, burst, 0.0), 0.0, [(0.0, 0)]
    for later, wanted in reads:
        now += later
        took.append((now, taken(bucket, now, wanted)))
    for first in range(len(took)):
        since = sum(count for _, count in took[first:])
        assert since <= burst + rate * (now - took[first][0]) + 1e-6


@given(rates, bursts, st.integers(1, 5000))
def test_who_always_has_more_to_say_gets_the_whole_rate_and_waits_no_longer_than_it_must(rate: int, burst: int, wanted: int) -> None:
    bucket, now, left = Bucket(rate, burst, 0.0), 0.0, wanted
    while left:
        took = taken(bucket, now, left)
        assert took, "a wait is followed by at least one"
        left -= took
        wait = bucket.wait(now)
        assert 0.0 <= wait <= max(1.0 / rate, PAUSE_S) + 1e-9
        assert not left or wait > 0.0
        now += wait * (1 + 1e-9) if left else 0.0
    assert now <= max(0, wanted - burst) / rate * (1 + 1e-6) + max(1.0 / rate, PAUSE_S) + 1e-6


@given(rates, bursts, st.lists(st.floats(0.0, 1.0), max_size=30))
def test_a_clock_that_goes_back_gives_nothing(rate: int, burst: int, times: list[float]) -> None:
    bucket, latest = Bucket(rate, burst, 1.0), 1.0
    bucket.left = 0.0
    for at in times:
        bucket.fill(at)
    assert bucket.left == 0.0
    assert bucket.wait(latest) > 0.0


def test_without_a_rate_there_is_no_bound() -> None:
    assert FREE.left == Bucket(0, 5, 3.0).left == float("inf")
    assert taken(Bucket(0, 1, 0.0), 0.0, 100_000) == 100_000
    assert FREE.wait(1e9) == 0.0


# ---------------------------------------------------------------- a leg on a fake wire


class Tap(Transport):
    """Knows whether it is read."""

    read = True

    def pauseProducing(self) -> None:
        self.read = False

    def resumeProducing(self) -> None:
        self.read = True


def paced(side: str, fast: bool, rate: int, burst: int) -> tuple[Any, Sink, Tap]:
    leg, sink, transport = open_leg(side, fast)
    transport.__class__ = Tap
    leg.ration(rate, burst)
    return leg, sink, transport  # type: ignore[return-value]


def passes(leg: Any, seconds: float, step: float = 0.01) -> None:
    """Time, in steps, so that turns and timers have theirs."""
    for _ in range(round(seconds / step)):
        leg.factory.reactor.advance(step)


@BOTH_PATHS
@BOTH_SIDES
def test_beyond_the_burst_a_leg_is_read_at_the_rate_and_says_everything_in_order(side: str, fast: bool) -> None:
    leg, sink, transport = paced(side, fast, 100, 50)
    texts = [b"%d" % n for n in range(250)]
    leg.dataReceived(b"".join(wire(side, text) for text in texts))
    leg.factory.reactor.advance(0.0)
    leg.factory.reactor.advance(0.0)
    assert [event[1] for event in sink.events] == texts[:50]
    assert not transport.read
    passes(leg, 1.0)
    assert len(sink.events) == pytest.approx(150, abs=6)
    passes(leg, 1.1)
    assert [event[1] for event in sink.events] == texts
    passes(leg, 0.1)
    assert transport.read
    assert leg.factory.reactor.getDelayedCalls() == []


@BOTH_PATHS
@BOTH_SIDES
@pytest.mark.parametrize("first", [0x89, 0x8A, 0x82, 0x81])
def test_every_kind_of_frame_pays_once(side: str, fast: bool, first: int) -> None:
    leg, _, transport = paced(side, fast, 10, 40)
    for n in range(40):
        assert transport.read, n
        leg.dataReceived(wire(side, b"x", first))
    assert not transport.read
    assert leg._unread == RATE


@BOTH_SIDES
def test_fragments_pay_a_little_each_and_the_last_as_a_message(side: str) -> None:
    leg, sink, transport = paced(side, True, 10, 20)
    leg.dataReceived(wire(side, b"a", 0x01))
    for _ in range(round(19 / FRAGMENT) - 1):
        assert transport.read
        leg.dataReceived(wire(side, b"", 0x00))
    assert leg.bucket.left == pytest.approx(1.0)
    leg.dataReceived(wire(side, b"", 0x00))
    assert not transport.read
    assert sink.events == []
    leg.dataReceived(wire(side, b"z", 0x80))
    passes(leg, 0.3)
    assert sink.events == [("heard", b"az", False)]


@BOTH_PATHS
def test_tokens_come_back_with_every_read_so_that_who_keeps_the_rate_never_waits(fast: bool) -> None:
    leg, sink, transport = paced("station", fast, 100, 10)
    for _ in range(1000):
        leg.dataReceived(wire("station", b"x"))
        assert transport.read
        leg.factory.reactor.advance(0.0101)
    assert len(sink.events) == 1000


@BOTH_PATHS
def test_a_burst_after_silence_is_no_more_than_a_burst(fast: bool) -> None:
    leg, sink, _ = paced("station", fast, 100, 20)
    leg.dataReceived(wire("station", b"x") * 5)
    leg.factory.reactor.advance(3600.0)
    leg.dataReceived(wire("station", b"x") * 100)
    leg.factory.reactor.advance(0.0)
    assert len(sink.events) == 25


def test_a_leg_that_is_not_read_for_this_is_not_taken_for_dead() -> None:
    leg, _, _ = paced("station", True, 1, 1)
    leg.dataReceived(wire("station", b"x"))
    leg.ping()
    assert not leg.reading
    leg.factory.reactor.rightNow += 1000.0  # its timer is late: the machine was asleep
    assert leg.pulse.check(EVERY_S, 0) is None
    leg.factory.reactor.advance(0.0)
    assert leg.reading
    assert leg.pulse.check(EVERY_S, 0) is None, "its silence counts from here"
    leg.factory.reactor.advance(EVERY_S + PONG_S)
    assert leg.pulse.check(EVERY_S, 0) is not None


@BOTH_PATHS
def test_another_reason_not_to_read_still_holds_when_the_tokens_are_back(fast: bool) -> None:
    leg, sink, transport = paced("station", fast, 100, 1)
    leg.dataReceived(wire("station", b"x") * 3)
    leg.let_flow(False)
    passes(leg, 1.0)
    assert len(sink.events) == 1
    assert not transport.read
    assert leg._unread == FLOW
    leg.let_flow(True)
    passes(leg, 1.0)
    assert len(sink.events) == 3
    assert transport.read


@BOTH_PATHS
@pytest.mark.parametrize("end", ["lost", "shut", "wrong"])
def test_at_its_end_nothing_waits_and_no_timer_is_left(fast: bool, end: str) -> None:
    leg, sink, transport = paced("station", fast, 1, 1)
    leg.dataReceived(wire("station", b"x") * 3 + wire("station", b"\x03\xe8", 0x88))
    assert len(sink.events) == 1
    assert not transport.read
    if end == "lost":
        leg.connectionLost()
    elif end == "shut":
        leg.shut(1001)
        assert transport.read
    else:
        leg.bucket.left = 2.0
        leg._fail_connection(1002, "wrong")
        assert transport.read
    assert leg._paused is None
    assert [call for call in leg.factory.reactor.getDelayedCalls() if call.func == leg._resume] == []
    if end == "wrong":
        assert sink.events[1:] == [("lost", 1001, "")]
        return
    assert [event for event in sink.events if event[0] == "heard"] == [("heard", b"x", False)] * 3, "what was read is worked on"
    assert (("lost", 1000, "") in sink.events) == (end == "lost")
    assert leg.state == WebSocketProtocol.STATE_CLOSED, "its good-bye was read behind it"


# ---------------------------------------------------------------- real sockets

RATE_HERE, BURST_HERE, FLOOD = 4000, 500, 10_000


@pytest_twisted.async_yield_fixture
async def rig() -> AsyncIterator[Rig]:
    rig = await Rig(rate=RATE_HERE, burst=BURST_HERE).start()
    yield rig
    await rig.stop()
    assert [call for call in delayed() if getattr(call.func, "__name__", "") == "_resume"] == []


async def round_trip(station: Wire, cpms: Wire, within: float = WAIT_S) -> None:
    station.say(b'[2,"1","Heartbeat",{}]')
    await cpms.hear(within)
    cpms.say(b'[3,"1",{}]')
    await station.hear(within)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["text", "binary"])
async def test_ten_thousand_at_once_are_all_delivered_in_order_at_the_rate_and_the_others_do_not_notice(rig: Rig, kind: str) -> None:
    quiet, quiet_cpms = await rig.pair("/acme/CS-1")
    flood, flood_cpms = await rig.pair("/acme/CS-2")
    texts, first = [b"%05d" % n for n in range(FLOOD)], 0x81 if kind == "text" else 0x82
    stream = b"".join(flood.wire(text, first) for text in texts)
    whole = sum(len(text) + 2 for text in texts)
    began = clock.seconds()
    flood.transport.write(stream)
    trips = 0
    while len(flood_cpms.buffer) < 10_000 * 2:  # the CPMS's frames are masked: at least 11 bytes each
        await round_trip(quiet, quiet_cpms)
        trips += 1
    leg = rig.opened[1]._legs["station"]
    await until(lambda: not leg.reading)
    assert leg.pulse.check(EVERY_S, 0) is None
    while len(flood_cpms.buffer) < whole + 4 * FLOOD:
        await round_trip(quiet, quiet_cpms)
        trips += 1
    took = clock.seconds() - began
    assert [(await flood_cpms.raw()) for _ in texts] == [(first, text) for text in texts]
    assert took >= (FLOOD - BURST_HERE) / RATE_HERE * 0.95
    assert trips > 20, "the quiet one did not wait for the flood"
    await round_trip(flood, flood_cpms, 0.2)  # and it is as good as new


@pytest_twisted.ensureDeferred
async def test_a_cpms_pays_as_well_and_a_flood_of_pings_too() -> None:
    rig = await Rig(rate=100, burst=20).start()
    station, cpms = await rig.pair()
    began = clock.seconds()
    for _ in range(70):
        cpms.say(b"", 0x89)
    cpms.say(b"last")
    assert await station.hear() == b"last"
    assert clock.seconds() - began > 0.4
    while cpms.buffer.count(b"\x8a") < 70:
        await nap(0.01)
    await rig.stop()


@pytest_twisted.ensureDeferred
async def test_a_station_that_floods_and_leaves_is_heard_to_its_last_word() -> None:
    rig = await Rig(rate=200, burst=20).start()
    station, cpms = await rig.pair()
    for n in range(100):
        station.say(b"%d" % n)
    station.close(1000, "done")
    assert [await cpms.hear() for _ in range(100)] == [b"%d" % n for n in range(100)]
    assert await cpms.closed() == (1000, "done")
    await rig.stop()
