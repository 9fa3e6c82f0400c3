"""Stations that charge, in a process of their own: `python drivers.py NAME=VERSION=URL …`, one line of JSON a quarter of a second.

Each is a simulated station with one socket of 32 A and a car that would take it all. A line gives, by name: `watts`; `amps`, what
the profiles that it holds allow together; `by`, the id of the profile that says so; `ours`, the ids it holds of others than the CPMS.
The process knows nothing of brokers and engines: what it shows outlives them.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.task import LoopingCall

from broker.sim.cars import Car
from broker.sim.cpms import PROFILE_ID
from broker.sim.station import Station
from broker.sim.words import Spec

SHOW_S = 0.25


def shown(station: Station) -> dict[str, Any]:
    bay = station.bays[1]
    return {
        "watts": bay.watts,
        "amps": bay.limit.amps if bay.session is not None else None,
        "by": bay.limit.by.id if bay.limit.by is not None else None,
        "ours": sorted(profile.id for profile in station.held.profiles if profile.id != PROFILE_ID),
    }


def main(wanted: list[str]) -> None:
    # Any: mypy knows the reactor as a module.
    reactor: Any = the_reactor
    stations: dict[str, Station] = {}
    came: set[str] = set()
    for one in wanted:
        name, version, url = one.split("=", 2)
        stations[name] = Station(Spec(name, version, every_s=2.0), url, reactor)
        stations[name].start()

    def look() -> None:
        for name, station in stations.items():
            if station.booted and name not in came:
                came.add(name)
                station.plug(1, Car(), f"CARD-{name}", 20.0)
        sys.stdout.write(json.dumps({"at": time.time(), **{name: shown(station) for name, station in stations.items()}}) + "\n")
        sys.stdout.flush()

    LoopingCall(look).start(SHOW_S)
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1:])
