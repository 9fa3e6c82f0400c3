"""What the engine has yet to be told: in order per station, stations in parallel, tried again with care, never for ever.

Rows come from the store in the order they were written; `take` says which may be sent now, `settle` what became of one. The
rows themselves stay in the store until they are settled, so nothing here needs to survive a restart.

    waiting ─▶ taken ─▶ stored ─▶ done
                 │  └──▶ poison ─▶ dead (the station's next row moves up)
                 └──▶ retry ─▶ waiting, not before its time (and dead once it is shown to be this row, not the engine)

A row that the engine always trips over (500) would hold up its station for ever. It is told from an engine that is away by the
others: when this row fails again and again while other stations' rows are stored, the row is put aside. An engine that fails
with everything, or a gateway that says the engine is away (502, 503, 504, 429, no answer), costs no row its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

CAP_S: Final = 60.0  # the longest pause between two tries: an engine that is back should hear of it within a minute
FIRST_S: Final = 1.0
ASKED_MOST_S: Final = 3600.0  # how long an engine may ask us to wait; a slip of its clock must not silence us for days
OPEN_AFTER: Final = 10  # failures in a row after which the engine is thought to be away, and only probed
WINDOW: Final = 2000  # rows held in memory; the rest waits in the store
TRIES: Final = 5  # refusals (4xx) other than 400 and 422 after which a row is dead
STUMBLES: Final = 20  # 5xx answers to one row, and
STUMBLING_S: Final = 3600.0  # the time from the first to the last of them, and
OTHERS: Final = 20  # rows of other stations stored in that time: then it is the row that the engine trips over
ALONE_S: Final = 30 * 86400.0  # without others to tell by: by then nobody repairs that engine for this row
AWAY: Final = frozenset({502, 503, 504})  # a gateway's words for "the engine is away": they say nothing about a row
AT_ONCE: Final = frozenset({400, 422})  # the body itself is refused: the same body will be refused again


class Row(NamedTuple):
    """One record as the store keeps it."""

    seq: int
    station: str
    key: str
    kind: str
    body: str


class Verdict(NamedTuple):
    """What the engine said to one row."""

    kind: Literal["stored", "poison", "retry", "unauthorised"]
    status: int = 0
    """The HTTP status; 0 = no answer."""
    retry_after: float | None = None
    detail: str = ""


class Settled(NamedTuple):
    """`done`: delete the row; `dead`: move it to the dead letters with this reason; neither: it will be tried again."""

    done: bool
    dead: str | None


@dataclass(slots=True, eq=False)
class _Lane:
    """One station's rows, in order."""

    rows: deque[Row] = field(default_factory=deque)
    not_before: float = 0.0
    refusals: int = 0
    failures: int = 0
    taken: bool = False
    stumbles: int = 0
    since: float = 0.0
    """When the engine first tripped over this row, and how many rows it had stored by then."""
    stored: int = 0


class Outbox:
    """One tenant's. `jitter` returns a number in [0, 1); times are monotonic seconds."""

    def __init__(self, *, jitter: Callable[[], float], in_flight: int = 16) -> None:
        self._jitter = jitter
        self._most = in_flight
        self._lanes: dict[str, _Lane] = {}
        self._station: dict[int, str] = {}
        self._taken = 0
        self._failures = 0
        self._stored = 0
        self._probe_at = 0.0
        self._asked_until = 0.0
        """The engine's Retry-After: it is one engine, so it holds for every station's rows."""

    @property
    def room(self) -> int:
        """How many more rows may be loaded."""
        return max(0, WINDOW - len(self._station))

    @property
    def open(self) -> bool:
        """The breaker is open: the engine is away, and one row at a time finds out whether it is back."""
        return self._failures >= OPEN_AFTER

    @property
    def _closed_until(self) -> float:
        """Nothing at all is sent before."""
        return max(self._asked_until, self._probe_at) if self.open else self._asked_until

    def load(self, rows: Iterable[Row]) -> None:
        """Rows from the store, in their order; one that is here already is passed over."""
        for row in rows:
            if row.seq not in self._station:
                self._station[row.seq] = row.station
                self._lanes.setdefault(row.station, _Lane()).rows.append(row)

    def take(self, now: float) -> list[Row]:
        """The rows to be sent now. Each must be settled."""
        most = 0 if now < self._closed_until else (1 if self.open else self._most) - self._taken
        rows: list[Row] = []
        for lane in self._lanes.values():
            if len(rows) >= most:
                break
            if not lane.taken and lane.not_before <= now:
                lane.taken = True
                rows.append(lane.rows[0])
        self._taken += len(rows)
        return rows

    def settle(self, seq: int, verdict: Verdict, now: float) -> Settled:
        """What became of a row that was taken. Raises KeyError for one that was not."""
        name = self._station[seq]
        lane = self._lanes[name]
        if not lane.taken or lane.rows[0].seq != seq:
            raise KeyError(seq)
        lane.taken = False
        self._taken -= 1
        if verdict.kind == "stored":
            self._failures = 0
            self._stored += 1
            return self._drop(name, lane, Settled(True, None))
        if verdict.kind == "poison":
            return self._refused(name, lane, verdict, now)
        self._failed(name, lane, verdict, now)
        if self._stumbled(lane, verdict, now):
            return self._drop(name, lane, Settled(False, f"{verdict.status} to {lane.stumbles} tries"))
        return Settled(False, None)

    def wake_at(self, now: float) -> float | None:
        """When `take` will next give something, if nothing else happens; None when only a load or a settle can change that."""
        free = [lane.not_before for lane in self._lanes.values() if not lane.taken]
        if not free or self._taken >= (1 if self.open else self._most):
            return None
        return max(now, min(free), self._closed_until)

    def _refused(self, name: str, lane: _Lane, verdict: Verdict, now: float) -> Settled:
        self._failures = 0  # it is there, and answers
        lane.refusals += 1
        if verdict.status in AT_ONCE or lane.refusals >= TRIES:
            return self._drop(name, lane, Settled(False, f"{verdict.status} {verdict.detail}".strip()))
        lane.not_before = now + self._pause(lane.refusals)
        return Settled(False, None)

    def _failed(self, name: str, lane: _Lane, verdict: Verdict, now: float) -> None:
        lane.failures += 1
        self._failures += 1
        lane.not_before = now + self._pause(lane.failures)
        # To the back: the one row that an engine trips over must not be its only probe for ever.
        self._lanes[name] = self._lanes.pop(name)
        if verdict.retry_after is not None:
            self._asked_until = max(self._asked_until, now + min(max(verdict.retry_after, 0.0), ASKED_MOST_S))
        if self.open:
            self._probe_at = now + self._pause(self._failures - OPEN_AFTER + 1)
            # The probe is any station's row, whoever's row found the engine away.
            for other in self._lanes.values():
                other.not_before = min(other.not_before, self._probe_at)

    def _stumbled(self, lane: _Lane, verdict: Verdict, now: float) -> bool:
        """Is it this row that the engine trips over, for good?"""
        if verdict.status < 500 or verdict.status in AWAY:
            return False
        if not lane.stumbles:
            lane.since, lane.stored = now, self._stored
        lane.stumbles += 1
        patience = STUMBLING_S if self._stored - lane.stored >= OTHERS else ALONE_S
        return lane.stumbles >= STUMBLES and now - lane.since >= patience

    def _pause(self, tries: int) -> float:
        """Full jitter: anywhere between nothing and a bound that doubles."""
        return self._jitter() * min(CAP_S, FIRST_S * 2.0 ** min(tries, 10))

    def _drop(self, name: str, lane: _Lane, settled: Settled) -> Settled:
        del self._station[lane.rows.popleft().seq]
        del self._lanes[name]
        if lane.rows:  # to the back: every station gets its turn
            self._lanes[name] = _Lane(lane.rows)
        return settled
