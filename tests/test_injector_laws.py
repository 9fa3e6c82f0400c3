"""The injector's laws, held against a station that obeys every profile it holds, in a world that does whatever it likes.

CPMS, engine, driver, disk and clock act at random; the station is the simulated one, which works its limits out by itself. At no
moment may ours allow more than the CPMS's profiles alone, nor `max_amps`.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.injector import Injector
from broker.model.basics import Instant
from broker.model.observations import Boot, Proven, StatusSeen, TransactionSeen
from broker.model.orders import Alarm, Inject, Pass, Remember, Report
from broker.model.records import Fact, OpenTransaction, Outcome
from broker.model.schedules import Schedule, Step
from broker.model.traffic import Exchange
from broker.ocpp import times
from broker.ocpp.dialects import BY_NAME
from broker.settings import ChargingSettings, EvseSettings, StationSettings
from broker.sim.cars import Socket
from broker.sim.composite import Running, allowed, schedule
from broker.sim.held import Held, read

NOON = 1_768_046_400.0
MAX_A = 32.0
OURS = range(9_120_000, 9_130_000)


class Does(NamedTuple):
    """Something that happens; numbers are looked up when it is played."""

    what: str
    a: int = 0
    b: int = 0
    c: float = 0.0


_small = st.integers(0, 3)
deeds = st.one_of(
    st.builds(Does, st.just("wish"), _small, st.integers(1, 6), st.sampled_from([0.0, 5.0, 6.0, 7.35, 16.0, 40.0])),
    st.builds(
        Does,
        st.sampled_from(["cpms-sets", "cpms-sets", "cpms-starts"]),
        st.integers(0, 17),
        _small,
        st.sampled_from([0.0, 8.0, 10.0, 20.0, 40.0]),
    ),
    st.builds(Does, st.just("cpms-clears"), st.integers(0, 4), _small),
    st.builds(Does, st.just("fault"), st.integers(0, 5), st.integers(1, 6)),
    st.builds(Does, st.sampled_from(["plug", "unplug"])),
    st.builds(Does, st.sampled_from(["boot", "restart", "release"])),
    st.builds(Does, st.just("wait"), c=st.sampled_from([1.0, 11.0, 61.0, 400.0, 1000.0])),
    st.builds(Does, st.just("wait"), c=st.sampled_from([1.0, 11.0, 61.0, 400.0, 1000.0])),
)


class World:
    """A station, its CPMS and us."""

    engine_heard: Any = None

    def __init__(self, version: str, baseline: Any, purposes: Any, evses: int, shadow: bool = False) -> None:
        self.dialect = BY_NAME[version]
        sockets = tuple(EvseSettings(n, f"asset-{n}", MAX_A, 3) for n in range(1, evses + 1))
        self.station = StationSettings("CS", "smart-charging", "site", "ac", sockets)
        self.charging = ChargingSettings(baseline=baseline, purposes=purposes)
        self.held = Held(version, tuple(range(1, evses + 1)))
        self.sockets = {n: Socket(n, max_amps=40.0) for n in range(1, evses + 1)}
        self.now = Instant(1000.0, NOON)
        self.open: dict[int, OpenTransaction] = {}
        self.facts: dict[tuple[str, str], Fact] = {}
        self.tokens = 0
        self.inject: Inject | None = None
        self.sent: list[Inject] = []
        self.outcomes: list[Outcome] = []
        self.passes: list[int] = []
        self.guarded: dict[int, tuple[str, dict[str, Any]]] = {}
        self.number = 0
        self.shadow = shadow
        self.faults: list[int] = []
        self.start()

    def start(self) -> None:
        """A link opens, and both ends prove that they live."""
        self.inject = None
        self.opened = self.now.mono
        self.proven = False
        self.injector = Injector(
            self.station, self.charging, self.dialect, facts=tuple(self.facts.values()), opened=self.now, flapping=False,
            shadow=self.shadow, new_token=self.token, open_transaction=self.open.get,
            engine_heard=self.engine_heard,
        )  # fmt: skip
        self.proven = True
        self.take(self.injector.observe(Proven("Heartbeat"), self.now))
        self.take(self.injector.observe(StatusSeen(1, 1, "Available", self.now.wall), self.now))

    def token(self) -> int:
        self.tokens += 1
        return self.tokens

    def take(self, effects: Any) -> None:
        for effect in effects:
            if isinstance(effect, Inject):
                assert self.inject is None, "two of ours at once"
                assert self.proven, "before proof"
                assert self.now.mono >= self.opened + 10, "too early"
                assert not self.shadow, "shadow speaks"
                self.inject = effect
                self.sent.append(effect)
            elif isinstance(effect, Remember):
                key = (effect.fact.topic, effect.fact.name)
                json.dumps(effect.fact.value)
                self.facts[key] = effect.fact
                if effect.fact.value is None:
                    del self.facts[key]
            elif isinstance(effect, Pass):
                assert effect.token not in self.passes, "passed twice"
                self.passes.append(effect.token)
            elif isinstance(effect, Report):
                self.outcomes.append(effect.outcome)
            else:
                assert isinstance(effect, Alarm)
        assert not self.injector._rests or self.injector._at_rest(), "it believes that it rests, and does not"
        self.check()

    # ------------------------------------------------------------ the law

    def check(self) -> None:
        """What holds now, and until the day is over if nobody says anything more."""
        theirs = [one for one in self.held.profiles if one.id not in OURS]
        ours = [one for one in self.held.profiles if one.id in OURS]
        for number, socket in self.sockets.items():
            t = self.open.get(number)
            running = Running(t.ocpp_id or "", t.started_at) if t is not None else None
            for after in (0.0, 30.0, 200.0, 700.0, 899.0, 901.0, 1100.0, 1300.0, 4000.0):
                at = self.now.wall + after
                with_ours = allowed([*theirs, *ours], socket, at, running)
                alone = allowed(theirs, socket, at, running)
                assert with_ours.amps <= alone.amps + 0.0501 or with_ours.by not in ours, (with_ours, alone, after)
                if with_ours.by in ours:
                    assert with_ours.amps <= MAX_A
                    assert with_ours.amps == 0 or with_ours.amps >= 6 or with_ours.amps >= alone.amps - 0.2
                    assert with_ours.by.valid_to is not None or with_ours.by.duration_s is not None

    # ------------------------------------------------------------ who does what

    def play(self, deed: Does) -> None:
        getattr(self, deed.what.replace("-", "_"))(deed)
        self.check()
        self.settle()

    def settle(self) -> None:
        """The station answers what it was asked, each time as the next of `faults` says; 6 leaves it open till later."""
        for _ in range(12):
            if self.inject is None:
                return
            fault = self.faults.pop(0) if self.faults else 0
            if fault == 6:
                return
            self.answer(Does("answer", fault))

    def fault(self, deed: Does) -> None:
        self.faults = [0] * deed.a + [deed.b]

    def wait(self, deed: Does) -> None:
        end = self.now.mono + deed.c
        for _ in range(50):
            at = self.injector.wake_at
            if at is None or at > end:
                break
            self.pass_time(max(at, self.now.mono) - self.now.mono)
            self.take(self.injector.tick(self.now))
            self.settle()
        self.pass_time(end - self.now.mono)
        self.take(self.injector.tick(self.now))
        self.settle()

    def pass_time(self, seconds: float) -> None:
        self.now = Instant(self.now.mono + seconds, self.now.wall + seconds)
        self.check()

    def wish(self, deed: Does) -> None:
        self.number += 1
        evse = 1 + deed.a % len(self.sockets)
        steps = tuple(Step(self.now.wall - 5 + 97.3 * n, abs(deed.c - 3.0 * n)) for n in range(deed.b * (20 if deed.a == 3 else 1)))
        wanted = Schedule(f"s{self.number}", f"asset-{evse}", self.now.wall, self.now.wall + 300.0 * deed.b, "A", steps)
        self.take(self.injector.wish(wanted, self.now))

    def profile(self, deed: Does) -> tuple[int, dict[str, Any]]:
        purpose = ("max", "default", "tx")[deed.a % 3]
        evse = 0 if purpose == "max" else 1 + deed.b % len(self.sockets)
        if purpose == "default" and deed.b == 3:
            evse = 0
        names = {"max": "ChargePointMaxProfile", "default": "TxDefaultProfile", "tx": "TxProfile"}
        t = self.open.get(evse)
        schedule: dict[str, Any] = {
            "chargingRateUnit": "A",
            "startSchedule": times.text(self.now.wall - 10),
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": deed.c}],
        }
        said: dict[str, Any] = {
            "stackLevel": (0, 3, 8, 7)[deed.b],
            "chargingProfilePurpose": names[purpose],
            "chargingProfileKind": "Absolute",
            "chargingProfileId": 1 + deed.a % 5,
            "chargingSchedule": schedule,
        }
        if deed.a > 12:
            schedule["chargingSchedulePeriod"].append({"startPeriod": 600, "limit": 8.0})
        if purpose == "tx" and t is not None:
            said["transactionId"] = int(t.ocpp_id or 0)
        if self.dialect.name != "ocpp1.6":
            said["chargingProfilePurpose"] = names[purpose].replace("ChargePoint", "ChargingStation")
            said["id"] = said.pop("chargingProfileId")
            said["chargingSchedule"] = [{"id": 1, **schedule}]
            if purpose == "tx" and t is not None:
                said["transactionId"] = t.ocpp_id
        return evse, said

    def cpms_sets(self, deed: Does) -> None:
        evse, said = self.profile(deed)
        keys = ("connectorId", "csChargingProfiles") if self.dialect.name == "ocpp1.6" else ("evseId", "chargingProfile")
        self.cpms("SetChargingProfile", {keys[0]: evse, keys[1]: said})

    def cpms_starts(self, deed: Does) -> None:
        self.cpms_sets(deed)

    def cpms_clears(self, deed: Does) -> None:
        old = self.dialect.name == "ocpp1.6"
        if deed.a == 0:
            payload: dict[str, Any] = {}
        elif deed.a == 1:
            purpose = ("ChargePointMaxProfile" if old else "ChargingStationMaxProfile", "TxDefaultProfile", "TxProfile")[deed.b % 3]
            payload = {"chargingProfilePurpose": purpose}
            payload = payload if old else {"chargingProfileCriteria": payload}
        else:
            payload = {"id" if old else "chargingProfileId": 1 + (deed.a + deed.b) % 5}
        self.cpms("ClearChargingProfile", payload)

    def cpms(self, action: str, payload: dict[str, Any]) -> None:
        """A guarded CALL: it goes when the injector lets it, or when the relay's patience ends."""
        token = self.token()
        call = json.dumps([2, "c", action, payload]).encode()
        self.take(self.injector.guarded(token, Exchange("cpms", action, call, None, 0, None), self.now))
        for _ in range(12):
            if token in self.passes:
                break
            self.answer(Does("answer"))
        assert token in self.passes, "a CPMS's CALL waits for ever"
        status = self.execute(action, payload)
        answer = {"status": status}
        seen = self.dialect.charging.observe(Exchange("cpms", action, call, None, 3, None), payload, answer)
        for one in seen:
            self.take(self.injector.observe(one, self.now))

    def execute(self, action: str, payload: dict[str, Any]) -> str:
        """What the station does with a CALL, ours or theirs."""
        running = {evse: t.ocpp_id or "" for evse, t in self.open.items()}
        if action == "ClearChargingProfile":
            criteria = payload.get("chargingProfileCriteria", payload)
            id = payload.get("id", payload.get("chargingProfileId"))
            place = criteria.get("connectorId", criteria.get("evseId"))
            cleared = self.held.clear(id, place, criteria.get("chargingProfilePurpose"), criteria.get("stackLevel"))
            return "Accepted" if cleared else "Unknown"
        evse = payload.get("connectorId", payload.get("evseId"))
        said = payload.get("csChargingProfiles", payload.get("chargingProfile"))
        assert isinstance(evse, int)
        assert isinstance(said, dict)
        why = self.held.set(read(evse, said, self.now.wall), running)
        return "Rejected" if why else "Accepted"

    def answer(self, deed: Does) -> None:
        """The station answers ours: 0 properly, 1 with an error, 2 not at all, 3 not at all though it did it, 4 refused, 5 given up."""
        ours, self.inject = self.inject, None
        if ours is None:
            return
        if deed.a in (1, 2, 4, 5):
            outcome = {1: "error", 2: "timeout", 4: "answer", 5: "given-up"}[deed.a]
            text = {1: b'[4,"o","GenericError","",{}]', 2: None, 4: b'[3,"o",{"status":"Rejected"}]', 5: None}[deed.a]
            self.take(self.injector.answered(ours.token, outcome, text, self.now))
            return
        said = self.said(ours)
        self.check()
        text = json.dumps([3, "o", said]).encode()
        self.take(self.injector.answered(ours.token, "timeout" if deed.a == 3 else "answer", None if deed.a == 3 else text, self.now))

    def said(self, ours: Inject) -> dict[str, Any]:
        if ours.action in ("SetChargingProfile", "ClearChargingProfile"):
            return {"status": self.execute(ours.action, dict(ours.payload))}
        if ours.action == "GetCompositeSchedule":
            evse = ours.payload.get("connectorId", ours.payload.get("evseId", 0))
            assert not [one for one in self.held.profiles if one.id in OURS and one.evse in (0, evse)], "ours is read as theirs"
            t = self.open.get(evse)
            running = Running(t.ocpp_id or "", t.started_at) if t is not None else None
            socket = self.sockets[evse or 1]
            steps = schedule(self.held.profiles, socket, self.now.wall, 86_400, running, whole=evse == 0)
            said = {"chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": s.start_s, "limit": s.limit} for s in steps]}
            begins = {"scheduleStart": times.text(self.now.wall)}
            if self.dialect.name == "ocpp1.6":
                return {"status": "Accepted", "chargingSchedule": said, **begins}
            return {"status": "Accepted", "schedule": {**said, **begins}}
        if ours.action == "GetConfiguration":
            return {"configurationKey": [{"key": "ChargeProfileMaxStackLevel", "readonly": True, "value": "8"}]}
        about = {"component": {"name": "SmartChargingCtrlr"}, "variable": {"name": "ProfileStackLevel"}}
        return {"getVariableResult": [{**about, "attributeStatus": "Accepted", "attributeValue": "8"}]}

    def plug(self, deed: Does) -> None:
        if 1 in self.open:
            return
        self.number += 1
        id = str(100 + self.number)
        self.open[1] = OpenTransaction(f"uid-{id}", 1, 1, self.now.wall, id)
        seen = TransactionSeen("started", id, 1, 1, self.now.wall, times.text(self.now.wall))
        self.take(self.injector.observe(seen, self.now))

    def unplug(self, deed: Does) -> None:
        t = self.open.pop(1, None)
        if t is None:
            return
        self.held.ended(1)
        seen = TransactionSeen("ended", t.ocpp_id, None if self.dialect.name == "ocpp1.6" else 1, 1, self.now.wall, "")
        self.take(self.injector.observe(seen, self.now))

    def boot(self, deed: Does) -> None:
        self.take(self.injector.observe(Boot("Accepted"), self.now))

    def restart(self, deed: Does) -> None:
        if self.inject is not None:
            ours, self.inject = self.inject, None
            self.take(self.injector.answered(ours.token, "closed", None, self.now))
            assert self.inject is None, "speaks on a closed link"
        self.start()
        self.wait(Does("wait", c=11.0))  # till then nothing of ours may be sent, not even to take a limit back

    def release(self, deed: Does) -> None:
        self.take(self.injector.release(self.now))


versions = st.sampled_from(sorted(BY_NAME))
orders = st.sampled_from([("max", "tx", "default"), ("tx", "default"), ("default",), ("tx",)])


@settings(max_examples=120, deadline=None)
@given(versions, orders, st.integers(1, 2), st.lists(deeds, max_size=30))
def test_never_above_what_the_cpms_alone_allows(version: str, purposes: Any, evses: int, story: list[Does]) -> None:
    world = World(version, "ask", purposes, evses)
    world.play(Does("plug"))
    world.play(Does("wish", 0, 5, 16.0))
    world.play(Does("wait", c=11.0))
    for deed in story:
        world.play(deed)


@settings(max_examples=60, deadline=None)
@given(versions, orders, st.integers(1, 2), st.lists(deeds, max_size=30))
def test_nor_when_only_what_was_seen_counts(version: str, purposes: Any, evses: int, story: list[Does]) -> None:
    world = World(version, "seen", purposes, evses)
    world.play(Does("plug"))
    world.play(Does("wish", 0, 5, 16.0))
    world.play(Does("wait", c=11.0))
    for deed in story:
        world.play(deed)


@settings(max_examples=50, deadline=None)
@given(versions, orders, st.integers(1, 2), st.lists(deeds, max_size=30))
def test_shadow_says_nothing_to_the_station(version: str, purposes: Any, evses: int, story: list[Does]) -> None:
    world = World(version, "ask", purposes, evses, shadow=True)
    for deed in story:
        world.play(deed)
    assert world.sent == []
    assert all(outcome.detail.startswith("shadow") for outcome in world.outcomes if outcome.status == "not-sent")


@settings(max_examples=60, deadline=None)
@given(versions, orders, st.integers(1, 2), st.lists(deeds, max_size=20))
def test_a_station_that_answers_is_left_as_it_was_when_we_go(version: str, purposes: Any, evses: int, story: list[Does]) -> None:
    world = World(version, "ask", purposes, evses)
    for deed in story:
        world.play(deed)
    world.wait(Does("wait", c=3700.0))
    world.release(Does("release"))
    world.faults = []
    for _ in range(12):
        world.wait(Does("wait", c=400.0))
    assert [one for one in world.held.profiles if one.id in OURS] == []
    assert [name for topic, name in world.facts if topic == "lease"] == []


@pytest.mark.parametrize("version", sorted(BY_NAME))
def test_the_world_itself_works(version: str) -> None:
    """Else all of the above would hold of nothing."""
    world = World(version, "ask", ("max", "tx", "default"), 1)
    world.wish(Does("wish", 0, 3, 16.0))
    world.wait(Does("wait", c=11.0))
    assert [inject.action for inject in world.sent][-1] == "SetChargingProfile"
    assert [outcome.status for outcome in world.outcomes] == ["accepted"]
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps == 16.0


@pytest.mark.parametrize("version", sorted(BY_NAME))
@pytest.mark.parametrize("purpose", ["default", "tx"])
def test_what_was_never_answered_but_stands_gives_way_to_a_lower_limit_of_the_cpms(version: str, purpose: Any) -> None:
    world = World(version, "none", (purpose,), 1)
    world.play(Does("plug"))
    world.play(Does("fault", 1, 3))  # the capabilities are answered, the profile is taken without a word
    world.play(Does("wish", 0, 5, 16.0))
    world.play(Does("wait", c=11.0))
    assert [one.id for one in world.held.profiles if one.id in OURS] != []
    world.play(Does("cpms-sets", 1 if purpose == "default" else 2, 0, 8.0))


@pytest.mark.parametrize("version", sorted(BY_NAME))
def test_a_clear_that_uncovers_what_nobody_saw_finds_nothing_of_ours_above_it(version: str) -> None:
    world = World(version, "ask", ("default",), 1)
    for deed, level in ((Does("cpms-sets", 1, 0, 10.0), 0), (Does("cpms-sets", 4, 1, 20.0), 3)):
        evse, said = world.profile(deed)
        assert said["stackLevel"] == level
        assert world.held.set(read(evse, said, world.now.wall), {}) == ""  # from before our time
    world.play(Does("wish", 0, 5, 16.0))
    world.play(Does("wait", c=11.0))
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps == 16.0
    above = next(one.id for one in world.held.profiles if one.stack_level == 3)
    world.cpms("ClearChargingProfile", {"id" if version == "ocpp1.6" else "chargingProfileId": above})
    world.settle()
    world.play(Does("wait", c=400.0))
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps <= 10.0
