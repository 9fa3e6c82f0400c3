"""The demo's story: the broker's process, a simulated fleet, its CPMS and an engine; first without control, then with it.

In: how long it may take, and where the table goes. Out: the claims. `broker.sim.scenario` says who stands where and charges when.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater

from broker.ocpp import times
from broker.sim import power, proof, scenario
from broker.sim.bay import Bay, Settings
from broker.sim.child import Broker
from broker.sim.cpms import Cpms
from broker.sim.engine import SimAsset, SimEngine
from broker.sim.ports import free_port
from broker.sim.power import GRACE_S, Plan, Point
from broker.sim.proof import Charged, Claim, Ends
from broker.sim.scenario import Addresses, Place, Visit
from broker.sim.station import Station
from broker.sim.table import Row, Screen, limit_w, limiter, lines

SECONDS: Final = 150.0
SHORTEST: Final = 20.0
FAST: Final = 60.0  # a minute of a battery's life passes in a second
FLUSH_S: Final = 8.0  # at least so long the last of it may take to reach the engine, after an early end too


class Demo:
    """One run, from the first listener to the last claim."""

    def __init__(self, reactor: Any, seconds: float, screen: Screen) -> None:
        self.reactor, self.seconds, self.screen = reactor, max(SHORTEST, seconds), screen
        policies = scenario.policies()
        self.cpms = Cpms(reactor, policies.__getitem__, blocked=scenario.BLOCKED)
        self.engine = make_engine(reactor)
        self.broker: Broker | None = None
        self.stations: dict[str, Station] = {}
        self.points: list[Point] = []
        self.plans: list[Plan] = []
        self.control_at: float | None = None
        self.settled_at: float | None = None
        self.ended: Deferred[None] = Deferred()
        self._watch = LoopingCall(self.watch)
        self._timers: list[Any] = []
        self._made = self._began = reactor.seconds()

    # ------------------------------------------------------------ the story

    async def run(self, folder: Path) -> list[Claim]:
        """The whole demo. Returns the claims; raises `RuntimeError` if the broker does not come up."""
        where = Addresses(free_port(), free_port(), await self.cpms.listen(), await self.engine.listen())
        self.introduce(where, folder)
        self.broker = Broker(self.reactor, folder, scenario.broker_toml(where), where.admin_port)
        try:
            await self.broker.ready()
            self.begin(where)
            await self.ended
            await self.finish()
        finally:
            await self.close()
        return self.claims()

    def introduce(self, where: Addresses, folder: Path) -> None:
        for line in (
            f"broker    stations dial ws://127.0.0.1:{where.stations_port}/<tenant>/<station>; admin http://127.0.0.1:{where.admin_port}",
            f"CPMS      {where.cpms_url}/<station>",
            f"engine    {where.engine_url}",
            f"files     {folder} (broker.toml, broker.log, ocppbroker.sqlite)",
            f"First the cars charge as they like; after {self.part(scenario.CONTROL):.0f} s the engine shares "
            f"{scenario.LIMIT_W / 1000:.0f} kW among those at {scenario.SITE}; after {self.part(scenario.END):.0f} s they leave. "
            f"Batteries fill {FAST:.0f} times as fast as real ones, everything else is real time. Ctrl-C ends it with the summary.",
        ):
            self.screen.say(line)

    def begin(self, where: Addresses) -> None:
        """Stations dial, cars come and go. What the start took is taken off the story."""
        self.seconds = max(SHORTEST, self.seconds - (self.reactor.seconds() - self._made))
        self._began = self.reactor.seconds()
        self.engine.on_schedules.append(self.planned)
        for number, place in enumerate(scenario.FLEET):
            url = f"ws://127.0.0.1:{where.stations_port}/{place.tenant}"
            station = Station(place.spec, url, self.reactor, Settings(fast=FAST, registers_wh=100_000.0 * (number + 1)))
            self.stations[place.spec.id] = station
            station.start()
            for visit in place.visits:
                self.at(visit.begin, self.come, place, visit)
                if visit.end < scenario.END:
                    self.at(visit.end, station.unplug, visit.evse)
        self.at(scenario.CONTROL, self.control)
        self.at(scenario.SETTLED, self.settle)
        self.at(scenario.END, self.end)
        self._watch.clock = self.reactor
        self._watch.start(1.0)

    def part(self, share: float) -> float:
        return share * self.seconds

    def at(self, share: float, what: Any, *arguments: Any) -> None:
        self._timers.append(self.reactor.callLater(self.part(share), what, *arguments))

    def come(self, place: Place, visit: Visit) -> None:
        """A car comes: its driver shows a card, or the CPMS lets it start."""
        station = self.stations[place.spec.id]
        if visit.remote and not station.booted:
            self._timers.append(self.reactor.callLater(1.0, self.come, place, visit))
        elif visit.remote:
            station.park(visit.evse, visit.car, visit.soc_percent)
            self.cpms.remote_start(place.spec.id, visit.evse, visit.token)
        else:
            station.plug(visit.evse, visit.car, visit.token, visit.soc_percent)

    def control(self) -> None:
        self.screen.say(f"{self.elapsed():4.0f} s  the engine plans from now on")
        self.control_at = time.time()
        self.engine.control = True
        self.engine.replan(scenario.SITE)

    def settle(self) -> None:
        self.settled_at = time.time()

    def planned(self, site: str) -> None:
        """The engine has new schedules: keep them, to hold the cars' power against."""
        for body in self.engine.schedules(site, "0")["schedules"]:
            steps = tuple((times.parse(step["start"]) or 0.0, float(step["limit"])) for step in body["periods"])
            self.plans.append(Plan(time.time(), body["asset_id"], steps, times.parse(body["valid_until"]) or 0.0))

    def end(self) -> None:
        if not self.ended.called:
            self.ended.callback(None)

    def elapsed(self) -> float:
        return float(self.reactor.seconds() - self._began)

    # ------------------------------------------------------------ watching

    def watch(self) -> None:
        """Once a second: write down who takes what, draw the table; if the broker died, stop."""
        now, rows = time.time(), []
        for place in scenario.FLEET:
            station = self.stations[place.spec.id]
            for evse, bay in station.bays.items():
                if place.tenant == "acme":
                    self.points.append(point(now, place.asset(evse), bay))
                state = station.state(evse) if station.booted else "connecting"
                soc = bay.charge.soc_percent if bay.car else None
                rows.append(
                    Row(place.spec.id, place.spec.version, place.asset(evse), place.mode, state, bay.watts, limit_w(bay), limiter(bay), soc)
                )
        self.screen.draw(lines(rows, self.foot(now)), self.reactor.seconds())
        if self.broker is not None and not self.broker.alive and not self.ended.called:
            self.ended.errback(RuntimeError(f"the broker died: {self.broker.last_words()}"))

    def foot(self, now: float) -> str:
        """The line below the table."""
        site = sum(p.watts for p in self.points if p.at == now)
        limit = f"limit {scenario.LIMIT_W / 1000:.1f} kW" if self.engine.control else "no control yet"
        counts = (len(self.engine.measurements), len(self.engine.transactions), len(self.engine.identifications))
        told = "engine: {} measurements, {} transaction events, {} identifications".format(*counts)
        return f"{self.elapsed():4.0f} s   {scenario.SITE}: {site / 1000:.1f} kW, {limit}   {told}"

    # ------------------------------------------------------------ the end

    async def finish(self) -> None:
        """Everybody leaves, everything said is answered, and the engine has heard the last of it."""
        self.quit_timers()
        self.cpms.hush()
        self.screen.say(f"{self.elapsed():4.0f} s  the cars leave; waiting for the last messages to reach the engine")
        until = max(self._began + self.seconds, self.reactor.seconds() + FLUSH_S)
        left = until - self.reactor.seconds()
        await gatherResults([Deferred.fromCoroutine(station.finish(left)) for station in self.stations.values()])
        while not self.told() and self.reactor.seconds() < until:
            await self.pause(0.2)
        await gatherResults([station.stop() for station in self.stations.values()])
        await self.pause(0.5)

    def kill(self) -> None:
        """The broker's process does not outlive an impatient end."""
        if self.broker is not None:
            self.broker.kill()

    def told(self) -> bool:
        """Whether the engine has all that the summary will look for."""
        claims = (*self.engine_claims(), proof.energy(self.charged("acme"), self.engine.measurements))
        return all(claim.ok for claim in claims)

    def pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self.reactor, seconds, lambda: None)

    def quit_timers(self) -> None:
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        if self._watch.running:
            self._watch.stop()

    async def close(self) -> None:
        """Whatever happened: nothing of the demo goes on running."""
        self.quit_timers()
        await gatherResults([station.stop() for station in self.stations.values()])
        if self.broker is not None:
            await self.broker.stop()
        await self.cpms.stop()
        await self.engine.stop()

    # ------------------------------------------------------------ the summary

    def charged(self, tenant: str) -> list[Charged]:
        """Every session at a tenant's stations, by their own meters."""
        return [
            Charged(place.asset(s.evse), s.token, s.started, s.ended or s.started, float(s.begin_wh), float(s.end_wh or s.begin_wh))
            for place in scenario.FLEET
            if place.tenant == tenant and place.spec.id in self.stations
            for s in self.stations[place.spec.id].sessions
        ]

    def ends(self, tenant: str) -> list[Ends]:
        """What both ends wrote down, of stations that got through at all."""
        places = [place for place in scenario.FLEET if place.tenant == tenant and place.spec.id in self.cpms.guests]
        return [Ends(p.spec.id, self.stations[p.spec.id].wire.log, self.cpms.guests[p.spec.id].wire.log) for p in places]

    def engine_claims(self) -> tuple[Claim, Claim]:
        mine = {place.asset(socket.evse) for place in scenario.FLEET if place.tenant == "driverid" for socket in place.spec.sockets}
        other = sum(body.get("asset_id", body.get("assetId")) in mine for body in (*self.engine.measurements, *self.engine.transactions))
        acme = [body for body in self.engine.transactions if body["assetId"] not in mine]
        identified = proof.identified(self.charged("driverid"), self.engine.identifications, other)
        return identified, proof.transactions(self.charged("acme"), acme)

    def claims(self) -> list[Claim]:
        acme, driverid = self.ends("acme"), self.ends("driverid")
        links = [guest.links for guest in self.cpms.guests.values()]
        numbers = f"{len(links)} of {len(scenario.FLEET)} stations, {sum(links)} links"
        every = Claim("every station got through, on one link", links == [1] * len(scenario.FLEET), numbers)
        identified, transactions = self.engine_claims()
        return [
            every,
            proof.transparent([*acme, *driverid]),
            proof.unseen([*acme, *driverid]),
            proof.silent(driverid),
            identified,
            transactions,
            proof.energy(self.charged("acme"), self.engine.measurements),
            power.peaks(self.points, scenario.LIMIT_W, self.control_at, self.settled_at),
            power.follows(self.points, self.plans, self.settled_at),
        ]


def make_engine(reactor: Any) -> SimEngine:
    """It knows every socket; its control is off at first."""
    assets = {
        place.asset(socket.evse): SimAsset(place.site, 3 if socket.dc else socket.phases, 72.0 if socket.dc else socket.max_amps)
        for place in scenario.FLEET
        for socket in place.spec.sockets
    }
    return SimEngine(reactor, {scenario.SITE: scenario.LIMIT_W, scenario.DEPOT: 1e6}, assets, period_s=60.0, control=False)


def point(now: float, asset: str, bay: Bay) -> Point:
    session = bay.session
    ruled = session is not None and session.accepted and now - session.started > GRACE_S
    return Point(now, asset, bay.watts, limiter(bay) == "engine" and bay.charging_state() == "Charging", ruled)
