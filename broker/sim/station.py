"""A simulated charging station: it boots, meters, runs transactions and obeys every profile it holds.

Its words are `broker.sim.words`, its answers `broker.sim.answers`, its physics `broker.sim.cars`, its socket `broker.sim.dial`;
here they meet the clock. The station's own register at begin and end of each session is the truth that others' numbers are
held against.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from broker.sim import answers, cars, composite
from broker.sim.bay import NOTHING_YET, Bay, Settings
from broker.sim.cars import Car, Charge, Socket
from broker.sim.composite import Limit, Running
from broker.sim.dial import Dialler, address
from broker.sim.held import Held
from broker.sim.meter import Meter
from broker.sim.wire import Wire, Wrong
from broker.sim.words import WORDS, Said, Session, Spec, State

STEP_S = 0.25
REBOOT_S = 1.0


class Station:
    """One station for its whole life, over all its links."""

    log = Logger()

    def __init__(self, spec: Spec, url: str, reactor: Any, settings: Settings | None = None) -> None:
        """`url`: where it dials, without its id."""
        self.spec = spec
        self.settings = settings or Settings()
        self.words = WORDS[spec.version]
        self.held = Held(spec.version, tuple(s.evse for s in spec.sockets), spec.units, spec.max_level, spec.max_periods, spec.dc)
        # Registers of sockets differ, and are no round numbers, as on real ones.
        self.bays = {s.evse: Bay(s, Meter(self.settings.registers_wh + 777.25 * s.evse)) for s in spec.sockets}
        self.sessions: list[Session] = []
        self.wire = Wire(self._answer, self.settings.new_id, reactor.callLater, self.settings.log)
        self.booted = False
        self._reactor = reactor
        here, how = address(url, spec.id), self.settings
        self._dialler = Dialler(
            here, spec.version, reactor, self.up, self.wire.received, self.wire.disconnected, tls=how.tls, headers=how.headers
        )
        self._beats: LoopingCall | None = None
        self._steps = LoopingCall(self.step)
        self._steps.clock = reactor
        self._stepped_at = reactor.seconds()
        self._fresh = True

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Dial, and let time pass."""
        self._dialler.start()
        self.wake()

    def wake(self) -> None:
        """Time begins to pass."""
        self._stepped_at = self._reactor.seconds()
        self._steps.start(STEP_S, now=False)

    def stop(self) -> Deferred[None]:
        """Hang up and end every timer. Sessions are left as they are: `finish` first."""
        if self._steps.running:
            self._steps.stop()
        self._no_beats()
        return self._dialler.stop()

    async def finish(self, within_s: float = 20.0) -> bool:
        """End all sessions; whether the CPMS answered everything."""
        for evse in self.bays:
            self.unplug(evse)
        until = self._reactor.seconds() + within_s
        while not self.settled and self._reactor.seconds() < until:
            await deferLater(self._reactor, 0.1, lambda: None)
        return self.settled

    @property
    def settled(self) -> bool:
        return self.wire.quiet and all(bay.session is None for bay in self.bays.values())

    def now(self) -> float:
        """This station's clock."""
        return self.settings.wall() + self.settings.skew_s

    @property
    def unconnected(self) -> str:
        """Why it is not connected; "" if it is, or dials for the first time."""
        return self._dialler.why

    def up(self, send: Callable[[bytes], None]) -> None:
        """A link is open: `send` gives the other end a message."""
        first = self.words.boot(self.spec) if self._fresh else None
        booted = self.wire.connected(send, first)
        if first is not None:
            self._go(self._boot(booted))

    async def _boot(self, booted: Deferred[Any]) -> None:
        answer = await booted
        if answer.get("status") != "Accepted":
            await deferLater(self._reactor, max(1, answer.get("interval", 10)), lambda: None)
            said = self.words.boot(self.spec)
            return await self._boot(self.wire.call(*said))
        self._fresh, self.booted = False, True
        self._no_beats()
        self._beats = LoopingCall(lambda: self._go(self._say(Said("Heartbeat", {}))))
        self._beats.clock = self._reactor
        self._beats.start(answer.get("interval") or 60, now=False)
        for evse in (0, *self.bays) if self.spec.version == "ocpp1.6" else self.bays:
            self._status(evse, self.state(evse))

    def _no_beats(self) -> None:
        if self._beats is not None and self._beats.running:
            self._beats.stop()
        self._beats = None

    # ------------------------------------------------------------ what people do

    def plug(self, evse: int, car: Car, token: str, soc_percent: float = 30.0, remote_id: int | None = None) -> None:
        """A car comes, and its driver holds a card to the reader; or, with `remote_id` or a waiting start, the CPMS lets it."""
        bay = self.bays[evse]
        if bay.session is not None:
            raise ValueError(f"{self.spec.id}: EVSE {evse} is taken")
        bay.car, bay.charge = car, Charge(soc_percent)
        self.begin(evse, token, remote_id)

    def begin(self, evse: int, token: str, remote_id: int | None = None, *, ask: bool = True) -> None:
        bay = self.bays[evse]
        session = Session(evse, token, self.now(), round(bay.meter.register_wh), remote_id=remote_id)
        if self.spec.version != "ocpp1.6":
            session.id = str(uuid4())
        bay.session = session
        self._go(self._begin(bay, session, ask))

    async def _begin(self, bay: Bay, session: Session, ask: bool) -> None:
        self._status(session.evse, "Preparing")
        try:
            if ask and token_status(await self.wire.call(*self.words.authorize(session.token))) != "Accepted":
                session.ended = self.now()
            if session.ended is None:
                return await self._run(bay, session)
        except Wrong as wrong:
            self.log.warn("{id}: no session: {code}", id=self.spec.id, code=wrong.code)
        bay.session = None
        self._status(session.evse, "Available")

    async def _run(self, bay: Bay, session: Session) -> None:
        """The transaction begins; it runs once the CPMS said yes."""
        session.started = self.now()
        session.state = "Charging"
        self.sessions.append(session)
        answer = await self.wire.call(*self.words.started(session, bay.sample(), self.spec.manner))
        if self.spec.version == "ocpp1.6":
            session.id = str(answer["transactionId"])
        session.accepted = token_status(answer, "Accepted") == "Accepted"
        if session.ended is not None or not session.accepted:
            return self._end(bay, session, "Local" if session.accepted else "DeAuthorized")
        if self.spec.version == "ocpp1.6":
            self._status(session.evse, "Charging")
        self._meter(bay, session)

    def unplug(self, evse: int, reason: str = "EVDisconnected") -> None:
        """The session ends, if there is one, and the car goes."""
        bay = self.bays[evse]
        session = bay.session
        if session is None or session.ended is not None:
            return
        session.ended = self.now()
        bay.charge = bay.charge._replace(amps=0.0)
        if session.accepted:
            self._end(bay, session, reason)

    def _end(self, bay: Bay, session: Session, reason: str) -> None:
        session.ended = session.ended or self.now()
        session.state = "Finishing"
        session.end_wh = round(bay.meter.register_wh)
        session.accepted = False
        self.held.ended(session.evse)
        self._go(self._ending(bay, session, self.words.ended(session, bay.sample(), self.spec, reason)))

    async def _ending(self, bay: Bay, session: Session, said: Said) -> None:
        if self.spec.version == "ocpp1.6":
            self._status(session.evse, "Finishing")
        await self._say(said)
        bay.session = bay.car = None
        bay.limit = NOTHING_YET
        self._status(session.evse, "Available")

    # ------------------------------------------------------------ time passes

    def step(self) -> None:
        """Everything that flows, since the last step."""
        now = self._reactor.seconds()
        dt, self._stepped_at = now - self._stepped_at, now
        active = sum(bay.session is not None and bay.session.accepted for bay in self.bays.values())
        for bay in self.bays.values():
            if bay.car is not None and bay.session is not None and bay.session.accepted:
                self._flow(bay, bay.car, bay.session, dt, active)
            if bay.session is not None and bay.session.accepted and now - bay.metered_at >= self.spec.every_s:
                self._meter(bay, bay.session)

    def _flow(self, bay: Bay, car: Car, session: Session, dt: float, active: int) -> None:
        running = Running(session.id, session.started)
        bay.limit = composite.allowed(self.held.profiles, bay.socket, self.now(), running, active)
        bay.charge = cars.step(car, bay.socket, bay.charge, bay.limit.amps, dt, self.settings.fast)
        bay.meter.add(bay.watts, dt)
        state = bay.charging_state()
        if state != session.state:
            session.state = state
            self._go(self._say(self.words.changed(session, self.now())))

    def _meter(self, bay: Bay, session: Session) -> None:
        bay.metered_at = self._reactor.seconds()
        self._go(self._say(self.words.metered(session, bay.sample(), self.spec.manner, self.now())))

    # ------------------------------------------------------------ what the CPMS may see and do (`answers.Desk`)

    def state(self, evse: int) -> State:
        session = self.bays[evse].session if evse in self.bays else None
        return session.state if session else "Available"

    def running(self) -> Mapping[int, str]:
        return {evse: bay.session.id for evse, bay in self.bays.items() if bay.session is not None and bay.session.accepted}

    def _whole(self) -> Socket:
        first = self.spec.sockets[0]
        return Socket(0, max(s.phases for s in self.spec.sockets), sum(s.max_amps for s in self.spec.sockets), first.dc)

    def composite(self, evse: int, duration_s: int) -> tuple[Limit, ...]:
        bay = self.bays.get(evse)
        session = bay.session if bay else None
        running = Running(session.id, session.started) if session and session.accepted else None
        socket = bay.socket if bay else self._whole()
        return composite.schedule(self.held.profiles, socket, self.now(), duration_s, running, whole=evse == 0)

    def in_watts(self, evse: int, amps: float) -> float:
        socket = self.bays[evse].socket if evse else self._whole()
        return amps * socket.volts * (1 if socket.dc else socket.phases)

    def remote_start(self, evse: int, token: str, remote_id: int | None) -> bool:
        """Begins at once if the socket is free; the car is taken to be there (`park` puts it there)."""
        if self.bays[evse].session is not None or self.bays[evse].car is None:
            return False
        self._reactor.callLater(0, self.begin, evse, token, remote_id, ask=self.spec.version == "ocpp1.6")
        return True

    def park(self, evse: int, car: Car, soc_percent: float = 30.0) -> None:
        """A car stands at the socket, and nobody has let it charge yet."""
        self.bays[evse].car, self.bays[evse].charge = car, Charge(soc_percent)

    def remote_stop(self, id: str) -> bool:
        for evse, known in self.running().items():
            if known == id:
                self._reactor.callLater(0, self.unplug, evse, "Remote")
                return True
        return False

    def reset(self) -> None:
        """Sessions end, the link goes, and it boots again. Profiles stay (1.6 errata 3.37)."""
        self._go(self._reset())

    async def _reset(self) -> None:
        for evse in self.bays:
            self.unplug(evse, "SoftReset" if self.spec.version == "ocpp1.6" else "ImmediateReset")
        await deferLater(self._reactor, REBOOT_S, lambda: None)
        self._fresh, self.booted = True, False
        self._dialler.drop()

    def trigger(self, what: str, evse: int | None) -> bool:
        if what == "Heartbeat":
            self._go(self._say(Said("Heartbeat", {})))
        elif what == "StatusNotification":
            for number in self.bays if evse is None else (evse,):
                self._status(number, self.state(number))
        else:
            return False
        return True

    # ------------------------------------------------------------ talking

    def _answer(self, action: str, payload: Any) -> Mapping[str, Any]:
        return answers.answer(self, action, payload)

    def _status(self, evse: int, state: State) -> None:
        self._go(self._say(self.words.status(evse, state, self.now())))

    async def _say(self, said: Said) -> None:
        try:
            await self.wire.call(*said)
        except Wrong as wrong:
            self.log.warn("{id}: {action} was answered with {code}", id=self.spec.id, action=said.action, code=wrong.code)

    def _go(self, talk: Coroutine[Any, Any, Any]) -> None:
        Deferred.fromCoroutine(talk).addErrback(lambda failure: self.log.failure("{id}: failed", failure, id=self.spec.id))


def token_status(answer: Mapping[str, Any], default: str = "") -> str:
    """Whether the CPMS takes the driver, whichever version's answer this is."""
    return str((answer.get("idTagInfo") or answer.get("idTokenInfo") or {}).get("status", default))
