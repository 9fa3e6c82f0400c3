"""What a station says of itself with HTTP Basic, and what the station list remembers of its password: only an Argon2id line.

In: an Authorization header, an identity, a line. Out: a password's bytes, a line, or yes or no. Nobody else sees a password, and no
text made here holds one.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error
from typing import Final

from argon2.exceptions import VerifyMismatchError
from argon2.low_level import Type, hash_secret, verify_secret

PASSES: Final = 2  # with 19 MiB: what OWASP's password storage sheet asks of Argon2id; some 20 ms
KIB: Final = 19 * 1024
MOST_PASSES: Final = 10  # beyond: one handshake would cost a core for seconds
MOST_KIB: Final = 64 * 1024
MOST_LANES: Final = 4
# The hash has 32 bytes at least: a line that was cut short is none.
_LINE: Final = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{43,86})"
).fullmatch
_BASIC: Final = re.compile(rb"(?i:basic):? +([A-Za-z0-9+/]+)={0,2}").fullmatch  # `Basic:` is a station's own spelling
_HEX: Final = re.compile(rb"(?:[0-9A-Fa-f]{2}){16,20}").fullmatch


class NotThisStation(Exception):
    """These credentials cannot be this station's; the text says why, without quoting them. The station's fault."""


def password_of(header: bytes | None, identity: str) -> bytes:
    """The password in `header`, whose user name is `identity`. Raises NotThisStation.

    An identity may hold colons, so the name is not what stands before the first one: the whole identity and a colon must be in front.
    """
    basic = _BASIC(header or b"")
    if basic is None:
        raise NotThisStation("came without a password (HTTP Basic), which is checked here")
    try:
        said = b64decode(basic[1] + b"=" * (-len(basic[1]) % 4), validate=True)
    except Error:
        raise NotThisStation("shows credentials that are no base64") from None
    name = identity.encode() + b":"
    if not said.startswith(name):
        raise NotThisStation("shows a user name that is not the identity in its path")
    if said == name:
        raise NotThisStation("shows an empty password")
    return said[len(name) :]


def names_another(header: bytes | None, identity: str) -> bool:
    """`header` is HTTP Basic whose user name is not `identity`. What cannot be read names nobody."""
    basic = _BASIC(header or b"")
    if basic is None:
        return False
    try:
        return not b64decode(basic[1] + b"=" * (-len(basic[1]) % 4), validate=True).startswith(identity.encode() + b":")
    except Error:
        return False


def hashed(password: bytes, salt: bytes) -> str:
    """The line for the station list. `salt`: 16 random bytes, new for each line."""
    return hash_secret(_plain(password), salt, PASSES, KIB, 1, 32, Type.ID).decode()


def fits(line: str, password: bytes) -> bool:
    """Whether `line` was made of this password; takes as long for a wrong one. `line` must have no fault. Costs some 20 ms."""
    try:
        return verify_secret(line.encode(), _plain(password), Type.ID)
    except VerifyMismatchError:
        return False


def fault(line: str) -> str:
    """Why this is no line that we check passwords against, or nothing. Never quotes it: it may be a password put in the wrong place."""
    found = _LINE(line)
    if found is None or not (_decodes(found[4]) and _decodes(found[5])):
        return "is no Argon2id line: make one with `ocppbroker hash-password`, and keep its quotes, for it holds commas"
    kib, passes, lanes = int(found[1]), int(found[2]), int(found[3])
    if not (1 <= passes <= MOST_PASSES and 1 <= lanes <= MOST_LANES and 8 * lanes <= kib <= MOST_KIB):
        return f"costs too much or nothing: at most m={MOST_KIB}, t={MOST_PASSES}, p={MOST_LANES}"
    return ""


def _plain(password: bytes) -> bytes:
    """Stations are given keys of 16 to 20 bytes as hex; some send the text, in either case, others the bytes. Both are one password."""
    return bytes.fromhex(password.decode()) if _HEX(password) else password


def _decodes(part: str) -> bool:
    """Base64 without padding, as Argon2 reads it: nothing left over in its last letter."""
    if len(part) % 4 == 1:
        return False
    return b64encode(b64decode(part + "=" * (-len(part) % 4))).decode().rstrip("=") == part
