"""A station's clock as text: in, whatever stations write; out, RFC 3339 in UTC with milliseconds.

OCPP 1.6 says "ISO 8601" and OCPP 2.x "RFC 3339"; stations also send local time without an offset, `+03` without minutes,
a blank instead of the `T`, nine digits of fraction, and the empty string. A time without an offset is taken for UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Group 8 is the offset's sign; absent with `Z` and with a naive time. [0-9] because \d takes every script's digits.
_PATTERN = re.compile(
    r"\s*([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]\s*([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,18}))?)?"
    r"\s*(?:[Zz]|([+-])([0-9]{2}):?([0-9]{2})?)?\s*"
)

# As nearly all of them write it; what stands before the seconds is the same for a minute, and for all stations.
_USUAL = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}):([0-5][0-9])(\.[0-9]{1,18})?Z").fullmatch
_MOST_MINUTES = 256  # known at once
_minutes: dict[str, float] = {}
_MINUTE_MS = 60_000
_written: dict[int, str] = {}  # minutes since 1970, as they are written


def parse(text: object) -> float | None:
    """Seconds since 1970 UTC, or None for what is no moment (not a string, empty, 30 February, an offset of 24 h and more)."""
    if not isinstance(text, str):
        return None
    usual = _USUAL(text)
    if usual is None:
        return _parse(text)
    minute, second, fraction = usual.groups()
    begun = _minutes.get(minute)
    if begun is None:
        begun = _parse(minute)
        if begun is None:
            return None
        if len(_minutes) >= _MOST_MINUTES:
            _minutes.clear()
        _minutes[minute] = begun
    whole = begun + int(second)
    return whole + float(fraction) if fraction else whole


def naive(text: object) -> bool:
    """A moment without an offset from UTC: the writer's local time, the reader's, or UTC, as each of them likes."""
    if not isinstance(text, str):
        return False
    match = _PATTERN.fullmatch(text)
    return match is not None and match[8] is None and text.rstrip()[-1:] not in ("Z", "z")


def _parse(text: str) -> float | None:
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = match.groups()
    leap = second == "60"  # a leap second: the moment after :59
    try:
        whole = datetime(int(year), int(month), int(day), int(hour), int(minute), 59 if leap else int(second or 0), tzinfo=UTC)
    except ValueError:
        return None
    wall = (whole - _EPOCH).total_seconds() + leap
    if sign:
        hours, minutes = int(off_hours), int(off_minutes or 0)
        if hours > 23 or minutes > 59:
            return None
        offset = 3600 * hours + 60 * minutes
        wall += offset if sign == "-" else -offset
    return wall + float(f"0.{fraction}") if fraction else wall


def text(wall: float) -> str:
    """`2026-01-10T06:00:00.000Z` of seconds since 1970 UTC, rounded to the millisecond. ValueError outside years 1 to 9999."""
    try:
        minute, rest = divmod(round(wall * 1000), _MINUTE_MS)
        begun = _written.get(minute)
        if begun is None:
            begun = (_EPOCH + timedelta(minutes=minute)).isoformat(timespec="minutes")[:-6]
            if len(_written) >= _MOST_MINUTES:
                _written.clear()
            _written[minute] = begun
    except (OverflowError, ValueError) as error:
        raise ValueError(f"no such moment: {wall}") from error
    return f"{begun}:{rest // 1000:02}.{rest % 1000:03}Z"
