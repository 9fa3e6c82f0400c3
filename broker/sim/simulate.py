"""`ocppbroker simulate station|cpms|engine`: the simulated counterparts, one at a time, until Ctrl-C.

In: the console script's parsed arguments. Out: an exit code, and one line whenever something changes. For onboarding: a first
station before there is a real one, a CPMS that shows what it hears, an engine that plans.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from OpenSSL import crypto
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import LoopingCall

from broker.net.cpms import basic
from broker.net.files import read
from broker.net.pem import load_certificates
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
    station.add_argument("url", type=where, metavar="URL", help="where it dials, without its id: ws://127.0.0.1:9000/acme, or wss://…")
    station.add_argument("id", metavar="ID")
    station.add_argument("--ocpp", choices=sorted(VERSIONS), default="1.6")
    station.add_argument("--password-file", metavar="FILE", help="its password (HTTP Basic); none without")
    station.add_argument("--user", help="for the password; its id without")
    station.add_argument("--ca-file", metavar="FILE", help="whom it trusts, for wss://; the system's roots without")
    station.add_argument("--sockets", type=int, default=1, choices=range(1, 9), metavar="1-8")
    station.add_argument("--phases", type=int, default=3, choices=(1, 3))
    station.add_argument("--max-amps", type=amperes, default=32.0, metavar="A")
    station.add_argument("--token", default="SIMULATED", help="the driver's card, held to the reader once it booted")
    station.add_argument("--idle", action="store_true", help="no car comes")
    station.add_argument("--fast", type=factor, default=1.0, help="how much faster batteries fill")
    station.set_defaults(run=run, begin=begin_station)
    cpms = kinds.add_parser("cpms", help="a CPMS for all versions")
    cpms.add_argument("--port", type=port, default=0)
    cpms.add_argument("--amps", type=amperes, metavar="A", help="the TxDefaultProfile it sets after a boot; none without")
    cpms.set_defaults(run=run, begin=begin_cpms)
    engine = kinds.add_parser("engine", help="an engine that shares a site's power")
    engine.add_argument("--port", type=port, default=0)
    engine.add_argument("--site", default="site-1")
    engine.add_argument("--limit", type=kilowatt, default=22.0, metavar="KW")
    engine.add_argument("--period", type=period, default=60.0, metavar="S", help="how often it plans anew; a plan is valid for ten periods")
    engine.add_argument("--asset", type=asset, action="append", metavar="NAME[:PHASES[:AMPS]]", required=True)
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
    how = Settings(fast=chosen.fast, tls=trusting(chosen), headers=shown_password(chosen))
    one = Station(Spec(chosen.id, VERSIONS[chosen.ocpp], sockets), chosen.url.rstrip("/"), reactor, how)
    one.start()
    came: list[bool] = []

    def line() -> str:
        if one.booted and not came and not chosen.idle:
            came.append(True)
            for socket in sockets:
                one.plug(socket.evse, Car(max_amps=chosen.max_amps, phases=chosen.phases), chosen.token)
        away = f"not connected: {one.unconnected}" if one.unconnected else ""
        return f"{chosen.id}: " + (away or ("; ".join(map(shown, one.bays)) if one.booted else "connecting"))

    def shown(evse: int) -> str:
        bay = one.bays[evse]
        limit = kilowatts(limit_w(bay))
        return f"{evse} {one.state(evse)} {kilowatts(bay.watts)}" + (f" of {limit} ({limiter(bay)})" if limit else "")

    Changes(line, reactor)
    return one


def trusting(chosen: argparse.Namespace) -> Any:
    """Whom it trusts; None: the system's roots. OSError or ValueError for a file that cannot be read."""
    if not chosen.ca_file:
        return None
    roots = [Certificate(crypto.X509.from_cryptography(one)) for one in load_certificates(chosen.ca_file)]
    return optionsForClientTLS(urlsplit(chosen.url).hostname or "", trustRoot=trustRootFromCertificates(roots))


def shown_password(chosen: argparse.Namespace) -> dict[str, str]:
    """The header by which it says who it is."""
    if not chosen.password_file:
        return {}
    name, value = basic(chosen.user or chosen.id, read(chosen.password_file).rstrip("\r\n"))
    return {name.decode(): value.decode()}


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


def within(least: float, most: float, what: str) -> Callable[[str], float]:
    """Reads a number in [least, most]; argparse says `what` of anything else."""

    def read_number(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return number

    return read_number


period = within(0.1, 3600.0, "a number of seconds from 0.1 to 3600")
amperes = within(0.0, 2000.0, "a number of amperes from 0 to 2000, per phase")
kilowatt = within(0.0, 1e6, "a number of kW from 0 to a million")
factor = within(0.001, 1e6, "a factor from 0.001 to a million")


def port(text: str) -> int:
    """A TCP port; 0: any that is free."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def where(text: str) -> str:
    """A URL that a station can dial."""
    try:
        address = urlsplit(text)
        fits = address.scheme.lower() in ("ws", "wss") and bool(address.hostname) and address.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise argparse.ArgumentTypeError(f"{text!r} is not ws://HOST[:PORT]/… or wss://HOST[:PORT]/…")
    return text


def asset(text: str) -> str:
    """`garage-1:3:32`."""
    name, phases, amps, *more = (*text.split(":"), "", "")
    if not name or phases not in ("", "1", "3") or any(more):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME, NAME:PHASES (1 or 3) or NAME:PHASES:AMPS")
    amperes(amps or "32")
    return text


def assets(texts: Sequence[str], site: str) -> dict[str, SimAsset]:
    """`garage-1:3:32` each."""
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
