"""The table: who limits whom, and how it is drawn on a terminal and elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest

from broker.sim.bay import Bay
from broker.sim.cars import Car, Charge, Socket
from broker.sim.composite import Allowed, Profile
from broker.sim.cpms import PROFILE_ID
from broker.sim.meter import Meter
from broker.sim.table import Row, Screen, limit_w, limiter, lines
from broker.sim.words import Session


def bay(amps: float, by: int | None, soc: float = 20.0, car_amps: float = 32.0) -> Bay:
    profile: Any = Profile(by, 0, "default", 0, "Relative", "A", ()) if by is not None else None
    session = Session(1, "CARD", 0.0, 0)
    return Bay(Socket(1), Meter(), Car(max_amps=car_amps), Charge(soc, 6.0), session, Allowed(amps, profile))


@pytest.mark.parametrize(
    ("here", "who"),
    [
        (bay(16, PROFILE_ID), "CPMS"),
        (bay(16, 9_120_011), "engine"),
        (bay(32, None), "hardware"),
        (bay(16, 9_120_011, car_amps=10), "car"),
        (bay(16, 9_120_011, soc=99), "car"),
        (bay(0, 9_120_011), "engine"),
        (Bay(Socket(1), Meter()), ""),
    ],
)
def test_who_limits(here: Bay, who: str) -> None:
    assert limiter(here) == who


def test_a_limit_is_in_watts_of_the_phases_used() -> None:
    assert limit_w(bay(16, 1)) == 16 * 690
    assert limit_w(bay(5, 1)) == 0
    assert limit_w(Bay(Socket(1), Meter())) is None


def test_a_row_is_readable() -> None:
    text = lines([Row("CS-7", "ocpp1.6", "a-1", "smart-charging", "Charging", 6900.0, 11_040.0, "engine", 42.4)], "foot")
    assert text[2].split() == ["CS-7", "1.6", "a-1", "smart", "Charging", "6.9", "kW", "11.0", "kW", "engine", "42", "%"]
    assert text[-1] == "foot"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_is_redrawn_in_place() -> None:
    out = Terminal()
    screen = Screen(out)
    screen.draw(["a", "b"], 0.0)
    screen.draw(["c", "d"], 1.0)
    assert out.getvalue().endswith("\x1b[2A\x1b[2Kc\n\x1b[2Kd\n")
    screen.say("news")
    assert out.getvalue().endswith("\x1b[2A\x1b[Jnews\n")


def test_elsewhere_there_is_a_snapshot_now_and_then() -> None:
    out = io.StringIO()
    screen = Screen(out)
    for second in range(21):
        screen.draw([f"at {second}"], float(second))
    assert out.getvalue().split() == ["at", "0", "at", "10", "at", "20"]
