"""npm `ocpp-rpc` in strict mode on both sides, in 1.6, 2.0.1 and 2.1, while the engine limits the station.

Each side validates what it sends and what it is sent, so a profile of ours, or a question, that the official schemas do not allow would
be told; so would an answer to ours that strayed to the CPMS. The three days are lived at once; each test looks at what became of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from running import Running, free_port
from stranger_engine import StrangerEngine
from stranger_stacks import PATIENCE_S, missing, said, stranger

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

VERSIONS = ("ocpp1.6", "ocpp2.0.1", "ocpp2.1")
LIMIT_W = 6900.0  # 10 A on three phases: below the CPMS's own 16 A


@dataclass
class Story:
    """What everybody lived through."""

    days: dict[str, dict[str, Any]]
    handled: Counter[tuple[str, str]]
    """(station, action) as the CPMS handled them."""
    failed: list[str]
    engine: StrangerEngine
    log: str


def configuration(folder: Path, port: int, cpms: int, engine: str) -> str:
    (folder / "secret").write_text("s3cret\n")
    stations = "".join(f'[[tenants.stations]]\nid = "{v}"\nevses = {{ 1 = {{ asset = "a-{v}", max_amps = 32 }} }}\n' for v in VERSIONS)
    return f"""
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{cpms}"
mode = "smart-charging"
[tenants.engine]
url = "{engine}"
client_id = "acme"
client_secret_file = "secret"
measure_every = "1s"
[tenants.charging]
write_interval = "1s"
purposes = ["tx", "default"]
[[tenants.sites]]
name = "hq"
{stations}"""


async def a_day(version: str, url: str) -> list[dict[str, Any]]:
    process = await stranger("strict.mjs", "station", version, url, version)
    lines = [one async for one in said(process)]
    await process.wait()
    return lines


async def live(folder: Path, engine: StrangerEngine) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the stations said, and what the CPMS said."""
    port, cpms_port = free_port(), free_port()
    cpms = await stranger("strict.mjs", "cpms", str(cpms_port))
    assert cpms.stdin is not None
    hearing = said(cpms)
    assert await asyncio.wait_for(anext(hearing), PATIENCE_S) == {"ready": True}
    with Running(folder, configuration(folder, port, cpms_port, engine.url)) as broker:
        days = await asyncio.gather(*(a_day(version, f"ws://127.0.0.1:{port}/acme") for version in VERSIONS))
        await engine.hears({f"a-{one['day']['protocol']}": one["day"]["wh"] for day in days for one in day if "day" in one})
        broker.stop()
    cpms.stdin.close()
    heard = [one async for one in hearing]
    await cpms.wait()
    return [one for day in days for one in day], heard


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("strict")
    assets = [f"a-{version}" for version in VERSIONS]
    engine = StrangerEngine("acme:s3cret", dict.fromkeys(assets, "hq"), dict.fromkeys(assets, LIMIT_W))
    stations, cpms = asyncio.run(live(folder, engine))
    engine.stop()
    failed = [one["failed"] for one in (*stations, *cpms) if "failed" in one]
    days = {one["day"]["protocol"]: one["day"] for one in stations if "day" in one}
    handled = Counter((one["from"], one["handled"]) for one in cpms if "handled" in one)
    return Story(days, handled, failed, engine, (folder / "broker.log").read_text())


def test_no_side_found_a_message_that_the_schemas_do_not_allow(story: Story) -> None:
    assert story.failed == []
    assert story.engine.faults == []
    assert "Traceback" not in story.log


@pytest.mark.parametrize("version", VERSIONS)
def test_the_engines_limit_came_as_a_profile_that_a_strict_station_takes(story: Story, version: str) -> None:
    profiles = {profile.get("id", profile.get("chargingProfileId")): profile for profile in story.days[version]["profiles"]}
    assert len(profiles) > 1, "the CPMS's own and ours"
    schedules = [profile["chargingSchedule"] for id, profile in profiles.items() if id != 1]
    first = (schedules[-1] if isinstance(schedules[-1], dict) else schedules[-1][0])["chargingSchedulePeriod"][0]
    assert first["limit"] == 10.0


@pytest.mark.parametrize("version", VERSIONS)
def test_the_cpms_heard_the_stations_own_and_nothing_of_ours(story: Story, version: str) -> None:
    actions = {action for station, action in story.handled if station == version}
    charging = {"StartTransaction", "MeterValues", "StopTransaction"} if version == "ocpp1.6" else {"TransactionEvent"}
    assert actions == {"BootNotification", "StatusNotification", "Authorize"} | charging


@pytest.mark.parametrize("version", VERSIONS)
def test_the_engine_was_told_the_transaction(story: Story, version: str) -> None:
    told = [t for t in story.engine.got["Transaction"] if t["assetId"] == f"a-{version}"]
    assert [told[0]["transactionState"], told[-1]["transactionState"]] == ["Started", "Ended"]
    assert story.engine.registers(f"a-{version}")[-1] == story.days[version]["wh"]
