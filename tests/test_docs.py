"""What the documentation says is there is there: samples are read, commands parsed, keys, metrics, paths and targets looked up."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from broker.alarms import KINDS
from broker.cli import parser
from broker.config import parse
from broker.counts import Counts
from broker.net.metrics import COUNTERS, TIMINGS, Gauges, exposition
from broker.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))}
EXAMPLE = (ROOT / "examples" / "broker.toml").read_text(encoding="utf-8")
SOME_TENANT = '[[listen]]\nendpoint = "tcp:9000"\n[[tenants]]\nname = "acme"\ncpms_url = "ws://cpms"\nmode = "relay"\n'
BLOCKS = [(page, text) for page, whole in PAGES.items() for text in re.findall(r"^```toml\n(.*?)^```", whole, re.M | re.S)]
COMMANDS = [(page, said) for page, whole in PAGES.items() for said in re.findall(r"(?:^|`)ocppbroker ([^`\n]+)", whole, re.M)]
OTHERWISE = re.compile(r"by default|instead of|any of the port|as many as|we show|with its key|^cpms_(?:key|password)_file|its site's")


def read(text: str, **files: str) -> Settings:
    """The settings; a file that is not named holds a word."""

    def contents(path: str) -> str:
        name, _, kind = Path(path).name.rpartition(".")
        other = {"toml": "", "csv": (ROOT / "examples" / "acme.csv").read_text(encoding="utf-8")}
        return files.get(name, other.get(kind, "word"))

    return parse(text, str(ROOT / "examples" / "broker.toml"), contents, {})


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize(("page", "text"), BLOCKS, ids=[page for page, _ in BLOCKS])
def test_each_sample_of_a_configuration_is_one(page: str, text: str) -> None:
    if text.startswith("[[quirks]]"):
        assert read('broker.quirks_file = "quirks.toml"\n' + SOME_TENANT, quirks=text).quirks
    else:
        assert read(text if "[[tenants]]" in text else text + SOME_TENANT).tenants


def test_there_are_samples_and_commands() -> None:
    assert {page for page, _ in BLOCKS} >= {"README.md", "docs/stations.md"}
    assert {page for page, _ in COMMANDS} >= {"README.md", "docs/operators-guide.md", "docs/onboarding.md"}


def lines() -> list[tuple[int, str]]:
    """The example's keys and tables that stand behind a #, with their line numbers."""
    found = re.compile(r"# ((?:[a-z_]+ = |\[).*)")
    return [(number, match[1]) for number, line in enumerate(EXAMPLE.splitlines()) if (match := found.fullmatch(line))]


def test_every_key_of_the_example_is_known() -> None:
    text = EXAMPLE.splitlines()
    for number, line in lines():
        text[number] = line.replace('credentials = "forward"', 'credentials = "replace"')
    whole = "\n".join(text).replace('unlisted = "relay"', 'unlisted = "refuse"')
    assert read(whole).broker.alarms.mail is not None


def alone(text: str) -> list[tuple[int, str]]:
    """Keys that may be taken in one by one: not those of a table that is itself behind a #."""
    section, found = "", []
    for number, line in enumerate(text.splitlines()):
        section = line if re.match(r"(# )?\[", line) else section
        if not section.startswith("# ") and (number, line[2:]) in lines():
            found.append((number, line[2:]))
    return found


@pytest.mark.parametrize(("number", "line"), alone(EXAMPLE), ids=[line.split()[0] for _, line in alone(EXAMPLE)])
def test_what_stands_behind_a_number_sign_is_the_default_unless_it_says_otherwise(number: int, line: str) -> None:
    if OTHERWISE.search(line):
        return
    text = EXAMPLE.splitlines()
    text[number] = line
    assert read("\n".join(text)) == read(EXAMPLE)


def test_every_key_that_is_read_is_in_the_example_or_in_the_page_on_stations() -> None:
    taken = re.compile(
        r"\b(?:table|site|root|evses|service)\.(?:text|seconds|size|whole|number|choice|flag|strings|path|path_or_none|secret|table|tables)\("
        r'"([a-z_]+)"'
    )
    keys = {key for file in (ROOT / "broker").glob("config*.py") for key in taken.findall(file.read_text(encoding="utf-8"))}
    assert len(keys) > 60
    known = EXAMPLE + PAGES["docs/stations.md"]
    assert {key for key in keys if not re.search(rf"\b{key}(_file|_env)?\b", known)} == set()


# ---------------------------------------------------------------- commands


def commands() -> set[str]:
    (chosen,) = [action for action in parser()._actions if action.dest == "==SUPPRESS==" and action.choices]
    return set(chosen.choices or ())


@pytest.mark.parametrize(("page", "said"), COMMANDS, ids=[f"{page}: {said[:40]}" for page, said in COMMANDS])
def test_each_command_is_one(page: str, said: str) -> None:
    words = shlex.split(re.sub(r"<(\w+)>", r"\1", re.sub(r"\[[^]]*\]", "", said)), comments=True)
    if len(words) == 1:
        assert words[0] in commands(), "named, without what it needs"
    else:
        parser().parse_args(words)


def test_each_command_is_in_the_operators_guide() -> None:
    told = {said.split()[0] for page, said in COMMANDS if page in ("docs/operators-guide.md", "README.md")}
    assert commands() - told == set()


def test_each_target_of_make_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    said = {(page, name) for page, whole in PAGES.items() for name in re.findall(r"(?:^|`| {4})make ([a-z-]+)", whole, re.M)}
    assert len(said) > 5
    assert {(page, name) for page, name in said if name not in targets} == set()


# ---------------------------------------------------------------- metrics, alarms, paths, modules


def families() -> dict[str, tuple[str, ...]]:
    """What is exposed: each family's name as it is scraped, and its labels."""
    gauges: Any = Gauges(lambda: {("t", "v"): 1}, lambda: {"t": (1, 1.0)}, lambda: {"n": 1}, lambda: {"t": 1})
    found = {f"ocppbroker_{name}_total": labels for name, (_, labels) in COUNTERS.items()}
    found |= dict.fromkeys((f"ocppbroker_{name}" for name in TIMINGS), ())
    for line in exposition(Counts(), gauges)().decode().splitlines():
        name, _, labels = line.partition("{")
        if not line.startswith("#") and labels and "_bucket" not in name:
            found[name] = tuple(re.findall(r'(\w+)="', labels))
    return found


def test_the_operators_guide_names_each_metric_with_its_labels() -> None:
    table = PAGES["docs/operators-guide.md"].partition("\n| metric | labels |")[2].partition("\n\n")[0]
    rows = [[cell.strip("` ") for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert {row[0]: tuple(re.findall(r"\w+", row[1])) for row in rows} == families()
    assert all(row[2] for row in rows)


def test_a_metric_that_a_page_names_is_exposed() -> None:
    said = {(page, name) for page, whole in PAGES.items() for name in re.findall(r"\bocppbroker_[a-z_]+", whole)}
    assert {(page, name) for page, name in said if name not in families() and name != "ocppbroker_plugin"} == set()


def test_the_operators_guide_says_of_each_alarm_what_the_book_says() -> None:
    table = PAGES["docs/operators-guide.md"].partition("\n| name | severity |")[2].partition("\n\n")[0]
    rows = [[cell.strip("` ") for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert {row[0]: (row[1], row[3]) for row in rows} == {name: (kind.severity, kind.fault) for name, kind in KINDS.items()}


def test_each_module_that_the_map_of_the_code_names_is_there() -> None:
    modules = {path.stem for path in (ROOT / "broker").rglob("*.py")} | {path.name for path in (ROOT / "broker").iterdir()}
    tables = "\n".join(line for line in PAGES["docs/architecture.md"].splitlines() if line.startswith("|"))
    named = set(re.findall(r"`([a-z_0-9]+)`", tables))
    assert len(named) > 80
    assert named - modules == set()


@pytest.mark.parametrize("page", PAGES)
def test_each_file_that_a_page_names_is_there(page: str) -> None:
    links = re.findall(r"\]\(((?!https?:)[^)#]+)[^)]*\)", PAGES[page])
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    paths = re.findall(
        r"(?<![\w/.-])((?:broker|tests|docs|examples|certs|bench|net|ocpp|engine|sim|profiles)/[\w/.-]+\.(?:py|md|toml|yaml))", PAGES[page]
    )
    assert [path for path in paths if not any((ROOT / base / path).exists() for base in ("", "broker", "tests"))] == []
