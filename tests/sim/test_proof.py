"""The demo's claims on made-up records: each holds when it should, and each kind of lie is seen."""

from __future__ import annotations

from typing import Any

import pytest

from broker.sim import power, proof
from broker.sim.proof import Charged, Claim, Ends
from broker.sim.wire import Log, Seen

T = 1_767_225_600.0
AT = "2026-01-01T00:{:02d}:{:02d}.000Z"


def seen(text: str) -> Seen:
    """`2 a Boot` or `3 a`."""
    kind, id, *action = text.split()
    return Seen(int(kind), id, "".join(action), text)


def log(sent: list[str], received: list[str]) -> Log:
    return Log(sent=[seen(text) for text in sent], received=[seen(text) for text in received])


UP, DOWN = ["2 a Boot", "3 9", "2 b Heartbeat"], ["3 a", "2 9 Reset", "3 b"]


def ends(up_sent: list[str] = UP, up_got: list[str] = UP, down_sent: list[str] = DOWN, down_got: list[str] = DOWN) -> Ends:
    return Ends("S", log(up_sent, down_got), log(down_sent, up_got))


def test_the_same_frames_at_both_ends() -> None:
    assert proof.transparent([ends()]).ok
    assert "6 frames of 1 stations" in proof.transparent([ends()]).numbers


def test_ours_are_left_aside_on_the_stations_leg_only() -> None:
    ours = ends(up_sent=[*UP, "3 ocb-1"], down_got=["2 ocb-1 SetChargingProfile", *DOWN])
    assert proof.transparent([ours]).ok
    assert proof.unseen([ours]).ok
    leaked = ends(up_sent=[*UP, "3 ocb-1"], up_got=[*UP, "3 ocb-1"], down_got=["2 ocb-1 SetChargingProfile", *DOWN])
    assert not proof.transparent([leaked]).ok
    assert not proof.unseen([leaked]).ok
    assert not proof.silent([ours]).ok
    assert proof.silent([ends()]).ok


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (ends(up_got=UP[:-1]), "1 lost, 0 added"),
        (ends(up_got=[*UP, UP[0]]), "0 lost, 1 added"),
        (ends(up_got=["2 a Boot", "3 9", "2 b Heartbeat "]), "1 lost, 1 added"),
        (ends(up_got=[UP[2], UP[1], UP[0]]), "order of CALLs"),
        (ends(down_got=[DOWN[2], DOWN[1], DOWN[0]]), "order of answers"),
        (ends(down_got=DOWN[1:]), "1 lost"),
        (ends(up_sent=[*UP, "2 ocb-9 Heartbeat"]), "1 lost"),  # a CALL of the station's is its own, whatever its id
    ],
)
def test_lost_added_changed_and_reordered_frames_are_seen(wrong: Ends, says: str) -> None:
    claim = proof.transparent([ends(), wrong])
    assert not claim.ok
    assert says in claim.numbers


def test_an_answer_may_overtake_a_call() -> None:
    assert proof.transparent([ends(down_got=["2 9 Reset", "3 a", "3 b"])]).ok


def test_nothing_compared_proves_nothing() -> None:
    assert not any(claim.ok for claim in (proof.transparent([]), proof.transparent([Ends("S", Log(), Log())]), proof.unseen([ends()])))
    assert not any(claim.ok for claim in (proof.silent([]), proof.identified([], [], 0), proof.transactions([], []), proof.energy([], [])))
    assert not any(claim.ok for claim in (power.peaks([], 1, None, None), power.follows([], [], None)))


# ---------------------------------------------------------------- the engine

ONE = Charged("a-1", "CARD", T + 10, T + 60, 1000, 1500)
TWO = Charged("a-1", "CARD2", T + 90, T + 100, 1500, 1600)


def told(id: str, state: str, session: Charged = ONE, **more: Any) -> dict[str, Any]:
    start, stop = AT.format(*divmod(int(session.started - T), 60)), AT.format(*divmod(int(session.ended - T), 60))
    body = {"transactionId": id, "assetId": session.asset, "transactionState": state, "startTime": start, "driverId": session.token}
    return body | ({"stopTime": stop} if state == "Ended" else {}) | more


WHOLE = [told("x", "Started"), told("x", "Updated"), told("x", "Ended")]


def test_a_transaction_begins_and_ends_once() -> None:
    assert proof.transactions([ONE], WHOLE).ok
    assert proof.transactions([ONE, TWO], [*WHOLE, told("y", "Started", TWO), told("y", "Ended", TWO)]).ok


@pytest.mark.parametrize(
    "bodies",
    [
        [],
        WHOLE[:2],
        WHOLE[1:],
        [*WHOLE, WHOLE[0]],
        [*WHOLE, told("y", "Started")],
        [told("x", "Started", driverId="SOMEBODY"), *WHOLE[1:]],
        [told("x", "Started", startTime=AT.format(0, 11)), *WHOLE[1:]],
        [*WHOLE[:2], told("x", "Ended", stopTime=None)],
        [told("x", "Started", assetId="b-1"), *WHOLE[1:]],
    ],
)
def test_a_transaction_that_is_not_as_its_station_had_it(bodies: list[dict[str, Any]]) -> None:
    assert not proof.transactions([ONE], bodies).ok


def measured(second: int, wh: float, asset: str = "a-1") -> dict[str, Any]:
    return {"asset_id": asset, "timestamp": AT.format(*divmod(second, 60)), "energyValue": wh}


ENERGY = [measured(10, 1000), measured(40, 1300), measured(60, 1500), measured(90, 1500), measured(100, 1600)]


def test_registers_at_begin_and_end() -> None:
    claim = proof.energy([ONE, TWO], ENERGY)
    assert claim.ok
    assert "meters 600 Wh, engine 600 Wh" in claim.numbers


@pytest.mark.parametrize(
    "bodies",
    [
        ENERGY[1:],
        [*ENERGY[:2], *ENERGY[3:4], measured(100, 1597)],
        [measured(10, 1000), measured(60, 1490), *ENERGY[3:]][:2] + ENERGY[3:],
        [body | {"asset_id": "b-1"} for body in ENERGY],
        ENERGY[:3],
    ],
)
def test_a_register_that_is_not_the_stations(bodies: list[dict[str, Any]]) -> None:
    assert not proof.energy([ONE, TWO], bodies).ok


def test_identification_is_once_per_transaction_and_nothing_else() -> None:
    def named(id: str, driver: str) -> dict[str, Any]:
        return {"transactionId": id, "assetId": "a-1", "driverId": driver}

    assert proof.identified([ONE, TWO], [named("x", "CARD"), named("y", "CARD2")], 0).ok
    assert not proof.identified([ONE, TWO], [named("x", "CARD"), named("x", "CARD2")], 0).ok
    assert not proof.identified([ONE], [named("x", "CARD"), named("y", "CARD")], 0).ok
    assert not proof.identified([ONE], [named("x", "OTHER")], 0).ok
    assert not proof.identified([ONE], [named("x", "CARD")], 1).ok


def test_the_summary_says_what_failed() -> None:
    lines = proof.summary([Claim("one", True, "1"), Claim("two", False, "2")])
    assert [line.split()[0] for line in lines] == ["ok", "FAILED", "1"]
    assert proof.summary([Claim("one", True, "1")])[-1] == "All 1 claims hold."
