"""What an operator may do, over the admin side's paths, with a real store and no station: refusals, memory, and what is left."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor

from broker import status
from broker.fallback import FOREVER
from broker.leases import Lease
from broker.model.basics import Key
from broker.model.records import Fact, Record
from broker.model.schedules import Step
from broker.net.actions import Actions
from broker.net.admin import Views, site
from broker.net.admin_web import MOST_BODY
from broker.net.letters import DeadLetters, Lettered
from broker.net.operator import PATIENCE_S, Operator
from broker.net.store import Store
from broker.net.tailing import Tails
from broker.operating import release_fact
from broker.settings import EngineSettings, EvseSettings, Settings, StationSettings, TenantSettings
from broker.shown import letter_lines, station_page

NOW = 1_800_000_000.0
BEARER = {"Authorization": "Bearer t"}
clock: Any = reactor
LIMIT = {"amps": 16, "for_s": 900}


class Line:
    """A link, as far as an operator sees one."""

    def __init__(self, hears: bool = True) -> None:
        self.hears = hears
        self.told: list[Fact] = []

    def steer(self, facts: tuple[Fact, ...]) -> bool:
        self.told += facts
        return self.hears

    def explain(self) -> dict[str, Any]:
        return {"limits": {"1": {}}}


class Desk:
    """An admin side over real HTTP on loopback."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(str(folder / "store.sqlite"), clock, ledger=Lettered)
        self.links: Any = {}
        self.again: list[Any] = []
        modes = {"A": "smart-charging", "B": "smart-charging", "Sh": "shadow", "Re": "relay", "Dr": "driver-identification"}
        stations = {
            id: StationSettings(id, mode, "hq", "ac", (EvseSettings(1, f"{id}-1"), EvseSettings(2, f"{id}-2")))  # type: ignore[arg-type]
            for id, mode in modes.items()
        }
        engine = EngineSettings("http://engine", "acme", "secret")
        settings = Settings(tenants={"acme": TenantSettings("acme", "ws://cpms", engine=engine, stations=stations)})
        self.wall = NOW
        self.operator = Operator(lambda: settings, self.links, self.store, self.again.append, lambda: self.wall, clock)
        tails = Tails(self.links, clock, lambda: NOW, lambda _: True)
        none: Any = None

        def station(tenant: str, id: str) -> Any:
            return status.station(settings, None, Key(tenant, id))

        views = Views(none, none, none, station, none, actions=Actions(self.operator, tails, DeadLetters(self.store, lambda: settings)))
        self.port = clock.listenTCP(0, site(views, "t"), interface="127.0.0.1")

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] = BEARER) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.port.getHost().port}/api/v1{path}"
        answer = await treq.request(method, url, headers=headers, data=data, persistent=False)
        return answer.code, json.loads(await answer.content())

    async def facts(self, station: str) -> dict[str, Any]:
        return {fact.name: fact.value for fact in await self.store.facts(Key("acme", station))}

    async def stands(self, station: str, id: int, until: float) -> None:
        lease = Lease(id, 1, "max", 1, until, "s", (Step(0.0, 8.0),), 20.0, (Step(0.0, 20.0),), 0.0)
        await self.store.write(Key("acme", station), (), (lease.fact(),))


@asynccontextmanager
async def desk(folder: Path, stored: bool = True) -> AsyncIterator[Desk]:
    one = Desk(folder)
    if stored:
        await one.store.start()
    try:
        yield one
    finally:
        await one.port.stopListening()
        await one.store.stop()


@pytest_twisted.ensureDeferred
async def test_a_limit_is_on_disk_before_it_is_answered_and_told_to_the_link(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        line = here.links[Key("acme", "A")] = Line()
        code, said = await here.ask("POST", "/stations/acme/A/limit", {**LIMIT, "evse": 2})
        assert (code, said["state"], said["evses"], said["until"]) == (200, "heard", [2], "2027-01-15T08:15:00.000Z")
        assert await here.facts("A") == {"limit-2": {"amps": 16.0, "since": NOW, "until": NOW + 900}}
        assert [fact.name for fact in line.told] == ["limit-2"]
        assert here.operator.orders(Key("acme", "A")) == tuple(line.told)
        code, said = await here.ask("DELETE", "/stations/acme/A/limit")
        assert (code, said["state"]) == (200, "heard")
        assert await here.facts("A") == {}
        assert [fact.value for fact in here.operator.orders(Key("acme", "A"))] == [None, None]


@pytest_twisted.ensureDeferred
async def test_one_that_is_away_or_speaks_no_known_version_is_said_so(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        here.links[Key("acme", "B")] = Line(hears=False)
        assert (await here.ask("POST", "/stations/acme/A/limit", LIMIT))[1]["state"] == "away"
        assert (await here.ask("POST", "/stations/acme/B/limit", LIMIT))[1]["state"] == "deaf"
        assert set(await here.facts("A")) == {"limit-1", "limit-2"}


def refusals() -> Iterator[tuple[str, str, Any, int, str]]:
    for station, mode in (("Sh", "shadow"), ("Re", "relay"), ("Dr", "driver-identification")):
        yield "POST", f"/stations/acme/{station}/limit", LIMIT, 409, f'is in mode "{mode}"'
        yield "DELETE", f"/stations/acme/{station}/limit", None, 409, f'is in mode "{mode}"'
        yield "POST", f"/stations/acme/{station}/release", None, 409, f'is in mode "{mode}"'
    yield "POST", "/stations/acme/none/limit", LIMIT, 404, "not in the station list"
    yield "POST", "/stations/none/A/limit", LIMIT, 404, "not in the station list"
    yield "POST", "/stations/acme/A/limit", b"{", 400, "say {"
    yield "POST", "/stations/acme/A/limit", b"[" * 4000, 400, "say {"
    yield "POST", "/stations/acme/A/limit", b" " * 5000, 400, "say {"
    yield "POST", "/stations/acme/A/limit", None, 400, "say {"
    yield "POST", "/stations/acme/A/limit", {**LIMIT, "amps": -1}, 400, "amps: must be"
    yield "GET", "/stations/acme/A/limit", None, 405, "only POST, DELETE"
    yield "POST", "/stations/acme/A/tail", None, 405, "only GET"
    yield "POST", "/stations/acme/A", None, 405, "only GET"
    yield "PUT", "/stations/acme/A/limit", LIMIT, 405, "only GET"
    yield "POST", "/stations/acme/A/other", None, 404, "no such path"
    yield "POST", "/tenants/acme/other", None, 404, "no such path"
    yield "POST", "/tenants/acme", None, 404, "no such path"
    yield "GET", "/tenants/none/shadow-report", None, 404, "there is no tenant none"
    yield "POST", "/tenants/acme/shadow-report", None, 405, "only GET"
    yield "POST", "/tenants/none/release", None, 404, "there is no tenant none"


@pytest.mark.parametrize(("method", "path", "body", "status", "why"), list(refusals()))
@pytest_twisted.ensureDeferred
async def test_what_is_not_done_says_why_and_changes_nothing(
    tmp_path: Path, method: str, path: str, body: Any, status: int, why: str
) -> None:
    async with desk(tmp_path) as here:
        code, said = await here.ask(method, path, body)
        assert (code, why in said["error"]["message"]) == (status, True), said
        assert "\n" not in said["error"]["message"]
        for station in ("A", "B", "Sh", "Re", "Dr"):
            assert await here.facts(station) == {}
        code, _ = await here.ask(method, path, body, headers={})
        assert code in (401, 405)


@pytest_twisted.ensureDeferred
async def test_released_is_remembered_and_what_stands_is_counted_until_it_is_gone(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await here.stands("A", 11, NOW + 600)
        await here.stands("B", 21, NOW - 10_000)  # ended by itself
        await here.stands("Sh", 31, NOW + 60)  # from before its mode was changed
        await here.ask("POST", "/stations/acme/A/limit", LIMIT)
        line = here.links[Key("acme", "A")] = Line()
        code, said = await here.ask("POST", "/tenants/acme/release")
        assert (code, said["released"], said["left"]) == (200, True, 2)
        assert said["stations"] == [
            {"station": "acme/A", "state": "clearing", "profiles": ["11"], "until": "2027-01-15T08:10:00.000Z"},
            {"station": "acme/Sh", "state": "away", "profiles": ["31"], "until": "2027-01-15T08:01:00.000Z"},
        ]
        assert [(fact.name, fact.value) for fact in line.told] == [("released", {"at": NOW})]
        assert set(await here.facts("A")) == {"11", "released"}  # the operator's own limit goes too
        assert "released" in await here.facts("B")
        code, said = await here.ask("POST", "/stations/acme/A/limit", LIMIT)
        assert (code, said["error"]["code"]) == (409, "released")
        await here.store.write(Key("acme", "A"), (), (Fact("lease", "11", None),))
        here.wall += 1000
        assert (await here.ask("GET", "/tenants/acme/release"))[1] == {"left": 0, "stations": []}
        assert here.again == []
        assert (await here.ask("DELETE", "/stations/acme/A/release"))[1]["released"] is False
        assert here.again == [line]
        assert "released" not in await here.facts("A")
        assert "released" in await here.facts("B")
        assert (await here.ask("POST", "/stations/acme/A/limit", LIMIT))[0] == 200


@pytest_twisted.ensureDeferred
async def test_of_a_station_that_is_away_it_is_said_what_of_ours_stands_there(tmp_path: Path) -> None:
    def page(said: Any) -> list[str]:
        return station_page(said)[4:]

    async with desk(tmp_path) as here:
        code, said = await here.ask("GET", "/stations/acme/A")
        assert (code, said["left"]) == (200, {"profiles": [], "operator": [], "released": None})
        assert page(said) == ["  nothing of ours stands there"]
        await here.stands("A", 11, NOW + 600)
        await here.stands("A", 12, NOW - 10_000)  # ended by itself
        endless = Lease(13, 2, "default", 0, FOREVER, "fallback", (Step(NOW + 5, 6.0),), 6.0, (), NOW, sure=True)
        await here.store.write(Key("acme", "A"), (), (endless.fact(),))
        await here.ask("POST", "/stations/acme/A/limit", {**LIMIT, "evse": 2})
        assert page((await here.ask("GET", "/stations/acme/A"))[1]) == [
            "  ours may stand there, EVSE 1: 8 A as max, profile 11, until 2027-01-15T08:10:00.000Z",
            "  ours stands there, EVSE 2: no limit now as default, profile 13, without an end",
            "  operator, EVSE 2: at most 16 A until 2027-01-15T08:15:00.000Z",
        ]
        assert page((await here.ask("GET", "/stations/acme/B"))[1]) == ["  nothing of ours stands there"]
        await here.ask("POST", "/stations/acme/B/release")
        assert page((await here.ask("GET", "/stations/acme/B"))[1])[1].startswith("  released since 2027-01-15T08:00:00.000Z")
        assert (await here.ask("GET", "/stations/acme/nobody"))[0] == 404
    async with desk(tmp_path, stored=False) as here:
        code, said = await here.ask("GET", "/stations/acme/A")
        assert (code, said["state"], said["left"]) == (200, "away", None)
        assert page(said) == ["  what of ours stands there is not known: the store does not answer"]


@pytest_twisted.ensureDeferred
async def test_a_disk_that_refuses_or_hangs_keeps_nobody_from_ordering_and_the_answer_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk(tmp_path, stored=False) as here:
        await _orders_without_a_disk(here)
    monkeypatch.setattr("broker.net.operator.PATIENCE_S", 0.05)
    async with desk(tmp_path) as here:
        hangs = Event()
        waited = here.store.ask(lambda _: hangs.wait(30))
        try:
            await _orders_without_a_disk(here)
        finally:
            hangs.set()
        await waited
        assert await here.facts("A") == {"released": {"at": NOW}}, "it was written when the disk answered again"


class Waits:
    """A reactor that notes for how long somebody waits, and keeps nobody waiting."""

    def __init__(self) -> None:
        self.said: list[float] = []

    def callLater(self, seconds: float, *call: Any) -> Any:
        self.said.append(seconds)
        return clock.callLater(0, *call)


@pytest_twisted.ensureDeferred
async def test_a_release_of_many_waits_once_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.operator.AT_ONCE", 1)
    async with desk(tmp_path) as here:
        waits = here.operator._reactor = Waits()
        hangs = Event()
        waited = here.store.ask(lambda _: hangs.wait(30))
        try:
            assert (await here.operator.release("acme", None, undo=False))["stored"] is False
        finally:
            hangs.set()
        await waited
        assert waits.said == [PATIENCE_S, PATIENCE_S, 0.0], "for what of ours is left, for the first station's order, for the second's"


async def _orders_without_a_disk(here: Desk) -> None:
    line = here.links[Key("acme", "A")] = Line()
    code, said = await here.ask("POST", "/stations/acme/A/limit", {**LIMIT, "evse": 2})
    assert (code, said["stored"], said["state"]) == (200, False, "heard")
    assert [fact.name for fact in line.told] == ["limit-2"]
    code, said = await here.ask("DELETE", "/stations/acme/A/limit")
    assert (code, said["stored"], [fact.value for fact in line.told[1:]]) == (200, False, [None, None])
    code, said = await here.ask("POST", "/tenants/acme/release")
    assert (code, said) == (200, {"released": True, "stored": False, "left": None, "stations": []})
    assert line.told[3:] == [release_fact(NOW)]
    code, said = await here.ask("POST", "/stations/acme/A/limit", LIMIT)
    assert (code, said["error"]["code"]) == (409, "released"), "what was ordered since the start is known"
    for path in ("/tenants/acme/release", "/tenants/acme/shadow-report"):
        code, said = await here.ask("GET", path)
        assert (code, said["error"]["code"]) == (503, "store")
    code, said = await here.ask("GET", "/stations/acme/B")
    assert (code, said["left"]) == (200, None)


@pytest_twisted.ensureDeferred
async def test_a_body_that_does_not_end_ends_its_connection_whoever_sends_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        with pytest.raises(Exception, match=r"ResponseNeverReceived|RequestTransmissionFailed|Connection"):
            await here.ask("POST", "/stations/acme/A/limit", b" " * (MOST_BODY + 1), headers={})
        assert (await here.ask("GET", "/tenants/acme/release"))[0] == 200


REFUSED = {"site_id": "hq", "assetId": "A-1", "transactionId": "t-1", "driverId": "BADGE-7", "evse": 1}


@pytest_twisted.ensureDeferred
async def test_dead_letters_are_seen_told_again_and_thrown_away(tmp_path: Path) -> None:
    async with desk(tmp_path) as here:
        await _some_dead(here)
        path = "/tenants/acme/dead-letters"
        assert (await here.ask("GET", path, headers={}))[0] == 401
        code, said = await here.ask("GET", f"{path}?limit=2")
        assert (code, said["total"], len(said["letters"]), said["next"]) == (200, 3, 2, 2)
        assert said["letters"][0]["body"] == {**REFUSED, "driverId": "<7 characters>"}
        assert "BADGE-7" not in json.dumps(said)
        assert "BADGE-7" not in "\n".join(letter_lines(said["letters"]))
        code, said = await here.ask("GET", f"{path}?after=2&limit=2")
        assert ([one["id"] for one in said["letters"]], said["next"]) == ([3], None)
        for method, wrong in (("GET", "?limit=0"), ("GET", "?limit=1001"), ("GET", "?after=x"), ("POST", ""), ("DELETE", "?id=-1")):
            assert (await here.ask(method, f"{path}{wrong}"))[0] == 400
        assert (await here.ask("DELETE", f"{path}?id=99"))[1]["error"]["code"] == "unknown-letter"
        assert (await here.ask("POST", f"{path}?id=2"))[1] == {"tenant": "acme", "replayed": 1, "left": 2}
        assert (await here.ask("DELETE", f"{path}?id=all"))[1] == {"tenant": "acme", "dropped": 2, "left": 0}
        assert (await here.ask("GET", "/tenants/beta/dead-letters"))[0] == 404


async def _some_dead(here: Desk) -> None:
    await here.store.write(Key("acme", "A"), tuple(Record(f"k-{n}", "transaction", REFUSED) for n in range(3)), ())
    for seq in (1, 2, 3):
        await here.store.dead(seq, "422 assetId value_error")
