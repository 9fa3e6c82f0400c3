"""Passwords as stations spell them, and the lines that are remembered of them."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.backoff import FREE, IDENTITIES, MOST_KEPT, MOST_S, QUIET_S, WINDOW_S, Backoff
from broker.model.basics import Key
from broker.passwords import NotThisStation, fault, fits, hashed, password_of

SALT = b"0123456789abcdef"
HEX = b"0123456789ABCDEF0123456789abcdef01234567"
LINE = hashed(b"s3cret", SALT)


def basic(said: bytes) -> bytes:
    return b"Basic " + b64encode(said)


@given(st.text(min_size=1), st.binary(min_size=1))
def test_any_password_of_any_identity_is_read_as_it_was_sent(identity: str, password: bytes) -> None:
    assert password_of(basic(identity.encode() + b":" + password), identity) == password
    assert password_of(basic(identity.encode() + b":" + password).rstrip(b"="), identity) == password
    assert password_of(basic(identity.encode() + b":" + password).replace(b"Basic", b"basic:"), identity) == password


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (None, "without a password"),
        (b"", "without a password"),
        (b"Bearer Q1MtNzp4", "without a password"),
        (b"Basic CS-7:s3cret", "without a password"),
        (b"Basic QQQQQ", "no base64"),
        (basic(b"CS-8:s3cret"), "user name"),
        (basic(b"cs-7:s3cret"), "user name"),
        (basic(b"CS-7"), "user name"),
        (basic(b":s3cret"), "user name"),
        (basic(b"CS-7:"), "empty password"),
    ],
)
def test_what_is_not_this_station_s(header: bytes | None, says: str) -> None:
    with pytest.raises(NotThisStation, match=says) as why:
        password_of(header, "CS-7")
    assert "s3cret" not in str(why.value)


@settings(max_examples=10, deadline=None)
@given(st.binary(min_size=1, max_size=60), st.binary(min_size=1, max_size=60))
def test_only_the_password_itself_fits(password: bytes, other: bytes) -> None:
    line = hashed(password, SALT)
    assert fault(line) == ""
    assert fits(line, password)
    assert fits(line, other) == (other == password)


def test_a_key_fits_as_hex_in_either_case_and_as_bytes() -> None:
    for given_as in (HEX, HEX.lower(), HEX.upper(), bytes.fromhex(HEX.decode())):
        assert fits(hashed(HEX, SALT), given_as), given_as
    assert not fits(hashed(HEX, SALT), HEX[:-2])
    assert not fits(hashed(b"DEADBEEF", SALT), b"deadbeef")


@pytest.mark.parametrize(
    "line",
    [
        "s3cret", "", LINE[:-1], LINE + "=", LINE.replace("argon2id", "argon2i"), LINE.replace("m=19456", "m=9999999"),
        LINE.replace("t=2", "t=99"), LINE.replace("t=2", "t=0"), LINE.replace("p=1", "p=9"), LINE.replace("m=19456", "m=1"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_or_must_not_be_checked_against(line: str) -> None:
    assert fault(line)
    assert "s3cret" not in fault(line)


# ---------------------------------------------------------------- who has to wait


CS7 = Key("acme", "CS-7")


def test_a_few_mistakes_are_free_then_the_wait_doubles_up_to_a_minute() -> None:
    backoff, now, waits = Backoff(), 0.0, []
    for _ in range(12):
        backoff.failed("a", CS7, now)
        waits.append(backoff.of_pair("a", CS7, now))
        now += waits[-1]
    assert waits == [0.0] * FREE + [2.0, 4.0, 8.0, 16.0, 32.0] + [MOST_S] * 4
    assert backoff.of_pair("b", CS7, now - 1) == 0, "the same station from elsewhere"
    assert backoff.of_pair("a", Key("acme", "CS-8"), now - 1) == 0, "another station from there"
    backoff.passed("a", CS7)
    assert backoff.of_pair("a", CS7, now - 1) == 0


def test_an_address_waits_once_it_failed_with_too_many_names_in_a_minute() -> None:
    backoff = Backoff()
    for number in range(IDENTITIES):
        backoff.failed("a", Key("acme", str(number)), float(number))
        backoff.failed("a", Key("acme", str(number)), float(number))
    assert backoff.of_address("a", IDENTITIES) == 0
    backoff.failed("a", CS7, float(IDENTITIES))
    assert backoff.of_address("a", IDENTITIES) == WINDOW_S - IDENTITIES
    assert backoff.of_address("a", WINDOW_S) == 0
    assert backoff.of_address("b", IDENTITIES) == 0


def test_what_is_remembered_has_a_bound() -> None:
    backoff = Backoff()
    for number in range(MOST_KEPT + 50):
        backoff.failed(str(number), CS7, 0.0)
        backoff.failed("one", Key("acme", str(number)), 0.0)
    assert len(backoff._pairs) <= MOST_KEPT
    assert len(backoff._addresses) <= MOST_KEPT
    assert len(backoff._addresses["one"]) == IDENTITIES + 1


def test_after_ten_quiet_minutes_mistakes_are_free_again() -> None:
    for silence, wait in ((QUIET_S, 2.0), (QUIET_S + 1.0, 0.0)):
        backoff = Backoff()
        for _ in range(FREE):
            backoff.failed("a", CS7, 0.0)
        backoff.failed("a", CS7, silence)
        assert backoff.of_pair("a", CS7, silence) == wait


def test_a_name_that_fails_again_counts_once_from_when_it_failed_last() -> None:
    backoff = Backoff()
    for number in range(IDENTITIES + 1):
        backoff.failed("a", Key("acme", str(number)), float(number))
    backoff.failed("a", Key("acme", "0"), 50.0)
    assert backoff.of_address("a", 51.0) == 1.0 + WINDOW_S - 51.0
