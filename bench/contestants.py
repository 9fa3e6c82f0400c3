"""Who takes part, and how each is started: a command in a folder of its own, and the path that its stations dial.

Every one of them is one process that listens on `port` and passes everything on to the CPMS; nginx and HAProxy are Debian's.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Place(NamedTuple):
    """Where a contestant stands. `upstream_tls`: the CPMS is dialled with TLS, at `cpms`."""

    folder: Path
    port: int
    cpms: int
    pki: Path
    station_tls: bool
    upstream_tls: bool
    stations: int
    engine: int

    @property
    def pair(self) -> tuple[str, str]:
        return str(self.pki / "broker-ec.pem"), str(self.pki / "broker-ec.key")


class Contestant(NamedTuple):
    name: str
    command: Callable[[Place], list[str]]
    missing: str = ""
    """What is to be installed for it to take part; "" if it can."""
    prefix: str = ""
    tls: bool = True
    """Takes part where stations speak TLS."""


def nginx(place: Place) -> list[str]:
    listen, certificate = f"listen 127.0.0.1:{place.port} backlog=4096", ""
    if place.station_tls:
        listen += " ssl"
        certificate = f"ssl_certificate {place.pair[0]}; ssl_certificate_key {place.pair[1]}; ssl_session_cache shared:s:10m;"
    scheme = "https" if place.upstream_tls else "http"
    (place.folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {place.folder}/nginx.pid; error_log {place.folder}/error.log; worker_rlimit_nofile 65536;\n"
        f"events {{ worker_connections 30000; }}\nhttp {{ access_log off; server {{ {listen}; {certificate} location / {{\n"
        f"  proxy_pass {scheme}://127.0.0.1:{place.cpms}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n"
        "  proxy_set_header Connection upgrade; proxy_buffering off; proxy_read_timeout 600s; } } }\n"
    )
    return [str(shutil.which("nginx", path=PATHS)), "-p", str(place.folder), "-c", str(place.folder / "nginx.conf")]


def haproxy(place: Place) -> list[str]:
    bind = f"bind 127.0.0.1:{place.port} backlog 4096"
    if place.station_tls:
        (place.folder / "both.pem").write_text(Path(place.pair[0]).read_text() + Path(place.pair[1]).read_text())
        bind += f" ssl crt {place.folder}/both.pem"
    (place.folder / "haproxy.cfg").write_text(
        "global\n  maxconn 9900\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n"
        f"  timeout tunnel 600s\nlisten all\n  maxconn 9900\n  {bind}\n"
        f"  server cpms 127.0.0.1:{place.cpms}{' ssl verify none' if place.upstream_tls else ''}\n"
    )
    return [str(shutil.which("haproxy", path=PATHS)), "-db", "-f", str(place.folder / "haproxy.cfg")]


def peer(name: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        pair = place.pair if place.station_tls else ()
        return [sys.executable, str(HERE / "peers.py"), name, str(place.port), str(place.cpms), *pair]

    return command


def broker(mode: str) -> Callable[[Place], list[str]]:
    """The broker as installed here; in any mode but relay every station is listed, and the engine is told."""

    def command(place: Place) -> list[str]:
        listed = "".join(
            f'[[tenants.stations]]\nid = "S{n}"\nsite = "hq"\nevses = {{ 1 = {{ asset = "a{n}", max_amps = 32, phases = 3 }} }}\n'
            for n in range(place.stations if mode != "relay" else 0)
        )
        endpoint = f"tcp:{place.port}:interface=127.0.0.1:backlog=4096"
        if place.station_tls:
            endpoint = f"ocpps:{place.port}:certificate={place.pair[0]}:privateKey={place.pair[1]}:interface=127.0.0.1:backlog=4096"
        cpms = f'cpms_url = "ws://127.0.0.1:{place.cpms}"\n'
        if place.upstream_tls:
            cpms = f'cpms_url = "wss://127.0.0.1:{place.cpms}"\ncpms_ca_file = "{place.pki}/cpms-ca.pem"\n'
        (place.folder / "secret").write_text("bench\n")
        (place.folder / "broker.toml").write_text(
            f'[broker]\nstate = "broker.sqlite"\nadmin_token_file = "token"\nadmin = "unix:admin"\ndrain = "1s"\n'
            "max_links = 20000\nrate = 0\n"  # it runs flat out
            f'[[listen]]\nendpoint = "{endpoint}"\n[[tenants]]\nname = "b"\n{cpms}mode = "{mode}"\n'
            f'[tenants.engine]\nurl = "http://127.0.0.1:{place.engine}"\nclient_id = "b"\nclient_secret_file = "secret"\nbatch = true\n'
            f'[[tenants.sites]]\nname = "hq"\n{listed}'
        )
        twistd = str(Path(sys.executable).parent / "twistd")
        return [twistd, "-n", "--pidfile=", "--logfile=broker.log", "ocppbroker", "--config", "broker.toml"]

    return command


def s_server(place: Place) -> list[str]:
    """OpenSSL's own: a handshake and a page of text for whoever comes, one after the other. No relay."""
    certificate, key = place.pair
    address = f"127.0.0.1:{place.port}"
    return ["openssl", "s_server", "-accept", address, "-cert", certificate, "-key", key, "-www", "-quiet"]


PATHS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


def all_of_them() -> list[Contestant]:
    """In the order of the table; the first of each kind is what ratios are told against."""
    return [
        Contestant("nginx", nginx, "" if shutil.which("nginx", path=PATHS) else "nginx"),
        Contestant("HAProxy", haproxy, "" if shutil.which("haproxy", path=PATHS) else "haproxy"),
        Contestant("websockets relay", peer("websockets"), "" if importlib.util.find_spec("websockets") else "ocppbroker[bench]"),
        Contestant("plain Autobahn relay", peer("autobahn"), tls=False),
        Contestant("broker, smart-charging", broker("smart-charging"), prefix="/b"),
        Contestant("broker, relay", broker("relay"), prefix="/b"),
    ]
