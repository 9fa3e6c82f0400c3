"""The outbox: in order per station, stations in parallel, tried again with care, nothing lost, nothing for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from broker.outbox import CAP_S, OPEN_AFTER, WINDOW, Outbox, Row, Settled, Verdict

STORED = Verdict("stored", 200)
AWAY = Verdict("retry", 503)
DONE, AGAIN = Settled(True, None), Settled(False, None)


def row(seq: int, station: str = "A") -> Row:
    return Row(seq, station, f"key-{seq}", "measurement", "{}")


def outbox(*rows: Row, jitter: Callable[[], float] = lambda: 1.0, in_flight: int = 16) -> Outbox:
    box = Outbox(jitter=jitter, in_flight=in_flight)
    box.load(rows)
    return box


def seqs(rows: list[Row]) -> list[int]:
    return [row.seq for row in rows]


# ---------------------------------------------------------------- order


def test_the_head_of_a_station_settles_before_its_next_goes() -> None:
    box = outbox(row(1), row(2), row(3, "B"))
    assert seqs(box.take(0.0)) == [1, 3]
    assert box.take(0.0) == []
    assert box.settle(1, STORED, 0.0) == DONE
    assert seqs(box.take(0.0)) == [2]


def test_a_row_that_is_tried_again_keeps_its_place() -> None:
    box = outbox(row(1), row(2))
    box.take(0.0)
    assert box.settle(1, AWAY, 0.0) == AGAIN
    assert seqs(box.take(100.0)) == [1]


def test_no_more_than_so_many_are_in_flight_and_every_station_gets_its_turn() -> None:
    box = outbox(*(row(n, f"S{n % 4}") for n in range(12)), in_flight=2)
    order = []
    for _ in range(6):
        taken = box.take(0.0)
        assert len(taken) == 2
        order += [each.station for each in taken]
        for each in taken:
            box.settle(each.seq, STORED, 0.0)
    assert order == ["S0", "S1", "S2", "S3"] * 3


def test_what_is_loaded_twice_is_told_once() -> None:
    box = outbox(row(1), row(1))
    box.take(0.0)
    box.load([row(1)])
    box.settle(1, STORED, 0.0)
    assert box.take(0.0) == []


def test_memory_is_bounded_by_what_the_store_is_asked_for() -> None:
    box = outbox(*(row(n) for n in range(WINDOW - 1)))
    assert box.room == 1
    box.load([row(WINDOW), row(WINDOW + 1)])
    assert box.room == 0
    box.take(0.0)
    box.settle(0, STORED, 0.0)
    box.settle(box.take(0.0)[0].seq, STORED, 0.0)
    assert box.room == 1


def test_only_what_was_taken_can_be_settled() -> None:
    box = outbox(row(1), row(2))
    box.take(0.0)
    for seq in (2, 7):
        with pytest.raises(KeyError):
            box.settle(seq, STORED, 0.0)
    box.settle(1, STORED, 0.0)
    with pytest.raises(KeyError):
        box.settle(1, STORED, 0.0)


# ---------------------------------------------------------------- trying again


def test_pauses_double_up_to_a_minute() -> None:
    box, now, pauses = outbox(row(1)), 0.0, []
    for _ in range(OPEN_AFTER - 1):
        box.take(now)
        box.settle(1, AWAY, now)
        wake = box.wake_at(now)
        assert wake is not None
        pauses.append(wake - now)
        now = wake
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_jitter_is_full() -> None:
    dice: Iterator[float] = iter([0.0, 0.25])
    box = outbox(row(1), jitter=lambda: next(dice))
    box.take(0.0)
    box.settle(1, AWAY, 0.0)
    assert box.wake_at(0.0) == 0.0
    box.take(0.0)
    box.settle(1, AWAY, 0.0)
    assert box.wake_at(0.0) == 1.0


def test_retry_after_holds_for_all_stations() -> None:
    box = outbox(row(1), row(2, "B"), in_flight=1)
    box.take(0.0)
    box.settle(1, Verdict("retry", 429, retry_after=30.0), 0.0)
    assert box.take(29.9) == []
    assert box.wake_at(5.0) == 30.0
    assert seqs(box.take(30.0)) == [2]


@pytest.mark.parametrize(("asked", "wakes"), [(-5.0, 2.0), (0.0, 2.0), (90.0, 90.0), (1e9, 3600.0), (float("inf"), 3600.0)])
def test_what_the_engine_asks_for_is_bounded(asked: float, wakes: float) -> None:
    box = outbox(row(1))
    box.take(0.0)
    box.settle(1, Verdict("retry", 503, retry_after=asked), 0.0)
    assert box.wake_at(0.0) == wakes


def test_a_token_that_is_refused_is_nobodys_poison() -> None:
    box, now = outbox(row(1)), 0.0
    for _ in range(30):
        assert seqs(box.take(now)) == [1]
        assert box.settle(1, Verdict("unauthorised", 401), now) == AGAIN
        now += 100.0
    assert box.open


# ---------------------------------------------------------------- poison


@pytest.mark.parametrize("status", [400, 422])
def test_a_body_that_is_refused_is_dead_at_once_and_its_station_moves_on(status: int) -> None:
    box = outbox(row(1), row(2))
    box.take(0.0)
    assert box.settle(1, Verdict("poison", status, detail="limit: no"), 0.0) == Settled(False, f"{status} limit: no")
    assert seqs(box.take(0.0)) == [2]


def test_any_other_refusal_is_dead_after_five_tries() -> None:
    box, now = outbox(row(1), row(2)), 0.0
    for _ in range(4):
        assert seqs(box.take(now)) == [1]
        assert box.settle(1, Verdict("poison", 404), now) == AGAIN
        now = box.wake_at(now) or 0.0
    box.take(now)
    assert box.settle(1, Verdict("poison", 404), now) == Settled(False, "404")
    assert seqs(box.take(now)) == [2]
    assert box.settle(2, Verdict("poison", 404), now) == AGAIN, "each row has five tries of its own"


def test_the_engine_being_away_does_not_count_as_refusal() -> None:
    box, now = outbox(row(1)), 0.0
    for verdict in (Verdict("poison", 404), AWAY, AWAY, AWAY, Verdict("poison", 404), AWAY, Verdict("poison", 404)):
        box.take(now)
        assert box.settle(1, verdict, now) == AGAIN
        now += 100.0


# ---------------------------------------------------------------- the breaker


def broken(stations: int = 20) -> Outbox:
    """All stations have rows; ten in a row have failed at time 0."""
    box = outbox(*(row(n, f"S{n % stations}") for n in range(stations * 2)), in_flight=OPEN_AFTER)
    for each in box.take(0.0):
        box.settle(each.seq, AWAY, 0.0)
    return box


def test_after_ten_failures_in_a_row_one_at_a_time_finds_out() -> None:
    box = broken()
    assert box.open
    assert box.take(0.0) == []
    wake = box.wake_at(0.0)
    assert wake == 2.0
    probe = box.take(wake)
    assert len(probe) == 1
    assert box.take(wake + 1000) == []
    assert box.wake_at(wake) is None, "until the probe is settled"


def test_nine_failures_and_a_success_leave_it_closed() -> None:
    box = outbox(*(row(n, f"S{n}") for n in range(20)), in_flight=20)
    box.take(0.0)
    for n in range(9):
        box.settle(n, AWAY, 0.0)
    box.settle(9, STORED, 0.0)
    for n in range(10, 19):
        box.settle(n, AWAY, 0.0)
    assert not box.open


def test_the_first_success_lets_everything_go_again() -> None:
    box = broken()
    (probe,) = box.take(2.0)
    box.settle(probe.seq, STORED, 2.0)
    assert not box.open
    assert len(box.take(2.0)) == OPEN_AFTER


def test_a_late_success_reopens_the_way_at_once() -> None:
    box = outbox(*(row(n, f"S{n}") for n in range(13)), in_flight=11)
    box.take(0.0)
    for n in range(10):
        box.settle(n, AWAY, 0.0)
    assert box.open
    box.settle(10, STORED, 0.5)
    assert seqs(box.take(0.5)) == [11, 12], "no probe is waited for"


def test_a_refusal_shows_that_the_engine_is_there() -> None:
    box = broken()
    (probe,) = box.take(2.0)
    box.settle(probe.seq, Verdict("poison", 422), 2.0)
    assert not box.open


def test_probes_are_a_minute_apart_at_most_and_whose_row_it_is_changes() -> None:
    box, now, gaps, who = broken(), 0.0, [], []
    for _ in range(8):
        wake = box.wake_at(now)
        assert wake is not None
        gaps.append(wake - now)
        (probe,) = box.take(wake)
        who.append(probe.station)
        box.settle(probe.seq, AWAY, wake)
        now = wake
    assert gaps == [2, 4, 8, 16, 32, CAP_S, CAP_S, CAP_S]
    assert len(set(who)) == 8


# ---------------------------------------------------------------- a row that the engine trips over

STUMBLE = Verdict("retry", 500)


def tripping(hours: float, verdict: Verdict, others: Verdict | None) -> tuple[list[int], list[int]]:
    """Station A's first row gets `verdict` all this time, B's rows `others`. (A's rows put aside, A's rows stored)."""
    box = outbox(row(1), row(2))
    aside, stored, seq, now = [], [], 100, 0.0
    while now < hours * 3600:
        if others is not None and box.room:
            seq += 1
            box.load([row(seq, "B")])
        for each in box.take(now):
            said = (verdict if each.seq == 1 else STORED) if each.station == "A" else others
            assert said is not None
            settled = box.settle(each.seq, said, now)
            aside += [each.seq] if settled.dead is not None else []
            stored += [each.seq] if settled.done and each.station == "A" else []
        now = max(now + 5.0, box.wake_at(now) or now)
    return aside, stored


def test_what_others_stored_before_a_row_first_stumbled_says_nothing_of_it() -> None:
    box, hour = outbox(*(row(seq, "B") for seq in range(100, 140))), 3600.0
    while taken := box.take(0.0):
        for each in taken:
            box.settle(each.seq, STORED, 0.0)
    box.load([row(1)])
    for tries in range(1, 31):
        assert seqs(box.take(tries * hour)) == [1]
        assert box.settle(1, STUMBLE, tries * hour) == AGAIN


def test_a_refused_row_pauses_before_it_is_tried_again() -> None:
    box, now = outbox(row(1)), 0.0
    for pause in (2.0, 4.0, 8.0, 16.0):
        assert seqs(box.take(now)) == [1]
        assert box.settle(1, Verdict("poison", 404), now) == AGAIN
        assert box.wake_at(now) == now + pause
        assert box.take(now + pause - 0.1) == []
        now += pause
    assert seqs(box.take(now)) == [1]
    assert box.settle(1, Verdict("poison", 404), now).dead == "404"


@pytest.mark.parametrize("others", [19, 20])
def test_a_row_is_put_aside_at_its_20th_500_and_after_20_rows_of_others(others: int) -> None:
    box, dead = outbox(row(1)), dict[int, str]()
    for tries in range(1, 31):
        if tries == 2:
            box.load([row(seq, "B") for seq in range(100, 100 + others)])
        while taken := box.take(tries * 3600.0):
            for each in taken:
                settled = box.settle(each.seq, STUMBLE if each.station == "A" else STORED, tries * 3600.0)
                dead |= {} if settled.dead is None else {tries: settled.dead}
    assert dead == ({20: "500 to 20 tries"} if others == 20 else {})


def test_a_row_that_only_ever_gets_500_is_put_aside_once_others_show_that_it_is_the_row() -> None:
    assert tripping(0.9, STUMBLE, STORED) == ([], []), "not within the hour"
    assert tripping(1.2, STUMBLE, STORED) == ([1], [2]), "the station's next row moves up"


@pytest.mark.parametrize("status", [0, 429, 502, 503, 504])
def test_an_engine_that_is_away_costs_no_row_its_place(status: int) -> None:
    assert tripping(48.0, Verdict("retry", status), STORED) == ([], [])


def test_an_engine_that_fails_with_everything_for_a_week_costs_no_row_its_place() -> None:
    assert tripping(7 * 24.0, STUMBLE, STUMBLE) == ([], [])


def test_a_station_alone_is_not_held_up_for_ever_either() -> None:
    assert tripping(29 * 24.0, STUMBLE, None) == ([], [])
    assert tripping(31 * 24.0, STUMBLE, None) == ([1], [2])


# ---------------------------------------------------------------- the laws

steps = st.lists(
    st.one_of(
        st.tuples(st.just("load"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("settle"), st.integers(0, 30), st.sampled_from(["stored", "503", "429", "401", "404", "422"])),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 3.0, 70.0]), st.just(0)),
    ),
    max_size=60,
)
VERDICTS = {
    "stored": STORED,
    "503": AWAY,
    "429": Verdict("retry", 429, retry_after=7.0),
    "401": Verdict("unauthorised", 401),
    "404": Verdict("poison", 404),
    "422": Verdict("poison", 422),
}


class World:
    """A store and an engine that note what they see, and object to what must not be."""

    def __init__(self, in_flight: int, jitter: list[float]) -> None:
        dice = iter(jitter * 1000)
        self.box, self.most, self.now, self.last = Outbox(jitter=lambda: next(dice), in_flight=in_flight), in_flight, 0.0, 0
        self.flying: dict[int, Row] = {}
        self.all: dict[str, list[int]] = {}
        self.ended: dict[str, list[int]] = {}

    def load(self, station: str, many: int) -> None:
        rows = [row(self.last + n, station) for n in range(1, many + 1)]
        self.last += many
        self.all.setdefault(station, []).extend(seqs(rows))
        self.box.load(rows)
        self.take()

    def take(self) -> None:
        wake = self.box.wake_at(self.now)
        rows = self.box.take(self.now)
        assert bool(rows) == (wake is not None and wake <= self.now), "wake_at says exactly when"
        for each in rows:
            assert each.station not in {other.station for other in self.flying.values()}, "one in flight per station"
            self.flying[each.seq] = each
        assert len(self.flying) <= self.most

    def settle(self, which: int, verdict: Verdict) -> None:
        if self.flying:
            each = self.flying.pop(sorted(self.flying)[which % len(self.flying)])
            settled = self.box.settle(each.seq, verdict, self.now)
            assert not (settled.done and settled.dead)
            if settled != AGAIN:
                self.ended.setdefault(each.station, []).append(each.seq)
        self.take()

    def wait(self, seconds: float) -> None:
        wake, until = self.box.wake_at(self.now), self.now + seconds
        if wake is not None and self.now < wake:
            self.now = min(until, wake - 1e-6)
            assert self.box.take(self.now) == [], "never before wake_at"
        self.now = until
        self.take()


@given(steps, st.integers(1, 5), st.lists(st.sampled_from([0.0, 0.3, 0.999]), min_size=1, max_size=5))
@effort(max_examples=200, deadline=None)
def test_in_order_bounded_and_nothing_lost(steps: list[tuple[str, float, object]], in_flight: int, jitter: list[float]) -> None:
    world = World(in_flight, jitter)
    for what, number, more in steps:
        if what == "load":
            assert isinstance(more, int)
            world.load(f"S{number}", more)
        elif what == "settle":
            world.settle(int(number), VERDICTS[str(more)])
        else:
            world.wait(number)
    for _ in range(1000):  # and then the engine is well again
        if not world.flying:
            wake = world.box.wake_at(world.now)
            if wake is None:
                break
            world.wait(wake - world.now)
        world.settle(0, STORED)
    assert world.ended == world.all, "each ended once, in its station's order"
    assert world.box.room == WINDOW
