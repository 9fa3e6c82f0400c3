"""What may be reckoned with of the CPMS's limits, while its CALLs are under way and readings grow old."""

from __future__ import annotations

from typing import Any

import pytest

from broker.leases import Lease
from broker.limits import AGAIN_S, COMING, TRUSTED_S, Limits
from broker.model.observations import ClearSeen, CompositeSeen, LimitUnknown, ProfileSeen, TransactionSeen
from broker.model.records import OpenTransaction
from broker.model.schedules import ChargingProfile, Period, Step
from broker.settings import EvseSettings, StationSettings

NOON = 1_768_046_400.0


class Station:
    """Of two EVSEs (or as many as said), 1.6, at noon."""

    def __init__(self, baseline: Any = "seen", evses: int = 2, version: str = "ocpp1.6", current: Any = "ac") -> None:
        sockets = tuple(EvseSettings(n, f"a-{n}", 32.0, 3) for n in range(1, evses + 1))
        self.open: dict[int, OpenTransaction] = {}
        settings = StationSettings("CS", "smart-charging", "hq", current, sockets)
        self.limits = Limits(settings, baseline, (), 0.0, version, self.open.get)
        self.limits.at(NOON)

    def charges(self, evse: int = 1, id: str = "7") -> None:
        self.open[evse] = OpenTransaction(f"uid-{id}", evse, 1, NOON - 60, id)

    def sees(self, *seen: Any, installed: bool = False) -> None:
        for one in seen:
            self.limits.observe(one, installed)

    def limit(self, evse: int = 1, purpose: str = "tx") -> Any:
        found = self.limits.limit(evse, purpose)
        return found.value if found.known else found.why


def profile(amps: float, purpose: str = "default", evse: int = 1, id: int = 1, level: int = 0, **more: Any) -> ProfileSeen:
    how: dict[str, Any] = {"start": NOON - 600, **more}
    return ProfileSeen(evse, ChargingProfile(id, level, purpose, "Absolute", "A", (Period(0, amps),), **how), True)


def read(evse: int, amps: float | None, start: float | None = NOON) -> CompositeSeen:
    return CompositeSeen(evse, start, "A", () if amps is None else (Period(0, amps),), amps is not None, 86_400)


# ---------------------------------------------------------------- which profiles count


def test_a_default_of_ours_outlives_the_transaction_so_what_holds_after_it_counts_too() -> None:
    station = Station()
    station.charges()
    station.sees(profile(10.0), profile(32.0, "tx", id=2, transaction_id="7"))
    assert station.limit(purpose="tx") == 32.0
    assert station.limit(purpose="default") == 10.0


def test_a_level_of_another_evse_or_purpose_is_not_in_ours_way() -> None:
    station = Station()
    station.sees(profile(10.0, evse=2, level=7), profile(10.0, evse=1, id=2, level=3), profile(10.0, "tx", evse=1, id=3, level=5))
    assert station.limits.used_level("default", 1) == 3
    assert station.limits.used_level("default", 2) == 7
    assert station.limits.used_level("max", 1) is None
    station.sees(profile(40.0, evse=0, id=4, level=9))
    assert station.limits.used_level("default", 1) == 9


def test_room_is_counted_in_profiles_of_places() -> None:
    station = Station()
    assert station.limits.room(2, None)
    station.sees(profile(10.0), profile(10.0, evse=2, id=2))
    assert station.limits.room(1, 3)
    assert not station.limits.room(2, 3)


@pytest.mark.parametrize(("current", "amps", "expected"), [("ac", 16.0, 16.0), ("dc", 16.0, 16.0 * 230 * 3), ("ac", None, None)])
def test_what_the_installation_allows(current: Any, amps: float | None, expected: float | None) -> None:
    assert Station(current=current).limits.most(EvseSettings(1, "a", amps, 3)) == expected


def test_it_explains_itself() -> None:
    station = Station()
    station.sees(profile(10.0), profile(20.0, evse=2, id=2), profile(40.0, "max", evse=0, id=3))
    assert station.limits.explain(1) == {"known": True, "limit": 10.0, "unit": "A", "why": "", "profiles": 2}
    assert Station(current="dc").limits.explain(1)["unit"] == "W"


# ---------------------------------------------------------------- on their way


def test_what_the_cpms_is_about_to_set_counts_at_once_and_what_it_replaces_too() -> None:
    station = Station()
    station.sees(profile(10.0))
    station.limits.asked(profile(20.0), 100.0)
    assert station.limit() == 10.0
    station.sees(profile(20.0))
    assert station.limit() == 20.0
    station.limits.asked(profile(6.0), 200.0)
    assert station.limit() == 6.0


def test_what_is_never_answered_is_doubted_for_ever() -> None:
    station = Station()
    station.sees(profile(10.0))
    station.limits.asked(profile(6.0), 100.0)
    assert station.limits.refresh(159.0) != (), "kept for a restart while it is on its way"
    assert station.limits.refresh(160.0) == (), "the same is true for ever: it may stand, or what it replaces"
    assert station.limit() == 6.0
    station.sees(profile(16.0))
    assert station.limit() == 16.0, "until another takes its place for certain"


def test_a_call_counts_for_a_minute_as_on_its_way() -> None:
    station = Station(evses=1)
    station.limits.asked(ClearSeen(True), 100.0)
    station.limits.refresh(159.9)
    assert not station.limits.bare(1)
    station.limits.refresh(160.0)
    assert station.limits.bare(1)


@pytest.mark.parametrize("accepted", [True, False])
def test_a_clear_that_was_answered_is_on_its_way_no_longer(accepted: bool) -> None:
    station = Station(evses=1)
    station.limits.asked(ClearSeen(True, profile_id=5), 100.0)
    station.sees(ClearSeen(accepted, profile_id=6))
    assert not station.limits.bare(1), "another's answer"
    station.sees(ClearSeen(accepted, profile_id=5))
    assert station.limits.bare(1)


def test_what_cannot_be_read_makes_the_limit_unknown_where_it_is() -> None:
    station = Station()
    station.sees(LimitUnknown(2, "odd", 5))
    assert station.limit(1) is None
    assert station.limit(2) == "cpms-limits-unknown: odd"
    station.sees(LimitUnknown(0, "odder", 6))
    assert station.limit(1) == "cpms-limits-unknown: odder"


def test_what_is_long_over_makes_room() -> None:
    station = Station()
    station.sees(profile(10.0, valid_to=NOON + 60))
    station.limits.refresh(0.0)
    assert not station.limits.room(1, 1)
    station.limits.at(NOON + 10 * 86_400)
    station.limits.refresh(599.0)
    assert not station.limits.room(1, 1), "looked at every ten minutes"
    station.limits.refresh(600.0)
    assert station.limits.room(1, 1)


def test_no_more_than_so_many_are_followed() -> None:
    station = Station()
    for number in range(COMING + 5):
        station.limits.asked(profile(20.0 - number, id=number + 1, level=number), 100.0)
    assert not station.limits.room(0, COMING - 1)
    assert station.limits.room(0, COMING)


def test_bare_is_what_nobody_limits_nor_is_about_to() -> None:
    station = Station(evses=1)
    assert station.limits.bare(1)
    station.limits.asked(ClearSeen(True), 10.0)
    assert not station.limits.bare(1)
    limited = Station(evses=1)
    limited.sees(profile(10.0))
    assert not limited.limits.bare(1)
    assert not Station("ask", evses=1).limits.bare(1), "nobody has said yet"


# ---------------------------------------------------------------- what the station read out


def asked(station: Station, amps: float = 20.0, running: bool = False) -> Station:
    for evse in (0, 1, 2):
        station.limits.answered(read(evse, amps), 0.0, running and evse > 0)
    return station


def test_a_reading_is_trusted_for_less_than_the_day_it_looks_ahead() -> None:
    station = asked(Station("ask"))
    assert station.limit() == 20.0
    assert station.limits.to_ask(1) == ()
    station.limits.refresh(TRUSTED_S - 1)
    assert station.limit() == 20.0
    station.limits.refresh(TRUSTED_S)
    assert station.limits.to_ask(1) != ()


@pytest.mark.parametrize("told", [read(1, None), CompositeSeen(1, NOON, "A", (), True, 86_400)])
def test_who_refused_to_say_or_said_nothing_is_asked_again_after_an_hour(told: CompositeSeen) -> None:
    station = Station("ask")
    station.limits.answered(told, 500.0, False)
    assert station.limits.refresh_at == 500.0 + 3600.0
    again = asked(Station("ask"))
    assert again.limits.refresh_at == TRUSTED_S


def test_a_reading_under_a_transaction_ends_with_it() -> None:
    station = Station("ask")
    station.charges()
    asked(station, running=True)
    station.sees(TransactionSeen("ended", "9", 2, 1, NOON, ""))
    station.sees(TransactionSeen("updated", "7", 1, 1, NOON, ""))
    assert station.limits.to_ask(1) == ()
    station.sees(TransactionSeen("ended", "7", 1, 1, NOON, ""))
    assert 1 in station.limits.to_ask(1)


def test_one_without_a_transaction_outlives_those_that_come() -> None:
    station = asked(Station("ask"))
    station.sees(TransactionSeen("started", "7", 1, 1, NOON, ""), TransactionSeen("ended", "7", 1, 1, NOON, ""))
    assert station.limits.to_ask(1) == ()


def test_what_is_overheard_counts_unless_ours_is_in_it() -> None:
    station = Station("ask")
    station.sees(*(read(evse, 12.0) for evse in (0, 1)), installed=True)
    assert station.limits.to_ask(1) != ()


def two_hours(evse: int, start: float | None) -> CompositeSeen:
    return CompositeSeen(evse, start, "A", (Period(0, 20.0), Period(600, 10.0)), True, 7200)


@pytest.mark.parametrize(
    ("start", "running", "now_a", "then_a"),
    [
        (NOON, True, 20.0, 10.0),
        (NOON + 60, True, 20.0, 10.0),
        (NOON - 60, True, 20.0, 10.0),
        (NOON + 61, True, 10.0, 10.0),  # of which moment? So the least of it holds
        (NOON - 61, True, 10.0, 10.0),
        (None, True, 10.0, 10.0),
        (NOON, False, 10.0, 10.0),  # a transaction may begin, and with it a Relative schedule anew
    ],
)
def test_a_reading_of_now_under_a_transaction_holds_period_by_period(
    start: float | None, running: bool, now_a: float, then_a: float
) -> None:
    station = Station("ask", evses=1)
    station.limits.answered(read(0, 63.0), 0.0, False)
    station.limits.answered(two_hours(1, start), 0.0, running)
    station.limits.at(NOON + 100)
    assert station.limit() == now_a
    station.limits.at(NOON + 700)
    assert station.limit() == then_a


def test_one_of_the_whole_station_holds_period_by_period_in_any_case() -> None:
    station = Station("ask", evses=1)
    station.limits.answered(read(1, 63.0), 0.0, False)
    station.limits.answered(two_hours(0, NOON), 0.0, False)
    assert station.limit() == 20.0
    station.limits.at(NOON + 600)
    assert station.limit() == 10.0


# ---------------------------------------------------------------- clears


def lease(id: int) -> Lease:
    return Lease(id, 1, "tx", 8, NOON + 900, "s-1", (Step(NOON, 16.0),), 32.0, (Step(NOON, 16.0),), NOON)


@pytest.mark.parametrize(
    ("seen", "baseline", "uncovers"),
    [
        (ClearSeen(True, profile_id=5), "ask", {1, 2}),
        (ClearSeen(True, evse=2, purpose="default"), "ask", {2}),
        (ClearSeen(True, evse=0, purpose="max"), "ask", {1, 2}),
        (ClearSeen(True, purpose="tx"), "ask", {1, 2}),
        (ClearSeen(True), "ask", set()),  # nothing is left that could come to light
        (ClearSeen(True, profile_id=91), "ask", set()),  # ours
        (ClearSeen(True, profile_id=5), "seen", set()),  # nobody asked, so nothing was read
    ],
)
def test_what_a_clear_may_uncover(seen: ClearSeen, baseline: Any, uncovers: set[int]) -> None:
    assert Station(baseline).limits.uncovered(seen, {1: lease(91), 2: lease(92)}) == uncovers


def test_a_clear_that_was_accepted_has_the_place_asked_again_and_one_of_everything_nothing() -> None:
    station = asked(Station("ask"))
    station.sees(ClearSeen(False, evse=1, purpose="tx"))
    assert station.limits.to_ask(1) == ()
    station.sees(ClearSeen(True, evse=1, purpose="tx"))
    assert 1 in station.limits.to_ask(1)
    assert station.limits.to_ask(2) == ()


# ---------------------------------------------------------------- worked out once


def test_what_was_worked_out_is_a_course_not_a_number() -> None:
    station = Station()
    station.sees(profile(10.0, valid_to=NOON + 300))
    assert station.limit() == 10.0
    station.limits.at(NOON + AGAIN_S - 1)
    assert station.limits.limit(1).value is None, "the course of what comes is part of it"


def test_what_comes_is_seen_in_time_though_nothing_happens_meanwhile() -> None:
    station, day = Station(), 86_400.0
    station.sees(profile(6.0, start=NOON + 2.5 * day))
    assert station.limits.limit(1).next_change(NOON) is None, "further away than anybody looks"
    station.limits.at(NOON + day)
    assert station.limits.limit(1).next_change(NOON + day) == NOON + 2.5 * day


def test_in_force_is_what_says_something_now() -> None:
    station = Station()
    assert not station.limits.in_force(1)
    station.sees(profile(32.0, start=NOON + 500))
    assert not station.limits.in_force(1)
    station.limits.at(NOON + 501)
    assert station.limits.in_force(1)
    assert not station.limits.in_force(2)
