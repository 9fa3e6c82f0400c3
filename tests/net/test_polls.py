"""The polls for schedules of one tenant, on a wound clock: how often an engine is asked, and what it says twice."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from broker.engine.v1 import V1
from broker.net.polls import POLL_FLOOR_S, Polls
from broker.settings import EngineSettings, EvseSettings, StationSettings, TenantSettings

ENGINE = EngineSettings("http://engine", "acme", "secret")
BAD = {"id": "s-1", "asset_id": "A-1", "issued_at": "2026-01-10T06:00:00Z", "valid_until": "2126-01-10T06:00:00Z", "periods": []}


class Busy(Exception):
    retry_after: float | None = None


class Desk:
    """An engine, a store, and the polls between them."""

    def __init__(self) -> None:
        stations = {"CS-1": StationSettings("CS-1", "smart-charging", "hq", evses=(EvseSettings(1, "A-1"),))}
        tenant = TenantSettings("acme", "ws://cpms", engine=ENGINE, sites=("hq",), stations=stations)
        self.clock = Clock()
        self.asked: list[float] = []
        self.says: Any = {"schedules": [], "cursor": "1"}
        self.written: list[Any] = []
        mine: Any = self
        self.polls = Polls(
            tenant, mine, mine, V1(ENGINE), self.clock, deliver=self.written.append, reached=lambda: None, jitter=lambda: 0.5,
            wall=lambda: 1_800_000_000.0,
        )  # fmt: skip
        self.polls.start()

    def schedules(self, site: str, cursor: str | None, wait: float) -> Deferred[Any]:
        self.asked.append(self.clock.seconds())
        return fail(self.says) if isinstance(self.says, Exception) else succeed(self.says)

    def write(self, key: Any, records: Any, facts: Any) -> Deferred[None]:
        self.written += records
        return succeed(None)


@pytest.mark.parametrize(("wants", "pause"), [(None, 1.0), (0.2, 1.0), (30.0, 30.0)])
def test_an_engine_that_says_when_to_come_again_is_left_alone_until_then(wants: float | None, pause: float) -> None:
    desk = Desk()
    desk.says = Busy()
    desk.says.retry_after = wants
    desk.clock.advance(POLL_FLOOR_S)
    failed = desk.clock.seconds()
    desk.clock.advance(pause - 0.01)
    assert desk.asked == [0.0, failed]
    desk.clock.advance(0.01)
    assert desk.asked == [0.0, failed, failed + pause]
    assert desk.polls.sites["hq"]["why"].startswith("schedules of hq: ")


def test_a_schedule_that_is_refused_is_written_down_once_and_another_one_too() -> None:
    desk = Desk()
    desk.says = {"schedules": [BAD], "cursor": "1"}
    for _ in range(3):
        desk.clock.advance(POLL_FLOOR_S)
    assert len(desk.asked) == 4
    assert [(record.kind, record.body["schedule_id"]) for record in desk.written] == [("outcome", "s-1")]
    desk.says = {"schedules": [BAD, {**BAD, "id": "s-2"}], "cursor": "1"}
    desk.clock.advance(POLL_FLOOR_S)
    assert [record.body["schedule_id"] for record in desk.written] == ["s-1", "s-2"]


def test_what_is_planned_anew_for_ever_is_logged_once_for_each_asset(logged: list[str]) -> None:
    desk = Desk()
    for turn in range(30):
        desk.says = {"schedules": [{**BAD, "id": f"s\n{turn}", "asset_id": asset} for asset in ("gone", "new\nline")], "cursor": "1"}
        desk.clock.advance(POLL_FLOOR_S)
    assert len(desk.written) == 60
    assert logged == [
        f"acme: schedule 's\\n0' of the engine for {asset} is refused, and so will be all like it: asset_id: no such asset here"
        for asset in ("gone", r"'new\nline'")
    ]
