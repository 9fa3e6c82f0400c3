"""Cars: never more than anybody allows, on a ramp, with a floor and a taper; and the meter is the integral of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.sim.cars import DOWN_A_S, FLOOR_A, UP_A_S, WAKE_S, Car, Charge, Socket, offered, step, wanted, watts
from broker.sim.meter import Meter

AC3, AC1, DC = Socket(1), Socket(1, phases=1, max_amps=16), Socket(1, phases=1, max_amps=125, dc=True)
amps = st.floats(0, 200)


def after(car: Car, socket: Socket, seconds: float, allowed: float, charge: Charge | None = None, fast: float = 1.0) -> Charge:
    charge = charge or Charge(30.0)
    for _ in range(round(seconds * 4)):
        charge = step(car, socket, charge, allowed, 0.25, fast)
    return charge


@pytest.mark.parametrize(("allowed", "amps"), [(32, 32), (16, 16), (6, 6), (5.9, 0), (0, 0), (99, 32)])
def test_an_ac_offer_is_6_amps_or_more_or_none(allowed: float, amps: float) -> None:
    assert offered(AC3, allowed) == amps
    assert after(Car(), AC3, 30, allowed).amps == amps


def test_a_dc_offer_has_no_floor() -> None:
    assert offered(DC, 3.0) == 3.0


def test_it_ramps_up_and_down() -> None:
    awake = Charge(30.0, 0.0, WAKE_S)
    one = after(Car(), AC3, 1, 32, awake)
    assert one.amps == pytest.approx(UP_A_S)
    full = after(Car(), AC3, 30, 32, awake)
    assert after(Car(), AC3, 1, 10, full).amps == pytest.approx(32 - DOWN_A_S)


def test_it_takes_a_while_to_wake() -> None:
    assert after(Car(), AC3, WAKE_S - 0.25, 32).amps == 0
    assert after(Car(), AC3, WAKE_S + 0.5, 32).amps > 0


def test_it_pauses_at_no_offer_and_wakes_again() -> None:
    paused = after(Car(), AC3, 10, 0, after(Car(), AC3, 30, 16))
    assert paused.amps == 0
    assert paused.waited_s == 0
    assert after(Car(), AC3, 30, 16, paused).amps == 16


def test_it_tapers_near_full_and_stops_at_full() -> None:
    assert [wanted(Car(), soc) for soc in (50, 80, 90, 100)] == [32, 32, pytest.approx(32 * 0.55), 0]
    full = after(Car(capacity_wh=1000), AC3, 120, 32, Charge(95.0), fast=60)
    assert full.soc_percent == 100
    assert full.amps == 0


def test_one_phase_and_direct_current() -> None:
    assert watts(Car(phases=1), AC3, Charge(0, 10)) == 2300
    assert watts(Car(phases=3), AC1, Charge(0, 10)) == 2300
    assert watts(Car(), AC3, Charge(0, 10)) == 6900
    assert watts(Car(), DC, Charge(0, 100)) == 40_000


def test_batteries_may_run_fast_but_the_meter_is_true() -> None:
    slow, meter = Charge(10.0, 16.0, WAKE_S), Meter(100.0)
    quick = slow
    for _ in range(40):
        slow, quick = step(Car(), AC3, slow, 16, 0.25), step(Car(), AC3, quick, 16, 0.25, 60)
        meter.add(watts(Car(), AC3, quick), 0.25)
    assert quick.soc_percent - 10 == pytest.approx(60 * (slow.soc_percent - 10))
    assert meter.register_wh == pytest.approx(100 + 16 * 3 * 230 * 10 / 3600)


@settings(max_examples=150)
@given(st.sampled_from([AC3, AC1, DC]), amps, amps, st.floats(0, 100), st.floats(0.01, 2))
def test_no_step_goes_beyond_the_offer_except_on_its_way_down(socket: Socket, now: float, allowed: float, soc: float, dt: float) -> None:
    was = Charge(soc, min(now, socket.max_amps), WAKE_S)
    new = step(Car(max_amps=125), socket, was, allowed, dt)
    assert 0 <= new.amps <= max(was.amps, offered(socket, allowed))
    assert new.amps <= socket.max_amps
    assert soc <= new.soc_percent <= 100
    # Twice the time is enough for any ramp: then the offer holds.
    assert after(Car(max_amps=125), socket, 20, allowed, new).amps <= offered(socket, allowed) + 1e-9
    assert offered(socket, allowed) == 0 or socket.dc or offered(socket, allowed) >= FLOOR_A
