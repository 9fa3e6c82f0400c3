"""How the simulated engine shares a site's power: who charges goes in, watts for each socket come out. Pure arithmetic.

Every socket that charges gets the least a car can use (6 A), then all rise together until the limit or their own maximum. If
the limit does not carry 6 A for everybody, some pause, and who pauses rotates from period to period.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

VOLTS = 230.0
LEAST_AMPS = 6.0  # IEC 61851: below it a car may not charge


class Charging(NamedTuple):
    """A socket with an open transaction."""

    asset: str
    phases: int
    max_amps: float
    suspended: bool = False
    """The car takes nothing now: it keeps the least, so that it can begin again."""

    def watts(self, amps: float) -> float:
        return amps * self.phases * VOLTS


def share(limit_w: float, sockets: Sequence[Charging], turn: int = 0) -> dict[str, int]:
    """Watts for each socket, together at most `limit_w`; each 0 or between 6 A and its maximum."""
    watts = dict.fromkeys((socket.asset for socket in sockets), 0)
    left = max(0.0, limit_w)
    admitted: list[Charging] = []
    for socket in _queue(sockets, turn):
        least = socket.watts(LEAST_AMPS)
        if least <= left and socket.max_amps >= LEAST_AMPS:
            left -= least
            admitted.append(socket)
    level = _level(admitted, left)
    for socket in admitted:
        watts[socket.asset] = int(_at(socket, level))
    return watts


def _queue(sockets: Sequence[Charging], turn: int) -> list[Charging]:
    """Who is served first: cars that want power, beginning with another one each turn."""
    eager = sorted(socket for socket in sockets if not socket.suspended)
    begin = turn % len(eager) if eager else 0
    return eager[begin:] + eager[:begin] + sorted(socket for socket in sockets if socket.suspended)


def _at(socket: Charging, level: float) -> float:
    least, most = socket.watts(LEAST_AMPS), socket.watts(socket.max_amps)
    return least if socket.suspended else min(most, max(least, level))


def _level(admitted: Sequence[Charging], spare: float) -> float:
    """The watts up to which all rise so that `spare` watts above everybody's least are used up."""
    low, high = 0.0, max((socket.watts(socket.max_amps) for socket in admitted), default=0.0)
    budget = spare + sum(socket.watts(LEAST_AMPS) for socket in admitted)
    for _ in range(50):
        middle = (low + high) / 2
        if sum(_at(socket, middle) for socket in admitted) <= budget:
            low = middle
        else:
            high = middle
    # The last step up, if it fits: a whole number stays whole.
    return high if sum(_at(socket, high) for socket in admitted) <= budget + 1e-6 else low


def plan(
    now: float, period_s: float, periods: int, limit_w: Callable[[float], float], sockets: Sequence[Charging]
) -> Mapping[str, list[tuple[float, int]]]:
    """Asset → [(start, watts)]: from the period that runs at `now` on, `periods` of them."""
    first = int(now // period_s)
    steps: dict[str, list[tuple[float, int]]] = {socket.asset: [] for socket in sockets}
    for turn in range(first, first + periods):
        start = turn * period_s
        for asset, watts in share(limit_w(start), sockets, turn).items():
            steps[asset].append((start, watts))
    return steps
