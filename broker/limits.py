"""What may be reckoned with of the CPMS's limits right now: what is known of them, and what is on its way.

`profiles.ceiling` says what was learned. Here is what makes it safe to use while things move: a profile that the CPMS has sent
counts before the station answers, and for ever if it never does; a reading is too old after less than the day it looks ahead, and
was made under a transaction that may be over now; a clear may uncover a limit that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal

from broker.leases import Lease
from broker.model import ClearSeen, CompositeSeen, Fact, Observation, ProfileSeen, TransactionSeen
from broker.profiles.ceiling import Ceiling, Limit
from broker.settings import EvseSettings, StationSettings

NOMINAL_V: Final = 230.0
AHEAD_S: Final = 86_400  # how far ahead a station is asked
TRUSTED_S: Final = 20 * 3600.0  # less than that by more than the longest lease
REFUSED_S: Final = 3600.0  # a station that refused to say is asked again
UNANSWERED_S: Final = 60.0  # then a CPMS's CALL is not answered any more
COMING: Final = 16  # profiles on their way; there is one CALL at a time

Facts = tuple[Fact, ...]


class Limits:
    """One station's. Times are monotonic seconds; facts are for a restart."""

    ahead_s = AHEAD_S

    def __init__(self, station: StationSettings, baseline: Literal["ask", "none", "seen"], facts: Iterable[Fact], now: float) -> None:
        self._ac = station.current == "ac"
        self._ask = baseline == "ask"
        self._ceiling = Ceiling(station, baseline, facts)
        self._coming: dict[tuple[int, int], tuple[float, ProfileSeen]] = {}
        self._under: set[int] = set()  # EVSEs that were read while a transaction ran there
        self.refresh_at = now + TRUSTED_S

    def observe(self, seen: Observation, installed: bool) -> Facts:
        """An answered exchange. `installed`: what a station reads out may contain ours."""
        if isinstance(seen, ProfileSeen):
            self._coming.pop((seen.evse, seen.profile.id), None)
        facts = self._ceiling.observe(seen, (), installed)
        if isinstance(seen, ClearSeen) and seen.accepted:
            return (*facts, *self._ceiling.forget_baseline(seen.evse or 0))
        if isinstance(seen, TransactionSeen) and seen.phase == "ended" and seen.evse in self._under:
            self._under.discard(seen.evse)
            return (*facts, *self._ceiling.forget_baseline(seen.evse))
        return facts

    def asked(self, seen: ProfileSeen, now: float) -> None:
        """The CPMS is about to send this: it counts until the station refuses it, besides what it replaces."""
        if len(self._coming) < COMING:
            self._coming[seen.evse, seen.profile.id] = (now, seen)

    def answered(self, told: CompositeSeen, now: float, running: bool) -> Facts:
        """The answer to our own question. `running`: a transaction runs on that EVSE."""
        self._under = self._under | {told.evse} if running else self._under - {told.evse}
        self.refresh_at = min(self.refresh_at, now + (TRUSTED_S if told.accepted and told.periods else REFUSED_S))
        return self._ceiling.answered(told)

    def refresh(self, now: float) -> Facts:
        """What has grown too old is forgotten; what was never answered is believed, if it is lower."""
        facts: Facts = ()
        for name, (since, seen) in list(self._coming.items()):
            if since + UNANSWERED_S <= now:
                del self._coming[name]
                if _lower(self._ceiling.would(seen, seen.evse), self._ceiling.limit(seen.evse)):
                    facts += self._ceiling.observe(replace(seen, accepted=True), (), True)
        return facts if now < self.refresh_at else (*facts, *self.forget(now))

    def forget(self, now: float) -> Facts:
        """After a boot, or in time: to be asked again."""
        self._under.clear()
        self.refresh_at = now + TRUSTED_S
        return self._ceiling.forget_baseline()

    def to_ask(self, evse: int) -> tuple[int, ...]:
        """Where the station must be asked first."""
        return self._ceiling.to_ask(evse)

    def limit(self, evse: int) -> Limit:
        """What the CPMS alone allows there, now and when its own CALLs are through."""
        found = [self._ceiling.limit(evse)]
        found += [self._ceiling.would(seen, evse) for _, seen in self._coming.values()]
        unknown = next((limit for limit in found if not limit.known), None)
        return unknown or min(found, key=lambda limit: float("inf") if limit.value is None else limit.value)

    def used_level(self, purpose: str, evse: int) -> int | None:
        """The highest stack level that the CPMS uses there for that purpose, or is about to."""
        coming = [seen.profile for _, seen in self._coming.values() if seen.evse in (0, evse)]
        levels = [self._ceiling.used_level(purpose, evse), *(one.stack_level for one in coming if one.purpose == purpose)]
        return max((level for level in levels if level is not None), default=None)

    def uncovered(self, seen: ClearSeen, ours: Mapping[int, Lease]) -> set[int]:
        """The EVSEs with a profile of ours where this clear may bring to light a lower limit that nobody has seen."""
        everything = (seen.profile_id, seen.evse, seen.purpose, seen.stack_level) == (None, None, None, None)
        if not self._ask or everything or any(lease.profile_id == seen.profile_id for lease in ours.values()):
            return set()
        return {number for number in ours if seen.evse in (None, 0, number)}

    def most(self, evse: EvseSettings, limit: Limit) -> float | None:
        """The most that may be said there, in A per phase for ac and W for dc; None: anything."""
        per_amp = 1.0 if self._ac else NOMINAL_V * evse.phases
        bounds = [limit.value, None if evse.max_amps is None else evse.max_amps * per_amp]
        return min((bound for bound in bounds if bound is not None), default=None)

    def explain(self, evse: int) -> dict[str, Any]:
        """As plain data."""
        limit = self.limit(evse)
        return {**self._ceiling.explain(evse), "known": limit.known, "limit": limit.value, "why": limit.why}


def _lower(new: Limit, old: Limit) -> bool:
    if not new.known or not old.known:
        return old.known
    return new.value is not None and (old.value is None or new.value < old.value)
