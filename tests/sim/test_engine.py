"""The simulated engine: what it stores, how it plans, and that what it says fits the contract it serves."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
import pytest_twisted
import treq
from contract import API, fits
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock, deferLater

from broker.sim.engine import PERIODS, SimAsset, SimEngine
from broker.sim.plan import Charging, plan, share

AT = "2026-01-10T06:00:00.000Z"
THREE, ONE = Charging("three", 3, 32.0), Charging("one", 1, 16.0)
LEAST_3 = 6 * 3 * 230


def transaction(asset: str, state: str = "Started", uid: str = "", site: str = "hq") -> dict[str, Any]:
    return {
        "site_id": site,
        "assetId": asset,
        "transactionId": uid or f"t-{asset}",
        "timestamp": AT,
        "transactionState": state,
        "startTime": AT,
    }


def measurement(asset: str, power_w: float) -> dict[str, Any]:
    return {"site_id": "hq", "asset_id": asset, "timestamp": AT, "energyValue": 1, "powerValue": power_w}


class Desk:
    """An engine with a hand-wound clock; told things without HTTP."""

    def __init__(self, limit_w: float = 22_080.0, **more: Any) -> None:
        self.clock = Clock()
        assets = {"a": SimAsset("hq"), "b": SimAsset("hq", 1, 16.0), "c": SimAsset("hq"), "x": SimAsset("yard")}
        sites = {"hq": limit_w, "yard": 5000.0}
        self.engine = SimEngine(reactor, sites, assets, clock=self.clock, wall=lambda: 1_700_000_000.0 + self.clock.seconds(), **more)
        self.posts = 0

    def tell(self, kind: str, body: dict[str, Any]) -> int:
        self.posts += 1
        return self.engine.accept(kind, f"k-{self.posts}", body)[0]

    def limits(self, site: str = "hq") -> dict[str, float]:
        """The first period's limit of each asset with a schedule."""
        return {one["asset_id"]: one["periods"][0]["limit"] for one in self.engine.schedules(site, "")["schedules"]}


# ---------------------------------------------------------------- sharing


def test_equal_shares_with_each_ones_own_maximum() -> None:
    assert share(22_080, [THREE, ONE]) == {"three": 22_080 - 3680, "one": 3680}
    assert share(50_000, [THREE, ONE]) == {"three": 22_080, "one": 3680}
    assert share(9_000, [THREE, THREE._replace(asset="other")]) == {"three": 4500, "other": 4500}
    assert share(0, [THREE]) == {"three": 0}
    assert share(5000, []) == {}


def test_who_pauses_rotates() -> None:
    sockets = [THREE._replace(asset=name) for name in "abc"]
    seen = [{name for name, watts in share(2 * LEAST_3 + 100, sockets, turn).items() if watts} for turn in range(3)]
    assert seen == [{"a", "b"}, {"b", "c"}, {"a", "c"}]


def test_a_suspended_car_keeps_the_least_and_pauses_first() -> None:
    asleep = THREE._replace(asset="asleep", suspended=True)
    assert share(22_080, [THREE, asleep]) == {"three": 22_080 - LEAST_3, "asleep": LEAST_3}
    for turn in range(3):
        assert share(LEAST_3 + 500, [asleep, THREE], turn) == {"three": LEAST_3 + 500, "asleep": 0}


@given(
    st.floats(0, 200_000),
    st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.floats(0, 63), st.booleans()), max_size=8),
    st.integers(0, 50),
)
@settings(max_examples=200, deadline=None)
def test_never_above_the_limit_and_never_between_zero_and_six_amps(limit_w: float, asked: list[tuple[int, float, bool]], turn: int) -> None:
    sockets = [Charging(f"s{n}", *one) for n, one in enumerate(asked)]
    watts = share(limit_w, sockets, turn)
    assert sum(watts.values()) <= limit_w + 1e-6
    for socket in sockets:
        got = watts[socket.asset]
        assert got == 0 or socket.watts(6) <= got <= socket.watts(socket.max_amps) + 1e-6
    # Nobody pauses while there is room for him, and nothing is left over that somebody awake could take.
    left = limit_w - sum(watts.values())
    for socket in sockets:
        if socket.max_amps >= 6 and watts[socket.asset] == 0:
            assert limit_w - sum(one.watts(6) for one in sockets if watts[one.asset]) < socket.watts(6)
        if watts[socket.asset] and not socket.suspended:
            assert left < 1 + len(sockets) or watts[socket.asset] >= int(socket.watts(socket.max_amps))


def test_a_plan_begins_with_the_period_that_runs_and_follows_the_sun() -> None:
    steps = plan(125.0, 60.0, 3, lambda at: 5000 + at, [THREE])["three"]
    assert steps == [(120.0, 5120), (180.0, 5180), (240.0, 5240)]


# ---------------------------------------------------------------- planning


def test_nothing_is_planned_until_somebody_charges() -> None:
    desk = Desk()
    assert desk.engine.schedules("hq", "") == {"schedules": [], "cursor": "0"}
    assert desk.tell("transaction", transaction("a")) == 200
    assert desk.limits() == {"a": 22_080}
    [schedule] = desk.engine.schedules("hq", "")["schedules"]
    assert fits("Schedule", schedule)
    assert (schedule["transactionId"], schedule["unit"], schedule["phases"], len(schedule["periods"])) == ("t-a", "W", 3, PERIODS)
    begin, end = (datetime.fromisoformat(schedule[name]) for name in ("issued_at", "valid_until"))
    assert 540 <= (end - begin).total_seconds() <= 600
    assert desk.engine.schedules("yard", "")["schedules"] == []


def test_each_transaction_event_plans_anew_for_all_on_the_site() -> None:
    desk = Desk()
    desk.tell("transaction", transaction("a"))
    cursor = desk.engine.schedules("hq", "")["cursor"]
    desk.tell("transaction", transaction("c"))
    assert desk.limits() == {"a": 11_040, "c": 11_040}
    assert len(desk.engine.schedules("hq", cursor)["schedules"]) == 2
    desk.tell("transaction", transaction("a", "SuspendedEV"))
    assert desk.limits() == {"a": LEAST_3, "c": 22_080 - LEAST_3}
    desk.tell("measurement", measurement("a", 150))
    assert desk.limits()["a"] == LEAST_3
    desk.tell("measurement", measurement("a", 4000))
    assert desk.limits() == {"a": 11_040, "c": 11_040}
    desk.tell("transaction", transaction("a", "Ended"))
    assert desk.limits() == {"c": 22_080}
    cursor = desk.engine.schedules("hq", "")["cursor"]
    assert desk.engine.schedules("hq", cursor)["schedules"] == []
    assert len(desk.engine.schedules("hq", "from another life")["schedules"]) == 1
    assert len(desk.engine.schedules("hq", "99999")["schedules"]) == 1


def test_a_late_end_of_an_older_transaction_stops_nobody_else() -> None:
    desk = Desk()
    desk.tell("transaction", transaction("a", uid="old"))
    desk.tell("transaction", transaction("a", uid="new"))
    desk.tell("transaction", transaction("a", "Ended", uid="old"))
    assert desk.limits() == {"a": 22_080}


def test_without_control_it_listens_and_says_nothing() -> None:
    desk = Desk(control=False)
    desk.tell("transaction", transaction("a"))
    assert desk.limits() == {}
    desk.engine.control = True
    desk.engine.replan("hq")
    assert desk.limits() == {"a": 22_080}


@pytest_twisted.ensureDeferred
async def test_it_plans_anew_each_period_and_stops_when_told() -> None:
    desk = Desk(period_s=60.0)
    await desk.engine.listen()
    desk.tell("transaction", transaction("a"))
    seen = []
    for _ in range(3):
        desk.clock.advance(60)
        seen.append(desk.engine.schedules("hq", "")["schedules"][0]["periods"][0]["start"])
    assert seen == ["2023-11-14T22:14:00.000Z", "2023-11-14T22:15:00.000Z", "2023-11-14T22:16:00.000Z"]
    await desk.engine.stop()
    assert desk.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("measurement", {**measurement("a", 1), "powerValue": "much"}),
        ("measurement", {**measurement("a", 1), "asset_id": ["a"]}),
        ("measurement", {k: v for k, v in measurement("a", 1).items() if k != "timestamp"}),
        ("measurement", measurement("nobody", 1)),
        ("transaction", transaction("a", site="yard")),
        ("identification", transaction("a")),
        ("outcome", {}),
        ("outcome", []),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, body: Any) -> None:
    assert Desk().tell(kind, body) == 422


def test_a_key_is_stored_once_for_each_kind() -> None:
    engine = Desk().engine
    assert engine.accept("measurement", "k", measurement("a", 1)) == (200, "")
    assert engine.accept("measurement", "k", measurement("a", 2)) == (200, "")
    assert engine.accept("transaction", "k", transaction("a")) == (200, "")
    assert engine.accept("transaction", "", transaction("a"))[0] == 422
    assert engine.accept("transaction", "x" * 65, transaction("a"))[0] == 422
    assert (len(engine.measurements), len(engine.transactions), engine.repeats) == (1, 1, 1)


# ---------------------------------------------------------------- over HTTP


async def ask(url: str, method: str, path: str, token: str | None = None, **more: Any) -> tuple[int, Any]:
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
    answer = await treq.request(method, url + path, headers=headers, persistent=False, **more)
    body = await answer.content()
    return answer.code, json.loads(body)


@pytest_twisted.ensureDeferred
async def test_every_path_of_the_contract_is_served_and_wants_a_token() -> None:
    engine = SimEngine(reactor, {"hq": 22_080.0}, {"a": SimAsset("hq")})
    url = await engine.listen()
    login = {"auth": ("demo", "demo-secret"), "data": {"grant_type": "client_credentials"}}
    code, token = await ask(url, "POST", "/v1/identity/client-login", **login)
    assert code == 200
    assert fits("Token", token)
    assert (await ask(url, "POST", "/v1/identity/client-login", auth=("demo", "wrong"), data=login["data"]))[0] == 401
    assert (await ask(url, "POST", "/v1/identity/client-login", auth=login["auth"], data={}))[0] == 422
    bodies = {
        "/v1/measurements": measurement("a", 1),
        "/v1/transactions": transaction("a"),
        "/v1/identifications": {**transaction("a"), "driverId": "badge"},
        "/v1/outcomes": {"schedule_id": "s", "asset_id": "a", "status": "accepted", "timestamp": AT},
        "/v1/batch": [{"key": "b-1", "kind": "measurement", "body": measurement("a", 1)}],
    }
    for path, methods in API["paths"].items():
        if path.endswith("client-login"):
            continue
        [method] = [name.upper() for name in methods if name in ("get", "post")]
        real = path.replace("{site_id}", "hq")
        more = {"json": bodies[path], "headers": {"Idempotency-Key": "k"}} if method == "POST" else {}
        assert (await ask(url, method, real, None, **more))[0] == 401
        assert (await ask(url, method, real, "strange", **more))[0] == 401
        assert (await ask(url, method, real, token["access_token"], **more))[0] == 200, path
    assert [len(kept) for kept in (engine.measurements, engine.transactions, engine.identifications, engine.outcomes)] == [2, 1, 1, 1]
    for bad in ("/v1/sites/none", "/v1/sites/none/schedules", "/v2", "/v1/measurements"):
        assert (await ask(url, "GET", bad, token["access_token"]))[0] == 404
    assert (await ask(url, "GET", "/v1/sites/hq/schedules?wait=61", token["access_token"]))[0] == 422
    await engine.stop()


@pytest_twisted.ensureDeferred
async def test_a_long_poll_ends_empty_when_its_time_is_up() -> None:
    clock = Clock()
    engine = SimEngine(reactor, {"hq": 22_080.0}, {"a": SimAsset("hq")}, clock=clock)
    url = await engine.listen()
    _, token = await ask(url, "POST", "/v1/identity/client-login", auth=("demo", "demo-secret"), data={"grant_type": "client_credentials"})
    asked = ensureDeferred(ask(url, "GET", "/v1/sites/hq/schedules?wait=5", token["access_token"]))
    while not engine._api._waiters:
        await deferLater(reactor, 0.01, lambda: None)
    clock.advance(4.9)
    await deferLater(reactor, 0.02, lambda: None)
    assert not asked.called
    clock.advance(0.2)
    assert await asked == (200, {"schedules": [], "cursor": "0"})
    assert engine._api._waiters == []
    await engine.stop()
