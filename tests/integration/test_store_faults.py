"""The running service, and what may happen to its store's file: deleted, replaced, taken by a second broker, damaged while nobody ran."""

from __future__ import annotations

import asyncio
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from crowd import Crowd
from running import Running, free_port

AGAIN = "all that it held was written there again"
ALARM_S = 90.0  # the disk and the alarms are each looked at every 10 s; the rest is for a busy machine


async def until(holds: Callable[[], object], within_s: float = ALARM_S) -> Any:
    """What it says once it says something. Raises AssertionError if that does not come about."""
    end = time.monotonic() + within_s
    while not (found := await asyncio.to_thread(holds)):
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.1)  # there is no clock to wind: the process has its own
    return found


def alarms(broker: Running) -> dict[str, dict[str, Any]]:
    """Those of the store, by name."""
    return {one["name"]: one for one in broker.get("/api/v1/alarms")["alarms"] if one["name"] in ("store", "damaged")}


def stood(broker: Running, name: str) -> float:
    """What the metric says."""
    found = re.search(rf'ocppbroker_alarms{{name="{name}"}} (\S+)', broker.get("/metrics"))
    assert found is not None
    return float(found[1])


def remove(folder: Path) -> None:
    for file in (folder / "var").glob("store.sqlite*"):
        file.unlink()


def replace(folder: Path) -> None:
    (folder / "var" / "other").write_bytes(b"not a database, though it lies where one should")
    (folder / "var" / "other").replace(folder / "var" / "store.sqlite")


@pytest.mark.timeout(400)
def test_a_file_that_is_deleted_or_replaced_under_traffic_loses_nothing(tmp_path: Path) -> None:
    """The engine is away meanwhile, so that all depends on the file; then the broker is killed, and another begins with what lies there."""

    async def story() -> None:
        async with Crowd(tmp_path, 4) as crowd:
            crowd.begin()
            await until(lambda: all(len(one.answered) > 5 for one in crowd.stations))
            crowd.engine.away = True
            await until(lambda: crowd.broker.get("/api/v1/status")["engines"]["acme"]["pending"] > 20)
            for hurt in (remove, replace):
                said = crowd.broker.log.read_text().count(AGAIN)
                hurt(tmp_path)
                await until(lambda said=said: crowd.broker.log.read_text().count(AGAIN) == said + 1)
            alarm = (await until(lambda: alarms(crowd.broker)))["damaged"]
            assert (alarm["fault"], alarm["text"][:32]) == ("operator", "a file was damaged or not ours, ")
            assert stood(crowd.broker, "damaged") == 1.0
            crowd.broker.kill()
            await asyncio.to_thread(crowd.broker.start)
            await until(lambda: alarms(crowd.broker).keys() == {"damaged"})
            for file in (tmp_path / "var").glob("*.corrupt-*"):
                assert file.read_bytes().startswith(b"not a database"), "what was found there is kept"
                file.unlink()
            await crowd.end()
            assert crowd.mistakes() == []
            await until(lambda: not alarms(crowd.broker))
            assert stood(crowd.broker, "damaged") == 0.0
            log = crowd.broker.log.read_text()
            assert log.count("alarm damaged of") == 3, "raised, raised after the kill, cleared"
            assert "Traceback" not in log

    asyncio.run(story())


@pytest.mark.timeout(400)
def test_a_disk_that_takes_no_more_is_told_and_holds_up_nobody(tmp_path: Path) -> None:
    """The kernel refuses the process every byte beyond what its files have: as a full disk or a quota does."""

    async def story() -> None:
        async with Crowd(tmp_path, 3) as crowd:
            broker = crowd.broker
            crowd.begin()
            await until(lambda: all(len(one.answered) > 5 for one in crowd.stations))
            crowd.engine.away = True  # so that the file grows
            await until(lambda: broker.get("/api/v1/status")["engines"]["acme"]["pending"] > 20)
            assert broker.process is not None
            _, hard = resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE)
            log = (tmp_path / "var" / "store.sqlite-wal").stat().st_size
            assert log > 20 * broker.log.stat().st_size, "the broker may go on to write its own log"
            resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (log, hard))
            alarm = (await until(lambda: alarms(broker)))["store"]
            assert re.search(r"takes no writes \(.+\): stations are relayed", alarm["text"])
            assert stood(broker, "store") == 1.0
            with pytest.raises(HTTPError, match="503"):
                broker.get("/readyz")
            before = [len(one.answered) for one in crowd.stations]
            await until(lambda: all(len(one.answered) > n + 10 for one, n in zip(crowd.stations, before, strict=True)))
            unpromised = re.search(r"^ocppbroker_unpromised_total (\S+)", broker.get("/metrics"), re.MULTILINE)
            assert unpromised is not None
            assert float(unpromised[1]) > 0, "and each answer that went without its promise is counted"
            resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            await until(lambda: not alarms(broker))
            assert broker.get("/readyz")["ready"]
            await crowd.end()
            assert crowd.mistakes() == [], "what it refused of transactions was kept meanwhile"
            assert [one.links for one in crowd.stations] == [1, 1, 1]
            assert "Traceback" not in broker.log.read_text()

    asyncio.run(story())


CONFIG = """
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:9/ocpp"
"""


def test_a_second_broker_on_one_file_takes_nothing_until_the_first_is_gone(tmp_path: Path) -> None:
    """It says who is in its way, relays all the same, and begins by itself."""

    async def story(one: Running, two: Running) -> None:
        alarm = (await until(lambda: alarms(two)))["store"]
        assert alarm["fault"] == "operator"
        assert "is another broker running" in alarm["text"]
        assert not alarms(one)
        assert one.get("/readyz")["ready"]
        assert await asyncio.to_thread(one.stop) == 0
        await until(lambda: not alarms(two))
        assert two.get("/readyz")["ready"]
        assert await asyncio.to_thread(two.stop) == 0

    (tmp_path / "second").mkdir()
    with Running(tmp_path, CONFIG.format(port=free_port())) as one:
        two = Running(tmp_path / "second", CONFIG.format(port=free_port()))
        (tmp_path / "second" / "var").symlink_to(tmp_path / "var")
        two.launch()
        try:
            asyncio.run(until(lambda: "stations dial" in two.log.read_text()))
            asyncio.run(story(one, two))
        finally:
            two.__exit__()
