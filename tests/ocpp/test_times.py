from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.ocpp import times

NOON = 1768046400.0  # 2026-01-10T12:00:00Z


@pytest.mark.parametrize(
    ("text", "wall"),
    [
        ("2026-01-10T12:00:00Z", NOON),
        ("2026-01-10T12:00:00z", NOON),
        ("2026-01-10t12:00:00.000Z", NOON),
        ("2026-01-10T12:00:00.250Z", NOON + 0.25),
        ("2026-01-10T12:00:00,5Z", NOON + 0.5),
        ("2026-01-10T12:00:00.123456789Z", NOON + 0.123456789),
        ("2026-01-10T13:00:00+01:00", NOON),
        ("2026-01-10T13:00:00+0100", NOON),
        ("2026-01-10T15:00:00+03", NOON),
        ("2026-01-10T08:30:00-03:30", NOON),
        ("2026-01-10T11:59:59.500-00:00", NOON - 0.5),
        ("2026-01-10T12:00:00", NOON),
        ("2026-01-10 12:00:00", NOON),
        ("  2026-01-10T12:00Z ", NOON),
        ("2016-12-31T23:59:60Z", 1483228800.0),
        ("1970-01-01T00:00:00Z", 0.0),
        ("0001-01-01T00:00:00+14:00", -62135596800.0 - 14 * 3600),
    ],
)
def test_what_stations_write_is_understood(text: str, wall: float) -> None:
    assert times.parse(text) == pytest.approx(wall, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "now",
        "2026-02-30T12:00:00Z",
        "2026-01-10",
        "2026-01-10T25:00:00Z",
        "2026-01-10T12:00:61Z",
        "2026-01-10T12:00:00+24:00",
        "2026-01-10T12:00:00+01:60",
        "2026-01-10T12:00:00ZZ",
        "0000-01-10T12:00:00Z",
        "٢٠٢٦-01-10T12:00:00Z",
        None,
        0,
        1768046400,
        True,
        [],
        {},
    ],
)
def test_what_is_no_moment_is_none(text: object) -> None:
    assert times.parse(text) is None


def test_ours_are_utc_with_milliseconds() -> None:
    assert times.text(NOON) == "2026-01-10T12:00:00.000Z"
    assert times.text(NOON + 0.9996) == "2026-01-10T12:00:01.000Z"
    assert times.text(-0.001) == "1969-12-31T23:59:59.999Z"


@pytest.mark.parametrize("wall", [math.nan, math.inf, -math.inf, 1e15, -1e12])
def test_what_has_no_date_is_refused(wall: float) -> None:
    with pytest.raises(ValueError, match="no such moment"):
        times.text(wall)


@given(st.floats(-62_000_000_000, 250_000_000_000))
@settings(max_examples=200)
def test_what_we_write_we_read(wall: float) -> None:
    again = times.parse(times.text(wall))
    assert again == pytest.approx(wall, rel=0, abs=0.0006)


@given(st.floats(-62_135_596_800, 253_402_300_799) | st.integers(-62_135_596_800, 253_402_300_799))
@example(253_402_300_799.999)
@example(-62_135_596_800.0)
@example(-0.0005)
@settings(max_examples=300)
def test_what_we_write_is_what_the_calendar_says(wall: float) -> None:
    """A minute is worked out once; nothing of the one before may be left in the next."""
    for near in (wall, wall - 0.0004, wall - 60.0):
        try:
            said = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=round(near * 1000))
        except OverflowError:
            continue
        assert times.text(near) == f"{said:%H:%M}".join((f"{said.date().isoformat()}T", f":{said:%S}.{said.microsecond // 1000:03}Z"))


def test_what_is_known_of_minutes_is_bounded() -> None:
    for minute in range(1000):
        times.text(NOON + 60 * minute)
        assert times.parse(times.text(NOON + 60 * minute)) == NOON + 60 * minute
    assert max(len(times._written), len(times._minutes)) <= times._MOST_MINUTES


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.+Z-]{0,20}"))
@settings(max_examples=200)
def test_no_text_raises(text: str) -> None:
    wall = times.parse(text)
    assert wall is None or math.isfinite(wall)


@pytest.mark.parametrize("told", ["2026-01-10T12:00:00", "2026-01-10 12:00", " 2026-01-10T12:00:00.5 "])
def test_a_time_without_an_offset(told: str) -> None:
    assert times.naive(told)


@pytest.mark.parametrize("told", ["2026-01-10T12:00:00Z", "2026-01-10T12:00:00.5z ", "2026-01-10T12:00:00+02", "x", "", None, 7])
def test_what_has_an_offset_or_is_no_time(told: object) -> None:
    assert not times.naive(told)
