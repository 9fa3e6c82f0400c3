"""The store and the whole: what happens while the file cannot be opened, and once it can."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from fakes import clock, until

from broker.counts import Counts
from broker.model.basics import Instant, Key
from broker.model.orders import Alarm, Write
from broker.model.records import Fact, Record
from broker.net import store as store_module
from broker.net.fleet import RELAYED_S, Fleet
from broker.net.lessons import Lessons
from broker.reload import Place
from broker.settings import BrokerSettings, EngineSettings, Settings, StationSettings, TenantSettings


def fleet(folder: Path, counts: Counts) -> Fleet:
    engine = EngineSettings("http://127.0.0.1:1", "acme", "secret")
    tenant = TenantSettings("acme", "ws://127.0.0.1:1", mode="smart-charging", engine=engine)
    return Fleet(Settings(BrokerSettings(state=str(folder / "s")), (), {"acme": tenant}), clock, counts, lambda: 1_800_000_000.0, Lessons())


@pytest_twisted.ensureDeferred
async def test_a_store_that_cannot_be_opened_is_tried_again_and_then_the_engines_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PROBE_S", 0.02)
    holder = sqlite3.connect(tmp_path / "s", isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("CREATE TABLE t (a)")
    holder.execute("BEGIN EXCLUSIVE")
    counts = Counts()
    whole = fleet(tmp_path, counts)
    views = whole.views("0")
    whole.start()
    failed: list[object] = []
    whole.write(Key("acme", "CS-1"), Write((Record("k", "measurement", {}),), ())).addErrback(failed.append)
    await until(lambda: failed)
    assert counts.total("store_failures") == 1, "what is not stored is counted where the operator reads it"
    assert views.ready() == "the store is not open"
    assert views.status()["engines"] == {}

    holder.execute("ROLLBACK")
    holder.close()
    await until(lambda: not views.ready())
    assert list(views.status()["engines"]) == ["acme"]
    await whole.write(Key("acme", "CS-1"), Write((Record("k", "measurement", {}),), ()))
    assert views.status()["engines"]["acme"]["pending"] == 1
    await whole.stop(0.0)


@pytest_twisted.ensureDeferred
async def test_a_file_damaged_while_it_runs_begins_no_engine_twice(tmp_path: Path) -> None:
    whole = fleet(tmp_path, Counts())
    whole.start()
    await until(lambda: not whole.views("0").ready())
    first = whole._uplinks.clients()["acme"]
    moved = whole._store._ask(lambda ledger: ledger.quarantine())
    moved.addErrback(lambda _: None)
    await whole.write(Key("acme", "CS-1"), Write((Record("k", "measurement", {}),), ()))
    assert whole._uplinks.clients()["acme"] is first
    await whole.stop(0.0)


@pytest_twisted.ensureDeferred
async def test_a_station_that_dials_while_the_store_is_being_opened_is_not_taken_for_new(tmp_path: Path) -> None:
    """After a crash every station dials at once: one that was charging would have its StopTransaction taken for a stranger's."""
    key, fact = Key("acme", "CS-1"), Fact("transaction", "1", {"id": 7})
    whole = fleet(tmp_path, Counts())
    whole.start()
    await until(lambda: not whole.views("0").ready())
    await whole.write(key, Write((), (fact,)))
    await whole.stop(0.0)
    whole = fleet(tmp_path, Counts())
    early = whole._facts(key)
    whole.start()
    asked = whole._facts(key)
    assert not asked.called
    assert (await early, await asked) == ([fact], [fact])
    await whole.stop(0.0)


@pytest_twisted.ensureDeferred
async def test_nobody_waits_for_a_store_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    whole = fleet(tmp_path, Counts())
    whole.start()
    assert await whole._facts(Key("acme", "CS-1")) == []
    await whole.stop(0.0)


def test_a_station_is_asked_whether_it_is_well_and_one_that_is_away_proves_nothing(tmp_path: Path) -> None:
    whole, key, asked = fleet(tmp_path, Counts()), Key("acme", "CS-1"), list[object]()

    def well(name: str, raised_at: float) -> bool:
        asked.append((name, raised_at))
        return name == "clock"

    def standing() -> list[str]:
        return [one["name"] for one in whole._watchman.current() if one["name"] != "store"]  # it was never opened

    relay = Place(StationSettings("CS-1", "relay"))
    link: Any = SimpleNamespace(observer=SimpleNamespace(well=well), place=relay, opened=Instant(whole.reactor.seconds(), 0.0))
    links: Any = whole.links
    links.get = lambda _: link
    for name in ("clock", "release"):
        whole._watchman.of_station(key, Alarm(name, "wrong"))
    whole._watchman.look()
    now = whole.reactor.seconds()
    assert [name for name, _ in asked] == ["clock", "release"]
    assert all(now - 60 < raised_at <= now for _, raised_at in asked), "the clock that nobody sets"  # type: ignore[operator]
    assert standing() == ["release"]
    links.get = lambda _: None
    whole._watchman.look()
    assert standing() == ["release"], "it is away"
    links.get = lambda _: link
    link.observer = None
    whole._watchman.look()
    assert standing() == ["release"], "it just came: somebody may find that something of ours is left there"
    link.opened = Instant(link.opened.mono - RELAYED_S, 0.0)
    whole._watchman.look()
    assert standing() == []
    whole._watchman.of_station(Key("gone", "CS-1"), Alarm("clock", "wrong"))
    whole._watchman.look()
    assert standing() == [], "not configured any more"
