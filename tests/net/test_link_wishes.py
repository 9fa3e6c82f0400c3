"""A link with somebody who learns from it: what is shown, what waits, what is wished, and what its mistakes cost: nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig, accept, clock, nap, until
from twisted.internet.defer import Deferred, fail, succeed

from broker.model.basics import Instant, Key
from broker.model.orders import Alarm, Inject, Pass, Passwords, PasswordsSent, Write
from broker.model.schedules import Schedule
from broker.model.traffic import NOTHING, Exchange, Interest
from broker.net.link import Link
from broker.relay import Relay

START = b'[2,"1","StartTransaction",{"idTag":"secret-tag"}]'
STARTED = b'[3,"1",{"transactionId":7}]'
RESET = b'[2,"c","Reset",{}]'


class Scripted:
    """An observer that says what the test told it to."""

    def __init__(self, interest: Interest = NOTHING) -> None:
        self.interest = interest
        self.wake_at: float | None = None
        self.tap_failures = 0
        self.seen: list[Exchange] = []
        self.outcomes: list[tuple[int, str, bytes | None]] = []
        self.guards: list[int] = []
        self.ticks = 0
        self.ended = 0
        self.on_saw: Callable[[Exchange], Iterable[Any]] = lambda exchange: (Write((), (), exchange.token),)
        self.on_guarded: Callable[[int], Iterable[Any]] = lambda token: (Pass(token),)
        self.on_answered: Callable[[int], Iterable[Any]] = lambda _: ()
        self.on_wish: Callable[[], Iterable[Any]] = tuple
        self.on_closed: Callable[[], Iterable[Any]] = tuple

    def saw(self, exchange: Exchange, now: Instant) -> Iterable[Any]:
        self.seen.append(exchange)
        return self.on_saw(exchange)

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> Iterable[Any]:
        self.guards.append(token)
        return self.on_guarded(token)

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> Iterable[Any]:
        self.outcomes.append((token, outcome, answer))
        return self.on_answered(token)

    def wish(self, schedule: Schedule, now: Instant) -> Iterable[Any]:
        return self.on_wish()

    def tick(self, now: Instant) -> Iterable[Any]:
        self.ticks += 1
        self.wake_at = None
        return ()

    def closed(self, now: Instant) -> Iterable[Any]:
        self.ended += 1
        return self.on_closed()

    def explain(self) -> dict[str, Any]:
        return {"seen": len(self.seen)}


PROMISED = Interest(at_answer=frozenset({"StartTransaction"}), promised=frozenset({"StartTransaction"}))
ENTRUSTING = Interest(entrusting=frozenset({"ChangeConfiguration"}))
GIVEN, TAKEN = b'[2,"g","ChangeConfiguration",{"key":"AuthorizationKey","value":"s3cret"}]', b'[3,"g",{"status":"Accepted"}]'
GUARDED = Interest(guarded=frozenset({"SetChargingProfile"}))
SHOWN = Interest(at_call=frozenset({"MeterValues"}))
METER = b'[2,"m","MeterValues",{}]'
NO_SCHEDULE: Any = None


def watched(rig: Rig, interest: Interest = NOTHING) -> Scripted:
    observer = Scripted(interest)
    rig.observer = lambda _: observer
    return observer


@pytest_twisted.ensureDeferred
async def test_a_promised_answer_waits_for_the_disk(rig: Rig) -> None:
    observer = watched(rig, PROMISED)
    commit: Deferred[None] = Deferred()
    rig.world.committing = lambda: commit
    station, cpms = await rig.pair()
    station.say(START)
    assert await cpms.hear() == START
    cpms.say(STARTED)
    await until(lambda: observer.seen)
    await nap(0.05)
    assert station.buffer == b""
    commit.callback(None)
    assert await station.hear() == STARTED
    assert rig.world.counts.total("unpromised") == 0
    assert rig.opened[0].explain() == {"seen": 1}


def entrusted(rig: Rig) -> tuple[Scripted, Deferred[None], list[tuple[Key, str, Passwords]]]:
    """A link whose station's password is judged; the disk; and what was sent there."""
    observer, commit, kept = watched(rig, ENTRUSTING), Deferred[None](), list[tuple[Key, str, Passwords]]()
    observer.on_saw = lambda exchange: () if exchange.token is None else (PasswordsSent(exchange.token, (b"s3cret",)),)

    def keep(*order: Any) -> Deferred[None]:
        kept.append(order)
        return commit

    def opened(link: Link) -> None:
        link.on_password = keep
        rig.opened.append(link)

    rig.door._opened = opened
    return observer, commit, kept


@pytest_twisted.ensureDeferred
async def test_an_answer_of_the_station_and_all_behind_it_waits_until_the_password_is_kept(rig: Rig) -> None:
    observer, commit, kept = entrusted(rig)
    station, cpms = await rig.pair()
    rig.opened[0]._relay._commit_wait = 60.0  # of a busy machine
    cpms.say(GIVEN)
    assert await station.hear() == GIVEN
    later = [TAKEN, b'[2,"1","Heartbeat",{}]', b"rubbish", b'[6,"2","Stream",{}]']
    for text in later:
        station.say(text)
    await until(lambda: len(observer.seen) == 2)
    await nap(0.05)
    assert cpms.buffer == b""
    assert kept == [(rig.opened[0].key, rig.opened[0].name, PasswordsSent(1, (b"s3cret",)))]
    commit.callback(None)
    assert [await cpms.hear() for _ in later] == later
    assert rig.world.counts.total("unpromised") == 0
    station.say(METER)
    assert await cpms.hear() == METER


@pytest_twisted.ensureDeferred
async def test_a_disk_that_does_not_keep_it_costs_a_quarter_of_a_second_and_is_counted(rig: Rig) -> None:
    observer, _, _ = entrusted(rig)
    station, cpms = await rig.pair()
    cpms.say(GIVEN)
    await station.hear()
    began = clock.seconds()
    station.say(TAKEN)
    assert await cpms.hear() == TAKEN
    assert clock.seconds() - began >= 0.24
    assert rig.world.counts.total("unpromised") == 1
    assert len(observer.seen) == 2


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("who", ["station", "broker"])
async def test_what_the_station_said_before_the_end_reaches_the_cpms_before_it(rig: Rig, who: str) -> None:
    entrusted(rig)
    station, cpms = await rig.pair()
    cpms.say(GIVEN)
    await station.hear()
    station.say(TAKEN)
    station.say(METER)
    if who == "station":
        station.close(1000)
    else:
        await until(lambda: rig.world.counts.of.get(("frames", "to-cpms", "call")))
        rig.opened[0].close(1012)
    assert [await cpms.hear(), await cpms.hear()] == [TAKEN, METER]
    assert (await cpms.closed())[0] == (1000 if who == "station" else 1012)


@pytest_twisted.ensureDeferred
async def test_without_anybody_to_keep_it_nothing_waits(rig: Rig) -> None:
    observer = watched(rig, ENTRUSTING)
    observer.on_saw = lambda exchange: () if exchange.token is None else (PasswordsSent(exchange.token, (b"s3cret",)),)
    station, cpms = await rig.pair()
    cpms.say(GIVEN)
    await station.hear()
    station.say(TAKEN)
    assert await cpms.hear() == TAKEN
    assert rig.world.counts.total("unpromised") == 0


@pytest_twisted.ensureDeferred
async def test_a_disk_that_is_broken_or_slow_costs_a_quarter_of_a_second_and_is_counted(rig: Rig) -> None:
    watched(rig, PROMISED)
    rig.world.committing = lambda: fail(OSError("full"))
    station, cpms = await rig.pair()
    station.say(START)
    await cpms.hear()
    cpms.say(STARTED)
    assert await station.hear() == STARTED
    assert rig.world.counts.total("store_failures") == 0, "the store counts its own"
    assert rig.world.counts.total("unpromised") == 1, "the station believes it delivered, and we do not have it"
    rig.world.committing = Deferred
    station.say(START)
    await cpms.hear()
    began = clock.seconds()
    cpms.say(STARTED)
    assert await station.hear(3.0) == STARTED
    assert clock.seconds() - began > 0.2
    assert rig.world.counts.total("unpromised") == 2


@pytest_twisted.ensureDeferred
async def test_an_observer_that_fails_costs_nothing_and_its_failure_quotes_nothing(rig: Rig, lines: list[str]) -> None:
    observer = watched(rig, PROMISED)

    def broken(exchange: Exchange) -> Iterable[Any]:
        raise ValueError(exchange.call.decode())

    observer.on_saw = broken
    station, cpms = await rig.pair()
    for _ in range(3):
        station.say(START)
        assert await cpms.hear() == START
        cpms.say(STARTED)
        assert await station.hear() == STARTED
    assert rig.world.counts.total("tap_failures") == 3
    assert rig.world.counts.total("unpromised") == 0
    assert sum("our fault" in line for line in lines) == 1
    assert not any("secret-tag" in line for line in lines)


@pytest_twisted.ensureDeferred
async def test_a_wish_goes_to_the_station_its_answer_comes_back_and_the_cpms_hears_of_neither(rig: Rig) -> None:
    observer = watched(rig)
    observer.on_wish = lambda: (Inject(5, "SetChargingProfile", {"a": 1}), Alarm("x", "text"))
    station, cpms = await rig.pair()
    alarms: list[object] = []
    rig.opened[0].on_alarm = lambda key, alarm: alarms.append((str(key), alarm))
    rig.opened[0].wish(NO_SCHEDULE)
    assert alarms == [("acme/CS-7", Alarm("x", "text"))]
    asked = json.loads(await station.hear())
    assert asked[0] == 2
    assert asked[2:] == ["SetChargingProfile", {"a": 1}]
    answer = json.dumps([3, asked[1], {"status": "Accepted"}]).encode()
    station.say(answer)
    await until(lambda: observer.outcomes)
    assert observer.outcomes == [(5, "answer", answer)]
    station.say(b"later")
    assert await cpms.hear() == b"later"
    assert rig.world.counts.of[("injected", "SetChargingProfile", "answer")] == 1


@pytest_twisted.ensureDeferred
async def test_what_follows_from_an_effect_comes_after_the_rest(rig: Rig) -> None:
    """The CPMS's CALL waited for ours. When ours is answered the CALL goes first; a new wish born of that answer comes after."""
    observer = watched(rig)
    observer.on_wish = lambda: (Inject(1, "First", {}),)
    observer.on_answered = lambda token: (Inject(2, "Second", {}),) if token == 1 else ()
    station, cpms = await rig.pair()
    rig.opened[0].wish(NO_SCHEDULE)
    first = json.loads(await station.hear())
    cpms.say(RESET)
    await nap(0.05)
    assert station.buffer == b""
    station.say(json.dumps([3, first[1], {}]).encode())
    assert await station.hear() == RESET
    await nap(0.05)
    assert station.buffer == b"", "ours is never sent while a CPMS CALL is open"
    station.say(b'[3,"c",{}]')
    assert await cpms.hear() == b'[3,"c",{}]'
    assert json.loads(await station.hear())[2] == "Second"


@pytest_twisted.ensureDeferred
async def test_frames_that_waited_for_ours_are_told_before_the_good_bye(rig: Rig) -> None:
    observer = watched(rig)
    observer.on_wish = lambda: (Inject(1, "First", {}),)
    station, cpms = await rig.pair()
    rig.opened[0].wish(NO_SCHEDULE)
    await station.hear()
    cpms.say(RESET)
    cpms.close(4005, "bye")
    assert await station.hear() == RESET
    assert await station.closed() == (4005, "bye")
    assert observer.outcomes == [(1, "closed", None)]
    assert observer.ended == 1


@pytest_twisted.ensureDeferred
async def test_a_guarded_call_waits_until_it_may_pass(rig: Rig) -> None:
    observer = watched(rig, GUARDED)
    observer.on_guarded = lambda _: ()
    guarded = b'[2,"g","SetChargingProfile",{}]'
    station, cpms = await rig.pair()
    cpms.say(guarded)
    await until(lambda: observer.guards)
    await nap(0.05)
    assert station.buffer == b""
    observer.on_wish = lambda: (Pass(observer.guards[0]),)
    rig.opened[0].wish(NO_SCHEDULE)
    assert await station.hear() == guarded
    assert "held_seconds" in rig.world.counts.timings

    def broken(_: int) -> Iterable[Any]:
        raise RuntimeError

    observer.on_guarded = broken
    cpms.say(guarded.replace(b'"g"', b'"h"'))
    assert await station.hear() == guarded.replace(b'"g"', b'"h"'), "what cannot be judged goes"


@pytest_twisted.ensureDeferred
async def test_a_guarded_call_that_nobody_passes_goes_after_hold_and_is_counted(rig: Rig) -> None:
    rig.world.hold_s = 0.2
    observer = watched(rig, GUARDED)
    observer.on_guarded = lambda _: ()
    station, cpms = await rig.pair()
    cpms.say(b'[2,"g","SetChargingProfile",{}]')
    began = clock.seconds()
    await station.hear(3.0)
    assert clock.seconds() - began > 0.15
    assert rig.world.counts.total("unguarded") == 1


@pytest_twisted.ensureDeferred
async def test_an_observer_is_woken_when_it_said(rig: Rig) -> None:
    observer = watched(rig)
    due = observer.wake_at = clock.seconds() + 0.15
    await rig.pair()
    await until(lambda: observer.ticks == 1, 3.0)
    assert clock.seconds() >= due


@pytest_twisted.ensureDeferred
async def test_a_frame_that_is_shown_may_wake_the_observer_earlier_and_else_moves_no_timer(rig: Rig) -> None:
    observer = watched(rig, SHOWN)
    observer.on_saw = lambda exchange: ()
    station, cpms = await rig.pair()
    link = rig.opened[0]
    armed = link._timer
    for _ in range(3):
        station.say(METER)
        assert await cpms.hear() == METER
    assert len(observer.seen) == 3
    assert link._timer is armed
    observer.wake_at = clock.seconds() + 0.1
    station.say(METER)
    await until(lambda: observer.ticks == 1, 3.0)
    after = link._timer
    station.say(METER)
    await cpms.hear()
    await cpms.hear()
    assert link._timer is after


@pytest_twisted.ensureDeferred
async def test_a_tick_that_failed_is_not_the_last(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    observer = watched(rig, SHOWN)
    observer.on_saw = lambda exchange: ()
    station, cpms = await rig.pair()
    link = rig.opened[0]
    with monkeypatch.context() as broken:
        broken.setattr(Relay, "tick", lambda relay, now: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            link._tick()
        link._timer.cancel()
    station.say(METER)
    await cpms.hear()
    assert link._timer.active()


@pytest_twisted.ensureDeferred
async def test_what_follows_from_a_frame_that_is_shown_follows_at_once_and_after_all_of_it(rig: Rig) -> None:
    observer = watched(rig, SHOWN)
    observer.on_saw = lambda exchange: (Alarm("x", "text"), *(Inject(token, "Reset", {}, timeout_s=3.0) for token in (5, 6)))
    station, cpms = await rig.pair()
    link = rig.opened[0]
    said: list[str] = []

    def alarmed(*_: object) -> None:
        """The next frame comes while the first one's wishes are granted."""
        link.on_alarm = lambda *_: said.append("again")
        link.heard("station", METER, False)
        said.append(f"shown {len(observer.seen)}, settled {len(observer.outcomes)}")

    link.on_alarm = alarmed
    link.heard("station", METER, False)
    assert len(observer.outcomes) == 3, "settled by now, not when the next thing happens"
    assert link._due <= clock.seconds() + 3.0, "ours has so long to be answered: it is watched from now on"
    assert json.loads(await station.hear())[2:] == ["Reset", {}]
    assert [await cpms.hear() for _ in range(2)] == [METER, METER]
    assert said == ["shown 1, settled 0", "again"]
    assert [token for token, *_ in observer.outcomes] == [6, 5, 6], "one at a time: no slot for the others"
    observer.on_saw, observer.tap_failures = lambda exchange: (), 1
    station.say(METER)
    await until(lambda: len(observer.seen) == 3)
    assert rig.world.counts.total("tap_failures") == 1, "what it could not read is counted"


@pytest_twisted.ensureDeferred
async def test_an_impossible_wish_is_the_observers_mistake(rig: Rig) -> None:
    observer = watched(rig)
    observer.on_wish = lambda: (Inject(1, "First", {"a": object()}),)
    station, cpms = await rig.pair()
    rig.opened[0].wish(NO_SCHEDULE)
    assert rig.world.counts.total("tap_failures") == 1
    station.say(b"x")
    assert await cpms.hear() == b"x"


@pytest_twisted.ensureDeferred
async def test_what_is_learned_at_the_end_is_written(rig: Rig) -> None:
    observer = watched(rig)
    observer.on_closed = lambda: (Write((), ()), Inject(9, "TooLate", {}))
    station, _ = await rig.pair()
    station.close()
    await until(lambda: not len(rig.links))
    assert len(rig.world.written) == 1
    assert observer.outcomes == [(9, "closed", None)]
    assert observer.ended == 1
    rig.opened[0].wish(NO_SCHEDULE)
    rig.opened[0].close(1001)
    assert observer.ended == 1


@pytest_twisted.ensureDeferred
async def test_frames_are_counted_by_direction_and_kind(rig: Rig) -> None:
    station, cpms = await rig.pair()
    for text in (b'[2,"1","A",{}]', b'[3,"x",{}]', b"?"):
        station.say(text)
        assert await cpms.hear() == text
    for text in (b'[4,"1","E","",{}]', b'[5,"1","E","",{}]', b'[6,"1","A",{}]'):
        cpms.say(text)
        assert await station.hear() == text
    cpms.say(b"\0", 0x82)
    await station.raw()
    counted = {at[1:]: n for at, n in rig.world.counts.of.items() if at[0] == "frames"}
    up = {("to-cpms", kind): 1 for kind in ("call", "result", "opaque")}
    assert counted == {**up, **{("to-station", kind): 1 for kind in ("error", "resulterror", "send", "binary")}}
    assert rig.world.counts.total("opaque_frames") == 2


@pytest_twisted.ensureDeferred
async def test_an_answer_may_come_before_the_link_is_whole(rig: Rig) -> None:
    """A CPMS that asks at once, to a station whose observer wishes at once: nothing is lost, and law 3 holds."""
    observer = watched(rig)
    rig.cpms.on_head = lambda wire: accept(wire, behind=wire.wire(RESET))
    station = await rig.dial()
    rig.world.committing = lambda: succeed(None)
    assert await station.status() == 101
    observer.on_wish = lambda: (Inject(1, "First", {}),)
    rig.opened[0].wish(NO_SCHEDULE)
    assert await station.hear() == RESET
    await nap(0.05)
    assert station.buffer == b""
    station.say(b'[3,"c",{}]')
    assert json.loads(await station.hear())[2] == "First"
