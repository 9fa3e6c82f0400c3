"""Messages that are none, or odd, or never answered, through a tenant whose every message is read: the bytes pass, the link lives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from crowd import Engine
from faults.outside import BINARY, Cpms, Innocents, Outside, Peer, Service, play, soon
from faults.smart import smart

UNANSWERED = int(os.environ.get("UNANSWERED", "100000"))
METER = '{"connectorId":1,"transactionId":1,"meterValue":[{"timestamp":"%s","sampledValue":[{"value":%s}]}]}'
NOW = "2026-01-01T00:00:00Z"
DEEP = 100_000
BODIES = {
    "deep arrays": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deep and open": "[" * DEEP,
    "50,000 members": "{" + ",".join(f'"k{n}":{n}' for n in range(50_000)) + "}",
    "5,000 digits": METER % (NOW, "9" * 5000),
    "1e999": METER % (NOW, "1e999"),
    "-1e999": METER % (NOW, '"-1e999"'),
    "NaN": METER % (NOW, "NaN"),
    "NaN in words": METER % (NOW, '"NaN"'),
    "infinity": METER % (NOW, "Infinity"),
    "twice the same key": '{"connectorId":1,"connectorId":2,"meterValue":[],"meterValue":{}}',
    "a lone surrogate": METER % (NOW, '"\\ud800"'),
    "NUL": METER % (NOW, '"\\u0000"'),
    "a raw NUL": METER % (NOW, '"\x00"'),
    "wrong types": '{"connectorId":"one","transactionId":{},"meterValue":{"timestamp":[],"sampledValue":7}}',
    "null everywhere": '{"connectorId":null,"transactionId":null,"meterValue":[null]}',
    "no time": METER % ("yesterday, or so", "1"),
    "a far time": METER % ("99999-13-45T99:99:99Z", "1"),
    "not an object": "7",
    "nothing": "",
}
ACTIONS = [
    "BootNotification",
    "StatusNotification",
    "Authorize",
    "StartTransaction",
    "StopTransaction",
    "MeterValues",
    "DataTransfer",
    "Nonsense",
]
BARE = [
    b"",
    b" ",
    b"{",
    b"[]",
    b"[2]",
    b"[2,",
    b'[2,"1"]',
    b'[2,"1","Heartbeat"]',
    b'[2,1,"Heartbeat",{}]',
    b'[2,null,"Heartbeat",{}]',
    b'[2,"1",7,{}]',
    b'["2","1","Heartbeat",{}]',
    b'[2.0,"1","Heartbeat",{}]',
    b'[99,"1","Heartbeat",{}]',
    b'[3,"never asked",{}]',
    b'[4,"never asked","InternalError","",{}]',
    b'[4,"-1","FormationViolation","",{}]',
    b'\xef\xbb\xbf[2,"1","Heartbeat",{}]',
    b'[2,"' + b"i" * 100_000 + b'","Heartbeat",{}]',
    b'[2,"1","' + b"A" * 100_000 + b'",{}]',
    b"9" * 5000,
    b'"text"',
    b"null",
    b"hello",
    b"\x00",
    '[2,"ä","Größe",{"ü":"€𝄞"}]'.encode(),
    b"[" * 1_000_000,
]


def corpus() -> list[bytes]:
    """Each as a station or a CPMS might say it."""
    asked = [f'[2,"r{n}-{m}","{action}",{body}]'.encode() for n, body in enumerate(BODIES.values()) for m, action in enumerate(ACTIONS)]
    return [*asked, *BARE]


@pytest.fixture(scope="module")
def _busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """Smart charging, driver identification and relay, an engine behind it; no bound on the rate, as this is about content."""
    folder: Path = tmp_path_factory.mktemp("busy")
    ids = [f"R43-{mode}-{way}" for mode in ("smart-charging", "driver-identification", "shadow") for way in ("station", "cpms")]
    ids += ["R44", "R45-a", "R45-b", "R46"]
    engine = Engine("acme:s3cret", {f"{id}-1": "hq" for id in [*ids, "R75"]}, {f"{id}-1": 6900.0 for id in [*ids, "R75"]})
    lines = smart(
        folder, engine.url, ids, {"R75": "driver-identification"} | {id: id[4:].rpartition("-")[0] for id in ids if id.startswith("R43")}
    )
    with Service(folder, lines, broker="rate = 0\n") as service:
        innocents = Innocents(service)
        yield Outside(service, innocents)
        innocents.stop()
        assert service.stop() == 0
        assert service.errors() == []
    engine.stop()


@pytest.fixture
def busy(_busy: Outside) -> Iterator[Outside]:
    yield _busy
    assert _busy.service.get("/readyz")["ready"]
    assert _busy.service.errors() == []


async def passes(one: Peer, other: Peer, texts: list[bytes], opcode: int = 1) -> None:
    """One says them, and the other hears the same bytes in the same order; whatever we ask meanwhile is ours, and is answered."""
    for text in texts:
        saying = asyncio.create_task(one.say(text, opcode))
        while True:
            heard = await other.hear(30)
            if heard == text or not heard.startswith(b'[2,"ocb-'):
                break
            await other.say(b'[4,"%s","NotSupported","",{}]' % heard.split(b'"')[1])
        await saying
        assert heard == text, text[:80]


@pytest.mark.parametrize("mode", ["smart-charging", "driver-identification", "shadow"])
@pytest.mark.parametrize("way", ["station", "cpms"])
def test_row_43_rubbish_passes_byte_for_byte_and_never_ends_a_link(busy: Outside, mode: str, way: str) -> None:
    async def story(cpms: Cpms) -> None:
        texts = corpus()
        station, upstream = await busy.service.pair(cpms, f"R43-{mode}-{way}")
        one, other = (station, upstream) if way == "station" else (upstream, station)
        async with busy.fault(f"43 {mode} {way}", most_mib=64.0) as seen:
            await passes(one, other, texts)
            await passes(one, other, [text[:1000] for text in texts], BINARY)
            # Answered with rubbish as well: a promised answer waits for what could be learned from it.
            for n, body in enumerate(BODIES.values()):
                await passes(one, other, [b'[2,"q%d","%s",{}]' % (n, ACTIONS[n % len(ACTIONS)].encode())])
                await passes(other, one, [b'[3,"q%d",%s]' % (n, body.encode())])
            await passes(one, other, [b'[2,"last","Heartbeat",{}]'])
            seen["messages"] = 2 * len(texts) + 2 * len(BODIES)
        station.reset()
        await upstream.end()

    play(busy, story)


def test_row_44_what_the_tap_trips_over_is_counted_and_the_relay_does_not_notice(busy: Outside) -> None:
    async def story(cpms: Cpms) -> None:
        station, upstream = await busy.service.pair(cpms, "R44")
        opaque = busy.service.count("ocppbroker_opaque_frames_total")
        async with busy.fault("44", most_mib=32.0) as seen:
            await passes(station, upstream, BARE)
            seen["opaque"] = busy.service.count("ocppbroker_opaque_frames_total") - opaque
            seen["tap_failures"] = busy.service.count("ocppbroker_tap_failures_total")
        assert seen["opaque"] >= 10
        station.reset()
        await upstream.end()

    play(busy, story)


def test_row_45_answers_find_only_who_asked(busy: Outside) -> None:
    """The same ids at two stations, answers nobody asked for, and ids of ours in the CPMS's mouth."""

    async def story(cpms: Cpms) -> None:
        async with busy.fault("45"):
            (a, up_a), (b, up_b) = [await busy.service.pair(cpms, f"R45-{name}") for name in "ab"]
            for n in range(50):
                call = '[2,"same-%d","Authorize",{"idTag":"%s"}]'
                for station, upstream, tag in ((a, up_a, "A"), (b, up_b, "B")):
                    await passes(station, upstream, [(call % (n, tag)).encode()])
                # b is answered first: were ids looked up across stations, a would hear it.
                await passes(up_b, b, [b'[3,"same-%d",{"idTagInfo":{"status":"Blocked"}}]' % n])
                await passes(up_a, a, [b'[3,"same-%d",{"idTagInfo":{"status":"Accepted"}}]' % n])
                await passes(up_a, a, [b'[3,"same-%d",{"once":"more"}]' % n])
            forged = b"ocb-" + b"0" * 32
            await passes(up_a, a, [b'[2,"%s","Reset",{"type":"Soft"}]' % forged])
            await passes(a, up_a, [b'[3,"%s",{"status":"Accepted"}]' % forged])
            late = busy.service.count("ocppbroker_late_answers_total")
            await a.say(b'[3,"%s",{"nobody":"asked"}]' % forged)
            await passes(a, up_a, [b'[2,"after","Heartbeat",{}]'])
            assert busy.service.count("ocppbroker_late_answers_total") - late == 1, "an answer to ours never reaches the CPMS"
            for peer in (a, b):
                peer.reset()
            await up_a.end()
            await up_b.end()

    play(busy, story)


@pytest.mark.parametrize("way", ["station", "cpms"])
def test_row_46_calls_that_nobody_answers_take_no_room(busy: Outside, way: str) -> None:
    async def story(cpms: Cpms) -> None:
        station, upstream = await busy.service.pair(cpms, "R46")
        one, other = (station, upstream) if way == "station" else (upstream, station)
        calls = UNANSWERED if way == "station" else UNANSWERED // 5  # a CPMS's are all matched against ours; the bound is the same
        async with busy.fault(f"46 {way}", most_mib=12.0, most_cpu_s=2.0 + 0.002 * calls) as seen:
            began = time.monotonic()

            async def ask() -> None:
                for begin in range(0, calls, 500):
                    await one.raw(b"".join(one.framed(b'[2,"%d","Authorize",{"idTag":"X"}]' % n) for n in range(begin, begin + 500)))

            asking = asyncio.create_task(ask())
            came = 0
            while came < calls:
                heard = await other.hear(30)
                if not heard.startswith(b'[2,"ocb-'):
                    assert heard.startswith(b'[2,"%d"' % came)
                    came += 1
            await asking
            seen |= {"calls": came, "per_s": round(came / (time.monotonic() - began))}
            await passes(other, one, [b'[3,"0",{}]', b'[3,"%d",{}]' % (came - 1)])
        station.reset()
        await upstream.end()

    play(busy, story)


def test_row_75_in_driver_identification_nothing_of_ours_is_ever_said(busy: Outside) -> None:
    """A whole visit, with an engine that has limits for this socket: either side hears what the other said, and nothing else."""
    visit = [
        (
            "BootNotification",
            {"chargePointVendor": "V", "chargePointModel": "M"},
            {"status": "Accepted", "currentTime": NOW, "interval": 300},
        ),
        ("StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Preparing"}, {}),
        ("Authorize", {"idTag": "TAG"}, {"idTagInfo": {"status": "Accepted"}}),
        (
            "StartTransaction",
            {"connectorId": 1, "idTag": "TAG", "meterStart": 0, "timestamp": NOW},
            {"transactionId": 7, "idTagInfo": {"status": "Accepted"}},
        ),
        ("MeterValues", {"connectorId": 1, "transactionId": 7, "meterValue": [{"timestamp": NOW, "sampledValue": [{"value": "5"}]}]}, {}),
        ("StopTransaction", {"transactionId": 7, "meterStop": 10, "timestamp": NOW}, {}),
    ]

    async def story(cpms: Cpms) -> None:
        station, upstream = await busy.service.pair(cpms, "R75")
        async with busy.fault("75") as seen:
            heard: list[tuple[str, bytes]] = []

            async def listen(name: str, peer: Peer) -> None:
                while True:
                    heard.append((name, await peer.hear(60)))

            listening = [asyncio.create_task(listen("station", station)), asyncio.create_task(listen("cpms", upstream))]
            expected: list[tuple[str, bytes]] = []
            for n in range(5):
                for m, (action, call, answer) in enumerate(visit):
                    for teller, to, text in (
                        (station, "cpms", [2, f"{n}-{m}", action, call]),
                        (upstream, "station", [3, f"{n}-{m}", answer]),
                    ):
                        said = json.dumps(text).encode()
                        await teller.say(said)
                        expected.append((to, said))
                        assert await soon(lambda: len(heard) >= len(expected))
                await asyncio.sleep(0.4)  # the engine's limits come meanwhile
            seen["messages"] = len(expected)
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
            assert heard == expected
        assert busy.service.get("/api/v1/stations/acme/R75")["mode"] == "driver-identification"
        station.reset()
        with contextlib.suppress(TimeoutError):
            await upstream.end()

    play(busy, story)
