"""The admin side's connections: none that says nothing stays, none of them is worth a line of the log, and there are only so many."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from broker.net.admin_web import IDLE_S, MOST_BODY, MOST_CONNECTIONS, AdminSite


class Wire(StringTransport):
    """A transport that can be cut."""

    cut = False

    def abortConnection(self) -> None:
        self.cut = True


class Broken(Resource):
    """A page with a mistake."""

    isLeaf = True

    def render(self, request: object) -> bytes:
        raise RuntimeError("s3cret")


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def site(clock: Clock) -> AdminSite:
    found = AdminSite(Broken())
    found.reactor = clock
    found.startFactory()
    return found


def dialled(site: AdminSite) -> tuple[Any, Wire]:
    channel, wire = site.buildProtocol(None), Wire()
    channel.makeConnection(wire)
    return channel, wire


def test_a_connection_that_says_nothing_is_cut_without_a_line(site: AdminSite, clock: Clock, logged: list[dict[str, Any]]) -> None:
    _, silent = dialled(site)
    slow, wire = dialled(site)
    slow.dataReceived(b"GET /healthz HT")
    clock.pump([1.0] * (IDLE_S - 1))
    assert not silent.cut
    clock.advance(1.5)
    assert silent.cut
    assert wire.cut
    assert wire.value() == b""
    assert [one for one in logged if one.get("log_namespace", "").startswith("twisted.web")] == []


def test_there_are_only_so_many_and_who_leaves_makes_room(site: AdminSite) -> None:
    channels = [dialled(site)[0] for _ in range(MOST_CONNECTIONS)]
    assert site.buildProtocol(None) is None
    channels[0].connectionLost(Failure(ConnectionDone()))
    assert site.connections == MOST_CONNECTIONS - 1
    dialled(site)
    assert site.buildProtocol(None) is None


def test_a_page_that_fails_says_nothing_of_itself(site: AdminSite) -> None:
    channel, wire = dialled(site)
    channel.dataReceived(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    said = wire.value()
    assert said.startswith(b"HTTP/1.1 500 ")
    assert b"Server: ocppbroker\r\n" in said
    for unwanted in (b"Twisted", b"s3cret", b"RuntimeError", b"test_admin_web"):
        assert unwanted not in said


def test_a_body_without_end_is_cut_before_the_token_was_looked_at(site: AdminSite) -> None:
    channel, wire = dialled(site)
    channel.dataReceived(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * MOST_BODY)
    assert not wire.cut
    channel.dataReceived(b"x")
    assert wire.cut
