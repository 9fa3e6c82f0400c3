"""The log for machines: each line is one object, whatever is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from running import Running, free_port
from twisted.logger import Logger, LogLevel

from broker.net.jsonlog import as_line


def line(text: str, **more: Any) -> Any:
    return json.loads(as_line({"log_format": text, "log_time": 1_700_000_000.25, "log_level": LogLevel.warn, **more}) or "null")


def test_time_level_link_and_text() -> None:
    assert line("{link} closed by {who}", link="acme/CS-7#3", who="us") == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warn",
        "link": "acme/CS-7#3",
        "text": "acme/CS-7#3 closed by us",
    }
    assert line("nobody's")["link"] is None
    assert line("a mistake", link=object())["link"] is None
    assert as_line({"log_format": ""}) is None


@given(st.text(), st.text())
def test_whatever_is_said_it_is_one_line(text: str, link: str) -> None:
    said = as_line({"log_format": "{text}", "text": text, "link": link, "log_time": 0.0, "log_level": LogLevel.info}) or '{"text":""}'
    assert said.count("\n") == (1 if said.endswith("\n") else 0)
    assert json.loads(said)["text"] == text


def test_a_failure_comes_with_its_traceback() -> None:
    events: list[Any] = []
    log = Logger(observer=events.append)  # type: ignore[arg-type]
    try:
        raise KeyError("here")
    except KeyError:
        log.failure("ours")
    said = json.loads(as_line(events[0]) or "")
    assert (said["level"], said["text"]) == ("critical", "ours")
    assert "KeyError" in said["failure"]


def test_the_service_speaks_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    listen = f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
    config = f'{listen}[[tenants]]\nname = "a"\ncpms_url = "ws://127.0.0.1:1"\nmode = "relay"\n'
    broker = Running(tmp_path, config, "--log-format", "json")
    with broker:
        assert broker.stop() == 0
    lines = [json.loads(one) for one in broker.log.read_text().splitlines()]
    assert all({"time", "level", "link", "text"} <= set(one) for one in lines)
    assert any(re.match(r"ocppbroker .*: stations dial tcp:", one["text"]) for one in lines)
