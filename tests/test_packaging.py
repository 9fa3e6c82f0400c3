"""What an installation must offer: the plugin, the endpoint, the console script, the types; and what a checkout must not hold."""

from __future__ import annotations

import configparser
import re
import subprocess
from importlib.metadata import entry_points, metadata
from pathlib import Path

import pytest
from twisted.application.service import IServiceMaker
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

import broker
from broker.cli import main

ROOT = Path(__file__).resolve().parent.parent


def test_twistd_finds_the_service() -> None:
    makers = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "ocppbroker"]
    assert [maker.module for maker in makers] == ["broker.service"]


def test_the_service_has_what_twistd_asks_for() -> None:
    (maker,) = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "ocppbroker"]
    assert "--config" in maker.options().getUsage()
    assert callable(maker.makeService)


def test_twisted_finds_the_endpoint() -> None:
    assert [parser.prefix for parser in getPlugins(IStreamServerEndpointStringParser)].count("ocpps") == 1


def test_the_console_script_is_ours() -> None:
    (script,) = entry_points(group="console_scripts", name="ocppbroker")
    assert script.load() is main


def test_twisteds_folders_stay_namespaces() -> None:
    """An __init__.py there would hide Twisted itself."""
    assert not list((ROOT / "twisted").rglob("__init__.py"))
    assert [file.name for file in (ROOT / "twisted" / "plugins").glob("*.py")] == ["ocppbroker_plugin.py"]


def test_the_package_is_typed_and_says_which_pythons() -> None:
    assert (Path(broker.__file__).parent / "py.typed").exists()
    assert metadata("ocppbroker")["Requires-Python"] == ">=3.11"


def test_tox_and_make_run_the_same_checks() -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    for check in ("lint", "types", "layers"):
        for command in tox[f"testenv:{check}"]["commands"].strip().splitlines():
            assert f"$(BIN)/{command}" in make


def test_no_private_key_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    begins = re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY", re.M)
    held = [file for file in files if file and (ROOT / file).is_file() and begins.search((ROOT / file).read_bytes())]
    assert held == []
