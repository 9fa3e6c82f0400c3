"""Ours and the engine's view compared, with a simulated engine over loopback: at the console, and hourly in the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as twisted_reactor
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from wires import soon

from broker.engine.v1 import V1
from broker.net.engine_http import EngineClient
from broker.net.online import EVERY_S, Hourly, compare_all
from broker.settings import EngineSettings, EvseSettings, Settings, StationSettings, TenantSettings
from broker.sim.engine import SimAsset, SimEngine

reactor: Any = twisted_reactor


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []

    def hear(event: Any) -> None:
        if event.get("log_namespace") == "broker.net.online":
            lines.append(f"{event['log_level'].name}: {formatEvent(event)}")

    globalLogPublisher.addObserver(hear)
    yield lines
    globalLogPublisher.removeObserver(hear)


def settings(url: str, *assets: str, secret: str = "demo-secret", sites: tuple[str, ...] = ("hq",)) -> Settings:
    station = StationSettings("CS-7", "shadow", "hq", "ac", tuple(EvseSettings(n, asset) for n, asset in enumerate(assets, 1)))
    engine = EngineSettings(url, "demo", secret)
    return Settings(tenants={"acme": TenantSettings("acme", "ws://c", engine=engine, sites=sites, stations={"CS-7": station})})


class House:
    """`async with House() as house`: an engine with two assets."""

    async def __aenter__(self) -> House:
        self.engine = SimEngine(reactor, {"hq": 22_080.0}, {"A-1": SimAsset("hq"), "A-2": SimAsset("hq")})
        self.url = await self.engine.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.stop()


@pytest_twisted.ensureDeferred
async def test_who_agrees_and_who_does_not() -> None:
    async with House() as house:
        assert await compare_all(settings(house.url, "A-1", "A-2"), reactor) == {"acme": []}
        (line,) = (await compare_all(settings(house.url, "A-1", "nobody"), reactor))["acme"]
        assert "no asset nobody (station CS-7)" in line
        (line,) = (await compare_all(settings(house.url, "A-1", sites=("hq", "moon")), reactor))["acme"]
        assert line == "acme, site moon: the engine answers 404: it has no such site for this account"


@pytest_twisted.ensureDeferred
async def test_a_wrong_secret_is_said_once_without_it_even_where_there_is_no_site() -> None:
    async with House() as house:
        for sites in ((), ("hq", "two")):
            (line,) = (await compare_all(settings(house.url, secret="hunter2", sites=sites), reactor))["acme"]
            assert "refuses our login" in line
            assert "hunter2" not in line


@pytest_twisted.ensureDeferred
async def test_an_engine_that_is_away_is_one_line() -> None:
    (line,) = (await compare_all(settings("http://127.0.0.1:1", "A-1", sites=("hq", "two")), reactor))["acme"]
    assert "cannot be reached" in line
    assert ".:" not in line
    assert "check engine.url" in line


@pytest_twisted.ensureDeferred
async def test_hourly_it_warns_of_what_is_new_and_says_when_it_is_over(said: list[str]) -> None:
    async with House() as house:
        wanted = [settings(house.url, "A-1", "nobody")]
        engine = wanted[0].tenants["acme"].engine
        assert engine is not None
        client = EngineClient(engine, V1(engine), reactor)
        clock = Clock()
        hourly = Hourly(lambda: wanted[0], lambda: {"acme": client}, clock)
        hourly.start()
        assert await soon(lambda: len(said) == 1 and hourly._looking is None)
        assert said[0].startswith("warn: acme, site hq: the engine has no asset nobody")
        clock.advance(EVERY_S)
        assert await soon(lambda: hourly._looking is None)
        assert len(said) == 1, "said once"
        wanted[0] = settings(house.url, "A-1")
        clock.advance(EVERY_S)
        assert await soon(lambda: len(said) == 2 and hourly._looking is None)
        assert said[1] == "info: acme: the engine and we agree again"
        hourly.stop()
        assert clock.getDelayedCalls() == []
        await client.stop()
