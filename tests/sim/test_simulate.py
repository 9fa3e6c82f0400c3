"""The simulated counterparts as commands: what they take, and that they speak only when something changes."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from broker.ocpp import times
from broker.sim import simulate
from broker.sim.engine import SimAsset


def parsed(*words: str) -> Any:
    parser = argparse.ArgumentParser()
    simulate.add(parser.add_subparsers(required=True))
    return parser.parse_args(["simulate", *words])


def test_a_station_needs_a_place_to_dial_and_an_id() -> None:
    chosen = parsed("station", "ws://127.0.0.1:9000/acme", "CS-7", "--ocpp", "2.1", "--sockets", "2")
    assert (chosen.url, chosen.id, chosen.ocpp, chosen.sockets, chosen.begin) == (
        "ws://127.0.0.1:9000/acme",
        "CS-7",
        "2.1",
        2,
        simulate.begin_station,
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("station",),
        ("station", "ws://x", "CS-7", "--ocpp", "1.5"),
        ("engine",),
        *(("engine", "--asset", "a", "--period", text) for text in ("0", "-1", "nan", "inf", "soon")),
        *(("engine", "--asset", "a", "--limit", text) for text in ("-1", "nan", "inf")),
        *(("engine", "--asset", text) for text in ("", ":3", "a:2", "a:three", "a:3:nan", "a:3:-1", "a:3:16:4")),
        *(("cpms", "--port", text) for text in ("-1", "65536", "http")),
        *(("cpms", "--amps", text) for text in ("-1", "nan", "inf", "many")),
        *(("station", "ws://x", "CS-7", "--max-amps", text) for text in ("-1", "nan", "inf")),
        *(("station", "ws://x", "CS-7", "--fast", text) for text in ("0", "-1", "nan", "inf")),
        *(("station", text, "CS-7") for text in ("x", "http://x", "ws://", "ws://x:0", "ws://x:70000", "ws://[::1")),
        ("tea",),
    ],
)
def test_wrong_usage_is_exit_2(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as wrong:
        parsed(*words)
    assert wrong.value.code == 2


def test_assets_are_names_phases_and_amps() -> None:
    found = simulate.assets(["a", "b:1", "c:3:16"], "s")
    assert found == {"a": SimAsset("s", 3, 32.0), "b": SimAsset("s", 1, 32.0), "c": SimAsset("s", 3, 16.0)}


def test_it_speaks_when_something_changes(capsys: pytest.CaptureFixture[str]) -> None:
    words, clock = iter(["", "a", "a", "b", "b"]), Clock()
    simulate.Changes(lambda: next(words), clock)
    clock.pump([1.0] * 5)
    assert capsys.readouterr().out.split() == ["a", "b"]


@pytest.mark.parametrize(("words", "most_s"), [((), 600.0), (("--period", "1"), 10.0)])
def test_an_engine_plans_for_ten_periods(words: tuple[str, ...], most_s: float) -> None:
    found: list[Any] = []
    Deferred.fromCoroutine(simulate.engine(parsed("engine", "--asset", "a", *words), MemoryReactorClock())).addBoth(found.append)
    at = "2026-01-01T00:00:00Z"
    begun = {"site_id": "site-1", "assetId": "a", "transactionId": "1", "timestamp": at, "transactionState": "Started", "startTime": at}
    assert found[0].accept("transaction", "key", begun) == (200, "")
    (one,) = found[0].schedules("site-1", "0")["schedules"]
    issued, until = times.parse(one["issued_at"]), times.parse(one["valid_until"])
    assert issued is not None
    assert until is not None
    assert most_s * 0.9 - 0.01 <= until - issued <= most_s + 0.01
