"""The demo's claims: what both ends, the meters and the engine wrote down goes in; each claim, with its numbers, comes out. Pure.

A claim that could not be measured does not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from broker.model.traffic import OURS
from broker.ocpp import times
from broker.sim.wire import CALL, Log, Seen

SHOWN: Final = 3
METER_WH: Final = 2.0  # registers are said in whole Wh, so a difference of two is off by less than 2


class Claim(NamedTuple):
    says: str
    ok: bool
    numbers: str


class Ends(NamedTuple):
    """One station's frames, as it and as its CPMS wrote them down."""

    id: str
    station: Log
    cpms: Log


class Charged(NamedTuple):
    """A session, by the station's own meter and clock."""

    asset: str
    token: str
    started: float
    ended: float
    begin_wh: float
    end_wh: float


def listed(numbers: str, wrong: Sequence[str]) -> str:
    """The numbers, and the first few things that are wrong."""
    more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
    return "; ".join([numbers, *wrong[:SHOWN], *more])


# ---------------------------------------------------------------- frames


def ours(seen: Seen) -> bool:
    return seen.id.startswith(OURS)


def differences(ends: Ends) -> list[str]:
    """What was lost, added, changed or reordered between the two ends; our own CALLs and their answers left aside."""
    up = [seen for seen in ends.station.sent if not (ours(seen) and seen.kind != CALL)]
    down = [seen for seen in ends.station.received if not (ours(seen) and seen.kind == CALL)]
    return [
        f"{ends.id} {where}: {what}"
        for where, sent, got in (("to CPMS", up, ends.cpms.received), ("to station", ends.cpms.sent, down))
        if (what := difference(sent, got))
    ]


def difference(sent: Sequence[Seen], got: Sequence[Seen]) -> str:
    """Nothing if the same frames arrived: CALLs in their order, and answers in theirs (one may overtake the other)."""
    lost = Counter(s.hash for s in sent) - Counter(g.hash for g in got)
    added = Counter(g.hash for g in got) - Counter(s.hash for s in sent)
    if lost or added:
        which = sorted({s.action or "an answer" for s in (*sent, *got) if s.hash in lost or s.hash in added})
        return f"{lost.total()} lost, {added.total()} added or changed ({', '.join(which)})"
    for calls in (True, False):
        if [s.hash for s in sent if (s.kind == CALL) == calls] != [g.hash for g in got if (g.kind == CALL) == calls]:
            return f"order of {'CALLs' if calls else 'answers'} changed"
    return ""


def transparent(all_ends: Sequence[Ends]) -> Claim:
    wrong = [what for ends in all_ends for what in differences(ends)]
    total = sum(len(ends.cpms.sent) + len(ends.cpms.received) for ends in all_ends)
    numbers = f"{total} frames of {len(all_ends)} stations, both directions, compared by SHA-256"
    talked = bool(all_ends) and all(ends.cpms.received for ends in all_ends)
    return Claim("frames sent = frames received, at both ends", talked and not wrong, listed(numbers, wrong))


def unseen(all_ends: Sequence[Ends]) -> Claim:
    """None of ours at the CPMS; and some at the stations, or there was nothing to hide."""
    reached = sum(ours(seen) for ends in all_ends for seen in ends.cpms.received)
    sent = sum(ours(seen) and seen.kind == CALL for ends in all_ends for seen in ends.station.received)
    numbers = f"{reached} of {sent} CALLs of ours (and their answers) seen by the CPMS"
    return Claim("CALLs and answers of ours that reached the CPMS: 0", reached == 0 and sent > 0, numbers)


def silent(identified: Sequence[Ends]) -> Claim:
    found = sum(ours(seen) for ends in identified for seen in (*ends.station.received, *ends.station.sent))
    heard = sum(len(ends.station.received) for ends in identified)
    says = "driver-identification: OCPP messages of ours: 0"
    return Claim(says, found == 0 and heard > 0, f"{found} among {heard} messages to {len(identified)} stations")


# ---------------------------------------------------------------- what the engine was told


def identified(charged: Sequence[Charged], told: Sequence[Mapping[str, Any]], other: int) -> Claim:
    """Each session once, with its driver. `other`: measurements and transactions of such stations, of which there must be none."""
    want = Counter((one.asset, one.token) for one in charged)
    got = Counter((str(body["assetId"]), str(body["driverId"])) for body in told)
    unique = len({body["transactionId"] for body in told}) == len(told)
    numbers = f"{len(told)} identifications for {len(charged)} transactions, {other} measurements or transactions"
    return Claim(
        "driver-identification: each driver told once, and nothing else", want == got and unique and other == 0 and bool(charged), numbers
    )


def transactions(charged: Sequence[Charged], told: Sequence[Mapping[str, Any]]) -> Claim:
    """Each session is a transaction at the engine: begun once, ended once, with its driver and its times; and there are no others."""
    states: dict[str, list[Mapping[str, Any]]] = {}
    for body in told:
        states.setdefault(str(body["transactionId"]), []).append(body)
    left = dict(states)
    for session in charged:
        found = next((id for id, bodies in left.items() if is_told(session, bodies)), None)
        if found is not None:
            del left[found]
    matched = len(states) - len(left)
    ok = bool(charged) and matched == len(charged) and not left
    return Claim("each transaction begun and ended at the engine", ok, f"{matched} of {len(charged)} match, {len(left)} without a session")


def is_told(session: Charged, bodies: Sequence[Mapping[str, Any]]) -> bool:
    begun = [body for body in bodies if body["transactionState"] == "Started"]
    ended = [body for body in bodies if body["transactionState"] == "Ended"]
    if len(begun) != 1 or len(ended) != 1 or {body["assetId"] for body in bodies} != {session.asset}:
        return False
    times_told = times.parse(begun[0]["startTime"]), times.parse(ended[0].get("stopTime"))
    near = all(a is not None and abs(a - b) < 0.01 for a, b in zip(times_told, (session.started, session.ended), strict=True))
    return near and begun[0].get("driverId") == session.token


def energy(charged: Sequence[Charged], measured: Iterable[Mapping[str, Any]], key: str = "asset_id") -> Claim:
    """The registers the engine knows at begin and end of each session, against the station's own meter."""
    by_asset: dict[str, list[tuple[float, float]]] = {}
    for body in measured:
        by_asset.setdefault(str(body[key]), []).append((times.parse(body["timestamp"]) or 0.0, float(body["energyValue"])))
    total, engine, worst, wrong = 0.0, 0.0, 0.0, []
    for session in charged:
        total += session.end_wh - session.begin_wh
        told = registers(session, charged, by_asset.get(session.asset, []))
        if told is None:
            wrong.append(f"{session.asset}: nothing measured")
            continue
        first, last = told
        engine += last - first
        off = max(abs(first - session.begin_wh), abs(last - session.end_wh))
        worst = max(worst, off)
        if off > METER_WH:
            wrong.append(f"{session.asset}: {first:.0f} to {last:.0f} Wh, its meter {session.begin_wh:.0f} to {session.end_wh:.0f}")
    numbers = f"meters {total:.0f} Wh, engine {engine:.0f} Wh, worst register off by {worst:.1f} Wh"
    return Claim("energy at the engine = the stations' own meters", bool(charged) and total > 0 and not wrong, listed(numbers, wrong))


def registers(session: Charged, charged: Iterable[Charged], told: Iterable[tuple[float, float]]) -> tuple[float, float] | None:
    """The engine's first and last register of a session, from (time, Wh); None if it has none."""
    following = min((s.started for s in charged if s.asset == session.asset and s.started > session.started), default=float("inf"))
    during = sorted((at, wh) for at, wh in told if session.started - 1 <= at < following - 1)  # s: receive times jitter
    return (during[0][1], max(wh for _, wh in during)) if during else None


# ---------------------------------------------------------------- the verdict


def summary(claims: Sequence[Claim]) -> list[str]:
    """One line each, and the verdict."""
    width = max((len(claim.says) for claim in claims), default=0)
    lines = [f"  {'ok    ' if claim.ok else 'FAILED'}  {claim.says:<{width}}  {claim.numbers}" for claim in claims]
    failed = sum(not claim.ok for claim in claims)
    return [*lines, f"{len(claims) - failed} of {len(claims)} claims hold." if failed else f"All {len(claims)} claims hold."]
