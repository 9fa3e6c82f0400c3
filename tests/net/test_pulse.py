"""Is a peer alive, and does it read? Decided by times alone."""

from __future__ import annotations

import pytest

from broker.net.pulse import LOOK_S, PONG_S, SILENT_S, STALL_S, Pulse

EVERY_S = 30.0


class Peer:
    """A pulse with a hand-wound clock, looked at exactly when it wants to be."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pulse = Pulse(lambda: self.now)
        self.unsent = 0

    def runs(self, until: float, pongs: bool = False) -> list[tuple[float, str]]:
        """What came of it up to then: (when, "" = pinged, else why it is dead)."""
        came: list[tuple[float, str]] = []
        while (due := self.pulse.due(EVERY_S)) <= until:
            self.now = max(self.now, due)
            verdict = self.pulse.check(EVERY_S, self.unsent)
            if verdict is None:
                continue
            came.append((self.now, verdict))
            if verdict:
                return came
            self.pulse.pinged()
            if pongs:
                self.now += 0.1
                self.pulse.heard()
                self.pulse.ponged()
        self.now = until
        return came


def test_a_silent_peer_is_asked_early_then_every_30_s_and_is_dead_15_s_after_it_did_not_answer() -> None:
    peer = Peer()
    asked = [when for when, why in peer.runs(100.0, pongs=True) if why == ""]
    assert asked == pytest.approx([5.0, 35.1, 65.2, 95.3])
    (when, why), *_ = peer.runs(300.0)[1:] or [(0.0, "")]
    assert when == pytest.approx(95.4 + EVERY_S + PONG_S)
    assert why.startswith("has said nothing for")


def test_one_that_never_said_anything_is_dead_within_45_s() -> None:
    when, why = Peer().runs(100.0)[-1]
    assert why
    assert when <= 45.0


def test_one_that_never_pongs_but_speaks_is_judged_by_a_quarter_of_an_hour() -> None:
    peer = Peer()
    for _ in range(20):
        peer.pulse.heard()
        peer.pulse.spoke()
        spoke = peer.now
        assert all(why == "" for _, why in peer.runs(peer.now + 40.0))
    when, why = peer.runs(spoke + 2 * SILENT_S)[-1]
    assert why
    assert spoke + SILENT_S <= when <= spoke + SILENT_S + EVERY_S + PONG_S


def test_a_peer_that_takes_nothing_is_dead_after_20_s_and_one_that_is_merely_slow_is_not() -> None:
    stuck, slow = Peer(), Peer()
    for peer in (stuck, slow):
        peer.unsent = 1_000_000
        peer.pulse.flow(True, peer.unsent)
    ((when, why),) = stuck.runs(100.0)
    assert (when, why) == (STALL_S, "has read nothing for 20 s")
    for _ in range(50):
        slow.unsent -= 1
        assert slow.runs(slow.now + LOOK_S) == []
    assert slow.pulse.stalled
    slow.pulse.flow(False, 0)
    assert not slow.pulse.stalled


def test_a_peer_that_we_do_not_read_can_prove_nothing_and_is_not_doubted() -> None:
    peer = Peer()
    peer.runs(40.0, pongs=True)
    peer.pulse.reading(False)
    peer.now = 1000.0
    assert peer.pulse.check(EVERY_S, 0) is None
    peer.pulse.reading(True)
    assert peer.pulse.due(EVERY_S) == 1000.0 + EVERY_S, "its silence counts from here"
