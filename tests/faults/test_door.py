"""Handshakes, paths and identities: what is let in, what is refused and how, and what the CPMS gets to see of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from faults.outside import LATE_S, Cpms, Gone, Outside, Peer, Service, accepting, dialled, play, soon

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
CALL = '[2,"1","Heartbeat",{}]'


class Moody(Cpms):
    """A CPMS that says to a station what is in `says`, or nothing at all (None), and accepts everybody else."""

    says: dict[str, bytes | None]

    async def _greet(self, peer: Peer) -> None:
        head = await peer.header()
        id = head.split(b" ")[1].rsplit(b"/", 1)[-1].decode()
        if id not in self.says:
            self.asked.append(head)
            await peer.raw(accepting(head, self.accepts.get(id, "")))
            self.of(id).put_nowait(peer)
            return
        said = self.says[id]
        if said is not None:
            await peer.raw(said)
        with contextlib.suppress(Gone, TimeoutError):
            await peer.frame(30.0)


async def answer(port: int, request: bytes, within_s: float = 30.0, *, whence: str = "127.0.0.1") -> bytes:
    """All that is said to these bytes until the connection ends, or nothing more comes for so long."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(whence, 0))
    said = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(request)
        while more := await asyncio.wait_for(reader.read(65536), within_s):
            said += more
    writer.close()
    return said


def asking(target: str, *more: str, host: str = "broker", protocol: str = "ocpp1.6") -> bytes:
    """A good handshake, but for what is given."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}"]
    lines += ["Sec-WebSocket-Version: 13", *([f"Sec-WebSocket-Protocol: {protocol}"] if protocol else []), *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def head(said: bytes) -> tuple[int, dict[str, str]]:
    lines = said.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A service that gives a CPMS one second, and has room for three of them."""
    folder: Path = tmp_path_factory.mktemp("door")
    with Service(folder, broker='dial_timeout = "1s"\nmax_links = 3\n') as service:
        yield service
        assert service.stop() == 0
        assert service.errors() == []


SAYS: dict[str, tuple[bytes | None, int, dict[str, str]]] = {
    "who": (b'401 Who\r\nWWW-Authenticate: Basic realm="x"', 401, {"www-authenticate": 'Basic realm="x"'}),
    "gone": (b"404 Gone\r\nX-Powered-By: secret", 404, {}),
    "broken": (b"500 Broken", 500, {}),
    "later": (b"503 Later\r\nRetry-After: 77", 503, {"retry-after": "77"}),
    "moved": (b"302 Moved\r\nLocation: ws://evil/", 502, {}),
    "fine": (b"200 OK", 502, {}),
    "early": (b"103 Early", 502, {}),
    "silent": (None, 504, {}),
}


def test_row_14_what_the_cpms_refuses_is_refused_with_its_code_and_never_101(quick: Service) -> None:
    async def story() -> None:
        async with Moody(quick.cpms_port) as cpms:
            cpms.says = {
                id: said and b"HTTP/1.1 " + said + b"\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret"
                for id, (said, _, _) in SAYS.items()
            }
            cpms.says["rubbish"] = b"\x00\x01\x02 no http at all\r\n\r\n"
            for id, (_, code, headers) in {**SAYS, "rubbish": (b"", 502, {})}.items():
                began = time.monotonic()
                said = await answer(quick.port, asking(f"/acme/{id}"))
                assert time.monotonic() - began <= 1.0 + LATE_S
                found, shown = head(said)
                assert found == code, id
                assert {name: value for name, value in shown.items() if name in ("www-authenticate", "retry-after", "location")} == headers
                for unwanted in (b"secret", b"evil", b"Autobahn", b"Twisted", b"Python"):
                    assert unwanted not in said, id
        assert head(await answer(quick.port, asking("/acme/nobody-there")))[0] == 503

    asyncio.run(story())


def test_row_15_the_subprotocol_is_the_cpmss(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        for id, chosen, code in (("R15-none", "", 101), ("R15-new", "ocpp9.9", 101), ("R15-own", "mqtt", 502)):
            cpms.accepts[id] = f"Sec-WebSocket-Protocol: {chosen}\r\n" if chosen else ""
            asked = asking(f"/acme/{id}", protocol="ocpp9.9, ocpp8.8")
            said = await answer(outside.service.port, asked, 1.0)
            found, shown = head(said)
            assert (found, shown.get("sec-websocket-protocol", "")) == (code, chosen if code == 101 else ""), id

    play(outside, story)


BAD_TARGETS = [
    "/acme/./R16", "/acme/../acme/R16", "/acme/%2e%2e/R16", "/acme/.%2E/R16", "/acme/R16;a=b", "/acme/R16%00", "/acme/R16%0d%0aX:y",
    "/acme/R%2f16", "/acme/R%5c16", "/acme/R%C3%28", "/acme/R%zz", "/acme/R16%", "/acme/" + "R" * 256, "/acme/R\xe9", "/acme/%20%0bR16",
    "/acme", "/acme/", "/", "//", "*", "/beta/R16", "/acme/R16#x", "/acme/<R16>",
    "http://user@broker/acme/R16", "http://evil/acme/R16", "http://broker:1/acme/R16",
]  # fmt: skip


def test_row_16_a_path_that_may_be_read_in_two_ways_is_404_and_no_connection(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        async with outside.fault("16") as seen:
            for target in BAD_TARGETS:
                said = await answer(outside.service.port, asking(target))
                assert said.startswith(b"HTTP/1.1 404 "), (target, said[:60])
                assert b"R16" not in said
            seen["targets"] = len(BAD_TARGETS)
        assert cpms.asked == [], "the CPMS was not dialled"

    play(outside, story)


ODD_TARGETS = {
    "/acme/R17%20a": b"/ocpp/R17%20a", "/acme/R17:@$+=*|,~": b"/ocpp/R17:@$+=*|,~", "/acme//R17-1/": b"/ocpp/R17-1",
    "/acme/x/R17-2?a=b&c=%2F": b"/ocpp/x/R17-2?a=b&c=%2F", "/acme/R17%C3%A9": b"/ocpp/R17%C3%A9", "/acme/%52%31%37": b"/ocpp/%52%31%37",
    "http://broker/acme/R17-3": b"/ocpp/R17-3",
}  # fmt: skip


def test_row_17_an_odd_identity_reaches_the_cpms_in_the_same_bytes(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        for target, wanted in ODD_TARGETS.items():
            said = await answer(outside.service.port, asking(target), 1.0)
            assert said.startswith(b"HTTP/1.1 101 "), target
            assert cpms.asked.pop().split(b" ")[1] == wanted

    play(outside, story)


GOOD = asking("/acme/R18")
BAD_REQUESTS = {
    "NUL": GOOD.replace(b"Host: broker", b"Host: bro\0ker"),
    "folded": GOOD.replace(b"Host: broker\r\n", b"Host: broker\r\n folded\r\n"),
    "no colon": GOOD.replace(b"Host: broker\r\n", b"Host: broker\r\nnothing\r\n"),
    "two hosts": GOOD.replace(b"Host: broker\r\n", b"Host: broker\r\nHost: broker\r\n"),
    "no host": GOOD.replace(b"Host: broker\r\n", b""),
    "a length": GOOD.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n"),
    "chunks": GOOD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "two passwords": GOOD.replace(b"\r\n\r\n", b"\r\nAuthorization: Basic YTpi\r\nAuthorization: Basic YTpj\r\n\r\n"),
    "a blank before the colon": GOOD.replace(b"Host: broker", b"Host : broker"),
    "a short key": GOOD.replace(KEY.encode(), b"short"),
    "HTTP/1.0": GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a lone line feed": GOOD.replace(b"Host: broker\r\n", b"Host: broker\nX: y\r\n"),
}


def test_row_18_19_what_is_no_clear_request_is_refused_and_takes_no_room(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        async with outside.fault("18 19", most_mib=4.0):
            for name, request in BAD_REQUESTS.items():
                assert (await answer(outside.service.port, request))[9:12] in (b"400", b"505"), name
            fields = GOOD.replace(b"\r\n\r\n", b"\r\n" + b"X: y\r\n" * 65 + b"\r\n")
            for long in (GOOD.replace(b"broker", b"b" * 9000), fields, b"GET /" + b"a" * 1_000_000):
                assert (await answer(outside.service.port, long))[9:12] in (b"431", b""), long[:20]
        assert cpms.asked == []

    play(outside, story)


def test_row_20_two_hundred_handshakes_that_never_end_are_dropped_after_ten_seconds(outside: Outside) -> None:
    """Nothing at all, some of a request, all but its end; a quarter of them one byte more every half second."""

    async def one(n: int) -> float:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", outside.service.port)
        with contextlib.suppress(ConnectionError):
            writer.write(GOOD[: (0, 40, len(GOOD) - 2)[n % 3]])
            while n % 4 == 0 and not reader.at_eof():
                writer.write(b"X")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(4096), 0.5)
            while await asyncio.wait_for(reader.read(4096), 60):
                pass
        writer.close()
        return time.monotonic() - began

    async def story(cpms: Cpms) -> None:
        async with outside.fault("20") as seen:
            took = await asyncio.gather(*(one(n) for n in range(200)))
            seen["dropped_after_s"] = [round(min(took), 1), round(max(took), 1)]
        assert max(took) <= 10.0 + LATE_S
        assert min(one for n, one in enumerate(took) if n % 4) >= 5.0, "who is slow is given its time"
        assert cpms.asked == []

    play(outside, story)


def test_row_21_a_browser_or_a_scanner_sees_nothing(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        plain = b"GET %s HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n"
        for target in (b"/", b"/acme/R21", b"/acme/R21?redirect=http://evil/", b"/robots.txt"):
            said = await answer(outside.service.port, plain % target)
            assert said[9:12] in (b"404", b"426"), target
            for unwanted in (b"Location", b"<html", b"Autobahn", b"Twisted", b"evil"):
                assert unwanted not in said
        for method in (b"POST", b"CONNECT", b"OPTIONS", b"HEAD"):
            assert (await answer(outside.service.port, GOOD.replace(b"GET", method, 1)))[9:10] == b"4", method
        assert cpms.asked == []

    play(outside, story)


def test_row_23_beyond_the_cap_is_503_and_those_that_live_are_unharmed(quick: Service) -> None:
    async def story() -> None:
        async with Cpms(quick.cpms_port) as cpms:
            pairs = [await quick.pair(cpms, f"R23-{n}") for n in range(3)]
            code, headers = head(await answer(quick.port, asking("/acme/R23-more")))
            assert (code, headers["retry-after"]) == (503, "10")
            for station, upstream in pairs:
                await station.say(CALL)
                assert await upstream.hear() == CALL.encode()
            pairs[0][0].close()
            assert await soon(lambda: quick.count("ocppbroker_links") == 2)
            await quick.pair(cpms, "R23-more")

    asyncio.run(story())


@contextlib.asynccontextmanager
async def reading(peer: Peer) -> AsyncIterator[None]:
    """It answers pings, as one does that lives."""

    async def on() -> None:
        with contextlib.suppress(Gone, ConnectionError):
            while True:
                await peer.hear(3600)

    task = asyncio.create_task(on())
    yield
    task.cancel()


def test_row_25_26_a_second_connection_wins_only_over_a_dead_one(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        service = outside.service
        async with outside.fault("25 26") as seen:
            station, upstream = await service.pair(cpms, "R25")
            async with reading(station), reading(upstream):
                assert head(await answer(service.port, asking("/acme/R25")))[0] == 409
                assert cpms.of("R25").empty(), "the CPMS never sees two"
            station, upstream = await service.pair(cpms, "R26")  # which reads nothing any more
            began = time.monotonic()
            second = await dialled(service.port, "/acme/R26")
            assert (await second.header(30.0)).startswith(b"HTTP/1.1 101 ")
            seen["taken_after_s"] = round(time.monotonic() - began, 1)
            assert seen["taken_after_s"] <= 6.0 + LATE_S
            assert await upstream.end() == ([1008], "eof"), "the first was over before the second was let in"
            later = await cpms.peer("R26")
            await second.say(CALL)
            assert await later.hear() == CALL.encode()

    play(outside, story)


def test_row_27_who_gets_401_again_and_again_waits_and_nobody_else_does(outside: Outside) -> None:
    async def story() -> None:
        async with Moody(outside.service.cpms_port) as cpms:
            cpms.says = {"R27": b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"}
            codes = [head(await answer(outside.service.port, asking("/acme/R27")))[0] for _ in range(5)]
            assert codes[:3] == [401] * 3
            assert codes[-1] == 429
            _, headers = head(await answer(outside.service.port, asking("/acme/R27")))
            assert int(headers["retry-after"]) >= 1
            await outside.service.pair(cpms, "R27-other")

    asyncio.run(story())


def test_row_29_a_name_cannot_write_into_the_log(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        before = outside.service.log.read_text().count("\n")
        for target in ("/acme/R29%1b[31mred", "/acme/R29%0d%0afake", "/acme/R29" + "%C2%85" * 10, "/acme/R29" + "x" * 240):
            await answer(outside.service.port, asking(target), 0.5, whence="127.0.0.29")  # of others the log has had enough
        assert await soon(lambda: outside.service.log.read_text().count("\n") > before)
        log = outside.service.log.read_bytes()
        assert b"\x1b" not in log
        assert b"\x85" not in log
        assert not re.search(rb"^\W*fake", log, re.MULTILINE)
        assert b"x" * 65 not in log

    play(outside, story)


def test_a_scanner_is_some_lines_of_the_log_and_each_of_its_tries_is_counted(outside: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        def counted() -> float:
            found = re.search(r'ocppbroker_refused_total\{reason="404",whose="station"\} (\S+)', outside.service.get("/metrics"))
            return float(found[1]) if found is not None else 0.0

        before = await asyncio.to_thread(counted)
        for first in range(0, 300, 30):
            scans = [answer(outside.service.port, asking(f"/nobody/S{first + n}"), whence="127.0.0.30") for n in range(30)]
            assert {head(said)[0] for said in await asyncio.gather(*scans)} == {404}
        assert await asyncio.to_thread(counted) == before + 300
        assert outside.service.log.read_text().count("from 127.0.0.30 refused with 404") in (5, 10), "10: a minute ended meanwhile"

    play(outside, story)
