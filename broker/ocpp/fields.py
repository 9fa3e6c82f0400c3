"""Values out of payloads that may be anything: right ones come out typed, the rest as None, and nothing here raises.

Stations write numbers as text, ids as floats, and put NULs and lone surrogates into names. What leaves here can be
stored, compared and encoded as UTF-8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

LONGEST = 255  # the longest text in OCPP that we keep: 2.1's id token

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
# A comma is the decimal one if it cannot be anything else: 230,5 and 0,125 and 12345,678 are clear, 1,234 is not.
_COMMA = re.compile(r"[+-]?(?:[0-9]{1,40},(?:[0-9]{1,2}|[0-9]{4,40})|(?:0|[0-9]{4,40}),[0-9]{3})")
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_BLANKS = re.compile(r"\s+")
_EXACT = 2**53  # up to here a float says exactly which integer was meant


def mapping(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def several(value: object) -> list[Any]:
    """An array; some stations send the one element bare."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, dict) else []


def text(value: object) -> str:
    """A string without NULs, outer blanks and lone surrogates, cut to `LONGEST`; "" for everything else."""
    if not isinstance(value, str):
        return ""
    clean = value.replace("\0", "").strip()[:LONGEST]
    return clean if clean.isascii() else clean.encode(errors="replace").decode()


def name(value: object) -> str | None:
    """An identifier as a string, or None: empty ones and such as would have to be cut name nothing."""
    if not isinstance(value, str) or len(value) > LONGEST:
        return None
    return text(value) or None


def number(value: object) -> float | None:
    """A finite number, also one written as text, with blanks in it or with a decimal comma that can be nothing else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        value = _BLANKS.sub("", value.replace("\0", ""))
        if _COMMA.fullmatch(value):
            value = value.replace(",", ".")
        elif not _NUMBER.fullmatch(value):
            return None
    try:
        found = float(value)
    except OverflowError:  # an int beyond every float
        return None
    return found if math.isfinite(found) else None


def whole(value: object) -> int | None:
    """An integer of at most 64 bits, also one written as 3.0 or "3"."""
    if isinstance(value, str):
        stripped = value.strip()
        value = int(stripped) if _WHOLE.fullmatch(stripped) else None
    elif isinstance(value, float):
        value = int(value) if abs(value) <= _EXACT and value.is_integer() else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -(2**63) <= value < 2**64 else None


def place(value: object) -> int | None:
    """The number of an EVSE or connector, 0 for the whole; None for what numbers nothing."""
    found = whole(value)
    return found if found is not None and 0 <= found < 2**31 else None
