"""Which exchanges are shown to the tap, and which answers wait until what they taught is on disk.

CALLs of both sides come in as they go on, answers as they arrive; out comes what is to be shown. A CALL is remembered only
if its answer is of interest, or, the CPMS's, because the station may have but one open (law 3). Everything remembered is
bounded: what goes beyond is relayed untapped, and counted.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from broker.calls import FORGET_S, KEPT_BYTES, OpenCall, OpenCalls
from broker.effects import Counted, Effect, Saw
from broker.model.traffic import CALLRESULT, Exchange, Interest, Leg
from broker.ocpp.frames import Frame, Head

MOST_OPEN: Final = 1024  # CPMS CALLs that the station has not answered; beyond it the oldest is forgotten
MOST_KEPT: Final = 32  # the station's CALLs we follow, and kept CALLs of both sides; beyond it the oldest goes untapped


@lru_cache(64)
def _sorted(interest: Interest, proven: bool) -> tuple[frozenset[str], frozenset[str]]:
    """What is shown or followed, and of that what is only glanced at: one pair of sets for all links of a kind."""
    proof = frozenset() if proven else interest.proof
    return interest.at_call | interest.at_answer | proof, interest.at_call - interest.at_answer - interest.promised - proof


class Watch:
    """What is remembered of one link's open CALLs."""

    __slots__ = ("_interest", "_last_order", "_last_token", "_proven", "actions", "asked", "glanced", "opened")

    def __init__(self, interest: Interest) -> None:
        self.opened = OpenCalls(MOST_OPEN)  # the CPMS's, at the station
        self.asked = OpenCalls(MOST_KEPT)  # the station's, at the CPMS: those that are followed
        self.actions: frozenset[str] = frozenset()  # the station's CALLs that are shown or followed
        self.glanced: frozenset[str] = frozenset()  # those of them that are shown, and done with
        self._proven = False
        self._last_token = 0
        self._last_order = 0
        self.interest = interest

    @property
    def interest(self) -> Interest:
        return self._interest

    @interest.setter
    def interest(self, interest: Interest) -> None:
        self._interest = interest
        self.actions, self.glanced = _sorted(interest, self._proven)

    def seat(self, interest: Interest, prove: bool) -> None:
        """Somebody else learns from now on; `prove`: the proof is to be shown again."""
        self._proven = self._proven and not prove
        self.interest = interest

    def token(self) -> int:
        """A new name for something that will be reported back."""
        self._last_token += 1
        return self._last_token

    def station_calls(self, now: float, frame: Frame, head: Head) -> list[Effect]:
        """The station sent a CALL of interest, or one whose id must be told from such a one's."""
        effects: list[Effect] = []
        interest, action = self._interest, head.action
        self._last_order += 1
        asked = OpenCall(head.id, action, now, self._last_order, promised=action in interest.promised)
        asked.proves = not self._proven and action in interest.proof
        if action in interest.at_call:
            token = self.token() if asked.promised else None
            if token is not None:
                asked.tokens.add(token)
            effects.append(Saw(Exchange("station", action, frame.text, None, 0, token)))
        if action in interest.at_answer:
            self._keep(asked, frame, effects)
        followed = asked.tokens or asked.proves or asked.text is not None or head.id in self.asked
        if followed and not self.asked.add(asked):
            effects.append(Counted("untapped"))
        return effects

    def cpms_calls(self, now: float, frame: Frame, head: Head) -> list[Effect]:
        """A CALL of the CPMS goes to the station."""
        effects: list[Effect] = []
        opened = OpenCall(head.id, head.action, now)
        if head.action in self._interest.entrusting:
            self._entrust(opened, frame, effects)
        elif head.action in self._interest.at_answer:
            self._keep(opened, frame, effects)
        if not self.opened.add(opened):
            effects.append(Counted("forgotten"))
        return effects

    def answered(self, sender: Leg, call: OpenCall, frame: Frame, kind: int) -> list[Effect]:
        """The answer to this CALL of `sender`'s arrived. `call.tokens` then holds the commits that it must wait for."""
        effects: list[Effect] = []
        if call.text is not None and len(frame.text) > KEPT_BYTES:
            effects.append(Counted("untapped"))
        elif call.text is not None:
            token = self.token() if call.promised else None
            if token is not None:
                call.tokens.add(token)
            effects.append(Saw(Exchange(sender, call.action, call.text, frame.text, kind, token, call.shown)))
        if call.proves and kind == CALLRESULT and not self._proven:
            self._proven = True
            self.interest = self._interest
            effects.append(Saw(Exchange("station", call.action, b"", b"", CALLRESULT, None)))
        return effects

    def committed(self, token: int, kept: bool = True) -> None:
        """What this token stood for is on disk, or (not `kept`) never will be."""
        for call in (*self.asked, *self.opened):
            call.tokens.settle(token, kept)

    def forget(self, now: float) -> None:
        """Forget CALLs that will hardly be answered any more."""
        self.opened.forget(now - FORGET_S)
        self.asked.forget(now - FORGET_S)

    def clear(self) -> None:
        self.opened.clear()
        self.asked.clear()

    def _entrust(self, call: OpenCall, frame: Frame, effects: list[Effect]) -> None:
        """What it says is secret: who is shown it keeps what the answer is read with. Nothing of it stays here."""
        self._keep(call, frame, effects)
        if call.text is not None:
            call.text, call.shown = b"", self.token()
            call.tokens.add(call.shown)
            effects.append(Saw(Exchange("cpms", call.action, frame.text, None, 0, call.shown)))

    def _keep(self, call: OpenCall, frame: Frame, effects: list[Effect]) -> None:
        if len(frame.text) > KEPT_BYTES:
            effects.append(Counted("untapped"))
            return
        kept = [other for other in (*self.asked, *self.opened) if other.text is not None]
        if len(kept) >= MOST_KEPT:
            min(kept, key=lambda other: other.since).text = None
            effects.append(Counted("untapped"))
        call.text = frame.text
