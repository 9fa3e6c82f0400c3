"""The disk under the store: how full it is, what to do about it, and a file of ours to give back when nothing else is left.

    below 80 %   nothing; the reserve file stands
    80 %         said: whose disk, how much is left
    90 %         measurements stop growing: a new one takes the place of the oldest (unless there is still plenty, 10 GiB)
    95 %         the reserve file is given back, so that transactions can still be written, and rows that were told deleted

A full disk cannot even delete: SQLite writes a log before it frees a page. So there is a second, smaller reserve, which only goes
to deleting what the engines were told: else transactions would use up the first, and nothing could ever be deleted again. Both
are made again once there is room. All of this runs in the store's thread and may block.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from broker.net.damage import kept_aside

FILLING: Final = 0.80
SHORT: Final = 0.90
FULL: Final = 0.95
CALM: Final = 0.02  # how far it must fall below a mark before that is over: no line every ten seconds at 80.0 %
PLENTY_BYTES: Final = 10 * 1024**3  # on a big disk 90 % is no reason to lose anything: here is room for 15 full outboxes
RESERVE_BYTES: Final = 16 * 1024 * 1024  # some 25,000 transaction records: a day of 1,000 sockets
RESERVE_SHARE: Final = 0.05  # of a small disk, no more than this
THEN = (
    "that is well again",
    "make room before it is full",
    "make room now; new measurements take the place of the oldest",
    "make room at once; our reserve is given back to it, measurements make way for transactions",
)
"""What each level of `Disk` means for the operator."""

Usage = Callable[[str], tuple[int, int, int]]


class Disk(NamedTuple):
    """How it stands with the disk."""

    used: float
    """The share in use, 0 to 1, as `df` says it."""
    free: int
    """Bytes left to us."""
    level: int
    """0 = well, 1 = from 80 %, 2 = from 90 %, 3 = from 95 % or when the disk refused."""
    reserve: bool
    """Does the reserve file stand?"""
    aside: tuple[str, ...] = ()
    """Files that were moved out of the store's place, as damaged or not ours, and are still kept: the oldest first."""


class Room:
    """The disk that holds the file at `path`. `usage` says (total, used, free) in bytes; it may raise OSError."""

    def __init__(self, path: str, usage: Usage = shutil.disk_usage) -> None:
        self._path, self._folder = path, os.path.dirname(os.path.abspath(path))
        self._reserve, self._last = path + ".reserve", path + ".reserve-last"
        self._usage = usage
        self.disk: Disk | None = None
        """As of the last look; None when it could not be looked at."""

    @property
    def short(self) -> bool:
        """Must what can be given up make room for what cannot?"""
        disk = self.disk
        return disk is not None and (disk.level == 3 or (disk.level == 2 and disk.free < PLENTY_BYTES))

    def look(self) -> None:
        """Find out, and make or give back the reserve. Never raises."""
        try:
            total, used, free = self._usage(self._folder)
        except OSError:
            self.disk = None
            return
        share = used / (used + free) if used + free else 1.0
        before = self.disk.level if self.disk is not None else 0
        level = self._level(share, before)
        if level == 3:
            self._give_back(self._reserve)
        elif level < 2:
            size = min(RESERVE_BYTES, int(total * RESERVE_SHARE))
            self._make(self._last, size // 4, used, free)
            self._make(self._reserve, size, used, free)
        self.disk = Disk(share, free, level, os.path.exists(self._reserve), tuple(kept_aside(self._path)))

    @staticmethod
    def _level(share: float, before: int) -> int:
        marks = enumerate((FILLING, SHORT, FULL), 1)
        return max((level for level, mark in marks if share >= (mark - CALM if level <= before else mark)), default=0)

    def release(self, *, last: bool = False) -> bool:
        """The disk refused a write: give the reserve back; the `last` only for what deletes. True if there was one."""
        used, free, aside = (self.disk.used, self.disk.free, self.disk.aside) if self.disk is not None else (1.0, 0, ())
        with suppress(OSError):  # the last look is seconds old, and what is said must be as it is now
            _, taken, free = self._usage(self._folder)
            used = taken / (taken + free) if taken + free else 1.0
        given = self._give_back(self._last if last else self._reserve)
        self.disk = Disk(used, free, 3, os.path.exists(self._reserve), aside)
        return given

    @staticmethod
    def _give_back(reserve: str) -> bool:
        with suppress(OSError):
            os.remove(reserve)
            return True
        return False

    def _make(self, reserve: str, size: int, used: int, free: int) -> None:
        """Blocks of its own, not a hole. If it would fill the disk, or cannot be made, there is none."""
        if size <= 0 or used + size >= (used + free) * (SHORT - CALM) or os.path.exists(reserve):
            return
        try:
            handle = os.open(reserve, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(handle, 0, size)
            finally:
                os.close(handle)
        except (OSError, AttributeError):  # no such call on some systems: then there is no reserve
            self._give_back(reserve)
