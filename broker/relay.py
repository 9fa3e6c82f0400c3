"""One station and its CPMS: what goes where, in which order.

Frames of both sides, wishes of ours and the time come in; what is to be done comes out, to be done in that order. Every
frame goes on as it came, but for two things: answers to CALLs of ours end here, and a frame may wait a moment
(`broker.waiting` for the station, `broker.detained` for the CPMS: why, how long, and who may overtake it). The relay knows
no OCPP version: which actions are of interest is told to it (`broker.watch`). `docs/protocol.md` states the laws; property
tests hold this file to them.

Almost every frame simply goes on: then the answer is the constant `FORWARD`, or, if it is also shown, the exchange to show.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from broker.calls import OpenCall
from broker.detained import Detained, Stayer
from broker.effects import FORWARD, Answered, Counted, Effect, Effects, Guarded, Heard, Held, Saw, Sent, Settlement, Tell, spelled_out
from broker.model.traffic import CALL, CALLERROR, CALLRESULT, NOTHING, OURS, SEND, Exchange, Interest
from broker.ocpp.frames import Frame, Head, call
from broker.turn import Ours, Turn
from broker.waiting import Waiter, Waiting
from broker.watch import Watch

__all__ = [
    "FORWARD", "Answered", "Counted", "Effect", "Effects", "Guarded", "Heard", "Held", "Relay", "Saw", "Sent", "Settlement", "Tell",
    "spelled_out",
]  # fmt: skip

_OUR_ID: Final = re.compile(OURS + "[0-9a-f]{32}").fullmatch
_UNREADABLE: Final = "-1"  # the id of a CALLERROR about a CALL whose id the station could not read (OCPP-J 2.1, 4.2.3)


class Relay:
    """The rules for one link. Times are monotonic seconds.

    `new_id` makes the ids of our CALLs: "ocb-" and 32 random lower-case hex digits. `hold`: how long a CPMS CALL may wait.
    `call_timeout`: for how long an unanswered CPMS CALL keeps ours waiting. `commit_wait`: how long an answer waits for the disk.
    """

    def __init__(
        self,
        interest: Interest = NOTHING,
        *,
        new_id: Callable[[], str],
        hold: float = 5.0,
        call_timeout: float = 60.0,
        commit_wait: float = 0.25,
    ) -> None:
        self._new_id = new_id
        self._hold = hold
        self._call_timeout = call_timeout
        self._commit_wait = min(commit_wait, hold)
        self._watch = Watch(interest)
        self._waiting = Waiting()
        self._ours = Turn()
        self._asking: str | None = None  # the station's newest CALL, until it is answered
        self._closed = False
        self._detained: Detained | None = None  # most links never need it
        self._straight = True  # not closed, and no frame of the station's waits

    @property
    def quiet(self) -> bool:
        """No CALL is open in either direction and no frame waits, as far as we know."""
        return not (
            self._ours.open or self._watch.opened or self._watch.asked or self._asking is not None or self._waiting or self._detained
        )

    @property
    def wake_at(self) -> float | None:
        """When `tick` is wanted next; None = not before something else happens."""
        if not self._waiting.line and self._ours.idle and self._straight:
            return None
        times = [self._ours.until, self._waiting.until, self._detained.until if self._detained else None]
        newest = self._watch.opened.newest_since
        if newest is not None and self._ours.ready and not self._waiting.commits:
            times.append(newest + self._call_timeout)
        return min((time for time in times if time is not None), default=None)

    # ------------------------------------------------------------ from the station

    def from_station(self, now: float, frame: Frame) -> Heard:
        """A frame of the station came."""
        head = frame.head
        if not self._straight:
            return self._stays_behind(now, frame)
        if head is None:
            return (Tell("cpms", frame), Counted("opaque"))
        watch = self._watch
        if head.kind == CALL:
            self._asking = head.id
            if head.action in watch.glanced and not watch.asked.calls:  # its answer is of no interest, and no other's either
                return Exchange("station", head.action, frame.text, None, 0, None)
            if head.action in watch.actions or (watch.asked.calls and head.id in watch.asked):
                return (Tell("cpms", frame), *watch.station_calls(now, frame, head))
            return FORWARD
        if head.kind == SEND:
            if head.action not in watch.interest.at_call:
                return FORWARD
            return Exchange("station", head.action, frame.text, None, 0, None)
        return self._station_answers(now, frame, head)

    def _station_answers(self, now: float, frame: Frame, head: Head) -> Effects:
        """First to the CPMS's CALLs, then to ours; what bears an id of ours and fits neither came late or twice."""
        kind = head.kind
        opened = self._watch.opened.take(head.id) if kind in (CALLRESULT, CALLERROR) else None
        if opened is not None:
            if opened.text is None and not self._ours.waits and opened.shown is None:
                return FORWARD
            goes = self._entrusted(now, frame, opened)
            return _tell_first(*goes, *self._watch.answered("cpms", opened, frame, kind), *self._start(now))
        ours = self._ours.id
        if ours is not None and (head.id == ours or (head.id == _UNREADABLE and kind == CALLERROR and not self._busy(now))):
            return _tell_first(self._ours.answered(frame, kind), *self._move(now))
        if _OUR_ID(head.id):
            return (Counted("late-answer"),)
        return FORWARD

    def _entrusted(self, now: float, frame: Frame, opened: OpenCall) -> list[Effect]:
        """An answer of the station goes, or waits until what its CALL said is on disk."""
        if opened.tokens:
            return self._detain(Stayer(frame, now + self._commit_wait, opened.tokens))
        return [Tell("cpms", frame), *([Counted("unpromised")] if opened.tokens.broken else ())]

    def _stays_behind(self, now: float, frame: Frame) -> Effects:
        """A frame of the station's came while an earlier one waits: what follows from it is the same, but it keeps its place."""
        if self._closed:
            return ()
        self._straight = True
        effects = spelled_out(self.from_station(now, frame), "cpms", frame)
        self._straight = not self._detained
        if self._straight:  # too much waited: all went, this one last
            return effects
        rest = [effect for effect in effects if not (isinstance(effect, Tell) and effect.frame is frame)]
        stays = self._detain(Stayer(frame, now)) if len(rest) < len(effects) else ()
        return _tell_first(*stays, *rest)

    def _detain(self, stayer: Stayer) -> list[Effect]:
        if self._detained is None:
            self._detained = Detained()
        return self._freed(self._detained.join(stayer))

    def _freed(self, effects: list[Effect]) -> list[Effect]:
        """What waited for the CPMS and waits no longer."""
        self._straight = not (self._closed or self._detained)
        return effects

    # ------------------------------------------------------------ from the CPMS

    def from_cpms(self, now: float, frame: Frame) -> Effects:
        """A frame of the CPMS came."""
        head = frame.head
        if self._closed:
            return ()
        if head is None:
            return (*self._queue(now, Waiter("other", frame, now, now + self._hold)), Counted("opaque"))
        if head.kind == CALLRESULT or head.kind == CALLERROR:
            return self._cpms_answers(now, frame, head)
        if head.kind == CALL:
            return self._cpms_calls(now, frame, head)
        if not self._waiting.line:
            return FORWARD
        return self._queue(now, Waiter("other", frame, now, now + self._hold))

    def _cpms_calls(self, now: float, frame: Frame, head: Head) -> Effects:
        guarded = head.action in self._watch.interest.guarded
        if not guarded and not self._waiting.line and not self._ours.open:
            effects = self._watch.cpms_calls(now, frame, head)
            return (Tell("station", frame), *effects) if effects else FORWARD
        waiter = Waiter("call", frame, now, now + self._hold)
        if not guarded:
            return self._queue(now, waiter)
        waiter.guard = self._watch.token()
        return self._queue(now, waiter, Guarded(waiter.guard, Exchange("cpms", head.action, frame.text, None, 0, None)))

    def _cpms_answers(self, now: float, frame: Frame, head: Head) -> Effects:
        if head.id == self._asking:
            self._asking = None
        watch = self._watch
        asked = watch.asked.take(head.id) if watch.asked.calls else None
        if asked is None:
            return self._queue(now, Waiter("answer", frame, now, now + self._hold)) if self._waiting.line else FORWARD
        effects = watch.answered("station", asked, frame, head.kind)
        if not asked.tokens and not asked.tokens.broken and not self._waiting:
            return (Tell("station", frame), *effects) if effects else FORWARD
        until = now + (self._commit_wait if asked.tokens else self._hold)
        return self._queue(now, Waiter("answer", frame, now, until, asked.order, asked.tokens), *effects)

    # ------------------------------------------------------------ ours, and the time

    def inject(self, now: float, token: int, action: str, payload: Mapping[str, Any] | bytes, wait: float, timeout: float) -> Effects:
        """Send a CALL of ours when the law lets it, within `wait` seconds; the station has `timeout` seconds to answer.

        `Answered` with `token` follows exactly once. One of ours at a time: another is settled as no-slot at once. Raises
        ValueError for a payload that JSON cannot say, or if `new_id` made an id by which we could not know our own again.
        """
        if self._closed:
            return (Answered(token, "closed", None),)
        if self._ours.waits or self._ours.open:
            return (Answered(token, "no-slot", None),)
        id = self._new_id()
        if not _OUR_ID(id):
            raise ValueError("an id of ours is ocb- and 32 hex digits")
        self._ours.wish(Ours(token, id, Frame(Head(CALL, id, action), call(id, action, payload)), timeout, now + wait))
        return tuple(self._start(now))

    def committed(self, now: float, token: int, kept: bool = True) -> Effects:
        """What was learned from the exchange shown with this token is on disk, or (not `kept`) never will be. An unknown one: nothing."""
        self._watch.committed(token, kept)
        self._waiting.committed(token, kept)
        freed = self._freed(self._detained.committed(token, kept)) if self._detained else ()
        return _tell_first(*freed, *self._move(now))

    def passed(self, now: float, token: int) -> Effects:
        """The guarded CALL shown with this token may go. An unknown token changes nothing."""
        self._waiting.passed(token)
        return _tell_first(*self._move(now))

    def seat(self, now: float, interest: Interest, *, prove: bool) -> Effects:
        """Somebody else learns from now on (`prove`: first that both ends live): what the one before held, or wished to send, is let go."""
        self._watch.seat(interest, prove)
        for waiter in self._waiting:
            waiter.guard = None
        return _tell_first(*self._ours.lose_patience(math.inf), *self._move(now))

    def tick(self, now: float) -> Effects:
        """Time went by: whatever is overdue is settled, given up or let go."""
        self._watch.forget(now)
        if not self._waiting.line and self._ours.idle and not self._detained:
            return ()
        effects = self._freed(self._detained.tick(now)) if self._detained else []
        effects += [*self._ours.time_out(now), *self._hurry(now, [waiter for waiter in self._waiting if waiter.until <= now])]
        effects += (*self._move(now), *self._ours.lose_patience(now))
        return _tell_first(*effects)

    def closed(self, now: float) -> Effects:
        """One of the sockets went. Ours is settled; frames that only waited are told, to whoever is still there."""
        self._closed, self._straight = True, False
        self._asking = None
        self._watch.clear()
        last = self._detained.close() if self._detained else ()
        return _tell_first(*last, *(Tell("station", waiter.frame) for waiter in self._waiting.abandon()), *self._ours.close())

    # ------------------------------------------------------------ what happens in each of these

    def _busy(self, now: float) -> bool:
        """A CPMS CALL is open toward the station. They are kept in order, so the newest decides."""
        newest = self._watch.opened.newest_since
        return newest is not None and now < newest + self._call_timeout

    def _queue(self, now: float, waiter: Waiter, *first: Effect) -> Effects:
        """This one goes to the station when it may, which may be now."""
        effects = [*first]
        self._waiting.join(waiter)
        if self._waiting.full:
            effects += (Counted("hold-full"), *self._hurry(now, self._waiting))
        return _tell_first(*effects, *self._move(now))

    def _hurry(self, now: float, waiters: Iterable[Waiter]) -> list[Effect]:
        """These wait no longer: what they wait for gives way."""
        effects: list[Effect] = []
        for waiter in waiters:
            if waiter.tokens:
                waiter.tokens.forget()
                effects.append(Counted("unpromised"))
            if waiter.guard is not None:
                waiter.guard = None
                effects.append(Counted("unguarded"))
            if waiter.sort == "call":
                effects += self._ours.give_up(now + self._hold)
        return effects

    def _move(self, now: float) -> list[Effect]:
        """Let go what may go: the CPMS's frames first, then ours."""
        effects: list[Effect] = []
        for waiter in self._waiting.release(self._ours.open) if self._waiting else ():
            effects.append(Tell("station", waiter.frame))
            if waiter.tokens.broken:
                effects.append(Counted("unpromised"))
            if waiter.sort == "call" and waiter.frame.head is not None:
                effects += self._watch.cpms_calls(now, waiter.frame, waiter.frame.head)
                effects.append(Held(now - waiter.since))
        return [*effects, *self._start(now)]

    def _start(self, now: float) -> Effects:
        """Send ours if its turn has come. After `_move`, a CALL that still waits at the front is guarded: it waits for ours."""
        if self._ours.ready and not self._busy(now) and not self._waiting.commits:
            return self._ours.send(now)
        return ()


def _tell_first(*effects: Effect) -> Effects:
    """Frames first: who is told of the rest may come back at once with another wish, and must not get before them."""
    return tuple(sorted(effects, key=lambda effect: not isinstance(effect, Tell)))
