"""What a disk refuses of transactions: late, in its order, once, and bounded; on a real file whose disk refuses on command."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from wires import soon

from broker.counts import Counts
from broker.model.basics import Key
from broker.model.records import Fact, Record
from broker.net.commits import Job, NotStored, Settled
from broker.net.keeping import MOST_AT_ONCE, Keeping, Kept, KeptForNow
from broker.net.ledger import Entry, Ledger
from broker.net.letters import Lettered
from broker.net.room import Room
from broker.net.store import Store

KEY = Key("acme", "CS-7")
clock: Any = reactor


class Refusing(Lettered):
    """Its disk can be read all the time."""

    refuses = False
    _dirty = False

    def begin(self) -> None:
        self._dirty = False
        super().begin()

    def add(self, entry: Entry) -> int:
        self._dirty = True
        return super().add(entry)

    def probe(self) -> None:
        self._dirty = True
        super().probe()

    def commit(self) -> None:
        if self.refuses and self._dirty:
            raise sqlite3.OperationalError("disk I/O error")
        super().commit()


def keeping(folder: Path, kept: Kept | None = None) -> tuple[Keeping, Refusing]:
    ledger = Refusing(str(folder / "store.sqlite"), 1_000_000)
    return Keeping(ledger, Room(str(folder / "store.sqlite"), lambda _: (10**12, 10**9, 10**12)), kept=kept), ledger


def entry(n: int, kind: str = "transaction", station: str = "CS-7") -> Entry:
    return Entry("acme", station, ((f"key-{n}", kind, f'{{"n":{n}}}'),), (("transaction", "newest", str(n)),))


def write(one: Entry, keep: bool = True) -> Job:
    return Job(lambda ledger: ledger.add(one), Deferred(), one.tenant, one.size(), one if keep else None)


def outcomes(settled: Settled) -> list[str]:
    return [type(result).__name__ for _, result in settled.results]


def told(ledger: Ledger) -> list[str]:
    return [row.key for row in ledger.rows("acme", 0, 100_000)]


STORY = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from(["transaction", "measurement", "unkept", "read"]), max_size=4), st.integers(0, 3)),
    max_size=15,
)


@given(STORY)
def test_all_of_transactions_arrives_in_its_order_and_once(story: list[tuple[bool, list[str], int]]) -> None:
    with TemporaryDirectory() as folder:
        store, ledger = keeping(Path(folder))
        expected: list[str] = []
        n, last = 0, None
        for refuses, kinds, gone in story:
            ledger.refuses = refuses
            jobs: list[Job] = []
            for kind in kinds:
                n += 1
                if kind == "read":
                    jobs.append(Job(lambda ledger: ledger.facts(*KEY), Deferred()))
                    continue
                jobs.append(write(entry(n, "transaction" if kind == "unkept" else kind), keep=kind != "unkept"))
                if not refuses or kind == "transaction":
                    expected.append(f"key-{n}")
                if not refuses or kind != "unkept":  # a measurement's facts are not the measurement
                    last = n
            settled = store.turn(jobs, probe=True)
            assert len(settled.results) == len(jobs)
            if refuses:
                assert (settled.error is not None) == (not jobs or any(job.tenant is not None for job in jobs) or bool(store.kept))
                assert settled.kept == len(store.kept)
            else:
                assert settled.error is None
                assert not store.kept
                assert told(ledger) == expected
                done = [row.seq for row in ledger.rows("acme", 0, gone)]
                store.turn([Job(lambda ledger, done=done: ledger.done(done), Deferred())], probe=False)
                expected = expected[len(done) :]
            if last is not None and ledger._db is not None:
                assert store.facts(*KEY) == [("transaction", "newest", str(last))], "also while it is not on disk"
        ledger.refuses = False
        store.turn([], probe=True)
        assert told(ledger) == expected
        ledger.close()


SIZES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 60)), max_size=60)


@given(SIZES, st.integers(1, 40), st.integers(200, 2000))
def test_there_is_never_more_of_it_than_it_may_be(entries: list[tuple[int, int, int]], most_rows: int, most_bytes: int) -> None:
    kept, model = Kept(most_rows, most_bytes), list[Entry]()
    for n, (rows, facts, size) in enumerate(entries):
        records = tuple((f"k-{n}-{i}", "measurement" if i == 3 else "transaction", "x" * size) for i in range(rows))
        one = Entry("acme", "CS-7", records, tuple(("transaction", f"f-{i}", None) for i in range(facts)))
        left = one._replace(records=records[:3])
        if kept.add(one):
            model.append(left)
        else:
            full = sum(len(e.records) + len(e.facts) for e in [*model, left]) > most_rows
            full = full or sum(e.size() for e in [*model, left]) > most_bytes
            assert full or not (left.records or left.facts)
        assert sum(len(e.records) + len(e.facts) for e in model) <= most_rows
        assert sum(e.size() for e in model) <= most_bytes
        assert kept.first(100) == model
        if n % 7 == 6 and model:
            kept.pop(1)
            model.pop(0)
    kept.pop(len(kept))
    assert (len(kept), kept._rows, kept._bytes) == (0, 0, 0)


def test_what_is_too_much_is_said_so_and_leaves_no_gap(tmp_path: Path) -> None:
    store, ledger = keeping(tmp_path, Kept(most_rows=6))
    store.turn([], probe=True)
    ledger.refuses = True
    said = [outcomes(store.turn([write(entry(n))], probe=False)) for n in range(5)]
    assert said == [["KeptForNow"]] * 3 + [["NotStored"]] * 2
    ledger.refuses = False
    settled = store.turn([write(entry(9))], probe=True)
    assert (settled.error, settled.again, settled.kept) == (None, ("acme",), 0)
    assert settled.pending["acme"][0] == 4
    assert told(ledger) == ["key-0", "key-1", "key-2", "key-9"]


def test_much_of_it_goes_in_parts_and_what_can_never_be_written_holds_up_nobody(tmp_path: Path) -> None:
    store, ledger = keeping(tmp_path)
    store.turn([], probe=True)
    ledger.refuses = True
    bad = Entry("acme", "CS-7", (("\ud800", "transaction", "{}"),), ())
    many = MOST_AT_ONCE + 20
    for n in range(many):
        store.turn([write(bad if n == 3 else entry(n))], probe=False)
    assert len(store.kept) == many
    ledger.refuses = False
    settled = store.turn([], probe=True)
    assert (settled.lost, settled.kept, settled.error) == (1, 0, None)
    assert told(ledger) == [f"key-{n}" for n in range(many) if n != 3]


def test_what_is_wrong_with_the_write_itself_is_not_kept(tmp_path: Path) -> None:
    store, _ = keeping(tmp_path)
    store.turn([], probe=True)
    bad = Entry("acme", "CS-7", (("\ud800", "transaction", "{}"),), ())
    assert outcomes(store.turn([write(bad)], probe=False)) == ["NotStored"]
    assert not store.kept


@pytest_twisted.ensureDeferred
async def test_whoever_waits_is_told_at_once_and_it_is_on_disk_later(tmp_path: Path) -> None:
    counts = Counts()
    store = Store(str(tmp_path / "store.sqlite"), clock, counts=counts, ledger=Refusing)
    heard: list[str] = []
    store.on_written.append(heard.append)
    await store.start()
    ledger: Any = store._commits.ledger
    ledger.refuses = True

    def learned(n: int, kind: Any = "transaction", keep: bool = True) -> Deferred[None]:
        return store.write(KEY, [Record(f"key-{n}", kind, {"n": n})], [Fact("transaction", "newest", n)], keep=keep)

    with pytest.raises(KeptForNow):
        await learned(1)
    with pytest.raises(NotStored):
        await learned(2, keep=False)
    with pytest.raises(KeptForNow):
        await learned(3)
    assert (store.kept, store.healthy, counts.total("store_failures")) == (2, False, 1)
    assert [fact.value for fact in await store.facts(KEY)] == [3], "a station that comes meanwhile is known as it is"
    assert await store.rows("acme", 0, 10) == []
    ledger.refuses = False
    assert await soon(lambda: store.healthy and not store.kept)
    assert [row.key for row in await store.rows("acme", 0, 10)] == ["key-1", "key-3"]
    assert heard == ["acme"]
    assert store.pending()["acme"][0] == 2
    await learned(4)
    assert [row.key for row in await store.rows("acme", 0, 10)] == ["key-1", "key-3", "key-4"]
    ledger.refuses = True
    with pytest.raises(KeptForNow):
        await learned(5)
    await store.stop()
    assert counts.total("store_failures") == 2, "it is lost with us"
