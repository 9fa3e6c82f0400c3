"""Many refusals are few lines: on a given clock, and a scanner on real sockets, whose every handshake is counted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig, upgrade
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from broker.net.refusing import Kind, Refused


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What of refusals the log says."""
    said: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        if "refused" in (text := formatEvent(event)):
            said.append(text)

    globalLogPublisher.addObserver(hear)
    yield said
    globalLogPublisher.removeObserver(hear)


def scan(refused: Refused, n: int, address: str = "192.0.2.1", status: int = 404) -> None:
    for _ in range(n):
        refused.handshake("acme/CS-7", address, status, "station", "asked for no path of ours")


def test_a_scanner_gets_five_lines_and_a_number_each_minute(lines: list[str]) -> None:
    clock = Clock()
    refused = Refused(clock)
    for _ in range(120):
        scan(refused, 100)
        clock.advance(1.0)
    full = "acme/CS-7 from 192.0.2.1 refused with 404: the station asked for no path of ours"
    more = "5995 more from 192.0.2.1 were refused with 404 within a minute; ocppbroker_refused_total counts each"
    assert lines == [full] * 5 + [more] + [full] * 5 + [more]
    assert clock.getDelayedCalls() == []


def test_other_kinds_and_addresses_are_not_hidden_by_it(lines: list[str]) -> None:
    refused = Refused(Clock())
    scan(refused, 100)
    scan(refused, 1, status=401)
    scan(refused, 1, address="192.0.2.2")
    assert len(lines) == 7
    assert "401" in lines[5]
    assert "192.0.2.2" in lines[6]


def test_a_net_of_scanners_shares_what_is_left(lines: list[str]) -> None:
    clock = Clock()
    refused = Refused(clock)
    for n in range(2_000):
        scan(refused, 3, address=f"2001:db8::{n:x}")
    assert len(lines) == 3 * 200 + 5
    clock.advance(60.0)
    assert lines[605:] == [
        "5395 more were refused within a minute, from too many addresses to name; ocppbroker_refused_total counts each"
    ]  # fmt: skip
    assert clock.getDelayedCalls() == []


def test_what_was_left_unsaid_is_said_at_the_end(lines: list[str]) -> None:
    clock = Clock()
    refused = Refused(clock)
    said: list[int] = []
    for n in range(8):
        refused.say(Kind("at the TLS handshake (does not speak TLS)", "station", "192.0.2.1"), partial(said.append, n))
    refused.stop()
    assert said == [0, 1, 2, 3, 4]
    assert lines == [
        "3 more from 192.0.2.1 were refused at the TLS handshake (does not speak TLS) within a minute; ocppbroker_refused_total counts each"
    ]
    assert clock.getDelayedCalls() == []
    refused.stop()
    assert len(lines) == 1


@pytest_twisted.ensureDeferred
async def test_a_scanner_on_the_wire_is_counted_whole(lines: list[str]) -> None:
    rig = await Rig().start()
    try:
        for n in range(30):
            station = await rig.connect()
            station.transport.write(upgrade(f"/nobody/{n}"))
            assert await station.status() == 404
        assert len(lines) == 5
        assert rig.world.counts.of["refused", "404", "station"] == 30
        rig.door.stop()
        assert lines[5].startswith("25 more from 127.0.0.1 were refused with 404")
    finally:
        await rig.stop()
