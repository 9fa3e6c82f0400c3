"""However our clock is set while limits of ours stand, the station is sent what it would have been sent, at the same moments."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.clockset import doubted
from broker.fallback import FOREVER
from broker.leases import Lease, lease_of
from broker.model.basics import Instant
from broker.model.observations import Metered, Proven, Reading, StatusSeen
from broker.model.orders import Inject, Remember, Report
from broker.model.records import Fact, OpenTransaction
from broker.model.schedules import Schedule, Step
from broker.ocpp.dialects import BY_NAME
from broker.operating import OwnLimit, own_limit
from broker.profiles.shape import AFTER_S
from broker.settings import ChargingSettings, EvseSettings, StationSettings
from broker.steering import Steered

NOON = 1_768_046_400.0
DAY = 86_400.0
KEYS = [
    {"key": "ChargeProfileMaxStackLevel", "readonly": True, "value": "8"},
    {"key": "ChargingScheduleAllowedChargingRateUnit", "readonly": True, "value": "Current"},
]


def answer(action: str) -> Any:
    """A willing station's."""
    if action == "GetConfiguration":
        return {"configurationKey": KEYS}
    if action == "GetCompositeSchedule":
        periods = [{"startPeriod": 0, "limit": 25.0}]
        return {"status": "Accepted", "chargingSchedule": {"chargingRateUnit": "A", "chargingSchedulePeriod": periods}}
    return {"status": "Accepted"}


class Box:
    """A broker's injector, and a station whose clock is right. `off`: how far our clock is from it."""

    def __init__(self, off: float = 0.0, facts: tuple[Fact, ...] = (), **charging: Any) -> None:
        self.mono, self.off = 1000.0, off
        self.charging = charging
        self.silent: list[int] | None = None
        """Tokens of limits that it leaves open, if it does."""
        self.sent: list[tuple[float, str, Any]] = []
        self.outcomes: list[tuple[float, str]] = []
        self.facts: dict[tuple[str, str], Fact] = {(fact.topic, fact.name): fact for fact in facts}
        self.running: OpenTransaction | None = None
        self.tokens = iter(range(1, 100_000))
        self.opened = self.now
        self.injector = self.made()
        self.take(self.injector.observe(Proven("Heartbeat"), self.now))
        self.live()

    def made(self) -> Steered:
        return Steered(
            StationSettings("CS", "smart-charging", "hq", "ac", (EvseSettings(1, "asset", 32.0, 3),)),
            ChargingSettings(**self.charging), BY_NAME["ocpp1.6"], facts=tuple(self.facts.values()), opened=self.opened, flapping=False,
            shadow=False, new_token=lambda: next(self.tokens), open_transaction=lambda _: self.running,
        )  # fmt: skip

    def reloads(self) -> None:
        """Another takes over in mid-conversation, as `net.seating` does it: with the link's opening, and what is on disk."""
        asked = self.injector._engines.get(1)
        old, self.injector = self.injector, self.made()
        self.injector.inherit(True, old)
        if asked is not None and asked.valid_until > self.now.wall:
            self.does("wish", asked)

    @property
    def true(self) -> float:
        return NOON + self.mono - 1000.0

    @property
    def now(self) -> Instant:
        return Instant(self.mono, self.true + self.off)

    def take(self, effects: Any) -> None:
        for effect in effects:
            if isinstance(effect, Remember):
                self.facts[effect.fact.topic, effect.fact.name] = effect.fact
            elif isinstance(effect, Report):
                self.outcomes.append((self.mono, effect.outcome.status))
            elif isinstance(effect, Inject):
                self.sent.append((self.mono, effect.action, json.loads(json.dumps(effect.payload))))
                if self.silent is None or effect.action != "SetChargingProfile":
                    self.answers(effect.token)
                else:
                    self.silent.append(effect.token)

    def answers(self, token: int) -> None:
        text = json.dumps([3, "o", answer(self.sent[-1][1])]).encode()
        self.take(self.injector.set_by(self.now))
        self.take(self.injector.answered(token, "answer", text, self.now))

    def does(self, question: str, *about: Any) -> None:
        """As `observer.Watching` asks."""
        self.take(self.injector.set_by(self.now))
        self.take(getattr(self.injector, question)(*about, self.now))

    def live(self) -> None:
        self.does("observe", StatusSeen(1, 1, "Charging", self.true))

    def waits(self, seconds: float) -> None:
        end = self.mono + seconds
        for _ in range(500):
            wake_at = self.injector.wake_at
            if wake_at is None or wake_at > end:
                break
            self.mono = max(self.mono, wake_at)
            self.does("tick")
        self.mono = end

    def orders(self, amps: float, seconds: float) -> None:
        """An operator's limit: it is on disk before it is told."""
        fact = OwnLimit(1, amps, self.now.wall, self.now.wall + seconds).fact()
        self.facts[fact.topic, fact.name] = fact
        self.does("steer", [fact])

    def plans(self, *limits: float, hours: float = 6.0, at: float | None = None) -> None:
        """The engine's; its clock is right, and so was ours when it came."""
        start = self.true if at is None else at
        steps = tuple(Step(start + 1800.0 * n, limit) for n, limit in enumerate(limits))
        self.does("wish", Schedule("plan", "asset", start, start + 3600.0 * hours, "A", steps))

    def leases(self) -> list[Lease]:
        return [lease for fact in self.facts.values() if (lease := lease_of(fact)) is not None]

    def ours(self) -> list[tuple[str, float, float]]:
        """What a restart would know: leases by the station's clock, operators' limits by ours, as if it were right."""
        own = [one for fact in self.facts.values() if (one := own_limit(fact)) is not None]
        found = [("lease", lease.begun + lease.skew, lease.until + lease.skew) for lease in self.leases()]
        return found + [("own", one.since - self.off, one.until - self.off) for one in own]


STEPS = st.sampled_from([DAY, -DAY, 7 * DAY, -30 * DAY, -NOON])
WAITS = st.sampled_from([0.0, 1.0, 7.0, 100.0, 400.0, 900.0, 1500.0])
Story = list[tuple[float, str, float | None]]
STORY = st.lists(st.tuples(WAITS, st.sampled_from(["", "live", "live", "reloads"]), st.none() | STEPS), max_size=12)


def told(story: Story, set_at_all: bool, own: bool) -> Box:
    box = Box()
    box.waits(20)
    box.plans(10.0, 16.0, 8.0, 20.0)
    if own:
        box.orders(9.0, 2500.0)
    for wait, what, step in story:
        box.waits(wait)
        if step is not None and set_at_all:
            box.off = step if box.off == 0.0 else 0.0
        box.does("tick")
        if what:
            getattr(box, what)()
    box.waits(60)
    box.does("tick")
    return box


@given(STORY, st.booleans())
def test_the_station_does_not_notice_and_a_restart_knows_the_same(story: Story, own: bool) -> None:
    as_it_is, never = told(story, True, own), told(story, False, own)
    assert as_it_is.sent == never.sent
    assert as_it_is.outcomes == never.outcomes
    assert as_it_is.ours() == never.ours()
    assert any(action == "SetChargingProfile" for _, action, _ in never.sent)


@given(st.lists(STEPS, max_size=3), st.floats(-50, 50))
def test_what_a_station_says_is_judged_by_the_clock_that_it_goes_by(steps: list[float], skew: float) -> None:
    box = Box()
    for step in steps:
        box.does("observe", StatusSeen(1, 1, "Charging", box.true + skew))
        box.off = step
        box.mono += 5.0
        box.does("tick")
        assert box.injector.believed(box.now) == Instant(box.mono, box.true), "though nothing came since"
    box.off = 0.0
    box.does("tick")
    assert box.injector.believed(box.now) == Instant(box.mono, box.true)


def test_a_station_that_told_no_time_is_judged_by_our_clock_as_it_is() -> None:
    box = Box(off=-DAY)
    box.does("tick")
    assert box.injector.believed(box.now) == box.now
    box.off = 0.0
    box.does("tick")
    assert box.injector.believed(box.now) == box.now, "the one that is nearer: it was put right"


def test_a_clock_that_is_put_right_begins_what_the_engine_planned_for_now() -> None:
    box = Box(off=-DAY)
    box.plans(10.0)
    box.waits(600)
    box.live()
    assert not any(action == "SetChargingProfile" for _, action, _ in box.sent), "it is for tomorrow, as far as we know"
    box.off = 0.0
    box.waits(120)
    box.live()
    assert [action for _, action, _ in box.sent][-1] == "SetChargingProfile"
    assert box.injector.explain()["1"]["sent"]["limit"] == 10.0


@pytest.mark.parametrize("noticed", [True, False])
def test_who_takes_over_in_mid_conversation_moves_nothing_twice(noticed: bool) -> None:
    """After a reload: it is made with the time of the link's opening, before our clock was set, and what the one before it wrote."""
    old = Box()
    old.waits(20)
    old.plans(10.0)
    stood = old.ours()
    old.off = DAY
    if noticed:
        old.does("tick")
    new = Box(facts=tuple(old.facts.values()))
    new.injector.inherit(True, old.injector)
    new.mono, new.off = old.mono, DAY
    new.does("tick")
    assert new.ours() == stood
    assert new.injector.believed(new.now) == Instant(new.mono, new.true)
    alone = Box()
    alone.injector.inherit(True, None)
    alone.off = DAY
    alone.plans(10.0)
    alone.waits(20)
    begun = [one for one in alone.ours() if one[0] == "lease"]
    alone.does("tick")
    assert begun == [one for one in alone.ours() if one[0] == "lease"]
    assert alone.injector.believed(alone.now) == alone.now, "nobody on this link knew another time"


def test_what_is_on_its_way_to_the_station_stands_there_as_long_as_it_says() -> None:
    def answered(off: float) -> Box:
        box = Box()
        box.waits(20)
        box.silent = []
        box.plans(10.0)
        (token,) = box.silent
        box.off, box.silent = off, None
        box.mono += 2.0
        box.answers(token)
        box.waits(2000)
        return box

    as_it_is, never = answered(DAY), answered(0.0)
    assert (as_it_is.sent, as_it_is.ours()) == (never.sent, never.ours())


@pytest.mark.parametrize("off", [DAY, -DAY])
def test_whether_a_limit_is_kept_is_judged_all_the_same(off: float) -> None:
    def judged(off: float) -> list[tuple[float, str]]:
        box = Box()
        box.waits(20)
        box.running = OpenTransaction("uid", 1, 1, box.true, "7")
        box.plans(10.0)
        box.waits(70)
        box.off = off
        for _ in range(2):
            box.waits(60)
            box.does("observe", Metered(1, (Reading(box.true, currents_a=(16.0, 16.0, 16.0)),)))
        return box.outcomes

    assert judged(off) == judged(0.0)
    assert "not-obeyed" in [status for _, status in judged(0.0)]


def test_what_has_no_end_begins_when_it_did() -> None:
    def told_of(off: float) -> Box:
        box = Box(fallback_amps=6.0, baseline="none")
        box.waits(100)
        assert "SetChargingProfile" in [action for _, action, _ in box.sent]
        box.off = off
        box.does("tick")
        box.waits(100)
        return box

    (as_it_is,), (never,) = told_of(DAY).leases(), told_of(0.0).leases()
    assert (as_it_is.until, never.until) == (FOREVER, FOREVER)
    assert as_it_is.in_station_time() == never.in_station_time()
    assert as_it_is.begun + as_it_is.skew == never.begun + never.skew


def test_less_than_some_seconds_are_drift() -> None:
    box = Box()
    box.waits(20)
    box.plans(10.0)
    sent, facts = len(box.sent), dict(box.facts)
    box.off = 4.0
    box.does("tick")
    box.off = 0.0
    box.does("tick")
    assert (len(box.sent), box.facts) == (sent, facts)


@pytest.mark.parametrize("own", [True, False])
def test_it_ends_by_the_time_that_passes(own: bool) -> None:
    """Neither is a limit kept beyond its lease by a clock that was set back."""
    box = Box()
    box.waits(20)
    if own:
        box.orders(9.0, 600.0)
    else:
        box.plans(10.0, hours=600 / 3600)
    assert box.sent[-1][1] == "SetChargingProfile"
    box.off = -DAY
    box.live()
    box.waits(590)
    assert "ClearChargingProfile" not in [action for _, action, _ in box.sent]
    box.waits(20)
    assert box.sent[-1][1] == "ClearChargingProfile"
    assert box.ours() == []


def test_a_lease_from_the_future_is_no_longer_than_a_lease_and_not_taken_for_sure() -> None:
    lease = Lease(11, 1, "max", 1, NOON + DAY + 900.0, "s", (Step(NOON + DAY, 8.0),), 20.0, (), NOON + DAY, sure=True)
    (fact,) = doubted([lease.fact()], NOON)
    assert lease_of(fact) == replace(lease, begun=NOON, until=NOON + 900.0, sure=False)
    box = Box(facts=(fact,))
    box.waits(20)
    box.plans(8.0)
    box.waits(60)
    assert "SetChargingProfile" in [action for _, action, _ in box.sent], "it is written again"
    last = Box(facts=(fact,))
    last.waits(900.0 + AFTER_S + 20.0)
    assert last.sent[-1][1] == "ClearChargingProfile"


def test_what_is_in_its_time_is_believed_as_it_was_written() -> None:
    lease = Lease(11, 1, "max", 1, NOON + 900.0, "s", (Step(NOON, 8.0),), 20.0, (), NOON, sure=True)
    endless = replace(lease, until=FOREVER, begun=NOON + DAY)
    facts = [lease.fact(), endless.fact(), lease.gone(), Fact("lease", "12", {"odd": 1}), Fact("boot", "boot", {})]
    assert doubted(facts, NOON) == facts
