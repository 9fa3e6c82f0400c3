"""Five more stacks as stations, three of them also as CPMS, each with each, through the running service.

All fifteen days are lived once; each test looks at what became of them. The npm stacks validate against the official schemas.
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
from stranger_stacks import NODE_STACKS, STACKS, TOKENS, NodeCpms, a_day, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

DAY = ("BootNotification", "StatusNotification", "Authorize", "StartTransaction", "MeterValues", "StopTransaction")
STOPPED_WH = 1200.0  # the register at the end of each day
PAIRS = [(cpms, station) for cpms in NODE_STACKS for station in STACKS]


@dataclass
class Story:
    """What everybody lived through."""

    answers: dict[tuple[str, str], dict[str, Any]]
    cpms: dict[str, NodeCpms]
    engine: StrangerEngine
    log: str
    exit: int


def configuration(folder: Path, port: int, cpms: dict[str, NodeCpms], engine: str) -> str:
    (folder / "secret").write_text("s3cret\n")
    text = f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
    for name, system in cpms.items():
        text += f'[[tenants]]\nname = "{name}"\ncpms_url = "ws://127.0.0.1:{system.port}"\nmode = "shadow"\n'
        text += f'[tenants.engine]\nurl = "{engine}"\nclient_id = "acme"\nclient_secret_file = "secret"\nmeasure_every = "1s"\n'
        text += f'[[tenants.sites]]\nname = "site-{name}"\n'
        for station in STACKS:
            text += f'[[tenants.stations]]\nid = "{station}"\nevses = {{ 1 = {{ asset = "{name}-{station}", max_amps = 32 }} }}\n'
    return text


async def live(folder: Path, cpms: dict[str, NodeCpms], engine: StrangerEngine) -> tuple[dict[tuple[str, str], Any], int]:
    port = free_port()
    await asyncio.gather(*(one.start() for one in cpms.values()))
    answers: dict[tuple[str, str], Any] = {}

    async def one_cpms(name: str) -> None:
        for station in STACKS:
            answers[name, station] = await a_day(station, f"ws://127.0.0.1:{port}/{name}", station)

    with Running(folder, configuration(folder, port, cpms, engine.url)) as broker:
        await asyncio.gather(*map(one_cpms, cpms))
        await engine.hears({f"{cpms}-{station}": STOPPED_WH for cpms, station in PAIRS})
        exit = broker.stop()
    await asyncio.gather(*(one.stop() for one in cpms.values()))
    return answers, exit


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("stacks")
    cpms = {name: NodeCpms(name, free_port()) for name in NODE_STACKS}
    engine = StrangerEngine("acme:s3cret", {f"{name}-{station}": f"site-{name}" for name, station in PAIRS}, {})
    answers, exit = asyncio.run(live(folder, cpms, engine))
    engine.stop()
    return Story(answers, cpms, engine, (folder / "broker.log").read_text(), exit)


@pytest.mark.parametrize(("cpms", "station"), PAIRS)
def test_a_day_of_a_stranger_with_a_stranger(story: Story, cpms: str, station: str) -> None:
    answers = story.answers[cpms, station]
    assert tuple(answers) == DAY
    assert answers["BootNotification"]["status"] == "Accepted"
    assert answers["Authorize"] == {"idTagInfo": {"status": "Accepted"}}
    assert answers["StartTransaction"]["transactionId"] == 4711
    assert answers["MeterValues"] == {}


@pytest.mark.parametrize("cpms", NODE_STACKS)
def test_a_cpms_was_asked_everything_once_and_found_no_fault(story: Story, cpms: str) -> None:
    system = story.cpms[cpms]
    assert system.failed == []
    assert Counter(system.handled) == dict.fromkeys(DAY, len(STACKS))


@pytest.mark.parametrize(("cpms", "station"), PAIRS)
def test_the_engine_was_told_of_each_day(story: Story, cpms: str, station: str) -> None:
    asset = f"{cpms}-{station}"
    told = [t for t in story.engine.got["Transaction"] if t["assetId"] == asset]
    assert [told[0]["transactionState"], told[-1]["transactionState"]] == ["Started", "Ended"]
    assert {t["driverId"] for t in told} == {TOKENS[station]}
    assert len({t["transactionId"] for t in told}) == 1
    assert story.engine.registers(asset)[-1] == STOPPED_WH


def test_nobody_complained(story: Story) -> None:
    assert story.engine.faults == []
    assert story.exit == 0
    assert "Traceback" not in story.log
    assert not [token for token in TOKENS.values() if token in story.log]
