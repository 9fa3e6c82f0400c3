"""What of ours is not wanted any more is cleared until it is gone."""

from __future__ import annotations

from broker.clears import Clears


def test_a_clear_that_failed_comes_again_each_time_later() -> None:
    clears, times = Clears(), list[float]()
    assert clears.next(0.0, times) is None
    clears.add(5)
    assert clears.next(0.0, times) == 5
    assert clears.failed(5, 0.0, short=False) == 1
    assert (clears.next(59.0, times), times) == (None, [60.0])
    assert clears.next(60.0, times) == 5
    assert clears.failed(5, 60.0, short=False) == 2
    assert clears.next(179.0, times) is None
    assert clears.next(180.0, times) == 5
    for _ in range(20):
        clears.failed(5, 0.0, short=False)
    assert clears.next(3599.0, times) is None
    assert clears.next(3600.0, times) == 5
    clears.done(5)
    assert clears.next(3600.0, times) is None


def test_one_that_had_no_turn_comes_again_soon_and_safety_does_not_wait() -> None:
    clears = Clears()
    clears.add(5)
    assert clears.failed(5, 0.0, short=True) == 0
    assert clears.next(9.0, []) is None
    assert clears.next(10.0, []) == 5
    clears.failed(5, 0.0, short=False)
    clears.add(5)
    assert clears.next(1.0, []) is None
    clears.add(5, at_once=True)
    assert clears.next(0.0, []) == 5


def test_it_is_known_which_are_waited_for() -> None:
    clears = Clears()
    clears.add(5)
    assert (5 in clears, 6 in clears, len(clears)) == (True, False, 1)
    assert clears.failed(6, 0.0, short=False) == 1, "one that nobody asked for, of before a restart"


def test_another_goes_while_one_waits() -> None:
    clears = Clears()
    clears.add(5)
    clears.add(6)
    clears.failed(5, 0.0, short=False)
    assert clears.next(1.0, []) == 6
    clears.failed(6, 0.0, short=True)
    times: list[float] = []
    assert (clears.next(1.0, times), times) == (None, [10.0]), "until the sooner of the two"
