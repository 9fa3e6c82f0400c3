"""New passwords, stored and asked for: who waits for whom, what a broken store does, and what it all costs at most."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock

from broker import passlines
from broker.model.basics import Key
from broker.model.orders import Alarm, PasswordsAnswered, PasswordsSent
from broker.model.records import Fact
from broker.net.credentials import Credentials
from broker.net.newpasswords import LOST, MOST, MOST_EACH, REPLACED, WAIT_S, Lines, NewPasswords
from broker.passwords import fits, hashed
from broker.settings import Settings, StationSettings, TenantSettings

CS7 = Key("acme", "CS-7")
LISTED = hashed(b"listed", b"0123456789abcdef")


class World:
    """A store that can be broken or hang, a thread that works when told to, and who was told what."""

    def __init__(self, credentials: Any = "check", line: str = LISTED, stations: int = 1) -> None:
        self.clock = Clock()
        self.facts: dict[Key, Fact] = {}
        self.alarms: list[Alarm] = []
        self.work: list[tuple[Deferred[Any], Any]] = []
        self.broken = self.hangs = False
        listed = {f"CS-{n}": StationSettings(f"CS-{n}", "shadow", password_hash=line) for n in range(7, 7 + stations)}
        tenant = TenantSettings("acme", "ws://x", credentials=credentials, unlisted="refuse", stations=listed)
        self.settings = Settings(tenants={"acme": tenant})
        self.passwords = NewPasswords(
            lambda: self.settings, self.read, self.write, lambda key, alarm: self.alarms.append(alarm), self.clock, self.in_thread
        )

    def read(self, key: Key) -> Deferred[list[Fact]]:
        if self.hangs:
            return Deferred()
        return fail(OSError("disk")) if self.broken else succeed([self.facts[key]] if key in self.facts else [])

    def write(self, key: Key, facts: tuple[Fact, ...]) -> Deferred[None]:
        if self.broken:
            return fail(OSError("disk"))
        (self.facts[key],) = facts
        return succeed(None)

    def in_thread(self, what: Any, *arguments: Any) -> Deferred[Any]:
        self.work.append((Deferred(), (what, arguments)))
        return self.work[-1][0]

    def finish(self) -> None:
        """The thread's work, done."""
        while self.work:
            done, (what, arguments) = self.work.pop(0)
            done.callback(what(*arguments))

    def lines(self, listed: str = LISTED) -> list[Lines]:
        """What counts, once it is known."""
        found: list[Lines] = []
        ensureDeferred(self.passwords.lines(CS7, listed)).addCallback(found.append)
        return found


def test_a_station_that_dials_at_once_is_waited_with() -> None:
    world = World()
    world.passwords.given(CS7, b"newer")
    found = world.lines()
    assert found == [], "its hash is not worked out yet"
    world.finish()
    ((lines, sure),) = found
    assert sure
    assert (len(lines), lines[1]) == (2, LISTED)
    assert passlines.lines_of([world.facts[CS7]], LISTED) == lines
    assert b"newer" not in repr(world.facts[CS7].value).encode()


def test_but_not_for_ever() -> None:
    world = World()
    world.passwords.given(CS7, b"newer")
    found = world.lines()
    world.clock.advance(WAIT_S)
    assert found == [Lines((LISTED,))]
    world.finish()
    assert len(world.lines()[0].lines) == 2, "who waited no longer is no harm"


def test_several_in_a_row_are_stored_in_their_order_and_at_most_so_many() -> None:
    world = World()
    for n in range(MOST_EACH + 1):
        world.passwords.given(CS7, b"newer-%d" % n)
    assert [alarm.text for alarm in world.alarms] == [LOST]
    world.finish()
    ((lines, _),) = world.lines()
    assert len(lines) == passlines.MOST
    assert [fits(line, b"newer-%d" % n) for n, line in zip((3, 2, 1), lines, strict=False)] == [True] * 3
    assert lines[3] == LISTED, "the one that it last came with"


def test_once_it_came_with_the_newest_the_others_count_no_more() -> None:
    world = World()
    world.passwords.given(CS7, b"newer")
    world.finish()
    ((known),) = world.lines()
    world.passwords.came(CS7, LISTED, known)
    assert world.lines() == [known], "it has not taken the new one yet"
    world.passwords.came(CS7, known.lines[0], known)
    assert world.lines() == [Lines(known.lines[:1])]


# ---------------------------------------------------------------- written ahead, when it is sent


class Heard:
    """What was sent to a station, and whether its answer may go on."""

    def __init__(self, world: World, *passwords: bytes, token: int = 1, link: str = "acme/CS-7#1") -> None:
        self.world, self.name, self.token = world, link, token
        self.became: list[str] = []
        sent = world.passwords.heard(CS7, link, PasswordsSent(token, passwords))
        sent.addCallbacks(lambda _: self.became.append("stored"), lambda failure: self.became.append(failure.type.__name__))

    def answered(self, *taken: bool) -> None:
        self.world.passwords.heard(CS7, self.name, PasswordsAnswered(self.token, taken))


def known(world: World) -> passlines.Kept:
    return passlines.kept([world.facts[CS7]] if CS7 in world.facts else [], LISTED)


def test_what_is_sent_counts_once_it_is_on_disk_before_anybody_answers() -> None:
    world = World()
    heard = Heard(world, b"newer")
    assert heard.became == []
    world.finish()
    assert heard.became == ["stored"]
    (new,) = known(world).pending
    assert known(world).lines == (new, LISTED)
    assert fits(new, b"newer")
    heard.answered(True)
    assert known(world) == passlines.Kept((new, LISTED))
    assert world.alarms == []


def test_what_the_station_refuses_counts_no_more() -> None:
    world = World()
    heard = Heard(world, b"newer")
    world.finish()
    heard.answered(False)
    assert known(world) == passlines.Kept((LISTED,))
    assert (world.alarms, world.passwords._sent) == ([], {})


def test_an_answer_before_the_hash_is_made_waits_for_its_turn() -> None:
    world = World()
    heard = Heard(world, b"newer")
    heard.answered(False)
    world.finish()
    assert heard.became == ["stored"]
    assert known(world) == passlines.Kept((LISTED,))


def test_one_call_s_passwords_each_have_their_own_fate() -> None:
    world = World()
    heard = Heard(world, b"one", b"two")
    world.finish()
    heard.answered(True, False)
    (new, listed) = known(world).lines
    assert (fits(new, b"one"), listed, known(world).pending) == (True, LISTED, frozenset())


def test_a_later_link_s_call_of_the_same_number_is_another() -> None:
    world = World()
    Heard(world, b"first")
    second = Heard(world, b"second", link="acme/CS-7#2")
    world.finish()
    second.answered(False)
    (line, listed) = known(world).lines
    assert (fits(line, b"first"), listed, known(world).pending) == (True, LISTED, {line})


def test_while_it_is_pending_a_station_may_come_with_it_and_then_it_is_given() -> None:
    world = World()
    Heard(world, b"newer")
    found = world.lines()
    assert found == [], "who dials at once is waited with"
    world.finish()
    world.passwords.came(CS7, found[0].lines[0], found[0])
    assert known(world) == passlines.Kept(found[0].lines[:1])


def test_a_store_that_failed_when_it_was_sent_may_take_it_when_it_was_taken() -> None:
    world = World()
    world.broken = True
    heard = Heard(world, b"newer")
    world.finish()
    assert heard.became == ["OSError"]
    world.broken = False
    heard.answered(True)
    assert fits(known(world).lines[0], b"newer")
    assert world.alarms == []


@pytest.mark.parametrize("taken", [True, False])
def test_a_store_that_stays_broken_is_an_alarm_if_the_station_took_it(taken: bool) -> None:
    world = World()
    world.broken = True
    heard = Heard(world, b"newer")
    world.finish()
    heard.answered(taken)
    assert [alarm.text for alarm in world.alarms] == [LOST] * taken


def test_a_store_that_breaks_after_it_was_sent_loses_nothing() -> None:
    world = World()
    heard = Heard(world, b"newer")
    world.finish()
    world.broken = True
    heard.answered(True)
    assert world.alarms == []
    assert fits(known(world).lines[0], b"newer"), "it is pending, and counts"


def test_too_many_at_once_are_not_followed_and_an_alarm_if_the_station_took_them() -> None:
    world = World()
    all_heard = [Heard(world, b"newer-%d" % n, token=n) for n in range(MOST_EACH + 1)]
    assert all_heard[-1].became == ["TooMuch"]
    for heard in all_heard:
        heard.answered(True)
    world.finish()
    assert [alarm.text for alarm in world.alarms] == [LOST]
    assert fits(known(world).lines[0], b"newer-%d" % (MOST_EACH - 1))
    assert Heard(world, *(b"%d" % n for n in range(passlines.MOST))).became == ["TooMuch"], "in one CALL"


def test_what_cannot_be_hashed_is_an_alarm_if_it_was_taken() -> None:
    world = World()
    heard = Heard(world, b"newer")
    world.work.pop()[0].errback(MemoryError())
    assert heard.became == ["MemoryError"]
    heard.answered(True)
    assert [alarm.text for alarm in world.alarms] == [LOST]


def test_what_was_sent_and_never_answered_is_forgotten_in_the_end_but_not_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.newpasswords.MOST_SENT", 2)
    world = World()
    for token in range(4):
        Heard(world, b"newer-%d" % token, token=token)
        world.finish()
    assert len(world.passwords._sent) == 2
    assert len(known(world).lines) == passlines.MOST


@pytest.mark.parametrize(
    ("credentials", "line", "told", "stored"),
    [("forward", LISTED, [], False), ("replace", LISTED, [REPLACED], True), ("check", "", [], False)],
)
def test_what_is_sent_is_followed_where_the_password_is_judged(credentials: str, line: str, told: list[str], stored: bool) -> None:
    world = World(credentials, line)
    heard = Heard(world, b"newer")
    world.finish()
    heard.answered(True)
    assert heard.became == ["stored"], "nobody waits for nothing"
    assert [alarm.text for alarm in world.alarms] == told
    assert (CS7 in world.facts) == stored


def test_a_store_that_refuses_is_an_alarm_and_a_doubt() -> None:
    world = World()
    world.broken = True
    world.passwords.given(CS7, b"newer")
    world.finish()
    assert [(alarm.name, alarm.text) for alarm in world.alarms] == [("password", LOST)]
    assert world.lines() == [Lines((LISTED,), sure=False)]


def test_a_store_that_hangs_is_not_waited_for() -> None:
    world = World()
    world.hangs = True
    found = world.lines()
    world.clock.advance(WAIT_S)
    assert found == [Lines((LISTED,), sure=False)]


def test_there_is_a_bound() -> None:
    world = World(stations=MOST + 1)
    for n in range(MOST + 1):
        world.passwords.given(Key("acme", f"CS-{n + 7}"), b"newer")
    assert [alarm.text for alarm in world.alarms] == [LOST]
    assert len(world.work) == 2, "threads"


@pytest.mark.parametrize(
    ("credentials", "line", "told", "stored"),
    [("forward", LISTED, [], False), ("replace", "", [REPLACED], False), ("replace", LISTED, [REPLACED], True), ("check", "", [], False)],
)
def test_what_breaks_hangs_on_the_tenant_s_credentials(credentials: str, line: str, told: list[str], stored: bool) -> None:
    world = World(credentials, line)
    world.passwords.given(CS7, b"newer")
    world.finish()
    assert [alarm.text for alarm in world.alarms] == told
    assert (CS7 in world.facts) == stored


def test_a_station_that_is_not_listed_has_nothing_to_follow() -> None:
    world = World()
    for key in (Key("acme", "CS-99"), Key("nobody", "CS-7")):
        world.passwords.given(key, b"newer")
    world.finish()
    assert (world.facts, world.alarms) == ({}, [])


# ---------------------------------------------------------------- at the door, over real sockets


@pytest_twisted.async_yield_fixture
async def rig() -> AsyncIterator[Rig]:
    rig = await Rig().start()
    rig.tenant(credentials="check", unlisted="refuse", stations={"CS-7": StationSettings("CS-7", "relay", password_hash=LISTED)})
    yield rig
    await rig.stop()


def basic(password: bytes) -> str:
    return "Authorization: Basic " + b64encode(b"CS-7:" + password).decode()


@pytest_twisted.ensureDeferred
async def test_while_the_store_is_away_a_listed_password_comes_in_and_another_is_in_doubt(rig: Rig) -> None:
    world = World()
    world.broken = True
    rig.door._given = world.passwords
    assert await (await rig.dial("/acme/CS-7", basic(b"newer"))).status() == 503
    assert rig.cpms.wires == []
    await rig.pair("/acme/CS-7", basic(b"listed"))


@pytest_twisted.ensureDeferred
async def test_the_newest_comes_in_and_then_the_listed_one_does_not(rig: Rig) -> None:
    world = World()
    rig.door._given = world.passwords
    world.passwords.given(CS7, b"newer")
    world.finish()
    assert await (await rig.dial("/acme/CS-7", basic(b"wrong"))).status() == 401
    station, _ = await rig.pair("/acme/CS-7", basic(b"newer"))
    station.abort()
    assert await (await rig.dial("/acme/CS-7", basic(b"listed"))).status() == 401


def test_a_password_that_was_known_counts_for_lines_that_still_do() -> None:
    clock, worked = Clock(), []

    def at_once(_: Any, line: str, password: bytes) -> Deferred[Any]:
        worked.append(line)
        return succeed((line, password) in (("old", b"a"), ("new", b"b")))

    credentials = Credentials(clock.seconds, at_once)
    found: list[Any] = []

    def ask(password: bytes, *lines: str) -> None:
        header = b"Basic " + b64encode(b"CS-7:" + password)
        ensureDeferred(credentials.which("a", CS7, lines, header)).addCallbacks(found.append, lambda why: found.append(why.value.status))

    ask(b"a", "new", "old")
    ask(b"a", "new", "old")
    assert (found, worked) == (["old", "old"], ["new", "old"])
    ask(b"a", "new")
    assert found[-1] == 401
