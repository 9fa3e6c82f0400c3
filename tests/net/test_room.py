"""The disk fills up and empties again: what is given up, in which order, and that it comes back by itself."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from fakes import until
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor

from broker.counts import Counts
from broker.model.basics import Key
from broker.model.records import Fact, Record
from broker.net import commits as commits_module
from broker.net import store as store_module
from broker.net.room import PLENTY_BYTES, RESERVE_BYTES, Room
from broker.net.store import NotStored, Store

KEY = Key("acme", "CS-7")
GIB = 1024**3
DAY = 86400.0


class Disk:
    """A disk of 8 GiB, as full as it is said to be."""

    def __init__(self, used: float = 0.5, total: int = 8 * GIB) -> None:
        self.used, self.total, self.there = used, total, True

    def usage(self, folder: str) -> tuple[int, int, int]:
        if not self.there:
            raise OSError(5, "Input/output error")
        used = math.ceil(self.total * self.used)
        return self.total, used, self.total - used


def rows(n: int, kind: Any, text: str = "x" * 200) -> list[Record]:
    return [Record(f"{kind[0]}{n}", kind, {"text": text})]


async def outcome(d: Any) -> Any:
    try:
        return await d
    except NotStored as error:
        return error


# ---------------------------------------------------------------- the marks


def test_each_mark_is_passed_on_the_way_up_and_left_two_points_below(tmp_path: Path) -> None:
    disk = Disk()
    room = Room(str(tmp_path / "s"), disk.usage)
    levels = []
    for used in (0.79, 0.80, 0.79, 0.779, 0.90, 0.89, 0.95, 0.94, 0.929, 0.881, 0.879, 0.1):
        disk.used = used
        room.look()
        assert room.disk is not None
        levels.append(room.disk.level)
    assert levels == [0, 1, 1, 0, 2, 2, 3, 3, 2, 2, 1, 0]


def test_the_reserve_is_real_blocks_given_back_at_95_percent_and_made_again(tmp_path: Path) -> None:
    disk, reserve = Disk(), tmp_path / "s.reserve"
    room = Room(str(tmp_path / "s"), disk.usage)
    room.look()
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    assert reserve.stat().st_mode & 0o777 == 0o600
    disk.used = 0.94
    room.look()
    assert reserve.exists()
    disk.used = 0.95
    room.look()
    assert not reserve.exists()
    disk.used = 0.91
    room.look()
    assert not reserve.exists(), "not while the disk is short"
    disk.used = 0.5
    room.look()
    assert reserve.exists()


def test_a_disk_that_refuses_gets_the_reserve_back_whatever_its_figures_say(tmp_path: Path) -> None:
    room = Room(str(tmp_path / "s"), Disk().usage)
    room.look()
    assert room.release()
    assert room.short
    assert not room.release(), "there is only one"


def test_what_is_said_of_a_disk_that_refuses_is_what_it_is_then(tmp_path: Path) -> None:
    disk = Disk(0.1)
    room = Room(str(tmp_path / "s"), disk.usage)
    (tmp_path / "s.corrupt-1").touch()
    room.look()
    disk.used = 0.99
    room.release()
    assert room.disk is not None
    assert (room.disk.used, room.disk.level, room.disk.aside) == (pytest.approx(0.99), 3, ("s.corrupt-1",))


def test_on_a_big_disk_ninety_percent_costs_nothing(tmp_path: Path) -> None:
    room = Room(str(tmp_path / "s"), Disk(0.92, 20 * PLENTY_BYTES).usage)
    room.look()
    assert room.disk is not None
    assert (room.disk.level, room.short) == (2, False)


def test_a_disk_that_cannot_be_looked_at_changes_nothing(tmp_path: Path) -> None:
    disk = Disk()
    room = Room(str(tmp_path / "s"), disk.usage)
    disk.there = False
    room.look()
    assert (room.disk, room.short) == (None, False)


@given(st.lists(st.floats(0.0, 1.0), max_size=30), st.integers(0, 4 * GIB))
@settings(max_examples=60, deadline=None)
def test_a_reserve_never_makes_a_disk_short_nor_outlives_a_full_one(used: list[float], total: int) -> None:
    disk, made = Disk(total=total), []

    class Noted(Room):
        def _make(self, reserve: str, size: int, used: int, free: int) -> None:
            made.append((size, used, free))

    room = Noted("/nowhere/s", disk.usage)
    for share in used:
        disk.used = share
        before = len(made)
        room.look()
        assert room.disk is not None
        assert room.disk.level >= (share >= 0.80) + (share >= 0.90) + (share >= 0.95) or total == 0
        assert len(made) == before or room.disk.level < 2
    assert all(size <= min(RESERVE_BYTES, total * 0.05) for size, _, _ in made)


# ---------------------------------------------------------------- what is given up


async def opened(path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk | None = None, **more: Any) -> Store:
    monkeypatch.setattr(commits_module, "LOOK_S", 0.0)
    monkeypatch.setattr(store_module, "LOOK_S", 0.05)
    room = None if disk is None else Room(str(path), disk.usage)
    store = Store(str(path), reactor, room=room, **more)
    await store.start()
    return store


@pytest_twisted.ensureDeferred
async def test_on_a_short_disk_new_measurements_take_the_place_of_old_ones_and_transactions_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, counts = Disk(0.85), Counts()
    store = await opened(tmp_path / "s", monkeypatch, disk, counts=counts)
    for n in range(600):
        await store.write(KEY, rows(n, "transaction" if n % 10 == 0 else "measurement"), ())
    assert store.dropped == 0, "said, but nothing given up at 85 %"
    disk.used = 0.91
    await store.write(KEY, (), [Fact("boot", "boot", 1)])  # by the next turn the disk was looked at
    await store.write(KEY, (), [Fact("boot", "boot", 2)])
    for n in range(600, 1200):
        await store.write(KEY, rows(n, "transaction" if n % 10 == 0 else "measurement"), ())
    keys = [row.key for row in await store.rows("acme", 0, 5000)]
    assert [k for k in keys if k[0] == "t"] == [f"t{n}" for n in range(0, 1200, 10)], "transactions never"
    measurements = [int(k[1:]) for k in keys if k[0] == "m"]
    assert measurements == sorted(measurements)
    assert measurements[-1] == 1199
    assert "m1" not in keys, "the oldest first"
    assert store.dropped == counts.total("store_failures") == 1080 - len(measurements) > 0
    dropped = store.dropped
    disk.used = 0.5
    for n in range(1200, 1400):
        await store.write(KEY, rows(n, "measurement"), ())
    assert store.dropped <= dropped + 100, "it is over by itself"
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_an_engine_away_for_a_week_costs_old_measurements_and_no_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    store = await opened(tmp_path / "s", monkeypatch, wall=lambda: now[0], most_rows=2000)
    for hour in range(10 * 24):
        for n in range(4):
            await store.write(KEY, rows(4 * hour + n, "measurement", ""), ())
        await store.write(KEY, [Record(f"t{hour}", "transaction", {})], ())
        now[0] += 3600.0
    keys = [row.key for row in await store.rows("acme", 0, 5000)]
    assert len(keys) <= 2000
    assert [k for k in keys if k[0] == "t"] == [f"t{hour}" for hour in range(240)]
    kept = [int(k[1:]) for k in keys if k[0] == "m"]
    assert kept == list(range(960 - len(kept), 960))
    assert abs(len(kept) - 7 * 24 * 4) <= 4, "a week of them"
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_transactions_are_kept_for_thirty_days_even_beyond_the_most_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    store = await opened(tmp_path / "s", monkeypatch, wall=lambda: now[0], most_rows=20)
    for day in range(40):
        await store.write(KEY, [Record(f"t{day}", "transaction", {})], ())
        now[0] += DAY
    keys = [row.key for row in await store.rows("acme", 0, 5000)]
    assert keys == [f"t{day}" for day in range(40 - len(keys), 40)]
    assert len(keys) in (30, 31)
    await store.stop()


@pytest_twisted.ensureDeferred
async def test_a_clock_that_learns_the_time_makes_nothing_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [3600.0]
    store = await opened(tmp_path / "s", monkeypatch, wall=lambda: now[0])
    await store.write(KEY, rows(1, "measurement"), ())
    now[0] = 1_800_000_000.0
    for n in (2, 3):
        await store.write(KEY, rows(n, "measurement"), ())
    assert [row.key for row in await store.rows("acme", 0, 9)] == ["m1", "m2", "m3"]
    await store.stop()


# ---------------------------------------------------------------- a real disk, really full


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "16m") -> Iterator[Path]:
    """A tmpfs of that size."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here: the full disk is only simulated (max_page_count)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def fill(path: Path) -> None:
    """Somebody else takes all that is left."""
    for size in (1 << 20, 4096, 1):
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0" * size)


@pytest_twisted.ensureDeferred
async def test_a_disk_that_somebody_else_filled_is_survived_and_drains_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PROBE_S", 0.02)
    with small_disk(tmp_path / "disk") as disk:
        store = await opened(disk / "s", monkeypatch)
        await store.write(KEY, rows(0, "measurement"), ())
        assert (disk / "s.reserve").exists()
        monkeypatch.setattr(commits_module, "LOOK_S", 3600.0)  # while it is being filled, or the junk takes the reserve too
        fill(disk / "junk")
        monkeypatch.setattr(commits_module, "LOOK_S", 0.0)
        # Transactions go on, on what the reserve gives back, until that is used up; then each refusal is an answer, at once.
        stored, last = 0, None
        while stored < 5000 and not isinstance(last, NotStored):
            last = await outcome(store.write(KEY, rows(stored, "transaction", "x" * 1000), ()))
            stored += last is None
        assert not (disk / "s.reserve").exists()
        assert (disk / "s.reserve-last").exists(), "kept for deleting"
        assert 10 < stored < 5000
        assert not store.healthy
        # The engine comes back: what it takes can be deleted, and then there is room again, junk or not.
        kept = await store.rows("acme", 0, 10_000)
        assert [row.key for row in kept if row.kind == "transaction"] == [f"t{n}" for n in range(stored)]
        await store.done([row.seq for row in kept])
        await until(lambda: store.healthy, 5.0)
        assert await outcome(store.write(KEY, rows(9999, "transaction"), ())) is None
        os.remove(disk / "junk")
        await until(lambda: store.disk is not None and store.disk.level == 0)
        await until((disk / "s.reserve").exists)
        await store.stop()
        again = await opened(disk / "s", monkeypatch)
        assert [row.key for row in await again.rows("acme", 0, 9)] == ["t9999"]
        await again.stop()


@pytest_twisted.ensureDeferred
async def test_a_broker_that_starts_on_a_full_disk_tells_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PROBE_S", 0.02)
    with small_disk(tmp_path / "disk") as disk:
        store = await opened(disk / "s", monkeypatch)
        for n in range(50):
            await store.write(KEY, rows(n, "transaction"), ())
        await store.stop()
        os.remove(disk / "s.reserve")
        os.remove(disk / "s.reserve-last")
        fill(disk / "junk")
        begun: list[int] = []
        store = Store(str(disk / "s"), reactor)
        store.on_opened.append(lambda: begun.append(store.pending()["acme"][0]))
        await outcome(store.start())
        await until(lambda: begun)
        assert begun == [50]
        assert len(await store.rows("acme", 0, 99)) == 50
        os.remove(disk / "junk")
        await until(lambda: store.healthy)
        await store.stop()
