"""A recorded conversation again through the broker's core: what the relay would have passed, what the tap would have learned.

A transcript is one JSON object a line, `{"at": seconds since 1970, "leg": "station" or "cpms", "text": "the frame"}`; `leg` is who sent
it. What `tail` writes is read too: `{"at": "RFC 3339", "from": …, "frame": […]}`. Lines of anybody else (our own CALLs), the station's
answers to them, and lines without a frame are passed over. Pure, and the same every time: the transcript's own
times are the only clock, and nothing of ours is sent (it is as shadow mode would have seen it).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from broker.effects import FORWARD, Effect, Guarded, Saw, Tell
from broker.model.basics import Instant
from broker.model.observations import Observation
from broker.model.traffic import OURS, Exchange, Leg
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
        if leg not in OTHER or one.get("to") == "broker" or not {"text", "frame"} & set(one):
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


def replay(said: Iterable[Said], dialect: Dialect) -> Replayed:
    """Frames in, in their order; what was passed and learned out. Every commit is at once, every guarded CALL passes."""
    again = _Again(dialect)
    for one in said:
        again.hear(one)
    return Replayed(tuple(again.told), tuple(again.learned), again.tap.failures)


class _Again:
    """One link, without sockets."""

    def __init__(self, dialect: Dialect) -> None:
        self.tap = Tap(dialect)
        self.told: list[Said] = []
        self.learned: list[Learned] = []
        self._relay = Relay(dialect.interest, new_id=lambda: OURS + "0" * 32)

    def hear(self, one: Said) -> None:
        text = one.text.encode()
        frame = Frame(read_head(text), text, False, None)
        now = Instant(one.at, one.at)
        self._do(self._relay.tick(one.at), now)
        effects = self._relay.from_station(one.at, frame) if one.leg == "station" else self._relay.from_cpms(one.at, frame)
        self._do((Tell(OTHER[one.leg], frame),) if effects is FORWARD else effects, now)

    def _do(self, effects: tuple[Effect, ...], now: Instant) -> None:
        for effect in effects:
            if isinstance(effect, Tell):
                self.told.append(Said(now.mono, OTHER[effect.leg], effect.frame.text.decode()))
            elif isinstance(effect, Guarded):
                self._do(self._relay.passed(now.mono, effect.token), now)
            elif isinstance(effect, Saw):
                self._saw(effect.exchange, now)

    def _saw(self, exchange: Exchange, now: Instant) -> None:
        self.learned += [Learned(now.wall, exchange.action, seen) for seen in self.tap.observe(exchange, now)]
        if exchange.token is not None:
            self._do(self._relay.committed(now.mono, exchange.token), now)


def in_words(learned: Iterable[Learned]) -> Iterator[str]:
    """One line each, without id tokens: what a class keeps out of its `repr` is not said."""
    for one in learned:
        yield f"{one.at:.3f} {one.action}: {one.observation!r}"


def for_machines(replayed: Replayed) -> dict[str, Any]:
    """The same for machines."""
    return {"frames": len(replayed.told), "learned": list(in_words(replayed.learned)), "unreadable": replayed.unreadable}
