"""The standard's own JSON schemas, as PyPI's `ocpp` carries them, and exchanges that are held to them.

The dialects' tests begin here: what is played to a dialect is what the standard allows, unless a test says that it is not.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import ocpp
import pytest
from hypothesis import strategies as st

from broker.model.basics import Instant
from broker.model.observations import Observation
from broker.model.schedules import ChargingProfile, Period
from broker.model.traffic import Exchange
from broker.ocpp.dialects import BY_NAME

NOON, AT = 1768046400.0, "2026-01-10T12:00:00Z"
TWO = ("ocpp2.0.1", "ocpp2.1")
both = pytest.mark.parametrize("version", TWO)
PROFILE_OF_2: dict[str, Any] = {
    "id": 1,
    "stackLevel": 0,
    "chargingProfilePurpose": "TxDefaultProfile",
    "chargingProfileKind": "Relative",
    "chargingSchedule": [{"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 10.0}]}],
}
"""A charging profile as 2.x has it."""
_FOLDERS = {"ocpp1.6": "v16", "ocpp2.0.1": "v201", "ocpp2.1": "v21"}


@cache
def validator(version: str, name: str, formats: bool | None = False) -> Any:
    """Of one schema, as its file is called."""
    file = Path(ocpp.__file__).parent / _FOLDERS[version] / "schemas" / f"{name}.json"
    return jsonschema_rs.validator_for(json.loads(file.read_text("utf-8-sig")), validate_formats=formats)


def asked(version: str, action: str) -> str:
    """What a CALL's schema is called: 1.6 has no word behind the action."""
    return action if version == "ocpp1.6" else f"{action}Request"


def valid(version: str, name: str, payload: Any) -> Any:
    """The payload as it is written on the wire, if the standard's schema agrees."""
    said = json.loads(json.dumps(payload))
    validator(version, name).validate(said)
    return said


def exchange(
    version: str, action: str, call: Any, answer: Any = None, *, kind: int = 3, sender: Any = "station", standard: bool = True
) -> Exchange:
    """A CALL and its answer; without one it is still open. Not `standard`: stations say so all the same."""
    if standard:
        valid(version, asked(version, action), call)
        if answer is not None and kind == 3:
            valid(version, f"{action}Response", answer)
    frame = json.dumps([2, "17", action, call]).encode()
    if answer is None and kind == 3:
        return Exchange(sender, action, frame, None, 0, None)
    said = [4, "17", "InternalError", "", {}] if kind == 4 else [3, "17", answer]
    return Exchange(sender, action, frame, json.dumps(said).encode(), kind, None)


def observe(version: str, action: str, *more: Any, **how: Any) -> tuple[Observation, ...]:
    """What the version's dialect makes of it a second after noon."""
    return BY_NAME[version].observe(exchange(version, action, *more, **how), Instant(1000.0, NOON + 1))


def answer(payload: Any) -> bytes:
    """The answer to a CALL of ours."""
    return json.dumps([3, "ocb-1", payload]).encode()


def set_by_cpms(charging: Any, action: str, call: Any, said: Any, *, error: bool = False) -> tuple[Any, ...]:
    """What a version's smart charging makes of a CALL of the CPMS and its answer."""
    frame = json.dumps([2, "9", action, call]).encode()
    observed: tuple[Any, ...] = charging.observe(
        Exchange("cpms", action, frame, None, 4 if error else 3, None), call, None if error else said
    )
    return observed


# ---------------------------------------------------------------- profiles of ours, as hypothesis makes them up

_limits = st.one_of(st.integers(0, 999_999).map(lambda tenths: tenths / 10), st.floats(0, 100_000))
_periods = st.lists(st.builds(Period, st.integers(0, 86_400), _limits, st.sampled_from([None, 1, 3])), min_size=1, max_size=24).map(tuple)
_moments = st.floats(1.6e9, 2.2e9)


@st.composite
def profiles(draw: st.DrawFn, transaction_ids: st.SearchStrategy[str]) -> ChargingProfile:
    """Any that we may send."""
    purpose = draw(st.sampled_from(["max", "default", "tx"]))
    return ChargingProfile(
        id=draw(st.integers(1, 2**31 - 1)),
        stack_level=draw(st.integers(0, 99)),
        purpose=purpose,
        kind="Absolute",
        unit=draw(st.sampled_from("AW")),
        periods=draw(_periods),
        start=draw(_moments),
        duration_s=draw(st.none() | st.integers(1, 86_400)),
        transaction_id=draw(transaction_ids) if purpose == "tx" else None,
        valid_to=draw(st.none() | _moments),
    )
