"""What a configuration names on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import Mistakes
from broker.net import files


def test_a_file_without_an_end_is_named_and_not_read_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_CHARACTERS", 100)
    (tmp_path / "broker.toml").write_text("#" * 100)
    with pytest.raises(Mistakes, match="listen: is missing"):
        files.load(str(tmp_path / "broker.toml"))
    (tmp_path / "broker.toml").write_text("#" * 101)
    with pytest.raises(Mistakes, match="cannot be read"):
        files.load(str(tmp_path / "broker.toml"))
    with pytest.raises(Mistakes, match="cannot be read"):
        files.load("/dev/zero")
