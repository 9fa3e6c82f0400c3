"""`check --online` and `probe` as an operator runs them: in a process of their own, against strangers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stranger_engine import StrangerEngine
from strangers import StrangerCpms

CONFIG = """
[[listen]]
endpoint = "tcp:9000"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{cpms}/ocpp"
unlisted = "refuse"
[tenants.engine]
url = "{engine}"
client_id = "acme"
client_secret_file = "secret"
[[tenants.sites]]
name = "hq"
[[tenants.stations]]
id = "S"
site = "hq"
evses = {{ 1 = {{ asset = "socket", max_amps = 32 }} }}
"""


def config(folder: Path, cpms: int, engine: str, secret: str = "s3cret") -> Path:
    (folder / "secret").write_text(secret)
    path = folder / "broker.toml"
    path.write_text(CONFIG.format(cpms=cpms, engine=engine))
    return path


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("asset", "exit_status"), [("socket", 0), ("other", 1)])
def test_check_online_compares_assets(tmp_path: Path, asset: str, exit_status: int) -> None:
    engine = StrangerEngine("acme:s3cret", {asset: "hq"}, {asset: 6900.0})
    try:
        path = config(tmp_path, 1, engine.url)
        said = run("check", "--online", path)
        assert said.returncode == exit_status, said.stderr
        assert ("logged in; it knows what we map" in said.stdout) == (exit_status == 0)
        assert ("the engine has no asset socket (station S)" in said.stderr) == (exit_status == 1)
        assert len(json.loads(run("check", "--online", "--json", path).stdout)["online"]["acme"]) == exit_status
        assert engine.faults == []
    finally:
        engine.stop()


def test_check_online_says_that_a_login_is_refused_without_the_secret(tmp_path: Path) -> None:
    engine = StrangerEngine("acme:s3cret", {"socket": "hq"}, {"socket": 6900.0})
    try:
        said = run("check", "--online", config(tmp_path, 1, engine.url, "hunter2"))
        assert said.returncode == 1
        assert said.stderr == "acme: the engine refuses our login with 401: check client_id and client_secret\n"
        assert "hunter2" not in said.stdout
    finally:
        engine.stop()


def test_probe_says_what_the_cpms_answers(tmp_path: Path) -> None:
    async def story() -> None:
        cpms = StrangerCpms()
        path = config(tmp_path, await cpms.start(), "http://127.0.0.1:1")
        (tmp_path / "password").write_text("hunter2\n")
        said = await asyncio.to_thread(run, "probe", path, "acme", "S", "--password-file", tmp_path / "password")
        assert said.returncode == 0, said.stderr
        assert said.stdout.endswith("/ocpp/S: accepted, speaks ocpp2.1\n") or "accepted, speaks ocpp" in said.stdout
        assert cpms.headers["S"]["Authorization"].startswith("Basic ")
        assert cpms.wires["S"].received == []
        await cpms.stop()
        gone = await asyncio.to_thread(run, "probe", "--json", path, "acme", "S")
        assert gone.returncode == 1
        assert json.loads(gone.stdout)["status"] == 503
        stranger = await asyncio.to_thread(run, "probe", path, "acme", "T")
        assert stranger.returncode == 1
        assert "the broker itself would refuse it" in stranger.stderr

    asyncio.run(story())
