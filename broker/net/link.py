"""One station's two sockets with a relay between: where frames, observations, schedules and outcomes cross. It decides nothing.

What comes from a leg goes to the relay; what the relay and the observer want done is done here, in their order. One life: when
either leg goes, the other is closed and the link is over. An observer's failure is the observer's: it is logged, counted, and
the relay goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.counts import Counts
from broker.effects import FORWARD, Answered, Counted, Effect, Effects, Guarded, Held, Saw, Sent, Tell
from broker.model.basics import Instant, Key
from broker.model.orders import Alarm, Inject, NewPassword, Pass, Passwords, PasswordsAnswered, PasswordsSent, Write
from broker.model.records import Fact
from broker.model.schedules import Schedule
from broker.model.traffic import CALL, CALLERROR, CALLRESULT, CALLRESULTERROR, NOTHING, OURS, SEND, Exchange, Leg
from broker.net.leg import LegMixin
from broker.net.lessons import Lessons
from broker.net.observing import Observer as Observer
from broker.net.observing import Observing, Wish
from broker.ocpp.frames import Frame, read_head
from broker.relay import Relay
from broker.reload import Place

log = Logger()

KINDS: Final = {CALL: "call", CALLRESULT: "result", CALLERROR: "error", CALLRESULTERROR: "resulterror", SEND: "send"}
TO: Final[dict[Leg, str]] = {"station": "to-station", "cpms": "to-cpms"}
OTHER: Final[dict[Leg, Leg]] = {"station": "cpms", "cpms": "station"}
_NAMES: Final[list[tuple[int | str, str]]] = [*KINDS.items(), (0, "opaque"), ("binary", "binary")]
FRAMES: Final = {leg: {kind: ("frames", TO[other], name) for kind, name in _NAMES} for leg, other in OTHER.items()}
"""What is counted, by the leg that a frame came from and its kind."""
COUNTED: Final = {
    "opaque": "opaque_frames",
    "late-answer": "late_answers",
    "untapped": "untapped",
    "unpromised": "unpromised",
    "unguarded": "unguarded",
    "hold-full": "hold_full",
    "forgotten": "forgotten",
}
LINGER_S: Final = 3.0  # how long a peer may take over the closing handshake
SIGN_S: Final = 0.1  # how often we look whether one that was asked for a sign has given it
HURRY_S: Final = 0.8  # and when somebody waits for its place: 5 s to be sure that it is dead, and 6 s in all
SAMPLE: Final = 64  # every how many frames the relay's time is taken
LATE_S: Final = 1.0  # a timer that fires so long after its time says that this process stood still
SOON_S: Final = 0.005  # no timer is shorter: one that is always due must not take the whole machine


class Surroundings(Protocol):
    """What a link needs of the world."""

    reactor: Any
    counts: Counts
    lessons: Lessons
    hold_s: float
    ping_s: float

    def wall(self) -> float: ...

    def new_id(self) -> str: ...

    def write(self, key: Key, write: Write) -> Deferred[None]: ...


class Watcher(Protocol):
    """Who is shown a link's frames as they go by."""

    def saw(self, source: str, target: str, frame: bytes, unreadable: bool) -> None: ...

    def event(self, name: str) -> None: ...


class Link:
    """`name` is how the log knows it: `acme/CS-7#3`."""

    # CPython shares the names of thirty attributes among instances, and not one more: 1.7 KiB a link.
    __slots__ = (
        "__weakref__", "_actions", "_clock", "_closing", "_doing", "_due", "_frames", "_learning", "_legs", "_lessons", "_observing",
        "_relay", "_timer", "_todo", "_waiting", "_world", "address", "facts_written", "gone", "key", "name", "on_alarm", "on_over",
        "on_password", "opened", "opened_at", "over", "place", "subprotocol", "watchers", "whom",
    )  # fmt: skip

    def __init__(
        self, key: Key, name: str, station: LegMixin, cpms: LegMixin, observer: Observer | None, world: Surroundings, *, address: str
    ) -> None:
        self.key, self.name, self.address = key, name, address
        self.whom = address
        """Who dialled, as far as can be told: an address, or whose certificate."""
        self.subprotocol: str | None = None
        self.place: Place | None = None
        """Where the settings of its opening, or of the last reload, put it."""
        self.facts_written = 0
        """How often something was written that a restart must know."""
        self.opened = Instant(world.reactor.seconds(), world.wall())
        self.opened_at = world.wall()
        self.over = False
        """It ended; its sockets may still be closing."""
        self.gone = False
        """Both sockets are closed: from now on the CPMS may see another connection of this station."""
        self.watchers: tuple[Watcher, ...] = ()
        """Who is shown each frame; they do nothing with it before it is gone."""
        self.on_over: Callable[[Link], None] = _nobody
        self.on_alarm: Callable[[Key, Alarm], None] = _nobody
        self.on_password: Callable[[Key, str, Passwords], Deferred[None]] = _nowhere
        self._world = world
        self._clock = world.reactor.seconds
        self._legs: dict[Leg, LegMixin] = {"station": station, "cpms": cpms}
        self._observing = Observing(observer, name, world.counts)
        self._relay = Relay(observer.interest if observer else NOTHING, new_id=world.new_id, hold=world.hold_s)
        self._actions: dict[int, str] = {}  # CALLs of ours that are not settled: token → action
        self._todo: list[Effect] = []  # a few at most; an empty deque is 600 bytes a link
        self._doing = False
        self._lessons: list[tuple[Exchange, Instant]] = []  # went by, and not yet shown to the observer
        self._learning = False
        self._timer: Any = None
        self._due = math.inf  # when it fires
        self._closing: Any = None  # cuts who does not finish its good-bye
        self._waiting: list[Deferred[None]] = []
        self._frames = 0
        station.on_parted = cpms.on_parted = self._parted

    # ------------------------------------------------------------ life

    def station_open(self) -> None:
        """The station's 101 is written: the link is whole. What the CPMS said meanwhile goes first."""
        spoken = self.subprotocol or "no subprotocol"
        log.info("{link} open: {version} from {address}", link=self.name, version=spoken, address=self.address)
        for leg in self._legs.values():
            leg.guard_flow()
        self._legs["cpms"].attach(self)
        self._legs["station"].attach(self)
        for side, leg in self._legs.items():
            if leg.gone is not None:  # it said good-bye before the link was whole
                self.lost(side, *leg.gone)
        self._rearm()

    def lost(self, leg: Leg, code: int, reason: str) -> None:
        """A leg said good-bye or is gone: the other is told the same."""
        if self.over:
            return
        log.info("{link} closed by the {leg}: {code}", link=self.name, leg=leg, code=code)
        self._end()
        self._legs[OTHER[leg]].shut(code, reason)

    def close(self, code: int, reason: str = "", linger_s: float = LINGER_S) -> None:
        """End it from our side, both legs alike; a peer has so many seconds for its good-bye."""
        if self.over:
            return
        log.info("{link} closed by us: {code} {reason}", link=self.name, code=code, reason=reason)
        self._end(linger_s)
        for leg in self._legs.values():
            leg.shut(code, reason)

    def replace(self, reason: str) -> None:
        """Make room for a newer connection of this station, without delay."""
        self.close(1008, reason, HURRY_S)

    def when_gone(self) -> Deferred[None]:
        """Fires when both sockets are closed. Each caller gets one of its own and may cancel it."""
        if self.gone:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def _end(self, linger_s: float = LINGER_S) -> None:
        self.over = True
        for watcher in self.watchers:
            watcher.event("away")
        now = self._now()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._do(self._relay.closed(now.mono), now)
        self._ask(lambda observer: observer.closed(now), now)
        # A peer that does not finish its closing handshake is not waited for.
        self._closing = self._world.reactor.callLater(linger_s, self._cut)
        self.on_over(self)
        self._parted()

    def _parted(self) -> None:
        if not self.over or self.gone or not all(leg.parted for leg in self._legs.values()):
            return
        self.gone = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        for waiting in self._waiting:
            if not waiting.called:  # not cancelled
                waiting.callback(None)

    def _cut(self) -> None:
        for leg in self._legs.values():
            leg.cut()

    @property
    def quiet(self) -> bool:
        """No CALL is open and no frame waits: a good moment to close it."""
        return self._relay.quiet

    @property
    def silent_s(self) -> float:
        """For how long the station has sent no OCPP message."""
        return float(self._clock() - self._legs["station"].pulse.spoke_at)

    def alive(self, within_s: float) -> Deferred[bool]:
        """Ping the station; whether any byte of it came within so many seconds. One whose frames cannot go on is not doubted."""
        leg, asked = self._legs["station"], self._clock()
        answer: Deferred[bool] = Deferred()

        def look(last: bool) -> None:
            gone = self.over or leg.hung_up
            lives = not gone and (leg.pulse.heard_at > asked or not leg.reading)
            if answer.called:  # cancelled
                return
            if gone or lives or last:
                answer.callback(lives)
            else:
                # When its time is up, there is one look more: if this process stood still, what came meanwhile is read by then.
                self._world.reactor.callLater(SIGN_S, look, self._clock() >= asked + within_s)

        leg.ping()
        self._world.reactor.callLater(SIGN_S / 2, look, False)
        return answer

    # ------------------------------------------------------------ frames

    def heard(self, leg: Leg, text: bytes, binary: bool, wire: bytes | None = None) -> None:
        """A message came on a leg; `wire`: the very bytes, if they can go on as they are."""
        if self.over:
            return
        began = self._clock()
        head = None if binary else read_head(text)
        came, other = Frame(head, text, binary, wire), OTHER[leg]
        if self.watchers:
            ours = head is not None and leg == "station" and head.kind in (CALLRESULT, CALLERROR) and head.id.startswith(OURS)
            self._show(leg, "broker" if ours else other, came)
        self._world.counts.count(FRAMES[leg][head.kind if head is not None else "binary" if binary else 0])
        effects = self._relay.from_station(began, came) if leg == "station" else self._relay.from_cpms(began, came)
        if effects is FORWARD:
            self._legs[other].tell(came)
        elif isinstance(effects, Exchange):
            self._legs[other].tell(came)
            self._saw(effects, Instant(began, self._world.wall()))
        else:
            self._do(effects, Instant(began, self._world.wall()))
            self._hurry()
        self._frames += 1
        if self._frames % SAMPLE == 0:
            self._world.counts.took("relay_seconds", self._clock() - began)

    def _show(self, source: str, target: str, frame: Frame) -> None:
        for watcher in self.watchers:
            watcher.saw(source, target, frame.text, frame.head is None)

    def stalled(self, leg: Leg, stalled: bool) -> None:
        """A leg's peer stopped, or began again, to read: the other's bytes are left in its socket meanwhile."""
        if not self.over:
            self._legs[OTHER[leg]].let_flow(not stalled)
            self._rearm()

    def _do(self, effects: Effects, now: Instant) -> None:
        """In their order; what follows from one of them comes after all of them."""
        self._todo.extend(effects)
        if self._doing:
            return
        self._doing = True
        try:
            while self._todo:
                self._one(self._todo.pop(0), now)
        finally:
            self._doing = False

    def _one(self, effect: Effect, now: Instant) -> None:
        counts = self._world.counts
        if isinstance(effect, Tell):
            if self.watchers and effect.leg == "station" and effect.frame.head is not None and effect.frame.head.id.startswith(OURS):
                self._show("broker", "station", effect.frame)
            self._legs[effect.leg].tell(effect.frame)
        elif isinstance(effect, Saw):
            self._saw(effect.exchange, now)
        elif isinstance(effect, Guarded):
            self._guarded(effect, now)
        elif isinstance(effect, Answered):
            self._answered(effect, now)
        elif isinstance(effect, Held):
            counts.took("held_seconds", effect.seconds)
        elif isinstance(effect, Sent):
            log.info("{link} asks the station: {action}", link=self.name, action=self._actions.get(effect.token, "?"))
        elif isinstance(effect, Counted) and effect.what in COUNTED:
            counts.add(COUNTED[effect.what])

    # ------------------------------------------------------------ the observer

    def _saw(self, exchange: Exchange, now: Instant) -> None:
        """It is shown when this turn's frames have gone on, and before anything else is asked of the observer."""
        self._lessons.append((exchange, now))
        self._world.lessons.add(self)

    def learn(self) -> None:
        """Show the observer what went by, and do what it wants after all of it."""
        if self._learning:  # it goes on with what came meanwhile
            return
        doing, self._doing, self._learning = self._doing, True, True
        try:
            while self._lessons:
                exchange, now = self._lessons.pop(0)
                if not self._granted(self._observing.saw(exchange, now), now) and exchange.token is not None:
                    self._do(self._relay.committed(now.mono, exchange.token), now)  # nobody else ever will
        finally:
            self._doing, self._learning = doing, False
        if self._todo and not doing:
            self._do((), self._now())
        self._hurry()

    def _catch_up(self) -> None:
        if self._lessons:
            self.learn()

    def _guarded(self, guarded: Guarded, now: Instant) -> None:
        if not self._ask(lambda observer: observer.guarded(guarded.token, guarded.exchange, now), now):
            self._do(self._relay.passed(now.mono, guarded.token), now)

    def _answered(self, settled: Answered, now: Instant) -> None:
        self._world.counts.add("injected", self._actions.pop(settled.token, "?"), settled.outcome)
        self._ask(lambda observer: observer.answered(settled.token, settled.outcome, settled.answer, now), now)

    def _ask(self, question: Callable[[Observer], Iterable[Wish]], now: Instant) -> bool:
        """Ask the observer and do what it wants; False if it failed or there is none."""
        self._catch_up()
        return self._granted(self._observing.ask(question), now)

    def _granted(self, wishes: tuple[Wish, ...] | None, now: Instant) -> bool:
        for wish in wishes or ():
            try:
                self._grant(wish, now)
            except Exception as failure:  # a wish that cannot be: the observer's mistake, not the relay's
                self._observing.failed(failure)
                return False
        return wishes is not None

    def _grant(self, wish: Wish, now: Instant) -> None:
        if isinstance(wish, Write):
            self._write(wish)
        elif isinstance(wish, Inject):
            self._actions[wish.token] = wish.action
            self._do(self._relay.inject(now.mono, wish.token, wish.action, wish.payload, wish.wait_s, wish.timeout_s), now)
        elif isinstance(wish, Pass):
            self._do(self._relay.passed(now.mono, wish.token), now)
        elif isinstance(wish, NewPassword | PasswordsSent | PasswordsAnswered):
            kept = self.on_password(self.key, self.name, wish)
            kept.addBoth(self._stored, wish.token if isinstance(wish, PasswordsSent) else None)
        else:
            log.warn("{link} {name}: {text}", link=self.name, name=wish.name, text=wish.text)
            self.on_alarm(self.key, wish)

    def _write(self, wish: Write) -> None:
        self.facts_written += bool(wish.facts)
        self._world.write(self.key, wish).addBoth(self._stored, wish.token)

    def _stored(self, result: object, token: int | None) -> None:
        """What could not be stored was counted by the store: here its answer is let go, unpromised."""
        if token is not None and not self.over:
            now = self._now()
            self._do(self._relay.committed(now.mono, token, not isinstance(result, Failure)), now)
            self._rearm()

    def wish(self, schedule: Schedule) -> None:
        """The engine's newest schedule for one of this station's assets."""
        if not self.over:
            now = self._now()
            self._ask(lambda observer: observer.wish(schedule, now), now)
            self._rearm()

    @property
    def observer(self) -> Observer | None:
        """Who learns from it, and has learned all there was."""
        self._catch_up()
        return self._observing.observer

    def seat(self, observer: Observer | None, *, prove: bool) -> None:
        """Another one learns from now on, in the middle of the conversation; `prove`: it does not know yet that both ends live."""
        if not self.over:
            self._catch_up()
            now = self._now()
            self._observing.seat(observer)
            self._do(self._relay.seat(now.mono, observer.interest if observer else NOTHING, prove=prove), now)
            self._ask(lambda one: one.tick(now), now)
            self._rearm()

    def steer(self, facts: Iterable[Fact]) -> bool:
        """What an operator decided about this station. False if nobody here could hear it."""
        if self.over:
            return False
        now = self._now()
        heard = self._ask(lambda observer: observer.steer(facts, now), now)
        self._rearm()
        return heard

    def explain(self) -> dict[str, Any]:
        """What is known of the station."""
        self._catch_up()
        return self._observing.explain()

    # ------------------------------------------------------------ time

    def _now(self) -> Instant:
        return Instant(self._clock(), self._world.wall())

    def _hurry(self) -> None:
        """A message came: relay and observer may want to be woken earlier than they said. The peers' pulses never do for that."""
        relay, observing, due = self._relay.wake_at, self._observing.wake_at, self._due
        if due == math.inf or (observing is not None and observing < due) or (relay is not None and relay < due):
            self._rearm()

    def _rearm(self) -> None:
        """One timer, for whoever wants to be woken first."""
        if self.over:
            return
        times = [leg.pulse.due(self._world.ping_s) for leg in self._legs.values()]
        times += [at for at in (self._relay.wake_at, self._observing.wake_at) if at is not None]
        now = self._clock()
        at = max(min(times), now + SOON_S)
        if self._timer is not None and self._timer.active():
            if self._due <= at:
                return
            self._timer.cancel()
        self._due = at
        self._timer = self._world.reactor.callLater(at - now, self._tick)

    def _tick(self) -> None:
        now, due, self._due = self._now(), self._due, math.inf
        if LATE_S < now.mono - due < math.inf:
            # What came meanwhile is still in the sockets: it is read before anybody is judged. Nothing moves that second time.
            self._due, self._timer = -math.inf, self._world.reactor.callLater(SOON_S, self._tick)
            return
        for side, leg in self._legs.items():
            verdict = leg.pulse.check(self._world.ping_s, leg.unsent)
            if verdict == "":
                leg.ping()
            elif verdict is not None:
                log.info("{link} the {leg} {why}", link=self.name, leg=side, why=verdict)
                leg.cut()
                self.lost(side, 1001, "")
                return
        self._do(self._relay.tick(now.mono), now)
        self._catch_up()
        if self._observing.due(now.mono):
            self._ask(lambda observer: observer.tick(now), now)
        self._rearm()


def _nobody(*_: object) -> None:
    """Is told."""


def _nowhere(*_: object) -> Deferred[None]:
    """Is where it is kept."""
    return succeed(None)
