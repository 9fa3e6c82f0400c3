"""How damage is found, what SQLite's errors mean, and where damaged files go: renamed with the date, so that somebody may look at
them; so many, and no more."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from typing import Any
from zlib import crc32

MOST_ASIDE = 10  # damaged files kept, newest first: a disk that damages each new one must not fill up with them
TAILS = ("-wal", "-shm")


class Broken(Exception):
    """The file's content is damaged: it must be moved aside."""


def is_broken(error: Exception) -> bool:
    """Is this the file's own damage (rather than a full, locked or failing disk)?"""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, Broken) or code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_full(error: Exception) -> bool:
    """Is there no room left on the disk?"""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def in_words(error: Exception) -> str:
    """What it says, for an operator; for a locked file who holds it, for SQLite does not know."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return "another process has the file open: is another broker running with the same `state`?"
    return str(error)


def checksum(*parts: Any) -> int | None:
    """None for what was no text when it was written: a flipped bit may change a column's type, too."""
    if not all(isinstance(part, str) for part in parts):
        return None
    # Nor need it be UTF-8 any more: such a text is what its bytes are, and does not match.
    return crc32("\0".join(parts).encode("utf-8", "surrogateescape"))


def sealed(topic: str, name: str, value: str) -> str:
    """A fact's value with its checksum as a last line."""
    return f"{value}\n{checksum(topic, name, value):08x}"


def sound(topic: str, name: str, text: Any) -> str | None:
    """The value again; None for one that does not match. A file of an older broker has facts without a checksum."""
    if not isinstance(text, str):
        return None
    value, mark, crc = text.partition("\n")
    return value if not mark or crc == f"{checksum(topic, name, value):08x}" else None


def move_aside(path: str, now: float) -> str:
    """Rename the file, with its log. Returns where it is now. `now` is wall time. Raises OSError."""
    aside = f"{path}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}"
    while os.path.exists(aside):
        aside += "+"
    os.replace(path, aside)
    for tail in TAILS:
        if os.path.exists(path + tail):
            os.replace(path + tail, aside + tail)
    _forget_old(path)
    return aside


def kept_aside(path: str) -> list[str]:
    """Names of the files that `move_aside` kept and that are still there, the oldest first; none where nothing can be looked at."""
    folder, name = os.path.split(os.path.abspath(path))
    try:
        found = os.listdir(folder)
    except OSError:
        return []
    return sorted(one for one in found if one.startswith(f"{name}.corrupt-") and not one.endswith(TAILS))


def _forget_old(path: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    for old in kept_aside(path)[:-MOST_ASIDE]:
        for tail in ("", *TAILS):
            with suppress(FileNotFoundError):
                os.remove(os.path.join(folder, old + tail))
