"""Observers that change under links that live: on real loopback TCP, between a raw station and a raw CPMS."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from fakes import nap
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from wires import House, reactor, soon

from broker.engine.v1 import V1
from broker.leases import Lease
from broker.leaving import Leaving
from broker.model.basics import Key
from broker.model.records import Fact
from broker.model.schedules import Schedule, Step
from broker.net import seating as module
from broker.net.link import Link
from broker.net.seating import Seating
from broker.observer import Identifying, Watching
from broker.settings import ChargingSettings, EngineSettings, EvseSettings, StationSettings

ENGINE = EngineSettings("http://127.0.0.1:1", "acme", "secret")
PLAN = Schedule("plan", "socket", 1.6e9, 9e9, "A", (Step(1.6e9, 10.0),))
LEASE = Lease(7, 1, "max", 1, 9e9, "plan", (Step(1.6e9, 10.0),), 16.0, (Step(1.6e9, 16.0),), 1.6e9, sure=True).fact()


def station(mode: Any, max_amps: float = 32.0, asset: str = "socket") -> dict[str, StationSettings]:
    return {"CS-7": StationSettings("CS-7", mode, "hq", "ac", (EvseSettings(1, asset, max_amps),))}


class Seated(House):
    """A house whose settings a test changes, then says `seating.settle_all()`."""

    def __init__(self) -> None:
        super().__init__()
        self.tenant = {"engine": ENGINE, "stations": station("shadow")}
        self.facts: list[Fact] = []
        self.asked = 0
        self.answers: Any = self.stored
        self.seating = Seating(
            self.links, reactor, settings=self.settings, codecs=lambda: {"acme": V1(ENGINE)}, facts=self.read, latest=lambda *_: PLAN
        )

    def read(self, key: Key) -> Deferred[list[Fact]]:
        self.asked += 1
        return self.answers()

    def stored(self) -> Deferred[list[Fact]]:
        return succeed(list(self.facts))

    async def link(self) -> tuple[Any, Any, Link]:
        """A station that sits where the settings want it."""
        ends = await self.open()
        (link,) = self.links
        link.place = None
        self.seating.settle(link)
        assert await soon(lambda: link.observer is not None or self.tenant["stations"]["CS-7"].mode == "relay")
        return *ends, link

    def become(self, **tenant: Any) -> None:
        self.tenant = {**self.tenant, **tenant}
        self.seating.settle_all()


@pytest_twisted.async_yield_fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Seated]:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    async with Seated() as house:
        yield house


@pytest_twisted.ensureDeferred
async def test_each_mode_has_its_observer_and_the_link_stays(house: Seated) -> None:
    _, _, link = await house.link()
    for mode, kind in (("driver-identification", Identifying), ("smart-charging", Watching), ("relay", type(None)), ("shadow", Watching)):
        house.become(stations=station(mode))
        assert await soon(lambda kind=kind: type(link.observer) is kind), mode
        assert not link.over


@pytest_twisted.ensureDeferred
async def test_who_limits_is_vouched_for_by_the_engines_answers_about_the_station_s_own_site(house: Seated) -> None:
    _, _, link = await house.link()
    house.seating._heard = lambda tenant, site: {("acme", "hq"): 5.0}.get((tenant, site or ""))
    house.become(stations=station("smart-charging"))
    assert await soon(lambda: getattr(link.observer, "_injector", None) is not None and not link.observer._injector._shadow)
    observer: Any = link.observer
    assert observer._injector._engine_heard() == 5.0


@pytest_twisted.ensureDeferred
async def test_what_has_not_changed_keeps_its_observer(house: Seated) -> None:
    _, _, link = await house.link()
    before, asked = link.observer, house.asked
    house.become(unlisted="refuse")
    assert link.observer is before
    assert house.asked == asked
    house.become(charging=ChargingSettings(min_amps=8.0))
    assert await soon(lambda: link.observer is not before)


@pytest_twisted.ensureDeferred
async def test_the_newest_schedule_is_told_to_the_new_observer(house: Seated) -> None:
    _, _, link = await house.link()
    house.become(stations=station("smart-charging"))
    assert await soon(lambda: link.explain().get("limits", {}).get("1", {}).get("asked"))
    assert link.explain()["limits"]["1"]["asked"]["schedule"] == "plan"


@pytest_twisted.ensureDeferred
async def test_what_was_learned_while_the_store_was_asked_is_read_again(house: Seated) -> None:
    _, _, link = await house.link()
    before, slow = link.observer, Deferred[list[Fact]]()
    house.answers = lambda: slow
    house.become(stations=station("smart-charging"))
    link.facts_written += 1
    house.answers, house.facts = house.stored, [LEASE]
    slow.callback([])
    assert await soon(lambda: link.observer is not before)
    assert link.explain()["limits"]["1"]["sent"]["profile"] == 7, "the lease of the second reading"


@pytest_twisted.ensureDeferred
async def test_a_store_that_fails_or_hangs_keeps_nobody_waiting(house: Seated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_S", 0.05)
    _, _, link = await house.link()
    for answers in (lambda: fail(OSError("disk")), Deferred):
        house.answers = answers
        before = link.observer
        house.become(stations=station("shadow", max_amps=float(house.asked + 6)))
        assert await soon(lambda before=before: link.observer is not before)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("mode", ["relay", "driver-identification", "shadow"])
async def test_leaving_smart_charging_clears_ours_by_its_id(house: Seated, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.leaving.SETTLE_S", 0.0)
    house.tenant["stations"] = station("smart-charging")
    peer, cpms, link = await house.link()
    house.facts = [LEASE]
    house.become(stations=station(mode))
    assert await soon(lambda: isinstance(link.observer, Leaving))
    peer.send(b'[2,"h","Heartbeat",{}]')  # the proof that both ends live
    assert await soon(lambda: cpms.texts)
    cpms.send(b'[3,"h",{}]')
    assert await soon(lambda: any(b"ClearChargingProfile" in text for text in peer.texts))
    call = json.loads(next(text for text in peer.texts if b"ClearChargingProfile" in text))
    assert call[3] == {"id": 7}
    peer.send(json.dumps([3, call[1], {"status": "Accepted"}]).encode())
    assert await soon(lambda: isinstance(link.observer, Leaving) and link.observer.done)
    assert [write.facts for _, write in house.world.written if write.facts][-1] == (Fact("lease", "7", None),)
    assert all(b"SetChargingProfile" not in text for text in peer.texts)


@pytest_twisted.ensureDeferred
async def test_a_relayed_station_that_comes_back_with_ours_on_it_is_freed_of_it(house: Seated) -> None:
    house.tenant["stations"], house.facts = station("relay"), [LEASE]
    await house.open()
    (link,) = house.links
    house.seating.opened(link)
    assert await soon(lambda: isinstance(link.observer, Leaving))


@pytest_twisted.ensureDeferred
async def test_who_is_not_allowed_any_more_is_closed_at_a_quiet_moment(house: Seated) -> None:
    peer, cpms, link = await house.link()
    peer.send(b'[2,"1","Heartbeat",{}]')
    assert await soon(lambda: cpms.texts)
    house.become(stations={}, unlisted="refuse")
    await nap(0.2)
    assert peer.closes == [], "its CALL is not answered yet"
    cpms.send(b'[3,"1",{}]')
    assert await soon(lambda: peer.closes)
    assert peer.texts == [b'[3,"1",{}]']
    assert peer.closes[0][0] == cpms.closes[0][0] == 1008
    assert link.over


@pytest_twisted.ensureDeferred
async def test_a_busy_one_is_closed_at_the_end_all_the_same(house: Seated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GOODBYE_S", 0.2)
    peer, cpms, _ = await house.link()
    peer.send(b'[2,"1","Heartbeat",{}]')
    assert await soon(lambda: cpms.texts)
    house.become(stations={}, unlisted="refuse")
    assert await soon(lambda: peer.closes)
    assert peer.closes[0][0] == 1008


@pytest_twisted.ensureDeferred
async def test_one_that_is_taken_back_in_time_stays_and_learns_again(house: Seated) -> None:
    peer, cpms, link = await house.link()
    peer.send(b'[2,"1","Heartbeat",{}]')
    assert await soon(lambda: cpms.texts)
    house.become(stations={}, unlisted="refuse")
    assert await soon(lambda: link.observer is None)
    house.become(stations=station("smart-charging"))
    cpms.send(b'[3,"1",{}]')
    assert await soon(lambda: isinstance(link.observer, Watching))
    await nap(0.1)
    assert peer.closes == []


@pytest_twisted.ensureDeferred
async def test_frames_of_both_sides_pass_in_their_order_however_often_the_settings_change(house: Seated) -> None:
    peer, cpms, link = await house.link()
    start = b'[2,"s%d","StartTransaction",{"connectorId":1,"idTag":"T","meterStart":0,"timestamp":"2024-01-01T00:00:00Z"}]'
    mode = ("smart-charging", "relay", "driver-identification", "shadow")
    sent, told = [], []
    for n in range(60):
        sent += [start % n, b'[2,"h%d","Heartbeat",{}]' % n]
        told += [b'[2,"c%d","SetChargingProfile",{}]' % n, b'[3,"s%d",{"transactionId":%d}]' % (n, n)]
        for frame in sent[-2:]:
            peer.send(frame)
        if n % 3 == 0:
            house.become(stations=station(mode[n // 3 % 4]))
        assert await soon(lambda n=n: len(cpms.texts) >= 2 * n + 2)
        for frame in told[-2:]:
            cpms.send(frame)
        if n % 5 == 0:
            house.become(stations=station(mode[n % 4], max_amps=6.0 + n))
    assert await soon(lambda: len(peer.texts) >= len(told))
    assert cpms.texts == sent
    calls = [text for text in peer.texts if text.startswith(b"[2")]
    answers = [text for text in peer.texts if text.startswith(b"[3")]
    assert calls == [frame for frame in told if frame.startswith(b"[2")]
    assert answers == [frame for frame in told if frame.startswith(b"[3")]
    assert not link.over


@pytest_twisted.ensureDeferred
async def test_what_the_link_has_proven_need_not_be_proven_again(house: Seated) -> None:
    peer, cpms, link = await house.link()
    peer.send(b'[2,"h","Heartbeat",{}]')
    assert await soon(lambda: cpms.texts)
    cpms.send(b'[3,"h",{}]')
    assert await soon(lambda: isinstance(link.observer, Watching) and link.observer.proven)
    house.become(stations=station("smart-charging"))
    assert await soon(lambda: link.explain()["limits"]["1"]["asked"])
    assert isinstance(link.observer, Watching)
    assert link.observer.proven


@pytest_twisted.ensureDeferred
async def test_a_station_in_shadow_has_no_limit_of_ours_even_while_the_old_one_is_cleared(house: Seated) -> None:
    house.tenant["stations"] = station("smart-charging")
    _, _, link = await house.link()
    house.facts = [LEASE]
    house.become(stations=station("shadow"))
    assert await soon(lambda: isinstance(link.observer, Leaving))
    shown = link.explain()
    assert shown["withdrawing"] == [7]
    assert shown["limits"]["1"]["sent"] is None


@pytest_twisted.ensureDeferred
async def test_the_store_is_read_for_a_few_links_at_once_and_one_that_hangs_is_given_up_once(
    house: Seated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_S", 0.2)
    _, _, link = await house.link()
    house.asked, house.answers = 0, Deferred
    readings = [ensureDeferred(house.seating._known(link)) for _ in range(50)]
    await nap(0.1)
    assert house.asked == module.AT_ONCE
    for reading in readings:
        assert await reading == []
    assert house.asked == module.AT_ONCE, "the others did not wait for it again"


@pytest_twisted.ensureDeferred
async def test_frames_have_their_turn_between_links(house: Seated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_A_ROW", 1)
    _, _, link = await house.link()
    before = link.observer
    settled = house.seating.settle_all()
    assert not settled.called, "a pause after each"
    await settled
    assert link.observer is before
