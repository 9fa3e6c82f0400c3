"""Two masters at one station: a hostile CPMS that sets, clears, embeds and reads back profiles of every kind, pipelines, and loses
answers; and us.

Beside the station stands its twin, which hears the CPMS alone. At every moment, and for an hour on if nobody said anything more: never
above what the twin allows; no profile of the CPMS is missing that the twin has; no call of the CPMS fails that works at the twin.
`TWO_MASTERS_CASES` says how many stories are played (`make fuzz`: 10,000).
"""

from __future__ import annotations

import json
import os
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readback import composite, reports
from test_injector_laws import MAX_A, NOON, OURS, Does, World, orders, versions

from broker.model.observations import TransactionSeen
from broker.model.records import OpenTransaction
from broker.model.traffic import Exchange
from broker.ocpp import times
from broker.settings import ChargingSettings
from broker.sim.composite import Running, allowed, own, says
from broker.sim.held import Held, read

CASES = int(os.environ.get("TWO_MASTERS_CASES", "60"))
DAY = 86_400
AHEAD = (0, 1, 5, 30, 59, 61, 119, 200, 299, 301, 599, 601, 700, 899, 901, 1100, 1201, 1300, 2400, 3601)
STARTS = {"RemoteStartTransaction", "RequestStartTransaction"}

small = st.integers(0, 3)
amps = st.sampled_from([0.0, 6.0, 8.0, 10.0, 20.0, 40.0])
waits = st.builds(Does, st.just("wait"), c=st.sampled_from([1.0, 11.0, 61.0, 400.0, 1000.0]))
hostile = st.one_of(
    st.builds(Does, st.sampled_from(["cpms-sets", "cpms-sets", "cpms-embeds"]), st.integers(0, 719), small, amps),
    st.builds(Does, st.sampled_from(["cpms-sets", "cpms-sets", "cpms-pipelines"]), st.integers(0, 719), small, amps),
    st.builds(Does, st.just("cpms-clears"), st.integers(0, 6), small),
    st.builds(Does, st.just("cpms-reads"), small, small),
    st.builds(Does, st.just("wish"), small, st.integers(1, 6), st.sampled_from([0.0, 6.0, 7.35, 16.0, 40.0])),
    st.builds(Does, st.sampled_from(["plug", "unplug", "plug", "restart", "boot", "loses"]), small),
    waits,
    waits,
)
faulty = st.one_of(hostile, hostile, st.builds(Does, st.just("fault"), st.integers(0, 5), st.integers(1, 6)))


class Hostile(World):
    """As `World`, with a twin of the station, and a CPMS that does what it likes."""

    def __init__(self, version: str, purposes: Any, evses: int, conflict: Any = "smallest") -> None:
        self.twin = Held(version, tuple(range(1, evses + 1)))
        self.honest, self.lost, self.pending = True, False, []
        self.embedded: dict[int, dict[str, Any]] = {}
        self.checked: Any = None
        super().__init__(version, "seen", purposes, evses)
        self.charging = ChargingSettings(baseline="seen", purposes=purposes, conflict=conflict)
        self.start()

    def check(self) -> None:
        state = self.now, tuple(self.held.profiles), tuple(self.twin.profiles), dict(self.open), self.honest
        if state != self.checked:
            self.checked = state
            self.law()

    def law(self) -> None:
        theirs = [one for one in self.held.profiles if one.id not in OURS]
        if self.honest:
            assert sorted(map(str, theirs)) == sorted(map(str, self.twin.profiles)), "a profile of the CPMS is gone"
        for number, socket in self.sockets.items():
            t = self.open.get(number)
            transactions = {None, Running(t.ocpp_id or "", t.started_at) if t is not None else None}  # it may end, and we not hear of it
            for running, after in product(transactions, AHEAD):
                at = self.now.wall + after
                ours, alone = allowed(self.held.profiles, socket, at, running), allowed(theirs, socket, at, running)
                assert ours.amps <= alone.amps + 0.0501 or ours.by is None or ours.by.id not in OURS, (after, ours, alone)
                if ours.by is not None and ours.by.id in OURS:
                    assert ours.amps <= MAX_A
                    assert ours.by.duration_s is not None, "it would stand for ever"

    def profile(self, deed: Does) -> tuple[int, dict[str, Any]]:
        """Of every kind: `a` is read as digits of mixed radix."""
        a, purpose_no = divmod(deed.a, 3)
        a, kind_no = divmod(a, 3)
        a, shape = divmod(a, 4)
        a, unit_no = divmod(a, 2)
        evse, said = super().profile(Does("", purpose_no + 3 * (a % 5), deed.b, deed.c))
        schedule = said["chargingSchedule"] if self.dialect.name == "ocpp1.6" else said["chargingSchedule"][0]
        limits = {0: [(0, deed.c)], 1: [(0, 32.0), (300, deed.c)], 2: [(0, deed.c), (60, 40.0)], 3: [(0, deed.c), (120, 6.0), (600, 20.0)]}[
            shape
        ]
        factor = 690.0 if unit_no else 1.0
        schedule["chargingRateUnit"] = "W" if unit_no else "A"
        schedule["chargingSchedulePeriod"] = [{"startPeriod": at, "limit": limit * factor} for at, limit in limits]
        if shape == 2:
            schedule["duration"] = 700
        if shape == 3 and purpose_no != 2:
            said["validTo"] = times.text(self.now.wall + 500)
        if kind_no == 1:
            said |= {"chargingProfileKind": "Recurring", "recurrencyKind": "Daily"}
            schedule["startSchedule"] = times.text(self.now.wall - 2 * DAY - 200)
        elif kind_no == 2 and purpose_no != 0:
            said["chargingProfileKind"] = "Relative"
            del schedule["startSchedule"]
        return evse, said

    def cpms_pipelines(self, deed: Does) -> None:
        """Two at once: the second is on its way before the first is answered."""
        calls = []
        for one in (deed, deed._replace(a=deed.a * 7 % 720, c=8.0)):
            evse, said = self.profile(one)
            keys = ("connectorId", "csChargingProfiles") if self.dialect.name == "ocpp1.6" else ("evseId", "chargingProfile")
            calls.append(("SetChargingProfile", {keys[0]: evse, keys[1]: said}))
        for action, payload in calls:
            self.guard(action, payload)
        for action, payload in calls:
            self.executed(action, payload)

    def cpms_embeds(self, deed: Does) -> None:
        evse, said = self.profile(deed._replace(a=deed.a // 3 * 3 + 2))
        if evse in self.open:
            return
        said.pop("transactionId", None)
        self.embedded[evse] = said
        old = self.dialect.name == "ocpp1.6"
        where, action = ("connectorId", "RemoteStartTransaction") if old else ("evseId", "RequestStartTransaction")
        self.cpms(action, {where: evse, "idToken": "t", "chargingProfile": said})

    def cpms_clears(self, deed: Does) -> None:
        if deed.a < 5:
            super().cpms_clears(deed)
            return
        old = self.dialect.name == "ocpp1.6"
        criteria: dict[str, Any] = {"stackLevel": (0, 3, 8, 7)[deed.b]} if deed.a == 5 else {"connectorId" if old else "evseId": deed.b % 2}
        self.cpms("ClearChargingProfile", criteria if old else {"chargingProfileCriteria": criteria})

    def cpms_reads(self, deed: Does) -> None:
        """What the station holds (2.x), or what it makes of it; with ours in it, if any stands."""
        for _ in range(12):  # not guarded: it goes when none of ours is open any more
            self.answer(Does("answer", 5 if deed.b == 3 and self.inject is not None else 0))
            if self.inject is None:
                break
        if self.dialect.name != "ocpp1.6" and deed.a > 1:
            for told in reports(self.held.profiles):
                self.hears("station", "ReportChargingProfiles", told, {})
            return
        evse = deed.b % (1 + len(self.sockets))
        key = "connectorId" if self.dialect.name == "ocpp1.6" else "evseId"
        answer = composite(self.dialect.name, self.held.profiles, self.sockets[evse or 1], evse, self.now.wall, self.running(evse))
        lost, self.lost = self.lost, False
        if not lost:
            self.hears("cpms", "GetCompositeSchedule", {key: evse, "duration": 86_400, "chargingRateUnit": "A"}, answer)

    def hears(self, sender: Any, action: str, call: dict[str, Any], answer: dict[str, Any]) -> None:
        """The whole dialect reads it, as it goes by."""
        asked, answered = (json.dumps(frame).encode() for frame in ([2, "c", action, call], [3, "c", answer]))
        at_call = sender == "station"
        exchange = Exchange(sender, action, asked, None if at_call else answered, 0 if at_call else 3, None)
        for one in self.dialect.observe(exchange, self.now):
            self.take(self.injector.observe(one, self.now))

    def running(self, evse: int) -> Running | None:
        t = self.open.get(evse)
        return Running(t.ocpp_id or "", t.started_at) if t is not None else None

    def loses(self, deed: Does) -> None:
        """The next answer to the CPMS goes astray."""
        self.lost = True

    def cpms(self, action: str, payload: dict[str, Any]) -> None:
        self.guard(action, payload)
        self.executed(action, payload)

    def guard(self, action: str, payload: dict[str, Any]) -> None:
        """It goes when the injector lets it, or when the relay's patience ends."""
        token = self.token()
        call = json.dumps([2, "c", action, payload]).encode()
        self.take(self.injector.guarded(token, Exchange("cpms", action, call, None, 0, None), self.now))
        for _ in range(12):
            if token in self.passes:
                return
            self.answer(Does("answer"))
        raise AssertionError("a CPMS's CALL waits for ever")

    def executed(self, action: str, payload: dict[str, Any]) -> None:
        status, alone = self.both(action, payload)
        if self.honest and action == "SetChargingProfile":
            assert status == alone, "it fails because of us"
        self.check()
        lost, self.lost = self.lost, False
        if lost:
            return
        answer = {"status": status}
        for one in self.dialect.charging.observe(Exchange("cpms", action, b"", None, 3, None), payload, answer):
            self.take(self.injector.observe(one, self.now))

    def both(self, action: str, payload: dict[str, Any]) -> tuple[str, str]:
        if action in STARTS:
            return "Accepted", "Accepted"
        held = self.held
        self.held = self.twin
        alone = self.execute(action, payload)
        self.held = held
        return self.execute(action, payload), alone

    def fault(self, deed: Does) -> None:
        self.honest = False
        super().fault(deed)

    def plug(self, deed: Does) -> None:
        evse = 1 + deed.a % len(self.sockets)
        if evse in self.open:
            return
        self.number += 1
        id = str(100 + self.number)
        self.open[evse] = OpenTransaction(f"uid-{id}", evse, 1, self.now.wall, id)
        said = self.embedded.pop(evse, None)
        if said is not None:
            transaction = {**said, "transactionId": int(id) if self.dialect.name == "ocpp1.6" else id}
            running = {evse: t.ocpp_id or "" for evse, t in self.open.items()}
            whys = [held.set(read(evse, transaction, self.now.wall), running) for held in (self.held, self.twin)]
            assert not self.honest or whys[0] == whys[1], "it fails because of us"
            self.check()
        self.take(self.injector.observe(TransactionSeen("started", id, evse, 1, self.now.wall, times.text(self.now.wall)), self.now))

    def unplug(self, deed: Does) -> None:
        evse = 1 + deed.a % len(self.sockets)
        t = self.open.pop(evse, None)
        if t is not None:
            self.held.ended(evse)
            self.twin.ended(evse)
            place = None if self.dialect.name == "ocpp1.6" else evse
            self.take(self.injector.observe(TransactionSeen("ended", t.ocpp_id, place, 1, self.now.wall, ""), self.now))


def played(world: Hostile, story: list[Does]) -> Hostile:
    for deed in (Does("plug"), Does("wish", 0, 5, 16.0), Does("wait", c=11.0), *story):
        world.play(deed)
    return world


many = settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(versions, orders, st.integers(1, 2), st.lists(hostile, max_size=25))
def test_a_station_that_answers_never_allows_more_and_keeps_every_profile_of_the_cpms(
    version: str, purposes: Any, evses: int, story: list[Does]
) -> None:
    played(Hostile(version, purposes, evses), story)


@many
@given(versions, orders, st.integers(1, 2), st.lists(faulty, max_size=25))
def test_nor_does_one_that_refuses_and_falls_silent_allow_more(version: str, purposes: Any, evses: int, story: list[Does]) -> None:
    played(Hostile(version, purposes, evses), story)


@many
@given(versions, orders, st.integers(1, 2), st.lists(faulty, max_size=15))
def test_ours_always_ends(version: str, purposes: Any, evses: int, story: list[Does]) -> None:
    """Whatever went wrong, and though nobody says anything more: within the lease the station is in the CPMS's own state."""
    world = played(Hostile(version, purposes, evses), story)
    at = world.now.wall + 900 + 301
    for number, socket in world.sockets.items():
        t = world.open.get(number)
        found = allowed(world.held.profiles, socket, at, Running(t.ocpp_id or "", t.started_at) if t is not None else None)
        assert found.by is None or found.by.id not in OURS


@many
@given(versions, orders, st.integers(1, 2), st.lists(hostile, max_size=15))
def test_where_the_cpms_has_precedence_nothing_of_ours_stands_beside_a_profile_of_its_own(
    version: str, purposes: Any, evses: int, story: list[Does]
) -> None:
    world = played(Hostile(version, purposes, evses, "cpms"), story)
    world.wait(Does("wait", c=120.0))
    for number, socket in world.sockets.items():
        t = world.open.get(number)
        running = Running(t.ocpp_id or "", t.started_at) if t is not None else None
        theirs = [one for one in world.held.profiles if one.id not in OURS]
        speaks = any(says(one, world.now.wall, running) for one in theirs if one.purpose == "max")
        speaks = speaks or own(theirs, socket, world.now.wall, running).by is not None
        here = [one for one in world.held.profiles if one.id in OURS and one.id // 10 % 10 == number]
        assert not (speaks and any(says(one, world.now.wall, running) for one in here))


@many
@given(versions, orders, st.integers(1, 2), st.lists(hostile, max_size=15))
def test_what_the_cpms_reads_back_when_ours_are_cleared_is_its_own(version: str, purposes: Any, evses: int, story: list[Does]) -> None:
    """To the byte: each profile, and what the station makes of them. While ours stand, they are of our range of ids and nobody else's."""
    world = played(Hostile(version, purposes, evses), story)
    read_ids = {one["id"] for told in reports(world.held.profiles) for one in told["chargingProfile"]}
    assert read_ids - {one.id for one in world.twin.profiles} <= set(OURS)
    world.release(Does("release"))
    for _ in range(6):
        world.wait(Does("wait", c=61.0))
    assert reports(world.held.profiles) == reports(world.twin.profiles)
    for evse in (0, *world.sockets):
        read_back, alone = (
            composite(version, one.profiles, world.sockets[evse or 1], evse, world.now.wall, world.running(evse))
            for one in (world.held, world.twin)
        )
        assert read_back == alone


def test_the_twins_differ_by_ours_only() -> None:
    """Else all of the above would hold of nothing."""
    world = played(Hostile("ocpp1.6", ("max", "tx", "default"), 1), [Does("cpms-sets", 1, 1, 10.0), Does("wait", c=61.0)])
    assert [one.id for one in world.twin.profiles if one.id in OURS] == []
    assert len([one.id for one in world.held.profiles if one.id in OURS]) == 1
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps == 10.0


def default(id: int, level: int, amps: float, purpose: str = "TxDefaultProfile") -> dict[str, Any]:
    """For connector 1 of a 1.6 station, for ever."""
    schedule = {"chargingRateUnit": "A", "startSchedule": times.text(NOON), "chargingSchedulePeriod": [{"startPeriod": 0, "limit": amps}]}
    told = {"chargingProfileId": id, "stackLevel": level, "chargingProfilePurpose": purpose, "chargingProfileKind": "Absolute"}
    return {"connectorId": 1, "csChargingProfiles": {**told, "chargingSchedule": schedule}}


def test_a_clear_of_one_level_clears_that_level_here_too() -> None:
    """A station that cleared more than it was asked to would be ours to be surprised by, and prove nothing."""
    world = played(Hostile("ocpp1.6", ("default",), 1), [])
    world.cpms("SetChargingProfile", default(1, 0, 8.0))
    world.cpms("SetChargingProfile", default(2, 3, 10.0))
    world.cpms("ClearChargingProfile", {"stackLevel": 3, "connectorId": 1})
    assert [one.id for one in world.twin.profiles] == [1]
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps == 8.0


def test_a_clear_that_uncovers_a_lower_limit_finds_ours_lowered() -> None:
    world = played(Hostile("ocpp1.6", ("default",), 1), [])
    world.cpms("SetChargingProfile", default(1, 0, 8.0))
    world.cpms("SetChargingProfile", default(2, 3, 40.0))
    world.settle()
    world.wait(Does("wait", c=61.0))
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps == 16.0
    world.cpms("ClearChargingProfile", {"id": 2})
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps == 8.0


def test_one_of_ours_of_another_kind_makes_way_only_when_the_one_before_it_is_cleared() -> None:
    """Ours was a TxDefaultProfile while the CPMS had the highest level of TxProfiles; lowered, it is a TxProfile again."""
    world = played(Hostile("ocpp1.6", ("tx", "default"), 1), [Does("cpms-sets", 227, 2), Does("cpms-clears", 1, 2)])
    assert [one.purpose for one in world.held.profiles if one.id in OURS] == ["default"]
    world.cpms("SetChargingProfile", default(2, 0, 0.0))  # and the transaction may end at any time
    assert [one.purpose for one in world.held.profiles if one.id in OURS] == ["tx"]


def test_a_default_of_ours_stays_below_what_holds_when_the_transaction_is_over() -> None:
    world = played(Hostile("ocpp1.6", ("default",), 1), [Does("wish", 0, 5, 16.0)])
    world.cpms("SetChargingProfile", default(1, 0, 8.0))
    world.cpms("SetChargingProfile", default(2, 3, 40.0, "TxProfile"))
    world.settle()
    world.wait(Does("wait", c=61.0))
    assert [one.purpose for one in world.held.profiles if one.id in OURS] == ["default"]
    world.check()


@pytest.mark.parametrize("then", ["restart", "wait"])
def test_an_answer_that_is_lost_counts_both_ways_for_ever(then: str) -> None:
    world = played(Hostile("ocpp1.6", ("default",), 1), [Does("loses")])
    world.cpms("SetChargingProfile", default(1, 0, 8.0))
    for deed in (Does(then, c=700.0), Does("wait", c=61.0), Does("wish", 0, 5, 16.0), Does("wait", c=61.0)):
        world.play(deed)
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps == 8.0


def test_a_limit_of_the_cpms_that_is_higher_later_is_made_use_of_later() -> None:
    """What the lowest of everything ever said could not."""
    world = played(Hostile("ocpp1.6", ("tx",), 1), [])
    schedule = {
        "chargingRateUnit": "A",
        "startSchedule": times.text(world.now.wall - 10),
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 8.0}, {"startPeriod": 200, "limit": 20.0}],
    }
    told = {"chargingProfileId": 1, "stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute"}
    world.cpms("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": {**told, "chargingSchedule": schedule}})
    world.settle()
    world.wait(Does("wait", c=61.0))
    t = world.open[1]
    amps = [
        allowed(world.held.profiles, world.sockets[1], world.now.wall + after, Running(t.ocpp_id or "", 0.0)).amps
        for after in (0, 128, 130)
    ]
    assert amps == [8.0, 8.0, 10.0]  # the engine's step by then
