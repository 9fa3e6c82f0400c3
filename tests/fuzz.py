"""`make fuzz`: a pytest plugin that gives every property FUZZ (20) times its examples, and power cuts CUTS (20) times theirs."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

KEPT = "_hypothesis_internal_use_settings"  # where hypothesis keeps a test's settings: the only way to change them from outside


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only properties and the power cuts are left, each with more examples."""
    times = int(os.environ.get("FUZZ", "20"))
    kept = [item for item in items if hasattr(getattr(item, "obj", None), "is_hypothesis_test") or "power_cuts" in item.nodeid]
    for item in kept:
        own: settings | None = getattr(item.obj, KEPT, None)  # type: ignore[attr-defined]
        if own is not None:
            setattr(item.obj, KEPT, settings(own, max_examples=times * own.max_examples, deadline=None))  # type: ignore[attr-defined]
    items[:] = kept
