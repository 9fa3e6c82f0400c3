"""A charging schedule as OCPP wraps it, as far as all versions agree; what 1.6 and 2.x have of their own is in their modules.

In and out go JSON objects. `read` is strict where safety hangs on it: a profile that is not understood whole is a ValueError,
for then it is unknown what the CPMS allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from broker.model.observations import ClearSeen
from broker.model.schedules import ChargingProfile, Period
from broker.model.traffic import CALLRESULT
from broker.ocpp import fields, times
from broker.ocpp.dialect import Verdict
from broker.ocpp.frames import payload_of, read_head

Payload = Mapping[str, Any]

KINDS: Final = frozenset({"Absolute", "Recurring", "Relative"})
REASON_MOST: Final = 80
SLACK_S: Final = 14 * 3600.0  # local time is at most so far from UTC, and a CPMS that writes no offset mostly means UTC
REFUSED: Final = frozenset({"rejected", "notsupported"})


# ---------------------------------------------------------------- out


def number(limit: float) -> int | float:
    """At most one decimal, as 1.6's and 2.0.1's schemas demand; rounded down, never up."""
    tenths = int(limit * 10 + 1e-6)
    return tenths // 10 if tenths % 10 == 0 else tenths / 10


def schedule(profile: ChargingProfile) -> dict[str, Any]:
    """The schedule's own object, without 2.x's id."""
    periods: list[dict[str, Any]] = []
    for period in profile.periods:
        said: dict[str, Any] = {"startPeriod": period.start_s, "limit": number(period.limit)}
        periods.append(said if period.phases is None else {**said, "numberPhases": period.phases})
    found: dict[str, Any] = {"chargingRateUnit": profile.unit, "chargingSchedulePeriod": periods}
    if profile.start is not None:
        found["startSchedule"] = times.text(profile.start)
    if profile.duration_s is not None:
        found["duration"] = profile.duration_s
    return found


def validity(profile: ChargingProfile) -> dict[str, str]:
    """validFrom and validTo, as far as the profile has them."""
    both = {"validFrom": profile.valid_from, "validTo": profile.valid_to}
    return {name: times.text(at) for name, at in both.items() if at is not None}


# ---------------------------------------------------------------- answers to ours


def result(answer: bytes) -> Payload:
    """A CALLRESULT's payload; {} for a CALLERROR and for rubbish."""
    head = read_head(answer)
    if head is None or head.kind != CALLRESULT:
        return {}
    try:
        return fields.mapping(payload_of(answer))
    except ValueError:
        return {}


def verdict(answer: bytes) -> Verdict:
    """Of a set or a clear: the status, or a CALLERROR's code; status "" when it cannot be read."""
    head = read_head(answer)
    if head is not None and head.kind == CALLRESULT:
        said = result(answer)
        info = fields.mapping(said.get("statusInfo"))
        reason = " ".join(fields.text(info.get(name)) for name in ("reasonCode", "additionalInfo"))
        return Verdict(fields.text(said.get("status")), reason.strip()[:REASON_MOST])
    try:
        parts = json.loads(answer)
        return Verdict(fields.text(parts[2])[:40], fields.text(parts[3])[:REASON_MOST])
    except (ValueError, IndexError, TypeError, KeyError, RecursionError):
        return Verdict("")


# ---------------------------------------------------------------- what others say


def taken(answer: Payload | None) -> bool:
    """Whether a station may have taken a profile of the CPMS's: always, unless it said that it did not. None: no answer, or an error."""
    return answer is None or fields.text(answer.get("status")).lower() not in REFUSED


def clear(accepted: bool, words: Mapping[str, str], id: object, place: object, purpose: object, level: object) -> tuple[ClearSeen, ...]:
    """Criteria of a clear, None where one is absent; () if one cannot be read, for then it is not known what is gone."""
    purpose = words.get(purpose, purpose) if isinstance(purpose, str) else purpose
    said = (id, place, purpose, level)
    read = (fields.whole(id), fields.place(place), purpose if isinstance(purpose, str) else None, fields.whole(level))
    if any(there is not None and found is None for there, found in zip(said, read, strict=True)):
        return ()
    return (ClearSeen(accepted, *read),)


def read(said: Payload, words: Mapping[str, str], *, id_name: str) -> ChargingProfile:
    """A profile of the CPMS's. Raises ValueError, naming the field, for what is not understood."""
    listed = said.get("chargingSchedule")
    schedules = [fields.mapping(one) for one in fields.several(listed)]
    if not schedules:
        raise ValueError("chargingSchedule: missing")
    first = schedules[0]
    unit, kind, purpose = first.get("chargingRateUnit"), said.get("chargingProfileKind"), said.get("chargingProfilePurpose")
    id, level = fields.whole(said.get(id_name)), fields.whole(said.get("stackLevel"))
    if unit not in ("A", "W"):
        raise ValueError("chargingRateUnit: neither A nor W")
    if "limitAtSoC" in first:
        raise ValueError("limitAtSoC: a limit that hangs on the battery")
    if floats(first):
        raise ValueError("useLocalTime, randomizedDelay: times that only the station knows")
    if said.get("maxOfflineDuration") is not None:
        raise ValueError("maxOfflineDuration: a limit that hangs on the connection")
    if not isinstance(purpose, str) or not isinstance(kind, str):
        raise ValueError("chargingProfilePurpose, chargingProfileKind: missing")
    if id is None or level is None:
        raise ValueError(f"{id_name}, stackLevel: missing")
    return ChargingProfile(
        id=id,
        stack_level=level,
        purpose=words.get(purpose, purpose),
        kind=kind,
        unit=str(unit),
        periods=periods(first),
        start=times.parse(first.get("startSchedule")),
        duration_s=_duration(first.get("duration")),
        recurrency=fields.text(said.get("recurrencyKind")) or None,
        transaction_id=_id(said.get("transactionId")),
        valid_from=_moment(said, "validFrom"),
        valid_to=_moment(said, "validTo"),
        more_schedules=len(schedules) > 1,
        slack_s=SLACK_S if any(map(times.naive, (first.get("startSchedule"), said.get("validFrom"), said.get("validTo")))) else 0.0,
    )


def floats(schedule: Payload) -> bool:
    """2.1: when its periods begin is the station's to say: by its local time, or some seconds late."""
    return bool(schedule.get("useLocalTime") or schedule.get("randomizedDelay"))


def _moment(said: Payload, name: str) -> float | None:
    """None if it is not said. What is said and cannot be read would be a validity that nobody knows."""
    value = said.get(name)
    found = times.parse(value)
    if found is None and value is not None:
        raise ValueError(f"{name}: no moment that can be read")
    return found


def _duration(value: object) -> int | None:
    """None if it is not said. Stations differ in what they make of 0."""
    found = fields.whole(value)
    if value is not None and (found is None or found <= 0):
        raise ValueError("duration: no number of seconds above 0")
    return found


def periods(schedule: Payload) -> tuple[Period, ...]:
    """Raises ValueError unless each has a start and a limit. Where 2.1 limits phases apart, the lowest counts for all."""
    found: list[Period] = []
    for said in map(fields.mapping, fields.several(schedule.get("chargingSchedulePeriod"))):
        start, phases = fields.whole(said.get("startPeriod")), fields.whole(said.get("numberPhases"))
        limits = [fields.number(said[name]) for name in ("limit", "limit_L2", "limit_L3") if name in said]
        if start is None or "limit" not in said or None in limits:
            raise ValueError("chargingSchedulePeriod: a period without a start or a limit")
        if said.get("operationMode", "ChargingOnly") != "ChargingOnly":
            raise ValueError("operationMode: more than a limit")
        found.append(Period(start, min(limit for limit in limits if limit is not None), phases))
    if not found:
        raise ValueError("chargingSchedulePeriod: missing")
    return tuple(found)


def composite(schedule: Payload) -> tuple[str, tuple[Period, ...]]:
    """Unit and periods of a composite schedule; no periods when there are none, or not readable."""
    unit = schedule.get("chargingRateUnit")
    try:
        found = periods(schedule)
    except ValueError:
        return "A", ()
    return (str(unit), found) if unit in ("A", "W") else ("A", ())


def units(value: object) -> frozenset[str] | None:
    """`Current,Power`, `A,W`, `power`, with blanks or without → {"A", "W"}; None when nothing known is in it."""
    words = {"current": "A", "a": "A", "power": "W", "w": "W"}
    found = frozenset(words[word] for word in fields.text(value).lower().replace(" ", "").split(",") if word in words)
    return found or None


def count(value: object) -> int | None:
    """A number that is none below zero, also written as text."""
    found = fields.whole(value)
    return found if found is not None and found >= 0 else None


def _id(value: object) -> str | None:
    if isinstance(value, str):
        return fields.name(value)
    number = fields.whole(value)
    return None if number is None else str(number)
