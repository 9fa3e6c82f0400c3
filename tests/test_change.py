"""What one event says of a transaction, without a book."""

from __future__ import annotations

from broker.change import AHEAD_S, FRESH_S, FUTURE_S, LAST, Gone, fresh, happened, learned, moment, proves, readings, too_late
from broker.model.basics import Instant
from broker.model.observations import Reading, TransactionSeen
from broker.model.records import OpenTransaction

NOW = Instant(10.0, 1_800_000_000.0)


def seen(**said: object) -> TransactionSeen:
    known: dict[str, object] = {"phase": "updated", "transaction_id": "t", "evse": 1, "connector": 1, "at": NOW.wall, "at_text": "now"}
    return TransactionSeen(**{**known, **said})  # type: ignore[arg-type]


def test_a_stations_time_counts_unless_it_cannot_be_meant() -> None:
    assert moment(NOW.wall - 5, NOW) == NOW.wall - 5
    assert [moment(at, NOW) for at in (None, 0.0, NOW.wall + FUTURE_S + 1)] == [NOW.wall] * 3
    assert (fresh(NOW.wall - FRESH_S, NOW), fresh(NOW.wall - FRESH_S - 1, NOW), fresh(None, NOW)) == (True, False, False)


def test_nothing_is_told_as_having_happened_ahead_of_us() -> None:
    assert [happened(NOW.wall + ahead, NOW) - NOW.wall for ahead in (-3600, 0, AHEAD_S, AHEAD_S + 1, 8 * 3600)] == [-3600, 0, AHEAD_S, 0, 0]


def test_a_box_that_does_not_know_the_time_believes_the_station() -> None:
    """Without a clock of its own it begins in 1970: everything that was told would have begun then."""
    unset = Instant(10.0, 50.0)
    assert moment(NOW.wall, unset) == happened(NOW.wall, unset) == NOW.wall
    assert [moment(at, unset) for at in (None, 0.0, LAST)] == [50.0] * 3
    assert moment(LAST, NOW) == NOW.wall


def test_only_a_fresh_event_that_was_not_kept_back_shows_that_a_transaction_runs() -> None:
    assert proves(seen(), NOW)
    assert not proves(seen(offline=True), NOW)
    assert not proves(seen(phase="ended"), NOW)
    assert not proves(seen(at=NOW.wall - 3600), NOW)


def test_a_later_event_adds_what_was_not_known_and_a_late_one_does_not_undo_it() -> None:
    old = OpenTransaction("u", 0, 1, NOW.wall, "t", live=False, seq_no=4, phases=3)
    new, in_order = learned(old, seen(evse=2, id_token="TAG", seq_no=5, phases=1), NOW.wall, NOW)
    assert (in_order, new.evse, new.id_token, new.phases, new.seq_no, new.live) == (True, 2, "TAG", 1, 5, True)
    again, in_order = learned(new, seen(evse=3, id_token="OTHER", seq_no=2, phases=3), NOW.wall, NOW)
    assert (in_order, again.evse, again.id_token, again.phases, again.seq_no) == (False, 2, "TAG", 1, 5)
    stopped, _ = learned(old, seen(phase="ended", id_token="STOPPER", seq_no=6), NOW.wall, NOW)
    assert stopped.id_token is None
    refused, _ = learned(old, seen(id_token="TAG", accepted=False, seq_no=6), NOW.wall, NOW)
    assert refused.id_token is None


def test_meter_start_and_stop_are_readings_in_their_place() -> None:
    sample = Reading(NOW.wall, energy_wh=5.0)
    begun = readings(seen(phase="started", meter_wh=1.0, readings=(sample,)), NOW.wall)
    ended = readings(seen(phase="ended", meter_wh=9.0, readings=(sample,)), NOW.wall)
    assert [one.energy_wh for one in (*begun, *ended)] == [1.0, 5.0, 5.0, 9.0]
    assert readings(seen(meter_wh=1.0, seq_no=0, readings=(sample,)), NOW.wall) == (sample,), "2.x says it in its readings"


def test_what_comes_after_an_end_is_heard_for_its_readings_only() -> None:
    sample = Reading(NOW.wall, energy_wh=5.0)
    (change,) = too_late("u", Gone("t", 1, NOW.wall, True), (sample,), NOW.wall)
    assert (change.state, change.transaction.evse, change.readings) == (None, 1, (sample,))
    assert too_late("u", Gone("t", 0, NOW.wall, True), (sample,), NOW.wall) == ()
    assert too_late("u", Gone("t", 1, NOW.wall, True), (), NOW.wall) == ()
