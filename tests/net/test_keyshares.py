"""Which keys a dial brings, read from its own first message; and handshakes with CPMSs that want one or the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from OpenSSL import SSL
from tlsends import Ends

from broker.net import keyshares
from broker.net.keyshares import bring_classic, wants_classic

POST_QUANTUM, X25519 = 0x11EC, 0x001D  # IANA, TLS supported groups
GROUPS, KEY_SHARE = 10, 51  # extensions


class Hello(NamedTuple):
    named: list[int]
    brought: list[int]


def number(of: bytes) -> int:
    return int.from_bytes(of, "big")


def pieces(of: bytes, at: int, head: int) -> Iterator[tuple[int, bytes]]:
    """(two bytes, then a length in two bytes, then so much) again and again."""
    while at < len(of):
        size = number(of[at + 2 : at + head])
        yield number(of[at : at + 2]), of[at + head : at + head + size]
        at += head + size


def hello(connection: SSL.Connection) -> Hello:
    """The groups of its ClientHello (RFC 8446, 4.1.2): what it names, and what it brings a key for."""
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    said = connection.bio_read(2**16)
    at = 5 + 4 + 2 + 32  # record, message, version, random
    at += 1 + said[at]  # session
    at += 2 + number(said[at : at + 2])  # suites
    at += 1 + said[at]  # compression
    extensions = dict(pieces(said, at + 2, 4))
    named = extensions[GROUPS]
    return Hello([number(named[n : n + 2]) for n in range(2, len(named), 2)], [group for group, _ in pieces(extensions[KEY_SHARE], 2, 4)])


def client() -> SSL.Connection:
    return SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)


def knows_post_quantum() -> bool:
    return POST_QUANTUM in hello(client()).brought


needed = pytest.mark.skipif(not knows_post_quantum(), reason="this OpenSSL (before 3.5) brings no post-quantum key")


@needed
def test_the_key_is_left_out_and_nothing_else_changes() -> None:
    one = client()
    bring_classic(one)
    left, usual = hello(one), hello(client())
    assert left.named == usual.named
    assert usual.brought == [POST_QUANTUM, X25519]
    assert left.brought == [X25519]


def test_an_openssl_that_does_not_understand_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyshares, "_NAMED_ONLY", b"**X25519")
    one = client()
    bring_classic(one)
    assert not keyshares._openssl.ERR_get_error(), "what is left in the queue is taken for an error of whatever comes next"
    assert hello(one) == hello(client())


def test_a_pyopenssl_that_cannot_say_or_do_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older:
        """No group, no handle."""

    assert not wants_classic(Older())  # type: ignore[arg-type]
    bring_classic(Older())  # type: ignore[arg-type]
    monkeypatch.setattr(keyshares, "_openssl", None)
    bring_classic(client())


@needed
def test_a_cpms_that_took_the_classic_key_is_brought_that_one_only(pki: Path) -> None:
    cpms = Ends(pki, b"X25519:P-256")
    (_, _, first), (group, resumed, second) = cpms.dial(), cpms.dial()
    assert (group, resumed) == ("x25519", True)
    assert second < first - 800, "its first message is shorter by a key of 1,184 bytes, and longer by a ticket"


@needed
def test_a_cpms_that_takes_the_post_quantum_key_is_brought_it_every_time(pki: Path) -> None:
    cpms = Ends(pki, b"X25519MLKEM768")
    (_, _, first), (group, resumed, second) = cpms.dial(), cpms.dial()
    assert (group, resumed) == ("X25519MLKEM768", True)
    assert second > first


@needed
@pytest.mark.parametrize("wants", [b"X25519MLKEM768", b"X25519MLKEM768/X25519", b"DEFAULT"])
def test_a_cpms_that_comes_to_want_the_post_quantum_key_gets_it_at_once(pki: Path, wants: bytes) -> None:
    cpms = Ends(pki, b"X25519:P-256")
    assert cpms.dial()[0] == "x25519"
    cpms.take(wants)
    assert [cpms.dial()[:2], cpms.dial()[:2]] == [("X25519MLKEM768", True)] * 2, "no session is lost by it"


@needed
def test_one_that_wants_neither_of_them_is_asked_no_less(pki: Path) -> None:
    cpms = Ends(pki, b"P-256")
    assert [cpms.dial()[0], cpms.dial()[0]] == ["secp256r1", "secp256r1"]


@needed
def test_a_dial_that_proved_nothing_new_brings_every_key(pki: Path) -> None:
    cpms = Ends(pki, b"X25519")
    usual = cpms.dial()[2]
    cpms.sessions.forget()
    assert cpms.dial()[2] == usual
