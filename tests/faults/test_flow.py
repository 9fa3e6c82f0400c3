"""Too much, too little, too late: floods, bad networks, ends at any moment, and an engine that is no help."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from pathlib import Path

import pytest
from faults.gate import Gate, Weather
from faults.outside import CLOSE, INNOCENT_MOST_S, LATE_S, Cpms, Gone, Innocents, Outside, Peer, Service, dialled, play, soon, told
from faults.smart import smart

CHURN = int(os.environ.get("CHURN", "400"))
CALL = b'[2,"%d","DataTransfer",{"vendorId":"x","data":"%s"}]'


def test_row_32_a_flood_is_read_at_its_rate_whole_and_in_order_and_who_hangs_up_may_come_back_at_once(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        station, upstream = await outside.service.pair(cpms, "R32")
        texts = [CALL % (n, b"x" * (n % 50)) for n in range(10_000)]
        flood = asyncio.create_task(station.raw(b"".join(station.framed(text) for text in texts)))
        async with outside.fault("32") as seen:
            began, came = time.monotonic(), 0
            while (elapsed := time.monotonic() - began) < 4.0 or came < 500:
                with contextlib.suppress(TimeoutError):
                    assert await upstream.hear(0.2) == texts[came]
                    came += 1
            seen["came_in_4_s"] = came
            assert came <= 500 + 100 * (elapsed + 1.0)
            flood.cancel()
            await asyncio.gather(flood, return_exceptions=True)
            station.close()
            again, dialled_at = await dialled(outside.service.port, "/acme/R32"), time.monotonic()
            upstream_end = asyncio.create_task(upstream.end())
            assert (await again.header()).startswith(b"HTTP/1.1 101 ")
            seen["back_after_s"] = round(time.monotonic() - dialled_at, 2)
            assert (await upstream_end)[1] == "eof", "the CPMS never sees two"
            again.reset()
        assert seen["back_after_s"] <= 6.0 + LATE_S

    play(outside, story)


async def talk(one: Peer, other: Peer, texts: list[bytes]) -> list[bytes]:
    """One says them all; what the other hears of it."""
    saying = asyncio.create_task(one.raw(b"".join(one.framed(text) for text in texts)))
    heard = [await other.hear(60) for _ in texts]
    await saying
    return heard


@pytest.mark.parametrize(
    ("name", "weather", "count"),
    [
        ("5 % lost", Weather(slice_bytes=1400, stall_share=0.05), 200),
        ("20 % lost", Weather(slice_bytes=1400, stall_share=0.2), 200),
        ("16 kbit/s", Weather(slice_bytes=200, rate=2000), 40),
        ("slices of one byte", Weather(slice_bytes=1), 60),
    ],
)
def test_row_35_on_a_bad_network_no_byte_is_wrong(outside: Outside, name: str, weather: Weather, count: int) -> None:
    async def story(cpms: Cpms) -> None:
        dice = random.Random(35)
        ways = [[CALL % (n, bytes(dice.choices(b"abc {}[]", k=dice.randint(0, 120)))) for n in range(count)] for _ in range(2)]
        async with Gate(outside.service.port, weather) as gate, outside.fault(f"35 {name}"):
            station = await dialled(gate.port, "/acme/R35")
            assert (await station.header(60)).startswith(b"HTTP/1.1 101 ")
            upstream = await cpms.peer("R35")
            heard = await asyncio.gather(talk(station, upstream, ways[0]), talk(upstream, station, ways[1]))
            assert heard == ways
            await station.say((1000).to_bytes(2, "big"), CLOSE)
            assert (await upstream.end())[0] == [1000]
            await station.end(20)

    play(outside, story)


@pytest.mark.parametrize("way", ["station", "cpms"])
def test_row_36_who_loses_its_other_side_is_told_within_a_second(outside: Outside, way: str) -> None:
    async def story(cpms: Cpms) -> None:
        async with outside.fault(f"36 {way}") as seen:
            longest = 0.0
            for n, how in enumerate(("reset", "close", "half_close", "reset in a frame")):
                station, upstream = await outside.service.pair(cpms, f"R36-{way}-{n}")
                one, other = (station, upstream) if way == "station" else (upstream, station)
                if how == "reset in a frame":
                    await one.raw(one.framed(b"x" * 100)[:50])
                    await asyncio.sleep(0.02)
                getattr(one, how.partition(" ")[0])()
                began = time.monotonic()
                assert await other.end() == ([1001], "eof"), how
                longest = max(longest, time.monotonic() - began)
            seen["longest_s"] = round(longest, 3)
        assert longest <= 1.0 + LATE_S

    play(outside, story)


def test_row_37_an_end_at_any_byte_leaves_nothing_behind(outside: Outside) -> None:
    """Churn: each connection is ended in its own way, by either side, after a random number of bytes."""

    async def one(cpms: Cpms, n: int, dice: random.Random) -> None:
        whole = f"GET /acme/R37-{n} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n".encode()
        with contextlib.suppress(Gone, TimeoutError, ConnectionError, AssertionError):
            if dice.random() < 0.2:  # in its request
                _, writer = await asyncio.open_connection("127.0.0.1", outside.service.port)
                writer.write(whole[: dice.randint(0, len(whole))])
                if dice.random() < 0.5:
                    writer.write_eof()
                writer.close()
                return
            station = await dialled(outside.service.port, f"/acme/R37-{n}")
            if dice.random() < 0.2:  # before it is answered
                dice.choice((station.reset, station.close))()
                return
            await station.header()
            upstream = await cpms.peer(f"R37-{n}")
            ending, staying = dice.sample([station, upstream], 2)
            await staying.say(CALL % (n, b"y"))
            frame = ending.framed(CALL % (n, b"x" * 200))
            await ending.raw(frame[: dice.randint(0, len(frame))])
            dice.choice((ending.reset, ending.close, ending.half_close))()
            await staying.end()
            ending.close()

    async def story(cpms: Cpms) -> None:
        dice = random.Random(37)
        await churn(cpms, CHURN, dice)  # what is made once is made now, and what is remembered of an identity
        service = outside.service
        assert await soon(lambda: service.files() == files_before)
        async with outside.fault("37", most_cpu_s=1.0 + 0.006 * CHURN) as seen:
            base = service.memory_kib()
            await churn(cpms, CHURN, dice)
            assert await soon(lambda: service.files() <= files_before, 30.0), f"{service.files()} open, {files_before} before"
            seen["kept_kib"] = service.memory_kib() - base
            seen["connections"] = CHURN
        # docs/reliability.md, N2: 0.2 KiB for each. For a few hundred it is a matter of when Python last looked for garbage.
        assert seen["kept_kib"] <= (2 * 1024 * CHURN / 6000 if CHURN >= 6000 else 6 * 1024)

    async def churn(cpms: Cpms, count: int, dice: random.Random) -> None:
        for begin in range(0, count, 20):
            await asyncio.gather(*(one(cpms, begin + n, dice) for n in range(20)))
            for head in list(cpms.asked):
                cpms.asked.remove(head)

    files_before = settled(outside.service)
    play(outside, story)


def settled(service: Service) -> int:
    """Open files once what earlier rows left has gone."""
    count = service.files()
    for _ in range(20):
        time.sleep(0.25)
        before, count = count, service.files()
        if count == before:
            return count
    return count


# ---------------------------------------------------------------- the engine


class BadEngine:
    """Answers every request in its mode: `never` at all, `reset`, 500, or `slowly`, a byte a second."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """The mode of each request."""
        self.mode = "never"
        self._open: set[asyncio.StreamWriter] = set()

    def turn(self, mode: str) -> None:
        """From now on so; what hangs is ended."""
        self.mode = mode
        for writer in self._open:
            writer.transport.abort()

    async def __aenter__(self) -> BadEngine:
        self._server = await asyncio.start_server(self._come, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _come(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.asked.append(self.mode)
                if self.mode == "reset":
                    writer.transport.abort()
                    return
                if self.mode == "500":
                    writer.write(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")
                elif self.mode == "slowly":
                    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n":
                        writer.write(bytes([byte]))
                        await asyncio.sleep(1)
                else:
                    await asyncio.sleep(3600)


async def captured(service: Service, cpms: Cpms, id: str, count: int) -> list[float]:
    """So many of a station's MeterValues, as fast as they are answered but 50 a second at most: the waits."""
    station, upstream = await service.pair(cpms, id)

    async def answer() -> None:
        with contextlib.suppress(Gone):
            while True:
                text = await upstream.hear(60)
                if text.startswith(b"[2"):
                    await upstream.say(b'[3,"%s",{"status":"Accepted"}]' % text.split(b'"')[1])

    async def ask(n: int) -> float:
        began = time.monotonic()
        sample = {"value": str(n), "measurand": "Energy.Active.Import.Register"}
        values = {"connectorId": 1, "meterValue": [{"timestamp": "2026-01-01T00:00:00Z", "sampledValue": [sample]}]}
        await station.say(json.dumps([2, str(n), "MeterValues", values]))
        while not (text := await station.hear(30)).startswith(b'[3,"%d"' % n):
            await station.say(b'[4,"%s","NotSupported","",{}]' % text.split(b'"')[1])
        return time.monotonic() - began

    answering, waits = asyncio.create_task(answer()), []
    for n in range(count):
        waits.append(await ask(n))
        await asyncio.sleep(0.02)
    station.reset()
    await answering
    return waits


def test_row_38_an_engine_that_is_no_help_slows_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        modes = ["never", "reset", "500", "slowly"]
        async with BadEngine() as engine:
            ids = [f"R38-{mode}-{n}" for mode in modes for n in range(3)]
            with Service(tmp_path, smart(tmp_path, f"http://127.0.0.1:{engine.port}", ids)) as service:
                async with Cpms(service.cpms_port) as cpms:
                    for mode in modes:
                        engine.turn(mode)
                        every = await asyncio.gather(*(captured(service, cpms, f"R38-{mode}-{n}", 70) for n in range(3)))
                        waits = sorted(wait for waits in every for wait in waits)
                        told(
                            f"38 {mode}",
                            {"count": len(waits), "p50_ms": at(waits, 0.5), "p99_ms": at(waits, 0.99), "max_ms": at(waits, 1.0)},
                        )
                        assert waits[-1] <= INNOCENT_MOST_S
                assert len(set(engine.asked)) >= 2, engine.asked
                assert service.errors() == []

    asyncio.run(story())


def at(waits: list[float], share: float) -> float:
    return round(1000 * waits[min(len(waits) - 1, int(share * len(waits)))], 2)


def test_row_39_what_the_relay_adds_for_a_hundred_stations(tmp_path: Path) -> None:
    with Service(tmp_path) as service:
        seen = {}
        for name, direct in (("direct", True), ("relayed", False)):
            innocents = Innocents(service, stations=100, every_s=0.5, direct=direct)
            innocents.take()
            time.sleep(2.5)
            seen[name] = innocents.take()
            innocents.stop()
        told("39", seen)
        assert seen["relayed"]["lost"] == 0
        assert seen["relayed"]["count"] >= 100
        assert seen["relayed"]["p50_ms"] - seen["direct"]["p50_ms"] <= 100.0
        assert service.stop() == 0
        assert service.errors() == []
