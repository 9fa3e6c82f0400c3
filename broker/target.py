"""Which station dials: the request target, parsed once from its raw bytes, by a strict grammar.

    [ws(s)://HOST[:PORT]]/<tenant>/[<segment>/…]<station id>[/][?query]

In: the raw target, the Host header, and the tenant a port may be bound to. Out: who it is, and the raw tail that the CPMS is
dialled with, rebuilt from what was parsed, so that no two parties read one request differently. Anything else is `NoSuchPath`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from broker.model.basics import Key

MOST_BYTES: Final = 255
_SEGMENT: Final = re.compile(rb"(?:[A-Za-z0-9\-._~:@$+=*|,]|%[0-9A-Fa-f]{2})+").fullmatch
_QUERY: Final = re.compile(rb"[A-Za-z0-9\-._~:@$+=*|,!&'();/?\[\]%]*").fullmatch
_ABSOLUTE: Final = re.compile(rb"(?:wss?|https?)://([^/?]*)(/.*)", re.IGNORECASE | re.DOTALL).fullmatch


class NoSuchPath(ValueError):
    """The target is not of the grammar; the text says what is wrong, without quoting it."""


class Target(NamedTuple):
    """A parsed request target."""

    key: Key
    tail: bytes
    """What follows the CPMS's URL and a slash: raw segments after the tenant, and the query, byte for byte."""


def parse(target: bytes, host: bytes, bound: str | None = None) -> Target:
    """`bound`: the tenant whose port this is; its stations may leave the tenant's segment out. Raises NoSuchPath."""
    path, _, query = _origin_form(target, host).partition(b"?")
    if len(path) > MOST_BYTES:
        raise NoSuchPath(f"longer than {MOST_BYTES} bytes")
    if not path.startswith(b"/"):
        raise NoSuchPath("does not begin with a slash")
    if not _QUERY(query):
        raise NoSuchPath("a character that no query may hold")
    raw = [segment for segment in path.removesuffix(b"/").split(b"/") if segment]
    names = [_decoded(segment) for segment in raw]
    if path.endswith(b"//"):
        raise NoSuchPath("more than one slash at the end")
    if bound is not None:
        tenant, own = bound, 1 if len(names) > 1 and names[0] == bound else 0
    elif len(names) > 1:
        tenant, own = names[0], 1
    else:
        raise NoSuchPath("no tenant and station in it")
    if len(names) == own:
        raise NoSuchPath("no station in it")
    tail = b"/".join(raw[own:])
    return Target(Key(tenant, names[-1]), tail + b"?" + query if query else tail)


def _origin_form(target: bytes, host: bytes) -> bytes:
    if target.startswith(b"/"):
        return target
    absolute = _ABSOLUTE(target)
    if absolute is None:
        raise NoSuchPath("neither a path nor an absolute URL")
    if b"@" in absolute[1]:
        raise NoSuchPath("a user in the URL's authority")
    if absolute[1].lower() != host.strip().lower():
        raise NoSuchPath("the URL's authority is not the Host header's")
    return absolute[2]


def _decoded(segment: bytes) -> str:
    if not _SEGMENT(segment):
        raise NoSuchPath("a character that no segment may hold")
    if b"%" not in segment and segment not in (b".", b".."):  # what the grammar takes unescaped needs no second look
        return segment.decode("ascii")
    try:
        name = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        raise NoSuchPath("a segment is not UTF-8") from None
    if name in (".", "..") or any(letter in "/\\" or letter < " " or "\x7f" <= letter < "\xa0" for letter in name):
        raise NoSuchPath("a segment holds a dot segment, a slash, a backslash or a control")
    return name
