"""Power cuts at every write: the disk keeps what was flushed and any part of what was not; what was acknowledged is there again.

Each write and each flush that SQLite asks of the kernel is what `strace` would show; without it, the same is known from the file:
the write-ahead log grows by whole frames, and an acknowledged commit ends at the length the log had when it was acknowledged. So a
cut is a prefix of the log, to the byte, not shorter than the last acknowledged commit (which was flushed), with the unflushed rest
missing, torn, zeroed, or stale.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from broker.net.damage import is_broken
from broker.net.ledger import Entry, Ledger

TIMES = int(os.environ.get("CUTS", "1"))  # so many times the cuts below: `make fuzz` makes 10,000


class Moment(NamedTuple):
    """The disk right after a commit was acknowledged."""

    file: bytes
    log: bytes
    keys: tuple[str, ...]
    fact: str


def entry(n: int, size: int) -> Entry:
    return Entry("acme", "CS-1", ((f"k{n}", "transaction", '{"text":"' + "x" * size + '"}'),), (("transaction", "last", str(n)),))


def moments(path: Path, dice: random.Random, commits: int) -> Iterator[Moment]:
    """A store at work: groups of writes, deletions now and then, a checkpoint sometimes."""
    ledger = Ledger(str(path), 10_000, lambda: 1_800_000_000.0)
    ledger.open()
    keys: list[tuple[int, str]] = []
    n = 0
    for _ in range(commits):
        ledger.begin()
        for _ in range(dice.randint(1, 3)):
            n += 1
            ledger.add(entry(n, dice.choice([5, 300, 5000])))
        if dice.random() < 0.3 and keys:
            ledger.done([seq for seq, _ in keys[:2]])
        ledger.commit()
        keys = [(row.seq, row.key) for row in ledger.rows("acme", 0, 1000)]
        if dice.random() < 0.1:
            ledger.fold()
        log = Path(f"{path}-wal")
        yield Moment(path.read_bytes(), log.read_bytes() if log.exists() else b"", tuple(key for _, key in keys), str(n))
    ledger.close()


def cut(before: Moment, after: Moment, dice: random.Random) -> bytes:
    """The log as it may be when the power goes while the second of two commits is written: the first was flushed."""
    common = os.path.commonprefix([before.log, after.log])  # noqa: RUF071 - of bytes, that is what is meant
    if len(common) < len(before.log):  # the log began anew: its head says so, and nothing of the old one is needed any more
        common = b""
    fresh = after.log[len(common) :]
    at = dice.randint(0, len(fresh))
    stale = before.log[len(common) + at :] if not common else b""
    rest = dice.choice(["missing", "zeroed", "torn", "stale"])
    tail = {"missing": b"", "zeroed": bytes(len(fresh) - at), "torn": dice.randbytes(min(512, len(fresh) - at)), "stale": stale}[rest]
    return common + fresh[:at] + tail


def reopened(folder: Path, file: bytes, log: bytes) -> tuple[tuple[str, ...], str]:
    """(keys, fact) after the power is back."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "s").write_bytes(file)
    (folder / "s-wal").write_bytes(log)
    ledger = Ledger(str(folder / "s"), 10_000)
    ledger.open()
    ledger.check()
    found = tuple(row.key for row in ledger.rows("acme", 0, 1000))
    dead = ledger._open.execute("SELECT count(*) FROM dead").fetchone()[0]
    [(_, _, fact)] = ledger.facts("acme", "CS-1")
    ledger.close()
    assert dead == 0, "no row is damaged"
    return found, fact


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_was_acknowledged_is_lost_whenever_the_power_goes(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    whole = list(moments(tmp_path / "live", dice, 20))
    cuts = 0
    for before, after in itertools.pairwise(whole):
        for _ in range(10 * TIMES):
            folded = before.file != after.file
            # While a checkpoint is under way the log was flushed first, and the file may be anything between.
            log = after.log if folded and after.log[:32] == before.log[:32] else cut(before, after, dice)
            if folded and not after.log:
                continue  # folded whole: both are flushed by then
            found = reopened(tmp_path / "cut", before.file, log)
            assert found in ((before.keys, before.fact), (after.keys, after.fact)), "all of the second commit, or nothing of it"
            cuts += 1
    assert cuts >= 100


def test_a_cut_that_loses_flushed_bytes_would_be_seen(tmp_path: Path) -> None:
    """The other way round: a disk that lies about its flushes does lose, and this file's arithmetic shows it."""
    dice = random.Random(1)
    before, after = list(moments(tmp_path / "live", dice, 3))[1:]
    assert reopened(tmp_path / "cut", before.file, before.log[: len(before.log) - 4096])[0] != before.keys
    assert reopened(tmp_path / "cut", after.file, after.log) == (after.keys, after.fact)


def close(ledger: Ledger) -> None:
    """Without folding the log in: the file stays as it is."""
    if ledger._db is not None:
        ledger._db.close()
        ledger._db = None


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_or_truncated_file_is_found_or_harmless(tmp_path: Path, seed: int) -> None:
    """One flipped byte, or a lost end, anywhere in a closed file: noticed as damage, or every row that is given out is as it was."""
    dice = random.Random(seed)
    path = tmp_path / "s"
    ledger = Ledger(str(path), 10_000, lambda: 1_800_000_000.0)
    ledger.open()
    ledger.begin()
    for n in range(60):
        ledger.add(entry(n, 300))
    ledger.commit()
    good = {row.key: row for row in ledger.rows("acme", 0, 1000)}
    ledger.close()
    data = bytearray(path.read_bytes())
    for _ in range(10):
        broken = bytearray(data)
        if dice.random() < 0.7:
            broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
        else:
            del broken[dice.randrange(len(broken)) :]
        path.write_bytes(bytes(broken))
        again = Ledger(str(path), 10_000)
        said: Exception | None = None
        try:
            again.open()
            again.check()
            rows = again.rows("acme", 0, 1000)
        except Exception as error:
            said = error if not is_broken(error) and not isinstance(error, OSError) else None
            rows = []
        finally:
            close(again)
        assert said is None, repr(said)
        assert all(good[row.key].body == row.body for row in rows if row.key in good)
        assert all(row.key in good for row in rows)


def test_a_damaged_fact_is_not_known_and_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "s"
    ledger = Ledger(str(path), 10_000)
    ledger.open()
    ledger.add(Entry("acme", "CS-1", (), tuple(("limits", f"{n}", f'{{"limit":{n}6.0}}') for n in range(1, 6))))
    ledger.add(Entry("old", "CS-1", (), ()))
    ledger._open.execute("INSERT INTO facts VALUES ('old', 'CS-1', 'limits', '1', '16.0')")
    damage = ["'{\"limit\":96.0}' || substr(value, -9)", "x'ff'", "CAST(x'7bff7d' AS TEXT)", "42"]
    for n, value in enumerate(damage, 1):
        ledger._open.execute(f"UPDATE facts SET value = {value} WHERE tenant = 'acme' AND name = '{n}'")
    known = [name for _, name, value in ledger.facts("acme", "CS-1") if value.startswith("{") and "\udcff" not in value]
    assert known == ["5"]
    assert ledger.facts("old", "CS-1") == [("limits", "1", "16.0")], "of a broker that wrote no checksums"
    ledger.close()
