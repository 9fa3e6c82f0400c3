"""The demo as a whole, in seconds: without a broker between, frames still match, and the summary says what is lacking."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.python.failure import Failure

from broker.sim import demo, play
from broker.sim.proof import Claim
from broker.sim.table import Screen


class NoBroker:
    """Stations dial the CPMS itself."""

    alive = True

    def __init__(self, reactor: Any, folder: Path, config: str, admin_port: int) -> None:
        assert "[[tenants]]" in config

    async def ready(self) -> None: ...

    async def stop(self) -> None: ...

    def last_words(self) -> str:
        return "last words"


@pytest_twisted.ensureDeferred
async def test_without_a_broker_frames_still_match_and_the_rest_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(play, "Broker", NoBroker)
    monkeypatch.setattr(play, "SHORTEST", 1.0)
    monkeypatch.setattr(play, "FLUSH_S", 0.5)
    real = play.Addresses
    monkeypatch.setattr(play, "Addresses", lambda a, b, cpms, engine: real(int(cpms.split(":")[2].split("/")[0]), b, cpms, engine))
    out = io.StringIO()
    claims = await play.Demo(reactor, 4.0, Screen(out)).run(tmp_path)
    held = {claim.says.split(":")[0] for claim in claims if claim.ok}
    assert held == {"every station got through, on one link", "frames sent = frames received, at both ends", "driver-identification"}
    assert len(claims) == 9
    assert "AC16-A" in out.getvalue()
    assert not any(timer for timer in reactor.getDelayedCalls() if "broker" in repr(timer))  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_a_broker_that_dies_ends_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(play, "Broker", NoBroker)
    monkeypatch.setattr(NoBroker, "alive", False)
    with pytest.raises(RuntimeError, match="last words"):
        await play.Demo(reactor, 20.0, Screen(io.StringIO())).run(tmp_path)


@pytest.mark.parametrize(("text", "seconds"), [("", play.SECONDS), ("60", 60.0)])
def test_how_long(text: str, seconds: float) -> None:
    assert demo.seconds_wanted(text) == seconds


@pytest.mark.parametrize("text", ["x", "5", "99999", "nan"])
def test_how_long_is_bounded(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        demo.seconds_wanted(text)


def test_exit_codes_and_what_is_left_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    assert demo.report([Claim("a", True, "1"), Claim("b", False, "2")], folder) == 1
    assert demo.report(Failure(RuntimeError("it died")), folder) == 1
    assert "it died" in capsys.readouterr().err
    assert folder.exists()
    assert demo.report([Claim("a", True, "1")], folder) == 0
    assert not folder.exists()
    assert "All 1 claims hold." in capsys.readouterr().out


def test_the_table_never_shows_a_driver() -> None:
    """An id token is personal."""
    from broker.sim.words import Session

    assert "CARD" not in repr(Session(1, "CARD", 0.0, 0))
    assert "CARD" not in json.dumps(str(Session(1, "CARD", 0.0, 0)))
