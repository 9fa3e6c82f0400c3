"""What hangs on an object: for tests of what is kept, and of what it weighs."""

from __future__ import annotations

import gc
from typing import Any


def reachable(root: object, beside: tuple[type, ...]) -> dict[int, Any]:
    """All that is reachable from it, by identity, but for what is of the types `beside` and whatever hangs on that alone."""
    found: dict[int, Any] = {}
    todo = [root]
    while todo:
        one = todo.pop()
        if id(one) not in found and not isinstance(one, beside):
            found[id(one)] = one
            todo += gc.get_referents(one)
    return found
