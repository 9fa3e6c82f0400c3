"""A station's frames shown live: over real links, without costing them anything; and with a reader that does not read."""

from __future__ import annotations

import json
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.server import NOT_DONE_YET
from wires import House, soon

from broker.model.basics import Key
from broker.net.tailing import BEAT_S, FRAME_BYTES, MOST, QUEUE, Tail, Tails

KEY = Key("acme", "CS-7")
HEARTBEAT = b'[2,"1","Heartbeat",{}]'


class Reader:
    """An HTTP request that streams, as far as a tail sees one."""

    def __init__(self) -> None:
        self.text = ""
        self.code = 200
        self.producer: Any = None
        self.ended: Deferred[None] = Deferred()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def notifyFinish(self) -> Deferred[None]:
        return self.ended

    def setHeader(self, name: bytes, value: bytes) -> None:
        assert name == b"content-type"

    def setResponseCode(self, code: int) -> None:
        self.code = code

    def write(self, data: bytes) -> None:
        self.text += data.decode()

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines() if line]

    @property
    def frames(self) -> list[tuple[str, str, Any]]:
        return [(one["from"], one["to"], one.get("frame", one.get("unreadable"))) for one in self.lines if "from" in one]


def tail(clock: Clock) -> tuple[Tail, Reader]:
    reader: Any = Reader()
    return Tail(reader, clock, lambda: 1_800_000_000.0, lambda _: None), reader


def turns(clock: Clock, n: int = 100) -> None:
    for _ in range(n):
        clock.advance(0)


@pytest_twisted.ensureDeferred
async def test_a_link_is_shown_from_its_first_frame_to_its_last_in_order() -> None:
    async with House() as house:
        tails = Tails(house.links, house.world.reactor, house.world.wall, lambda key: key == KEY)
        reader: Any = Reader()
        assert tails.open(reader, KEY) == NOT_DONE_YET
        house.entrance._opened = tails.opened
        station, cpms = await house.open()
        station.send(b'[2,"1","Authorize",{"idTag":"SECRET"}]')
        assert await soon(lambda: cpms.texts)
        cpms.send(b'[3,"1",{"idTagInfo":{"status":"Accepted"}}]')
        assert await soon(lambda: station.texts)
        link = house.links.get(KEY)
        assert link is not None
        link._do(link._relay.inject(link._clock(), 7, "GetConfiguration", {}, 5.0, 5.0), link._now())
        assert await soon(lambda: len(station.texts) == 2)
        ours = json.loads(station.texts[1])[1]
        station.send(json.dumps([3, ours, {}]).encode())
        station.send(b"no frame at all")
        assert await soon(lambda: len(reader.frames) == 5)
        assert reader.frames == [
            ("station", "cpms", [2, "1", "Authorize", {"idTag": "token-1"}]),
            ("cpms", "station", [3, "1", {"idTagInfo": {"status": "Accepted"}}]),
            ("broker", "station", [2, ours, "GetConfiguration", {}]),
            ("station", "broker", [3, ours, {}]),
            ("station", "cpms", 15),
        ]
        assert cpms.texts == [b'[2,"1","Authorize",{"idTag":"SECRET"}]', b"no frame at all"]  # what goes on is untouched
        station.close()
        assert await soon(lambda: len(reader.lines) == 8)
        assert [one["event"] for one in reader.lines if "event" in one] == ["away", "connected", "away"]
        reader.ended.callback(None)
        assert await soon(lambda: not tails._tails)


@pytest_twisted.ensureDeferred
async def test_who_goes_is_shown_nothing_any_more_and_costs_the_link_nothing() -> None:
    async with House() as house:
        tails = Tails(house.links, house.world.reactor, house.world.wall, lambda _: True)
        station, _ = await house.open()
        first: Any = Reader()
        second: Any = Reader()
        tails.open(first, KEY)
        tails.open(second, KEY)
        link = house.links.get(KEY)
        assert link is not None
        assert len(link.watchers) == 2
        first.ended.callback(None)
        station.send(HEARTBEAT)
        assert await soon(lambda: second.frames)
        assert first.frames == []
        second.ended.callback(None)
        assert link.watchers == ()


def test_a_frame_is_only_left_here_and_shown_in_a_later_turn() -> None:
    clock = Clock()
    shows, reader = tail(clock)
    shows.saw("station", "cpms", HEARTBEAT, False)
    assert reader.text == ""
    turns(clock)
    assert reader.frames == [("station", "cpms", [2, "1", "Heartbeat", {}])]


def test_a_reader_that_does_not_read_loses_lines_and_is_told_how_many() -> None:
    clock = Clock()
    shows, reader = tail(clock)
    reader.producer.pauseProducing()
    for _ in range(QUEUE + 30):
        shows.saw("station", "cpms", HEARTBEAT, False)
    turns(clock)
    clock.advance(BEAT_S)
    assert reader.text == ""
    reader.producer.resumeProducing()
    turns(clock)
    assert len(reader.frames) == QUEUE
    assert reader.lines[-1]["event"] == "dropped"
    assert reader.lines[-1]["frames"] == 30
    shows.saw("station", "cpms", HEARTBEAT, False)
    turns(clock)
    assert len(reader.frames) == QUEUE + 1


def test_what_waits_is_bounded_in_bytes_too_and_a_long_frame_is_only_measured() -> None:
    clock = Clock()
    shows, reader = tail(clock)
    long = b'[2,"1","DataTransfer",{"x":"' + b"x" * FRAME_BYTES + b'"}]'
    for _ in range(40):
        shows.saw("station", "cpms", long, False)
    almost = b'[2,"1","DataTransfer",{"x":"' + b"x" * (FRAME_BYTES - 40) + b'"}]'
    for _ in range(40):
        shows.saw("cpms", "station", almost, False)
    assert shows._bytes <= 1024 * 1024
    turns(clock)
    assert [size for _, to, size in reader.frames if to == "cpms"] == [len(long)] * 40
    assert shows._bytes == 0
    assert reader.lines[-1]["event"] == "dropped"


def test_silence_is_told_from_an_end() -> None:
    clock = Clock()
    shows, reader = tail(clock)
    clock.advance(BEAT_S)
    clock.advance(BEAT_S)
    assert reader.text == "\n\n"
    reader.ended.callback(None)
    assert clock.getDelayedCalls() == []
    shows.saw("station", "cpms", HEARTBEAT, False)
    shows.event("away")
    turns(clock)
    assert reader.text == "\n\n"


def test_only_so_many_read_and_only_of_stations_there_may_be() -> None:
    clock = Clock()
    links: Any = {}
    tails = Tails(links, clock, lambda: 0.0, lambda key: key == KEY)
    nobody: Any = Reader()
    assert b"unknown-station" in bytes(tails.open(nobody, Key("acme", "other")))  # type: ignore[arg-type]
    readers: list[Any] = [Reader() for _ in range(MOST + 1)]
    assert [tails.open(reader, KEY) for reader in readers[:MOST]] == [NOT_DONE_YET] * MOST
    assert b"too-many-tails" in bytes(tails.open(readers[-1], KEY))  # type: ignore[arg-type]
    readers[0].ended.callback(None)
    assert tails.open(readers[-1], KEY) == NOT_DONE_YET
