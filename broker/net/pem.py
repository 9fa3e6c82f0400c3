"""Certificates and keys in PEM files: read whole or refused with one clear line, and read again when they change.

In: file names. Out: certificates, keys, or whatever a caller makes of them. A file that is being replaced, or that is broken,
never takes down what already works: the last good ones stay. Telling an operator is the watchman's, who reads them for himself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

LOOK_EVERY_S = 5.0  # a renewed certificate is seen by the first connection this long after; a look is a stat per file
LONGEST = 1024 * 1024  # bytes of one PEM file; more is a wrong file

Made = TypeVar("Made")


class CannotLoad(ValueError):
    """A certificate or key file is of no use; the text says which, why, and nothing secret."""


class Watched(Generic[Made]):
    """What was made from some files, and made anew when they change. `get` raises CannotLoad only while nothing was ever made."""

    def __init__(self, files: Sequence[str], make: Callable[[], Made], seconds: Callable[[], float]) -> None:
        self.files = tuple(files)
        self.make = make
        self.seconds = seconds
        self.look_every_s = LOOK_EVERY_S
        self.looked_at = 0.0
        self.seen: tuple[object, ...] | None = None
        self.made: Made | None = None

    def get(self) -> Made:
        now = self.seconds()
        if self.made is None:
            self.looked_at, self.seen = now, self.signature()
            self.made = self.make()
        elif not 0 <= now - self.looked_at < self.look_every_s:
            self.looked_at = now
            self.look()
        return self.made

    def look(self) -> None:
        """Make it anew if a file changed since the last try, good or bad."""
        seen = self.signature()
        if seen == self.seen:
            return
        self.seen = seen
        with suppress(CannotLoad):
            self.made = self.make()

    def newest(self) -> Made:
        """As `get`, having looked in any case."""
        if self.made is not None:
            self.look()
        return self.get()

    def signature(self) -> tuple[object, ...]:
        return tuple(stamp(file) for file in self.files)


def stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def contents(file: str, most: int = LONGEST) -> bytes:
    """Raises CannotLoad, also for a file of more than `most` bytes."""
    try:
        with open(file, "rb") as opened:
            read = opened.read(most + 1)
    except OSError as problem:
        raise CannotLoad(f"{file}: {problem.strerror}") from None
    if len(read) > most:
        raise CannotLoad(f"{file}: is longer than {most} bytes: a wrong file")
    return read


def load_certificates(file: str) -> list[x509.Certificate]:
    """All certificates of a PEM file, in its order. Raises CannotLoad."""
    try:
        return x509.load_pem_x509_certificates(contents(file))
    except CannotLoad:
        raise
    except ValueError:
        raise CannotLoad(f"{file}: holds no PEM certificate that can be read") from None


def load_pair(certificate: str, key: str) -> tuple[list[x509.Certificate], Any]:
    """A certificate with its chain (the leaf first), and the leaf's key. Raises CannotLoad, also when the two do not belong together."""
    chain = load_certificates(certificate)
    try:
        private = load_pem_private_key(contents(key), password=None)
    except CannotLoad:
        raise
    except TypeError:
        raise CannotLoad(f"{key}: is encrypted; a service has nobody to ask for its password") from None
    except Exception:  # cryptography raises its own for algorithms it does not know; the text may quote the file
        raise CannotLoad(f"{key}: holds no PEM private key that can be read") from None
    if private.public_key() != chain[0].public_key():
        raise CannotLoad(f"{key}: is not the key of {certificate}")
    return chain, private
