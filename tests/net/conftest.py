"""What the tests of real sockets begin with: a rig, TLS ports and the PKI behind them, and what the broker logs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import make_pki
import pytest
import pytest_twisted
from fakes import Rig
from tlsports import Open, Port, owned
from twisted.logger import formatEvent, globalLogPublisher

from broker.net.metrics import COUNTERS, TIMINGS


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pki")
    make_pki.make(folder, stations=("CS-7",))
    return folder


@pytest_twisted.async_yield_fixture
async def ports() -> AsyncIterator[Open]:
    opened: list[Port] = []

    async def open(folder: Path, **parts: str) -> Port:
        opened.append(await Port(folder, **parts).open())
        return opened[-1]

    yield open
    for port in opened:
        await port.close()


@pytest_twisted.async_yield_fixture
async def rig() -> AsyncIterator[Rig]:
    """A CPMS and an entrance; whatever was counted is exposed."""
    rig = await Rig().start()
    yield rig
    await rig.stop()
    counts = rig.world.counts
    assert {at[0] for at in counts.of} | set(counts.timings) <= {*COUNTERS, *TIMINGS}


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the log says, Twisted's lines too."""
    said: list[str] = []

    def observe(event: Any) -> None:
        said.append(str(formatEvent(event)))

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What the broker itself says, and failures that nobody took."""
    lines: list[str] = []

    def note(event: Any) -> None:
        if str(event.get("log_namespace", "")).startswith("broker"):
            lines.append(event["log_format"].format(**event))
        elif event.get("log_failure") is not None:
            lines.append(f"an error nobody took: {event['log_failure'].getErrorMessage()}")

    globalLogPublisher.addObserver(note)
    yield lines
    globalLogPublisher.removeObserver(note)


@pytest.fixture
def own(pki: Path, tmp_path: Path) -> Path:
    """A folder with the broker's certificates, to be renewed and broken."""
    for name in ("broker-rsa", "broker-ec"):
        owned(pki, name).write(tmp_path, name)
    return tmp_path
