"""Our limits end safely, shown with real processes: a broker, two engines, a CPMS, and stations that charge cars.

Every station is told 10 A by an engine where its CPMS allows 20 A. Then a link is cut for good, an engine is killed, the broker is
killed: each time the car is back at the CPMS's 20 A when the lease is over at the latest, though whoever died has said nothing more.
The engine that is killed has made plans for much longer; it is its silence that ends its limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from running import Running, free_port

TESTS = Path(__file__).parent.parent
VERSIONS = {"16": "ocpp1.6", "201": "ocpp2.0.1"}
LEASE_S = 15.0
LONG_S = 120.0
QUIET_S = 12.0  # our own CALLs may begin 10 s after a connect
MARGIN_S = 4.0  # two steps of a station (0.25 s each), two looks at it, a second of rounding; a busy machine's rest
RAMP_S = 6.0  # a car follows a higher offer within five seconds
THEIRS_A, OURS_A = 20.0, 10.0
WATTS = 3 * 230.0  # of one ampere

CONFIG = """
[[listen]]
endpoint = "tcp:{port}:interface=127.0.0.1"
"""
TENANT = """
[[tenants]]
name = "{name}"
cpms_url = "{cpms}"
mode = "smart-charging"
[tenants.engine]
url = "{engine}"
client_id = "demo"
client_secret_file = "secret"
measure_every = "1s"
[tenants.charging]
write_interval = "1s"
lease = "{lease}"
[[tenants.sites]]
name = "hq"
"""
STATION = """
[[tenants.stations]]
id = "{id}"
evses = {{ 1 = {{ asset = "{id}", max_amps = 32 }} }}
"""


class Wires:
    """The cables of one tenant's stations to the broker: counted, and cut when the test says so."""

    def __init__(self, to: int) -> None:
        self.to, self.whole = to, True
        self.dialled_at = 0.0
        """When a station last got through."""
        self.down = bytearray()
        """All that came down to the stations, while it came."""
        self._open: set[asyncio.StreamWriter] = set()

    async def lay(self) -> int:
        server = await asyncio.start_server(self._plugged, "127.0.0.1", 0)
        self._server = server
        port = server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    def cut(self) -> None:
        """Nothing gets through from now on, in either direction; who dials is hung up on."""
        self.whole = False
        for writer in self._open:
            writer.transport.abort()

    def close(self) -> None:
        self.cut()
        self._server.close()

    def said(self, action: str) -> int:
        """CALLs of this action that came down (the simulated stations compress nothing, and servers mask nothing)."""
        return self.down.count(f'"{action}"'.encode())

    async def _plugged(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.whole:
            writer.transport.abort()
            return
        try:
            far, other = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        self.dialled_at = time.time()
        ends = {writer, other}
        self._open |= ends
        await asyncio.gather(self._pass(reader, other, None), self._pass(far, writer, self.down))
        self._open -= ends

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if kept is not None:
                    kept += data
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class World:
    """Everybody, each in a process of his own. Tenants: cut, silent, killed (a lease of 10 s) and long (2 min)."""

    def __init__(self, folder: Path) -> None:
        (folder / "secret").write_text("demo-secret\n")
        self.folder, self.port = folder, free_port()
        self.broker: Running
        self.wires: dict[str, Wires] = {}
        self.seen: list[dict[str, Any]] = []
        """What the stations showed, oldest first."""
        self._processes: list[asyncio.subprocess.Process] = []
        self._reading: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> World:
        sim = ("-m", "broker.cli", "simulate")
        cpms, engine, doomed = await asyncio.gather(
            self.url(*sim, "cpms", "--amps", str(THEIRS_A)),
            self.url(*sim, "engine", "--site", "hq", "--limit", str(6 * 6.9), *self.assets("cut", "killed", "long")),
            self.url(*sim, "engine", "--site", "hq", "--limit", str(2 * 6.9), *self.assets("silent")),
        )
        self.doomed = doomed[0]
        config = CONFIG.format(port=self.port)
        for name in ("cut", "silent", "killed", "long"):
            lease = LONG_S if name == "long" else LEASE_S
            url = (doomed if name == "silent" else engine)[1]
            config += TENANT.format(name=name, cpms=cpms[1].removesuffix("/<station>"), engine=url, lease=f"{lease:g}s")
            config += "".join(STATION.format(id=f"{name}-{short}") for short in VERSIONS)
            self.wires[name] = Wires(self.port)
        self.broker = Running(self.folder, config)
        await asyncio.to_thread(self.broker.start)
        await self.drive()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._reading:
            task.cancel()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        for wires in self.wires.values():
            wires.close()
        self.broker.__exit__()

    async def begin(self, *command: str) -> asyncio.subprocess.Process:
        """Python, in the broker's folder."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=self.folder, stdout=pipe, limit=1 << 20)
        self._processes.append(process)
        return process

    async def url(self, *command: str) -> tuple[asyncio.subprocess.Process, str]:
        """A simulated counterpart, and where it says that it listens."""
        process = await self.begin(*command)
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        found = re.search(r"(ws|http)://[^, \n]+", line)
        assert found, line
        self._reading.append(asyncio.create_task(drained(process.stdout)))
        return process, found[0]

    def assets(self, *tenants: str) -> list[str]:
        return [word for name in tenants for short in VERSIONS for word in ("--asset", f"{name}-{short}")]

    async def drive(self) -> None:
        """The stations dial, each over its tenant's wires."""
        wanted = []
        for name, wires in self.wires.items():
            port = await wires.lay()
            wanted += [f"{name}-{short}={version}=ws://127.0.0.1:{port}/{name}" for short, version in VERSIONS.items()]
        process = await self.begin(str(TESTS / "drivers.py"), *wanted)

        async def read() -> None:
            assert process.stdout is not None
            while line := await process.stdout.readline():
                self.seen.append(json.loads(line))

        self._reading.append(asyncio.create_task(read()))

    async def says(self, *command: str) -> tuple[int | None, str]:
        """A command of the console: its exit code and what it says."""
        process = await self.begin("-m", "broker.cli", *command)
        said, _ = await asyncio.wait_for(process.communicate(), 30)
        return process.returncode, said.decode()

    # ------------------------------------------------------------ what the stations showed

    def pair(self, name: str, begin: float = 0.0, end: float = float("inf")) -> list[tuple[float, dict[str, Any]]]:
        """When, and what, both stations of a tenant showed between two moments."""
        return [(one["at"], one[f"{name}-{short}"]) for one in self.seen if begin <= one["at"] < end for short in VERSIONS]

    def both(self, name: str, true: Callable[[dict[str, Any]], bool]) -> bool:
        """Both stations of a tenant, as last seen."""
        return bool(self.seen) and all(true(one) for _, one in self.pair(name)[-len(VERSIONS) :])

    async def until(self, true: Callable[[], bool], most_s: float) -> None:
        for _ in range(int(most_s * 10)):
            if true():
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not within {most_s:g} s; last seen: {self.seen[-1:]}\n{self.broker.log.read_text()[-3000:]}")

    async def ends_by_itself(self, name: str, cut_at: float) -> float:
        """Both stations go from 10 A to 20 A, once, and stay there. After how many seconds the second did."""
        await self.until(lambda: self.both(name, freed), LEASE_S + MARGIN_S + 10)
        since = self.pair(name, cut_at)
        assert {one["amps"] for _, one in since} == {OURS_A, THEIRS_A}
        freed_at = max(at for at, one in since if one["amps"] == OURS_A)
        assert all(one["amps"] == THEIRS_A for at, one in since if at > freed_at)
        await self.until(lambda: self.both(name, lambda one: abs(one["watts"] - THEIRS_A * WATTS) < 100), RAMP_S)
        return freed_at - cut_at


async def drained(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass


def limited(one: dict[str, Any]) -> bool:
    """Our limit is in force, and the car follows it."""
    return one["amps"] == OURS_A and one["by"] in one["ours"] and 0 < one["watts"] <= OURS_A * WATTS + 50


def freed(one: dict[str, Any]) -> bool:
    return bool(one["amps"] == THEIRS_A)


def leases(world: World, tenant: str) -> dict[str, Any]:
    """What the broker knows to stand, or to have stood lately, at a tenant's stations: the profiles' ids, and until when."""
    found = world.broker.get(f"/api/v1/tenants/{tenant}/release")["stations"]
    return {one["station"]: (one["profiles"], one["until"]) for one in found}


def test_limits_of_ours_end_by_themselves_whoever_dies(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            await world.until(lambda: all(world.both(name, limited) for name in world.wires), 40)
            assert {one["amps"] for name in world.wires for _, one in world.pair(name)} >= {OURS_A, THEIRS_A}
            writes = world.wires["killed"].said("SetChargingProfile")

            # A link is cut, and an engine is killed; the broker and the others live.
            cut_at = time.time()
            world.wires["cut"].cut()
            world.doomed.send_signal(signal.SIGKILL)
            heard = len(world.wires["cut"].down)
            code, said = await world.says("release", "cut", "--wait", "1s")
            assert (code, said.count(" away")) == (1, 2), said
            after_s = await asyncio.gather(*(world.ends_by_itself(name, cut_at) for name in ("cut", "silent")))
            assert max(after_s) <= LEASE_S + MARGIN_S, after_s
            assert len(world.wires["cut"].down) == heard
            assert all(limited(one) for _, one in world.pair("killed", cut_at)), "a lease that is renewed had a gap"
            assert world.wires["killed"].said("SetChargingProfile") > writes

            # The broker is killed. One tenant's stations stay out of reach of the next, so that nobody tells them anything.
            before = leases(world, "long")
            killed_at = time.time()
            world.wires["killed"].cut()
            world.broker.kill()
            writes, heard = world.wires["long"].said("SetChargingProfile"), len(world.wires["killed"].down)
            await asyncio.to_thread(world.broker.start)
            assert leases(world, "long") == before
            assert leases(world, "killed").keys() == {f"killed/killed-{short}" for short in VERSIONS}

            # The stations that were away come back, to another broker than the one that was asked to release them.
            assert len(leases(world, "cut")) == 2
            world.wires["cut"].whole = True
            waiting = asyncio.create_task(world.says("release", "cut"))
            assert await world.ends_by_itself("killed", killed_at) <= LEASE_S + MARGIN_S
            assert len(world.wires["killed"].down) == heard
            code, said = await waiting
            assert code == 0
            assert said.endswith("all profiles of ours are gone, and no more are sent\n")
            assert world.both("cut", lambda one: one["ours"] == [] and one["amps"] == THEIRS_A)

            # A lease that has not ended stood all the time, once, was not sent again, and is not forgotten.
            back_at = world.wires["long"].dialled_at
            assert back_at > killed_at
            await world.until(lambda: time.time() > back_at + QUIET_S, QUIET_S)
            since = world.pair("long", killed_at)
            assert all(limited(one) and len(one["ours"]) == 1 for _, one in since)
            assert world.wires["long"].said("SetChargingProfile") == writes
            assert leases(world, "long") == before
            code, said = await world.says("release", "long", "--wait", "15s")
            assert code == 0, said
            await world.until(lambda: world.both("long", lambda one: one["ours"] == [] and one["amps"] == THEIRS_A), 10)

    asyncio.run(story())
