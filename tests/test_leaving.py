"""Ours goes from a station that is not to be limited any more: by id, one at a time, only once both ends live."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.fallback import FOREVER
from broker.leases import Lease
from broker.leaving import Leaving, standing
from broker.model.basics import Instant
from broker.model.orders import Alarm, Inject, Pass, Write
from broker.model.records import Fact
from broker.model.schedules import Step
from broker.model.traffic import CALLRESULT, Exchange
from broker.ocpp.dialects import BY_NAME
from broker.standing import SETTLE_S

WALL = 1_700_000_000.0
PROOF = Exchange("station", "Heartbeat", b"", b"", CALLRESULT, None)


def at(seconds: float) -> Instant:
    return Instant(seconds, WALL + seconds)


def lease(id: int, ends_s: float = 900.0) -> Fact:
    return Lease(id, 1, "max", 1, WALL + ends_s, "plan", (Step(WALL, 10.0),), 16.0, (Step(WALL, 16.0),), WALL, sure=True).fact()


def leaving(*facts: Fact, proven: bool = True, inner: Any = None, version: str = "ocpp1.6") -> Leaving:
    tokens = iter(range(1, 100))
    return Leaving(inner, BY_NAME[version], standing(facts), opened=at(0), flapping=False, proven=proven, new_token=lambda: next(tokens))


def accepted(status: str = "Accepted") -> bytes:
    return json.dumps([3, "x", {"status": status}]).encode()


def injected(effects: tuple[Any, ...]) -> list[Inject]:
    return [effect for effect in effects if isinstance(effect, Inject)]


@pytest.mark.parametrize(("version", "key"), [("ocpp1.6", "id"), ("ocpp2.0.1", "chargingProfileId"), ("ocpp2.1", "chargingProfileId")])
def test_each_of_ours_is_cleared_by_its_id_one_after_the_other(version: str, key: str) -> None:
    one = leaving(lease(7), lease(9), version=version)
    (first,) = injected(one.tick(at(SETTLE_S)))
    assert (first.action, dict(first.payload)) == ("ClearChargingProfile", {key: 7})
    assert injected(one.tick(at(SETTLE_S + 1))) == [], "one at a time"
    effects = one.answered(first.token, "answer", accepted(), at(11))
    assert Write((), (Fact("lease", "7", None),)) in effects
    (second,) = injected(effects)
    assert dict(second.payload) == {key: 9}
    assert not one.done
    assert one.answered(second.token, "answer", accepted("Unknown"), at(12)) == (Write((), (Fact("lease", "9", None),)),)
    assert one.done
    assert one.wake_at is None


def test_what_has_no_end_is_cleared_however_late() -> None:
    one = leaving(lease(7), lease(9, FOREVER))
    for token in (1, 2):
        one.tick(at(SETTLE_S + token))
        one.answered(token, "timeout", None, at(SETTLE_S + token))
    one.tick(at(7 * 86_400))
    assert not one.done
    assert one.explain()["withdrawing"] == [9], "the other has ended by itself"


def test_nothing_is_asked_before_the_link_has_settled_and_both_ends_live() -> None:
    one = leaving(lease(7), proven=False)
    assert one.interest.proof == BY_NAME["ocpp1.6"].interest.proof
    assert one.tick(at(SETTLE_S - 1)) == ()
    assert one.tick(at(SETTLE_S + 1)) == ()
    assert injected(one.saw(PROOF, at(SETTLE_S + 2)))
    assert one.proven


def test_the_cpms_is_not_kept_waiting_and_an_answer_promised_before_is_let_go() -> None:
    one = leaving(lease(7))
    exchange = Exchange("cpms", "SetChargingProfile", b"[]", None, 0, None)
    assert one.guarded(5, exchange, at(0)) == (Pass(5),)
    promised = Exchange("station", "StartTransaction", b"[]", b"[]", CALLRESULT, 3)
    assert one.saw(promised, at(1)) == (Write((), (), 3),)


def test_a_station_that_refuses_is_asked_again_later_and_somebody_is_told() -> None:
    one, now, alarms = leaving(lease(7, 20_000.0)), SETTLE_S, []
    for _ in range(3):
        (ask,) = injected(one.tick(at(now)))
        effects = one.answered(ask.token, "answer", accepted("Rejected"), at(now))
        alarms += [effect for effect in effects if isinstance(effect, Alarm)]
        assert injected(effects) == []
        assert one.wake_at is not None
        assert one.wake_at > now
        now = one.wake_at
    assert [alarm.name for alarm in alarms] == ["release"]
    assert not one.done


def test_one_that_never_answers_is_left_alone_when_its_limit_has_ended_by_itself() -> None:
    one = leaving(lease(7, 100.0))
    (ask,) = injected(one.tick(at(SETTLE_S)))
    one.answered(ask.token, "timeout", None, at(40))
    assert one.tick(at(10_000)) == (Write((), (Fact("lease", "7", None),)),)
    assert one.done


def test_a_lease_of_another_version_of_us_is_cleared_all_the_same() -> None:
    assert [*standing([Fact("lease", "7", {"odd": 1}), Fact("lease", "8", None), Fact("lease", "x", {}), Fact("boot", "9", {})])] == [7]


class Learns:
    """An inner observer that counts."""

    interest = BY_NAME["ocpp1.6"].identification
    wake_at = 3.0
    tap_failures = 2

    def __init__(self) -> None:
        self.seen: list[Exchange] = []

    def saw(self, exchange: Exchange, now: Instant) -> tuple[Any, ...]:
        self.seen.append(exchange)
        return (Write((), (), exchange.token),)

    def explain(self) -> dict[str, Any]:
        return {"transactions": []}

    def tick(self, now: Instant) -> tuple[Any, ...]:
        return (Alarm("inner", "ticked"),)


def test_who_learns_meanwhile_sees_what_is_its_own() -> None:
    inner = Learns()
    one = leaving(lease(7), inner=inner, proven=False)
    one.saw(PROOF, at(1))
    assert inner.seen == []
    start = Exchange("station", "StartTransaction", b"[]", None, 0, 4)
    assert one.saw(start, at(2)) == (Write((), (), 4),)
    assert inner.seen == [start]
    assert one.wake_at == 3.0
    assert one.tap_failures == 2
    assert Alarm("inner", "ticked") in one.tick(at(4))
    assert one.explain() == {"transactions": [], "withdrawing": [7]}


def test_an_answer_of_the_station_whose_call_is_not_here_goes_to_who_learns_and_proves_nothing() -> None:
    inner = Learns()
    one = leaving(lease(7), inner=inner, proven=False)
    answer = Exchange("cpms", "ChangeConfiguration", b"", accepted(), CALLRESULT, None, 3)
    one.saw(answer, at(1))
    assert inner.seen == [answer]
    assert not one.proven
