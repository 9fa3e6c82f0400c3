"""From an exchange's bytes to the right reader: what all dialects have in common.

A reader gets the CALL's payload and the answer's (None when there is none, or it was a CALLERROR) and says what they mean. What is
sent most has a quick reader besides: it gets a CALL's frame as it came, and says None if that needs the careful one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from broker.model.observations import Observation, Proven
from broker.model.traffic import CALLRESULT, Exchange
from broker.ocpp import fields, frames
from broker.ocpp.dialect import Charging

Payload = Mapping[str, Any]
Observations = tuple[Observation, ...]
Reader = Callable[[Payload, Payload | None], Observations]
Quick = Callable[[bytes], Observations | None]
NO_QUICK: Final[Mapping[str, Quick]] = {}


def observe(exchange: Exchange, readers: Mapping[str, Reader], charging: Charging, quick: Mapping[str, Quick] = NO_QUICK) -> Observations:
    """What an exchange tells; () for what nobody reads. Raises ValueError for frames that are not what their head says."""
    if not exchange.call:
        return (Proven(exchange.action),) if exchange.kind == CALLRESULT and exchange.sender == "station" else ()
    shortcut = quick.get(exchange.action) if exchange.sender == "station" else None
    if shortcut is not None:
        found = shortcut(exchange.call)
        if found is not None:
            return found
    if exchange.action in charging.actions and exchange.sender == "cpms":  # a station cannot set limits in the CPMS's name
        return charging.observe(exchange, payload(exchange), answer(exchange))
    reader = readers.get(exchange.action)
    if reader is None or exchange.sender != "station":  # a CPMS has no such CALLs: it is not to be believed
        return ()
    return reader(payload(exchange), answer(exchange))


def payload(exchange: Exchange) -> Payload:
    """The CALL's payload; ValueError unless it is an object."""
    found = frames.payload_of(exchange.call)
    if not isinstance(found, dict):
        raise ValueError("a payload that is no object")
    return found


def answer(exchange: Exchange) -> Payload | None:
    """The answer's payload, {} if it is no object; None for a CALLERROR or while there is no answer."""
    if exchange.kind != CALLRESULT or exchange.answer is None:
        return None
    return fields.mapping(frames.payload_of(exchange.answer))
