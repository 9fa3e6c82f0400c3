"""What follows from a station's answer to a limit: how soon the next may go, and to which EVSE."""

from __future__ import annotations

import pytest
from test_injector import SET, Talk, capability, says, settled


def test_in_a_transaction_only_the_first_limit_is_exempt_from_the_write_interval() -> None:
    talk = settled(purposes=("default",))
    assert talk.wants("s2", 10.0) == []
    assert talk.starts() == [SET]
    assert talk.accepts() == ["s2 accepted"]
    assert talk.wants("s3", 12.0) == []
    assert talk.waits(55) == []
    assert talk.waits(10) == [SET]


def test_a_limit_that_the_transaction_found_standing_is_not_its_first() -> None:
    talk = settled(purposes=("default",))
    talk.starts("7")
    talk.waits(100)
    assert talk.wants("s2", 10.0) == [SET]
    talk.accepts()
    talk.ends()
    talk.starts("8")
    assert talk.wants("s3", 9.0) == [SET], "another transaction's first"


@pytest.mark.parametrize(("version", "at_once"), [("ocpp1.6", True), ("ocpp2.0.1", False), ("ocpp2.1", False)])
def test_a_2_x_station_is_written_to_once_a_minute_whichever_evse(version: str, at_once: bool) -> None:
    talk = Talk(version, evses=2, baseline="none", purposes=("default",), facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0, evse=1)
    assert talk.waits(11) == [SET]
    assert talk.accepts() == ["s1 accepted"]
    assert talk.wants("s2", 10.0, evse=2) == ([SET] if at_once else [])
    if not at_once:
        assert talk.waits(55) == []
        assert talk.waits(10) == [SET]


@pytest.mark.parametrize(("then", "held_against"), [("it runs on", True), ("it ended", False), ("another runs", False)])
def test_a_refusal_counts_if_the_transaction_that_it_was_for_still_runs(then: str, held_against: bool) -> None:
    talk = Talk(baseline="none", purposes=("tx", "default"), facts=(capability(),))
    talk.live()
    talk.wants("s1", 16.0)
    talk.waits(11)
    if talk.inject is None:
        assert talk.starts("7") == [SET]
    assert talk.sent["chargingProfilePurpose"] == "TxProfile"
    if then != "it runs on":
        talk.ends()
    if then == "another runs":
        talk.starts("8")
    talk.hears({"status": "Rejected"})
    assert (("quirk", "rung") in talk.facts) is held_against


def test_a_schedule_is_judged_once_however_often_it_is_renewed() -> None:
    talk = settled()
    talk.starts()
    for _ in range(3):
        talk.waits(61)
        assert says(talk, 15.0) == []
    assert talk.waits(480) == [SET]
    assert talk.accepts() == []
    for _ in range(4):
        talk.waits(61)
        assert says(talk, 20.0) == [], "it was found to be kept"
