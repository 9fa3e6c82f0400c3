"""Damaged files that are moved aside, one after another."""

from __future__ import annotations

from pathlib import Path

from broker.net.damage import move_aside


def test_two_in_one_second_are_both_kept_with_their_logs(tmp_path: Path) -> None:
    for text in ("first", "second", "third"):
        (tmp_path / "s").write_text(text)
        (tmp_path / "s-wal").write_text(f"{text}'s log")
        assert Path(move_aside(str(tmp_path / "s"), 1_700_000_000.0)).read_text() == text
    aside = sorted(tmp_path.glob("s.corrupt-*"))
    assert sorted(path.read_text() for path in aside) == ["first", "first's log", "second", "second's log", "third", "third's log"]
