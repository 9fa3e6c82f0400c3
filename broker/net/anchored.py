"""A ledger whose file stays where it belongs: deleted, moved away or replaced while it is in use, it is written there again.

The operating system keeps a file that was deleted for as long as somebody has it open. SQLite would go on writing to it, every
commit would succeed, and a restart would find nothing of it. So before each group of writes the path is looked at.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress

from broker.net.damage import TAILS, move_aside
from broker.net.ledger import Ledger

Place = tuple[int, int]


def found_at(path: str) -> Place | None:
    """Which file is there (device, inode); None if there is none."""
    try:
        there = os.stat(path)
    except OSError:
        return None
    return there.st_dev, there.st_ino


class Anchored(Ledger):
    """Raises what `Ledger` raises, also when what it holds cannot be written to its place again: then nothing is taken."""

    _anchor: Place | None = None

    def open(self) -> bool:
        """As a ledger's, and True as well when the file had to be written again."""
        self._put_back_if_gone()
        if not super().open():
            return False
        self._anchor = found_at(self.path)
        return True

    def close(self) -> None:
        self._put_back_if_gone()
        super().close()

    def _put_back_if_gone(self) -> None:
        db = self._db
        if db is None or found_at(self.path) == self._anchor:
            return
        new = self.path + ".new"
        try:
            self._copy(db, new)
            self._clear_place()
            os.replace(new, self.path)
        except Exception:
            with suppress(OSError):
                os.remove(new)
            raise
        self._db = None  # what stands in its place now is opened like any other
        with suppress(sqlite3.Error):
            db.close()
        self._flush_folder()
        self.rescued += 1

    def _copy(self, db: sqlite3.Connection, new: str) -> None:
        """On disk when this returns."""
        os.makedirs(os.path.dirname(os.path.abspath(new)), mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            os.remove(new)
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(new, isolation_level=None)) as copy:
            db.backup(copy)

    def _clear_place(self) -> None:
        """Our log, if it was left, is in the copy, and must not be read into another file; another's file is kept."""
        for tail in TAILS:
            with suppress(FileNotFoundError):
                os.remove(self.path + tail)
        if os.path.exists(self.path):
            move_aside(self.path, self._wall())

    def _flush_folder(self) -> None:
        with suppress(OSError):
            folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
