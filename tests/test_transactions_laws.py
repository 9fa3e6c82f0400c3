"""The book of transactions after a restart: whenever it comes, the same is told as if it had not."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from broker.change import Change
from broker.model.basics import Instant, Key
from broker.model.observations import Boot, Metered, Observation, Reading, StatusSeen, TransactionSeen
from broker.model.records import Fact
from broker.ocpp.times import text
from broker.transactions import Transactions

KEY = Key("acme", "CS-7")
T = 1_767_225_600.0
PHASES = ("started", "updated", "ended")

# A moment as the station says it, against ours: on time, late, of a queue, ahead, a clock not set, unreadable.
moments = st.sampled_from([0.0, -1.0, -45.0, -4000.0, 20.0, -T, None])
tokens = st.sampled_from([None, "TAG", "OTHER"])


def _at(shift: float | None, now: float) -> dict[str, Any]:
    at = None if shift is None else now + shift
    return {"at": at, "at_text": "" if at is None else text(at)}


def _start(now: float, evse: int, id: str | None, shift: float | None, token: str | None, accepted: bool) -> Observation:
    return TransactionSeen(
        "started", id, evse, 1, id_token=token, accepted=accepted, meter_wh=100.0, **_at(shift, now - now % 200)
    )  # a moment said twice


def _stop(now: float, evse: int, id: str | None, shift: float | None, token: str | None, accepted: bool) -> Observation:
    return TransactionSeen("ended", id, None, None, meter_wh=900.0, reason="Local", **_at(shift, now))


def _event(now: float, evse: int, id: str | None, shift: float | None, token: str | None, accepted: bool) -> Observation:
    number = int(now - T) // 10
    return TransactionSeen(
        PHASES[number % 7 % 3],  # type: ignore[arg-type]
        f"x{id}",
        evse or None,
        1,
        id_token=token,
        seq_no=number % 5,
        offline=not accepted,
        charging_state=("Charging", "SuspendedEV", "Idle", None)[number % 4],
        phases=(None, 1, 3)[number % 3],
        **_at(shift, now),
    )


def _status(now: float, evse: int, id: str | None, shift: float | None, token: str | None, accepted: bool) -> Observation:
    status = ("Charging", "SuspendedEV", "SuspendedEVSE", "Finishing", "Available")[int(now - T) // 10 % 5]
    return StatusSeen(evse, 1, status, _at(shift, now)["at"])


def _meter(now: float, evse: int, id: str | None, shift: float | None, token: str | None, accepted: bool) -> Observation:
    return Metered(evse, (Reading(_at(shift, now)["at"], energy_wh=1.0),), id)


def _boot(now: float, evse: int, id: str | None, shift: float | None, token: str | None, accepted: bool) -> Observation:
    return Boot("Accepted" if accepted else "Pending")


said = st.tuples(
    st.sampled_from([_start, _stop, _event, _event, _status, _meter, _boot]),
    st.integers(0, 2),
    st.sampled_from(["7", "8", "-1", "0", None]),
    moments,
    tokens,
    st.booleans(),
    st.sampled_from([0, 10, 20, 70, 500]),
)


class Station:
    """A book, and the disk that its facts go to."""

    def __init__(self) -> None:
        self.book, self.disk = Transactions(KEY), dict[str, str]()

    def hears(self, seen: Observation, now: float) -> tuple[Change, ...]:
        changes = self.book.observe(seen, Instant(now - T, now))
        for fact in (fact for change in changes for fact in change.facts):
            self.disk.pop(fact.name, None)
            if fact.value is not None:
                self.disk[fact.name] = json.dumps(fact.value, allow_nan=False)
        return changes

    def restart(self, shuffle: Any) -> None:
        names = sorted(self.disk)
        shuffle.shuffle(names)
        self.book = Transactions(KEY, [Fact("transaction", name, json.loads(self.disk[name])) for name in names])


def _by_uid(changes: tuple[Change, ...]) -> list[Change]:
    """What one observation says of several transactions may be told in any order; of one, only in this."""
    return sorted(changes, key=lambda change: change.transaction.uid)


@given(st.lists(said, max_size=40), st.sets(st.integers(0, 39)), st.randoms(use_true_random=False))
@effort(max_examples=200, deadline=None)
def test_a_restart_at_any_moment_changes_nothing_of_what_is_told(talk: list[Any], restarts: set[int], shuffle: Any) -> None:
    steady, restarted = Station(), Station()
    now = T
    began: set[str] = set()
    for n, (what, evse, id, shift, token, accepted, wait) in enumerate(talk):
        now += wait
        if n in restarts:
            restarted.restart(shuffle)
        seen = what(now, evse, id, shift, token, accepted)
        changes = steady.hears(seen, now)
        assert _by_uid(restarted.hears(seen, now)) == _by_uid(changes)
        assert {t.uid for t in restarted.book.all} == {t.uid for t in steady.book.all}
        started = [change.transaction.uid for change in changes if change.state == "Started"]
        assert not began.intersection(started), "each begins once"
        began.update(started)


def test_an_id_used_again_is_told_once_also_if_its_start_is_sent_again() -> None:
    """No readable time, and a meter that says 0 at each start: all that tells two starts apart is the CPMS's id."""
    station = Station()
    for n, id in enumerate(("1", "2")):
        now = T + 600 * n
        start = TransactionSeen("started", id, 1, 1, None, "", "TAG", meter_wh=0.0)
        assert [change.state for change in station.hears(start, now)] == ["Started"]
        assert all(change.state is None for change in station.hears(start, now + 30))
        station.hears(TransactionSeen("ended", id, None, None, None, "", meter_wh=9.0), now + 60)
    assert station.book.all == ()


def test_a_transaction_is_found_by_what_ocpp_calls_it() -> None:
    station = Station()
    for evse, id in ((1, "-1"), (2, "17")):
        station.hears(TransactionSeen("started", id, evse, 1, T, text(T), "TAG", meter_wh=0.0), T)
    found = station.book.with_id("17")
    assert found is not None
    assert found.evse == 2
    assert station.book.with_id("-1") is None, "a name that many have is none"
    assert station.book.with_id("18") is None


def test_two_that_began_at_once_are_in_one_order_whatever_a_restart_finds_first() -> None:
    station = Station()
    for id in ("a", "b"):
        station.hears(TransactionSeen("updated", id, None, None, T, text(T), seq_no=1), T)
    facts = [Fact("transaction", name, json.loads(value)) for name, value in station.disk.items()]
    assert len(facts) == 2
    assert Transactions(KEY, facts).all == Transactions(KEY, facts[::-1]).all == station.book.all
