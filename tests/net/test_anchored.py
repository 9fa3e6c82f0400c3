"""A store's file that is deleted, moved away or replaced while it is in use: nothing that was acknowledged is missing afterwards."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from broker.net.anchored import Anchored
from broker.net.commits import Commits, Job, NotStored, Settled
from broker.net.damage import kept_aside
from broker.net.ledger import Entry
from broker.net.room import Room

WALL = 1_700_000_000.0


def commits(path: Path) -> Commits:
    return Commits(Anchored(str(path), 1000, lambda: WALL), Room(str(path), lambda _: (10**9, 10**8, 9 * 10**8)))


def add(store: Commits, *keys: str) -> Settled:
    """One group that holds a record for each key."""
    entry = Entry("acme", "CS-7", tuple((key, "transaction", "{}") for key in keys), ())
    return store.group([Job(lambda ledger: ledger.add(entry), Deferred(), "acme")])


def held(path: Path) -> list[str]:
    """The keys that somebody who opens the file finds."""
    ledger = Anchored(str(path), 1000, lambda: WALL)
    ledger.open()
    keys = [row.key for row in ledger.rows("acme", 0, 1000)]
    ledger.close()
    return keys


def gone(path: Path) -> None:
    """The file and its log, as `rm store*` leaves it."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def file_only(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replaced(path: Path) -> None:
    path.with_name("other").write_bytes(b"not a database")
    path.with_name("other").replace(path)


def older(path: Path) -> None:
    """Somebody puts a backup back, which he should have done while nothing runs."""
    with sqlite3.connect(path.with_name("backup")) as backup:
        backup.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    path.with_name("backup").replace(path)


HURTS: list[Callable[[Path], None]] = [gone, file_only, folder, moved, replaced, older]


@pytest.mark.parametrize("hurt", HURTS)
def test_what_was_acknowledged_is_in_its_place_again_with_the_next_group(tmp_path: Path, hurt: Callable[[Path], None]) -> None:
    path = tmp_path / "var" / "s.sqlite"
    store = commits(path)
    add(store, "a", "b")
    hurt(path)
    settled = add(store, "c")
    assert (settled.error, settled.whole, store.ledger.rescued) == (None, True, 1)
    assert settled.pending == {"acme": (3, WALL)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one for one in os.listdir(path.parent) if one.endswith(".new")] == []
    add(store, "d")
    assert store.ledger.rescued == 1, "once for each time"
    # As a kill -9 leaves it: the log is not folded, nobody closed anything.
    copy = tmp_path / "copy"
    shutil.copytree(path.parent, copy)
    assert held(copy / path.name) == ["a", "b", "c", "d"]
    store.ledger.close()
    assert held(path) == ["a", "b", "c", "d"]
    assert len(kept_aside(str(path))) == (1 if hurt in (replaced, older) else 0), "another's file is kept"


def test_it_is_put_back_by_the_stop_too(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    store = commits(path)
    add(store, "a")
    gone(path)
    store.ledger.close()
    assert (held(path), store.ledger.rescued) == (["a"], 1)


def test_a_row_gets_a_number_that_none_had(tmp_path: Path) -> None:
    """Readers have cursors: they would pass over a row with a number they have seen."""
    path = tmp_path / "s.sqlite"
    store = commits(path)
    add(store, "a", "b")
    store.group([Job(lambda ledger: ledger.done([1, 2]), Deferred())])
    gone(path)
    add(store, "c")
    assert [row.seq for row in store.ledger.rows("acme", 0, 10)] == [3]
    store.ledger.close()


def test_while_it_cannot_be_put_back_nothing_is_acknowledged_and_nothing_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "var" / "s.sqlite"
    store = commits(path)
    add(store, "a")
    folder(path)
    path.parent.write_text("a file where the folder should be")
    settled = add(store, "b")
    assert isinstance(settled.error, OSError)
    assert [type(result) for _, result in settled.results] == [NotStored]
    assert store.group([]).error is not None, "asked again, it still takes nothing"
    path.parent.unlink()
    assert store.group([]).took
    add(store, "c")
    store.ledger.close()
    assert held(path) == ["a", "c"], "the refused one was not acknowledged"


def test_a_kill_before_the_copy_is_in_place_leaves_no_log_that_could_be_read_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log of the lost file is beside its place: SQLite would play it into whatever lies there."""
    path = tmp_path / "s.sqlite"
    store = commits(path)
    add(store, "a")
    file_only(path)
    assert path.with_name("s.sqlite-wal").exists()
    seen: list[list[str]] = []
    replace = os.replace

    def looked(source: Any, target: Any) -> None:
        seen.append(sorted(os.listdir(tmp_path)))
        replace(source, target)

    monkeypatch.setattr("broker.net.anchored.os.replace", looked)
    add(store, "b")
    assert seen == [["s.sqlite.new"]]
    store.ledger.close()


@given(st.lists(st.sampled_from(["add", "done", *HURTS]), max_size=12))
def test_whatever_happens_to_the_file_what_is_held_is_what_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("f") / "var" / "s.sqlite"
    store, expected = commits(path), list[str]()
    store.group([])
    for n, step in enumerate(steps):
        if step == "add":
            assert add(store, f"k{n}").error is None
            expected.append(f"k{n}")
        elif step == "done" and expected:
            first = store.ledger.rows("acme", 0, 1)[0].seq if os.path.exists(path) else None
            if first is not None:
                assert store.group([Job(lambda ledger, first=first: ledger.done([first]), Deferred())]).error is None
                expected.pop(0)
        elif step != "done" and path.exists():
            step(path)
    store.ledger.close()
    assert held(path) == expected
