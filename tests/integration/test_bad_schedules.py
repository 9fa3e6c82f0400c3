"""An engine whose schedules cannot be, beside some that can, on the running service: each is refused by its field, the others hold."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import crowd as crowds
import pytest
from crowd import Crowd, Engine


def at(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def limit(value: Any, start: Any = None) -> list[dict[str, Any]]:
    return [{"start": at(0) if start is None else start, "limit": value}]


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "nan": ("periods[0].limit: must be a number", {"periods": limit(float("nan"))}),
    "infinite": ("periods[0].limit: ", {"periods": limit(float("inf"))}),
    "negative": ("periods[0].limit: discharging is not supported", {"periods": limit(-5)}),
    "huge": ("periods[0].limit: is above 1000000", {"periods": limit(1e9)}),
    "text": ("periods[0].limit: must be a number", {"periods": limit("7")}),
    "yes": ("periods[0].limit: must be a number", {"periods": limit(True)}),
    "unit": ("unit: must be W or A", {"unit": "kW"}),
    "past": ("valid_until: is in the past", {"valid_until": at(-1), "periods": limit(5, at(-2))}),
    "far": ("periods[0].start: is more than 48 h ahead", {"valid_until": at(100), "periods": limit(5, at(60))}),
    "unsorted": ("periods[1].start: must rise strictly", {"periods": [*limit(5, at(1)), *limit(6, at(0.5))]}),
    "none": ("periods: must be a list of 1 to 1024", {"periods": []}),
    "many": ("periods: must be a list of 1 to 1024", {"periods": [one for n in range(1025) for one in limit(5, at(n / 3600))]}),
    "soon": ("periods[0].start: must be a date and time", {"periods": limit(5, "soon")}),
    "deep": ("periods[0]: must be an object", {"periods": [[[[]]]]}),
}


class Odd(Engine):
    """Each answer has the bad ones before the good ones."""

    def schedules(self, site: str, after: str, wait: float) -> tuple[int, Any]:
        if after:
            return super().schedules(site, after, min(wait, 1.0))
        code, body = super().schedules(site, after, wait)
        plain = {"asset_id": "asset-0", "issued_at": at(0), "valid_until": at(2), "unit": "A", "periods": limit(9.0)}
        body["schedules"] = [{"id": f"bad-{name}", **plain, **wrong} for name, (_, wrong) in BAD.items()] + body["schedules"]
        return code, body


def test_each_is_refused_whole_with_its_field_and_the_others_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "Engine", Odd)

    async def story() -> None:
        async with Crowd(tmp_path, 2) as crowd:
            crowd.begin()

            def told() -> dict[tuple[str, str], str]:
                return {(one["schedule_id"], one["status"]): one.get("detail") or "" for one in list(crowd.engine.got["Outcome"])}

            good = {("plan-asset-0", "accepted"), ("plan-asset-1", "accepted")}
            end = time.monotonic() + 90
            while not good <= told().keys():
                assert time.monotonic() < end, "what can be is sent"
                await asyncio.sleep(0.2)  # the process has its own clock
            refused = {schedule.removeprefix("bad-"): detail for (schedule, status), detail in told().items() if status == "refused"}
            assert refused.keys() == BAD.keys()
            for name, (said, _) in BAD.items():
                assert refused[name].startswith(said), (name, refused[name])
            for one in crowd.stations:
                while (sent := crowd.broker.get(f"/api/v1/stations/acme/{one.id}")["learned"]["limits"]["1"]["sent"]) is None:
                    assert time.monotonic() < end, "none between two transactions, but for that"
                    await asyncio.sleep(0.2)
                assert sent["limit"] == 10.0, "6900 W on three phases"
            assert crowd.engine.faults == [], "each outcome is as the API wants it"
            assert "Traceback" not in crowd.broker.log.read_text()
            await crowd.end()
            assert crowd.mistakes() == []

    asyncio.run(story())
