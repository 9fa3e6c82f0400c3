"""What is told of alarms: nothing is told twice under two ids, nothing that stands is forgotten, nothing grows."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.alarms import Book, Changes, Standing
from broker.notices import CAP_S, FIRST_S, MOST, MOST_IN_ONE, Message, Notices, headline, lines, plain, trial

SUBJECTS = st.sampled_from(["acme/CS-1", "acme/CS-2", "beta/CS-1"])
NAMES = st.sampled_from(["clock", "cpms", "made-up"])
STEPS = st.lists(st.tuples(st.sampled_from(["raise", "clear", "sent", "failed", "look"]), NAMES, SUBJECTS, st.floats(0, 100)), max_size=100)


def notices(gather_s: float = 30.0, repeat_s: float = 0.0, least: str = "warning", jitter: float = 0.0) -> Notices:
    ids = (f"id-{n}" for n in itertools.count())
    return Notices(gather_s=gather_s, repeat_s=repeat_s, least=least, jitter=lambda: jitter, new_id=lambda: next(ids))  # type: ignore[arg-type]


def standing(name: str = "clock", subject: str = "acme/CS-1", text: str = "jumps") -> Standing:
    return Book().raise_(name, subject, text, 1000.0).raised[0]


def raised(*subjects: str, name: str = "clock") -> Changes:
    return Changes(tuple(standing(name, subject) for subject in subjects))


@given(STEPS, st.floats(0, 60))
def test_who_listens_knows_in_the_end_what_stands(steps: list[tuple[str, str, str, float]], gather_s: float) -> None:
    """Whatever failed meanwhile: the last that is told of each alarm is how it is."""
    book, now, knows, under_way = Book(), 0.0, {}, None
    one = notices(gather_s)
    for what, name, subject, wait in [*steps, *[("sent", "", "", 1000.0)] * (2 * len(steps) + 2)]:
        now += wait
        if what == "raise":
            one.changed(book.raise_(name, subject, "text", now), now, now)
        elif what == "clear":
            one.changed(book.clear(name, subject), now, now)
        else:
            under_way = under_way or one.take(len(book), now)
            if under_way is not None and what != "look":
                if what == "sent":
                    knows |= {(told.alarm.name, told.alarm.subject): told.event for told in under_way.notices}
                one.settle(what == "sent", now)
                under_way = None
    assert {at for at, event in knows.items() if event == "raised"} == {(seen.name, seen.subject) for seen in book.current()}
    assert len(one) == 0
    assert one.wake_at is None


def test_a_burst_is_one_message_and_the_next_keeps_its_distance() -> None:
    one = notices(30.0)
    one.changed(raised("a"), 0.0, 0.0)
    one.changed(raised("b"), 20.0, 20.0)
    assert one.wake_at == 30.0
    assert one.take(2, 29.9) is None
    message = one.take(2, 30.0)
    assert message is not None
    assert [told.alarm.subject for told in message.notices] == ["a", "b"]
    assert one.take(2, 31.0) is None
    assert one.wake_at is None
    one.changed(raised("c"), 30.5, 30.5)
    one.settle(True, 31.0)
    assert one.wake_at == 61.0
    one.changed(raised("d"), 32.0, 32.0)
    assert one.wake_at == 61.0
    assert one.take(4, 61.0) is not None
    one.settle(True, 61.0)
    one.changed(raised("e"), 90.0, 90.0)
    assert one.wake_at == 120.0


def test_what_failed_is_sent_again_as_it_was_later_each_time() -> None:
    one = notices(0.0, jitter=0.999)
    one.changed(raised("a"), 0.0, 0.0)
    first, pauses, now = one.take(1, 0.0), [], 0.0
    for _ in range(12):
        one.settle(False, now)
        one.changed(raised("b"), now, now)
        assert one.wake_at is not None
        pauses.append(one.wake_at - now)
        now = one.wake_at
        assert one.take(1, now) == first
    assert pauses == sorted(pauses)
    assert FIRST_S < pauses[0] < pauses[-1] <= CAP_S
    one.settle(True, now)
    following = one.take(1, now)
    assert following is not None
    assert [told.alarm.subject for told in following.notices] == ["b"]
    assert following.id != (first.id if first is not None else "")


def test_raised_and_cleared_before_it_was_told_is_told_once_with_both_its_times() -> None:
    book, one = Book(), notices()
    one.changed(book.raise_("clock", "acme/CS-1", "jumps", 1000.0), 1000.0, 0.0)
    one.changed(book.clear("clock", "acme/CS-1"), 1010.0, 10.0)
    message = one.take(0, 30.0)
    assert message is not None
    (told,) = plain(message, "b")["alarms"]
    assert (told["event"], told["since"], told["cleared"]) == ("cleared", "1970-01-01T00:16:40.000Z", "1970-01-01T00:16:50.000Z")


def test_it_holds_no_more_than_it_may_and_says_what_it_gave_up() -> None:
    one = notices(0.0)
    one.changed(raised(*map(str, range(MOST + 7))), 0.0, 0.0)
    assert len(one) == MOST
    message = one.take(MOST + 7, 0.0)
    assert message is not None
    assert (message.lost, len(message.notices), message.notices[0].alarm.subject) == (7, MOST_IN_ONE, "7")
    assert any("7 more were not kept" in line for line in lines(message))
    one.settle(True, 0.0)
    following = one.take(0, 0.0)
    assert following is not None
    assert following.lost == 0


def test_what_stands_for_long_is_told_again_and_nothing_else_is() -> None:
    one, now = notices(0.0, repeat_s=3600.0), 0.0
    one.changed(raised("a"), now, now)
    assert one.take(1, now) is not None
    one.settle(True, now)
    one.remind([standing("clock", "a"), standing("clock", "late")], 3599.0, 3599.0)
    assert one.take(2, 3599.0) is None
    one.remind([standing("clock", "a"), standing("clock", "late")], 3600.0, 3600.0)
    message = one.take(2, 3600.0)
    assert message is not None
    assert [(told.event, told.alarm.subject) for told in message.notices] == [("standing", "a")]
    one.settle(True, 3600.0)
    one.remind([], 9999.0, 9999.0)
    assert one.take(0, 9999.0) is None


def test_what_could_not_be_told_yet_is_told_as_what_it_is_and_not_as_old() -> None:
    one = notices(0.0, repeat_s=3600.0)
    one.changed(raised("a"), 0.0, 0.0)
    assert one.take(1, 0.0) is not None
    one.changed(raised("b"), 1.0, 1.0)
    one.remind([standing("clock", "a"), standing("clock", "b")], 9000.0, 9000.0)
    one.settle(True, 9000.0)
    message = one.take(2, 9000.0)
    assert message is not None
    assert [(told.event, told.alarm.subject) for told in message.notices] == [("raised", "b"), ("standing", "a")]


def test_the_newest_news_come_last() -> None:
    book, one = Book(), notices(0.0)
    for subject in ("a", "b"):
        one.changed(book.raise_("clock", subject, "jumps", 0.0), 0.0, 0.0)
    one.changed(book.clear("clock", "a"), 1.0, 1.0)
    message = one.take(1, 1.0)
    assert message is not None
    assert [(told.event, told.alarm.subject) for told in message.notices] == [("raised", "b"), ("cleared", "a")]


def test_never_means_never() -> None:
    one = notices(0.0, repeat_s=0.0)
    for now in (0.0, 1e6):
        one.remind([standing()], now, now)
        assert one.take(1, now) is None


def test_what_matters_less_is_not_told() -> None:
    one = notices(0.0, least="critical")
    one.changed(raised("a", name="clock"), 0.0, 0.0)
    assert one.wake_at is None
    one.changed(raised("acme", name="cpms"), 0.0, 0.0)
    message = one.take(2, 0.0)
    assert message is not None
    assert [told.alarm.name for told in message.notices] == ["cpms"]


@given(st.text(max_size=600), st.text(max_size=80))
def test_words_from_outside_stay_one_line_each(text: str, subject: str) -> None:
    one = notices(0.0)
    one.changed(Changes((standing("clock", subject, text),)), 0.0, 0.0)
    message = one.take(1, 0.0)
    assert message is not None
    assert headline(message, "b").isprintable()
    assert all(line.isprintable() for line in lines(message))
    assert all(len(line) <= 500 for line in lines(message))
    json.dumps(plain(message, "b"))


def test_a_test_says_that_it_is_one() -> None:
    message: Message = trial("x", 0.0)
    assert headline(message, "north") == "[north] test: test of broker"
    assert plain(message, "north")["alarms"][0]["event"] == "test"


def test_settling_what_was_never_taken_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="nothing was on its way"):
        notices().settle(True, 0.0)
