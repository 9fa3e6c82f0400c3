"""Strangers on both sides of the running service: nine stations, three versions through three kinds of listener, at once.

Stations and CPMS are PyPI `ocpp` over `websockets`, which validate each message against the official schemas; the engine is
Python's own HTTP server, which validates each body against docs/engine-api.yaml. Three more stations are in
driver-identification mode. All are run once; each test looks at what they lived through.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from running import Running, free_port
from stranger_engine import StrangerEngine
from strangers import VERSIONS, Day, StrangerCpms, a_day, without_ours

ROOT = Path(__file__).parent.parent.parent
LISTENERS = ("plain", "tls", "mtls")
LIMIT_W = 6900.0  # 10 A on three phases: below the CPMS's 16 A


@dataclass
class Story:
    """What everybody lived through."""

    days: dict[tuple[str, str], Day]
    passive: dict[str, Day]
    cpms: StrangerCpms
    engine: StrangerEngine
    log: str
    exit: int
    metrics: str
    shown: dict[str, object]


def configuration(folder: Path, ports: dict[str, int], cpms: int, engine: str) -> str:
    stations = "".join(
        f'[[tenants.stations]]\nid = "{listener}-{version}"\nevses = {{ 1 = {{ asset = "a-{listener}-{n}", max_amps = 32 }} }}\n'
        for listener in LISTENERS
        for n, version in enumerate(VERSIONS)
    )
    passive = "".join(f'[[tenants.stations]]\nid = "who-{version}"\nsite = "lot"\n' for version in VERSIONS)
    tls = f"certificate={folder}/broker-rsa.pem,{folder}/broker-ec.pem:privateKey={folder}/broker-rsa.key,{folder}/broker-ec.key"
    (folder / "secret").write_text("s3cret\n")
    return f"""
[[listen]]
endpoint = "tcp:{ports["plain"]}:interface=127.0.0.1"
[[listen]]
endpoint = "ocpps:{ports["tls"]}:interface=127.0.0.1:{tls}"
[[listen]]
endpoint = "ocpps:{ports["mtls"]}:interface=127.0.0.1:{tls}:clientCAs={folder}/stations-ca.pem"
tenant = "acme"
[[tenants]]
name = "acme"
cpms_url = "wss://localhost:{cpms}/ocpp"
cpms_ca_file = "{folder}/cpms-ca.pem"
mode = "smart-charging"
[tenants.engine]
url = "{engine}"
client_id = "acme"
client_secret_file = "secret"
measure_every = "1s"
[tenants.charging]
write_interval = "1s"
purposes = ["tx", "default"]
[[tenants.sites]]
name = "hq"
{stations}
[[tenants]]
name = "quiet"
cpms_url = "wss://localhost:{cpms}/ocpp"
cpms_ca_file = "{folder}/cpms-ca.pem"
mode = "driver-identification"
[tenants.engine]
url = "{engine}"
client_id = "acme"
client_secret_file = "secret"
[[tenants.sites]]
name = "lot"
{passive}
"""


async def everybody(folder: Path, ports: dict[str, int], days: dict[tuple[str, str], Day], passive: dict[str, Day]) -> None:
    trust = ssl.create_default_context(cafile=str(folder / "broker-ca.pem"))
    jobs = []
    for (listener, _), day in days.items():
        tls = None
        if listener != "plain":
            tls = ssl.create_default_context(cafile=str(folder / "broker-ca.pem"))
        if listener == "mtls" and tls is not None:
            tls.load_cert_chain(folder / f"station-{day.id}.pem", folder / f"station-{day.id}.key")
        scheme, path = ("ws", "/acme") if listener == "plain" else ("wss", "/acme" if listener == "tls" else "")
        url = f"{scheme}://localhost:{ports[listener]}{path}"
        jobs.append(a_day(url, day, tls=tls, until=lambda station: len(station.profiles) > 1 and station.meter_wh > 1100))
    for day in passive.values():
        jobs.append(a_day(f"wss://localhost:{ports['tls']}/quiet", day, tls=trust, until=lambda station: station.meter_wh > 1500))
    await asyncio.gather(*jobs)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("strangers")
    days = {(listener, version): Day(f"{listener}-{version}", version, f"TAG{n}") for n, (listener, version) in enumerate(grid())}
    passive = {version: Day(f"who-{version}", version, f"WHO{n}") for n, version in enumerate(VERSIONS)}
    stations = [option for (listener, _), day in days.items() if listener == "mtls" for option in ("--station", day.id)]
    subprocess.run([sys.executable, str(ROOT / "certs" / "make_pki.py"), str(folder), *stations], check=True, capture_output=True)
    sites = {f"a-{listener}-{n}": "hq" for listener in LISTENERS for n in range(3)}
    engine = StrangerEngine("acme:s3cret", sites, dict.fromkeys(sites, LIMIT_W))
    ports = {listener: free_port() for listener in LISTENERS}
    cpms = StrangerCpms(limit_amps=16.0)

    async def live() -> tuple[Running, str, dict[str, object]]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "cpms.pem", folder / "cpms.key")
        port = await cpms.start(context)
        with Running(folder, configuration(folder, ports, port, engine.url)) as broker:
            await everybody(folder, ports, days, passive)
            await engine.hears({f"a-{listener}-{VERSIONS.index(version)}": day.meter_wh for (listener, version), day in days.items()})
            metrics, shown = broker.get("/metrics"), broker.get("/api/v1/stations/acme/plain-ocpp1.6")
            exit = broker.stop()
        await cpms.stop()
        return exit, metrics, shown

    exit, metrics, shown = asyncio.run(live())
    engine.stop()
    return Story(days, passive, cpms, engine, (folder / "broker.log").read_text(), exit, metrics, shown)


def grid() -> list[tuple[str, str]]:
    return [(listener, version) for listener in LISTENERS for version in VERSIONS]


@pytest.mark.parametrize(("listener", "version"), grid())
def test_both_ends_saw_the_same_frames_but_for_ours(story: Story, listener: str, version: str) -> None:
    day = story.days[listener, version]
    cpms = story.cpms.wires[day.id]
    assert day.subprotocol == version
    assert cpms.received == without_ours(day.wire.sent)
    assert without_ours(day.wire.received) == cpms.sent
    assert len(day.wire.sent) > len(cpms.received), "the station answered nothing of ours"


@pytest.mark.parametrize(("listener", "version"), grid())
def test_the_engines_limit_reached_the_station_as_a_valid_profile(story: Story, listener: str, version: str) -> None:
    day = story.days[listener, version]
    ours = [profile for profile in day.profiles if profile.get("charging_profile_id", profile.get("id")) != 1]
    assert ours, "no profile of ours arrived"
    schedule = ours[-1]["charging_schedule"]
    first = (schedule if isinstance(schedule, dict) else schedule[0])["charging_schedule_period"][0]
    assert float(first["limit"]) == 10.0
    assert ours[-1]["charging_profile_purpose"] == "TxProfile"
    assert str(ours[-1]["transaction_id"]) == str(day.transaction)


@pytest.mark.parametrize(("listener", "version"), grid())
def test_the_engine_was_told_the_transaction_and_the_meter(story: Story, listener: str, version: str) -> None:
    day = story.days[listener, version]
    asset = f"a-{listener}-{VERSIONS.index(version)}"
    told = [t for t in story.engine.got["Transaction"] if t["assetId"] == asset]
    states = [t["transactionState"] for t in told]
    assert (states[0], states[-1]) == ("Started", "Ended")
    assert len({t["transactionId"] for t in told}) == 1
    assert told[0]["driverId"] == day.token
    energies = story.engine.registers(asset)
    assert energies[-1] == day.meter_wh
    assert energies == sorted(energies)


@pytest.mark.parametrize("version", VERSIONS)
def test_identification_says_who_charges_and_sends_nothing(story: Story, version: str) -> None:
    day = story.passive[version]
    cpms = story.cpms.wires[day.id]
    assert (cpms.received, cpms.sent) == (day.wire.sent, day.wire.received)
    told = [i for i in story.engine.got["Identification"] if i["assetId"] == f"{day.id}-1"]
    assert [(i["driverId"], i["evse"]) for i in told] == [(day.token, 1)]


def test_nothing_but_identifications_is_told_of_identification_stations(story: Story) -> None:
    kinds = [kind for kind, bodies in story.engine.got.items() for body in bodies if body.get("site_id") == "lot"]
    assert kinds == ["Identification"] * len(VERSIONS)


def test_the_engine_found_no_fault(story: Story) -> None:
    assert story.engine.faults == []
    assert story.engine.logins >= 1
    assert {o["status"] for o in story.engine.got["Outcome"]} >= {"accepted"}


def test_no_id_token_and_no_secret_is_in_the_log_or_the_admin_answers(story: Story) -> None:
    secrets = [day.token for day in (*story.days.values(), *story.passive.values())] + ["s3cret"]
    for text in (story.log, story.metrics, json.dumps(story.shown)):
        assert not [one for one in secrets if one in text]


def test_the_log_has_no_error_and_sigterm_exits_0(story: Story) -> None:
    assert story.exit == 0
    assert "Traceback" not in story.log
    assert "Unhandled" not in story.log
