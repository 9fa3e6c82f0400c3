"""Alarms of a running broker: that one comes, in all the places it is told at, and that it goes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

from crowd import obey
from running import Running

SOON_S = 90.0  # states are looked at every 10 s; the rest is for a busy machine


def refuses(action: str, payload: dict[str, Any]) -> dict[str, Any]:
    """A station that takes no charging profile, whatever its kind."""
    return {"status": "Rejected"} if action == "SetChargingProfile" else obey(action, payload)


def standing(broker: Running) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["name"], one["subject"]): one for one in broker.get("/api/v1/alarms")["alarms"]}


async def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + SOON_S
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, what
        await asyncio.sleep(0.2)  # the process has its own clock


async def raised(broker: Running, name: str, subject: str, fault: str) -> None:
    """It comes: at the admin side, as a metric, in the log; with whose fault it is and what to do."""
    await until(lambda: (name, subject) in standing(broker), f"{name} of {subject} was not raised")
    one = standing(broker)[name, subject]
    assert one["fault"] == fault
    assert len(one["do"]) > 10
    assert "\n" not in one["text"] + one["do"]
    assert re.search(rf'ocppbroker_alarms{{name="{name}"}} [1-9]', broker.get("/metrics"))
    assert f"alarm {name} of {subject} raised, the {fault}'s: {one['text']}; {one['do']}" in broker.log.read_text()


async def cleared(broker: Running, name: str, subject: str) -> None:
    await until(lambda: (name, subject) not in standing(broker), f"{name} of {subject} was not cleared")
    assert f"alarm {name} of {subject} cleared" in broker.log.read_text()
