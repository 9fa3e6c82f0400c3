"""A recorded conversation again through the broker's core: what the relay would have passed, what the tap would have learned.

A transcript is one JSON object a line, `{"at": seconds since 1970, "leg": "station" or "cpms", "text": "the frame"}`; `leg` is who sent
it. What `tail` writes is read too: `{"at": "RFC 3339", "from": …, "frame": […]}`. Lines of anybody else (our own CALLs), the station's
answers to them, and lines without a frame are passed over. Pure, and the same every time: the transcript's own
times are the only clock, and nothing of ours is sent (it is as shadow mode would have seen it).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, Protocol

from broker.effects import Counted, Effect, Guarded, Saw, Tell, spelled_out
from broker.model.basics import Instant
from broker.model.observations import Observation
from broker.model.orders import Pass, Write
from broker.model.traffic import OURS, Exchange, Interest, Leg
from broker.ocpp.dialect import Dialect
from broker.ocpp.dialects import BY_NAME
from broker.ocpp.frames import Frame, read_head
from broker.ocpp.times import parse
from broker.relay import Relay
from broker.tap import Tap

MOST_LINES: Final = 1_000_000
OTHER: Final[dict[Leg, Leg]] = {"station": "cpms", "cpms": "station"}


class Said(NamedTuple):
    """One frame of a transcript."""

    at: float
    leg: Leg
    """Who sent it."""
    text: str


class Learned(NamedTuple):
    """One thing that the tap learned."""

    at: float
    action: str
    observation: Observation


class Replayed(NamedTuple):
    """What became of a transcript."""

    told: tuple[Said, ...]
    """What the relay passed, in its order; `leg` is who sent it."""
    learned: tuple[Learned, ...]
    unreadable: int
    """Exchanges that the tap could not read."""


def read_transcript(text: str) -> list[Said]:
    """The lines of a transcript. Raises ValueError, `line 3: what is wrong with it`."""
    found: list[Said] = []
    for number, line in enumerate(text.splitlines(), 1):
        if number > MOST_LINES:
            raise ValueError(f"line {number}: a transcript may have {MOST_LINES} lines at most: cut it")
        if line.strip():
            found += _said(line, number)
    return found


def _said(line: str, number: int) -> Iterator[Said]:
    try:
        one = json.loads(line)
        leg = one.get("leg", one.get("from"))
        if leg is None and "event" not in one:
            raise ValueError(leg)
        if leg not in OTHER or one.get("to") == "broker" or not {"text", "frame"} & set(one):
            _time(one["at"])
            return
        at, text = _time(one["at"]), one["text"] if "text" in one else json.dumps(one["frame"], ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(f'line {number}: must be {{"at": seconds, "leg": "station" or "cpms", "text": "…"}}') from None
    yield Said(at, leg, text)


def _time(at: Any) -> float:
    """Seconds since 1970. Raises ValueError or TypeError."""
    seconds = parse(at) if isinstance(at, str) else float(at)
    if seconds is None or not math.isfinite(seconds):
        raise ValueError(at)
    return seconds


def dialect_of(said: Iterable[Said]) -> Dialect:
    """Told by what the station's messages look like; 1.6 when nothing tells. 2.0.1 and 2.1 read alike."""
    for one in said:
        head = read_head(one.text.encode()) if one.leg == "station" else None
        if head is None:
            continue
        if head.action == "TransactionEvent" or (head.action == "BootNotification" and "chargingStation" in one.text):
            return BY_NAME["ocpp2.0.1"]
        if head.action in ("StartTransaction", "StopTransaction", "BootNotification"):
            break
    return BY_NAME["ocpp1.6"]


class Watcher(Protocol):
    """Who watches the link that a transcript tells of: what it wants to see, and what it asks when it has seen it."""

    @property
    def interest(self) -> Interest: ...
    @property
    def wake_at(self) -> float | None: ...
    def saw(self, exchange: Exchange, now: Instant) -> Iterable[Any]: ...
    def guarded(self, token: int, exchange: Exchange, now: Instant) -> Iterable[Any]: ...
    def tick(self, now: Instant) -> Iterable[Any]: ...
    def closed(self, now: Instant) -> Iterable[Any]: ...


class Again:
    """One link without sockets: a real relay, and who watches it, on the transcript's clock. Each commit is at once."""

    def __init__(self, watcher: Watcher) -> None:
        self.told: list[Said] = []
        """What the relay passed, in its order; `leg` is who sent it."""
        self.orders: list[Any] = []
        """What the watcher wanted, in its order."""
        self.counted: Counter[str] = Counter()
        """What the relay counted."""
        self._watcher = watcher
        self._relay = Relay(watcher.interest, new_id=lambda: OURS + "0" * 32)
        self._now = 0.0

    def hear(self, one: Said) -> None:
        """The next frame. What was due before it comes first."""
        self.until(one.at)
        text = one.text.encode()
        frame = Frame(read_head(text), text, False, None)
        effects = self._relay.from_station(one.at, frame) if one.leg == "station" else self._relay.from_cpms(one.at, frame)
        self._do(spelled_out(effects, OTHER[one.leg], frame))

    def until(self, end: float) -> None:
        """Time passes; who wanted a tick gets it."""
        while (wake := min((at for at in (self._relay.wake_at, self._watcher.wake_at) if at is not None), default=math.inf)) <= end:
            self._now = max(self._now, wake)
            self._do(self._relay.tick(self._now))
            self._follow(self._watcher.tick(self._instant()))
        self._now = end

    def close(self) -> None:
        """The link goes."""
        self._follow(self._watcher.closed(self._instant()))
        self._do(self._relay.closed(self._now))

    def _instant(self) -> Instant:
        return Instant(self._now, self._now)

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Tell(leg, frame):
                    self.told.append(Said(self._now, OTHER[leg], frame.text.decode()))
                case Counted(what):
                    self.counted[what] += 1
                case Saw(exchange):
                    self._follow(self._watcher.saw(exchange, self._instant()))
                case Guarded(token, exchange):
                    self._follow(self._watcher.guarded(token, exchange, self._instant()))

    def _follow(self, orders: Iterable[Any]) -> None:
        for order in orders:
            self.orders.append(order)
            match order:
                case Write(token=int(token)):
                    self._do(self._relay.committed(self._now, token))
                case Pass(token):
                    self._do(self._relay.passed(self._now, token))


class _Listening:
    """A tap and nothing else: it learns, and wants nothing but that all goes on."""

    wake_at: float | None = None

    def __init__(self, dialect: Dialect) -> None:
        self.interest = dialect.interest
        self.tap = Tap(dialect)
        self.learned: list[Learned] = []

    def saw(self, exchange: Exchange, now: Instant) -> tuple[Write, ...]:
        self.learned += [Learned(now.wall, exchange.action, seen) for seen in self.tap.observe(exchange, now)]
        return (Write((), (), exchange.token),)

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> tuple[Pass, ...]:
        return (Pass(token),)

    def tick(self, now: Instant) -> tuple[()]:
        return ()

    closed = tick


def replay(said: Iterable[Said], dialect: Dialect) -> Replayed:
    """Frames in, in their order; what was passed and learned out. Every commit is at once, every guarded CALL passes."""
    listening = _Listening(dialect)
    again = Again(listening)
    for one in said:
        again.hear(one)
    return Replayed(tuple(again.told), tuple(listening.learned), listening.tap.failures)


def in_words(learned: Iterable[Learned]) -> Iterator[str]:
    """One line each, without id tokens: what a class keeps out of its `repr` is not said."""
    for one in learned:
        yield f"{one.at:.3f} {one.action}: {one.observation!r}"


def for_machines(replayed: Replayed) -> dict[str, Any]:
    """The same for machines."""
    return {"frames": len(replayed.told), "learned": list(in_words(replayed.learned)), "unreadable": replayed.unreadable}
