"""The broker's own end and beginning, under stations: asked to stop, asked twice, killed; and all of them coming at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import pytest
from faults.outside import CLOSE, Cpms, Gone, Peer, Service, dialled, soon, told

BEGIN_MOST_S = 60.0
"""In the tests; what was measured is printed."""


async def gone(process: object, within_s: float) -> int | None:
    """The exit status, if it comes in time."""
    await soon(lambda: process.poll() is not None, within_s)  # type: ignore[attr-defined]
    return process.poll()  # type: ignore[attr-defined,no-any-return]


def test_row_40_sigterm_closes_each_link_with_1012_once_nothing_is_open_on_it(tmp_path: Path) -> None:
    async def story() -> None:
        with Service(tmp_path) as service:
            async with Cpms(service.cpms_port) as cpms:
                pairs = [await service.pair(cpms, f"R40-{n}") for n in range(20)]
                busy, upstream = await service.pair(cpms, "R40-busy")
                await busy.say('[2,"1","Heartbeat",{}]')
                await upstream.hear()
                began = time.monotonic()
                assert service.process is not None
                service.process.send_signal(signal.SIGTERM)
                ends = await asyncio.gather(*(peer.end() for pair in pairs for peer in pair))
                assert ends == [([1012], "eof")] * 40
                quiet_s = time.monotonic() - began
                with pytest.raises(ConnectionRefusedError):
                    await dialled(service.port, "/acme/R40-late")
                await upstream.say('[3,"1",{}]')  # 1 s of drain is over: nothing is lost all the same
                assert await busy.hear() == b'[3,"1",{}]'
                assert (await busy.end())[0] == [1012]
                assert (await upstream.end())[0] == [1012]
                assert await gone(service.process, 40.0) == 0
            told("40", {"links": 21, "quiet_s": round(quiet_s, 2), "exit_s": round(time.monotonic() - began, 2)})
            assert service.errors() == []

    asyncio.run(story())


def test_row_40_a_station_that_never_gets_its_answer_does_not_keep_it_and_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        for signals in (1, 2):
            with Service(tmp_path, broker="") as service:
                async with Cpms(service.cpms_port) as cpms:
                    station, upstream = await service.pair(cpms, "R40")
                    await station.say('[2,"1","Heartbeat",{}]')
                    await upstream.hear()
                    began = time.monotonic()
                    assert service.process is not None
                    for n in range(signals):
                        await asyncio.sleep(0.3 * n)
                        service.process.send_signal(signal.SIGTERM)
                    with contextlib.suppress(Gone, ConnectionError):
                        await asyncio.gather(station.end(40.0), upstream.end(40.0))
                    status, took = await gone(service.process, 40.0), time.monotonic() - began
                    told(f"40 x{signals}", {"exit": status, "exit_s": round(took, 2)})
                    assert status is not None
                    assert took <= (6.0 if signals == 1 else 2.0) + 15.0

    asyncio.run(story())


def test_row_41_after_a_kill_it_is_there_again_and_so_are_its_stations(tmp_path: Path) -> None:
    """Whoever supervises starts it again; the stations redial as OCPP lets them, here within a second."""

    async def come_back(service: Service, id: str, peer: Peer) -> Peer:
        with contextlib.suppress(Gone):
            while True:
                await peer.frame(60)
        for attempt in range(200):
            with contextlib.suppress(Gone, ConnectionError, AssertionError):
                again = await dialled(service.port, f"/acme/{id}")
                assert (await again.header()).startswith(b"HTTP/1.1 101 ")
                return again
            await asyncio.sleep(0.1 + 0.01 * (attempt % 10))
        raise AssertionError(f"{id} did not come back")

    async def story() -> None:
        with Service(tmp_path) as service:
            async with Cpms(service.cpms_port) as cpms:
                stations = [(f"R41-{n}", (await service.pair(cpms, f"R41-{n}"))[0]) for n in range(50)]
                coming = [asyncio.create_task(come_back(service, id, peer)) for id, peer in stations]
                await asyncio.to_thread(service.kill)
                began = time.monotonic()
                await asyncio.to_thread(service.start)
                ready_s = time.monotonic() - began
                back = await asyncio.wait_for(asyncio.gather(*coming), 90.0)
                told("41", {"ready_s": round(ready_s, 2), "all_back_s": round(time.monotonic() - began, 2), "stations": len(back)})
                assert ready_s <= BEGIN_MOST_S
                for n, station in enumerate(back):
                    upstream = cpms.of(f"R41-{n}").get_nowait()
                    while not cpms.of(f"R41-{n}").empty():
                        upstream = cpms.of(f"R41-{n}").get_nowait()
                    await station.say('[2,"1","Heartbeat",{}]')
                    assert await upstream.hear() == b'[2,"1","Heartbeat",{}]'
                for station in back:
                    await station.say((1000).to_bytes(2, "big"), CLOSE)
                assert await asyncio.to_thread(service.stop) == 0
            assert service.errors() == []

    asyncio.run(story())
