"""One contestant under load: started, measured, ended. CPU is the contestant's own, all its threads, to the nanosecond.

The load is `load.c`, compiled when it is first needed: a fleet and a CPMS in one C process, so that the contestant is the bottleneck.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from contestants import Contestant, Place

from broker.sim.ports import free_port

HERE = Path(__file__).parent
FIRST = 50  # stations


class Unfit(Exception):
    """This machine or this contestant cannot be measured; says what to do."""


class Load:
    """The generator. Its answers are numbers; the last one is how much failed."""

    def __init__(self, folder: Path, pki: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise Unfit("no C compiler for the load generator: apt install gcc libc6-dev libssl-dev")
        program = folder / "load"
        built = subprocess.run([compiler, "-O2", "-o", program, HERE / "load.c", "-lssl", "-lcrypto"], capture_output=True, text=True)
        if built.returncode:
            raise Unfit(f"the load generator does not compile (apt install libssl-dev): {built.stderr.splitlines()[0]}")
        files = [str(pki / "cpms.pem"), str(pki / "cpms.key")]
        self.process = subprocess.Popen([program, *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        _, plain, tls = self._line().split()
        self.plain, self.tls = int(plain), int(tls)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ask(self, *words: object) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        said = self._line()
        if not said:
            raise Unfit("the load generator died")
        return [float(word) for word in said.split()]


class Figures(NamedTuple):
    """Of one contestant in one round."""

    cpu_us: float
    """CPU microseconds per exchange, the fleet asking as fast as it is answered."""
    per_s: float
    """Exchanges per second of wall time meanwhile; told for the record, for it depends on what else the machine does."""
    kib: float
    """Resident memory per connected station, beyond the empty process."""
    connect_us: float
    """CPU microseconds per station while the fleet connects, its CPMS dialled."""
    cycle_us: float
    """CPU microseconds per connect, BootNotification and close; 0: not measured."""
    p50_us: float
    p99_us: float
    """From CALL to answer at 1,000 exchanges a second."""
    failed: float

    @property
    def connects(self) -> float:
        """Per second of CPU, the CPMS dialled."""
        return 1e6 / self.connect_us

    @property
    def cycles(self) -> float:
        """Connect, boot and close, per second of CPU."""
        return 1e6 / self.cycle_us if self.cycle_us else 0.0


def most_stations() -> int:
    """How many the descriptors of one process allow: two for each at the broker and at the load, and some for the rest."""
    return (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2


def cpu_s(pid: int) -> float:
    """Linux: the clock of a process is named by the complement of its number (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def rss_kib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


@contextlib.contextmanager
def started(who: Contestant, load: Load, pki: Path, stations: int, *, tls: bool, upstream_tls: bool = False) -> Iterator[tuple[int, int]]:
    """Its pid and its port, once it accepts connections."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        engine = free_port()
        place = Place(Path(name), free_port(), load.tls if upstream_tls else load.plain, pki, tls, upstream_tls, stations, engine)
        commands = [who.command(place), [sys.executable, str(HERE / "peers.py"), "engine", str(engine), "0"]]
        with (place.folder / "said").open("wb") as said:
            running = [subprocess.Popen(command, cwd=place.folder, stdout=said, stderr=said) for command in commands]
        try:
            _wait_for(place.port, running[0], place.folder)
            yield running[0].pid, place.port
        finally:
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            time.sleep(1.5)
            return
        time.sleep(0.1)
    raise Unfit(f"did not start: {(folder / 'said').read_text()[-300:]}")


def measure(
    who: Contestant, load: Load, pki: Path, stations: int, exchanges: int, *, tls: bool, upstream_tls: bool = False, brief: bool = False
) -> Figures:
    """Connect a fleet, warm up, ask flat out, then at a steady pace; then, unless `brief`, connect, boot and close again and again."""
    target = (int(tls), who.prefix or "-")
    with started(who, load, pki, stations, tls=tls, upstream_tls=upstream_tls) as (pid, port):
        empty = rss_kib(pid)
        failed = load.ask("fleet", FIRST, FIRST, port, *target)[-1]  # much is loaded for the first ones
        load.ask("close")
        time.sleep(0.5)
        before = cpu_s(pid)
        failed += load.ask("fleet", stations, 100, port, *target)[-1]
        connect = cpu_s(pid) - before
        failed += load.ask("run", stations * 20)[-1]
        kib = (rss_kib(pid) - empty) / stations
        before = cpu_s(pid)
        seconds, lost = load.ask("run", exchanges)
        cpu = cpu_s(pid) - before
        p50, p99, late = load.ask("pace", 1000, 1 if brief else 3)
        load.ask("close")
        cycle = 0.0
        if not brief:
            time.sleep(0.5)
            before = cpu_s(pid)
            cycles = max(200, stations // 2)
            failed += load.ask("cycle", cycles, 50, port, *target)[-1]
            time.sleep(0.3)
            cycle = (cpu_s(pid) - before) / cycles * 1e6
        each = exchanges // stations * stations
        return Figures(cpu / each * 1e6, each / seconds, kib, connect / stations * 1e6, cycle, p50, p99, failed + lost + late)


def storm(who: Contestant, load: Load, pki: Path, stations: int, *, tls: bool) -> tuple[float, float, float]:
    """All stations at once, as after a power cut: seconds until each has its 101, CPU seconds meanwhile, failures."""
    with started(who, load, pki, stations, tls=tls) as (pid, port):
        before = cpu_s(pid)
        seconds, failed = load.ask("fleet", stations, stations, port, int(tls), who.prefix or "-")
        cpu = cpu_s(pid) - before
        load.ask("close")
        return seconds, cpu, failed


def fleet_share(who: Contestant, load: Load, pki: Path, stations: int, seconds: float) -> tuple[float, float]:
    """Share of a core while each station sends a CALL each minute or so; KiB per station."""
    with started(who, load, pki, stations, tls=False) as (pid, port):
        empty = rss_kib(pid)
        load.ask("fleet", stations, 200, port, 0, who.prefix or "-")
        time.sleep(1.0)
        load.ask("run", stations)
        before, began = cpu_s(pid), time.monotonic()
        load.ask("pace", stations * (1 / 60 + 1 / 300), seconds)
        share = (cpu_s(pid) - before) / (time.monotonic() - began)
        kib = (rss_kib(pid) - empty) / stations
        load.ask("close")
        return share, kib


def median(of: list[Figures]) -> Figures:
    """Field by field; failures are summed."""
    middle = [statistics.median(column) for column in zip(*of, strict=True)]
    return Figures(*middle)._replace(failed=sum(one.failed for one in of))
