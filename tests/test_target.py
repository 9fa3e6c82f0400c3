"""Who dials, by the raw target alone: what is let in, what is not, and that nobody reads a name differently than we do."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.model.basics import Key
from broker.target import MOST_BYTES, NoSuchPath, Target, parse

HOST = b"broker.example:9000"


def fits(length: int) -> bytes:
    return b"/acme/" + b"x" * (length - 6)


@pytest.mark.parametrize(
    ("target", "key", "tail"),
    [
        (b"/acme/CS-7", Key("acme", "CS-7"), b"CS-7"),
        (b"/acme/CS-7/", Key("acme", "CS-7"), b"CS-7"),
        (b"//acme///CS-7", Key("acme", "CS-7"), b"CS-7"),
        (b"/acme/de/site/CS-7", Key("acme", "CS-7"), b"de/site/CS-7"),
        (b"/acme/CS-7?token=a%20b&c=%2F", Key("acme", "CS-7"), b"CS-7?token=a%20b&c=%2F"),
        (b"/acme/CS-7/?a", Key("acme", "CS-7"), b"CS-7?a"),
        (b"/acme/CS-7?", Key("acme", "CS-7"), b"CS-7"),
        (b"/acme/a?b?c", Key("acme", "a"), b"a?b?c"),
        (b"/acme/CS%207", Key("acme", "CS 7"), b"CS%207"),
        (b"/%61cme/%41", Key("acme", "A"), b"%41"),
        (b"/acme/caf%c3%a9", Key("acme", "café"), b"caf%c3%a9"),
        (b"/acme/A:b@c$d+e=f*g|h,i~j_k.l", Key("acme", "A:b@c$d+e=f*g|h,i~j_k.l"), b"A:b@c$d+e=f*g|h,i~j_k.l"),
        (b"/acme/...", Key("acme", "..."), b"..."),
        (b"/acme/%25%32%66", Key("acme", "%2f"), b"%25%32%66"),
        (fits(MOST_BYTES), Key("acme", "x" * 249), b"x" * 249),
        (b"ws://broker.example:9000/acme/CS-7?q", Key("acme", "CS-7"), b"CS-7?q"),
        (b"HTTPS://BROKER.example:9000/acme/CS-7", Key("acme", "CS-7"), b"CS-7"),
    ],
)
def test_who_it_is_and_what_the_cpms_is_asked(target: bytes, key: Key, tail: bytes) -> None:
    assert parse(target, HOST) == Target(key, tail)


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"/",
        b"/acme",
        b"/acme/",
        b"/?acme/CS-7",
        b"acme/CS-7",
        b"/acme/CS-7//",
        b"/acme//",
        *(b"/acme/" + dots for dots in (b".", b"..", b"%2e", b"%2E%2e", b".%2e", b"../x", b"x/../y", b"x/%2e/y", b"./x")),
        *(b"/" + dots + b"/CS-7" for dots in (b".", b"..", b"%2e%2e")),
        b"/acme/a;b",
        b"/acme;x/a",
        b"/acme/%3b%00",
        b"/acme/a%00",
        b"/acme/a%0d%0ab",
        b"/acme/a%1b[31m",
        b"/acme/a%7f",
        b"/acme/a%c2%85",
        b"/acme/a%2fb",
        b"/acme/a%2Fb",
        b"/acme/a%5cb",
        b"/acme/a\\b",
        b"/acme/a%ff",
        b"/acme/a%c3",
        b"/acme/a%ed%a0%80",
        b"/acme/a%c0%ae",
        b"/acme/a%",
        b"/acme/a%4",
        b"/acme/a%zz",
        b"/acme/caf\xc3\xa9",
        b"/acme/a b",
        b"/acme/a#b",
        b"/acme/a?b#c",
        b"/acme/a?b c",
        b"/acme/a?\xff",
        b"/acme/a?b\r\nX: y",
        b"/acme/a\n",
        b"/acme/a?b\n",
        b"/acme/a'b",
        b'/acme/a"b',
        b"/acme/a<b",
        b"/acme/{a}",
        fits(MOST_BYTES + 1),
        b"http://other.example/acme/CS-7",
        b"http://broker.example/acme/CS-7",
        b"http://user@broker.example:9000/acme/CS-7",
        b"http://broker.example:9000",
        b"http://broker.example:9000?/acme/CS-7",
        b"http:///acme/CS-7",
        b"ftp://broker.example:9000/acme/CS-7",
        b"javascript:/acme/CS-7",
    ],
)
@pytest.mark.parametrize("bound", [None, "acme"])
def test_anything_else_is_no_path_of_ours(target: bytes, bound: str | None) -> None:
    if bound is not None and target in (b"/acme", b"/acme/"):
        return  # there it is the name of a station
    with pytest.raises(NoSuchPath) as wrong:
        parse(target, HOST, bound)
    assert "\n" not in str(wrong.value)
    assert len(str(wrong.value)) < 100, "nothing of the target is quoted"


def test_a_user_in_the_authority_is_refused_even_if_host_says_the_same() -> None:
    with pytest.raises(NoSuchPath):
        parse(b"http://user@b/acme/CS-7", b"user@b")


def test_a_port_of_one_tenant_needs_no_prefix() -> None:
    assert parse(b"/CS-7", HOST, "acme") == Target(Key("acme", "CS-7"), b"CS-7")
    assert parse(b"/acme/CS-7", HOST, "acme") == Target(Key("acme", "CS-7"), b"CS-7")
    assert parse(b"/ocpp/CS-7?a", HOST, "acme") == Target(Key("acme", "CS-7"), b"ocpp/CS-7?a")
    assert parse(b"/other/CS-7", HOST, "acme").key.tenant == "acme", "a tenant's port never leads to another tenant"
    assert parse(b"/acme", HOST, "acme") == Target(Key("acme", "acme"), b"acme")


pieces = st.sampled_from(
    [b"/", b"//", b"?", b"#", b";", b".", b"..", b"%2e", b"%2f", b"%5c", b"%25", b"%00", b"%0a", b"%c3%a9", b"%ff", b"\xc3\xa9", b"\\",
     b"@", b"&", b" ", b"\t", b"\r\n", b"acme", b"CS-7", b"a", b"%41", b"http://", b"broker.example:9000", b":", b"=", b"'", b"|", b"%"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=9).map(lambda parts: b"/acme/" + b"".join(parts)) | st.lists(pieces, max_size=9).map(b"".join))
@example(b"/acme/a%2541")
def test_no_identity_differs_between_us_and_whoever_reads_the_request_line(target: bytes) -> None:
    try:
        key, tail = parse(target, HOST)
    except NoSuchPath:
        return
    line = b"/ocpp/" + tail
    assert all(0x21 <= byte <= 0x7E for byte in line)
    assert b"#" not in line
    seen = urlsplit(line.decode("ascii"))
    last = seen.path.rsplit("/", 1)[-1]
    assert unquote_to_bytes(last).decode("utf-8") == key.station
    assert target.count(tail) >= 1 or b"//" in target or b"/?" in target, "byte for byte as it was dialled"
    assert key.tenant not in ("", ".", "..")
    # What a server that resolves dot segments or decodes before it splits would read.
    assert unquote_to_bytes(seen.path).decode("utf-8").rsplit("/", 1)[-1] == key.station
    assert not {".", ".."} & set(unquote_to_bytes(seen.path).decode("utf-8").split("/"))
