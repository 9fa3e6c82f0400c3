"""The load generator against its own CPMS, without a proxy between: what it counts is what happened."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_pki
import pytest

BENCH = str(Path(__file__).parent.parent / "bench")


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if shutil.which("cc") is None or not Path("/usr/include/openssl/ssl.h").exists():
        pytest.skip("no C compiler, or no headers of OpenSSL")
    monkeypatch.syspath_prepend(BENCH)
    from measure import Load  # type: ignore[import-not-found]

    make_pki.main([str(tmp_path)])
    running = Load(tmp_path, tmp_path)
    yield running
    running.process.terminate()
    running.process.wait(5)


@pytest.mark.parametrize("tls", [False, True])
def test_everything_asked_is_answered(load: Any, tls: bool) -> None:
    port = load.tls if tls else load.plain
    assert load.ask("fleet", 5, 2, port, int(tls), "-")[-1] == 0
    assert load.ask("run", 250)[-1] == 0
    for _ in range(5):
        p50, p99, late = load.ask("pace", 20, 0.5)
        if not late:  # as one is while the machine stands still
            break
    assert (0 < p50 <= p99, late) == (True, 0)
    assert load.ask("close")[-1] == 0
    assert load.ask("cycle", 20, 4, port, int(tls), "/b")[-1] == 0


def test_a_proxy_that_is_not_there_is_counted(load: Any) -> None:
    from measure import free_port

    assert load.ask("fleet", 3, 3, free_port(), 0, "-")[-1] == 3


def test_cpu_is_told_of_another_process(load: Any) -> None:
    from measure import cpu_s, rss_kib

    before = cpu_s(load.process.pid)
    load.ask("fleet", 5, 5, load.plain, 0, "-")
    load.ask("run", 5000)
    assert 0 < cpu_s(load.process.pid) - before < 60
    assert rss_kib(os.getpid()) > 1000
    assert "measure" in sys.modules


def test_the_cpms_answers_a_good_bye_and_goes(load: Any) -> None:
    """As any does; without it each connection that a proxy closes would linger until the proxy gives up."""
    with socket.create_connection(("127.0.0.1", load.plain), 5) as one:
        one.sendall(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        assert b" 101 " in one.recv(4096)
        one.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert (one.recv(4096), one.recv(4096)) == (b"\x88\x00", b"")


@pytest.mark.parametrize("tls", [False, True])
def test_a_bare_port_lets_everybody_in(load: Any, tmp_path: Path, tls: bool) -> None:
    from contestants import Contestant, peer
    from measure import started

    with started(Contestant("bare", peer("bare")), load, tmp_path, 5, tls=tls) as (_, port):
        assert load.ask("fleet", 5, 5, port, int(tls), "-")[-1] == 0


def test_connects_are_told_apart_from_connect_boot_and_close(load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from contestants import Contestant, peer
    from measure import measure
    from run import table  # type: ignore[import-not-found]

    got = measure(Contestant("relay", peer("autobahn")), load, tmp_path, 5, 50, tls=False)
    assert got.connect_us > 0, "and of `failed` nothing: five stations are too few for a thousand CALLs a second on a busy machine"
    assert got.cycle_us > 0
    table("ws", {"relay": [got._replace(connect_us=500.0, cycle_us=800.0, failed=0)]})
    heads, row = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert heads[-6:] == ["connects", "+boot+close", "p50", "µs", "p99", "µs"]
    assert row[-4:-2] == ["2000", "1250"]
