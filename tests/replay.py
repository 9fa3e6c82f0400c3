"""Plays a recorded conversation through a real relay and a real observer, on a clock of its own.

A transcript is JSON, one object a line. The first says what it is: `vendor`, `oddity`, `source` (a public address), `version`
(the subprotocol) and `expect`; the others are frames in the order of `at` (seconds): `{"at", "leg", "text"}`, `leg` being the
side that sent it. The conversation begins at 2027-01-15T08:00:00Z. Each change is
measured within a second. The station has two sockets, `socket-1` and `socket-2`.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.engine.v1 import V1
from broker.model.basics import Instant, Key
from broker.model.orders import Pass, Write
from broker.model.records import Record
from broker.observer import Seat, Watching
from broker.ocpp.dialects import BY_NAME
from broker.ocpp.frames import frame
from broker.ocpp.times import parse
from broker.relay import FORWARD, Counted, Guarded, Relay, Saw, Tell
from broker.settings import EngineSettings, EvseSettings, StationSettings, TenantSettings

START = 1_800_000_000.0
OTHER = {"station": "cpms", "cpms": "station"}


@dataclass
class Transcript:
    """One file."""

    head: dict[str, Any]
    lines: list[dict[str, Any]]


def read(path: Path) -> Transcript:
    head, *lines = (json.loads(line) for line in path.read_text().splitlines())
    return Transcript(head, lines)


def _seat(head: dict[str, Any]) -> Seat:
    evses = tuple(EvseSettings(n, f"socket-{n}", 32.0, 3) for n in (1, 2))
    current = "dc" if head["expect"].get("dc") else "ac"
    station = StationSettings("CS-7", "shadow", "hq", current, evses)
    engine = EngineSettings("http://engine", "acme", "secret", measure_every_s=1.0)
    tenant = TenantSettings("acme", "ws://cpms", mode="shadow", engine=engine, stations={"CS-7": station})
    return Seat(Key("acme", "CS-7"), station, tenant, BY_NAME[head["version"]], V1(engine))


@dataclass
class Replay:
    """What went on to whom, and what the observer learned."""

    head: dict[str, Any]
    now: float = 0.0
    heard: dict[str, list[bytes]] = field(default_factory=lambda: {"station": [], "cpms": []})
    counted: Counter[str] = field(default_factory=Counter)
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        seat, tokens = _seat(self.head), itertools.count(1)
        opened = Instant(0.0, START)
        self.observer = Watching(seat, (), opened=opened, flapping=False, shadow=True, new_token=lambda: next(tokens))
        self.relay = Relay(self.observer.interest, new_id=lambda: f"ocb-{next(tokens):032x}")

    def play(self, lines: list[dict[str, Any]]) -> Replay:
        for line in lines:
            self._until(line["at"])
            message = frame(line["text"].encode())
            said = self.relay.from_station if line["leg"] == "station" else self.relay.from_cpms
            effects = said(self.now, message)
            self._do((Tell(OTHER[line["leg"]], message),) if effects is FORWARD else effects)
        self._until(self.now + 1)
        self._follow(self.observer.closed(self._instant()))
        self._do(self.relay.closed(self.now))
        return self

    def _instant(self) -> Instant:
        return Instant(self.now, START + self.now)

    def _until(self, end: float) -> None:
        """Time passes; whoever wanted a tick gets it."""
        while (wake := min((at for at in (self.relay.wake_at, self.observer.wake_at) if at is not None), default=end + 1)) <= end:
            self.now = max(self.now, wake)
            self._do(self.relay.tick(self.now))
            self._follow(self.observer.tick(self._instant()))
        self.now = end

    def _do(self, effects: Any) -> None:
        for effect in effects:
            match effect:
                case Tell(leg, told):
                    self.heard[leg].append(told.text)
                case Counted(what):
                    self.counted[what] += 1
                case Saw(exchange):
                    self._follow(self.observer.saw(exchange, self._instant()))
                case Guarded(token, exchange):
                    self._follow(self.observer.guarded(token, exchange, self._instant()))

    def _follow(self, effects: Any) -> None:
        for effect in effects:
            match effect:
                case Write(records, _, token):
                    self.records += records
                    if token is not None:
                        self._do(self.relay.committed(self.now, token))
                case Pass(token):
                    self._do(self.relay.passed(self.now, token))

    # ------------------------------------------------------------ what was learned, in few words

    def learned(self) -> dict[str, Any]:
        """As a transcript's `expect` says it; what is empty is left out."""
        found: dict[str, Any] = {
            "transactions": [_transaction(body) for body in self._told("transaction")],
            "measurements": [_measurement(body) for body in self._told("measurement")],
            "amperes": self._amperes(),
            "soc": [body["currentStateOfCharge"] for body in self._told("measurement") if "currentStateOfCharge" in body][:1],
            "counted": dict(self.counted),
            "unread": self.observer.tap_failures,
        }
        return {name: what for name, what in found.items() if what}

    def _told(self, kind: str) -> list[Any]:
        return [record.body for record in self.records if record.kind == kind]

    def _amperes(self) -> list[float]:
        """Per phase, of the first measurement that has any."""
        pins = next((body["pins"] for body in self._told("measurement") if "pins" in body), {})
        return [pins[name]["currentValue"] for name in sorted(pins)]


def _transaction(body: Any) -> str:
    who, begun = f"{body['assetId']} {body.get('driverId', 'nobody')}", _seconds(body["startTime"])
    if body["transactionState"] == "Ended":
        return f"Ended {who} from {begun:.10g} to {_seconds(body['stopTime']):.10g}"
    at = _seconds(body["timestamp"])
    assert body["transactionState"] != "Started" or at == begun
    return f"{body['transactionState']} {who} at {at:.10g}"


def _measurement(body: Any) -> str:
    return f"{body['asset_id']} {body['energyValue']:.10g} Wh {body['powerValue']:.10g} W at {_seconds(body['timestamp']):.10g}"


def _seconds(time: str) -> float:
    at = parse(time)
    assert at is not None, time
    return round(at - START, 3)
