"""Who has the token, and how often one may guess."""

from __future__ import annotations

from twisted.internet.task import Clock

from broker.net.gate import ADDRESSES, TRIES, WINDOW_S, Gate

RIGHT, WRONG = b"Bearer t0ken", b"Bearer guess"


def test_whoever_guesses_is_not_listened_to_for_a_while_and_others_are() -> None:
    clock = Clock()
    gate = Gate("t0ken", clock.seconds)
    for _ in range(TRIES):
        assert gate.judge(WRONG, "10.0.0.1") == "out"
    assert gate.judge(RIGHT, "10.0.0.1") == "wait"  # or a guess would be told from a miss
    assert gate.judge(RIGHT, "10.0.0.2") == "in"
    clock.advance(WINDOW_S + 1)
    assert gate.judge(RIGHT, "10.0.0.1") == "in"


def test_a_slow_mistake_is_never_locked_out() -> None:
    clock = Clock()
    gate = Gate("t0ken", clock.seconds)
    for _ in range(10 * TRIES):
        assert gate.judge(WRONG, "a") == "out"
        clock.advance(WINDOW_S / TRIES + 0.1)
    assert gate.judge(RIGHT, "a") == "in"


def test_no_token_is_no_guess() -> None:
    gate = Gate("t0ken", Clock().seconds)
    for _ in range(10 * TRIES):
        assert gate.judge(None, "a") == "out"
    assert gate.judge(RIGHT, "a") == "in"
    for wrong in (b"Bearer", b"Bearer ", b"Basic t0ken", b"t0ken", b"Bearer t0ke", b"Bearer t0ken2", b"Bearer \xff"):
        assert gate.judge(wrong, "b") == "out"
    assert gate.judge(b"bearer  t0ken ", "b") == "in"


def test_only_so_many_addresses_are_remembered() -> None:
    gate = Gate("t0ken", Clock().seconds)
    for _ in range(TRIES):
        gate.judge(WRONG, "first")
    for n in range(ADDRESSES):
        gate.judge(WRONG, f"a{n}")
    assert gate.judge(RIGHT, "first") == "in"


def test_whoever_goes_on_guessing_is_not_the_one_that_is_forgotten() -> None:
    gate = Gate("t0ken", Clock().seconds)
    for _ in range(TRIES - 1):
        gate.judge(WRONG, "first")
    for n in range(ADDRESSES - 1):
        gate.judge(WRONG, f"a{n}")
    gate.judge(WRONG, "first")
    gate.judge(WRONG, "one more")
    assert gate.judge(RIGHT, "first") == "wait"
