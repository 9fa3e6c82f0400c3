"""The CPMS's profiles as facts, and back: what a restart must know of `shadow`. Facts of another version of us are unread profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final, NamedTuple

import msgspec

from broker.model.records import Fact
from broker.model.schedules import ChargingProfile
from broker.profiles.saying import Placed

TOPIC: Final = "cpms-limit"
PREFIX: Final = "profile-"


class Unread(NamedTuple):
    """A profile of which we know no limit."""

    evse: int
    id: int | None
    why: str


def is_ours(fact: Fact) -> bool:
    return fact.topic == TOPIC and fact.name.startswith(PREFIX) and fact.value is not None


def fact_of(name: str, one: Placed | Unread | None) -> Fact:
    """None forgets it."""
    if isinstance(one, Placed):
        value: Any = {"evse": one.evse, "sure": one.sure, "embedded": one.embedded, "profile": asdict(one.profile)}
        value["profile"]["periods"] = [list(period) for period in one.profile.periods]
    else:
        value = None if one is None else one._asdict()
    return Fact(TOPIC, PREFIX + name, value)


def entry_of(value: object) -> Placed | Unread:
    """What `fact_of` gave, checked field by field."""
    try:
        if isinstance(value, Mapping) and set(value) == set(Unread._fields):
            return msgspec.convert([value[name] for name in Unread._fields], Unread)
        if (
            isinstance(value, Mapping)
            and set(value) == set(Placed._fields)
            and {f.name for f in fields(ChargingProfile)} - {"slack_s"} <= {*value["profile"]} <= {f.name for f in fields(ChargingProfile)}
        ):
            return msgspec.convert([value[name] for name in Placed._fields], Placed)
    except (msgspec.ValidationError, TypeError):
        pass
    return Unread(0, None, "remembered by another version")
