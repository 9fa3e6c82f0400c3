"""Why a limit is as it is: the last decisions, each with what was asked and allowed then, and what came of it."""

from __future__ import annotations

from broker.decisions import Decisions
from broker.leases import Lease
from broker.model.schedules import Schedule, Step
from broker.operating import OwnLimit

NOON = 1_768_046_400.0


def lease(evse: int, number: int = 0) -> Lease:
    steps = (Step(NOON, 16.0), Step(NOON + 300, 10.0))
    return Lease(9_120_011, evse, "tx", 8, NOON + 900, f"s-{number}", steps, 32.0, steps, NOON, unit="A", why=("cpms-lower",))


def test_one_says_all_that_it_was_made_of() -> None:
    decisions = Decisions()
    asked = Schedule("s-1", "a", NOON, NOON + 3600, "W", (Step(NOON - 60, 7000.0), Step(NOON + 60, 3000.0)))
    decisions.sent(lease(1), asked, OwnLimit(1, 20.0, NOON - 10, NOON + 600), 16.0, NOON)
    assert decisions.of(1) == [
        {
            "at": "2026-01-10T12:00:00.000Z",
            "asked": {"schedule": "s-1", "limit": 7000.0, "unit": "W"},
            "operator": {"amps": 20.0, "since": "2026-01-10T11:59:50.000Z", "until": "2026-01-10T12:10:00.000Z"},
            "allowed": 16.0,
            "sent": {"profile": 9_120_011, "purpose": "tx", "limit": 16.0, "unit": "A"},
            "why": ["cpms-lower"],
            "until": "2026-01-10T12:15:00.000Z",
            "outcome": "sent",
        }
    ]
    assert decisions.of(2) == []


def test_what_came_is_the_last_one_s_of_that_evse() -> None:
    decisions = Decisions()
    decisions.came(1, "accepted")
    for evse in (1, 1, 2):
        decisions.sent(lease(evse), None, None, None, NOON)
    decisions.came(1, "rejected")
    assert [one["outcome"] for one in decisions.of(1)] == ["sent", "rejected"]
    assert [(one["outcome"], one["asked"], one["operator"]) for one in decisions.of(2)] == [("sent", None, None)]


def test_the_oldest_go_and_what_is_shown_is_a_copy() -> None:
    decisions = Decisions()
    for number in range(11):
        decisions.sent(lease(1), None, None, float(number), NOON)
    shown = decisions.of(1)
    assert [one["allowed"] for one in shown] == [float(number) for number in range(3, 11)]
    shown[-1]["outcome"] = "elsewhere"
    assert decisions.of(1)[-1]["outcome"] == "sent"
