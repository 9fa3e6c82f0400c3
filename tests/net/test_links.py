"""One identity, one link: who gives way to whom, that the CPMS never sees two, and how all of them end."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig, Wire, Wound, accept, nap, until
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from broker.model.basics import Key
from broker.net.cpms import Refusal
from broker.net.links import DORMANT_S, FLAP, PERSIST, Links

CALL = b'[2,"1","Heartbeat",{}]'


def polite(wire: Wire) -> None:
    accept(wire)
    wire.polite = True


@pytest_twisted.async_yield_fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr("broker.net.links.ALIVE_S", 0.4)
    rig = await Rig().start()
    rig.cpms.on_head = polite
    yield rig
    await rig.stop()
    assert rig.cpms.most_at_once <= 1, "the CPMS never sees two"


@pytest_twisted.ensureDeferred
async def test_an_old_one_that_lives_stays_and_the_new_one_gets_409(rig: Rig) -> None:
    old, _ = await rig.pair()
    old.polite = True
    new = await rig.dial()
    ponging = old.dataReceived

    def pong(data: bytes) -> None:
        if data[:1] == b"\x89":
            old.say(b"", 0x8A)
        ponging(data)

    old.dataReceived = pong  # type: ignore[method-assign]
    doubles: list[str] = []
    rig.links.on_duplicate = lambda key, whom: doubles.append(str(key))
    assert await new.status() == 409
    assert doubles == [str(rig.opened[0].key)]
    assert len(rig.cpms.wires) == 1
    assert rig.world.counts.of[("refused", "409", "station")] == 1
    assert not old.gone
    assert rig.links.get(Key("acme", "CS-7")) is rig.opened[0]


@pytest_twisted.ensureDeferred
async def test_an_old_one_that_is_dead_gives_way(rig: Rig) -> None:
    old, cpms = await rig.pair()
    old.pongs = False
    new = await rig.dial()
    await until(lambda: new.buffer, 0.4 + 2.2)  # in a hurry: not the 3 s that a good-bye has else; 6 s, when the ping has its 5
    assert await new.status() == 101
    await old.end()
    assert cpms.gone
    assert len(rig.cpms.wires) == 2
    new.say(CALL)
    await until(lambda: len(rig.links) == 1)


def answers_pings(wire: Wire) -> None:
    """It pongs by itself, whoever waits for what."""
    came = wire.dataReceived

    def listen(data: bytes) -> None:
        if b"\x89\x00" in data:
            wire.say(b"", 0x8A)
        came(data)

    wire.dataReceived = listen  # type: ignore[method-assign]
    wire.polite = True


@pytest_twisted.ensureDeferred
async def test_who_asks_a_third_time_from_the_same_address_wins(rig: Rig) -> None:
    old, cpms = await rig.pair()
    answers_pings(old)
    for _ in range(PERSIST - 1):
        assert await (await rig.dial()).status() == 409
    new = await rig.dial()
    assert await new.status() == 101
    await old.end()
    assert cpms.gone
    answers_pings(new)
    assert await (await rig.dial()).status() == 409, "and has the same right to stay as any other"


@pytest_twisted.ensureDeferred
async def test_who_asks_from_elsewhere_never_wins_over_one_that_lives(rig: Rig) -> None:
    old, _ = await rig.pair()
    answers_pings(old)
    rig.opened[0].whom = "203.0.113.9"
    for _ in range(PERSIST + 1):
        assert await (await rig.dial()).status() == 409
    assert not old.gone


@pytest_twisted.ensureDeferred
async def test_tries_that_lie_too_far_apart_do_not_add_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.links.PERSIST_S", 0.05)
    old, _ = await rig.pair()
    answers_pings(old)
    for _ in range(PERSIST + 1):
        assert await (await rig.dial()).status() == 409
        await nap(0.06)


@pytest_twisted.ensureDeferred
async def test_a_dormant_one_gives_way_though_it_pongs(rig: Rig) -> None:
    old, _ = await rig.pair()
    answers_pings(old)
    pulse = rig.opened[0]._legs["station"].pulse  # type: ignore[attr-defined]
    pulse.spoke_at -= DORMANT_S
    old.say(CALL)
    await until(lambda: rig.opened[0].silent_s < DORMANT_S)
    rig.opened[0].whom = "203.0.113.9"
    assert await (await rig.dial()).status() == 409, "it spoke a moment ago"
    pulse.spoke_at -= DORMANT_S
    assert await (await rig.dial()).status() == 101
    await old.end()


@pytest_twisted.ensureDeferred
async def test_two_that_come_at_once_are_one(rig: Rig) -> None:
    held: list[Wire] = []
    rig.cpms.on_head = held.append
    first, second = await rig.dial(), await rig.dial()
    assert await second.status() == 409
    await until(lambda: held)
    polite(held[0])
    assert await first.status() == 101
    assert len(held) == 1


@pytest_twisted.ensureDeferred
async def test_a_newcomer_that_leaves_while_the_old_one_is_asked_leaves_nothing(rig: Rig) -> None:
    old, _ = await rig.pair()
    old.pongs = False
    new = await rig.dial()
    await nap(0.1)
    new.abort()
    await until(lambda: rig.links.taken == 1)
    await nap(0.5)
    assert rig.links.get(Key("acme", "CS-7")) is rig.opened[0]
    assert len(rig.cpms.wires) == 1
    assert not old.gone
    assert rig.world.counts.total("refused") == 0


@pytest_twisted.ensureDeferred
async def test_the_station_comes_back_while_its_old_cpms_socket_is_still_closing(rig: Rig) -> None:
    rig.cpms.on_head = accept
    old, cpms = await rig.pair()
    old.abort()
    await until(lambda: not len(rig.links))
    assert not cpms.gone, "it has not yet said its good-bye"
    rig.cpms.on_head = polite
    new = await rig.dial()
    assert (await cpms.closed())[0] == 1001
    assert await new.status() == 101
    assert len(rig.cpms.wires) == 2


@pytest_twisted.ensureDeferred
async def test_other_identities_do_not_mind(rig: Rig) -> None:
    rig.tenant("other", cpms_url="ws://127.0.0.1:1/ocpp")
    await rig.pair("/acme/CS-7")
    assert await (await rig.dial("/other/CS-7")).status() == 503, "dialled, for it is another tenant's"


# ---------------------------------------------------------------- the end of all


@pytest_twisted.ensureDeferred
async def test_a_drain_closes_each_in_its_moment_with_1012() -> None:
    rig = await Rig().start()
    rig.cpms.on_head = polite
    pairs = [await rig.pair(f"/acme/CS-{n}") for n in range(5)]
    for _, cpms in pairs:
        cpms.polite = False
    wound = rig.links._reactor = Wound()
    draining = ensureDeferred(rig.links.drain(1.25))
    assert await (await rig.dial("/acme/CS-99")).status() == 503
    closed = []
    for _ in range(20):
        closed.append(sum(link.over for link in rig.opened))
        wound.advance(1 / 16)
    assert closed == [1 + n // 4 for n in range(20)], "one each 0.25 s"
    for wire in itertools.chain(*pairs):
        assert await wire.closed() == (1012, "restart")
    await draining
    assert not len(rig.links)
    await rig.stop()


@pytest_twisted.ensureDeferred
async def test_a_drain_waits_for_what_is_open_but_not_for_ever() -> None:
    rig = await Rig().start()
    rig.cpms.on_head = accept
    patient, cpms = await rig.pair("/acme/CS-1")
    patient.say(CALL)
    assert await cpms.hear() == CALL
    stuck, stuck_cpms = await rig.pair("/acme/CS-2")
    stuck.say(CALL)
    assert await stuck_cpms.hear() == CALL
    stuck_cpms.polite = stuck.polite = True
    wound = rig.links._reactor = Wound()
    draining = ensureDeferred(rig.links.drain(0.2, 4.8))
    wound.pump([0.05] * 8)
    assert not patient.buffer
    cpms.say(b'[3,"1",{}]')
    assert await patient.hear() == b'[3,"1",{}]', "its answer still arrives"
    wound.advance(0.05)
    assert await patient.closed() == (1012, "restart")
    assert await cpms.closed() == (1012, "restart")
    wound.pump([0.05] * 10)
    assert not rig.opened[1].over
    wound.pump([0.05] * 2)
    assert rig.opened[1].over
    await draining
    await stuck.end()
    await stuck_cpms.end()
    await rig.stop()


# ---------------------------------------------------------------- numbers


class Stub:
    """As much of a link as the registry looks at."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.gone = True
        self.on_over: Any = None


def test_a_station_that_comes_a_third_time_in_five_minutes_is_flapping() -> None:
    clock = Clock()
    links = Links(clock)
    key = Key("acme", "CS-7")
    for n in range(FLAP):
        assert links.flapping(key) is (n == FLAP - 1)
        link: Any = Stub(key)
        links.add(link)
        clock.advance(100)
        link.on_over(link)
    clock.advance(200)
    assert not links.flapping(key)
    assert not links.flapping(Key("acme", "CS-8"))


def test_only_its_own_end_clears_a_links_place() -> None:
    links = Links(Clock())
    old: Any = Stub(Key("acme", "CS-7"))
    new: Any = Stub(Key("acme", "CS-7"))
    links.add(old)
    links.add(new)
    old.on_over(old)
    assert links.get(Key("acme", "CS-7")) is new
    assert len(links) == links.taken == 1
    new.on_over(new)
    assert list(links) == []


# ---------------------------------------------------------------- room

STATIONS = [Key(tenant, station) for tenant in ("acme", "other") for station in ("CS-1", "CS-2", "CS-3")]
steps = st.lists(st.tuples(st.sampled_from(STATIONS), st.sampled_from(["claim", "enter", "give up", "end"])), max_size=40)


@given(steps, st.integers(1, 7), st.integers(1, 4))
def test_whatever_comes_and_goes_no_tenant_has_more_than_its_cap_and_all_together_no_more_than_theirs(
    steps: list[tuple[Key, str]], most: int, most_of_tenant: int
) -> None:
    links, entering, live = Links(Clock()), set[Key](), dict[Key, Any]()
    for key, step in steps:
        there = entering | set(live)
        if step == "claim" and key not in there:
            room = len(there) < most and len([one for one in there if one.tenant == key.tenant]) < most_of_tenant
            assert links.has_room(key, most, most_of_tenant) is room
            assert links.has_room(key, most, None) is (len(there) < most)
            if room:
                assert ensureDeferred(links.claim(key, "")).called
                entering.add(key)
        elif step == "enter" and key in entering:
            live[key] = Stub(key)
            links.add(live[key])
            links.leave(key)
            entering.discard(key)
        elif step == "give up" and key in entering:
            links.leave(key)
            entering.discard(key)
        elif step == "end" and key in live:
            live[key].on_over(live.pop(key))
        assert all(links.has_room(one, most, most_of_tenant) for one in entering | set(live)), "everybody has room in its own place"
    for key in tuple(entering):
        links.leave(key)
    for link in tuple(live.values()):
        link.on_over(link)
    assert links._places == {}, "nothing is kept of who is gone"


def test_a_claim_that_fails_leaves_no_place_behind() -> None:
    links, key = Links(Clock()), Key("acme", "CS-7")
    old: Any = Stub(key)
    old.name, old.whom, old.silent_s = "acme/CS-7#1", "192.0.2.1", 0.0

    async def alive(seconds: float) -> bool:
        old.on_over(old)  # it ends while it is asked
        return True

    old.alive = alive
    links.add(old)
    refused = ensureDeferred(links.claim(key, "192.0.2.2"))
    assert isinstance(refused.result, Failure)
    refused.addErrback(lambda failure: failure.trap(Refusal))
    assert links.taken == 0
    assert links.has_room(Key("acme", "CS-8"), 1, 1)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.links.RECENT", 10)
    links = Links(Clock())
    for n in range(50):
        link: Any = Stub(Key("acme", str(n)))
        links.add(link)
        links._persists(link.key, "192.0.2.1")
    assert len(links._connects) == len(links._tries) == 10
