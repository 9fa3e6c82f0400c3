"""What the CPMS alone allows: the lowest of everything it was seen to say; what is not understood forbids; a restart changes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.model import (
    Boot,
    ChargingProfile,
    ClearSeen,
    CompositeSeen,
    Fact,
    LimitUnknown,
    Observation,
    Period,
    ProfileSeen,
    TransactionSeen,
)
from broker.profiles.ceiling import Ceiling, Limit
from broker.settings import EvseSettings, StationSettings

ONE = StationSettings("CS-7", "smart-charging", evses=(EvseSettings(1, "CS-7-1"),))
TWO = replace(ONE, evses=(EvseSettings(1, "CS-7-1"), EvseSettings(2, "CS-7-2")))
FREE = Limit(True, None)
OURS = frozenset({9_120_011})
NAMES = st.sampled_from(["max", "default", "tx"])


def known(value: float) -> Limit:
    return Limit(True, value)


def profile(id: int = 1, *limits: float, purpose: str = "default", unit: str = "A", level: int = 0, **more: Any) -> ChargingProfile:
    periods = tuple(Period(60 * nth, limit) for nth, limit in enumerate(limits or (10.0,)))
    return ChargingProfile(id, level, purpose, more.pop("kind", "Absolute"), unit, periods, **more)


def said(evse: int, told: ChargingProfile, *, accepted: bool = True, embedded: bool = False) -> ProfileSeen:
    return ProfileSeen(evse, told, accepted, embedded)


def composite(evse: int, *limits: float, unit: str = "A", accepted: bool = True) -> CompositeSeen:
    return CompositeSeen(evse, None, unit, tuple(Period(60 * nth, limit) for nth, limit in enumerate(limits)), accepted)


def transaction(phase: Literal["started", "ended"], id: str | None, evse: int | None, *, offline: bool = False) -> TransactionSeen:
    return TransactionSeen(phase, id, evse, 1, None, "", offline=offline)


class Kept:
    """A ceiling whose facts are kept as a store keeps them: as JSON, by name, forgotten on None."""

    def __init__(self, station: StationSettings = TWO, baseline: Literal["ask", "none", "seen"] = "seen") -> None:
        self.station, self.baseline = station, baseline
        self.ceiling = Ceiling(station, baseline)
        self.facts: dict[str, str] = {}

    def keep(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            assert fact.topic == "cpms-limit"
            self.facts.pop(fact.name, None)
            if fact.value is not None:
                self.facts[fact.name] = json.dumps(fact.value)

    def sees(self, *seen: Observation, installed: bool = False) -> Kept:
        for one in seen:
            self.keep(self.ceiling.observe(one, OURS, installed))
        return self

    def answered(self, *seen: CompositeSeen) -> Kept:
        for one in seen:
            self.keep(self.ceiling.answered(one))
        return self

    def restarted(self) -> Ceiling:
        return Ceiling(self.station, self.baseline, [Fact("cpms-limit", name, json.loads(value)) for name, value in self.facts.items()])

    def limits(self) -> list[Limit]:
        """Of EVSE 1 and 2; the same after a restart."""
        found = [self.ceiling.limit(1), self.ceiling.limit(2)]
        again = self.restarted()
        assert [again.limit(1), again.limit(2)] == found
        assert [again.to_ask(1), again.to_ask(2)] == [self.ceiling.to_ask(1), self.ceiling.to_ask(2)]
        return found


# ---------------------------------------------------------------- profiles


def test_nothing_seen_is_no_limit() -> None:
    assert Kept().limits() == [FREE, FREE]


def test_the_lowest_of_all_periods_of_all_profiles_counts_where_it_is() -> None:
    kept = Kept().sees(said(1, profile(1, 16.0, 10.0, 32.0)), said(1, profile(2, 12.0)), said(2, profile(3, 20.0)))
    assert kept.limits() == [known(10.0), known(20.0)]


def test_a_limit_for_the_whole_station_counts_for_each_evse_as_is() -> None:
    assert Kept().sees(said(0, profile(1, 25.0, purpose="max"))).limits() == [known(25.0), known(25.0)]


def test_what_the_station_refused_does_not_count_and_replaces_nothing() -> None:
    kept = Kept().sees(said(1, profile(1, 10.0)), said(1, profile(1, 20.0), accepted=False), said(2, profile(2, 8.0), accepted=False))
    assert kept.limits() == [known(10.0), FREE]


def test_the_same_id_replaces_where_it_is() -> None:
    kept = Kept().sees(said(1, profile(1, 10.0)), said(1, profile(1, 20.0)))
    assert kept.limits() == [known(20.0), FREE]


def test_on_another_evse_the_same_id_may_be_another_profile() -> None:
    kept = Kept().sees(said(1, profile(1, 10.0)), said(2, profile(1, 20.0)))
    assert kept.limits() == [known(10.0), known(20.0)]


def test_ours_are_not_the_cpms_s() -> None:
    assert Kept().sees(said(1, profile(9_120_011, 8.0)), LimitUnknown(1, "", 9_120_011)).limits() == [FREE, FREE]


@pytest.mark.parametrize(
    ("current", "unit", "limit"),
    [("ac", "A", 6900.0), ("ac", "W", 10.0), ("dc", "W", 6900.0), ("dc", "A", 6900.0 * 230)],
)
def test_units_are_converted_as_low_as_they_can_be_meant(current: Literal["ac", "dc"], unit: str, limit: float) -> None:
    kept = Kept(replace(TWO, current=current)).sees(said(1, profile(1, 6900.0, unit=unit)), composite(2, 6900.0, unit=unit))
    assert kept.limits() == [known(limit), known(limit)]


@pytest.mark.parametrize(
    "odd",
    [
        profile(1, purpose="ChargingStationExternalConstraints"),
        profile(1, kind="Dynamic"),
        profile(1, more_schedules=True),
        replace(profile(1), periods=()),
    ],
)
def test_a_profile_of_a_kind_that_we_do_not_model_forbids(odd: ChargingProfile) -> None:
    kept = Kept().sees(said(1, odd))
    unknown, other = kept.limits()
    assert (unknown.known, unknown.value, other) == (False, None, FREE)
    assert unknown.why.startswith("cpms-limits-unknown: profile 1 ")
    assert kept.sees(said(1, profile(1, 8.0))).limits() == [known(8.0), FREE]
    assert [limit.known for limit in Kept().sees(said(0, odd)).limits()] == [False, False]


def test_what_cannot_be_read_forbids_until_it_is_replaced_or_cleared() -> None:
    kept = Kept().sees(LimitUnknown(1, "chargingRateUnit: neither A nor W", 5))
    assert kept.limits() == [Limit(False, None, "cpms-limits-unknown: chargingRateUnit: neither A nor W"), FREE]
    assert not kept.sees(said(1, profile(6, 8.0)), ClearSeen(True, evse=1), ClearSeen(True, profile_id=6)).limits()[0].known
    assert Kept().sees(LimitUnknown(1, "", 5), said(1, profile(5, 8.0))).limits() == [known(8.0), FREE]
    assert kept.sees(ClearSeen(True, profile_id=5)).limits() == [FREE, FREE]


def test_what_has_no_readable_id_forbids_until_everything_is_cleared() -> None:
    kept = Kept().sees(LimitUnknown(0, "missing"))
    for seen in (said(0, profile(1, 8.0)), ClearSeen(True, profile_id=1), ClearSeen(True, evse=0), ClearSeen(False)):
        assert [limit.known for limit in kept.sees(seen).limits()] == [False, False]
    assert kept.sees(ClearSeen(True)).limits() == [FREE, FREE]


def test_of_two_reasons_the_same_one_is_told_in_any_order() -> None:
    both = (LimitUnknown(1, "b", 1), LimitUnknown(1, "a", 2))
    for seen in (both, both[::-1]):
        assert Kept().sees(*seen).limits()[0].why == "cpms-limits-unknown: a"


# ---------------------------------------------------------------- clears


@pytest.mark.parametrize(
    ("clear", "left"),
    [
        (ClearSeen(True), []),
        (ClearSeen(False), [1, 2, 3]),
        (ClearSeen(True, profile_id=2), [1, 3]),
        (ClearSeen(False, profile_id=2), [1, 2, 3]),
        (ClearSeen(True, profile_id=2, stack_level=9), [1, 2, 3]),
        (ClearSeen(True, evse=1), [2, 3]),
        (ClearSeen(True, evse=0), [1, 2]),
        (ClearSeen(True, purpose="tx"), [1, 3]),
        (ClearSeen(True, stack_level=1), [3]),
        (ClearSeen(True, evse=2, stack_level=1), [1, 3]),
        (ClearSeen(True, evse=2, stack_level=0), [1, 2, 3]),
        (ClearSeen(True, evse=1, purpose="default", stack_level=1), [2, 3]),
        (ClearSeen(True, purpose="TxProfile"), [1, 2, 3]),
    ],
)
def test_a_clear_removes_what_matches_all_of_it(clear: ClearSeen, left: list[int]) -> None:
    station = replace(TWO, evses=tuple(EvseSettings(number, str(number)) for number in (1, 2, 3)))
    there = {1: (1, profile(1, 10.0, level=1)), 2: (2, profile(2, 11.0, level=1, purpose="tx")), 3: (0, profile(3, 12.0, purpose="max"))}
    kept = Kept(station).sees(*(said(evse, told) for evse, told in there.values())).sees(clear)
    all_limits = {1: 10.0, 2: 11.0, 3: 12.0}
    assert kept.restarted().explain(1)["profiles"] == sum(id in left for id in (1, 3))
    assert kept.restarted().explain(2)["profiles"] == sum(id in left for id in (2, 3))
    assert kept.limits()[0].value == min((all_limits[id] for id in left if id != 2), default=None)


def test_what_came_embedded_may_be_anywhere_so_that_a_clear_of_the_station_is_no_certain_match() -> None:
    kept = Kept().sees(said(0, profile(1, 8.0, purpose="tx"), embedded=True), ClearSeen(True, evse=0))
    assert kept.limits() == [known(8.0), known(8.0)]


# ---------------------------------------------------------------- transactions


def test_a_profile_of_a_transaction_ends_with_it() -> None:
    kept = Kept().sees(said(1, profile(1, 8.0, purpose="tx", transaction_id="12")), said(1, profile(2, 16.0)))
    assert kept.sees(transaction("ended", "13", 1)).limits()[0] == known(8.0)
    assert kept.sees(transaction("ended", "12", None)).limits()[0] == known(16.0)


def test_the_end_of_a_transaction_without_an_id_ends_nothing() -> None:
    kept = Kept().sees(said(1, profile(1, 8.0, purpose="tx")), said(1, profile(2, 9.0, transaction_id="12")))
    assert kept.sees(transaction("ended", None, 1), transaction("ended", "12", 1)).limits()[0] == known(8.0)
    assert kept.sees(ClearSeen(True, profile_id=1)).limits()[0] == known(9.0)  # the default profile stays


def test_a_transaction_s_profile_without_its_id_is_of_the_one_that_runs() -> None:
    kept = Kept().sees(transaction("started", "12", 1), said(1, profile(1, 8.0, purpose="tx")))
    assert kept.sees(transaction("ended", "11", None)).limits()[0] == known(8.0)
    assert kept.sees(transaction("ended", "12", None)).limits()[0] == FREE
    assert kept.sees(said(1, profile(1, 8.0, purpose="tx")), transaction("ended", "12", None)).limits()[0] == known(8.0)


def test_what_a_remote_start_brought_is_of_the_transaction_that_starts_there() -> None:
    kept = Kept().sees(said(1, profile(1, 8.0, purpose="tx"), embedded=True))
    assert kept.limits() == [known(8.0), FREE]
    kept.sees(transaction("started", "12", 2), transaction("ended", "12", 2), transaction("started", "13", 1))
    assert kept.sees(transaction("ended", "12", 1)).limits()[0] == known(8.0)
    assert kept.sees(transaction("ended", "13", None)).limits()[0] == FREE


def test_a_remote_start_s_profile_whose_start_was_missed_ends_with_the_next_end_there() -> None:
    kept = Kept().sees(said(1, profile(1, 8.0, purpose="tx"), embedded=True))
    assert kept.sees(transaction("ended", "9", 2), transaction("ended", "10", None)).limits()[0] == known(8.0)
    assert kept.sees(transaction("ended", "11", 1, offline=True)).limits()[0] == known(8.0)  # an old one, told late
    assert kept.sees(transaction("ended", "12", 1)).limits()[0] == FREE


def test_an_old_start_told_late_takes_no_profile() -> None:
    kept = Kept().sees(said(1, profile(1, 8.0, purpose="tx"), embedded=True), transaction("started", "9", 1, offline=True))
    assert kept.sees(transaction("ended", "9", None)).limits()[0] == known(8.0)


def test_a_remote_start_anywhere_is_kept_unless_there_is_one_place_only() -> None:
    seen = (said(0, profile(1, 8.0, purpose="tx"), embedded=True), transaction("started", "12", 1), transaction("ended", "12", 1))
    assert Kept().sees(*seen).limits() == [known(8.0), known(8.0)]
    assert Kept(ONE).sees(*seen[:1]).limits()[0] == known(8.0)
    assert Kept(ONE).sees(*seen).limits()[0] == FREE


def test_a_transaction_on_no_evse_in_particular_takes_nothing_along() -> None:
    kept = Kept().sees(said(0, profile(1, 8.0, purpose="tx"), embedded=True))
    assert kept.sees(transaction("started", "12", 0), transaction("ended", "13", 0), transaction("ended", "12", 0)).limits()[0] == known(
        8.0
    )


# ---------------------------------------------------------------- the baseline


def test_what_is_to_be_asked_is_unknown_until_both_answers_are_there() -> None:
    kept = Kept(baseline="ask")
    assert kept.ceiling.to_ask(1) == (1, 0)
    assert kept.limits()[0] == Limit(False, None, "cpms-limits-unknown")
    kept.answered(composite(1, 16.0, 10.0))
    assert kept.ceiling.to_ask(1) == (0,)
    assert not kept.limits()[0].known
    kept.answered(composite(0, 25.0))
    assert (kept.ceiling.to_ask(1), kept.ceiling.to_ask(2)) == ((), (2,))
    assert kept.limits() == [known(10.0), Limit(False, None, "cpms-limits-unknown")]
    assert kept.sees(said(1, profile(1, 8.0))).limits()[0] == known(8.0)


@pytest.mark.parametrize("refusal", [composite(0), composite(0, 10.0, accepted=False)])
def test_a_refused_or_empty_answer_forbids_until_it_is_asked_again(refusal: CompositeSeen) -> None:
    kept = Kept(baseline="ask").answered(composite(1, 10.0), refusal)
    assert kept.ceiling.to_ask(1) == ()
    assert kept.limits()[0] == Limit(False, None, "cpms-limits-unknown")
    kept.keep(kept.ceiling.forget_baseline())
    assert kept.ceiling.to_ask(1) == (1, 0)
    assert kept.answered(composite(1, 10.0), composite(0, 20.0)).limits()[0] == known(10.0)


@pytest.mark.parametrize("baseline", ["none", "seen"])
def test_who_need_not_ask_asks_nothing(baseline: Literal["none", "seen"]) -> None:
    kept = Kept(baseline=baseline).sees(said(1, profile(1, 8.0)))
    assert kept.ceiling.to_ask(1) == ()
    assert kept.limits() == [known(8.0), FREE]


def test_the_cpms_s_own_question_can_only_lower_and_is_no_answer_to_ours() -> None:
    kept = Kept(baseline="ask").sees(composite(1, 32.0), composite(0, 32.0))
    assert kept.ceiling.to_ask(1) == (1, 0)  # it may have asked for the next minute
    kept.answered(composite(1, 16.0), composite(0, 16.0)).sees(composite(1, 32.0))
    assert kept.limits()[0] == known(16.0)
    assert kept.sees(composite(1, 9.0), composite(1, 12.0)).limits()[0] == known(9.0)


def test_a_composite_that_holds_ours_or_nothing_says_nothing() -> None:
    kept = Kept().sees(composite(1, 9.0), installed=True)
    assert kept.sees(composite(1), composite(1, 9.0, accepted=False)).limits()[0] == FREE


def test_after_a_boot_what_can_be_asked_again_is_forgotten() -> None:
    cases: tuple[tuple[Literal["ask", "seen"], Limit], ...] = (("ask", known(20.0)), ("seen", known(9.0)))
    for baseline, left in cases:
        kept = Kept(baseline=baseline)
        kept.answered(composite(1, 10.0), composite(0, 10.0)).sees(composite(1, 9.0), said(1, profile(1, 20.0)))
        kept.keep(kept.ceiling.forget_baseline())
        if baseline == "ask":
            assert not kept.limits()[0].known
            kept.answered(composite(1, 32.0), composite(0, 32.0))
        assert kept.limits()[0] == left


def test_when_everything_is_cleared_the_baseline_goes_too() -> None:
    kept = Kept(baseline="ask").answered(composite(1, 10.0), composite(0, 10.0)).sees(composite(1, 9.0), ClearSeen(True))
    assert kept.ceiling.to_ask(1) == (1, 0)
    assert kept.answered(composite(1, 32.0), composite(0, 32.0)).limits()[0] == known(32.0)


# ---------------------------------------------------------------- bounds, and what others left behind


def test_more_profiles_than_are_remembered_forbid_until_everything_is_cleared() -> None:
    kept = Kept().sees(*(said(1, profile(id, 10.0)) for id in range(64)))
    assert kept.limits()[0] == known(10.0)
    kept.sees(said(1, profile(64, 6.0)), *(ClearSeen(True, profile_id=id) for id in range(64)))
    assert [limit.known for limit in kept.limits()] == [False, False]
    assert len(kept.facts) == 1
    assert kept.sees(ClearSeen(True)).limits() == [FREE, FREE]


def test_more_places_than_are_remembered_forbid_too() -> None:
    kept = Kept().sees(*(composite(evse, 10.0) for evse in range(10, 75)))
    assert not kept.limits()[0].known
    assert len(kept.facts) == 65


def test_starts_are_remembered_within_bounds() -> None:
    kept = Kept().sees(*(transaction("started", str(evse), evse) for evse in range(10, 80)))
    assert kept.sees(said(79, profile(1, 8.0, purpose="tx")), transaction("ended", "79", None)).restarted().limit(79) == known(8.0)
    assert kept.sees(said(10, profile(2, 8.0, purpose="tx")), transaction("ended", "10", None)).restarted().limit(10) == FREE


GOOD = {"id": 1, "evse": 1, "purpose": "tx", "stack_level": 0, "lowest": 9.0, "transaction": None, "embedded": False, "why": ""}


@pytest.mark.parametrize(
    "value",
    [
        *([], "x", {}, {**GOOD, "more": 1}, {"lowest": 9.0}),
        *({**GOOD, name: [9]} for name in GOOD),
        *({**GOOD, "lowest": value} for value in (math.nan, math.inf, "9")),
        *({**GOOD, "id": value} for value in (True, 1.5, "1")),
        {**GOOD, "evse": None},
    ],
)
def test_what_another_version_remembered_forbids(value: Any) -> None:
    assert Ceiling(TWO, "seen", [Fact("cpms-limit", "1@1", GOOD)]).limit(1) == known(9.0)
    assert not Ceiling(TWO, "seen", [Fact("cpms-limit", "1@1", value)]).limit(1).known


@pytest.mark.parametrize("value", [{"lowest": "9"}, {"lowest": math.nan}, {}, 9, []])
def test_a_remembered_composite_that_is_none_forbids(value: Any) -> None:
    for name in ("read-1", "heard-1", "heard-x"):
        assert not Ceiling(TWO, "seen", [Fact("cpms-limit", name, value)]).limit(1).known
    assert Ceiling(TWO, "seen", [Fact("cpms-limit", "read-1", None), Fact("lease", "1@1", 9)]).limit(1) == FREE


def test_one_evse_s_answer_may_be_forgotten_alone() -> None:
    kept = Kept(baseline="ask").answered(composite(1, 10.0), composite(2, 11.0), composite(0, 20.0))
    kept.keep(kept.ceiling.forget_baseline(1))
    kept.keep(kept.ceiling.forget_baseline(1))
    assert (kept.ceiling.to_ask(1), kept.ceiling.to_ask(2)) == ((1,), ())
    assert [limit.known for limit in kept.limits()] == [False, True]


def test_the_highest_stack_level_of_the_cpms_there() -> None:
    levels = (
        said(1, profile(1, level=3)),
        said(0, profile(2, level=5)),
        said(1, profile(3, level=9, purpose="tx")),
        said(2, profile(4, level=7)),
    )
    ceiling = Kept().sees(*levels, LimitUnknown(1, "", 5)).ceiling
    assert [ceiling.used_level("default", evse) for evse in (1, 2)] == [5, 7]
    assert [ceiling.used_level(purpose, 1) for purpose in ("tx", "max")] == [9, None]


# ---------------------------------------------------------------- asking without learning


def test_what_would_be_is_told_and_not_learned() -> None:
    kept = Kept().sees(said(1, profile(1, 10.0)))
    higher, lower = said(1, profile(1, 20.0)), said(0, profile(2, 7.0))
    assert kept.ceiling.would(higher, 1) == known(10.0)  # if it is refused, the earlier one stays
    assert (kept.ceiling.would(lower, 1), kept.ceiling.would(lower, 2)) == (known(7.0), known(7.0))
    assert not kept.ceiling.would(LimitUnknown(1, "missing"), 1).known
    assert kept.limits() == [known(10.0), FREE]


def test_explain_says_it_in_plain_words() -> None:
    kept = Kept(replace(TWO, current="dc"), baseline="ask").sees(said(0, profile(1, 7000.0, unit="W", purpose="max")))
    assert kept.ceiling.explain(1) == {"known": False, "limit": None, "unit": "W", "why": "cpms-limits-unknown", "profiles": 1}
    kept.answered(composite(1, 8000.0, unit="W"), composite(0, 9000.0, unit="W"))
    assert kept.ceiling.explain(1) == {"known": True, "limit": 7000.0, "unit": "W", "why": "", "profiles": 1}
    json.dumps(kept.ceiling.explain(2))


# ---------------------------------------------------------------- laws

law = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
limit_values = st.floats(0, 100)
ids = st.integers(1, 5)
places = st.integers(0, 2)
purposes = st.sampled_from(["max", "default", "tx", "tx", "LocalGeneration"])
numbers = st.none() | st.sampled_from(["1", "2"])
period_lists = st.lists(st.builds(Period, st.integers(0, 9), limit_values), min_size=1, max_size=3).map(tuple)
profiles = st.builds(
    ChargingProfile, ids, st.integers(0, 1), purposes, st.sampled_from(["Absolute"] * 6 + ["Dynamic"]), st.sampled_from("AW"), period_lists,
    transaction_id=numbers,
)  # fmt: skip
observations: st.SearchStrategy[Observation] = st.one_of(
    st.builds(ProfileSeen, places, profiles, st.booleans(), st.booleans()),
    st.builds(ClearSeen, st.booleans(), st.none() | ids, st.none() | places, st.none() | purposes, st.none() | st.integers(0, 1)),
    st.builds(CompositeSeen, places, st.none(), st.sampled_from("AW"), period_lists | st.just(()), st.booleans()),
    st.builds(LimitUnknown, places, st.just("why"), st.none() | ids),
    st.builds(transaction, st.sampled_from(["started", "ended"]), numbers, st.none() | st.integers(1, 2), offline=st.booleans()),
    st.just(Boot("Accepted")),
)
stations = st.sampled_from([ONE, TWO, replace(TWO, current="dc")])


@law
@given(
    stations,
    st.sampled_from(["ask", "none", "seen"]),
    st.lists(st.tuples(observations, st.sampled_from("oooaf")), max_size=15),
    st.booleans(),
)
def test_a_restart_at_any_moment_changes_no_limit(
    station: StationSettings, baseline: Literal["ask", "none", "seen"], seen: list[tuple[Observation, str]], installed: bool
) -> None:
    kept = Kept(station, baseline)
    for one, how in seen:
        if how == "a" and isinstance(one, CompositeSeen):
            kept.answered(one)
        elif how == "f":
            kept.keep(kept.ceiling.forget_baseline())
        else:
            kept.sees(one, installed=installed)
        kept.limits()  # asserts that a restarted one says the same
        if how == "a":
            running = kept.ceiling._running
            kept.ceiling = kept.restarted()
            kept.ceiling._running = running


@law
@given(st.lists(st.builds(ProfileSeen, places, profiles, st.just(True)), max_size=8), st.lists(observations, max_size=4))
def test_never_above_the_last_word_on_any_id(first: list[ProfileSeen], after: list[Observation]) -> None:
    """Whatever was accepted last under an id, and was not cleared and has not ended, bounds the limit of its EVSE."""
    kept = Kept().sees(*first)
    stands = {(seen.evse, seen.profile.id): seen.profile for seen in first}
    for one in after:
        kept.sees(one)
        if isinstance(one, ProfileSeen | ClearSeen | TransactionSeen | LimitUnknown):
            stands = {}  # the cases above say what these do
    for (evse, _), told in stands.items():
        for number, limit in zip((1, 2), kept.limits(), strict=True):
            if evse in (0, number) and limit.known:
                assert limit.value is not None
                assert limit.value <= min(period.limit / (1 if told.unit == "A" else 690) for period in told.periods)
                assert told.kind == "Absolute"
                assert told.purpose != "LocalGeneration"


@law
@given(st.lists(observations, max_size=8), st.builds(ProfileSeen, places, profiles, st.just(True)), st.integers(1, 2))
def test_what_would_be_is_never_above_what_then_is_nor_what_was(seen: list[Observation], more: ProfileSeen, evse: int) -> None:
    kept = Kept().sees(*seen)
    before, would = kept.ceiling.limit(evse), kept.ceiling.would(more, evse)
    after = kept.sees(more).ceiling.limit(evse)
    for one in (before, after):
        assert one.known or not would.known
        if would.known:
            assert (math.inf if would.value is None else would.value) <= (math.inf if one.value is None else one.value)
