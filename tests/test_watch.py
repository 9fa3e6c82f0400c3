"""What is shown and kept. How it meets the order of frames: test_relay.py."""

from __future__ import annotations

from broker.calls import KEPT_BYTES, OpenCall
from broker.effects import Counted, Saw
from broker.model.traffic import Exchange, Interest
from broker.ocpp.frames import Frame, Head, frame
from broker.watch import MOST_KEPT, MOST_OPEN, Watch

START, ANSWER = frame(b'[2,"1","Start",{}]'), frame(b'[3,"1",{}]')
BOTH = Interest(at_call=frozenset({"Start"}), at_answer=frozenset({"Start"}), promised=frozenset({"Start"}))


def calls(watch: Watch, call: Frame = START, now: float = 0.0) -> list[object]:
    assert call.head is not None
    return [*watch.station_calls(now, call, call.head)]


def taken(watch: Watch) -> OpenCall:
    call = watch.asked.take("1")
    assert call is not None
    return call


def test_a_call_of_interest_at_both_ends_is_shown_twice_and_promised_twice() -> None:
    watch = Watch(BOTH)
    assert calls(watch) == [Saw(Exchange("station", "Start", START.text, None, 0, 1))]
    call = taken(watch)
    assert watch.answered("station", call, ANSWER, 3) == [Saw(Exchange("station", "Start", START.text, ANSWER.text, 3, 2))]
    assert call.tokens == {1, 2}


def test_a_commit_before_the_answer_is_not_awaited() -> None:
    watch = Watch(BOTH)
    calls(watch)
    watch.committed(1)
    assert taken(watch).tokens == set()


def test_what_is_shown_at_the_call_only_is_not_remembered() -> None:
    watch = Watch(Interest(at_call=frozenset({"Start"})))
    assert calls(watch) == [Saw(Exchange("station", "Start", START.text, None, 0, None))]
    assert len(watch.asked) == 0


def test_the_first_callresult_proves_and_then_nothing_is_watched_for_it() -> None:
    watch = Watch(Interest(proof=frozenset({"Start"})))
    assert watch.actions == {"Start"}
    assert calls(watch) == []
    call = taken(watch)
    assert watch.answered("station", call, ANSWER, 4) == []
    assert watch.answered("station", call, ANSWER, 3) == [Saw(Exchange("station", "Start", b"", b"", 3, None))]
    assert watch.answered("station", call, ANSWER, 3) == []
    assert watch.actions == frozenset()
    watch.seat(Interest(proof=frozenset({"Other"})), prove=False)
    assert watch.actions == frozenset()
    watch.seat(Interest(proof=frozenset({"Other"})), prove=True)
    assert watch.actions == {"Other"}


def test_exactly_as_much_as_may_be_kept_is_kept() -> None:
    watch = Watch(Interest(at_answer=frozenset({"Start"})))
    head = Head(2, "1", "Start")
    assert watch.station_calls(0.0, Frame(head, b"x" * (KEPT_BYTES + 1)), head) == [Counted("untapped")]
    assert len(watch.asked) == 0
    assert watch.station_calls(0.0, Frame(head, b"x" * KEPT_BYTES), head) == []
    assert watch.answered("station", taken(watch), Frame(None, b"x" * (KEPT_BYTES + 1)), 3) == [Counted("untapped")]


def test_the_bounds_are_counted() -> None:
    watch = Watch(Interest(at_answer=frozenset({"Start"})))
    head = Head(2, "1", "Start")
    for _ in range(MOST_KEPT):
        assert watch.cpms_calls(0.0, START, head) == []
    assert watch.cpms_calls(0.0, START, head) == [Counted("untapped")]
    assert sum(call.text is not None for call in watch.opened) == MOST_KEPT
    watch.interest = Interest()
    for _ in range(MOST_OPEN - MOST_KEPT - 1):
        assert watch.cpms_calls(0.0, START, head) == []
    assert watch.cpms_calls(0.0, START, head) == [Counted("forgotten")]


def test_old_calls_are_forgotten() -> None:
    watch = Watch(BOTH)
    calls(watch)
    watch.cpms_calls(0.0, START, Head(2, "1", "Start"))
    watch.forget(300.0)
    assert (len(watch.asked), len(watch.opened)) == (0, 0)


def test_a_call_that_is_only_shown_still_takes_the_place_of_one_whose_id_it_bears() -> None:
    """The sender gave the first one up: the answer that comes is not its."""
    watch = Watch(Interest(at_call=frozenset({"Meter"}), at_answer=frozenset({"Start"})))
    calls(watch)
    meter = frame(b'[2,"1","Meter",{}]')
    assert calls(watch, meter, 100.0) == [Saw(Exchange("station", "Meter", meter.text, None, 0, None))]
    assert taken(watch).action == "Meter"
    assert len(watch.asked) == 0
