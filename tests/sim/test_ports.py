"""A port that is given out stays free until it is used."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest

from broker.sim import ports


def test_nobody_listens_there_and_no_connection_is_given_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = 32_768
    monkeypatch.setattr(ports, "OUTGOING", tmp_path / "range")
    ports.OUTGOING.write_text(f"{first}\t60999\n")
    found = {ports.free_port() for _ in range(50)}
    assert len(found) == 50
    assert all(ports.LOWEST <= port < first for port in found)
    monkeypatch.setattr(ports.os, "getpid", lambda: 70_000)
    here = ports.free_port()
    with socket.socket() as taken:
        monkeypatch.setattr(ports, "_given", itertools.count())
        taken.bind(("127.0.0.1", ports.free_port()))
        taken.listen()
        monkeypatch.setattr(ports, "_given", itertools.count())
        assert ports.free_port() > taken.getsockname()[1], "it is in use"
    monkeypatch.setattr(ports.os, "getpid", lambda: 70_001)
    assert abs(ports.free_port() - here) > 50, "another process begins elsewhere"


@pytest.mark.parametrize("said", [None, "1024\t65535\n"])
def test_where_the_system_leaves_no_room_for_that_it_names_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    monkeypatch.setattr(ports, "OUTGOING", tmp_path / "range")
    if said is not None:
        ports.OUTGOING.write_text(said)
    assert ports.free_port() > 0
