from __future__ import annotations

from broker.calls import FORGET_S, REUSE_S, OpenCall, OpenCalls, Promise


def calls(*ids: str, most: int = 10) -> OpenCalls:
    some = OpenCalls(most)
    for at, id in enumerate(ids):
        some.add(OpenCall(id, "Reset", float(at)))
    return some


def test_an_answered_call_is_gone() -> None:
    some = calls("a", "b")
    taken = some.take("a")
    assert taken is not None
    assert taken.id == "a"
    assert some.take("a") is None
    assert ("a" in some, "b" in some, len(some)) == (False, True, 1)


def test_of_two_with_one_id_the_older_is_answered_first() -> None:
    some = calls("a", "b", "a")
    assert [taken.since for _ in range(2) if (taken := some.take("a"))] == [0.0, 2.0]


def test_an_id_used_again_after_a_minute_means_the_newer_call() -> None:
    some = calls("a", "b")
    some.add(OpenCall("a", "Start", REUSE_S))
    taken = some.take("a")
    assert taken is not None
    assert taken.action == "Start"
    assert some.take("a") is None
    assert "b" in some


def test_beyond_the_bound_the_oldest_is_forgotten() -> None:
    some = OpenCalls(2)
    assert [some.add(OpenCall(id, "Reset", 0.0)) for id in "abc"] == [True, True, False]
    assert [call.id for call in some] == ["b", "c"]


def test_after_five_minutes_a_call_is_forgotten_and_makes_room() -> None:
    some = calls("a", most=1)
    assert some.add(OpenCall("b", "Reset", FORGET_S))
    some.forget(FORGET_S - 0.1)
    assert len(some) == 1
    some.forget(FORGET_S)
    assert len(some) == 0


def test_the_newest_that_is_still_open() -> None:
    some = calls("a", "b")
    assert some.newest_since == 1.0
    some.take("b")
    assert some.newest_since == 0.0
    some.clear()
    assert some.newest_since is None


def test_one_commit_that_failed_breaks_the_promise_whatever_the_others_do() -> None:
    one = Promise({1, 2, 3})
    one.settle(1, True)
    assert not one.broken
    one.settle(7, False)
    assert not one.broken, "not ours"
    one.settle(2, False)
    one.settle(3, True)
    assert one.broken
    assert not one


def test_a_promise_that_was_counted_is_not_counted_again() -> None:
    one = Promise({1, 2})
    one.settle(1, False)
    one.forget()
    assert not one
    assert not one.broken
