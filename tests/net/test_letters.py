"""What an engine refused: seen without a driver's name, told again with the same key behind what came since, or thrown away."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from wires import soon

from broker.counts import Counts
from broker.engine.v1 import V1
from broker.masking import engine_body
from broker.model.basics import Key
from broker.model.records import Record
from broker.net import letters as letters_module
from broker.net.engine_http import EngineClient
from broker.net.ledger import MOST_DEAD
from broker.net.letters import DeadLetters, Lettered
from broker.net.store import Store
from broker.net.uplink import Uplink
from broker.settings import EngineSettings, Settings, TenantSettings
from broker.shown import letter_lines

BODY = {"site_id": "hq", "assetId": "A-1", "transactionId": "t-1", "transactionState": "Started", "driverId": "BADGE-7", "evse": 1}


def record(key: str, kind: Any = "transaction", **more: Any) -> Record:
    return Record(key, kind, {**BODY, **more})


class Engine(Resource):
    """Real HTTP on loopback. What it refuses it refuses with 422; it keeps the key of whatever it takes."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()
        self.taken: list[tuple[str, str]] = []  # asset, key
        self.tried: list[str] = []
        site = Site(self)
        site.log = lambda request: None
        self.port = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.port.getHost().port}"

    def render_POST(self, request: Request) -> bytes:
        if request.path.endswith(b"login"):
            return json.dumps({"access_token": "t", "expires_in": 3600}).encode()
        assert request.content is not None
        key, body = str(request.getHeader("idempotency-key")), json.loads(request.content.read())
        self.tried.append(key)
        if key in self.refused:
            request.setResponseCode(422)
            said = {"loc": ["body", "assetId"], "msg": "BADGE-7 is unknown", "type": "value_error"}
            return json.dumps({"detail": [said]}).encode()
        self.taken.append((body["assetId"], key))
        return b"{}"


class World:
    """A store, an engine that refuses, an uplink between them, and the dead letters."""

    def __init__(self, folder: Path) -> None:
        self.engine, self.counts, self.path = Engine(), Counts(), folder / "s"
        self.store = Store(str(self.path), reactor, counts=self.counts, ledger=Lettered)
        engine = EngineSettings(self.engine.url, "demo", "demo-secret")
        self.tenant = TenantSettings("acme", "ws://cpms", engine=engine)
        codec = V1(engine)
        self.uplink = Uplink(
            self.tenant, self.store, EngineClient(engine, codec, reactor), codec, reactor,
            deliver=lambda _: None, counts=self.counts, jitter=lambda: 0.02,
        )  # fmt: skip
        self.letters = DeadLetters(self.store, lambda: Settings(tenants={"acme": self.tenant}))

    async def write(self, station: str, *keys: str) -> None:
        await self.store.write(Key("acme", station), tuple(record(key, assetId=station) for key in keys), ())

    async def dead(self) -> list[str]:
        return [one["key"] for one in (await self.letters.listed("acme", 0, 1000))["letters"]]

    async def settled(self) -> None:
        assert await soon(lambda: self.store.pending().get("acme", (0, None))[0] == 0, 10)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    one = World(folder)
    await one.store.start()
    one.uplink.start()
    try:
        yield one
    finally:
        await one.uplink.stop()
        await one.store.stop()
        await one.engine.port.stopListening()


@pytest_twisted.ensureDeferred
async def test_what_was_refused_is_told_again_with_its_key_behind_what_came_since(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.engine.refused = {"k-1", "k-3"}
        await here.write("CS-1", "k-1", "k-2", "k-3")
        await here.settled()
        assert await here.dead() == ["k-1", "k-3"]
        here.engine.refused = set()
        await here.write("CS-1", "k-4")
        assert await here.letters.replay("acme", None) == {"tenant": "acme", "replayed": 2, "left": 0}
        await here.settled()
        assert [key for _, key in here.engine.taken] == ["k-2", "k-4", "k-1", "k-3"]
        assert await here.dead() == []


@pytest_twisted.ensureDeferred
async def test_what_is_refused_again_dies_again_and_is_not_told_for_ever(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.engine.refused = {"k-1"}
        await here.write("CS-1", "k-1")
        await here.settled()
        await here.letters.replay("acme", None)
        await here.settled()
        assert await soon(lambda: here.engine.tried == ["k-1", "k-1"])
        (one,) = (await here.letters.listed("acme", 0, 10))["letters"]
        assert one["why"] == "422 body.assetId: value_error"
        assert one["id"] > 1


@pytest_twisted.ensureDeferred
async def test_one_of_them_by_its_id_and_a_wrong_id_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.engine.refused = {"k-1", "k-2"}
        await here.write("CS-1", "k-1", "k-2")
        await here.settled()
        ids = [one["id"] for one in (await here.letters.listed("acme", 0, 10))["letters"]]
        here.engine.refused = set()
        assert (await here.letters.replay("acme", ids[1]))["left"] == 1
        await here.settled()
        assert [key for _, key in here.engine.taken] == ["k-2"]
        for act in (here.letters.replay, here.letters.drop):
            with pytest.raises(letters_module.Refused, match="there is no dead letter 9999"):
                await act("acme", 9999)
            with pytest.raises(letters_module.Refused, match="there is no tenant beta"):
                await act("beta", None)
        assert await here.dead() == ["k-1"]
        assert await here.letters.drop("acme", None) == {"tenant": "acme", "dropped": 1, "left": 0}
        assert await here.letters.replay("acme", None) == {"tenant": "acme", "replayed": 0, "left": 0}


@pytest_twisted.ensureDeferred
async def test_a_key_that_waits_already_is_told_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        here.engine.refused = {"k-1"}
        await here.write("CS-1", "k-1")
        await here.settled()
        await here.uplink.stop()
        await here.write("CS-1", "k-1")  # the station said it again
        assert (await here.letters.replay("acme", None))["replayed"] == 0
        assert here.store.pending()["acme"][0] == 1
        assert await here.dead() == []


@pytest_twisted.ensureDeferred
async def test_many_are_moved_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters_module, "AT_ONCE", 7)
    async with world(tmp_path) as here:
        await here.uplink.stop()
        await here.write("CS-1", *(f"k-{n}" for n in range(40)))
        for seq in range(1, 41):
            await here.store.dead(seq, "422")
        assert (await here.letters.replay("acme", None))["replayed"] == 40
        rows = await here.store.rows("acme", 40, 100)
        assert [row.key for row in rows] == [f"k-{n}" for n in range(40)]


@pytest_twisted.ensureDeferred
async def test_what_dies_again_while_others_are_moved_is_not_moved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters_module, "AT_ONCE", 1)
    async with world(tmp_path) as here:
        await here.uplink.stop()
        await here.write("CS-1", "k-1", "k-2", "k-3")
        for seq in (1, 2, 3):
            await here.store.dead(seq, "422")
        new = iter(range(4, 1000))
        here.store.on_written.append(lambda _: here.store.dead(next(new), "422") and None)
        replaying = ensureDeferred(here.letters.replay("acme", None)).addTimeout(10, reactor)  # type: ignore[arg-type]
        assert (await replaying)["replayed"] == 3
        assert [one["id"] for one in (await here.letters.listed("acme", 0, 9))["letters"]] == [4, 5, 6]


@pytest_twisted.ensureDeferred
async def test_one_tenants_are_no_business_of_another(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.uplink.stop()
        await here.store.write(Key("beta", "CS-1"), (record("k-1"),), ())
        await here.store.dead(1, "422")
        assert await here.letters.drop("acme", None) == {"tenant": "acme", "dropped": 0, "left": 0}
        assert await here.letters.replay("acme", None) == {"tenant": "acme", "replayed": 0, "left": 0}
        for act in (here.letters.replay, here.letters.drop):
            with pytest.raises(letters_module.Refused, match="no dead letter 1"):
                await act("acme", 1)
        assert await here.dead() == []
        assert here.letters.counts == {"beta": 1}


@pytest_twisted.ensureDeferred
async def test_what_was_damaged_on_the_disk_is_not_told_and_shows_no_rubbish(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.uplink.stop()
        await here.write("CS-1", "k-1")
        await here.store.stop()
        with sqlite3.connect(here.path) as db:
            db.execute("UPDATE outbox SET body = CAST(x'ff007b' AS TEXT), station = x'fffe'")
        db.close()
        again = Store(str(here.path), reactor, ledger=Lettered)
        await again.start()
        letters = DeadLetters(again, lambda: Settings(tenants={"acme": here.tenant}))
        assert await again.rows("acme", 0, 10) == []
        (one,) = (await letters.listed("acme", 0, 10))["letters"]
        assert one["why"] == "damaged on disk"
        json.dumps(one).encode()
        assert await letters.replay("acme", None) == {"tenant": "acme", "replayed": 0, "left": 1}
        assert (await letters.drop("acme", one["id"]))["left"] == 0
        await again.stop()


@pytest_twisted.ensureDeferred
async def test_they_are_an_alarm_until_none_is_left(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        assert here.letters.look() == {"dead-letters": {}}
        here.engine.refused = {"k-1"}
        await here.write("CS-1", "k-1")
        await here.settled()
        assert await soon(lambda: here.letters.look()["dead-letters"])
        assert "`ocppbroker dead-letters acme`" in here.letters.look()["dead-letters"]["acme"]
        await here.letters.drop("acme", None)
        assert here.letters.look() == {"dead-letters": {}}
    here.letters.look()  # the store is closed: nothing comes of it
    with pytest.raises(letters_module.Refused, match="the store refuses"):
        await here.letters.listed("acme", 0, 10)


@given(
    st.dictionaries(st.text(max_size=20), st.recursive(st.text() | st.integers() | st.booleans(), lambda one: st.lists(one), max_leaves=5))
)
def test_of_a_body_only_what_is_known_to_be_harmless_is_shown(body: dict[str, Any]) -> None:
    shown = engine_body(json.dumps({**body, "driverId": "BADGE-7", "note": {"driver": "BADGE-7", "site_id": "BADGE\x1b[31m"}}))
    assert "BADGE" not in json.dumps(shown)
    for key, value in body.items():
        if isinstance(value, str) and value and key not in ("driverId", "note"):
            assert shown[key] == f"<{len(value)} characters>" or key in ("site_id", "status", "type")
    assert engine_body("{") == {"unreadable": 1}
    assert engine_body("[" * 100_000) == {"unreadable": 100_000}


def test_no_more_are_kept_than_may_be() -> None:
    assert MOST_DEAD == 10_000, "one page of the console asks for a thousand: ten are enough"


def test_none_is_said_so() -> None:
    assert letter_lines([]) == ["no dead letters"]
