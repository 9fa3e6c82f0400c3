"""Which profiles are on a station: held against the simulated one, which keeps its profiles by rules written apart from ours."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.model.observations import Boot, ClearSeen, LimitUnknown, Observation, ProfileReported, ProfileSeen, TransactionSeen
from broker.model.records import Fact
from broker.model.schedules import ChargingProfile, Period
from broker.model.traffic import Exchange
from broker.ocpp import times
from broker.ocpp.dialects import BY_NAME
from broker.profiles.composite import Place, Placed, Running, course
from broker.profiles.shadow import MOST, Shadow
from broker.profiles.shadowfacts import Unread, entry_of, fact_of
from broker.sim.cars import Socket
from broker.sim.composite import Running as SimRunning
from broker.sim.composite import allowed
from broker.sim.held import Held, read

T = 1_768_046_400.0
NAMES = {"max": "ChargePointMaxProfile", "default": "TxDefaultProfile", "tx": "TxProfile"}


class Deed(NamedTuple):
    """Something that happens between CPMS and station."""

    what: str
    a: int = 0
    b: int = 0
    limit: float = 10.0
    answer: str = "Accepted"
    """`error`: a CALLERROR, and nothing was done; `lost`: an answer nobody can read, and it was done."""


small = st.integers(0, 3)
answers = st.sampled_from(["Accepted", "Accepted", "Accepted", "error", "lost"])
sets = st.builds(Deed, st.just("set"), st.integers(0, 17), small, st.sampled_from([6.0, 10.0, 16.0, 32.0]), answers)
deeds = st.one_of(
    sets,
    sets,
    st.builds(Deed, st.just("clear"), st.integers(0, 5), small, st.just(0.0), answers),
    st.builds(Deed, st.sampled_from(["plug", "unplug", "boot", "remote"]), st.integers(0, 17), small, st.just(12.0)),
)


class World:
    """A CPMS, a station that keeps to its version's rules, and a shadow of it that is made anew from its facts at every step."""

    def __init__(self, version: str) -> None:
        self.version, self.dialect = version, BY_NAME[version]
        self.held = Held(version, (1, 2))
        self.facts: dict[str, str] = {}
        self.shadow = Shadow(version)
        self.running: dict[int, str] = {}
        self.coming: dict[int, dict[str, Any]] = {}
        self.ids = 0

    def sees(self, seen: Observation) -> None:
        self.keep(self.shadow.observe(seen))

    def keep(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            assert fact.topic == "cpms-limit"
            self.facts.pop(fact.name, None)
            if fact.value is not None:
                self.facts[fact.name] = json.dumps(fact.value)

    def play(self, deed: Deed) -> None:
        getattr(self, deed.what)(deed)
        self.check()

    def check(self) -> None:
        """What is there is known of, and what is sure is there."""
        placed = [one for one in self.shadow.entries if isinstance(one, Placed)]
        assert len(placed) == len(self.shadow.entries)
        there = {(p.id, p.evse, p.purpose, p.stack_level, p.transaction, p.periods[0].limit) for p in self.held.profiles}
        mine = {one: (one.profile.id, one.evse, one.profile.purpose, one.profile.stack_level, one.profile.transaction_id,
                      one.profile.periods[0].limit) for one in placed}  # fmt: skip
        assert there <= set(mine.values())
        waiting = {one for one in placed if one.embedded and one.profile.transaction_id is None}
        assert {what for one, what in mine.items() if one.sure and one not in waiting} <= there
        again = Shadow(self.version, facts=[Fact("cpms-limit", name, json.loads(value)) for name, value in self.facts.items()])
        assert set(again.entries) == set(self.shadow.entries)
        for evse in (1, 2):
            self.check_composite(evse, placed)

    def check_composite(self, evse: int, placed: list[Placed]) -> None:
        """What a station that obeys its profiles allows lies between the two ends of what we reckon."""
        id = self.running.get(evse)
        found = course(placed, Place(evse), None if id is None else Running(id, T), T + 9, T + 10, own_first=self.version == "ocpp1.6")
        amps = allowed(self.held.profiles, Socket(evse, max_amps=99.0), T + 9, None if id is None else SimRunning(id, T)).amps
        assert min(found.spans[0].low, 99.0) <= amps <= found.spans[0].high

    def profile(self, deed: Deed) -> tuple[int, dict[str, Any]]:
        purpose = ("max", "default", "tx")[deed.a % 3]
        evse = 0 if purpose == "max" or (purpose == "default" and deed.b == 3) else 1 + deed.b % 2
        schedule = {
            "chargingRateUnit": "A",
            "startSchedule": times.text(T),
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": deed.limit}],
        }
        said: dict[str, Any] = {
            "stackLevel": (0, 3, 8, 3)[deed.b], "chargingProfilePurpose": NAMES[purpose], "chargingProfileKind": "Absolute",
            "id": 1 + deed.a % 5, "chargingSchedule": [{"id": 1, **schedule}],
        }  # fmt: skip
        if purpose == "tx" and evse in self.running and (deed.a > 8 or self.version != "ocpp1.6"):
            said["transactionId"] = self.running[evse]
        if self.version == "ocpp1.6":
            said |= {"chargingProfileId": said.pop("id"), "chargingSchedule": schedule}
            said |= {"transactionId": int(said["transactionId"])} if "transactionId" in said else {}
        else:
            said["chargingProfilePurpose"] = NAMES[purpose].replace("ChargePoint", "ChargingStation")
        return evse, said

    def call(self, action: str, payload: dict[str, Any], done: bool, deed: Deed) -> None:
        """`done`: the station would. It does, and says so, or does not, as the deed says."""
        answer: dict[str, Any] | None = {"status": "Accepted" if done else "Unknown" if action == "ClearChargingProfile" else "Rejected"}
        answer = {"error": None, "lost": {"status": 3}}.get(deed.answer, answer)
        kind = 3 if answer is not None else 4
        for one in self.dialect.charging.observe(Exchange("cpms", action, b"[]", b"[]", kind, None), payload, answer):
            self.sees(one)

    def set(self, deed: Deed) -> None:
        evse, said = self.profile(deed)
        new = read(evse, said, T)
        if new.purpose == "tx" and new.transaction is None:
            new = replace(new, transaction=self.running.get(evse))
        done = self.held.refusal(new, self.running) == ""
        if deed.answer != "error":
            self.held.set(new, self.running)
        names = ("connectorId", "csChargingProfiles") if self.version == "ocpp1.6" else ("evseId", "chargingProfile")
        self.call("SetChargingProfile", {names[0]: evse, names[1]: said}, done, deed)

    def clear(self, deed: Deed) -> None:
        purpose = list(NAMES)[deed.b % 3]
        name = NAMES[purpose] if self.version == "ocpp1.6" else NAMES[purpose].replace("ChargePoint", "ChargingStation")
        place, id = ("connectorId", "id") if self.version == "ocpp1.6" else ("evseId", "chargingProfileId")
        wanted: dict[str, Any] = [
            {}, {"chargingProfilePurpose": name}, {place: deed.b}, {"stackLevel": 3}, {place: 1, "chargingProfilePurpose": name},
            {id: 1 + deed.b},
        ][deed.a]  # fmt: skip
        before = len(self.held.profiles)
        held = Held(self.version, (1, 2), profiles=list(self.held.profiles))
        held.clear(wanted.get(id), wanted.get(place), wanted.get("chargingProfilePurpose"), wanted.get("stackLevel"))
        done = len(held.profiles) < before
        if deed.answer != "error":
            self.held = held
        payload = wanted if self.version == "ocpp1.6" or id in wanted or not wanted else {"chargingProfileCriteria": wanted}
        self.call("ClearChargingProfile", payload, done, deed)

    def remote(self, deed: Deed) -> None:
        """A remote start with a profile; the transaction begins when somebody plugs in."""
        evse, said = self.profile(deed._replace(a=deed.a // 3 * 3 + 2))
        if evse in self.running:
            return
        said.pop("transactionId", None)
        self.coming[evse] = said
        action, name = ("RemoteStartTransaction", "connectorId") if self.version == "ocpp1.6" else ("RequestStartTransaction", "evseId")
        self.call(action, {name: evse, "chargingProfile": said}, True, deed)

    def plug(self, deed: Deed) -> None:
        evse = 1 + deed.b % 2
        if evse in self.running:
            return
        self.ids += 1
        self.running[evse] = str(100 + self.ids)
        said = self.coming.pop(evse, None)
        if said is not None:
            self.held.set(read(evse, {**said, "transactionId": self.running[evse]}, T), self.running)
        self.sees(TransactionSeen("started", self.running[evse], evse, 1, T, ""))

    def unplug(self, deed: Deed) -> None:
        evse = 1 + deed.b % 2
        id = self.running.pop(evse, None)
        if id is not None:
            self.held.ended(evse)
            self.sees(TransactionSeen("ended", id, evse, 1, T, ""))

    def boot(self, deed: Deed) -> None:
        """Some stations lose their TxProfiles with it."""
        if deed.b % 2:
            self.held.profiles = [one for one in self.held.profiles if one.purpose != "tx"]
        self.sees(Boot("Accepted"))


versions = st.sampled_from(sorted(BY_NAME))


@settings(max_examples=400, deadline=None)
@given(versions, st.lists(deeds, max_size=25))
def test_what_is_on_the_station_is_known_and_what_is_sure_is_there(version: str, story: list[Deed]) -> None:
    world = World(version)
    for deed in story:
        world.play(deed)


@settings(max_examples=100, deadline=None)
@given(versions, st.lists(sets, max_size=25))
def test_what_is_on_its_way_counts_with_it_and_without_and_is_not_learned(version: str, story: list[Deed]) -> None:
    world = World(version)
    for deed in story:
        world.play(deed._replace(answer="Accepted"))
    before = world.shadow.entries
    evse, said = world.profile(story[0] if story else Deed("set"))
    names = ("connectorId", "csChargingProfiles") if version == "ocpp1.6" else ("evseId", "chargingProfile")
    (seen,) = world.dialect.charging.observe(
        Exchange("cpms", "SetChargingProfile", b"", None, 0, None), {names[0]: evse, names[1]: said}, None
    )
    after = world.shadow.with_coming([seen])
    assert world.shadow.entries == before
    assert any(isinstance(one, Placed) and not one.sure and one.evse == evse for one in after)
    assert {(one.evse, one.profile) for one in before if isinstance(one, Placed)} <= {
        (o.evse, o.profile) for o in after if isinstance(o, Placed)
    }


# ---------------------------------------------------------------- one by one


def told(id: int = 1, *, purpose: str = "default", level: int = 0, **more: Any) -> ChargingProfile:
    return ChargingProfile(id, level, purpose, "Absolute", "A", (Period(0, 10.0),), T, **more)


def shadow_of(version: str, *seen: Observation) -> list[Any]:
    shadow = Shadow(version)
    for one in seen:
        shadow.observe(one)
    return [(one.evse, one.profile.id, one.sure) if isinstance(one, Placed) else (one.evse, one.id, one.why) for one in shadow.entries]


def started(id: str, evse: int = 1, **more: Any) -> TransactionSeen:
    return TransactionSeen("started", id, evse, 1, T, "", **more)


def ended(id: str | None, evse: int | None = 1) -> TransactionSeen:
    return TransactionSeen("ended", id, evse, 1, T, "")


def test_16_replaces_what_has_the_same_purpose_and_level_and_2x_does_not() -> None:
    both = [ProfileSeen(1, told(1), True), ProfileSeen(1, told(2), True)]
    assert shadow_of("ocpp1.6", *both) == [(1, 2, True)]
    assert shadow_of("ocpp2.0.1", *both) == [(1, 1, True), (1, 2, True)]


def test_the_same_id_on_another_evse_may_be_another_profile() -> None:
    assert shadow_of("ocpp1.6", ProfileSeen(1, told(1), True), ProfileSeen(2, told(1), True)) == [(1, 1, False), (2, 1, True)]


def test_refused_is_not_there() -> None:
    assert shadow_of("ocpp1.6", ProfileSeen(1, told(1), False)) == []


def test_an_error_is_no_refusal_and_takes_nothing_away_for_certain() -> None:
    seen = [ProfileSeen(1, told(1), True), ProfileSeen(1, replace(told(1), stack_level=3), True, sure=False)]
    assert shadow_of("ocpp1.6", *seen) == [(1, 1, False), (1, 1, False)]


def test_what_could_not_be_read_stays_until_it_is_replaced_or_cleared_by_its_id() -> None:
    unread = LimitUnknown(1, "why", 4)
    assert shadow_of("ocpp1.6", unread, ClearSeen(True, purpose="default")) == [(1, 4, "why")]
    assert shadow_of("ocpp1.6", unread, ClearSeen(True, profile_id=4)) == []
    assert shadow_of("ocpp1.6", unread, ClearSeen(True)) == []
    assert shadow_of("ocpp1.6", unread, ProfileSeen(1, told(4), True)) == [(1, 4, True)]
    assert shadow_of("ocpp1.6", unread, ClearSeen(False, profile_id=4)) == [(1, 4, "why")]


def test_a_profile_of_a_remote_start_waits_for_its_transaction_and_dies_with_it() -> None:
    seen: list[Observation] = [ProfileSeen(1, told(1, purpose="tx"), True, embedded=True)]
    shadow = Shadow("ocpp1.6")
    shadow.observe(seen[0])
    shadow.observe(started("7"))
    (one,) = shadow.entries
    assert isinstance(one, Placed)
    assert (one.profile.transaction_id, one.sure, one.embedded) == ("7", True, False)
    assert [fact.value for fact in shadow.observe(ended("7", None))] == [None]
    assert shadow.entries == ()


def test_one_for_any_evse_may_be_any_transactions_until_it_is_known_better() -> None:
    embedded = ProfileSeen(0, told(1, purpose="tx"), True, embedded=True)
    assert shadow_of("ocpp1.6", embedded, started("7", 1), started("8", 2)) == [(0, 1, False), (1, 1, False), (2, 1, False)]
    assert shadow_of("ocpp1.6", embedded, started("7", 1), ended("7")) == [(0, 1, False)]
    alone = Shadow("ocpp1.6")
    for seen in (embedded, started("7", 1)):
        alone.observe(seen)
    bound = [one for one in alone.entries if isinstance(one, Placed) and one.profile.transaction_id == "7"]
    assert [(one.evse, one.sure) for one in bound] == [(1, False)], "the first to start need not be whom it was for"
    single = Shadow("ocpp1.6", only=1)
    single.observe(embedded)
    single.observe(started("7"))
    assert [one.sure for one in single.entries if isinstance(one, Placed)] == [True]


@pytest.mark.parametrize("start", [started("7", offline=True), started("7", 0), TransactionSeen("started", None, 1, 1, T, "")])
def test_a_start_that_is_old_or_of_nobody_knows_what_binds_nothing(start: TransactionSeen) -> None:
    shadow = Shadow("ocpp1.6")
    shadow.observe(ProfileSeen(1, told(1, purpose="tx"), True, embedded=True))
    before = shadow.entries
    assert shadow.observe(start) == ()
    assert shadow.entries == before


def test_what_a_station_reports_adds_what_nobody_saw_and_is_not_sure_of_it() -> None:
    reported = ProfileReported(1, 1, told(1))
    assert shadow_of("ocpp2.1", reported) == [(1, 1, False)], "it may have been gone already when it was reported"
    for known_at in (0, 1):
        seen = ProfileSeen(known_at, told(1), True)
        assert shadow_of("ocpp2.1", seen, reported) == [(known_at, 1, True)], "no better and no worse known by it"
    assert shadow_of("ocpp2.1", ProfileSeen(2, told(1), True), reported) == [(2, 1, False), (1, 1, False)]


def test_one_that_is_reported_and_cannot_be_read_makes_the_limit_unknown_unless_it_is_known() -> None:
    odd = ProfileReported(1, 1, None, "odd")
    assert shadow_of("ocpp2.1", odd) == [(1, 1, "odd")]
    assert shadow_of("ocpp2.1", ProfileSeen(1, told(1), True), odd) == [(1, 1, True)]
    assert shadow_of("ocpp2.1", ProfileSeen(2, told(1), True), odd) == [(2, 1, True), (1, 1, "odd")]


@pytest.mark.parametrize(
    "entry", [Unread(1, 4, "why"), Unread(0, None, ""), Placed(2, told(7, purpose="tx", transaction_id="6"), False, True)]
)
def test_a_restart_knows_what_was_there_and_what_could_not_be_read(entry: Any) -> None:
    fact = fact_of("x", entry)
    assert entry_of(json.loads(json.dumps(fact.value))) == entry
    assert json.loads(json.dumps(fact.value)) == fact.value, "plain as it will be on disk"


def test_a_start_casts_doubt_on_no_other_evse_s_nor_on_what_is_no_transaction_s() -> None:
    seen = [
        ProfileSeen(2, told(1, purpose="tx", transaction_id="6"), True),
        ProfileSeen(1, told(2), True),
        LimitUnknown(1, "why", 4),
        ProfileSeen(1, told(3, purpose="tx", transaction_id="7"), True),
    ]
    assert shadow_of("ocpp2.1", *seen, started("7")) == [(2, 1, True), (1, 2, True), (1, 4, "why"), (1, 3, True)]


def test_a_tx_profile_is_doubted_when_another_transaction_begins_and_gone_when_that_ends() -> None:
    seen = [ProfileSeen(1, told(1, purpose="tx", transaction_id="6"), True), started("7")]
    assert shadow_of("ocpp1.6", *seen) == [(1, 1, False)]
    assert shadow_of("ocpp1.6", *seen, ended("7")) == []


def test_one_that_names_no_transaction_is_of_the_one_that_runs_or_of_none() -> None:
    """1.6 may leave the id out. What was bound to one that is over would not die with the next."""
    named = ProfileSeen(1, told(1, purpose="tx"), True)

    def of(*seen: Observation) -> list[str | None]:
        shadow = Shadow("ocpp1.6")
        for one in seen:
            shadow.observe(one)
        return [one.profile.transaction_id for one in shadow.entries if isinstance(one, Placed)]

    assert of(started("7"), named) == ["7"]
    assert of(started("7"), started("8", 2), ended("8", None), named) == ["7"], "another's end is none"
    assert of(started("7"), ended("7", None), named) == [None]
    assert of(started("7"), ended("7", None), named, started("8"), ended("8")) == []
    assert of(started("7", 2), named) == [None]
    assert of(started("7", offline=True), named) == [None]


def test_a_boot_may_cost_tx_profiles_only() -> None:
    seen = [started("7"), ProfileSeen(1, told(1), True), ProfileSeen(1, told(2, purpose="tx", transaction_id="7"), True)]
    assert shadow_of("ocpp1.6", *seen, Boot("Accepted")) == [(1, 1, True), (1, 2, False)]
    assert shadow_of("ocpp1.6", *seen, Boot("Pending")) == [(1, 1, True), (1, 2, True)]


def test_what_is_long_over_is_forgotten() -> None:
    shadow = Shadow("ocpp1.6")
    shadow.observe(ProfileSeen(1, told(1, valid_to=T + 10), True))
    shadow.observe(ProfileSeen(1, told(2, level=1, duration_s=10), True))
    shadow.observe(ProfileSeen(1, told(3, level=2), True))
    assert shadow.expire(T + 86_000) == ()
    assert [fact.name for fact in shadow.expire(T + 86_411)] == ["profile-1@1", "profile-2@1"]
    assert len(shadow.entries) == 1


def test_more_than_anybody_plans_makes_the_limit_unknown_until_all_is_cleared() -> None:
    shadow = Shadow("ocpp2.1")
    for id in range(2 * MOST):
        shadow.observe(ProfileSeen(1, told(id), True))
        shadow.unanswered(ProfileSeen(1, told(0, level=id), True))
    assert len(shadow.entries) == MOST + 1
    assert [one.why for one in shadow.entries if isinstance(one, Unread)] == ["more profiles than we remember"]
    shadow.observe(ClearSeen(True))
    assert shadow.entries == ()


@pytest.mark.parametrize(
    "value", [3, {}, {"evse": 1}, {"evse": 1, "sure": True, "embedded": False, "profile": {}}, {"evse": "1", "id": None, "why": ""},
              {"evse": 1, "sure": True, "embedded": False, "profile": None}]
)  # fmt: skip
def test_facts_of_another_version_make_the_limit_unknown(value: object) -> None:
    assert entry_of(value) == Unread(0, None, "remembered by another version")


@pytest.mark.parametrize("slack_s", [0.0, 50_400.0])
def test_how_else_its_times_may_be_read_is_remembered_and_may_be_missing(slack_s: float) -> None:
    one = Placed(1, ChargingProfile(1, 0, "default", "Absolute", "A", (Period(0, 10.0),), 1.0, slack_s=slack_s))
    value = fact_of("x", one).value
    assert entry_of(value) == one
    del value["profile"]["slack_s"]
    assert entry_of(value) == one._replace(profile=replace(one.profile, slack_s=0.0))


def test_what_is_on_its_way_when_we_restart_is_doubted() -> None:
    shadow, coming = Shadow("ocpp1.6"), ProfileSeen(1, told(1, level=3), True, sure=False)
    facts = {fact.name: fact for fact in shadow.observe(ProfileSeen(1, told(1), True))}
    facts |= {fact.name: fact for fact in shadow.keep([coming])}
    assert shadow.keep([coming]) == ()
    again = Shadow("ocpp1.6", facts=facts.values())
    assert sorted((one.profile.stack_level, one.sure) for one in again.entries if isinstance(one, Placed)) == [(0, False), (3, False)]
    assert [(one.profile.stack_level, one.sure) for one in shadow.entries if isinstance(one, Placed)] == [(0, True)]
    facts |= {fact.name: fact for fact in shadow.observe(replace(coming, accepted=False))}
    assert Shadow("ocpp1.6", facts=facts.values()).entries == shadow.entries


def test_an_embedded_profile_outlasts_a_clear_and_a_set_until_its_transaction_begins() -> None:
    embedded = ProfileSeen(1, told(1, purpose="tx"), True, embedded=True)
    assert shadow_of("ocpp1.6", embedded, ClearSeen(True)) == [(1, 1, False)]
    assert shadow_of("ocpp1.6", embedded, ProfileSeen(1, told(1), True)) == [(1, 1, False), (1, 1, True)]
