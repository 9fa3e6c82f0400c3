"""Every odd station we have read of: what it sends goes on byte for byte, and of what it means as much is learned as is written.

The first line of a transcript in transcripts/odd says what it is: `vendor`, `oddity`, `source` (a public address), `version` (the
subprotocol) and `expect`; the others are frames in the order of `at`, in seconds since 2027-01-15T08:00:00Z. The observer is a real
one, in shadow mode, whose station has two sockets, `socket-1` and `socket-2`; each change is measured within a second.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.engine.v1 import V1
from broker.model.basics import Instant, Key
from broker.model.orders import Write
from broker.model.records import Record
from broker.observer import Seat, Watching
from broker.ocpp.dialects import BY_NAME
from broker.ocpp.times import parse
from broker.replay import OTHER, Again, Said, read_transcript
from broker.settings import EngineSettings, EvseSettings, StationSettings, TenantSettings

FILES = sorted((Path(__file__).parent / "transcripts" / "odd").glob("*.jsonl"))
START = 1_800_000_000.0


@dataclass
class Transcript:
    """One file."""

    head: dict[str, Any]
    said: list[Said]


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def transcript(request: pytest.FixtureRequest) -> Transcript:
    head, _, lines = request.param.read_text().partition("\n")
    said = [one._replace(at=START + one.at) for one in read_transcript(lines)]
    assert len(said) == len(lines.splitlines())
    return Transcript(json.loads(head), said)


def watching(head: dict[str, Any]) -> Watching:
    evses = tuple(EvseSettings(n, f"socket-{n}", 32.0, 3) for n in (1, 2))
    current = "dc" if head["expect"].get("dc") else "ac"
    station = StationSettings("CS-7", "shadow", "hq", current, evses)
    engine = EngineSettings("http://engine", "acme", "secret", measure_every_s=1.0)
    tenant = TenantSettings("acme", "ws://cpms", mode="shadow", engine=engine, stations={"CS-7": station})
    seat, tokens = Seat(Key("acme", "CS-7"), station, tenant, BY_NAME[head["version"]], V1(engine)), itertools.count(1)
    return Watching(seat, (), opened=Instant(START, START), flapping=False, shadow=True, new_token=lambda: next(tokens))


class Replay:
    """A transcript through a real relay and a real observer, to its end."""

    def __init__(self, transcript: Transcript) -> None:
        self.observer = watching(transcript.head)
        self.again = Again(self.observer)
        for one in transcript.said:
            self.again.hear(one)
        self.again.until(transcript.said[-1].at + 1)
        self.again.close()

    @property
    def records(self) -> list[Record]:
        return [record for order in self.again.orders if isinstance(order, Write) for record in order.records]

    def learned(self) -> dict[str, Any]:
        """As a transcript's `expect` says it, in few words; what is empty is left out."""
        found: dict[str, Any] = {
            "transactions": [_transaction(body) for body in self._told("transaction")],
            "measurements": [_measurement(body) for body in self._told("measurement")],
            "amperes": self._amperes(),
            "soc": [body["currentStateOfCharge"] for body in self._told("measurement") if "currentStateOfCharge" in body][:1],
            "counted": dict(self.again.counted),
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


def test_each_says_whose_it_is_where_that_was_said_and_what_it_expects(transcript: Transcript) -> None:
    head = transcript.head
    assert head["vendor"]
    assert head["oddity"]
    assert head["source"].startswith("https://")
    assert head["expect"]
    times = [one.at for one in transcript.said]
    assert times == sorted(times)


def test_every_frame_goes_on_byte_for_byte_in_its_order(transcript: Transcript) -> None:
    told = Replay(transcript).again.told
    for leg in OTHER:
        assert [one.text for one in told if one.leg == leg] == [one.text for one in transcript.said if one.leg == leg]


def test_what_it_means_is_learned_and_nothing_else(transcript: Transcript) -> None:
    expected = {name: what for name, what in transcript.head["expect"].items() if name != "dc"}
    assert Replay(transcript).learned() == expected


def test_a_replay_is_deterministic(transcript: Transcript) -> None:
    first, second = (Replay(transcript) for _ in range(2))
    assert first.records == second.records


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 38
