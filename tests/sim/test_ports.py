"""A port that is given out stays free until it is used."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from broker.sim import ports


def test_nobody_listens_there_and_no_connection_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = int(ports.OUTGOING.read_text().split()[0])
    found = {ports.free_port() for _ in range(50)}
    assert len(found) > 40
    assert all(ports.LOWEST <= port < first for port in found)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.free_port()))
        taken.listen()
        dice, port = ports.secrets.randbelow, taken.getsockname()[1]
        said = [port - ports.LOWEST]
        monkeypatch.setattr(ports.secrets, "randbelow", lambda most: said.pop() if said else dice(most))
        assert ports.free_port() != port
        assert said == []


@pytest.mark.parametrize("said", [None, "1024\t65535\n"])
def test_where_the_system_leaves_no_room_for_that_it_names_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None) -> None:
    monkeypatch.setattr(ports, "OUTGOING", tmp_path / "range")
    if said is not None:
        ports.OUTGOING.write_text(said)
    assert ports.free_port() > 0
