"""The store with real files: what was acknowledged is there, in order, whatever happens to the process or the disk."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from wires import soon

from broker.counts import Counts
from broker.model.basics import Key
from broker.model.records import Fact, Record
from broker.net import ledger as ledger_module
from broker.net import store as store_module
from broker.net.damage import MOST_ASIDE, Broken, move_aside
from broker.net.ledger import Entry, Ledger
from broker.net.store import NotStored, Store

KEY = Key("acme", "CS-7")


def record(key: str, kind: Any = "measurement", **body: Any) -> Record:
    return Record(key, kind, body)


async def opened(path: Path, **settings: Any) -> Store:
    store = Store(str(path), reactor, **settings)
    await store.start()
    return store


async def outcome(d: Deferred[Any]) -> Any:
    """The result, or the exception as a value."""
    try:
        return await d
    except Exception as error:
        return error


class SlowDisk(Ledger):
    """Each flush takes 50 ms."""

    def commit(self) -> None:
        time.sleep(0.05)
        super().commit()


class SmallDisk(Ledger):
    """Takes 60 pages, no more."""

    PAGES = 60

    def open(self) -> bool:
        fresh = super().open()
        if fresh:
            self._open.execute(f"PRAGMA max_page_count={self.PAGES}").fetchall()
        return fresh


class FailingDisk(Ledger):
    """Says an I/O error at commit while `failing`."""

    failing = False
    commits = 0

    def commit(self) -> None:
        if type(self).failing:
            raise sqlite3.OperationalError("disk I/O error")
        type(self).commits += 1
        super().commit()


# ---------------------------------------------------------------- what goes in comes out


@pytest_twisted.ensureDeferred
async def test_rows_come_out_in_the_order_of_the_writes_also_after_a_restart(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    writes = [store.write(Key("acme", f"CS-{n % 3}"), [record(f"k{n}", "transaction", n=n)], ()) for n in range(200)]
    await gatherResults(writes)
    rows = await store.rows("acme", 0, 1000)
    assert [row.key for row in rows] == [f"k{n}" for n in range(200)]
    assert (rows[4].station, rows[4].kind, rows[4].body) == ("CS-1", "transaction", '{"n":4}')
    await store.stop()

    again = await opened(tmp_path / "s")
    assert await again.rows("acme", 0, 1000) == rows
    assert [row.key for row in await again.rows("acme", rows[9].seq, 2)] == ["k10", "k11"]
    assert await again.rows("other", 0, 10) == []
    await again.stop()


@pytest_twisted.ensureDeferred
async def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.write(KEY, [record("a"), record("b")], ())
    last = (await store.rows("acme", 0, 9))[-1].seq
    await store.done([last, last - 1])
    await store.stop()
    store = await opened(tmp_path / "s")
    await store.write(KEY, [record("c")], ())
    assert (await store.rows("acme", last, 9))[0].key == "c"
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_repeat_of_a_waiting_key_keeps_the_first(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.write(KEY, [record("a", n=1), record("b", n=2)], ())
    await store.write(KEY, [record("a", n=3)], ())
    await store.write(Key("other", "CS-7"), [record("a", n=4)], ())
    assert [(row.key, row.body) for row in await store.rows("acme", 0, 9)] == [("a", '{"n":1}'), ("b", '{"n":2}')]
    assert [row.body for row in await store.rows("other", 0, 9)] == ['{"n":4}']
    assert {tenant: rows for tenant, (rows, _) in store.pending().items()} == {"acme": 2, "other": 1}
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_facts_are_kept_replaced_and_forgotten(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.write(KEY, (), [Fact("boot", "boot", {"vendor": "Ünï"}), Fact("lease", "1", [1, 2.5])])
    await store.write(KEY, (), [Fact("lease", "1", None), Fact("boot", "boot", {"vendor": "W"}), Fact("quirk", "q", False)])
    await store.stop()
    store = await opened(tmp_path / "s")
    assert await store.facts(KEY) == [Fact("boot", "boot", {"vendor": "W"}), Fact("quirk", "q", False)]
    assert await store.facts(Key("acme", "CS-8")) == []
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_done_and_dead_leave_the_queue_and_pending_knows(tmp_path: Path) -> None:
    now = [100.0]
    store = await opened(tmp_path / "s", wall=lambda: now[0])
    assert store.pending() == {}
    await store.write(KEY, [record("a"), record("b", driverId="badge")], ())
    now[0] = 200.0
    await store.write(KEY, [record("c")], ())
    assert store.pending() == {"acme": (3, 100.0)}
    a, b, _ = await store.rows("acme", 0, 9)
    await store.done([a.seq])
    await store.dead(b.seq, "422: body.driverId")
    assert store.pending() == {"acme": (1, 200.0)}
    assert [row.key for row in await store.rows("acme", 0, 9)] == ["c"]
    await store.stop()
    store = await opened(tmp_path / "s")
    assert store.pending() == {"acme": (1, 200.0)}
    await store.stop()
    with sqlite3.connect(tmp_path / "s") as db:
        assert db.execute("SELECT key, why, at FROM dead").fetchall() == [("b", "422: body.driverId", 200.0)]


@pytest_twisted.ensureDeferred
async def test_listeners_hear_of_new_rows_once_each_group_after_the_commit(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    heard: list[tuple[str, int]] = []

    def broken(tenant: str) -> None:
        raise RuntimeError("a listener's own trouble")

    store.on_written += [broken, lambda tenant: heard.append((tenant, store.pending()[tenant][0]))]
    await gatherResults([store.write(KEY, [record(f"k{n}")], ()) for n in range(5)])
    assert len(await store.rows("acme", 0, 9)) == 5
    assert heard[-1] == ("acme", 5)
    before = len(heard)
    await store.write(KEY, [record("k1")], ())
    await store.write(KEY, (), [Fact("boot", "boot", 1)])
    assert len(heard) == before
    await store.stop()


# ---------------------------------------------------------------- the process


CHILD = """
import sys
from twisted.internet import reactor
from broker.model.basics import Key
from broker.model.records import Fact, Record
from broker.net.store import Store
store, n = Store(sys.argv[1], reactor), 0
def more(_=None):
    global n
    n += 1
    said = n
    d = store.write(Key("acme", "CS-1"), [Record(f"k{said}", "transaction", {"n": said})], [Fact("transaction", "last", said)])
    d.addCallback(lambda _: (sys.stdout.write(f"{said}\\n"), sys.stdout.flush(), more()))
store.start().addCallback(lambda _: [more() for _ in range(8)])
reactor.run()
"""


@pytest_twisted.ensureDeferred
async def test_kill_minus_nine_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True, cwd=os.getcwd())
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(60)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.wait()
        acknowledged = [int(line) for line in lines if line.endswith("\n")]
        assert len(acknowledged) >= 60
        store = await opened(tmp_path / "s")
        rows = await store.rows("acme", 0, 100_000)
        assert {f"k{n}" for n in acknowledged} <= {row.key for row in rows}
        assert [row.key for row in rows] == [f"k{n}" for n in range(1, len(rows) + 1)]
        [last] = await store.facts(Key("acme", "CS-1"))
        assert last.value >= max(acknowledged)
        await store.done([row.seq for row in rows])
        await store.stop()


@pytest_twisted.ensureDeferred
async def test_stop_flushes_what_is_queued_and_later_writes_fail(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s", ledger=SlowDisk)
    writes = [store.write(KEY, [record(f"k{n}")], ()) for n in range(50)]
    await store.stop()
    assert all(write.called for write in writes)
    assert isinstance(await outcome(store.write(KEY, [record("late")], ())), NotStored)
    assert isinstance(await outcome(store.rows("acme", 0, 1)), NotStored)
    await store.stop()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s", "s.reserve", "s.reserve-last"]
    with sqlite3.connect(tmp_path / "s") as db:
        assert db.execute("SELECT count(*) FROM outbox").fetchone() == (50,)


@pytest_twisted.ensureDeferred
async def test_folder_and_file_are_for_us_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path / "var" / "s")
    await store.write(KEY, [record("a")], ())
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "var").iterdir()} == {0o600}
    await store.stop()


# ---------------------------------------------------------------- the disk


@pytest_twisted.ensureDeferred
async def test_a_commit_is_flushed_before_it_is_acknowledged(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    asked = [
        await store._ask(lambda ledger, name=name: ledger._open.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("synchronous", "journal_mode")
    ]
    assert asked == [2, "wal"], "2 is FULL: a power cut loses nothing acknowledged"
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_slow_disk_never_stops_the_reactor_and_groups_share_a_flush(tmp_path: Path) -> None:
    flushed, flushes = threading.Event(), 0

    class VerySlowDisk(Ledger):
        def commit(self) -> None:
            nonlocal flushes
            flushes += 1
            assert flushed.wait(20.0), "the reactor waits for the disk"
            super().commit()

    flushed.set()
    store = await opened(tmp_path / "s", ledger=VerySlowDisk)
    flushed.clear()
    flushes = 0
    written = gatherResults([store.write(KEY, [record(f"k{n}")], ()) for n in range(300)])
    assert await soon(lambda: flushes == 1)
    await deferLater(reactor, 0.1, lambda: None)  # it turns, though the flush does not end
    assert not written.called
    flushed.set()
    await written
    assert flushes <= 3
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_full_disk_gives_up_old_measurements_never_transactions(tmp_path: Path) -> None:
    counts = Counts()
    store = await opened(tmp_path / "s", ledger=SmallDisk, counts=counts)
    await store.write(KEY, [record("start", "transaction")], ())
    for n in range(3000):
        assert await outcome(store.write(KEY, [record(f"m{n}", text="x" * 400)], ())) is None
        if store.dropped:
            break
    keys = [row.key for row in await store.rows("acme", 0, 10_000)]
    assert store.dropped > 0
    assert keys[0] == "start"
    assert keys[-1] == f"m{n}"
    assert "m0" not in keys
    assert counts.total("store_failures") == store.dropped
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_disk_full_of_transactions_refuses_says_so_and_drains_by_itself(tmp_path: Path) -> None:
    counts = Counts()
    store = await opened(tmp_path / "s", ledger=SmallDisk, counts=counts)
    stored = 0
    while (last := await outcome(store.write(KEY, [record(f"t{stored}", "transaction", text="x" * 2000)], ()))) is None:
        stored += 1
    assert isinstance(last, NotStored)
    assert "full" in str(last)
    assert not store.healthy
    assert counts.total("store_failures") == 1
    rows = await store.rows("acme", 0, 10_000)
    assert len(rows) == stored > 10
    results = await DeferredList(
        [store.write(KEY, [record("late", "transaction", text="x" * 2000)], ()), store.done([row.seq for row in rows])], consumeErrors=True
    )
    assert results[1][0], "what makes room is never refused"
    assert await outcome(store.write(KEY, [record("later", "transaction", text="x" * 2000)], ())) is None
    assert store.healthy
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_disk_that_hangs_is_no_healthy_one_until_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(tmp_path / "s")
    monkeypatch.setattr(store_module, "SILENT_S", 0.05)
    begun, hangs, still = threading.Event(), threading.Event(), threading.Event()
    asked = store.ask(lambda _: begun.set() or hangs.wait(30))
    assert begun.wait(30), "what comes now is for the next group"
    written = store.write(KEY, [record("a")], ())
    other = store.ask(lambda _: still.wait(30))
    try:
        assert await soon(lambda: store.silent)
        assert (store.healthy, store.waiting) == (False, 1)
        monkeypatch.setattr(store_module, "SILENT_S", 20.0)
        assert store.healthy
        before = reactor.seconds()  # type: ignore[attr-defined]
        hangs.set()
        await asked
        monkeypatch.setattr(store_module, "SILENT_S", reactor.seconds() - before)  # type: ignore[attr-defined]
        assert not store.silent, "it has just answered, and owes another answer since then only"
    finally:
        hangs.set()
        still.set()
    await written
    await other
    monkeypatch.setattr(store_module, "SILENT_S", 0.0)
    assert (store.silent, store.healthy, store.waiting) == (False, True, 0), "who is asked nothing owes nothing"
    monkeypatch.setattr(store_module, "SILENT_S", 0.2)
    await deferLater(reactor, 0.25, lambda: None)
    last = store.ask(lambda _: None)
    assert not store.silent, "not for as long as it had nothing to do"
    await last
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_disk_that_fails_is_asked_again_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PROBE_S", 0.02)
    store = await opened(tmp_path / "s", ledger=FailingDisk)
    monkeypatch.setattr(FailingDisk, "failing", True)
    lost = await outcome(store.write(KEY, [record("a")], ()))
    assert isinstance(lost, NotStored)
    assert not store.healthy
    monkeypatch.setattr(FailingDisk, "failing", False)
    assert await soon(lambda: store.healthy)
    assert await outcome(store.write(KEY, [record("b")], ())) is None
    assert [row.key for row in await store.rows("acme", 0, 9)] == ["b"]
    assert store.pending()["acme"][0] == 1
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_reading_alone_does_not_make_a_refusing_disk_healthy(tmp_path: Path) -> None:
    class ReadOnly(Ledger):
        def add(self, entry: Any) -> int:
            raise sqlite3.OperationalError("attempt to write a readonly database")

        def probe(self) -> None:
            raise sqlite3.OperationalError("attempt to write a readonly database")

    store = Store(str(tmp_path / "s"), reactor, ledger=ReadOnly)
    await outcome(store.start())
    assert isinstance(await outcome(store.write(KEY, [record("a")], ())), NotStored)
    assert await store.rows("acme", 0, 9) == []
    assert not store.healthy
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_file_in_use_by_another_broker_is_refused_until_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PROBE_S", 0.02)
    first = await opened(tmp_path / "s")
    second = Store(str(tmp_path / "s"), reactor)
    refused = await outcome(second.start())
    assert isinstance(refused, NotStored)
    assert "another broker" in str(refused)
    assert not second.healthy
    await first.stop()
    assert await soon(lambda: second.healthy)
    await second.stop()


@pytest.mark.parametrize("damage", ["rubbish", "middle", "truncated"])
@pytest_twisted.ensureDeferred
async def test_a_damaged_file_is_moved_aside_and_a_fresh_one_begun(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s"
    store = await opened(path)
    await gatherResults([store.write(KEY, [record(f"k{n}", text="x" * 500)], ()) for n in range(300)])
    await store.stop()
    whole = path.read_bytes()
    page = 4096
    broken = {
        "rubbish": b"not a database, whatever its name says " * 300,
        "middle": whole[: 2 * page] + b"\xff" * (len(whole) - 3 * page) + whole[-page:],
        "truncated": whole[: len(whole) // 2],
    }[damage]
    path.write_bytes(broken)

    store = Store(str(path), reactor, wall=lambda: 1_700_000_000.0)
    await outcome(store.start())
    assert await outcome(store.write(KEY, [record("after")], ())) is None
    await store.facts(KEY)
    assert [row.key for row in await store.rows("acme", 0, 999)] == ["after"]
    assert store.pending() == {"acme": (1, 1_700_000_000.0)}
    assert store.healthy
    await store.stop()
    assert (tmp_path / "s.corrupt-20231114T221320Z").read_bytes()[:40] == broken[:40]


@pytest_twisted.ensureDeferred
async def test_a_flipped_bit_in_one_row_costs_that_row_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.write(KEY, [record("a", n=1), record("b", n=2), record("c", n=3)], ())
    await store.stop()
    with sqlite3.connect(tmp_path / "s") as db:
        db.execute("""UPDATE outbox SET body = '{"n":7}' WHERE key = 'b'""")
    db.close()
    store = await opened(tmp_path / "s")
    assert [row.key for row in await store.rows("acme", 0, 2)] == ["a", "c"]
    assert store.pending()["acme"][0] == 2
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_file_of_a_newer_broker_is_left_alone(tmp_path: Path) -> None:
    await (await opened(tmp_path / "s")).stop()
    with sqlite3.connect(tmp_path / "s") as db:
        db.execute("UPDATE meta SET value = '999' WHERE name = 'schema'")
    db.close()
    store = Store(str(tmp_path / "s"), reactor)
    assert "schema 999" in str(await outcome(store.start()))
    await store.stop()
    assert [file.name for file in tmp_path.iterdir() if "corrupt" in file.name] == []


@pytest_twisted.ensureDeferred
async def test_a_read_that_fails_is_no_writes_ruin_nor_the_reverse(tmp_path: Path) -> None:
    class Half(Ledger):
        bad = "rows"

        def rows(self, tenant: str, after: int, limit: int) -> list[Any]:
            if self.bad == "rows":
                raise sqlite3.OperationalError("disk I/O error")
            return super().rows(tenant, after, limit)

        def add(self, entry: Any) -> int:
            if self.bad == "add":
                raise sqlite3.OperationalError("disk I/O error")
            return super().add(entry)

    store = await opened(tmp_path / "s", ledger=Half)
    for bad in ("rows", "add"):
        Half.bad = bad
        results = await DeferredList([store.write(KEY, [record(bad)], ()), store.rows("acme", 0, 9)], consumeErrors=True)
        assert [good for good, _ in results] == [bad == "rows", bad == "add"]
    assert [row.key for row in await store.rows("acme", 0, 9)] == ["rows"]
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_file_that_breaks_while_it_runs_is_replaced_and_numbers_go_on(tmp_path: Path) -> None:
    class Breaking(Ledger):
        broken = False

        def add(self, entry: Any) -> int:
            if self.broken:
                type(self).broken = False
                raise Broken("page 7 is torn")
            return super().add(entry)

    store = await opened(tmp_path / "s", ledger=Breaking)
    await store.write(KEY, [record("a"), record("b")], ())
    last = (await store.rows("acme", 0, 9))[-1].seq
    Breaking.broken = True
    await store.write(KEY, [record("c")], ())
    assert [row.key for row in await store.rows("acme", last, 9)] == ["c"]
    assert store.pending()["acme"][0] == 1
    assert store.healthy
    await store.stop()
    assert len([file for file in tmp_path.iterdir() if ".corrupt-" in file.name and not file.name.endswith(("-wal", "-shm"))]) == 1


@pytest_twisted.ensureDeferred
async def test_the_file_is_read_whole_after_it_was_opened_and_what_that_finds_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "CHECK_AFTER_S", 0.05)

    class Unread(Ledger):
        damaged = True

        def check(self) -> None:
            if self.damaged:
                type(self).damaged = False
                raise Broken("a page that nothing else would read")
            super().check()

    store = await opened(tmp_path / "s", ledger=Unread)
    await store.write(KEY, [record("a")], ())
    assert await soon(lambda: bool(list(tmp_path.glob("s.corrupt-*"))))
    await store.write(KEY, [record("b")], ())
    assert [row.key for row in await store.rows("acme", 0, 9)] == ["b"]
    await store.stop()


def test_a_disk_that_damages_every_file_does_not_fill_up_with_them(tmp_path: Path) -> None:
    for second in range(25):
        for tail in ("", "-wal"):
            (tmp_path / f"s{tail}").write_bytes(b"%d" % second)
        move_aside(str(tmp_path / "s"), 1_700_000_000.0 + second // 2)
    kept = sorted(file.name for file in tmp_path.iterdir() if not file.name.endswith("-wal"))
    assert len(kept) == MOST_ASIDE
    assert (tmp_path / kept[-1]).read_bytes() == b"24"
    assert len(list(tmp_path.iterdir())) == 2 * MOST_ASIDE


# ---------------------------------------------------------------- bounds


@pytest_twisted.ensureDeferred
async def test_more_rows_than_allowed_cost_the_fullest_tenant_its_oldest_measurements(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s", most_rows=20)
    await store.write(Key("small", "A"), [record("s1")], ())
    for n in range(30):
        await store.write(KEY, [record(f"k{n}", "transaction" if n % 5 == 0 else "measurement")], ())
    keys = [row.key for row in await store.rows("acme", 0, 99)]
    assert len(keys) == 19
    assert {f"k{n}" for n in range(0, 30, 5)} <= set(keys)
    assert [k for k in keys if int(k[1:]) % 5] == [f"k{n}" for n in range(30) if n % 5][-13:]
    assert len(await store.rows("small", 0, 9)) == 1
    assert store.dropped == 11
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_what_the_disk_is_too_slow_for_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts()
    monkeypatch.setattr(store_module, "MOST_WAITING", 10)
    store = await opened(tmp_path / "s", ledger=SlowDisk, counts=counts)
    writes = [store.write(KEY, [record(f"k{n}")], ()) for n in range(12)]
    assert [write.called for write in writes] == [False] * 10 + [True] * 2
    results = await DeferredList(writes, consumeErrors=True)
    assert [good for good, _ in results] == [True] * 10 + [False] * 2
    assert counts.total("store_failures") == 2
    await store.write(KEY, [record("after")], ())
    monkeypatch.setattr(store_module, "MOST_WAITING_BYTES", 1000)
    assert isinstance(await outcome(store.write(KEY, [record("big", text="x" * 1000)], ())), NotStored)
    await store.stop()


@pytest.mark.parametrize("value", [math.nan, {1, 2}, "\ud800"])
@pytest_twisted.ensureDeferred
async def test_what_json_cannot_hold_harms_nobody_else(tmp_path: Path, value: Any) -> None:
    store = await opened(tmp_path / "s")
    good = store.write(KEY, [record("a")], ())
    bad = store.write(KEY, [record(value if isinstance(value, str) else "k", x=value)], ())
    assert isinstance(await outcome(bad), NotStored)
    assert await outcome(good) is None
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_reader_that_goes_away_disturbs_nothing(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s", ledger=SlowDisk)
    asked = store.rows("acme", 0, 9)
    asked.addErrback(lambda failure: None)
    asked.cancel()
    await store.write(KEY, [record("a")], ())
    assert len(await store.rows("acme", 0, 9)) == 1
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_facts_of_a_topic_are_found_over_all_stations_but_for_damaged_ones(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    for station in ("A", "B", "C"):
        await store.write(Key("acme", station), (), [Fact("lease", "1", {"of": station}), Fact("boot", "boot", 1)])
    await store._ask(lambda ledger: ledger._open.execute("UPDATE facts SET value = replace(value, 'B', 'X') WHERE station = 'B'") and None)
    assert await store.about("acme", "lease") == [("A", Fact("lease", "1", {"of": "A"})), ("C", Fact("lease", "1", {"of": "C"}))]
    assert await store.about("other", "lease") == []
    await store.stop()


# ---------------------------------------------------------------- gathering


class CountingDisk(Ledger):
    groups: list[int] = []  # noqa: RUF012 - emptied by each test

    def begin(self) -> None:
        super().begin()
        type(self).groups.append(0)

    def add(self, entry: Any) -> int:
        type(self).groups[-1] += 1
        return super().add(entry)


@pytest_twisted.ensureDeferred
async def test_what_nobody_waits_for_is_gathered_into_one_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "GATHER_S", 0.2)
    store = await opened(tmp_path / "s", ledger=CountingDisk)
    CountingDisk.groups.clear()
    writes = []
    for n in range(5):
        writes.append(store.write(KEY, [record(f"k{n}")], (), soon=False))
        pause: Deferred[None] = Deferred()
        reactor.callLater(0.005, pause.callback, None)  # type: ignore[attr-defined]
        await pause
        assert not any(write.called for write in writes)
    await gatherResults(writes)
    assert CountingDisk.groups == [5]
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_who_waits_takes_along_what_was_gathered_before_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "GATHER_S", 3600.0)
    store = await opened(tmp_path / "s", ledger=CountingDisk)
    CountingDisk.groups.clear()
    first = store.write(KEY, [record("first")], (), soon=False)
    await store.write(KEY, [record("second")], ())
    assert first.called
    assert CountingDisk.groups == [2]
    last = store.write(KEY, [record("last")], (), soon=False)
    assert [row.key for row in await store.rows("acme", 0, 9)] == ["first", "second", "last"], "who reads sees what was written before"
    left = store.write(KEY, [record("left")], (), soon=False)
    await store.stop()
    assert last.called
    assert left.called, "and nothing is left behind at the end"


@pytest_twisted.ensureDeferred
async def test_a_flood_gathered_is_handed_over_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_IN_GROUP", 3)
    store = await opened(tmp_path / "s", ledger=CountingDisk)
    CountingDisk.groups.clear()
    await gatherResults([store.write(KEY, [record(f"k{n}")], (), soon=False) for n in range(7)])
    assert CountingDisk.groups == [3, 3, 1]
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_who_waits_is_begun_with_at_once_while_the_disk_rests_and_else_with_all_who_came_meanwhile(tmp_path: Path) -> None:
    gate = threading.Event()

    class Gated(CountingDisk):
        def commit(self) -> None:
            gate.wait(20.0)
            super().commit()

    def begun() -> list[int]:
        """The reactor's turn goes on and on, until the disk has begun."""
        end = time.monotonic() + 20.0
        while sum(Gated.groups) == before and time.monotonic() < end:
            time.sleep(0.001)
        return [size for size in Gated.groups if size]

    gate.set()
    store = await opened(tmp_path / "s", ledger=Gated)
    Gated.groups.clear()
    gate.clear()
    before = 0
    writes = [store.write(KEY, [record("first")], ())]
    assert begun() == [1], "it did not wait for the turn's end"
    writes += [store.write(KEY, [record(f"k{n}")], ()) for n in range(4)]
    reactor.callLater(0.0, gate.set)  # type: ignore[attr-defined]
    await gatherResults(writes)
    before = 5
    last = store.write(KEY, [record("last")], ())
    assert begun() == [1, 4, 1], "nor when it rests again; and the four went together"
    await last
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_done_and_read_in_as_few_questions_as_there_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MOST_NAMED", 3)
    store = await opened(tmp_path / "s")
    await store.write(KEY, [record(f"k{n}") for n in range(8)], ())
    said: list[str] = []
    await store.ask(lambda ledger: ledger._open.set_trace_callback(said.append))
    rows = await store.rows("acme", 0, 100)
    assert len([sql for sql in said if sql.startswith("SELECT seq")]) == 1
    said.clear()
    await store.done([row.seq for row in rows[:7]])
    assert len([sql for sql in said if sql.startswith("DELETE")]) == 3
    assert [row.key for row in await store.rows("acme", 0, 100)] == ["k7"]
    assert store.pending()["acme"][0] == 1
    await store.stop()


def test_what_was_told_is_not_left_in_the_file(tmp_path: Path) -> None:
    """An id token is a person's: it is in no free page once the engine has it."""
    ledger = Ledger(str(tmp_path / "s"), 1000)
    ledger.open()
    for n in range(50):
        ledger.begin()
        ledger.add(Entry("acme", "CS-7", ((f"k{n}", "transaction", f'{{"driverId": "BADGE-{n}"}}'),), (("open", "1", f'"BADGE-{n}"'),)))
        ledger.commit()
    ledger.fold()
    assert b"BADGE-7" in (tmp_path / "s").read_bytes()
    ledger.begin()
    ledger.done([row.seq for row in ledger.rows("acme", 0, 100)])
    ledger.add(Entry("acme", "CS-7", (), (("open", "1", None),)))
    ledger.commit()
    ledger.close()
    assert b"BADGE" not in (tmp_path / "s").read_bytes()
    assert os.listdir(tmp_path) == ["s"]
