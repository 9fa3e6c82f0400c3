"""One end of an OCPP-J conversation, for simulated stations and CPMS: payloads on one side, frames on the other.

It keeps to the rules: one CALL open at a time, the rest wait in order; every CALL that comes is answered once. It writes down
each frame it sends or is given, as a hash, in order, so that both ends can be compared when all is over. A wire outlives its
links: what was not answered when a link broke is sent again on the next one.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

CALL, CALLRESULT, CALLERROR = 2, 3, 4
QUEUE = 200  # CALLs waiting while a link is down; beyond that the newest are refused: a simulation needs no more memory
TIMEOUT_S = 60.0

Payload = Mapping[str, Any]
Answer = Callable[[str, Any], Payload]


class Wrong(Exception):
    """A CALLERROR: raised to answer with one, and what a CALL of ours fails with."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(code, text)
        self.code, self.text = code, text


class Seen(NamedTuple):
    """A frame that went by."""

    kind: int
    id: str
    action: str
    hash: str
    text: str = ""
    """Only if the log keeps texts."""


@dataclass(slots=True)
class Log:
    """What one end sent and was given, in order."""

    keep: bool = False
    sent: list[Seen] = field(default_factory=list)
    received: list[Seen] = field(default_factory=list)

    def note(self, to: list[Seen], text: bytes, frame: Any) -> None:
        kind, id, action = head(frame)
        to.append(Seen(kind, id, action, sha256(text).hexdigest(), text.decode("utf-8", "replace") if self.keep else ""))


def head(frame: Any) -> tuple[int, str, str]:
    """Kind, id and action as far as there are any."""
    if not isinstance(frame, list) or len(frame) < 2 or not isinstance(frame[0], int):
        return 0, "", ""
    return frame[0], str(frame[1]), str(frame[2]) if frame[0] in (CALL, 6) and len(frame) > 2 else ""


class Waiting(NamedTuple):
    id: str
    action: str
    frame: list[Any]
    result: Deferred[Any]


class Wire:
    """`answer(action, payload)` gives the payload of a CALLRESULT or raises `Wrong`; `later(seconds, f)` is a reactor's callLater."""

    def __init__(self, answer: Answer, new_id: Callable[[], str], later: Callable[..., Any], log: Log | None = None) -> None:
        self.log = log if log is not None else Log()
        self._answer, self._new_id, self._later = answer, new_id, later
        self._send: Callable[[bytes], None] | None = None
        self._queue: deque[Waiting] = deque()
        self._open: Waiting | None = None
        self._timer: Any = None

    @property
    def quiet(self) -> bool:
        """Nothing open or waiting."""
        return self._open is None and not self._queue

    def connected(self, send: Callable[[bytes], None], first: tuple[str, Payload] | None = None) -> Deferred[Any]:
        """A link is up. `first` (a BootNotification) goes before all that waits; the result is its answer."""
        self._send = send
        result: Deferred[Any] = Deferred()
        if self._open is not None:
            self._queue.appendleft(self._open)
            self._open = None
        if first is None:
            result.callback(None)
        else:
            self._queue.appendleft(self._waiting(*first, result))
        self._next()
        return result

    def disconnected(self) -> None:
        self._send = None
        self._stop_timer()

    def call(self, action: str, payload: Payload) -> Deferred[Any]:
        """The answer's payload, some time; fails with `Wrong`, for a timeout too."""
        result: Deferred[Any] = Deferred()
        if len(self._queue) >= QUEUE:
            result.errback(Wrong("GenericError", "too many CALLs wait"))
            return result
        self._queue.append(self._waiting(action, payload, result))
        self._next()
        return result

    def received(self, text: bytes) -> None:
        """A message of the peer."""
        try:
            frame = json.loads(text)
        except ValueError:
            frame = None
        self.log.note(self.log.received, text, frame)
        kind, id, action = head(frame)
        if kind == CALL and len(frame) > 3:
            self._put(self._reply(id, action, frame[3]))
        elif kind in (CALLRESULT, CALLERROR) and self._open is not None and self._open.id == id:
            self._settle(kind, frame)

    def _waiting(self, action: str, payload: Payload, result: Deferred[Any]) -> Waiting:
        id = self._new_id()
        return Waiting(id, action, [CALL, id, action, payload], result)

    def _reply(self, id: str, action: str, payload: Any) -> list[Any]:
        try:
            return [CALLRESULT, id, self._answer(action, payload)]
        except Wrong as wrong:
            return [CALLERROR, id, wrong.code, wrong.text, {}]
        except (KeyError, TypeError, AttributeError) as wrong:  # a payload that is not what its action says
            return [CALLERROR, id, "FormationViolation", repr(wrong)[:255], {}]

    def _put(self, frame: list[Any]) -> None:
        if self._send is None:
            return
        text = json.dumps(frame, separators=(",", ":")).encode()
        self.log.note(self.log.sent, text, frame)
        self._send(text)

    def _next(self) -> None:
        if self._send is None or self._open is not None or not self._queue:
            return
        self._open = self._queue.popleft()
        self._timer = self._later(TIMEOUT_S, self._settle, CALLERROR, [CALLERROR, self._open.id, "GenericError", "no answer", {}])
        self._put(self._open.frame)

    def _settle(self, kind: int, frame: list[Any]) -> None:
        asked, self._open = self._open, None
        self._stop_timer()
        if asked is not None:
            if kind == CALLRESULT:
                asked.result.callback(frame[2] if len(frame) > 2 else {})
            else:
                asked.result.errback(Wrong(*[str(part) for part in frame[2:4]] or ["GenericError"]))
        self._next()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
