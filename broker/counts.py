"""Plain integers, counted where things happen and read when somebody asks.

`add` costs one dictionary update; names and label meanings are listed where they are exposed (`broker.net.metrics`).
"""

from __future__ import annotations

from bisect import bisect_left

BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class Timing:
    """A histogram of seconds over `BUCKETS_S`; the last slot is everything above."""

    __slots__ = ("slots", "total")

    def __init__(self) -> None:
        self.slots = [0] * (len(BUCKETS_S) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.slots[bisect_left(BUCKETS_S, seconds)] += 1
        self.total += seconds


class Counts:
    """Everything counted in one process. Labels are few by construction: never an identity, an id or a text from outside."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, ...], int] = {}
        self.timings: dict[str, Timing] = {}

    def add(self, name: str, *labels: str, n: int = 1) -> None:
        """Count `n` more of `name` with these label values."""
        self.count((name, *labels), n)

    def count(self, at: tuple[str, ...], n: int = 1) -> None:
        """The same, with name and labels put together beforehand."""
        self.of[at] = self.of.get(at, 0) + n

    def took(self, name: str, seconds: float) -> None:
        """One more duration of `name`."""
        timing = self.timings.get(name)
        if timing is None:
            timing = self.timings[name] = Timing()
        timing.add(seconds)

    def total(self, name: str) -> int:
        """The sum of `name` over all labels."""
        return sum(n for at, n in self.of.items() if at[0] == name)
