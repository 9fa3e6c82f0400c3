"""One end of a conversation: one CALL open at a time, everything answered once, nothing lost with a link, every frame noted."""

from __future__ import annotations

import itertools
import json
from hashlib import sha256
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from broker.sim.wire import QUEUE, TIMEOUT_S, Log, Wire, Wrong


def answer(action: str, payload: Any) -> dict[str, Any]:
    if action == "Known":
        return {"got": payload["x"]}
    raise Wrong("NotImplemented", action)


class End:
    """A wire, what it sent, and a clock."""

    def __init__(self) -> None:
        self.clock, self.sent = Clock(), []  # type: tuple[Clock, list[Any]]
        ids = itertools.count(1)
        self.wire = Wire(answer, lambda: f"id{next(ids)}", self.clock.callLater, Log(keep=True))

    def up(self, first: Any = None) -> Deferred[Any]:
        return self.wire.connected(lambda text: self.sent.append(json.loads(text)), first)

    def get(self, *frame: Any) -> None:
        self.wire.received(json.dumps(frame).encode())


def failure(result: Deferred[Any]) -> Wrong:
    wrong: list[Any] = []
    result.addErrback(lambda f: wrong.append(f.value))
    return wrong[0]


def test_the_second_call_waits_for_the_first_ones_answer() -> None:
    end = End()
    end.up()
    results: list[Any] = []
    for name in ("A", "B"):
        end.wire.call(name, {}).addCallback(results.append)
    assert end.sent == [[2, "id1", "A", {}]]
    end.get(3, "other", {})
    assert len(end.sent) == 1
    end.get(3, "id1", {"a": 1})
    assert end.sent[1:] == [[2, "id2", "B", {}]]
    assert not end.wire.quiet
    end.get(3, "id2", {"b": 2})
    assert results == [{"a": 1}, {"b": 2}]
    assert end.wire.quiet


def test_an_error_and_silence_are_failures() -> None:
    end = End()
    end.up()
    refused, unheard = end.wire.call("A", {}), end.wire.call("B", {})
    end.get(4, "id1", "GenericError", "no", {})
    assert failure(refused).code == "GenericError"
    end.clock.advance(TIMEOUT_S)
    assert failure(unheard).text == "no answer"
    assert end.wire.quiet


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        ([2, "x", "Known", {"x": 5}], [3, "x", {"got": 5}]),
        ([2, "x", "Unknown", {}], [4, "x", "NotImplemented", "Unknown", {}]),
        ([2, "x", "Known", {}], [4, "x", "FormationViolation", "KeyError('x')", {}]),
    ],
)
def test_every_call_is_answered(call: list[Any], reply: list[Any]) -> None:
    end = End()
    end.up()
    end.get(*call)
    assert end.sent == [reply]


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"[2]", b"\xff", b'["2","x"]', b'[2,"x","Known"]', b"[9,1,2]"])
def test_rubbish_is_noted_and_not_answered(text: bytes) -> None:
    end = End()
    end.up()
    end.wire.received(text)
    assert end.sent == []
    assert [seen.hash for seen in end.wire.log.received] == [sha256(text).hexdigest()]


def test_what_was_not_answered_is_sent_again_on_the_next_link_after_the_boot() -> None:
    end = End()
    end.up()
    end.wire.call("A", {})
    end.wire.call("B", {})
    end.wire.disconnected()
    end.get(2, "x", "Known", {"x": 1})  # nobody to answer any more
    booted: list[Any] = []
    end.up(("Boot", {})).addCallback(booted.append)
    end.get(3, "id3", {"status": "Accepted"})
    end.get(3, "id1", {})
    assert [frame[2] for frame in end.sent] == ["A", "Boot", "A", "B"]
    assert booted == [{"status": "Accepted"}]


def test_a_queue_has_an_end() -> None:
    end = End()
    results = [end.wire.call("A", {}) for _ in range(QUEUE + 1)]
    assert failure(results[-1]).text == "too many CALLs wait"
    assert not results[-2].called


def test_each_frame_is_noted_with_its_hash_in_order() -> None:
    end = End()
    end.up()
    end.wire.call("A", {})
    end.get(2, "x", "Known", {"x": 1})
    assert [(s.kind, s.id, s.action) for s in end.wire.log.sent] == [(2, "id1", "A"), (3, "x", "")]
    assert [s.hash for s in end.wire.log.sent] == [sha256(s.text.encode()).hexdigest() for s in end.wire.log.sent]
    assert [(s.kind, s.action) for s in end.wire.log.received] == [(2, "Known")]
