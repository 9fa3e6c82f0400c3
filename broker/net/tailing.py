"""A station's frames, shown live to an operator over the admin side: one JSON object a line, id tokens masked.

    {"at": "2026-01-10T06:00:00.000Z", "from": "station", "to": "cpms", "frame": [2, "1", "Heartbeat", {}]}
    {"at": …, "event": "connected" | "away"}                  the link came, or ended; what follows is the next link's
    {"at": …, "event": "dropped", "frames": 12}               the reader was too slow, or the station too fast

A frame goes on before it is looked at: a link only leaves it here, and masking and writing come in turns of their own. Whoever does
not read in time loses lines, never a frame of the station. A blank line every 15 s says that the stream lives.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IPushProducer
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from broker.masking import Masks
from broker.model.basics import Key
from broker.net.link import Link
from broker.net.links import Links
from broker.net.replies import Answer, error
from broker.ocpp.times import text

MOST: Final = 8  # streams at a time, of all stations: each costs the broker's one core
QUEUE: Final = 512  # frames that wait to be shown
QUEUE_BYTES: Final = 1024 * 1024
FRAME_BYTES: Final = 64 * 1024  # a longer one is only measured
TURN: Final = 16  # frames masked in one turn: some 2 ms
BEAT_S: Final = 15.0

Seen = tuple[float, str, str, bytes, int]
"""At, from, to, text (b"" when not kept), bytes."""


@implementer(IPushProducer)
class Tail:
    """One reader of one station's frames."""

    def __init__(self, request: Request, reactor: Any, wall: Callable[[], float], done: Callable[[Tail], None]) -> None:
        self._request, self._reactor, self._wall, self._done = request, reactor, wall, done
        self._queue: deque[Seen | str] = deque()
        self._bytes = self._dropped = 0
        self._masks = Masks()
        self._paused = self._over = False
        self._turn: Any = None
        self._beat = reactor.callLater(BEAT_S, self._live)
        request.registerProducer(self, True)
        request.notifyFinish().addBoth(self._gone)

    # ------------------------------------------------------------ what is shown

    def saw(self, source: str, target: str, frame: bytes, binary: bool) -> None:
        """A frame went by. Nothing is done with it now."""
        size = len(frame)
        if len(self._queue) >= QUEUE or self._bytes + size > QUEUE_BYTES:
            self._dropped += 1
            return
        kept = b"" if binary or size > FRAME_BYTES else frame
        self._bytes += len(kept)
        self._queue.append((self._wall(), source, target, kept, size))
        self._soon()

    def event(self, name: str) -> None:
        """The link came or went."""
        if len(self._queue) < 2 * QUEUE:
            self._queue.append(_line({"at": text(self._wall()), "event": name}))
            self._soon()

    def _soon(self) -> None:
        if self._turn is None and not self._paused and not self._over:
            self._turn = self._reactor.callLater(0, self._show)

    def _show(self) -> None:
        self._turn = None
        for _ in range(TURN):
            if not self._queue or self._paused or self._over:
                break
            one = self._queue.popleft()
            self._write(one if isinstance(one, str) else self._shown(one))
        if self._queue:
            self._soon()
        elif self._dropped and not self._paused and not self._over:
            dropped, self._dropped = self._dropped, 0
            self._write(_line({"at": text(self._wall()), "event": "dropped", "frames": dropped}))

    def _shown(self, seen: Seen) -> str:
        at, source, target, kept, size = seen
        self._bytes -= len(kept)
        said: dict[str, Any] = {"at": text(at), "from": source, "to": target}
        if not kept:
            return _line({**said, "unreadable": size})
        shown = self._masks.shown(kept)
        return _line({**said, **(shown if isinstance(shown, dict) else {"frame": shown})})

    # ------------------------------------------------------------ its reader

    def _write(self, line: str) -> None:
        self._request.write(line.encode())

    def _live(self) -> None:
        self._beat = self._reactor.callLater(BEAT_S, self._live)
        if not self._paused:
            self._write("\n")

    def _gone(self, _: object) -> None:
        self._over = True
        self._queue.clear()
        for timer in (self._beat, self._turn):
            if timer is not None and timer.active():
                timer.cancel()
        self._done(self)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._soon()

    def stopProducing(self) -> None:
        """The request goes, and says so by itself."""


class Tails:
    """All readers there are."""

    def __init__(self, links: Links, reactor: Any, wall: Callable[[], float], exists: Callable[[Key], bool]) -> None:
        self._links, self._reactor, self._wall, self._exists = links, reactor, wall, exists
        self._tails: dict[Tail, Key] = {}

    def open(self, request: Request, key: Key) -> Answer:
        """Begin to show this station's frames, whether it is connected yet or not."""
        if not self._exists(key):
            return error(request, 404, "unknown-station", f"{key} is neither listed nor let in")
        if len(self._tails) >= MOST:
            return error(request, 503, "too-many-tails", f"{MOST} tails are open, which is all there may be: end one of them")
        request.setHeader(b"content-type", b"application/x-ndjson; charset=utf-8")
        tail = Tail(request, self._reactor, self._wall, self._close)
        self._tails[tail] = key
        link = self._links.get(key)
        tail.event("connected" if link is not None else "away")
        if link is not None:
            link.watchers = (*link.watchers, tail)
        return NOT_DONE_YET

    def opened(self, link: Link) -> None:
        """A link began: who waits for it sees it from its first frame."""
        for tail, key in self._tails.items():
            if key == link.key:
                link.watchers = (*link.watchers, tail)
                tail.event("connected")

    def _close(self, tail: Tail) -> None:
        link = self._links.get(self._tails.pop(tail))
        if link is not None:
            link.watchers = tuple(one for one in link.watchers if one is not tail)


def _line(said: dict[str, Any]) -> str:
    return json.dumps(said) + "\n"  # ASCII: half a surrogate pair is some station's whole message
