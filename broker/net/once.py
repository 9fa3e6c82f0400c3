"""A command's work that needs the reactor: it runs once, and its result comes back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import react

Result = TypeVar("Result")


def once(work: Callable[[Any], Coroutine[Deferred[Any], Any, Result]]) -> Result:
    """What `work(reactor)` gives; raises what it raises. Once in a process: a reactor that stopped does not run again."""
    results: list[Result] = []
    failures: list[BaseException] = []

    def main(reactor: Any) -> Deferred[Any]:
        return ensureDeferred(work(reactor)).addCallbacks(results.append, lambda failure: failures.append(failure.value))

    try:
        react(main)
    except SystemExit:
        if not results and not failures:
            raise KeyboardInterrupt from None
    if failures:
        raise failures[0]
    return results[0]
