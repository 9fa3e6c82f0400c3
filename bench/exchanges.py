"""CPU per exchange and memory per station of the broker and its peers, in one run: `make bench`.

An exchange is a CALL and its CALLRESULT. CPU is the proxy process's own (user and system, from /proc), so the load generator's cost
does not count. Rounds are interleaved, medians are told, and only ratios within one run mean anything. nginx and HAProxy take part
when they are installed. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from wire import Cpms, Station

HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")


class Result(NamedTuple):
    cpu_us: float
    kib: float
    p50_us: float


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_kib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def broker(folder: Path, port: int, cpms: int, mode: str, stations: int) -> list[str]:
    listed = "".join(f'[[tenants.stations]]\nid = "S{n}"\n' for n in range(stations)) if mode != "relay" else ""
    engine = '[tenants.engine]\nurl = "http://127.0.0.1:9"\nclient_id = "b"\nclient_secret_file = "secret"\n'
    engine += '[[tenants.sites]]\nname = "hq"\n'
    (folder / "secret").write_text("bench\n")
    (folder / "broker.toml").write_text(
        f'[broker]\nadmin = "tcp:{free_port()}:interface=127.0.0.1"\ndrain = "1s"\n'
        f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
        f'[[tenants]]\nname = "b"\ncpms_url = "ws://127.0.0.1:{cpms}"\nmode = "{mode}"\n{engine}{listed}'
    )
    twistd = str(Path(sys.executable).parent / "twistd")
    return [twistd, "-n", "--pidfile=", "--logfile=broker.log", "ocppbroker", "--config", "broker.toml"]


def nginx(folder: Path, port: int, cpms: int) -> list[str]:
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{ worker_connections 20000; }}\n"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ proxy_pass http://127.0.0.1:{cpms};"
        " proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_buffering off; } } }\n"
    )
    return [str(shutil.which("nginx")), "-p", str(folder), "-c", str(folder / "nginx.conf")]


def contestants(stations: int) -> dict[str, object]:
    peers = {name: [sys.executable, str(HERE / "peers.py"), name] for name in ("websockets", "autobahn")}
    found: dict[str, object] = dict(peers)
    found["broker, relay"] = "relay"
    found["broker, shadow"] = "shadow"
    if shutil.which("nginx"):
        found["nginx"] = "nginx"
    return found


async def measure(what: object, cpms: int, stations: int, exchanges: int) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        if isinstance(what, list):
            command = [*what, str(port), str(cpms)]
        else:
            command = nginx(folder, port, cpms) if what == "nginx" else broker(folder, port, cpms, str(what), stations)
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return await load(process.pid, port, "/b" if what in ("relay", "shadow") else "", stations, exchanges)
        finally:
            process.terminate()
            process.wait(20)


async def load(pid: int, port: int, prefix: str, stations: int, exchanges: int) -> Result:
    loop = asyncio.get_running_loop()
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            break
        except OSError:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    empty = rss_kib(pid)
    fleet = []
    for n in range(stations):
        _, station = await loop.create_connection(lambda n=n: Station(f"{prefix}/S{n}", n), "127.0.0.1", port)  # type: ignore[misc]
        fleet.append(station)
    await asyncio.gather(*(station.ready for station in fleet))
    each = max(1, exchanges // stations)
    await asyncio.gather(*(station.run(10) for station in fleet))  # warm
    before = cpu_s(pid)
    await asyncio.gather(*(station.run(each) for station in fleet))
    cpu = cpu_s(pid) - before
    kib = (rss_kib(pid) - empty) / stations
    took = []
    for _ in range(200):
        began = time.perf_counter()
        await fleet[0].run(1)
        took.append(time.perf_counter() - began)
    for station in fleet:
        station.transport.abort()
    return Result(cpu * 1e6 / (each * stations), kib, statistics.median(took) * 1e6)


async def main(stations: int, exchanges: int, rounds: int) -> None:
    server = await asyncio.get_running_loop().create_server(Cpms, "127.0.0.1", 0, backlog=2048)
    cpms = server.sockets[0].getsockname()[1]
    results: dict[str, list[Result]] = {}
    for turn in range(rounds):
        for name, what in contestants(stations).items():
            results.setdefault(name, []).append(await measure(what, cpms, stations, exchanges))
            print(f"  round {turn + 1}: {name}: {results[name][-1].cpu_us:.1f} µs", flush=True)
    print(f"\n{stations} stations, {exchanges} exchanges, medians of {rounds} interleaved rounds, ws, one process each\n")
    print(f"{'':16}{'CPU µs/exchange':>16}{'× websockets':>14}{'KiB/station':>13}{'p50 µs idle':>13}")
    peer = statistics.median(result.cpu_us for result in results["websockets"])
    for name, got in results.items():
        cpu, kib, p50 = (statistics.median(result[k] for result in got) for k in range(3))
        print(f"{name:16}{cpu:16.1f}{cpu / peer:14.2f}{kib:13.1f}{p50:13.0f}")
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stations", type=int, default=200)
    parser.add_argument("--exchanges", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    asyncio.run(main(options.stations, options.exchanges, options.rounds))
