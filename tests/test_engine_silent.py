"""An engine that dies while its limits stand: they end within a lease of its last word, and are there again when it is back."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_injector import CLEAR, KEYS, SET, Talk, capability
from test_injector_laws import OURS, Does, World, deeds, orders, versions
from test_steering import Steering

from broker.model.schedules import Schedule, Step
from broker.profiles.shape import AFTER_S
from broker.sim.composite import Running, allowed

LEASE_S = 900.0
POLL_S = 56.0  # how old the last answer of a healthy engine is, at most


class Alone(Talk):
    """An engine that was heard at `heard`."""

    heard: float | None = 1000.0

    def engine_heard(self) -> float | None:
        return self.heard


class Steered(Steering):
    heard: float | None = 1000.0

    def engine_heard(self) -> float | None:
        return self.heard


def limited(talk: Talk, amps: float = 16.0) -> Talk:
    """The engine wants it for hours, and was heard when the link opened, eleven seconds ago."""
    talk.live()
    talk.wants("s1", amps, valid_s=20_000.0)
    assert talk.waits(11) == ["GetConfiguration"]
    assert talk.hears(KEYS) == [SET]
    return talk


def test_a_limit_ends_a_lease_after_the_engines_last_word_and_not_after_ours() -> None:
    talk = limited(Alone(baseline="none"))
    assert talk.limits == [(0, 16.0), (60 - 11 + 900, 32.0)]


def test_an_engine_that_dies_is_outlived_by_its_limit_for_a_lease_at_most_and_then_it_is_cleared() -> None:
    talk = limited(Alone(baseline="none"))
    talk.accepts()
    assert talk.waits(888) == []
    assert talk.waits(2) == ["s1 lapsed engine-silent", CLEAR]
    assert talk.accepts() == []
    assert talk.waits(3600) == []
    assert (talk.leases(), talk.injector.explain()["1"]["why"]) == ([], "engine-silent")


def test_when_it_is_heard_again_its_plan_holds_again() -> None:
    talk = limited(Alone(baseline="none"))
    talk.accepts()
    talk.waits(1000)
    talk.accepts()
    assert isinstance(talk, Alone)
    assert talk.injector.wake_at is not None
    assert talk.injector.wake_at == talk.now.mono + 60, "nobody wakes it when the engine is back"
    talk.heard = talk.now.mono
    assert talk.waits(61) == [SET]
    assert talk.accepts() == ["s1 accepted"]


def test_a_short_outage_is_not_felt() -> None:
    talk = limited(Alone(baseline="none"))
    talk.accepts()
    assert isinstance(talk, Alone)
    assert talk.waits(620) == []
    talk.heard = talk.now.mono
    assert talk.waits(61) == [SET]
    assert talk.accepts() == []  # the engine heard of it already


def test_an_engine_that_is_heard_has_its_limit_renewed() -> None:
    talk = limited(Alone(baseline="none"))
    talk.accepts()
    assert isinstance(talk, Alone)
    renewals = 0
    for _ in range(120):
        talk.heard = talk.now.mono
        said = talk.waits(50)
        if said:
            assert said == [SET]
            renewals += 1
            talk.accepts()
    assert 8 <= renewals <= 11  # in 6000 s, every two thirds of 900 s or a little earlier


def test_of_an_engine_that_was_never_heard_nothing_is_sent() -> None:
    talk = Alone(baseline="none")
    talk.heard = None
    talk.live()
    assert talk.wants("s1", 16.0) == []
    assert talk.waits(11) == ["s1 not-sent engine-silent"]
    assert talk.waits(900) == []
    talk.heard = talk.now.mono
    assert talk.waits(60) == ["GetConfiguration"]


def test_a_plan_for_later_is_given_up_in_time_though_nothing_else_wakes_it() -> None:
    talk = Alone(baseline="none", facts=(capability(),))
    talk.live()
    talk.waits(11)
    later = Schedule("s1", "asset-1", talk.now.wall, talk.now.wall + 20_000, "A", (Step(talk.now.wall + 10_000, 10.0),))
    assert talk.take(talk.injector.wish(later, talk.now)) == []
    assert talk.injector.wake_at == 1000.0 + 600.0
    assert talk.waits(588) == []
    assert talk.waits(2) == ["s1 not-sent engine-silent"], "two thirds of a lease after its last word"


def test_what_it_said_before_the_settings_changed_still_counts() -> None:
    talk = limited(Alone(baseline="none"))
    talk.accepts()
    assert isinstance(talk, Alone)
    talk.heard = None
    assert talk.waits(61) == []
    assert talk.wants("s2", 10.0, valid_s=20_000.0) == [SET]
    assert talk.accepts() == ["s2 accepted"]
    assert talk.waits(700) == []
    assert talk.waits(200) == ["s2 lapsed engine-silent", CLEAR]


def test_an_operators_limit_needs_no_engine_and_the_engines_part_in_it_does() -> None:
    talk = Steered(baseline="none")
    limited(talk)
    assert talk.accepts() == ["s1 accepted"]
    talk.waits(61)
    assert talk.operator(20.0, for_s=6000.0) == ["s1 accepted unchanged"]  # the engine wants less
    assert {limit for _, limit in _limits_of(talk)} == {16.0}
    said = talk.waits(700)
    assert SET in said, "without the engine the operator's alone holds"
    assert talk.limits[0][1] == 20.0
    talk.accepts()
    said = talk.waits(2000)
    assert said == [SET], "and is renewed, though nobody hears the engine"
    talk.accepts()


def _limits_of(talk: Talk) -> list[tuple[float, float]]:
    return [(step[0], step[1]) for fact in talk.facts.values() if fact.topic == "lease" and fact.value for step in fact.value["steps"]]


class Mortal(World):
    """Its engine dies and comes back; while it lives it was heard within `POLL_S`."""

    died: float | None = None

    def engine_heard(self) -> float | None:
        return self.now.mono - POLL_S if self.died is None else self.died

    def engine_dies(self, deed: Does) -> None:
        self.died = self.now.mono - POLL_S * deed.a / 3 if self.died is None else self.died

    def engine_returns(self, deed: Does) -> None:
        self.died = None

    def wish(self, deed: Does) -> None:
        if self.died is None:  # the dead want nothing
            super().wish(Does("wish", deed.a, deed.b + 12, deed.c))

    def check(self) -> None:
        """From a lease after its last word on: the CPMS's own state, or the tail, which gives just that."""
        super().check()
        heard = self.engine_heard()
        assert heard is not None
        ends = self.now.wall + heard - self.now.mono + LEASE_S
        for number, socket in self.sockets.items():
            t = self.open.get(number)
            running = Running(t.ocpp_id or "", t.started_at) if t is not None else None
            for after in (0.0, 1.0, 200.0, 299.0, AFTER_S + 1, 4000.0):
                at = max(self.now.wall, ends + after)
                found = allowed(self.held.profiles, socket, at, running)
                if found.by is not None and found.by.id in OURS:
                    assert at <= ends + AFTER_S, "it stands for longer than a lease after the engine's last word"
                    assert found.amps == found.by.periods[-1].limit, "it is not the tail"


stories = st.lists(
    st.one_of(
        deeds,
        deeds,
        st.builds(Does, st.sampled_from(["engine-dies", "engine-dies", "engine-returns"]), st.integers(0, 3)),
        st.builds(Does, st.just("wait"), c=st.sampled_from([300.0, 900.0])),
    ),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(versions, st.sampled_from(["ask", "none", "seen"]), orders, st.integers(1, 2), stories)
def test_a_dead_engine_is_outlived_for_a_lease_at_most(version: str, baseline: Any, purposes: Any, evses: int, story: list[Does]) -> None:
    world = Mortal(version, baseline, purposes, evses)
    for deed in (Does("plug"), Does("wish", 0, 5, 16.0), Does("wait", c=11.0), *story):
        world.play(deed)


def test_the_mortal_world_itself_works() -> None:
    world = Mortal("ocpp1.6", "none", ("max",), 1)
    for deed in (Does("wish", 0, 5, 16.0), Does("wait", c=11.0)):
        world.play(deed)
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).amps == 16.0
    for deed in (Does("engine-dies", 3), Does("wait", c=860.0)):
        world.play(deed)
    assert allowed(world.held.profiles, world.sockets[1], world.now.wall, None).by is None
    for deed in (Does("engine-returns"), Does("wait", c=61.0)):
        world.play(deed)
    assert [one.id in OURS for one in world.held.profiles] == [True]
