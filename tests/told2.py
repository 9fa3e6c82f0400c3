"""What a 2.x dialect makes of a CALL that the standard's own schemas allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import ocpp
import pytest

from broker.model.basics import Instant
from broker.model.observations import Observation
from broker.model.traffic import Exchange
from broker.ocpp.dialects import BY_NAME

NOON, AT = 1768046400.0, "2026-01-10T12:00:00Z"
FOLDERS = {"ocpp2.0.1": "v201", "ocpp2.1": "v21"}
both = pytest.mark.parametrize("version", FOLDERS)


def observe(version: str, action: str, call: Any, *, sender: Any = "station", valid: bool = True) -> tuple[Observation, ...]:
    if valid:
        file = Path(ocpp.__file__).parent / FOLDERS[version] / "schemas" / f"{action}Request.json"
        jsonschema_rs.validator_for(json.loads(file.read_text("utf-8-sig")), validate_formats=False).validate(call)
    exchange = Exchange(sender, action, json.dumps([2, "9", action, call]).encode(), None, 0, None)
    return BY_NAME[version].observe(exchange, Instant(1000.0, NOON))
