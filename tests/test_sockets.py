"""One EVSE: when it may be touched again, and what it shows."""

from __future__ import annotations

from dataclasses import replace

from broker.leases import Lease
from broker.model.schedules import Schedule, Step
from broker.settings import EvseSettings
from broker.sockets import Socket

NOW = 1_780_000_000.0
STEPS = (Step(NOW, 16.0), Step(NOW + 300, 10.0))
LEASE = Lease(9_120_011, 1, "max", 8, NOW + 900, "s-1", STEPS, 32.0, (*STEPS, Step(NOW + 900, 32.0)), NOW, sure=True)


def test_each_failure_leaves_it_alone_for_longer_and_an_answer_ends_that() -> None:
    socket = Socket(EvseSettings(1, "CS-1"))
    waits = []
    for _ in range(9):
        socket.failed(0.0, "no-answer", "timeout")
        waits.append(socket.not_before_mono)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    socket.urgent = True
    socket.failed(0.0, "no-answer", "timeout")
    assert (socket.urgent, socket.status, socket.why) == (False, "no-answer", "timeout")
    socket.accepted(replace(LEASE, sure=False), 100.0, 60.0)
    assert (socket.lease, socket.failures, socket.not_before_mono, socket.status) == (LEASE, 0, 160.0, "accepted")


def test_what_it_shows_is_what_is_in_force() -> None:
    socket = Socket(EvseSettings(1, "CS-1"))
    assert (socket.explain(NOW, {})["asked"], socket.explain(NOW, {})["sent"]) == (None, None)
    socket.wish(Schedule("s-1", "CS-1", NOW, NOW + 3600, "A", (Step(NOW, 20.0), Step(NOW + 500, 6.0))))
    socket.lease = LEASE
    shown = socket.explain(NOW + 400, {"known": True})
    assert shown["asked"] == {"schedule": "s-1", "limit": 20.0, "unit": "A"}
    assert shown["allowed"] == {"known": True}
    assert (shown["sent"]["limit"], shown["sent"]["profile"], shown["sent"]["purpose"]) == (10.0, 9_120_011, "max")
