"""The envelope of OCPP-J: which kind of frame, with which id, for which action. Payloads stay bytes.

A frame is one message as it came. Its head decides where it goes, so it is read from the first bytes alone: a frame
whose end is broken is still recognised as the answer to a CALL of ours, and a deep or huge payload costs nothing. The
common spelling takes one small pattern; any other legal spelling of the same head (escapes, odd numbers, a byte order
mark) takes a slower one. Both agree with what a JSON parser would say of the whole text.

An id that is a number is known by its spelling: some stations answer CALL "5" with id 5, and must be understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from broker.model.traffic import CALL, CALLRESULT, SEND


class Head(msgspec.Struct, frozen=True, gc=False):
    """What the relay reads of a frame. Like `Frame`, made for each that comes: a struct is made and read in half a named tuple's time."""

    kind: int
    """2 CALL, 3 CALLRESULT, 4 CALLERROR, 5 CALLRESULTERROR, 6 SEND."""
    id: str
    """Decoded: `"\\u0031"` and `1` are both "1"."""
    action: str
    """Of a CALL or SEND; "" for the others, which name none."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message, exactly as it came."""

    head: Head | None
    """None: opaque (not JSON, an unknown kind, binary). It is relayed all the same."""
    text: bytes
    """The message's payload."""
    binary: bool = False
    wire: bytes | None = None
    """The WebSocket frame around it, where that was kept to be sent on as it is."""


_KINDS: Final = {b"2": 2, b"3": 3, b"4": 4, b"5": 5, b"6": 6}
_NAMED: Final = (CALL, SEND)
_KIND_CHARS: Final = 8  # "2", "2.0", "20e-1" and then some; float() of a longer number is not worth its time

_COMMON: Final = re.compile(
    rb'\[[ \t\n\r]*([2-6])[ \t\n\r]*,[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*(?:,[ \t\n\r]*"([^"\\\x00-\x1f]*)")?'
).match

_PLAIN: Final = msgspec.json.Decoder().decode

_SPACE: Final = rb"[ \t\n\r]*+"
_STRING: Final = rb'"(?:[^"\\\x00-\x1f]|\\.)*+"'
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?=[ \t\n\r,\]]|\Z)"
_ANY_SPELLING: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?+%(s)b\[%(s)b(%(t)b)%(s)b,%(s)b(%(t)b)%(s)b(?:,%(s)b(%(q)b))?"
    % {b"s": _SPACE, b"t": _STRING + b"|" + _NUMBER, b"q": _STRING},
    re.DOTALL,
).match


def read_head(text: bytes) -> Head | None:
    """What kind of frame this is, whose, and for which action; None if its beginning is not that of an OCPP-J frame. Never raises."""
    match = _COMMON(text)
    if match is None:
        return _read_odd_head(text)
    kind, id, action = match.groups()
    try:
        if kind != b"2" and kind != b"6":
            return Head(_KINDS[kind], id.decode(), "")
        if action is None:  # perhaps one with an escape in it
            return _read_odd_head(text)
        return Head(_KINDS[kind], id.decode(), action.decode())
    except UnicodeDecodeError:
        return None


def _read_odd_head(text: bytes) -> Head | None:
    match = _ANY_SPELLING(text)
    if match is None:
        return None
    spelled, id, action = match.groups()
    try:
        kind = _kind(spelled)
        if kind in _NAMED:
            return None if action is None else Head(kind, _text(id), _text(action))
        return Head(kind, _text(id), "") if kind else None
    except ValueError:  # bad escapes, bad UTF-8
        return None


def _kind(token: bytes) -> int:
    """The kind that a number (or, from careless senders, a string) means: 3, 3.0 and "3" are the same; 0 = none we know."""
    spelled = _text(token)
    if len(spelled) > _KIND_CHARS:
        return 0
    try:
        value = float(spelled)
    except ValueError:
        return 0
    return int(value) if value in (2, 3, 4, 5, 6) else 0


def _text(token: bytes) -> str:
    """A string's value, a number's spelling."""
    return str(json.loads(token)) if token[:1] == b'"' else token.decode()


def frame(text: bytes, binary: bool = False) -> Frame:
    """A message with its head; a binary one is not looked into."""
    return Frame(None if binary else read_head(text), text, binary)


def call(id: str, action: str, payload: Mapping[str, Any] | bytes) -> bytes:
    """A CALL of our own, compact. `payload` is an object, or one already encoded. Raises ValueError for what JSON has no number for."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":"), allow_nan=False).encode()
    return b'[2,"%b","%b",%b]' % (id.encode(), action.encode(), body)


def payload_of(text: bytes) -> Any:
    """The payload of a CALL, SEND or CALLRESULT, decoded. Raises ValueError for everything else, however it is broken."""
    elements = _decoded(text)
    head = read_head(text)
    if head is None or not isinstance(elements, list):
        raise ValueError("not an OCPP-J frame")
    place = 3 if head.kind in _NAMED else 2
    if head.kind not in (*_NAMED, CALLRESULT) or len(elements) <= place:
        raise ValueError("a frame without payload")
    return elements[place]


def _decoded(text: bytes) -> Any:
    """As `json.loads` says; three times as fast for what is plain JSON. What is not (NaN, a byte order mark) is left to the former."""
    try:
        return _PLAIN(text)
    except (ValueError, RecursionError):  # DecodeError is a ValueError
        pass
    try:
        return json.loads(text)
    except RecursionError as problem:
        raise ValueError("nested too deep") from problem
