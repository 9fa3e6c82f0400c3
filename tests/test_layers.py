"""The folder tells whether I/O is allowed: below `net` nobody opens, waits, logs, rolls dice or looks at a clock."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "broker"
MAY_DO_IO = ("net", "sim", "service.py", "cli.py", "commands.py")
FRAMEWORKS = {"twisted", "autobahn", "treq", "OpenSSL", "sqlite3", "zope", "cryptography", "prometheus_client"}
WORLD = {"time", "random", "secrets", "logging", "socket", "ssl", "select", "threading", "asyncio", "subprocess"}
FILES = {"os", "io", "pathlib", "glob"}
CALLS = {"open", "input", "print", "exec", "eval", "__import__", "breakpoint"}
NOW = {"now", "utcnow", "today", "uuid1", "uuid4"}
NOT_IN_NAMES = re.compile(r"manager|handler|processor|helper|util|(?<![a-z])data(?![a-z])|(?<![a-z])info(?![a-z])", re.I)


def pure_files() -> list[Path]:
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file.relative_to(PACKAGE).parts[0] not in MAY_DO_IO]


def faults(text: str) -> Iterator[str]:
    """What in this module does I/O or looks at the world, `line: what`."""
    for node in ast.walk(ast.parse(text)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            if module.split(".")[0] in FRAMEWORKS | WORLD | FILES:
                yield f"{node.lineno}: imports {module}: only net/, sim/, service.py, cli.py and commands.py may; take it as an argument"
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if (isinstance(node.func, ast.Name) and name in CALLS) or (isinstance(node.func, ast.Attribute) and name in NOW):
                yield f"{node.lineno}: calls {name}(): the caller gives us text, time and ids; we return what is to be done"


@pytest.mark.parametrize("file", pure_files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_what_is_below_net_is_pure(file: Path) -> None:
    assert list(faults(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    ["import time", "from random import random", "from twisted.internet import defer", "open('x')", "datetime.now(UTC)", "import os.path"],
)
def test_the_check_itself_sees(text: str) -> None:
    assert len(list(faults(text))) == 1


def test_each_part_has_its_layer() -> None:
    """A module that no layer names could import anything unseen. Add it to [importlinter:contract:arrows] in setup.cfg."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    contracts = {name: settings[f"importlinter:contract:{name}"]["layers"] for name in ("arrows", "versions")}
    layered = {name: set(re.findall(r"broker[\w.]*", layers)) for name, layers in contracts.items()}
    top = {f"broker.{part.stem}" for part in PACKAGE.iterdir() if part.stem[0] not in "_." and (part.suffix == ".py" or part.is_dir())}
    versions = {f"broker.ocpp.{part.stem}" for part in (PACKAGE / "ocpp").glob("*.py") if part.stem != "__init__"}
    assert top - layered["arrows"] == set()
    assert versions - layered["versions"] == set()


def test_names_say_what_a_thing_is() -> None:
    """No manager, handler, processor, helper, util, data, info in the name of a module, class or function."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        names = [node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        found += [f"{file.relative_to(PACKAGE)}: {name}" for name in [file.stem, *names] if NOT_IN_NAMES.search(name.strip("_"))]
    assert found == []
