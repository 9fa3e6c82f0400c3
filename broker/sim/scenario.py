"""What happens in the demo: which stations stand where, who charges when, and the broker's configuration. Pure.

Moments are parts of the demo's whole length, so that a shorter demo is the same story told faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from broker.sim.cars import Car, Socket
from broker.sim.cpms import Policy
from broker.sim.meter import Manner
from broker.sim.words import Spec

SITE: Final = "acme-hq"
LIMIT_W: Final = 43_000.0  # a 63 A connection
DEPOT: Final = "depot"
CONTROL: Final = 0.25  # from here on the engine plans
SETTLED: Final = 0.40  # from here on its limit must hold
END: Final = 0.83  # sessions end; the rest is for the last messages and the summary
WRITE_S: Final = 5
MEASURE_S: Final = 5


class Visit(NamedTuple):
    """A car that comes and goes. The driver's card is let in, unless the CPMS blocks it; `remote`: the CPMS starts it from an app."""

    evse: int
    begin: float
    token: str
    car: Car
    soc_percent: float = 30.0
    end: float = 1.0
    remote: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A station, its sockets' names at the engine, what the CPMS does with it, and its visitors."""

    spec: Spec
    visits: tuple[Visit, ...]
    policy: Policy = Policy()  # noqa: RUF009 (it is frozen)
    tenant: Literal["acme", "driverid"] = "acme"
    max_amps: float | None = 32.0

    def asset(self, evse: int) -> str:
        return f"{self.spec.id.lower()}-{evse}"

    @property
    def site(self) -> str:
        return SITE if self.tenant == "acme" else DEPOT

    @property
    def mode(self) -> str:
        return "smart-charging" if self.tenant == "acme" else "driver-identification"


ZOE: Final = Car(capacity_wh=41_000, max_amps=32, phases=3)
LONG: Final = Car(capacity_wh=77_000, max_amps=16, phases=3)
SMALL: Final = Car(capacity_wh=30_000, max_amps=32, phases=1)
FAST: Final = Car(capacity_wh=90_000, max_amps=125)
FULL_SOON: Final = Car(capacity_wh=20_000, max_amps=16, phases=3, taper_percent=70)
DC_SOCKET: Final = Socket(1, phases=1, max_amps=125, dc=True)
PHASES_N: Final = Manner(phase_names=("L1-N", "L2-N", "L3-N"))

FLEET: Final = (
    Place(
        Spec("AC16-A", "ocpp1.6", manner=Manner(kwh=True, offered=True), stop_readings=True),
        (Visit(1, 0.02, "04A1B2C3", ZOE, 25, end=0.5), Visit(1, 0.55, "04D4E5F6", LONG, 20)),
        Policy(asks=True),
    ),
    Place(
        Spec("AC16-B", "ocpp1.6", (Socket(1), Socket(2, phases=1)), Manner(power=False), frozenset({"A"})),
        (Visit(1, 0.03, "04111111", LONG, 35), Visit(2, 0.05, "04222222", SMALL, 40)),
        Policy(limit=20.0, evse=1),
    ),
    Place(Spec("AC201-A", "ocpp2.0.1"), (Visit(1, 0.04, "A1B2C3D4E5", ZOE, 30),), Policy(limit=25.0, asks=True)),
    Place(
        Spec("DC201-B", "ocpp2.0.1", (DC_SOCKET,), Manner(soc=True), frozenset({"W"})),
        (Visit(1, 0.05, "FASTDRIVER", FAST, 15),),
        Policy(limit=40_000.0, unit="W"),
        max_amps=None,
    ),
    Place(Spec("AC21-A", "ocpp2.1", manner=PHASES_N), (Visit(1, 0.03, "B2B2B2B2", ZOE, 50),), Policy(asks=True)),
    Place(
        Spec("AC21-B", "ocpp2.1", (Socket(1, phases=1),), Manner(kwh=True, location="Outlet")),
        (Visit(1, 0.06, "APP-7", SMALL, 30, end=0.50, remote=True), Visit(1, 0.60, "C3C3C3C3", SMALL, 55)),
        Policy(limit=20.0),
    ),
    Place(
        Spec("ID16-A", "ocpp1.6"),
        (Visit(1, 0.04, "04DDDD01", FULL_SOON, 60, end=0.35), Visit(1, 0.45, "04DDDD02", LONG, 20)),
        Policy(asks=True),
        "driverid",
    ),
    Place(
        Spec("ID21-A", "ocpp2.1"),
        (Visit(1, 0.03, "BLOCKED", ZOE, 20, end=0.06), Visit(1, 0.10, "DRIVER-3", ZOE, 20)),
        Policy(limit=16.0),
        "driverid",
    ),
)
BLOCKED: Final = frozenset({"BLOCKED"})


class Addresses(NamedTuple):
    """Where everybody is."""

    stations_port: int
    admin_port: int
    cpms_url: str
    engine_url: str


def broker_toml(where: Addresses, fleet: Iterable[Place] = FLEET) -> str:
    """The demo's broker.toml. The engine's secret is expected in `engine.secret` beside it."""
    places = tuple(fleet)
    head = f"""# Written by the demo.
[broker]
state = "ocppbroker.sqlite"
admin = "tcp:{where.admin_port}:interface=127.0.0.1"
admin_token_file = "admin-token"
drain = "2s"

[[listen]]
endpoint = "tcp:{where.stations_port}:interface=127.0.0.1"
"""
    tenants = (("acme", SITE, "smart-charging"), ("driverid", DEPOT, "driver-identification"))
    return head + "".join(tenant_toml(name, site, mode, where, places) for name, site, mode in tenants)


def tenant_toml(name: str, site: str, mode: str, where: Addresses, places: Iterable[Place]) -> str:
    charging = f'\n[tenants.charging]\nbaseline = "ask"\nwrite_interval = "{WRITE_S}s"\n' if mode == "smart-charging" else ""
    head = f"""
[[tenants]]
name = "{name}"
cpms_url = "{where.cpms_url}"
mode = "{mode}"

[tenants.engine]
url = "{where.engine_url}"
client_id = "demo"
client_secret_file = "engine.secret"
measure_every = "{MEASURE_S}s"
{charging}
[[tenants.sites]]
name = "{site}"
"""
    return head + "".join(station_toml(place) for place in places if place.tenant == name)


def station_toml(place: Place) -> str:
    evses = []
    for socket in place.spec.sockets:
        amps = f", max_amps = {place.max_amps:g}" if place.max_amps is not None else ""
        evses.append(f'{socket.evse} = {{ asset = "{place.asset(socket.evse)}"{amps}, phases = {3 if socket.dc else socket.phases} }}')
    return f"""
[[tenants.stations]]
id = "{place.spec.id}"
site = "{place.site}"
current = "{"dc" if place.spec.dc else "ac"}"
evses = {{ {", ".join(evses)} }}
"""


def policies(fleet: Iterable[Place] = FLEET) -> Mapping[str, Policy]:
    return {place.spec.id: place.policy for place in fleet}
