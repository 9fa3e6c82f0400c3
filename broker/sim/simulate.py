"""`ocppbroker simulate station|cpms|engine`: the simulated counterparts, one at a time, until Ctrl-C.

In: the console script's parsed arguments. Out: an exit code, and one line whenever something changes. For onboarding: a first
station before there is a real one, a CPMS that shows what it hears, an engine that plans.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from broker.sim.bay import Settings
from broker.sim.cars import Car, Socket
from broker.sim.cpms import Cpms, Policy
from broker.sim.engine import SimAsset, SimEngine
from broker.sim.station import Station
from broker.sim.table import kilowatts, limit_w, limiter
from broker.sim.words import Spec

VERSIONS: Final = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}
WATCH_S: Final = 1.0


def add(commands: Any) -> None:
    """`simulate` and its three kinds, for the console script's parser."""
    command = commands.add_parser("simulate", help="a simulated station, CPMS or engine, until Ctrl-C")
    kinds = command.add_subparsers(metavar="KIND", required=True)
    station = kinds.add_parser("station", help="a station that charges a car and obeys its profiles")
    station.add_argument("url", metavar="URL", help="where it dials, without its id: ws://127.0.0.1:9000/acme")
    station.add_argument("id", metavar="ID")
    station.add_argument("--ocpp", choices=sorted(VERSIONS), default="1.6")
    station.add_argument("--sockets", type=int, default=1, choices=range(1, 9), metavar="1-8")
    station.add_argument("--phases", type=int, default=3, choices=(1, 3))
    station.add_argument("--max-amps", type=float, default=32.0)
    station.add_argument("--token", default="SIMULATED", help="the driver's card, held to the reader once it booted")
    station.add_argument("--idle", action="store_true", help="no car comes")
    station.add_argument("--fast", type=float, default=1.0, help="how much faster batteries fill")
    station.set_defaults(run=run, begin=begin_station)
    cpms = kinds.add_parser("cpms", help="a CPMS for all versions")
    cpms.add_argument("--port", type=int, default=0)
    cpms.add_argument("--amps", type=float, help="the TxDefaultProfile it sets after a boot; none without")
    cpms.set_defaults(run=run, begin=begin_cpms)
    engine = kinds.add_parser("engine", help="an engine that shares a site's power")
    engine.add_argument("--port", type=int, default=0)
    engine.add_argument("--site", default="site-1")
    engine.add_argument("--limit", type=float, default=22.0, help="kW")
    engine.add_argument("--period", type=period, default=60.0, metavar="S", help="how often it plans anew; a plan is valid for ten periods")
    engine.add_argument("--asset", action="append", metavar="NAME[:PHASES[:AMPS]]", required=True)
    engine.set_defaults(run=run, begin=begin_engine)


def run(chosen: argparse.Namespace) -> int:
    """Until Ctrl-C, which is its proper end."""
    from twisted.internet import reactor

    anything: Any = reactor
    failed: list[Any] = []

    def stop(failure: Any) -> None:
        failed.append(failure)
        print(f"ocppbroker: {failure.getErrorMessage()}", flush=True)
        anything.callWhenRunning(anything.stop)

    anything.callWhenRunning(lambda: chosen.begin(chosen, anything).addErrback(stop))
    anything.run()
    return 1 if failed else 0


class Changes:
    """Prints a line when it is another one than before."""

    def __init__(self, line: Callable[[], str], reactor: Any) -> None:
        self._line, self._last = line, ""
        self._loop = LoopingCall(self.look)
        self._loop.clock = reactor
        self._loop.start(WATCH_S, now=False)

    def look(self) -> None:
        line = self._line()
        if line != self._last:
            self._last = line
            print(line, flush=True)


async def station(chosen: argparse.Namespace, reactor: Any) -> Station:
    sockets = tuple(Socket(number, chosen.phases, chosen.max_amps) for number in range(1, chosen.sockets + 1))
    one = Station(Spec(chosen.id, VERSIONS[chosen.ocpp], sockets), chosen.url.rstrip("/"), reactor, Settings(fast=chosen.fast))
    one.start()
    came: list[bool] = []

    def line() -> str:
        if one.booted and not came and not chosen.idle:
            came.append(True)
            for socket in sockets:
                one.plug(socket.evse, Car(max_amps=chosen.max_amps, phases=chosen.phases), chosen.token)
        return f"{chosen.id}: " + ("; ".join(map(shown, one.bays)) if one.booted else "connecting")

    def shown(evse: int) -> str:
        bay = one.bays[evse]
        limit = kilowatts(limit_w(bay))
        return f"{evse} {one.state(evse)} {kilowatts(bay.watts)}" + (f" of {limit} ({limiter(bay)})" if limit else "")

    Changes(line, reactor)
    return one


async def cpms(chosen: argparse.Namespace, reactor: Any) -> Cpms:
    one = Cpms(reactor, lambda id: Policy(limit=chosen.amps))
    print(f"CPMS: {await one.listen(chosen.port)}/<station>", flush=True)
    Changes(lambda: "; ".join(f"{g.id} ({g.version}): {len(g.transactions)} transactions" for g in one.guests.values()), reactor)
    return one


async def engine(chosen: argparse.Namespace, reactor: Any) -> SimEngine:
    one = SimEngine(reactor, {chosen.site: chosen.limit * 1000}, assets(chosen.asset, chosen.site), period_s=chosen.period)
    print(f"engine: {await one.listen(chosen.port)}, site {chosen.site}, client_id demo, client_secret demo-secret", flush=True)
    Changes(lambda: f"{len(one.measurements)} measurements, {len(one.transactions)} transaction events", reactor)
    return one


def period(text: str) -> float:
    """Seconds between two plans. ValueError for what is no length of time from 0.1 s to an hour."""
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise ValueError(text)
    return seconds


def assets(texts: Sequence[str], site: str) -> dict[str, SimAsset]:
    """`garage-1:3:32` each. ValueError for what is no number."""
    found = {}
    for text in texts:
        name, phases, amps = (*text.split(":"), "", "")[:3]
        found[name] = SimAsset(site, int(phases or 3), float(amps or 32.0))
    return found


def begin_station(chosen: argparse.Namespace, reactor: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(station(chosen, reactor))


def begin_cpms(chosen: argparse.Namespace, reactor: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(cpms(chosen, reactor))


def begin_engine(chosen: argparse.Namespace, reactor: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(engine(chosen, reactor))
