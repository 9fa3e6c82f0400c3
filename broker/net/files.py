"""The configuration from disk: opens what `broker.config` asks for, and nothing else. May block: call it off the reactor thread
once the broker runs."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence

from broker.config import Mistakes, parse
from broker.settings import Settings

MOST_CHARACTERS = 64 * 1024 * 1024  # a station list of a million rows; more is a wrong file (a device, an image)


def read(path: str) -> str:
    """A file's text. Raises OSError or UnicodeDecodeError (a ValueError)."""
    with open(path, encoding="utf-8") as file:
        text = file.read(MOST_CHARACTERS + 1)
    if len(text) > MOST_CHARACTERS:
        raise OSError(None, "is longer than 64 MiB")
    return text


def find(pattern: str) -> Sequence[str]:
    """The files that fit; a name without a pattern is itself, so that its absence is said where it is read."""
    return glob.glob(pattern) if glob.has_magic(pattern) else (pattern,)


def load(path: str, env: Mapping[str, str] | None = None) -> Settings:
    """Settings of the file at `path` with absolute paths. Raises `Mistakes`, also when the file itself cannot be read."""
    try:
        text = read(path)
    except OSError as problem:
        raise Mistakes([f"{path}: cannot be read: {problem.strerror}"]) from None
    except ValueError:
        raise Mistakes([f"{path}: is not UTF-8 text"]) from None
    return parse(text, os.path.abspath(path), read, os.environ if env is None else env, find)
