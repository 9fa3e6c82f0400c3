"""One station's two sockets with a relay between: where frames, observations, schedules and outcomes cross. It decides nothing.

What comes from a leg goes to the relay; what the relay and the observer want done is done here, in their order. One life: when
either leg goes, the other is closed and the link is over. An observer's failure is the observer's: it is logged, counted, and
the relay goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from broker.counts import Counts
from broker.effects import FORWARD, Answered, Counted, Effect, Effects, Guarded, Held, Saw, Sent, Tell
from broker.model import (
    CALL,
    CALLERROR,
    CALLRESULT,
    CALLRESULTERROR,
    NOTHING,
    SEND,
    Alarm,
    Exchange,
    Inject,
    Instant,
    Interest,
    Key,
    Leg,
    Pass,
    Schedule,
    Write,
)
from broker.net.leg import LegMixin
from broker.ocpp.frames import frame
from broker.relay import Relay

log = Logger()

Wish = Write | Inject | Pass | Alarm

KINDS: Final = {CALL: "call", CALLRESULT: "result", CALLERROR: "error", CALLRESULTERROR: "resulterror", SEND: "send"}
TO: Final[dict[Leg, str]] = {"station": "to-station", "cpms": "to-cpms"}
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
SAMPLE: Final = 64  # every how many frames the relay's time is taken


class Observer(Protocol):
    """What learns from a link and has wishes for it. Pure: `broker.observer`."""

    interest: Interest

    @property
    def wake_at(self) -> float | None: ...

    @property
    def tap_failures(self) -> int: ...

    def saw(self, exchange: Exchange, now: Instant) -> Iterable[Wish]: ...

    def guarded(self, token: int, exchange: Exchange, now: Instant) -> Iterable[Wish]: ...

    def answered(self, token: int, outcome: str, answer: bytes | None, now: Instant) -> Iterable[Wish]: ...

    def wish(self, schedule: Schedule, now: Instant) -> Iterable[Wish]: ...

    def tick(self, now: Instant) -> Iterable[Wish]: ...

    def closed(self, now: Instant) -> Iterable[Wish]: ...

    def explain(self) -> dict[str, Any]: ...


class Surroundings(Protocol):
    """What a link needs of the world."""

    reactor: Any
    counts: Counts
    hold_s: float
    ping_s: float

    def wall(self) -> float: ...

    def new_id(self) -> str: ...

    def write(self, key: Key, write: Write) -> Deferred[None]: ...


class Link:
    """`name` is how the log knows it: `acme/CS-7#3`."""

    def __init__(
        self, key: Key, name: str, station: LegMixin, cpms: LegMixin, observer: Observer | None, world: Surroundings, *, address: str
    ) -> None:
        self.key, self.name, self.address = key, name, address
        self.subprotocol: str | None = None
        self.opened_at = world.wall()
        self.gone: Deferred[None] = Deferred()
        """Fires when both sockets are closed: from then on the CPMS may see another connection of this station."""
        self.on_over: Callable[[Link], None] = lambda _: None
        self._world = world
        self._clock = world.reactor.seconds
        self._legs: dict[Leg, LegMixin] = {"station": station, "cpms": cpms}
        self._observer = observer
        self._relay = Relay(observer.interest if observer else NOTHING, new_id=world.new_id, hold=world.hold_s)
        self._actions: dict[int, str] = {}  # CALLs of ours that are not settled: token → action
        self._todo: deque[Effect] = deque()
        self._doing = False
        self._timer: Any = None
        self._closing: list[Any] = []
        self._ended = False
        self._frames = 0
        self._failures = 0
        for leg in self._legs.values():
            leg.on_parted = self._parted

    # ------------------------------------------------------------ life

    def station_open(self) -> None:
        """The station's 101 is written: the link is whole. What the CPMS said meanwhile goes first."""
        for side, leg in self._legs.items():
            if leg.gone is not None:  # before the link was whole
                self.lost(side, *leg.gone)
                return
        spoken = self.subprotocol or "no subprotocol"
        log.info("{link} open: {version} from {address}", link=self.name, version=spoken, address=self.address)
        for leg in self._legs.values():
            leg.guard_flow()
        self._legs["cpms"].attach(self)
        self._legs["station"].attach(self)
        self._rearm()

    def lost(self, leg: Leg, code: int, reason: str) -> None:
        """A leg said good-bye or is gone: the other is told the same."""
        if self._ended:
            return
        other: Leg = "cpms" if leg == "station" else "station"
        log.info("{link} closed by the {leg}: {code}", link=self.name, leg=leg, code=code)
        self._end()
        self._legs[other].shut(code, reason)

    def close(self, code: int, reason: str = "") -> None:
        """End it from our side, both legs alike."""
        if self._ended:
            return
        log.info("{link} closed by us: {code} {reason}", link=self.name, code=code, reason=reason)
        self._end()
        for leg in self._legs.values():
            leg.shut(code, reason)

    def _end(self) -> None:
        self._ended = True
        now = self._now()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._do(self._relay.closed(now.mono), now)
        if self._observer is not None:
            self._ask(self._observer.closed, now)
        # A peer that does not finish its closing handshake is not waited for.
        self._closing = [self._world.reactor.callLater(LINGER_S, leg.cut) for leg in self._legs.values()]
        self.on_over(self)
        self._parted()

    def _parted(self) -> None:
        if self._ended and not self.gone.called and all(leg.parted for leg in self._legs.values()):
            for cut in self._closing:
                if cut.active():
                    cut.cancel()
            self.gone.callback(None)

    @property
    def quiet(self) -> bool:
        """No CALL is open and no frame waits: a good moment to close it."""
        return self._relay.quiet

    @property
    def silent_s(self) -> float:
        """For how long the station has sent no OCPP message."""
        return float(self._clock() - self._legs["station"].spoke_at)

    def alive(self, within_s: float) -> Deferred[bool]:
        """Ping the station; whether any byte of it came within so many seconds."""
        leg, asked = self._legs["station"], self._clock()
        answer: Deferred[bool] = Deferred()

        def look() -> None:
            if self._ended or leg.heard_at > asked or self._clock() >= asked + within_s:
                answer.callback(not self._ended and leg.heard_at > asked)
            else:
                self._world.reactor.callLater(0.1, look)

        leg.ping()
        self._world.reactor.callLater(0.05, look)
        return answer

    # ------------------------------------------------------------ frames

    def heard(self, leg: Leg, text: bytes, binary: bool) -> None:
        """A message came on a leg."""
        if self._ended:
            return
        began = self._clock()
        came = frame(text, binary)
        other: Leg = "cpms" if leg == "station" else "station"
        head = came.head
        self._world.counts.add("frames", TO[other], "binary" if binary else KINDS.get(head.kind, "opaque") if head else "opaque")
        effects = self._relay.from_station(began, came) if leg == "station" else self._relay.from_cpms(began, came)
        if effects is FORWARD:
            self._legs[other].tell(came)
        else:
            self._do(effects, Instant(began, self._world.wall()))
            self._rearm()
        self._frames += 1
        if self._frames % SAMPLE == 0:
            self._world.counts.took("relay_seconds", self._clock() - began)

    def stalled(self, leg: Leg, stalled: bool) -> None:
        """A leg's peer stopped, or began again, to read: the other's bytes are left in its socket meanwhile."""
        if not self._ended:
            self._legs["cpms" if leg == "station" else "station"].read(not stalled)
            self._rearm()

    def _do(self, effects: Effects, now: Instant) -> None:
        """In their order; what follows from one of them comes after all of them."""
        self._todo.extend(effects)
        if self._doing:
            return
        self._doing = True
        try:
            while self._todo:
                self._one(self._todo.popleft(), now)
        finally:
            self._doing = False

    def _one(self, effect: Effect, now: Instant) -> None:
        counts = self._world.counts
        if isinstance(effect, Tell):
            self._legs[effect.leg].tell(effect.frame)
        elif isinstance(effect, Saw):
            self._saw(effect.exchange, now)
        elif isinstance(effect, Guarded):
            if not self._ask(partial(self._watcher.guarded, effect.token, effect.exchange), now):
                self._do(self._relay.passed(now.mono, effect.token), now)
        elif isinstance(effect, Answered):
            counts.add("injected", self._actions.pop(effect.token, "?"), effect.outcome)
            self._ask(partial(self._watcher.answered, effect.token, effect.outcome, effect.answer), now)
        elif isinstance(effect, Held):
            counts.took("held_seconds", effect.seconds)
        elif isinstance(effect, Sent):
            log.info("{link} asks the station: {action}", link=self.name, action=self._actions.get(effect.token, "?"))
        elif isinstance(effect, Counted) and effect.what in COUNTED:
            counts.add(COUNTED[effect.what])

    # ------------------------------------------------------------ the observer

    @property
    def _watcher(self) -> Observer:
        assert self._observer is not None
        return self._observer

    def _saw(self, exchange: Exchange, now: Instant) -> None:
        known = self._ask(partial(self._watcher.saw, exchange), now)
        if not known and exchange.token is not None:  # nobody will ever commit it
            self._do(self._relay.committed(now.mono, exchange.token), now)

    def _ask(self, question: Callable[[Instant], Iterable[Wish]], now: Instant) -> bool:
        """Ask the observer and do what it wants; False if it failed or there is none."""
        if self._observer is None:
            return False
        try:
            wishes = tuple(question(now))
        except Exception as failure:
            self._world.counts.add("tap_failures")
            log.error("{link} could not learn from a frame, which is our fault: {kind}", link=self.name, kind=type(failure).__name__)
            return False
        failures = self._observer.tap_failures
        if failures > self._failures:
            self._world.counts.add("tap_failures", n=failures - self._failures)
            self._failures = failures
        for wish in wishes:
            self._grant(wish, now)
        return True

    def _grant(self, wish: Wish, now: Instant) -> None:
        if isinstance(wish, Write):
            self._write(wish)
        elif isinstance(wish, Inject):
            self._actions[wish.token] = wish.action
            self._do(self._relay.inject(now.mono, wish.token, wish.action, wish.payload, wish.wait_s, wish.timeout_s), now)
        elif isinstance(wish, Pass):
            self._do(self._relay.passed(now.mono, wish.token), now)
        else:
            log.warn("{link} {name}: {text}", link=self.name, name=wish.name, text=wish.text)

    def _write(self, wish: Write) -> None:
        def done(result: object) -> None:
            if result is not None:
                self._world.counts.add("store_failures")
            if wish.token is not None and not self._ended:
                now = self._now()
                self._do(self._relay.committed(now.mono, wish.token), now)
                self._rearm()

        self._world.write(self.key, wish).addBoth(done)

    def wish(self, schedule: Schedule) -> None:
        """The engine's newest schedule for one of this station's assets."""
        if self._observer is not None and not self._ended:
            self._ask(partial(self._watcher.wish, schedule), self._now())
            self._rearm()

    def explain(self) -> dict[str, Any]:
        """What is known of the station."""
        return self._observer.explain() if self._observer is not None else {}

    # ------------------------------------------------------------ time

    def _now(self) -> Instant:
        return Instant(self._clock(), self._world.wall())

    def _rearm(self) -> None:
        """One timer, for whoever wants to be woken first."""
        if self._ended:
            return
        times = [leg.due(self._world.ping_s) for leg in self._legs.values()]
        times += [at for at in (self._relay.wake_at, self._observer.wake_at if self._observer else None) if at is not None]
        at = min(times)
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= at:
                return
            self._timer.cancel()
        self._timer = self._world.reactor.callLater(max(0.0, at - self._clock()), self._tick)

    def _tick(self) -> None:
        now = self._now()
        for side, leg in self._legs.items():
            why = leg.check(self._world.ping_s)
            if why:
                log.info("{link} the {leg} {why}", link=self.name, leg=side, why=why)
                leg.cut()
                self.lost(side, 1001, "")
                return
        self._do(self._relay.tick(now.mono), now)
        if self._observer is not None:
            self._ask(self._observer.tick, now)
        self._rearm()
