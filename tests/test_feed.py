"""The feed: what is said of each asset, how often, and when it falls silent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from broker.feed import LATE_MOST, Feed, Measurement
from broker.meter import NONE
from broker.model.basics import Instant
from broker.model.observations import Reading

T = 1_767_225_600.0
KW11 = Reading(None, energy_wh=1000.0, power_w=11_000.0)


class Meter:
    """A feed with a hand-wound clock: seconds since T on both clocks."""

    def __init__(self, *evses: int, every_s: float = 60.0) -> None:
        self.feed, self.now = Feed(evses or (1,), every_s), 0.0

    @property
    def instant(self) -> Instant:
        return Instant(self.now, T + self.now)

    def says(
        self, now: float, energy: float | None = None, power: float | None = None, at: float | None = None, evse: int = 1, **more: object
    ) -> list[Measurement]:
        """The meter said this at `at` (its own clock; as now when not given); what was due then."""
        self.now = now
        reading = Reading(T + (now if at is None else at), energy_wh=energy, power_w=power, **more)  # type: ignore[arg-type]
        self.feed.metered(evse, reading, self.instant)
        return self.due()

    def idle(self, now: float, evse: int = 1) -> list[Measurement]:
        self.now = now
        self.feed.idle(evse, self.instant)
        return self.due()

    def due(self, now: float | None = None) -> list[Measurement]:
        self.now = self.now if now is None else now
        return list(self.feed.due(self.instant))

    def run(self, until: float) -> list[tuple[float, float]]:
        """(when, W) of what is said up to then, waking exactly when asked to."""
        said: list[tuple[float, float]] = []
        while (wake := self.feed.wake_at) is not None and wake <= until:
            self.now = max(self.now, wake)
            told = self.due()
            assert told, "woken for nothing"
            said += [(self.now, each.power_w) for each in told]
        self.now = until
        assert self.due() == []
        return said


@pytest.fixture
def meter() -> Meter:
    return Meter()


def test_an_earlier_links_register_is_held_until_the_meter_speaks() -> None:
    meter = Meter()
    meter.feed = Feed((1, 2), registers={1: 5000.0})
    assert meter.feed.wake_at is None, "a register alone says nothing of now"
    assert meter.idle(10.0) == [Measurement(1, T + 10, 5000.0, 0.0)]
    assert meter.idle(10.0, evse=2) == [], "nothing is known of this one"
    assert meter.says(20.0, 5100.0, 7000.0) == []
    assert meter.run(71.0) == [(70.0, 7000.0)]


# ---------------------------------------------------------------- how often


def test_the_first_value_goes_at_once(meter: Meter) -> None:
    assert meter.feed.wake_at is None
    assert meter.says(5.0, 1000.0, 11_000.0) == [Measurement(1, T + 5, 1000.0, 11_000.0)]
    assert meter.due() == []


def test_what_changes_is_said_once_a_minute_with_its_own_time(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    assert meter.says(10.0, 1030.0, 11_000.0) == []
    assert meter.says(50.0, 1150.0, 10_000.0) == []
    assert meter.feed.wake_at == 60.0
    assert meter.due(59.9) == []
    assert meter.due(60.0) == [Measurement(1, T + 50, 1150.0, 10_000.0)]
    assert meter.says(200.0, 1200.0, 10_000.0) != [], "long enough ago: at once"


def test_the_interval_is_configured() -> None:
    meter = Meter(every_s=5.0)
    meter.says(0.0, 1.0, 1.0)
    meter.says(1.0, 2.0, 2.0)
    assert meter.feed.wake_at == 5.0


def test_what_does_not_change_is_repeated_for_a_quarter_of_an_hour(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    assert meter.run(3600.0) == [(300.0, 11_000.0), (600.0, 11_000.0), (900.0, 11_000.0)]
    assert meter.feed.wake_at is None


def test_a_repeat_says_what_is_true_now(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    (told,) = meter.due(300.0)
    assert told.at == T + 300


def test_a_meter_that_says_the_same_again_keeps_it_alive(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 0.0)
    said = []
    for now in range(200, 2001, 200):
        said += [(each.at - T, each.power_w) for each in meter.says(float(now), 1000.0, 0.0)]
        said += meter.run(now + 199.0)
    assert said == [(300.0 * n, 0.0) for n in range(1, 8)]


def test_what_is_idle_is_repeated_as_long_as_its_link_is_up(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    assert meter.idle(30.0) == []
    assert meter.run(3700.0) == [(60.0 + 300 * n, 0.0) for n in range(13)]
    assert meter.feed.latest() == {1: (1000.0, 0.0)}


def test_a_reading_without_power_leaves_it_idle_and_one_with_power_does_not(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    meter.idle(30.0)
    meter.says(40.0, 1000.0, 0.0)
    assert len(meter.run(3600.0)) == 12
    meter.says(3700.0, 1000.0, 6000.0)
    assert len(meter.run(9999.0)) <= 5, "silent after a quarter of an hour"


def test_busy_ends_idle(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 0.0)
    meter.idle(0.0)
    meter.run(3000.0)
    meter.feed.busy(1, meter.instant)
    assert meter.run(9999.0) == []


def test_who_is_busy_is_not_vouched_for_by_having_been_idle(meter: Meter) -> None:
    meter.idle(0)
    meter.says(1, 1000, 0)
    meter.feed.busy(1, meter.instant)
    assert [when for when, _ in meter.run(5000)] == [301.0, 601.0, 901.0]


def test_a_transactions_begin_or_end_is_said_at_once(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    meter.says(10.0, 1030.0, 11_000.0)
    meter.idle(11.0)
    meter.feed.urgent(1)
    assert meter.feed.wake_at == 0.0
    assert meter.due() == [Measurement(1, T + 11, 1030.0, 0.0)]
    assert meter.feed.wake_at == 311.0


def test_not_even_a_transaction_makes_an_old_value_true(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    meter.run(2000.0)
    meter.feed.urgent(1)
    assert meter.due(2000.0) == []
    assert meter.feed.wake_at is None


def test_a_link_that_closes_says_what_is_new_and_nothing_after(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    meter.says(10.0, 1030.0, 9000.0)
    meter.feed.link_closed()
    assert [told.energy_wh for told in meter.due()] == [1030.0]
    assert meter.feed.wake_at is None
    meter.idle(20.0)
    meter.due(80.0)
    meter.feed.link_closed()
    assert meter.run(9999.0) == []


def test_assets_do_not_mix_and_nobodys_meter_is_passed_over() -> None:
    meter = Meter(1, 2, 0)
    for evse in (0, 3):
        assert meter.says(0.0, 5.0, 5.0, evse=evse) == []
        meter.feed.idle(evse, meter.instant)
        meter.feed.urgent(evse)
        meter.feed.busy(evse, meter.instant)
    assert [told.evse for told in meter.says(1.0, 5.0, 5.0, evse=2)] == [2]
    assert meter.feed.latest() == {1: (None, None), 2: (5.0, 5.0)}


# ---------------------------------------------------------------- 0 W by a status, and a meter that tells energy only


def test_a_car_that_charges_after_idle_is_never_said_to_take_nothing(meter: Meter) -> None:
    """Idle until the plug, then charging at 12 kW; the meter tells its register every 30 s."""
    meter.says(0.0, 1000.0)
    meter.idle(10.0)
    meter.says(20.0, 1000.0, context="Transaction.Begin")
    assert meter.feed.latest() == {1: (1000.0, 0.0)}
    meter.feed.busy(1, Instant(21.0, T + 21))
    assert meter.feed.latest() == {1: (1000.0, None)}
    meter.says(51.0, 1100.0)
    assert meter.feed.latest() == {1: (1100.0, 12_000.0)}
    meter.says(81.0, 1200.0)
    assert meter.feed.latest() == {1: (1200.0, 12_000.0)}


def test_without_a_status_the_register_itself_says_that_power_flows(meter: Meter) -> None:
    meter.idle(0.0)
    meter.says(1.0, 1000.0, context="Transaction.Begin")
    assert meter.feed.latest() == {1: (1000.0, 0.0)}
    meter.says(6.0, 1010.0)
    assert meter.feed.latest() == {1: (1010.0, None)}, "five seconds tell that it flows, not how much"
    meter.says(21.0, 1050.0)
    assert meter.feed.latest() == {1: (1050.0, 9000.0)}


def test_what_flowed_before_the_status_makes_no_power_after_it(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    meter.idle(30.0)
    meter.says(40.0, 1090.0)
    assert meter.feed.latest() == {1: (1090.0, 0.0)}
    meter.says(45.0, 1091.0, context="Transaction.End")
    assert meter.feed.latest() == {1: (1091.0, 0.0)}


def test_idle_and_a_register_that_stands_still_is_nothing_until_a_status_says_otherwise(meter: Meter) -> None:
    meter.idle(0.0)
    for at in (5.0, 20.0):
        meter.says(at, 1000.0)
        assert meter.feed.latest() == {1: (1000.0, 0.0)}
    meter.feed.busy(1, Instant(25.0, T + 25))
    assert meter.feed.latest() == {1: (1000.0, None)}
    meter.says(45.0, 1040.0)
    assert meter.feed.latest() == {1: (1040.0, 7200.0)}


@given(
    st.lists(st.floats(1.0, 120.0), min_size=1, max_size=8),
    st.lists(st.floats(2.0, 90.0), min_size=2, max_size=12),
    st.sampled_from([1400.0, 11_000.0, 22_000.0]),
    st.booleans(),
)
@effort(max_examples=150, deadline=None)
def test_from_the_begin_on_power_is_what_flows_or_unknown(idle: list[float], gaps: list[float], watts: float, tells: bool) -> None:
    """Statuses and readings of an idle socket, then a transaction at constant power whose meter tells energy only."""
    meter, at = Meter(), 0.0
    for gap in idle:
        at += gap
        meter.idle(at)
        meter.says(at, 1000.0)
    meter.says(at + 1, 1000.0, context="Transaction.Begin")
    begun = at = at + 1
    if tells:
        meter.feed.busy(1, Instant(begun, T + begun))
    for gap in gaps:
        at += gap
        meter.says(at, 1000.0 + watts * (at - begun) / 3600.0)
        power = meter.feed.latest()[1][1]
        assert power is None or watts * 0.9 < power < watts * 1.1


# ---------------------------------------------------------------- what a reading leaves out


def test_without_energy_or_without_power_nothing_is_said(meter: Meter) -> None:
    assert meter.says(0.0, power=11_000.0) == []
    assert meter.feed.wake_at is None
    assert meter.says(1.0, energy=1000.0) == [Measurement(1, T + 1, 1000.0, 11_000.0)]
    other = Meter()
    assert other.says(0.0, energy=1000.0) == []
    other.feed.urgent(1)
    assert other.due() == [], "power that is unknown is not 0"


def test_power_comes_from_the_register_when_it_is_never_said(meter: Meter) -> None:
    meter.says(0.0, energy=1000.0)
    assert meter.says(60.0, energy=1100.0) == [Measurement(1, T + 60, 1100.0, 6000.0)]
    meter.says(120.0, energy=1100.0)
    assert meter.feed.latest() == {1: (1100.0, 0.0)}


def test_not_over_a_few_seconds(meter: Meter) -> None:
    meter.says(0.0, energy=1000.0)
    assert meter.says(9.0, energy=1001.0) == []
    assert [told.power_w for told in meter.says(18.0, energy=1030.0)] == [6000.0]


def test_power_that_was_said_holds_for_a_minute(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    meter.says(60.0, energy=1050.0)
    assert meter.feed.latest() == {1: (1050.0, 11_000.0)}
    meter.says(120.0, energy=1100.0)
    assert meter.feed.latest() == {1: (1100.0, 3000.0)}


def test_derived_power_has_no_phases(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 3680.0, currents_a=(16.0, None, None))
    (told,) = meter.says(90.0, energy=1100.0)
    assert told.currents_a == NONE


def test_a_start_without_power_is_a_start_from_nothing(meter: Meter) -> None:
    assert meter.says(0.0, energy=1000.0, context="Transaction.Begin") == [Measurement(1, T, 1000.0, 0.0)]


@pytest.mark.parametrize("context", ["Transaction.Begin", "Transaction.End"])
def test_a_sessions_energy_does_not_replace_the_register(meter: Meter, context: str) -> None:
    meter.says(0.0, 51_230.0, 11_000.0)
    for now in (1.0, 2.0):
        meter.says(now, energy=0.0, context=context)
    assert meter.feed.latest() == {1: (51_230.0, 11_000.0)}


def test_a_register_that_fell_is_believed_when_it_is_said_again(meter: Meter) -> None:
    meter.says(0.0, 51_230.0, 11_000.0)
    meter.says(60.0, 3.0, 11_000.0)
    assert meter.feed.latest()[1][0] == 51_230.0
    meter.says(120.0, 51_300.0, 11_000.0)
    meter.says(180.0, 3.0, 11_000.0)
    assert meter.feed.latest()[1][0] == 51_300.0, "a slip, twice"
    meter.says(240.0, 4.0, 11_000.0)
    assert meter.feed.latest()[1][0] == 4.0, "a new meter"
    meter.says(360.0, 124.0)
    assert meter.feed.latest() == {1: (124.0, 3600.0)}


def test_phases_are_passed_on_and_an_idle_phase_carries_nothing(meter: Meter) -> None:
    amps, volts = (16.0, 15.5, None), (231.0, 229.0, None)
    (told,) = meter.says(0.0, 1000.0, 7000.0, currents_a=amps, voltages_v=volts)
    assert (told.currents_a, told.voltages_v) == (amps, volts)
    meter.idle(1.0)
    (told,) = meter.due(60.0)
    assert (told.power_w, told.currents_a) == (0.0, (0.0, 0.0, None))


def test_a_state_of_charge_goes_with_its_car(meter: Meter) -> None:
    (told,) = meter.says(0.0, 1000.0, 7000.0, soc_percent=40.0)
    assert told.soc_percent == 40.0
    meter.says(30.0, soc_percent=41.0)
    assert [told.soc_percent for told in meter.due(60.0)] == [41.0]
    meter.says(90.0, energy=1100.0, context="Transaction.Begin")
    assert [told.soc_percent for told in meter.due(120.0)] == [None]


def test_a_state_of_charge_grows_old(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 7000.0, soc_percent=40.0)
    meter.idle(1.0)
    said = [meter.due(60.0 + 300 * n)[0].soc_percent for n in range(5)]
    assert said == [40.0, 40.0, 40.0, None, None]


def test_a_reading_that_says_nothing_of_use_is_none(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 7000.0)
    meter.run(700.0)
    assert meter.says(800.0, offered_a=16.0) == []
    assert meter.run(9999.0) == [(900.0, 7000.0)]
    assert meter.feed.latest() == {1: (1000.0, 7000.0)}


# ---------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("at", "told"),
    [(0.0, 0.0), (-60.0, -60.0), (60.0, 60.0), (-61.0, 0.0), (-300.0, 0.0), (61.0, 0.0), (9e9, 0.0), (-T, 0.0)],
)
def test_a_clock_that_is_off_is_not_believed_in_the_present(meter: Meter, at: float, told: float) -> None:
    (measurement,) = meter.says(0.0, 1000.0, 7000.0, at=at)
    assert measurement.at == T + told
    assert meter.feed.latest() == {1: (1000.0, 7000.0)}


def test_no_time_is_now(meter: Meter) -> None:
    meter.now = 7.0
    meter.feed.metered(1, KW11, meter.instant)
    assert [told.at for told in meter.due()] == [T + 7]


def test_the_past_is_passed_on_with_its_own_time_and_changes_nothing(meter: Meter) -> None:
    meter.says(0.0, 5000.0, 0.0)
    assert meter.says(10.0, 4000.0, 7000.0, at=-301.0) == [Measurement(1, T - 301, 4000.0, 7000.0)]
    assert meter.feed.latest() == {1: (5000.0, 0.0)}
    assert meter.feed.wake_at == 300.0


@pytest.mark.parametrize(("late", "told"), [(300.0, [1000.0]), (301.0, [699.0])])
def test_five_minutes_are_of_the_present_and_more_is_of_the_past(meter: Meter, late: float, told: list[float]) -> None:
    said = meter.says(1000, 500, 7000, at=1000 - late)
    assert [each.at - T for each in said] == told
    assert (meter.feed.latest()[1][1] is None) is (late > 300)


def test_of_the_past_power_without_its_register_is_not_told(meter: Meter) -> None:
    assert len(meter.says(5000, 500, 7000, at=1000)) == 1
    assert meter.says(5000, None, 8000, at=1010) == []
    assert len(meter.says(5000, 510, 8000, at=1020)) == 1


def test_a_queue_of_the_past_that_has_registers_only(meter: Meter) -> None:
    told = []
    for n in range(4):
        told += meter.says(n / 10, energy=1000.0 + 100 * n, at=-4000.0 + 60 * n)
    assert [(each.at - T, each.energy_wh, each.power_w) for each in told] == [
        (-3940.0, 1100.0, 6000.0),
        (-3880.0, 1200.0, 6000.0),
        (-3820.0, 1300.0, 6000.0),
    ]
    assert meter.feed.latest() == {1: (None, None)}


def test_a_second_queue_of_the_past_begins_anew(meter: Meter) -> None:
    meter.says(0.0, energy=1000.0, at=-1000.0)
    meter.says(0.1, energy=900.0, at=-2000.0)
    (told,) = meter.says(0.2, energy=1000.0, at=-1940.0)
    assert told.power_w == 6000.0


def test_the_past_is_bounded(meter: Meter) -> None:
    for n in range(LATE_MOST + 10):
        meter.feed.metered(1, Reading(T - 5000 + n, energy_wh=1.0, power_w=float(n)), meter.instant)
    assert meter.feed.wake_at == 0.0
    told = meter.due()
    assert len(told) == LATE_MOST
    assert told[0].power_w == 10.0


def test_an_aligned_value_bears_the_begin_of_its_interval_and_is_of_the_present(meter: Meter) -> None:
    (told,) = meter.says(900.0, 1000.0, 7000.0, at=0.0, context="Sample.Clock")
    assert told.at == T + 900
    assert meter.feed.latest() == {1: (1000.0, 7000.0)}


def test_readings_out_of_order_are_told_but_do_not_replace_the_latest(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 7000.0)
    assert [told.at for told in meter.says(1.0, 999.0, 5000.0, at=-5.0)] == [T - 5]
    assert meter.feed.latest() == {1: (1000.0, 7000.0)}


def test_a_status_does_not_make_the_next_reading_old(meter: Meter) -> None:
    """A station's clock is often a few seconds behind ours."""
    meter.says(0.0, 1000.0, 7000.0, at=-20.0)
    meter.idle(60.0)
    meter.says(70.0, 1000.0, 7000.0, at=50.0)
    assert meter.feed.latest() == {1: (1000.0, 7000.0)}


def test_a_stops_register_is_heard_though_a_status_said_idle_before_it(meter: Meter) -> None:
    meter.says(0.0, 1000.0, 11_000.0)
    meter.idle(60.0)
    meter.feed.urgent(1)
    (told,) = meter.says(61.0, energy=1200.0, at=58.0, context="Transaction.End")
    assert (told.energy_wh, told.power_w, told.at) == (1200.0, 0.0, T + 60.001)
    assert meter.feed.latest() == {1: (1200.0, 0.0)}


# ---------------------------------------------------------------- the laws

events = st.lists(
    st.tuples(
        st.sampled_from(["meter", "meter", "meter", "queue", "idle", "busy", "urgent", "wait"]),
        st.sampled_from([0.0, 1.0, 30.0, 61.0, 400.0, 2000.0]),
        st.one_of(st.none(), st.sampled_from([0.0, 100.0, 5000.0])),
        st.one_of(st.none(), st.sampled_from([0.0, 11_000.0])),
    ),
    max_size=40,
)


@given(events, st.sampled_from([0.0, -50.0, 59.0, -200.0, 7000.0]))
@effort(max_examples=200, deadline=None)
def test_the_present_is_told_forwards_not_too_often_and_only_while_vouched_for(
    events: list[tuple[str, float, float | None, float | None]], skew: float
) -> None:
    meter = Meter()
    heard, idle, urgent, said, said_at = -1e9, False, False, -1e9, 0.0
    for what, wait, energy, power in events:
        until = meter.now + wait
        while True:
            for told in meter.due():
                if told.at < T + meter.now - 3000:
                    continue  # of the past
                assert told.at > said_at
                assert meter.now - said >= 60.0 or urgent
                assert idle or meter.now - heard <= 900.0
                said, said_at, urgent = meter.now, told.at, False
            wake = meter.feed.wake_at
            assert wake is None or wake > meter.now, "all that was due is said"
            if wake is None or wake > until:
                break
            meter.now = wake
        meter.now = until
        if what == "meter":
            meter.feed.metered(1, Reading(T + until + skew, energy_wh=energy, power_w=power), meter.instant)
            heard = until if (energy, power) != (None, None) else heard
            idle = idle and not power
        elif what == "queue":
            meter.feed.metered(1, Reading(T + until - 4000, energy_wh=energy, power_w=power), meter.instant)
        elif what == "idle":
            meter.feed.idle(1, meter.instant)
            idle = True
        elif what == "busy":
            meter.feed.busy(1, meter.instant)
        elif what == "urgent":
            meter.feed.urgent(1)
            urgent = True
