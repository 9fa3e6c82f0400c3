"""Learning comes after relaying: within a reactor's turn every frame goes on first, and what is learned is the same as without."""

from __future__ import annotations

import itertools
from typing import Any

from fakes import World
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from broker.model.basics import Key
from broker.model.orders import Inject, Pass, Write
from broker.model.traffic import Interest
from broker.net.lessons import MOST, Lessons
from broker.net.link import Link
from broker.net.pulse import Pulse
from tests.net.test_link_wishes import NO_SCHEDULE, Scripted

ALL = Interest(
    at_call=frozenset({"MeterValues", "StopTransaction"}),
    at_answer=frozenset({"StatusNotification", "StartTransaction"}),
    promised=frozenset({"StartTransaction", "StopTransaction"}),
    guarded=frozenset({"SetChargingProfile"}),
    proof=frozenset({"Heartbeat"}),
)
METER = b'[2,"m","MeterValues",{}]'


class Leg:
    """Says what it is told into a list that both legs share."""

    def __init__(self, side: str, clock: Clock, said: list[Any]) -> None:
        self.side, self.said = side, said
        self.pulse = Pulse(clock.seconds)
        self.gone, self.parted, self.unsent = None, False, 0

    def tell(self, frame: Any) -> None:
        self.said.append((self.side, frame.text))

    def guard_flow(self) -> None: ...

    def attach(self, link: Link) -> None: ...

    def ping(self) -> None: ...

    def cut(self) -> None: ...

    def shut(self, code: int, reason: str = "") -> None:
        self.said.append((self.side, code))


class Told(Scripted):
    """Notes in the same list what it is asked, in order."""

    def __init__(self, said: list[Any], name: str) -> None:
        super().__init__(ALL)
        self.said, self.name = said, name

    def saw(self, exchange: Any, now: Any) -> Any:
        self.said.append((self.name, "saw", exchange.call, exchange.answer))
        return super().saw(exchange, now)

    def guarded(self, token: int, exchange: Any, now: Any) -> Any:
        self.said.append((self.name, "guarded", exchange.call))
        return super().guarded(token, exchange, now)

    def wish(self, schedule: Any, now: Any) -> Any:
        self.said.append((self.name, "wish"))
        return super().wish(schedule, now)

    def closed(self, now: Any) -> Any:
        self.said.append((self.name, "closed"))
        return super().closed(now)


class Bench:
    """Links that share one reactor's turns. `said`: whatever any leg or observer was told, in order."""

    def __init__(self, links: int = 1) -> None:
        self.world: Any = World()
        self.world.reactor = self.clock = Clock()
        self.said: list[Any] = []
        self.observers = [Told(self.said, f"observer {n}") for n in range(links)]
        self.links: list[Any] = []
        for n, observer in enumerate(self.observers):
            legs: Any = [Leg(f"{side} {n}", self.clock, self.said) for side in ("station", "cpms")]
            self.links.append(Link(Key("acme", f"CS-{n}"), f"acme/CS-{n}", *legs, observer, self.world, address=""))
            self.links[-1].station_open()

    @property
    def lessons(self) -> Lessons:
        return self.world.lessons  # type: ignore[no-any-return]


def test_in_a_turn_every_links_frames_go_on_before_anything_is_learned() -> None:
    bench = Bench(3)
    bench.lessons.begin()
    for link in bench.links:
        link.heard("station", METER, False)
    frames = [(f"cpms {n}", METER) for n in range(3)]
    assert bench.said == frames
    bench.lessons.end()
    assert bench.said == frames + [(f"observer {n}", "saw", METER, None) for n in range(3)]
    bench.links[0].heard("station", METER, False)
    assert bench.said[6:] == [frames[0], ("observer 0", "saw", METER, None)], "outside a turn at once"


def test_what_is_asked_of_an_observer_finds_it_up_to_date() -> None:
    for ask in ("guarded", "wish", "explain", "observer", "seat", "closed"):
        bench = Bench()
        link = bench.links[0]
        bench.lessons.begin()
        link.heard("station", METER, False)
        del bench.said[:]
        if ask == "guarded":
            link.heard("cpms", b'[2,"g","SetChargingProfile",{}]', False)
        elif ask == "wish":
            link.wish(NO_SCHEDULE)
        elif ask == "explain":
            assert link.explain() == {"seen": 1}
        elif ask == "observer":
            assert link.observer.seen
        elif ask == "seat":
            link.seat(None, prove=False)
        else:
            link.lost("station", 1000, "")
        assert bench.said[0] == ("observer 0", "saw", METER, None), ask
        bench.lessons.end()
        assert len(bench.observers[0].seen) == 1, "and not twice"


def test_what_it_wants_is_done_and_timed_at_the_turns_end() -> None:
    bench = Bench()
    link, observer = bench.links[0], bench.observers[0]
    observer.on_saw = lambda exchange: (Write((), (), exchange.token), Inject(1, "Reset", {}, timeout_s=2.0))
    bench.lessons.begin()
    link.heard("station", METER, False)
    bench.lessons.end()
    assert [what for what in bench.said if what[0] == "station 0"], "ours went"
    bench.clock.advance(2.0)
    assert [outcome[1] for outcome in observer.outcomes] == ["timeout"], "and its timer ran from then"


def test_no_more_than_so_many_wait() -> None:
    bench = Bench(2)
    bench.lessons.begin()
    for n in range(MOST - 1):
        bench.links[n % 2].heard("station", METER, False)
    assert not any(observer.seen for observer in bench.observers)
    bench.links[1].heard("station", METER, False)
    assert [len(observer.seen) for observer in bench.observers] == [MOST // 2] * 2
    bench.lessons.end()
    assert [len(observer.seen) for observer in bench.observers] == [MOST // 2] * 2


def test_one_that_cannot_go_on_does_not_keep_the_others_from_learning() -> None:
    learned: list[str] = []
    logged: list[str] = []

    class One:
        def __init__(self, name: str) -> None:
            self.name = name

        def learn(self) -> None:
            learned.append(self.name)
            if self.name == "bad":
                raise ValueError("secret-tag")

    lessons = Lessons()
    lessons.begin()
    lessons.add(One("bad"))
    lessons.add(One("good"))
    observer = lambda event: logged.append(formatEvent(event))  # noqa: E731
    globalLogPublisher.addObserver(observer)
    try:
        lessons.end()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert learned == ["bad", "good"]
    assert [line for line in logged if "bad could not go on" in line and "ValueError" in line]
    assert "secret-tag" not in "".join(logged)


ACTIONS = ("MeterValues", "StatusNotification", "StartTransaction", "StopTransaction", "Heartbeat")
said_by_station = st.tuples(st.just("station"), st.sampled_from(["1", "2", "3"]), st.sampled_from(ACTIONS))
answered_by_cpms = st.tuples(st.just("answer"), st.sampled_from(["1", "2", "3"]), st.just(""))
called_by_cpms = st.tuples(st.just("cpms"), st.just("g"), st.sampled_from(["SetChargingProfile", "Reset"]))
other = st.tuples(st.sampled_from(["wish", "lost"]), st.just(""), st.just(""))
STEPS = st.lists(st.tuples(st.integers(0, 1), said_by_station | answered_by_cpms | called_by_cpms | other), max_size=30)


def play(steps: list[Any], sizes: list[int]) -> Bench:
    """The same conversation, so many steps in each turn (0: outside of any)."""
    bench = Bench(2)
    for observer in bench.observers:
        observer.on_guarded = lambda token: (Pass(token),)
    turns, left = itertools.cycle(sizes), 0
    for at, (kind, id, action) in steps:
        if left == 0:
            bench.lessons.end()
            left = next(turns)
            if left:
                bench.lessons.begin()
        left = max(0, left - 1)
        link = bench.links[at]
        if kind == "answer":
            link.heard("cpms", f'[3,"{id}",{{}}]'.encode(), False)
        elif kind == "wish":
            link.wish(NO_SCHEDULE)
        elif kind == "lost":
            link.lost("cpms", 1000, "")
        else:
            link.heard(kind, f'[2,"{id}","{action}",{{}}]'.encode(), False)
    bench.lessons.end()
    return bench


@given(STEPS, st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_the_same_is_relayed_and_learned_however_turns_fall(steps: list[Any], sizes: list[int]) -> None:
    at_once, in_turns = play(steps, [0]), play(steps, sizes)
    for n in (0, 1):
        for whom in (f"cpms {n}", f"observer {n}"):
            assert [what for what in in_turns.said if what[0] == whom] == [what for what in at_once.said if what[0] == whom]
        # The answer to an older CALL may overtake one that waits for its commit (test_relay_laws); here each has the same in the end.
        told = [sorted(map(str, (what[1] for what in bench.said if what[0] == f"station {n}"))) for bench in (in_turns, at_once)]
        assert told[0] == told[1]
    assert sorted(map(str, in_turns.world.written)) == sorted(map(str, at_once.world.written))
    assert [link.quiet for link in in_turns.links] == [link.quiet for link in at_once.links]
