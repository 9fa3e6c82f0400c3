"""The engine's schedules, API version 1: an answer to a poll in, schedules out, and for each that is refused the reason.

A schedule is taken or refused whole; a refusal names the field. `docs/engine-api.yaml` is the contract. Limits are W or A per phase,
never negative; times are RFC 3339 with their offset.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any, Final, NamedTuple

from broker.model.records import Outcome
from broker.model.schedules import Schedule, Step
from broker.ocpp import times

MOST_W: Final = 1e6
AHEAD_S: Final = 48 * 3600.0
MOST_STEPS: Final = 1024
LAST: Final = 253_402_300_799.0  # the end of the year 9999: what is later cannot be written down
RFC3339: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,18})?([Zz]|[+-][0-9]{2}:[0-9]{2})")


class Parsed(NamedTuple):
    """An answer to a poll for schedules."""

    cursor: str
    schedules: tuple[Schedule, ...]
    refused: tuple[Outcome, ...]


class Refused(ValueError):
    """This schedule is refused whole; the text names the field."""


def parse_schedules(body: Any, assets: Container[str], now: float) -> Parsed:
    """The schedules in an answer; each is taken or refused whole, with the field that is wrong.

    `now`: seconds since 1970 UTC. Raises ValueError, in one clear line, if the answer itself cannot be read.
    """
    if not isinstance(body, dict) or not isinstance(body.get("schedules"), list) or not isinstance(body.get("cursor"), str):
        raise ValueError('the engine\'s answer is not {"schedules": [...], "cursor": "..."}')
    if len(body["cursor"]) > 1024 or (body["cursor"] and not _name(body["cursor"])):
        raise ValueError("the engine's cursor is longer than 1024 characters, or no text")
    taken: list[Schedule] = []
    refused: list[Outcome] = []
    for one in body["schedules"]:
        if not isinstance(one, dict):
            refused.append(Outcome("", "", "refused", now, "is not an object"))
            continue
        id, asset = _name(one.get("id"))[:64], _name(one.get("asset_id"))[:256]
        try:
            taken.append(_schedule(one, assets, now))
        except Refused as why:
            refused.append(Outcome(id, asset, "refused", now, str(why)))
    return Parsed(body["cursor"], tuple(taken), tuple(refused))


def _name(value: Any) -> str:
    """A text that can be stored and sent; "" for everything else (half of a surrogate pair is legal JSON, and no text)."""
    return value if isinstance(value, str) and value.encode("utf-8", "replace").decode() == value else ""


def _schedule(one: Mapping[str, Any], assets: Container[str], now: float) -> Schedule:
    """Raises Refused."""
    id, asset, unit = _name(one.get("id")), _name(one.get("asset_id")), one.get("unit", "W")
    if not 1 <= len(id) <= 64:
        raise Refused("id: must be 1 to 64 characters")
    if asset not in assets:
        raise Refused("asset_id: no such asset here")
    if unit not in ("W", "A"):
        raise Refused("unit: must be W or A")
    phases, transaction = one.get("phases"), one.get("transactionId")
    if phases is not None and (isinstance(phases, bool) or phases not in (1, 2, 3)):
        raise Refused("phases: must be 1, 2 or 3")
    if transaction is not None and not _name(transaction):
        raise Refused("transactionId: must be a string")
    until = _time(one.get("valid_until"), "valid_until")
    if until <= now:
        raise Refused("valid_until: is in the past")
    steps = _steps(one.get("periods"), now)
    if until <= steps[0].at:
        raise Refused("valid_until: is before the first period")
    issued = _time(one.get("issued_at"), "issued_at")
    return Schedule(id, asset, issued, until, str(unit), steps, transaction, None if phases is None else int(phases))


def _steps(periods: Any, now: float) -> tuple[Step, ...]:
    if not isinstance(periods, list) or not 1 <= len(periods) <= MOST_STEPS:
        raise Refused(f"periods: must be a list of 1 to {MOST_STEPS}")
    steps: list[Step] = []
    for n, period in enumerate(periods):
        if not isinstance(period, dict):
            raise Refused(f"periods[{n}]: must be an object")
        at, limit = _time(period.get("start"), f"periods[{n}].start"), period.get("limit")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or limit != limit:
            raise Refused(f"periods[{n}].limit: must be a number")
        if limit < 0:
            raise Refused(f"periods[{n}].limit: discharging is not supported")
        if limit > MOST_W:  # infinity too
            raise Refused(f"periods[{n}].limit: is above {MOST_W:.0f}")
        if steps and at <= steps[-1].at:
            raise Refused(f"periods[{n}].start: must rise strictly")
        steps.append(Step(at, float(limit)))
    if steps[0].at > now + AHEAD_S:
        raise Refused("periods[0].start: is more than 48 h ahead")
    return tuple(steps)


def _time(value: Any, field: str) -> float:
    at = times.parse(value) if isinstance(value, str) and RFC3339.fullmatch(value) else None
    if at is None or at > LAST:
        raise Refused(f"{field}: must be a date and time with its offset (RFC 3339)")
    return at
