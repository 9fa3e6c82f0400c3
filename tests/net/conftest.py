"""TLS ports, the PKI behind them, and what the broker logs, for the tests of real handshakes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import make_pki
import pytest
import pytest_twisted
from tlsports import Open, Port, owned
from twisted.logger import globalLogPublisher


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


@pytest.fixture
def logged() -> Iterator[list[str]]:
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
