"""The disk under the store is made read-only by its kernel, as it is after an error, under traffic; then it is mended: nobody restarts us.

A file system of the test's own, in a file. A plain `mount -o remount,ro` is refused while the store is open, so it is aborted instead.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from crowd import Crowd

ALARM_S = 90.0  # the disk and the alarms are each looked at every 10 s; the rest is for a busy machine


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=60)


class Disk:
    """What the broker's `var` lies on."""

    def __init__(self, folder: Path) -> None:
        self.image, self.at = str(folder / "image"), str(folder / "var")
        self.devices: list[str] = []

    def make(self) -> str:
        """Why it cannot be, if it cannot."""
        Path(self.at).mkdir()
        with open(self.image, "wb") as image:
            image.truncate(32 * 1024 * 1024)
        try:
            made = run("mkfs.ext4", "-q", "-F", "-m", "0", self.image)
        except FileNotFoundError:
            return "there is no mkfs.ext4"
        return "mkfs.ext4 fails" if made.returncode else self.mount()

    def mount(self) -> str:
        """By a device of its own: one that is aborted stays so while anybody has files open there."""
        found = run("losetup", "--find", "--show", self.image)
        if found.returncode:
            return "there is no loop device"
        self.devices.append(found.stdout.decode().strip())
        return "nothing can be mounted" if run("mount", "-o", "errors=remount-ro", self.devices[-1], self.at).returncode else ""

    def abort(self) -> str:
        """From now on it takes no write, open files included. What was written earlier without a flush (the admin token) is there."""
        run("sync", "-f", self.at)
        return "it cannot be aborted" if run("mount", "-o", "remount,abort", self.at).returncode else ""

    def mend(self) -> None:
        """As an operator does: what was mounted goes (from who has files open there, lazily), is checked, and comes again."""
        run("umount", "-l", self.at)
        assert run("e2fsck", "-p", "-f", self.image).returncode in (0, 1)
        assert not self.mount()

    def gone(self) -> None:
        run("umount", "-l", self.at)
        for device in self.devices:
            run("losetup", "--detach", device)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    one = Disk(tmp_path)
    why = one.make()
    if why:
        one.gone()
        pytest.skip(f"{why}: a read-only disk is only simulated (tests/net/test_keeping.py)")
    yield one
    one.gone()


async def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + ALARM_S
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.1)  # there is no clock to wind: the process has its own


@pytest.mark.timeout(400)
def test_a_disk_that_becomes_read_only_holds_up_nobody_and_what_it_refused_is_told_later(tmp_path: Path, disk: Disk) -> None:
    async def story() -> None:
        async with Crowd(tmp_path, 3) as crowd:
            broker = crowd.broker

            def alarms() -> dict[str, dict[str, str]]:
                return {one["name"]: one for one in broker.get("/api/v1/alarms")["alarms"] if one["name"] in ("store", "damaged")}

            def counted(name: str) -> float:
                found = re.search(rf"^ocppbroker_{name}_total (\S+)", broker.get("/metrics"), re.MULTILINE)
                return float(found[1]) if found is not None else 0.0

            crowd.begin()
            await until(lambda: all(len(one.answered) > 5 for one in crowd.stations))
            crowd.engine.away = True  # so that rows wait in the file as well
            await until(lambda: broker.get("/api/v1/status")["engines"]["acme"]["pending"] > 20)
            unpromised = counted("unpromised")  # a slow disk may have left some
            if disk.abort():
                pytest.skip("a file system cannot be aborted here")
            await until(alarms)
            alarm = alarms()["store"]
            assert alarm["fault"] == "operator"
            assert re.search(r"takes no writes \(.+\): stations are relayed, and \d+ writes wait in memory", alarm["text"])
            with pytest.raises(HTTPError, match="503"):
                broker.get("/readyz")
            before = [len(one.answered) for one in crowd.stations]
            await until(lambda: all(len(one.answered) > n + 20 for one, n in zip(crowd.stations, before, strict=True)))
            assert counted("unpromised") > unpromised, "each answer that went without its promise"
            assert broker.get("/api/v1/status")["store"]["kept"] > 0
            disk.mend()
            await until(lambda: "store" not in alarms())
            assert broker.get("/readyz")["ready"]
            assert broker.get("/api/v1/status")["store"]["kept"] == 0
            await crowd.end()
            assert crowd.mistakes() == [], "what came meanwhile was told too, in order and once"
            assert [one.links for one in crowd.stations] == [1, 1, 1]
            log = broker.log.read_text()
            assert "takes writes again" in log
            assert "Traceback" not in log

    asyncio.run(story())
