"""The book of transactions: what the engine hears of starts, changes and ends, however stations tell them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from broker.change import Change
from broker.model.basics import Instant, Key
from broker.model.observations import Boot, Metered, Observation, Reading, StatusSeen, TransactionSeen
from broker.model.records import Fact, OpenTransaction
from broker.ocpp.times import text
from broker.transactions import OPEN_MOST, Transactions

KEY = Key("acme", "CS-7")
T = 1_767_225_600.0


class Station:
    """Tells the book what a station would, at a moment of ours; keeps what a restart would find."""

    def __init__(self, key: Key = KEY) -> None:
        self.key, self.book = key, Transactions(key)
        self.disk: dict[tuple[str, str], Any] = {}

    def says(self, seen: Observation, now: float) -> tuple[Change, ...]:
        changes = self.book.observe(seen, Instant(now - T, now))
        for change in changes:
            for fact in change.facts:
                self.disk.pop((fact.topic, fact.name), None)
                if fact.value is not None:
                    self.disk[fact.topic, fact.name] = json.loads(json.dumps(fact.value))
        return changes

    def restart(self) -> None:
        before = set(self.book.all)
        self.book = Transactions(self.key, [Fact(*at, self.disk[at]) for at in sorted(self.disk)])
        assert set(self.book.all) == before

    # 1.6

    def start(
        self, at: float, evse: int = 1, id: str | None = "17", tag: str = "TAG", meter: float = 100, **more: Any
    ) -> tuple[Change, ...]:
        now = more.pop("now", at)
        seen = TransactionSeen("started", id, evse, 1, at, text(at), tag, meter_wh=meter, **more)
        return self.says(seen, now)

    def stop(self, at: float, id: str | None = "17", meter: float = 900, **more: Any) -> tuple[Change, ...]:
        return self.says(TransactionSeen("ended", id, None, None, at, text(at), meter_wh=meter, reason="Local", **more), at)

    def status(self, status: str, at: float, evse: int = 1, now: float | None = None) -> tuple[Change, ...]:
        return self.says(StatusSeen(evse, 1, status, at), now or at)

    # 2.x

    def event(
        self, phase: Any, seq: int, at: float, id: str = "abc", evse: int | None = 1, now: float | None = None, **more: Any
    ) -> tuple[Change, ...]:
        connector = None if evse is None else 1
        return self.says(TransactionSeen(phase, id, evse, connector, at, text(at), seq_no=seq, **more), now or at)


@pytest.fixture
def station() -> Station:
    return Station()


def states(changes: tuple[Change, ...]) -> list[str | None]:
    return [change.state for change in changes]


def test_of_two_that_are_called_alike_the_newest_is_meant(station: Station) -> None:
    station.start(T, evse=1)
    station.start(T + 60, evse=2)
    found = station.book.with_id("17")
    assert found is not None
    assert (found.evse, found.started_at) == (2, T + 60)
    assert station.book.with_id("18") is None


# ---------------------------------------------------------------- 1.6: starts and stops


def test_a_start_and_its_stop(station: Station) -> None:
    (began,) = station.start(T)
    assert (began.state, began.at, began.stopped_at, began.identified) == ("Started", T, None, True)
    assert began.reading == Reading(T, energy_wh=100, context="Transaction.Begin")
    running = began.transaction
    assert (running.evse, running.connector, running.started_at, running.ocpp_id) == (1, 1, T, "17")
    assert (running.id_token, running.meter_start_wh, running.live) == ("TAG", 100, True)
    assert UUID(running.uid).version == 5
    assert station.book.open_on(1) == running
    (over,) = station.stop(T + 60)
    assert (over.state, over.at, over.stopped_at, over.identified) == ("Ended", T + 60, T + 60, False)
    assert over.transaction.uid == running.uid
    assert over.reading == Reading(T + 60, energy_wh=900, context="Transaction.End")
    assert station.book.all == ()
    assert Fact("transaction", running.uid, None) in over.facts


def test_a_start_sent_again_is_one_transaction(station: Station) -> None:
    (began,) = station.start(T)
    (again,) = station.start(T, now=T + 90)
    assert (again.state, again.identified, again.facts) == (None, False, ())
    assert [t.uid for t in station.book.all] == [began.transaction.uid]


def test_a_start_sent_again_may_be_given_another_id(station: Station) -> None:
    station.start(T)
    station.start(T, id="18")
    station.restart()
    assert station.stop(T + 1, id="17") == ()
    assert states(station.stop(T + 1, id="18")) == ["Ended"]


@pytest.mark.parametrize("more", [{"evse": 2}, {"tag": "OTHER"}, {"meter": 101}, {"at": T + 1}])
def test_what_differs_is_another_transaction(station: Station, more: dict[str, Any]) -> None:
    (first,) = station.start(T)
    second = station.start(**{"at": T, "id": "18", **more})[-1]
    assert second.state == "Started"
    assert second.transaction.uid != first.transaction.uid


def test_ids_are_the_same_after_a_restart_and_nobody_elses(station: Station) -> None:
    uid = station.start(T)[0].transaction.uid
    assert Station().start(T)[0].transaction.uid == uid
    assert Station().start(T, meter=100.0)[0].transaction.uid == uid
    assert Station(Key("acme", "CS-8")).start(T)[0].transaction.uid != uid
    assert Station(Key("zeta", "CS-7")).start(T)[0].transaction.uid != uid


def test_a_second_start_ends_what_never_stopped(station: Station) -> None:
    (first,) = station.start(T)
    over, began = station.start(T + 600, id="18")
    assert (over.state, over.stopped_at, over.transaction.uid) == ("Ended", T + 600, first.transaction.uid)
    assert (began.state, began.transaction.ocpp_id) == ("Started", "18")
    assert [t.ocpp_id for t in station.book.all] == ["18"]


def test_other_connectors_charge_on(station: Station) -> None:
    station.start(T)
    assert states(station.start(T + 1, evse=2, id="18")) == ["Started"]
    assert [t.ocpp_id for t in station.book.all] == ["17", "18"]


def test_a_clock_that_went_back_does_not_keep_the_old_one(station: Station) -> None:
    station.start(T)
    over, _ = station.start(T - 7200, id="18", now=T + 60)
    assert (over.state, over.stopped_at) == ("Ended", T), "never before its start"


def test_a_stop_for_one_that_began_before_us_is_passed_over(station: Station) -> None:
    station.start(T)
    assert station.stop(T + 1, id="16") == ()
    assert len(station.book.all) == 1


@pytest.mark.parametrize("start", ["-1", "0", "9223372036854775807", None])
@pytest.mark.parametrize("stop", ["-1", "0", "9223372036854775807", None])
def test_an_id_that_means_nothing_is_the_only_one_open_without(station: Station, start: str | None, stop: str | None) -> None:
    station.start(T, evse=2, id="17")
    station.start(T, id=start)
    (over,) = station.stop(T + 60, id=stop)
    assert (over.state, over.transaction.evse) == ("Ended", 1)
    assert station.stop(T + 61, id=stop) == ()
    assert [t.ocpp_id for t in station.book.all] == ["17"]


def test_with_two_that_have_no_id_a_stop_is_nobodys(station: Station) -> None:
    station.start(T, id="-1")
    station.start(T, id="-1", evse=2)
    assert station.stop(T + 60, id="-1") == ()
    assert len(station.book.all) == 2


def test_a_refused_driver_is_nobodys_driver(station: Station) -> None:
    (began,) = station.start(T, accepted=False)
    assert (began.state, began.identified, began.transaction.id_token) == ("Started", False, None)
    assert states(station.stop(T + 5)) == ["Ended"]


@pytest.mark.parametrize("wrong", [None, 3600.0, T + 90_000])
def test_a_time_that_cannot_be_meant_is_ours(station: Station, wrong: float | None) -> None:
    (began,) = station.says(TransactionSeen("started", "17", 1, 1, wrong, "x", "TAG", meter_wh=1), T)
    assert began.transaction.started_at == T
    assert not began.transaction.live, "whether it runs now is not known"


def test_meter_history_comes_with_the_stop(station: Station) -> None:
    station.start(T, evse=2)
    history = (Reading(T + 10, energy_wh=200), Reading(T + 20, energy_wh=300))
    (over,) = station.stop(T + 30, readings=history)
    assert over.readings[:2] == history
    assert over.readings[2].energy_wh == 900
    assert over.transaction.evse == 2


def test_what_is_open_is_bounded(station: Station) -> None:
    for n in range(OPEN_MOST + 3):
        changes = station.start(T + n, evse=n + 1, id=str(n))
        assert states(changes) == (["Started"] if n < OPEN_MOST else ["Ended", "Started"])
    assert len(station.book.all) == OPEN_MOST
    assert station.book.all[0].ocpp_id == "3"


# ---------------------------------------------------------------- 1.6: statuses


def test_the_cars_pause_and_ours(station: Station) -> None:
    station.start(T)
    told = [
        states(station.status(status, T + n))
        for n, status in enumerate(
            ["Charging", "SuspendedEV", "SuspendedEV", "Charging", "SuspendedEVSE", "SuspendedEVSE", "SuspendedEV", "Charging"], 1
        )
    ]
    assert told == [[], ["SuspendedEV"], [], ["Updated"], ["Updated"], [], ["SuspendedEV"], ["Updated"]]
    assert station.book.all[0].state == "Updated"
    station.status("SuspendedEV", T + 9)
    assert station.book.all[0].state == "SuspendedEV"


def test_a_pause_is_known_after_a_restart(station: Station) -> None:
    station.start(T)
    station.status("SuspendedEVSE", T + 1)
    station.restart()
    assert station.status("SuspendedEVSE", T + 2) == ()
    assert states(station.status("Charging", T + 3)) == ["Updated"]


@pytest.mark.parametrize("status", ["Preparing", "Finishing", "Reserved", "Unavailable", "Faulted", "Occupied", "Tomorrow"])
def test_other_statuses_change_nothing(station: Station, status: str) -> None:
    station.start(T)
    assert station.status(status, T + 1) == ()


def test_a_status_of_elsewhere_or_of_before_changes_nothing(station: Station) -> None:
    station.start(T)
    for evse, at in ((0, T + 1), (2, T + 1), (1, T - 3)):
        assert station.status("Available", at, evse, now=T + 2) == ()
        assert station.status("SuspendedEV", at, evse, now=T + 2) == ()


def test_a_status_of_two_seconds_before_is_of_the_same_moment(station: Station) -> None:
    station.start(T)
    assert states(station.status("Available", T - 2, now=T + 2)) == ["Ended"]


def test_available_ends_what_never_stopped_and_its_late_stop_is_a_repeat(station: Station) -> None:
    (began,) = station.start(T, evse=2)
    (over,) = station.status("Available", T + 60, 2)
    assert (over.state, over.stopped_at) == ("Ended", T + 60)
    station.restart()
    (late,) = station.stop(T + 50)
    assert (late.state, late.facts, late.transaction.evse) == (None, (), 2), "only what the meter said"
    assert late.transaction.uid == began.transaction.uid
    assert late.reading is not None
    assert late.reading.energy_wh == 900
    assert station.book.all == ()


def test_a_start_that_ended_is_not_begun_again(station: Station) -> None:
    station.start(T)
    station.stop(T + 60)
    station.restart()
    assert states(station.start(T, now=T + 70)) == [None]
    assert station.book.all == ()


def test_a_status_without_a_time_is_of_now(station: Station) -> None:
    station.start(T)
    (over,) = station.says(StatusSeen(1, 1, "Available"), T + 9)
    assert (over.state, over.at) == ("Ended", T + 9)


# ---------------------------------------------------------------- 2.x


def test_a_transaction_from_event_to_event(station: Station) -> None:
    (began,) = station.event("started", 0, T, charging_state="EVConnected")
    assert (began.state, began.identified, began.readings) == ("Started", False, ())
    (driver,) = station.event("updated", 1, T + 5, evse=None, id_token="TAG", charging_state="EVConnected")
    assert (driver.state, driver.identified, driver.transaction.id_token) == ("Updated", True, "TAG")
    (flows,) = station.event("updated", 2, T + 9, evse=None, charging_state="Charging", phases=3)
    assert (flows.state, flows.identified, flows.transaction.phases) == ("Updated", False, 3)
    meter = Reading(T + 60, energy_wh=5.0)
    (meters,) = station.event("updated", 3, T + 60, evse=None, readings=(meter,), charging_state="Charging")
    assert (meters.state, meters.reading, meters.transaction.evse) == (None, meter, 1)
    assert states(station.event("updated", 4, T + 70, evse=None, charging_state="SuspendedEVSE")) == ["Updated"]
    assert states(station.event("updated", 5, T + 71, evse=None, charging_state="SuspendedEV")) == ["SuspendedEV"]
    assert states(station.event("updated", 6, T + 72, evse=None, charging_state="SuspendedEV", phases=1)) == ["SuspendedEV"]
    assert states(station.event("updated", 7, T + 80, evse=None, charging_state="Charging")) == ["Updated"]
    (over,) = station.event("ended", 8, T + 90, evse=None, charging_state="Idle", id_token="OTHER", readings=(meter,))
    assert (over.state, over.stopped_at, over.transaction.id_token, over.reading) == ("Ended", T + 90, "TAG", meter)


def test_two_evses_of_a_station_charge_at_once(station: Station) -> None:
    station.event("started", 0, T, "a", 1)
    station.event("started", 0, T, "b", 2)
    assert [station.book.open_on(n) is not None for n in (0, 1, 2, 3)] == [False, True, True, False]
    (over,) = station.event("ended", 1, T + 1, "a", None)
    assert over.transaction.evse == 1


def test_a_start_without_an_evse_is_told_once_that_is_known(station: Station) -> None:
    (quiet,) = station.event("started", 0, T, evse=None, id_token="TAG")
    assert (quiet.state, quiet.identified, quiet.transaction.evse) == (None, False, 0)
    station.restart()
    (began,) = station.event("updated", 1, T + 5, evse=2, charging_state="EVConnected")
    assert (began.state, began.at, began.identified, began.transaction.evse) == ("Started", T, True, 2)


def test_a_transaction_that_never_had_an_evse_is_never_told(station: Station) -> None:
    station.event("started", 0, T, evse=None, id_token="TAG")
    (over,) = station.event("ended", 1, T + 5, evse=None)
    assert over.state is None
    assert station.book.all == ()


def test_an_end_may_be_what_says_where(station: Station) -> None:
    station.event("started", 0, T, evse=None, id_token="TAG")
    changes = station.event("ended", 1, T + 5, evse=2)
    assert [(change.state, change.identified) for change in changes] == [("Started", True), ("Ended", False)]


def test_whoever_stops_is_not_who_charged(station: Station) -> None:
    station.event("started", 0, T)
    (over,) = station.event("ended", 1, T + 5, id_token="STOPS")
    assert (over.state, over.identified, over.transaction.id_token) == ("Ended", False, None)


def test_an_event_without_its_start_opens_the_transaction(station: Station) -> None:
    changes = station.event("updated", 4, T, charging_state="SuspendedEV", id_token="TAG")
    assert [(change.state, change.identified) for change in changes] == [("Started", True), ("SuspendedEV", False)]
    (late,) = station.event("started", 0, T - 30, now=T + 1, meter_wh=7.0, charging_state="Charging")
    assert (late.state, late.transaction.started_at, late.transaction.meter_start_wh) == ("SuspendedEV", T - 30, 7.0)
    assert late.transaction.seq_no == 4


def test_what_is_late_changes_no_state_but_says_who_and_how_much(station: Station) -> None:
    station.event("started", 0, T)
    station.event("updated", 5, T + 50, charging_state="Charging")
    meter = (Reading(T + 20, energy_wh=1.0),)
    (late,) = station.event("updated", 2, T + 20, charging_state="SuspendedEV", phases=1, readings=meter)
    assert (late.state, late.readings, late.transaction.phases) == (None, meter, None)
    (who,) = station.event("updated", 3, T + 30, id_token="TAG")
    assert (who.state, who.identified) == ("Updated", True)
    assert station.event("updated", 5, T + 50, charging_state="SuspendedEV") == (), "sent again"


def test_after_the_end_nothing_begins(station: Station) -> None:
    station.event("started", 0, T)
    station.event("ended", 9, T + 90)
    station.restart()
    meter = (Reading(T + 20, energy_wh=1.0),)
    assert station.event("updated", 5, T + 50, charging_state="Charging") == ()
    assert station.event("started", 0, T, now=T + 95) == ()
    assert station.event("ended", 9, T + 90) == ()
    (late,) = station.event("updated", 6, T + 50, evse=None, readings=meter)
    assert (late.state, late.transaction.evse, late.readings) == (None, 1, meter)
    assert station.book.all == ()


def test_an_end_that_overtook_its_start_is_told_with_it(station: Station) -> None:
    (early,) = station.event("ended", 9, T + 90)
    assert early.state is None
    station.restart()
    assert station.event("updated", 5, T + 50) == ()
    began, over = station.event("started", 0, T, now=T + 95, id_token="TAG")
    assert [began.state, over.state, over.stopped_at] == ["Started", "Ended", T + 90]
    assert began.identified
    assert station.event("started", 0, T, now=T + 99) == ()
    assert station.book.all == ()


def test_a_late_older_transaction_does_not_end_the_newer(station: Station) -> None:
    station.event("started", 0, T + 600, "new")
    assert states(station.event("started", 0, T, "old", now=T + 601)) == ["Started"]
    running = station.book.open_on(1)
    assert running is not None
    assert running.ocpp_id == "new"
    (over,) = station.event("ended", 3, T + 500, "old", now=T + 602)
    assert (over.state, over.stopped_at) == ("Ended", T + 500)
    assert states(station.event("started", 0, T + 900, "newest")) == ["Ended", "Started"]


def test_available_does_not_end_a_transaction_of_2x(station: Station) -> None:
    station.event("started", 0, T)
    assert station.status("Available", T + 1) == ()


def test_a_boot_may_count_from_zero_again(station: Station) -> None:
    station.event("started", 7, T)
    station.says(Boot("Accepted"), T + 10)
    station.restart()
    assert states(station.event("updated", 0, T + 20, charging_state="Charging")) == ["Updated"]


@pytest.mark.parametrize("status", ["Pending", "Rejected", ""])
def test_a_boot_that_was_not_accepted_counts_on(station: Station, status: str) -> None:
    station.event("started", 7, T)
    assert station.says(Boot(status), T + 10) == ()
    assert states(station.event("updated", 0, T + 20, charging_state="Charging")) != ["Updated"]


def test_a_boot_says_nothing_of_1_6(station: Station) -> None:
    station.start(T)
    assert station.says(Boot("Accepted"), T + 1) == ()


def test_an_id_used_again_is_another_transaction(station: Station) -> None:
    uids = []
    for n in range(3):
        (began,) = station.event("started", 0, T + n * 600, "1")
        assert began.state == "Started"
        assert station.event("started", 0, T + n * 600, "1") == (), "sent again"
        (over,) = station.event("ended", 1, T + n * 600 + 300, "1")
        assert over.transaction.uid == began.transaction.uid
        assert station.event("ended", 1, T + n * 600 + 300, "1") == (), "sent again"
        uids.append(began.transaction.uid)
    assert len(set(uids)) == 3


def test_a_start_that_cannot_be_told_from_an_ended_one_is_begun_once(station: Station) -> None:
    """No time, and a meter that says 0 at each start: only the CPMS's id is new."""
    for n, id in enumerate(("1", "2")):
        seen = TransactionSeen("started", id, 1, 1, None, "", "TAG", meter_wh=0.0)
        assert states(station.says(seen, T + 600 * n)) == ["Started"]
        station.restart()
        assert states(station.says(seen, T + 600 * n + 30)) == [None], "sent again"
        assert states(station.says(TransactionSeen("ended", id, None, None, None, ""), T + 600 * n + 60)) == ["Ended"]
    assert station.book.all == ()


def test_ends_are_remembered_within_bounds(station: Station) -> None:
    for n in range(36):
        station.event("started", 0, T + n, str(n))
        station.event("ended", 1, T + n, str(n))
    assert len(station.disk["transaction", "ended"]) == 32


# ---------------------------------------------------------------- does it run now?


def old(station: Station, **more: Any) -> OpenTransaction:
    (began,) = station.start(T - 301, now=T, **more)
    assert not began.transaction.live
    return began.transaction


@pytest.mark.parametrize(
    ("seen", "live"),
    [
        (Metered(1, (Reading(T - 5, power_w=1.0),)), True),
        (Metered(1, (Reading(T - 900, power_w=1.0), Reading(T - 5, power_w=1.0)), "17"), True),
        (Metered(1, (Reading(T - 5, power_w=1.0),), "-1"), True),
        (Metered(1, (Reading(T - 301, power_w=1.0),)), False),
        (Metered(1, (Reading(T + 301, power_w=1.0),)), False),
        (Metered(1, (Reading(None, power_w=1.0),)), False),
        (Metered(1, (Reading(T - 5, context="Transaction.End"),)), False),
        (Metered(1, (Reading(T - 5, power_w=1.0),), "16"), False),
        (Metered(2, (Reading(T - 5, power_w=1.0),)), False),
        (Metered(0, (Reading(T - 5, power_w=1.0),)), False),
        (StatusSeen(1, 1, "Charging", T - 5), True),
        (StatusSeen(1, 1, "SuspendedEV", T - 5), True),
        (StatusSeen(1, 1, "SuspendedEVSE", None), True),
        (StatusSeen(1, 1, "Charging", T - 301), False),
        (StatusSeen(1, 1, "Finishing", T - 5), False),
    ],
)
def test_what_shows_that_an_old_start_runs(station: Station, seen: Observation, live: bool) -> None:
    old(station)
    changes = station.says(seen, T)
    station.restart()
    assert [t.live for t in station.book.all] == [live]
    if isinstance(seen, Metered):
        assert states(changes) == ([None] if live else []), "the engine is not told"


@pytest.mark.parametrize(("at", "offline", "live"), [(T, False, True), (T, True, False), (T - 301, False, False), (T - 299, False, True)])
def test_which_events_show_that_it_runs(station: Station, at: float, offline: bool, live: bool) -> None:
    station.event("started", 0, T - 900, offline=True)
    assert not station.book.all[0].live
    station.event("updated", 1, at, offline=offline, now=T)
    assert station.book.all[0].live is live


def test_meter_values_of_a_running_transaction_are_nothing_new(station: Station) -> None:
    station.start(T)
    assert station.says(Metered(1, (Reading(T + 5, power_w=1.0),)), T + 5) == ()


# ---------------------------------------------------------------- what a restart must know


def test_facts_of_others_and_of_other_versions_are_passed_over() -> None:
    uid = "u"
    good = {**asdict(OpenTransaction(uid, 1, 1, T)), "charging": "Charging", "tomorrow": 1}
    facts = [
        Fact("lease", "x", {"evse": 1}),
        Fact("transaction", "bad", {"evse": 1}),
        Fact("transaction", "none", None),
        Fact("transaction", "list", [1]),
        Fact("transaction", "ended", {"y": [1]}),
        Fact("transaction", uid, good),
    ]
    assert [t.uid for t in Transactions(KEY, facts).all] == [uid]


def test_a_driver_is_in_no_repr(station: Station) -> None:
    station.start(T, tag="SECRET")
    changes = station.stop(T + 1) + station.start(T + 2, tag="SECRET", id="18")
    assert "SECRET" not in repr(changes)


# ---------------------------------------------------------------- the laws

talk = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(1, 2), st.sampled_from(["7", "8", "9", "-1"]), st.integers(0, 3)),
        st.tuples(st.just("stop"), st.just(0), st.sampled_from(["7", "8", "9", "-1"]), st.integers(0, 3)),
        st.tuples(st.just("status"), st.integers(0, 2), st.sampled_from(["Available", "Charging", "SuspendedEV"]), st.integers(0, 3)),
        st.tuples(st.sampled_from(["started", "updated", "ended"]), st.integers(0, 2), st.sampled_from(["a", "b", "c"]), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.just(0), st.just(""), st.just(0)),
        st.tuples(st.just("boot"), st.just(0), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@given(talk, st.booleans())
@effort(max_examples=200, deadline=None)
def test_every_story_begins_once_ends_once_and_is_told_in_order(talk: list[tuple[Any, int, str, int]], ticking: bool) -> None:
    station, now = Station(), T
    told: dict[str, list[str]] = {}
    identified: list[str] = []
    for what, evse, text_, number in talk:
        now += 10.0 if ticking else 0.0
        at = now - 7 * number
        if what == "start":
            changes = station.start(at, evse, text_, tag=f"T{number}")
        elif what == "stop":
            changes = station.stop(at, text_)
        elif what == "status":
            changes = station.status(text_, at, evse)
        elif what == "restart":
            station.restart()
            continue
        elif what == "boot":
            changes = station.says(Boot("Accepted"), now)
        else:
            token = f"T{number}" if number % 3 == 0 else None
            changes = station.event(what, number, at, text_, evse or None, now=now, id_token=token)
        for change in changes:
            transaction = change.transaction
            if change.state is not None:
                assert transaction.evse > 0, "the engine is told of places only"
                told.setdefault(transaction.uid, []).append(change.state)
                assert change.at >= transaction.started_at
            assert (change.stopped_at is not None) == (change.state == "Ended")
            if change.identified:
                assert transaction.id_token
                identified.append(transaction.uid)
    for uid, story in told.items():
        assert story.count("Started") == 1
        assert story[0] == "Started"
        assert story.count("Ended") == (0 if uid in {t.uid for t in station.book.all} else 1), "no end of a known one is lost"
        assert "Ended" not in story[:-1]
    assert len(identified) == len(set(identified))
    station.restart()


def test_of_two_on_one_socket_the_later_one_runs_whatever_order_they_are_found_in() -> None:
    def found(*known: OpenTransaction) -> Transactions:
        facts = [Fact("transaction", one.uid, asdict(one)) for one in known]
        return Transactions(Key("acme", "CS"), facts)

    early, late, twin = (OpenTransaction(uid, 1, 1, at) for uid, at in (("b", 100.0), ("c", 200.0), ("a", 200.0)))
    assert found(early, late).open_on(1) == found(late, early).open_on(1) == late
    assert found(late, twin, early).open_on(1) == found(twin, late).open_on(1) == twin, "as in `all`, the first of two that began together"
    assert found(late).open_on(2) is None
    assert found(OpenTransaction("x", 0, 1, 5.0)).open_on(0) is None, "nobody charges at the whole station"
