"""The uplink between a real store and a simulated engine: what is written reaches the engine once and in order, whatever it does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from contract import fits
from fakes import nap, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from broker.counts import Counts
from broker.engine.v1 import V1
from broker.model.basics import Key
from broker.model.records import OpenTransaction, Record
from broker.model.schedules import Schedule
from broker.net import polls as polls_module
from broker.net import uplink as uplink_module
from broker.net.engine_http import EngineClient
from broker.net.store import Store
from broker.net.uplink import Uplink
from broker.settings import ChargingSettings, EngineSettings, EvseSettings, StationSettings, TenantSettings
from broker.sim.engine import SimAsset, SimEngine


class World:
    """A store, an engine and an uplink between them. Back-offs are short: jitter is a fiftieth."""

    def __init__(self, path: Path, *, mode: Any = "smart-charging", **engine: Any) -> None:
        self.path = path
        self.settings = engine
        self.mode = mode
        self.delivered: list[Schedule] = []
        self.counts = Counts()
        self.engine = SimEngine(reactor, {"hq": 22_080.0}, {f"A-{n}": SimAsset("hq") for n in range(1, 6)})
        self.jitter = 0.02

    async def __aenter__(self) -> World:
        self.url = await self.engine.listen()
        await self.open()
        return self

    async def open(self) -> None:
        self.store = Store(str(self.path / "s"), reactor)
        await self.store.start()
        engine = EngineSettings(**{"url": self.url, "client_id": "demo", "client_secret": "demo-secret", **self.settings})
        stations = {f"CS-{n}": StationSettings(f"CS-{n}", self.mode, "hq", evses=(EvseSettings(1, f"A-{n}"),)) for n in range(1, 6)}
        tenant = TenantSettings("acme", "ws://cpms", engine=engine, sites=("hq",), stations=stations)
        self.codec = V1(engine)
        client = EngineClient(engine, self.codec, reactor)
        self.uplink = Uplink(
            tenant, self.store, client, self.codec, reactor, deliver=self.delivered.append, counts=self.counts, jitter=lambda: self.jitter
        )
        self.uplink.start()

    async def close(self) -> None:
        await self.uplink.stop()
        await self.store.stop()

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        await self.engine.stop()

    def measured(self, station: int, n: int) -> Record:
        evse = EvseSettings(1, f"A-{station}")
        return self.codec.measurement(Key("acme", f"CS-{station}"), "hq", evse, at=1.7e9 + n, energy_wh=n, power_w=7400.0)

    def started(self, station: int = 1, state: str = "Started", uid: str = "t-1") -> Record:
        transaction = OpenTransaction(uid, 1, 1, 1.7e9, id_token="BADGE")
        return self.codec.transaction(
            Key("acme", f"CS-{station}"), "hq", EvseSettings(1, f"A-{station}", 32.0), transaction, state=state, at=1.7e9
        )

    def write(self, *records: Record, station: int = 1) -> Deferred[None]:
        return self.store.write(Key("acme", f"CS-{station}"), records, ())

    def empty(self) -> bool:
        return self.store.pending().get("acme", (0, None))[0] == 0


# ---------------------------------------------------------------- telling


@pytest.mark.parametrize("batch", [False, True])
@pytest_twisted.ensureDeferred
async def test_everything_written_reaches_the_engine_once_in_order_per_station(tmp_path: Path, batch: bool) -> None:
    async with World(tmp_path, batch=batch) as world:
        for n in range(30):
            for station in range(1, 6):
                world.write(world.measured(station, n), station=station)
        await until(lambda: len(world.engine.measurements) == 150 and world.empty())
        for station in range(1, 6):
            mine = [one["energyValue"] for one in world.engine.measurements if one["asset_id"] == f"A-{station}"]
            assert mine == list(range(30))
        assert all(fits("Measurement", one) for one in world.engine.measurements)
        assert world.engine.repeats == 0
        status = world.uplink.status()
        assert (status["reachable"], status["breaker"], status["pending"]) == (True, "closed", 0)
        assert world.counts.of["engine_requests", "batch" if batch else "measurement", "200"] > 0
        assert (("engine_requests", "measurement", "200") in world.counts.of) is not batch


@pytest_twisted.ensureDeferred
async def test_what_was_written_before_is_told_also_more_than_fits_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.outbox.WINDOW", 20)
    async with World(tmp_path) as world:
        await world.uplink.stop()
        await world.write(*[world.measured(1, n) for n in range(50)])
        await world.store.stop()
        await world.open()
        await until(lambda: world.empty())
        assert [one["energyValue"] for one in world.engine.measurements] == list(range(50))
        assert world.engine.repeats == 0


@pytest.mark.parametrize("fault", ["down", "status", "login"])
@pytest_twisted.ensureDeferred
async def test_an_engine_that_is_away_hears_everything_when_it_is_back(tmp_path: Path, fault: str) -> None:
    async with World(tmp_path) as world:
        faults = world.engine.faults
        faults.down, faults.status, faults.login_status = fault == "down", 503 * (fault == "status"), 500 * (fault == "login")
        for station in range(1, 6):
            await world.write(*[world.measured(station, n) for n in range(4)], station=station)
        await until(lambda: world.uplink.status()["breaker"] == "open")
        status = world.uplink.status()
        assert (status["reachable"], status["pending"]) == (False, 20)
        assert status["why"]
        assert world.engine.measurements == []
        faults.down, faults.status, faults.login_status = False, 0, 0
        await until(lambda: world.empty())
        assert len(world.engine.measurements) == 20
        assert world.uplink.status()["breaker"] == "closed"


@pytest_twisted.ensureDeferred
async def test_lost_answers_cost_repeats_but_nothing_twice(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.engine.faults.lose_answers = 4
        await world.write(*[world.measured(1, n) for n in range(6)])
        await until(lambda: world.empty())
        assert [one["energyValue"] for one in world.engine.measurements] == list(range(6))
        assert world.engine.repeats == 4


@pytest_twisted.ensureDeferred
async def test_poison_is_put_aside_and_the_station_goes_on(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.write(world.measured(9, 0), world.measured(1, 1))
        await until(lambda: world.empty())
        assert [one["energyValue"] for one in world.engine.measurements] == [1]
        assert world.uplink.status()["dead_letters"] == 1


@pytest_twisted.ensureDeferred
async def test_an_engine_that_refuses_everything_is_a_line_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that follow say how many there were."""
    said: list[str] = []

    def see(event: dict[str, Any]) -> None:
        text = formatEvent(event)
        if "dead letter" in text:
            said.append(text)

    globalLogPublisher.addObserver(see)
    try:
        async with World(tmp_path) as world:
            await world.write(*[world.measured(9, n) for n in range(20)])
            await until(lambda: world.empty() and world.uplink.status()["dead_letters"] == 20)
            assert len(said) == 1
            assert said[0].startswith("acme/CS-1: the engine refuses a measurement: 422")
            monkeypatch.setattr(uplink_module, "BURIED_LOG_S", 0.0)
            await world.write(world.measured(9, 20))
            await until(lambda: len(said) == 2)
            assert said[1].endswith("; it is kept as a dead letter, as are 19 others since it was last said")
    finally:
        globalLogPublisher.removeObserver(see)


@pytest_twisted.ensureDeferred
async def test_stopping_in_the_midst_loses_nothing_and_takes_less_than_a_second(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.write(world.measured(1, 0))
        await until(lambda: world.empty())
        world.engine.faults.delay_s = 30.0
        await gatherResults([world.write(world.measured(station, 1), station=station) for station in range(1, 6)])
        await nap(0.05)
        closing = ensureDeferred(world.close())
        await until(lambda: closing.called, 1.0)
        world.engine.faults.delay_s = 0.0
        await world.open()
        assert world.store.pending()["acme"][0] == 5
        await until(lambda: world.empty())
        assert len(world.engine.measurements) == 6


@pytest_twisted.ensureDeferred
async def test_another_tenants_rows_are_left_alone(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.store.write(Key("other", "CS-1"), [world.measured(1, 1)], ())
        await world.write(world.measured(1, 2))
        await until(lambda: world.empty())
        assert [one["energyValue"] for one in world.engine.measurements] == [2]
        assert world.store.pending()["other"][0] == 1


@pytest_twisted.ensureDeferred
async def test_a_store_that_fails_for_a_moment_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from broker.net.ledger import Ledger

    rows, done, failures = Ledger.rows, Ledger.done, {"rows": 4, "done": 4}

    def failing(name: str, real: Any) -> Any:
        def run(*args: Any) -> Any:
            if failures[name]:
                failures[name] -= 1
                raise OSError("disk I/O error")
            return real(*args)

        return run

    monkeypatch.setattr("broker.net.uplink.STORE_AGAIN_S", 0.02)
    async with World(tmp_path) as world:
        await world.uplink.stop()
        await world.write(world.measured(1, 1), world.measured(1, 2))
        await world.store.stop()
        monkeypatch.setattr(Ledger, "rows", failing("rows", rows))
        monkeypatch.setattr(Ledger, "done", failing("done", done))
        await world.open()
        await until(lambda: len(world.engine.measurements) == 2 and world.empty())
        assert failures == {"rows": 0, "done": 0}
        assert world.engine.repeats == 0


# ---------------------------------------------------------------- asking


@pytest_twisted.ensureDeferred
async def test_a_transaction_brings_a_schedule_and_the_latest_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls_module, "POLL_FLOOR_S", 0.01)
    async with World(tmp_path) as world:
        await world.write(world.started())
        await until(lambda: bool(world.delivered))
        [schedule] = world.delivered
        assert fits("Transaction", world.engine.transactions[0])
        assert (schedule.asset, schedule.transaction, schedule.unit) == ("A-1", "t-1", "W")
        assert schedule.steps[0].limit == 22_080
        assert world.uplink.latest("A-1") == schedule
        assert world.uplink.latest("A-2") is None
        # The next poll asks for what is newer, and waits.
        await nap(0.15)
        assert world.counts.of["engine_requests", "schedules", "200"] <= 2
        assert world.uplink.status()["sites"]["hq"]["why"] == ""


@pytest_twisted.ensureDeferred
async def test_a_schedule_that_is_said_again_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls_module, "POLL_FLOOR_S", 0.01)
    async with World(tmp_path) as world:
        schedules = world.engine.schedules
        world.engine.schedules = lambda site, after: schedules(site, "")  # type: ignore[method-assign]
        await world.write(world.started())
        await until(lambda: world.counts.of.get(("engine_requests", "schedules", "200"), 0) > 5)
        assert len(world.delivered) == 1


@pytest_twisted.ensureDeferred
async def test_each_answer_about_a_site_vouches_for_its_limits_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls_module, "POLL_FLOOR_S", 0.01)
    async with World(tmp_path) as world:
        schedules = world.engine.schedules
        world.engine.schedules = lambda site, after: schedules(site, "")  # type: ignore[method-assign]
        assert world.uplink.heard("hq") is None
        await world.write(world.started())
        await until(lambda: world.uplink.heard("hq") is not None)
        first = world.uplink.heard("hq")
        assert first is not None
        await until(lambda: (world.uplink.heard("hq") or 0.0) > first)
        assert (world.uplink.heard("moon"), world.uplink.heard(None)) == (None, None)
        world.engine.schedules = lambda site, after: {"schedules": 7}  # type: ignore[method-assign]
        await until(lambda: world.uplink.status()["sites"]["hq"]["why"] not in ("", "not asked yet"))
        last = world.uplink.heard("hq")
        await world.write(world.measured(1, 1))
        await until(lambda: world.empty())
        assert world.uplink.heard("hq") == last, "rubbish vouches for nothing, nor that it takes what it is told"


@pytest.mark.parametrize(("lease_s", "wait_s"), [(900.0, 55), (120.0, 30), (10.0, 2), (2.0, 1)])
@pytest_twisted.ensureDeferred
async def test_a_poll_is_no_longer_than_what_a_lease_can_wait_for(tmp_path: Path, lease_s: float, wait_s: int) -> None:
    asked: list[int] = []

    class Engine:
        def schedules(self, site: str, after: str | None, wait: int) -> Any:
            asked.append(wait)
            raise OSError("away")

    station = StationSettings("CS-1", "smart-charging", "hq", "ac", (EvseSettings(1, "A-1", 32.0, 3),))
    tenant = TenantSettings("acme", "ws://c", charging=ChargingSettings(lease_s=lease_s), stations={"CS-1": station})
    engine: Any = Engine()
    polls = polls_module.Polls(tenant, None, engine, None, Clock(), deliver=print, reached=print, jitter=lambda: 1.0)  # type: ignore[arg-type]
    (poll,) = polls.start()
    assert asked == [wait_s]
    polls.stopped = True
    poll.cancel()


@pytest_twisted.ensureDeferred
async def test_a_schedule_that_is_over_is_not_given_to_a_station_that_comes_back(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.write(world.started())
        await until(lambda: bool(world.delivered))
        world.uplink._polls._wall = lambda: time.time() + 3600.0
        assert world.uplink.latest("A-1") is None


@pytest_twisted.ensureDeferred
async def test_identification_asks_for_no_schedules(tmp_path: Path) -> None:
    async with World(tmp_path, mode="driver-identification") as world:
        await world.write(world.started())
        await until(lambda: world.empty())
        assert world.uplink.status()["sites"] == {}
        assert ("engine_requests", "schedules", "200") not in world.counts.of


@pytest_twisted.ensureDeferred
async def test_a_refused_schedule_is_reported_once_however_often_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls_module, "POLL_FLOOR_S", 0.01)
    async with World(tmp_path) as world:
        bad = {"id": "s-1", "asset_id": "A-9", "issued_at": "2026-01-10T06:00:00Z", "valid_until": "2126-01-10T06:00:00Z", "periods": []}
        world.engine.schedules = lambda site, after: {"schedules": [bad], "cursor": "1"}  # type: ignore[method-assign]
        await until(lambda: world.counts.of.get(("engine_requests", "schedules", "200"), 0) > 5 and len(world.engine.outcomes) > 0)
        assert world.delivered == []
        assert [(one["schedule_id"], one["status"]) for one in world.engine.outcomes] == [("s-1", "refused")]
        assert "asset_id" in world.engine.outcomes[0]["detail"]
        assert fits("Outcome", world.engine.outcomes[0])


@pytest.mark.parametrize("rubbish", [b"nonsense", b"[]", b'{"schedules":7}', b'{"schedules":[3]}', b"null"])
@pytest_twisted.ensureDeferred
async def test_rubbish_instead_of_schedules_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rubbish: bytes) -> None:
    monkeypatch.setattr(polls_module, "POLL_FLOOR_S", 0.01)
    async with World(tmp_path) as world:
        world.engine.faults.rubbish = rubbish
        await until(lambda: world.uplink.status()["sites"]["hq"]["why"] not in ("", "not asked yet"))
        world.engine.faults.rubbish = b""
        await world.write(world.started())
        await until(lambda: bool(world.delivered))
        assert world.uplink.status()["sites"]["hq"]["why"] == ""


@pytest_twisted.ensureDeferred
async def test_an_engine_that_does_not_wait_is_asked_once_a_second_not_more(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        world.engine._api._poll = lambda request, site: (request.write(b'{"schedules":[],"cursor":"1"}'), request.finish())  # type: ignore[method-assign, assignment, return-value]
        await nap(0.5)
        assert world.counts.of["engine_requests", "schedules", "200"] == 1


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_fails_does_not_end_the_polling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls_module, "POLL_FLOOR_S", 0.01)
    async with World(tmp_path) as world:
        taken: list[Schedule] = []

        def deliver(schedule: Schedule) -> None:
            taken.append(schedule)
            raise RuntimeError("the link's own trouble")

        world.uplink._polls._deliver = deliver
        await world.write(world.started())
        await until(lambda: len(taken) == 1)
        await world.write(world.started(2, uid="t-2"), station=2)
        await until(lambda: len(taken) >= 3)
        assert {one.asset for one in taken} == {"A-1", "A-2"}
