"""An engine that is away for seven days, on a clock that a test winds: the real store, outbox and uplink, no second of it waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from wires import soon

from broker.alarms import Book
from broker.counts import Counts
from broker.engine.v1 import V1
from broker.model.basics import Key
from broker.model.records import Record
from broker.net import commits
from broker.net.store import Store
from broker.net.uplink import Uplink
from broker.net.watchman import of_engines
from broker.outbox import CAP_S, Row, Verdict
from broker.settings import EngineSettings, TenantSettings

HOUR_S, DAYS, STATIONS = 3600.0, 7, 3
NOON = 1_800_000_000.0


class Away:
    """An engine's client. While `away` each try fails; else whatever is told is kept."""

    batches = False

    def __init__(self) -> None:
        self.away = True
        self.tries = 0
        self.told: list[tuple[str, str, str]] = []  # station, kind, key

    def count_in(self, counts: Counts) -> None:
        """Nothing: it counts itself."""

    def post(self, row: Row) -> Deferred[Verdict]:
        self.tries += 1
        if self.away:
            return succeed(Verdict("retry", 0, None, "the engine cannot be reached"))
        self.told.append((row.station, row.kind, row.key))
        return succeed(Verdict("stored", 201))

    async def stop(self) -> None:
        """Nothing is under way."""


async def hour(n: int, store: Store) -> None:
    """What three stations have to say in an hour: four measurements each, and a transaction's event."""
    for station in range(STATIONS):
        said = [Record(f"m-{station}-{n}-{quarter}", "measurement", {"n": n}) for quarter in range(4)]
        await store.write(Key("acme", f"CS-{station}"), (*said, Record(f"t-{station}-{n}", "transaction", {"n": n})), ())


@pytest_twisted.ensureDeferred
async def test_an_engine_that_is_away_for_a_week_is_told_all_of_it_in_order_and_was_not_stormed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "LOOK_S", 0.0)  # the disk's look, which gives up what is too old, with each group
    clock, client = Clock(), Away()
    any_client: Any = client
    engine = EngineSettings("http://engine", "acme", "secret")

    def wall() -> float:
        return NOON + clock.seconds()

    store = Store(str(tmp_path / "s"), reactor, wall=wall)
    await store.start()
    uplink = Uplink(
        TenantSettings("acme", "ws://cpms", engine=engine), store, any_client, V1(engine), clock,
        deliver=lambda _: None, counts=Counts(), jitter=lambda: 0.5, wall=wall,
    )  # fmt: skip
    uplink.start()
    book, look = Book(), of_engines(lambda: {"acme": uplink.status()}, wall)
    for n in range(24 * DAYS):
        await hour(n, store)
        clock.pump([CAP_S] * 60)
        for name, found in look().items():
            book.stand(name, found, wall())
    assert [(one.name, one.count) for one in book.current()] == [("engine", 1), ("outbox", 1)], "told once, and it stands"
    assert store.pending()["acme"][0] == 24 * DAYS * STATIONS * 5
    assert client.tries < 2 * 24 * DAYS * HOUR_S / CAP_S, "a probe a minute, not a storm"

    client.away = False

    def all_told() -> bool:
        clock.advance(1.0)
        return store.pending()["acme"][0] == 0

    assert await soon(all_told, 60)
    assert [one for source in look().values() for one in source] == []
    for station in range(STATIONS):
        told = [key for at, kind, key in client.told if at == f"CS-{station}" and kind == "transaction"]
        assert told == [f"t-{station}-{n}" for n in range(24 * DAYS)], "each once, in order"
    measured = [key for _, kind, key in client.told if kind == "measurement"]
    assert len(measured) == len(set(measured)) == 24 * DAYS * STATIONS * 4
    await uplink.stop()
    await store.stop()
