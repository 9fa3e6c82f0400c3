from __future__ import annotations

import pytest

from broker.effects import Answered, Counted, Effect, Sent, Settlement, Tell
from broker.ocpp.frames import Frame, frame
from broker.turn import Ours, Turn

CALL, ANSWER, ERROR = frame(b'[2,"a","Reset",{}]'), frame(b'[3,"a",{}]'), frame(b'[4,"a","E","",{}]')


def wished(token: int = 1) -> Turn:
    turn = Turn()
    turn.wish(Ours(token, "a", CALL, timeout=30.0, until=10.0))
    return turn


def sent() -> Turn:
    turn = wished()
    assert turn.send(5.0) == (Tell("station", CALL), Sent(1))
    return turn


def test_idle() -> None:
    turn = Turn()
    assert turn.idle
    assert (turn.until, turn.id, turn.open, turn.waits, turn.ready) == (None, None, False, False, False)
    assert turn.close() == turn.give_up(1.0) == turn.time_out(1.0) == turn.lose_patience(1.0) == ()


def test_patience() -> None:
    turn = wished()
    assert (turn.until, turn.ready, turn.open) == (10.0, True, False)
    assert turn.lose_patience(9.9) == ()
    assert turn.lose_patience(10.0) == (Answered(1, "no-slot", None),)
    assert turn.idle


@pytest.mark.parametrize(("answer", "kind", "outcome"), [(ANSWER, 3, "answer"), (ERROR, 4, "error")])
def test_answered(answer: Frame, kind: int, outcome: Settlement) -> None:
    turn = sent()
    assert (turn.until, turn.id, turn.open) == (35.0, "a", True)
    assert turn.answered(answer, kind) == Answered(1, outcome, answer.text)
    assert turn.idle


def test_timed_out() -> None:
    turn = sent()
    assert turn.time_out(34.9) == ()
    assert turn.time_out(35.0) == (Answered(1, "timeout", None),)
    assert turn.time_out(36.0) == ()


def test_given_up_once_and_left_alone_for_a_while() -> None:
    turn = sent()
    assert turn.give_up(12.0) == (Answered(1, "given-up", None),)
    assert turn.give_up(13.0) == ()
    turn.wish(Ours(2, "b", CALL, timeout=30.0, until=20.0))
    assert (turn.open, turn.waits, turn.ready, turn.until, turn.id) == (False, True, False, 12.0, "a")
    assert turn.time_out(12.0) == ()
    assert turn.ready


def test_a_late_answer_is_no_second_end() -> None:
    turn = sent()
    turn.give_up(100.0)
    assert turn.until == 35.0  # not beyond its own time
    assert turn.answered(ANSWER, 3) == Counted("late-answer")


def test_a_second_one_after_one_given_up_has_its_own_end() -> None:
    turn = sent()
    turn.give_up(12.0)
    turn.time_out(12.0)
    turn.wish(Ours(2, "b", CALL, timeout=30.0, until=20.0))
    turn.send(13.0)
    assert turn.open
    assert turn.answered(ANSWER, 3) == Answered(2, "answer", ANSWER.text)


@pytest.mark.parametrize(
    ("turn", "settled"),
    [(wished(), (Answered(1, "closed", None),)), (sent(), (Answered(1, "closed", None),))],
    ids=["waits", "open"],
)
def test_closed(turn: Turn, settled: tuple[Effect, ...]) -> None:
    assert turn.close() == settled
    assert turn.idle
    assert turn.close() == ()


def test_closed_after_it_was_given_up() -> None:
    turn = sent()
    turn.give_up(12.0)
    turn.wish(Ours(2, "b", CALL, timeout=30.0, until=20.0))
    assert turn.close() == (Answered(2, "closed", None),)
