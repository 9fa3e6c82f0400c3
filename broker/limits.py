"""What may be reckoned with of the CPMS's limits right now: what is known of them, and what is on its way.

`profiles.shadow` says which profiles are there, `profiles.baseline` what the station said is in force. Here is what makes it safe to use
while things move: a CPMS's CALL about profiles counts, with it and without, before the station answers, and for ever if it never
does; a reading is too old after less than the day it looks ahead, and was made under a transaction that may be over now; a clear
may uncover a limit that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from broker.leases import Lease
from broker.model.basics import EMPTY
from broker.model.observations import ClearSeen, CompositeSeen, LimitCleared, LimitTold, Observation, ProfileSeen, TransactionSeen
from broker.model.records import Fact, OpenTransaction
from broker.profiles.baseline import Baseline
from broker.profiles.composite import Course, Place, Running, course
from broker.profiles.decide import DAY_S, UNKNOWN, Limit, limit_of
from broker.profiles.external import External
from broker.profiles.saying import Placed
from broker.profiles.shadow import Entry, Shadow
from broker.profiles.shadowfacts import Unread
from broker.settings import EvseSettings, StationSettings

NOMINAL_V: Final = 230.0
AHEAD_S: Final = 86_400  # how far ahead a station is asked
TRUSTED_S: Final = 20 * 3600.0  # less than that by more than the longest lease
REFUSED_S: Final = 3600.0  # a station that refused to say is asked again
UNANSWERED_S: Final = 60.0  # then a CPMS's CALL is not answered any more
COMING: Final = 16  # profiles on their way; there is one CALL at a time
HORIZON_S: Final = 2 * DAY_S + 3600.0  # a day after the end of the longest lease
AGAIN_S: Final = 600.0  # how long what was worked out is used: every day ahead looks like the one before
ON_TIME_S: Final = 60.0  # a reading that begins at another time than now is not placed in time

Facts = tuple[Fact, ...]
Change = ProfileSeen | ClearSeen


class Limits:
    """One station's. `now` is monotonic seconds; facts are for a restart."""

    __slots__ = (
        "_ac", "_ask", "_at", "_baseline", "_coming", "_expire_at", "_external", "_old", "_open_on", "_places", "_shadow", "_under",
        "_worked_out", "refresh_at",
    )  # fmt: skip

    ahead_s = AHEAD_S

    def __init__(
        self,
        station: StationSettings,
        baseline: Literal["ask", "none", "seen"],
        facts: Iterable[Fact],
        now: float,
        version: str,
        open_transaction: Callable[[int], OpenTransaction | None],
    ) -> None:
        known = tuple(facts)
        self._ac = station.current == "ac"
        self._ask, self._old, self._open_on = baseline == "ask", version == "ocpp1.6", open_transaction
        self._places = {evse.number: Place(evse.number, self._ac, evse.phases) for evse in station.evses}
        self._shadow = Shadow(version, station.evses[0].number if len(station.evses) == 1 else 0, known)
        self._baseline = Baseline(self._ask, self._ac, known)
        self._external = External(known)
        self._coming: list[tuple[float, Change]] = []
        self._under: frozenset[int] = EMPTY  # EVSEs that were read while a transaction ran there
        self._worked_out: dict[tuple[int, bool], tuple[float, Running | None, Course]] = {}
        self._at = self._expire_at = 0.0
        self.refresh_at = now + TRUSTED_S

    # ------------------------------------------------------------ what is learned

    def at(self, station_time: float) -> None:
        """What the station's clock says now. Everything here is reckoned in it."""
        self._at = station_time

    def observe(self, seen: Observation, installed: bool) -> Facts:
        """An answered exchange. `installed`: what a station reads out may contain ours."""
        if isinstance(seen, (LimitTold, LimitCleared)):
            return self._external.told(seen) if isinstance(seen, LimitTold) else self._without(self._external.cleared(seen), seen.evse)
        facts = self._shadow.observe(seen)
        self._worked_out.clear()
        if isinstance(seen, (ProfileSeen, ClearSeen)):
            came = next((one for one in self._coming if _same(one[1], seen)), None)
            if came is not None:
                self._coming.remove(came)
        if isinstance(seen, CompositeSeen):
            return facts if installed else (*facts, *self._baseline.overheard(seen))
        if isinstance(seen, ClearSeen) and seen.accepted:
            return (*facts, *(self._baseline.cleared() if _everything(seen) else self._baseline.forget(seen.evse or 0)))
        if isinstance(seen, TransactionSeen) and seen.phase == "ended" and seen.evse in self._under:
            self._under = self._under - {seen.evse} or EMPTY
            return (*facts, *self._baseline.forget(seen.evse))
        if (
            isinstance(seen, TransactionSeen)
            and seen.phase == "started"
            and not seen.offline
            and seen.evse
            and self._baseline.varies(seen.evse)
        ):
            return (*facts, *self._baseline.forget(seen.evse))
        return facts

    def asked(self, seen: Change, now: float) -> None:
        """The CPMS is about to send this: it counts until the station refuses it, besides what it replaces."""
        self._worked_out.clear()
        self._coming = [*self._coming[-COMING + 1 :], (now, seen)]

    def answered(self, told: CompositeSeen, now: float, running: bool) -> Facts:
        """The answer to our own question. `running`: a transaction runs on that EVSE."""
        self._under = self._under | {told.evse} if running else self._under - {told.evse} or EMPTY
        self.refresh_at = min(self.refresh_at, now + (TRUSTED_S if told.accepted and told.periods else REFUSED_S))
        placed = told.start is not None and abs(told.start - self._at) <= ON_TIME_S
        return self._baseline.answered(told, placed and (running or told.evse == 0))

    def refresh(self, now: float) -> Facts:
        """What has grown too old is forgotten; what was never answered is doubted for ever."""
        facts: Facts = ()
        if now >= self._expire_at:
            self._expire_at = now + AGAIN_S
            facts += (*self._shadow.expire(self._at), *self._without(self._external.expire(self._at), 0))
        for since, seen in list(self._coming) if self._coming else ():
            if since + UNANSWERED_S <= now:
                self._coming.remove((since, seen))
                facts += self._shadow.unanswered(seen)
        if facts:
            self._worked_out.clear()
        if self._coming:
            facts += self._shadow.keep(seen for _, seen in self._coming)
        return facts if now < self.refresh_at else (*facts, *self.forget(now))

    def _without(self, gone: Facts, evse: int) -> Facts:
        """Limits from elsewhere are gone, and with them what was read while they were in it."""
        return (*gone, *(self._baseline.forget(evse) if gone else ()))

    def forget(self, now: float) -> Facts:
        """After a boot, or in time: to be asked again."""
        self._under = EMPTY
        self.refresh_at = now + TRUSTED_S
        return self._baseline.forget()

    # ------------------------------------------------------------ what it comes to

    def to_ask(self, evse: int) -> tuple[int, ...]:
        """Where the station must be asked first."""
        return self._baseline.to_ask(evse)

    def limit(self, evse: int, purpose: str = "tx") -> Limit:
        """What all but us allow there from now on, whatever becomes of the CPMS's CALLs that are under way.

        `purpose`: ours. A profile for the whole station holds beside all others, and one of a transaction ends with it; a
        TxDefaultProfile of ours would hold for the next transaction too, when the CPMS's TxProfile is gone.
        """
        unread = next((one for one in self._entries() if isinstance(one, Unread) and one.evse in (0, evse)), None)
        if unread is not None:
            return Limit(False, None, f"{UNKNOWN}: {unread.why}")
        if why := self._external.unknown(evse):
            return Limit(False, None, f"{UNKNOWN}: {why}")
        read = self._baseline.courses(self._places[evse], self._at, self._at + HORIZON_S)
        if read is None:
            return Limit(False, None, UNKNOWN)
        beside = self._external.courses(self._places[evse], self._at, self._at + HORIZON_S)
        return limit_of([self._course(evse, purpose == "default"), *read, *beside], self._at)

    def in_force(self, evse: int) -> bool:
        """Whether a profile of the CPMS says something there now, or may."""
        found = self._course(evse, True)
        return bool(found.why) or limit_of([found], self._at).value is not None

    def used_level(self, purpose: str, evse: int) -> int | None:
        """The highest stack level that the CPMS uses there for that purpose, or is about to."""
        placed = [one for one in self._entries() if isinstance(one, Placed) and one.evse in (0, evse)]
        return max((one.profile.stack_level for one in placed if one.profile.purpose == purpose), default=None)

    def bare(self, evse: int) -> bool:
        """Nobody but us limits it, as far as anybody can know: no profile of the CPMS, and no limit in what the station read out."""
        limit = self.limit(evse)
        return limit.known and not limit.spans and not self._coming

    def room(self, ours: int, most: int | None) -> bool:
        """Whether the station, which holds `most` profiles, has room for `ours` beside the CPMS's."""
        theirs = {(one.evse, one.profile.id if isinstance(one, Placed) else one.id) for one in self._entries()}
        return most is None or len(theirs) + ours <= most

    def uncovered(self, seen: ClearSeen, ours: Mapping[int, Lease]) -> set[int]:
        """The EVSEs with a profile of ours where this clear may bring to light a lower limit that nobody has seen."""
        if not self._ask or _everything(seen) or any(lease.profile_id == seen.profile_id for lease in ours.values()):
            return set()
        return {number for number in ours if seen.evse in (None, 0, number)}

    def most(self, evse: EvseSettings) -> float | None:
        """What the installation allows there, in A per phase for ac and W for dc; None: nobody said."""
        return None if evse.max_amps is None else evse.max_amps * (1.0 if self._ac else NOMINAL_V * evse.phases)

    def explain(self, evse: int) -> dict[str, Any]:
        """As plain data."""
        limit = self.limit(evse)
        return {
            "known": limit.known,
            "limit": limit.value,
            "unit": "A" if self._ac else "W",
            "why": limit.why,
            "profiles": sum(one.evse in (0, evse) for one in self._shadow.entries),
        }

    def _entries(self) -> tuple[Entry, ...]:
        return self._shadow.with_coming(seen for _, seen in self._coming) if self._coming else self._shadow.entries

    def _course(self, evse: int, outlives: bool) -> Course:
        """Of the profiles that were seen; worked out again when something changed, and now and then."""
        running = self._running(evse)
        begun, under, found = self._worked_out.get((evse, outlives), (0.0, None, None))
        if found is None or under != running or not begun <= self._at < begun + AGAIN_S:
            placed = [one for one in self._entries() if isinstance(one, Placed)]
            end = self._at + HORIZON_S
            found = course(placed, self._places[evse], running, self._at, end, own_first=self._old, outlives=outlives)
            self._worked_out[evse, outlives] = self._at, running, found
        return found

    def _running(self, evse: int) -> Running | None:
        """1.6: a Relative schedule runs from the transaction's start. 2.x: from when energy flows, which nobody tells for certain."""
        open = self._open_on(evse)
        return Running(open.ocpp_id, open.started_at, open.started_at if self._old else None) if open is not None and open.live else None


def _everything(seen: ClearSeen) -> bool:
    return (seen.profile_id, seen.evse, seen.purpose, seen.stack_level) == (None, None, None, None)


def _same(asked: Change, answered: Observation) -> bool:
    """The same CALL, at its way to the station and at its answer."""
    if isinstance(asked, ProfileSeen) and isinstance(answered, ProfileSeen):
        return (asked.evse, asked.profile) == (answered.evse, answered.profile)
    if isinstance(asked, ClearSeen) and isinstance(answered, ClearSeen):
        return replace(asked, accepted=True) == replace(answered, accepted=True)
    return False
