"""The line toward the station: who goes, who stays, who overtakes whom. Letters stand for frames, in order of arrival."""

from __future__ import annotations

import pytest

from broker.calls import Promise
from broker.ocpp.frames import frame
from broker.waiting import MOST, MOST_BYTES, Sort, Waiter, Waiting

SORTS: dict[str, Sort] = {"C": "call", "G": "call", "A": "answer", "P": "answer", "S": "other"}


def line(spelled: str) -> Waiting:
    """C a CALL, G a guarded one, A an answer, P one that waits for its commit, S something else; a digit is an answer's order."""
    waiting = Waiting()
    for place, word in enumerate(spelled.split()):
        waiter = Waiter(SORTS[word[0]], frame(word.encode()), float(place), float(place) + 5)
        waiter.order = int(word[1:]) if word[1:] else None
        waiter.tokens = Promise({place} if word[0] == "P" else ())
        waiter.guard = place if word[0] == "G" else None
        waiting.join(waiter)
    return waiting


def names(waiters: list[Waiter]) -> str:
    return " ".join(waiter.frame.text.decode() for waiter in waiters)


@pytest.mark.parametrize(
    ("spelled", "ours_open", "go"),
    [
        ("C C A S", False, "C C A S"),
        ("C A C A", True, "A A"),
        ("S C S A", True, "S"),  # nothing overtakes what is neither CALL nor answer
        ("G C A", False, "A"),
        ("C G C", False, "C"),
        ("P2 A1 A3", False, "A1"),
        ("P2 A A1", False, ""),  # an answer whose CALL we did not follow keeps its place, and so does what follows it
        ("P2 C A1", False, ""),  # the CALL waits behind the answer only: it keeps its place
        ("P2 C A1", True, "A1"),  # the CALL waits for ours: it may be overtaken
        ("P2 G A1", False, "A1"),
        ("P2 P1 A0", False, "A0"),
        ("P2 P1 A1 A0", False, ""),  # A1 is free but for its place: nothing overtakes it
        ("P1 P2 A2", False, ""),
        ("P2 S A1", False, ""),
        ("P1 C S", False, ""),
    ],
)
def test_who_goes(spelled: str, ours_open: bool, go: str) -> None:
    waiting = line(spelled)
    before = len(waiting)
    assert names(waiting.release(ours_open)) == go
    assert len(waiting) == before - len(go.split())


def test_what_stayed_keeps_its_order_and_goes_later() -> None:
    waiting = line("P2 C A1 S")
    assert names(waiting.release(True)) == "A1"
    waiting.committed(0)
    assert not waiting.commits
    assert names(waiting.release(True)) == "P2"
    assert names(waiting.release(False)) == "C S"
    assert not waiting


def test_a_guard_is_lifted_by_its_own_token() -> None:
    waiting = line("G G")
    waiting.passed(1)
    assert names(waiting.release(False)) == ""
    waiting.passed(0)
    assert names(waiting.release(False)) == "G G"


def test_only_what_waits_by_its_own_right_has_an_end() -> None:
    assert line("").until is None
    assert line("C S A").until == 5.0
    assert line("P1 A2").until == 5.0
    assert line("A S C").until == 7.0


def test_full_by_number() -> None:
    assert not line("C " * MOST).full
    assert line("C " * (MOST + 1)).full


def test_full_by_bytes_but_for_a_single_message() -> None:
    waiting = Waiting()
    waiting.join(Waiter("call", frame(b"x" * (MOST_BYTES + 1)), 0.0, 5.0))
    assert not waiting.full
    waiting.join(Waiter("other", frame(b"x"), 0.0, 5.0))
    assert waiting.full
    waiting.release(False)
    waiting.join(Waiter("call", frame(b"x"), 0.0, 5.0))
    waiting.join(Waiter("call", frame(b"x"), 0.0, 5.0))
    assert not waiting.full


def test_at_the_end_nothing_goes_past_an_answer_that_was_not_stored() -> None:
    assert names(line("C G S P1 C A2").abandon()) == "C G S"
