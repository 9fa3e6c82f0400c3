"""The engine's contract, docs/engine-api.yaml, as something to hold bodies against."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

API = yaml.safe_load((Path(__file__).parent.parent / "docs" / "engine-api.yaml").read_text(encoding="utf-8"))


@cache
def validator(schema: str, exactly: bool = False) -> Any:
    """Of one of its schemas, formats included. `exactly`: a field that it does not name is wrong."""
    document = {**API["components"]["schemas"][schema], "components": API["components"]}
    return jsonschema_rs.validator_for(document | ({"unevaluatedProperties": False} if exactly else {}), validate_formats=True)


def fits(schema: str, body: Any) -> bool:
    """Whether this is what the contract says, and nothing besides."""
    return bool(validator(schema, exactly=True).is_valid(body))
