"""All that is known of one station and what of ours stands there: the injector's state, and the small questions about it.

Who decides what is sent is `deciding`, who judges how it went is `judging`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from broker.clears import Clears
from broker.guards import Guards
from broker.leases import Lease, lease_of
from broker.limits import Limits
from broker.makes import KNOWN
from broker.model.basics import EMPTY, Instant
from broker.model.observations import Capabilities
from broker.model.orders import Alarm, Inject, Pass, Remember, Report
from broker.model.records import Fact, OpenTransaction, Outcome, OutcomeStatus
from broker.obedience import Verdict
from broker.ocpp.dialect import Dialect, Request
from broker.profiles.ladder import Ladder, abilities_fact, abilities_of, merged, profile_id
from broker.quirks import quirks_of
from broker.settings import ChargingSettings, Quirk, StationSettings
from broker.sockets import Socket
from broker.stationclock import StationClock
from broker.wellness import Wellness

SETTLE_S: Final = 10.0  # after the link opened: stations that are asked at once reconnect
FLAPPING_S: Final = 300.0  # a link that lasted this long is not one of a series
PLACES: Final = 2  # EVSEs are enough to know that there are several
ID_BLOCK: Final = 1000  # further on when the CPMS uses an id of ours

Effect = Inject | Report | Remember | Pass | Alarm
Effects = tuple[Effect, ...]


class Job(NamedTuple):
    """The one CALL of ours that is under way."""

    token: int
    kind: str
    """set | clear | composite | capabilities"""
    request: Request
    socket: Socket | None = None
    lease: Lease | None = None
    place: int = 0
    """composite: the EVSE; clear: the profile's id."""
    changes: tuple[str, ...] = ()


class Standing:
    """One station's."""

    __slots__ = (
        "_abilities", "_asked", "_asked_abilities", "_charging", "_clears", "_clock", "_gate", "_guards", "_job", "_ladder", "_limits",
        "_maker", "_makes", "_new_token", "_now", "_open_on", "_opened", "_over", "_places", "_proven", "_quirks", "_rests", "_said",
        "_shadow", "_sockets", "_speech", "_station", "_taken", "_version", "_wellness", "_where", "wake_at",
    )  # fmt: skip

    def __init__(
        self,
        station: StationSettings,
        charging: ChargingSettings,
        dialect: Dialect,
        *,
        facts: Iterable[Fact],
        opened: Instant,
        flapping: bool,
        shadow: bool,
        new_token: Callable[[], int],
        open_transaction: Callable[[int], OpenTransaction | None],
        makes: Iterable[Quirk] = KNOWN,
    ) -> None:
        known = tuple(facts)
        self._station, self._speech, self._version = station, dialect.charging, dialect.name
        self._asked, self._makes, self._said = charging, tuple(makes), abilities_of(known)
        self._ladder = Ladder(charging.purposes, known)
        self._maker: tuple[str, str, str] | None = None
        self._made(next((fact.value for fact in known if fact.topic == "boot" and isinstance(fact.value, Mapping)), {}))
        self._gate = opened.mono + (FLAPPING_S if flapping else SETTLE_S)
        self._opened, self._shadow, self._now = opened, shadow, opened
        self._new_token, self._open_on = new_token, open_transaction
        self._limits = Limits(station, charging.baseline, known, opened.mono, dialect.name, open_transaction)
        self._clock = StationClock()
        self._sockets = {evse.number: Socket(evse) for evse in station.evses}
        self._clears = Clears()
        self._guards = Guards()
        self._wellness = Wellness()
        self._recall(known)
        self._asked_abilities = False
        self._places: tuple[int, ...] = ()  # that were seen: PLACES at most
        self._taken = frozenset(id for fact in known if (fact.topic, fact.name) == ("quirk", "taken") for id in fact.value or ()) or EMPTY
        running = {evse: open_transaction(evse) for evse in self._sockets}
        self._where = {t.ocpp_id: evse for evse, t in running.items() if t is not None and t.ocpp_id is not None}
        self._proven = self._over = self._rests = False
        self._job: Job | None = None
        self.wake_at: float | None = None

    def _made(self, boot: Mapping[str, Any]) -> None:
        """By whom; what is known of that make narrows what we try."""
        vendor, model, firmware = (str(boot.get(name) or "") for name in ("vendor", "model", "firmware"))
        if self._maker == (vendor, model, firmware):  # it boots once more
            return
        self._maker = vendor, model, firmware
        self._quirks = quirks_of(self._makes, *self._maker)
        self._charging = self._quirks.charging(self._asked)
        self._abilities = self._quirks.capabilities(self._said)
        self._ladder.purposes = self._charging.purposes

    def _recall(self, facts: Iterable[Fact]) -> None:
        """One lease per socket is kept; what else of ours may stand is cleared."""
        for fact in facts:
            lease = lease_of(fact)
            if lease is not None and lease.evse in self._sockets and self._sockets[lease.evse].lease is None:
                self._sockets[lease.evse].lease = lease
            elif fact.topic == "lease" and fact.value is not None and fact.name.isdecimal():
                self._clears.add(int(fact.name))

    @property
    def proven(self) -> bool:
        """Both ends of the link live, and the CPMS wants the station."""
        return self._proven

    def inherit(self, proven: bool, older: Standing | None) -> None:
        """What the link has shown already to those who learned from it before: not asked again, not learned again."""
        self._proven = proven
        if older is not None:
            self._clock, self._gate = older._clock, older._gate
            for evse in older._places:
                self._placed(evse)

    def well(self, name: str, raised_at: float) -> bool:
        """Is what the alarm of this name told, last at that moment, over? Where nothing is sent nothing of ours is wrong."""
        if self._shadow:
            return True
        if name == "clock":
            return self._clock.skew is not None and not self._clock.jumped
        return self._wellness.since(name, raised_at) and not (name == "release" and self._clears)

    # ------------------------------------------------------------ questions

    def _may(self, now: Instant) -> bool:
        """Whether a CALL of ours may be sent at all."""
        return self._proven and not self._shadow and not self._over and now.mono >= self._gate

    def _standing(self) -> list[Lease]:
        return [socket.lease for socket in self._sockets.values() if socket.lease is not None]

    def _of(self, socket: Socket) -> Lease | None:
        """What stands there, or is on its way."""
        coming = self._job.lease if self._job is not None and self._job.socket is socket else None
        return socket.lease if coming is None else coming.or_(socket.lease)

    def _station_time(self, now: Instant) -> float:
        """What its clock says, as far as is known."""
        return now.wall + (self._clock.skew or 0.0)

    def _above(self, lease: Lease) -> bool:
        """It allows more than the CPMS and `max_amps` do, now or later, or nobody knows. The operator may have lowered the latter."""
        at = self._station_time(self._now)
        self._limits.at(at)
        if self._charging.conflict == "cpms" and self._limits.in_force(lease.evse):
            return True
        limit = self._limits.limit(lease.evse, lease.purpose)
        return lease.above(limit.capped(at, self._limits.most(self._sockets[lease.evse].evse)), at)

    def _unit(self) -> str:
        wanted = "A" if self._station.current == "ac" else "W"
        units = self._abilities.units
        return wanted if not units or wanted in units else next(iter(units))

    def _id(self, purpose: str, evse: int) -> int:
        """Stable, so that an update replaces; never one that the CPMS uses."""
        id = profile_id(purpose, evse, self._abilities.max_external_id)
        while id in self._taken:
            id += ID_BLOCK
        return id

    def _ids(self) -> set[int]:
        """All that are ours now, or may be next."""
        coming = {self._id(purpose, evse) for purpose in self._charging.purposes for evse in self._sockets}
        return coming | {lease.profile_id for lease in self._standing()}

    # ------------------------------------------------------------ what is said

    def _send(
        self, kind: str, request: Request, socket: Socket | None, lease: Lease | None = None, place: int = 0, changes: tuple[str, ...] = ()
    ) -> list[Effect]:
        self._job = Job(self._new_token(), kind, request, socket, lease, place, changes)
        return [Inject(self._job.token, *request)]

    def _report(self, socket: Socket, status: OutcomeStatus, detail: str, now: Instant) -> list[Effect]:
        """Once for each schedule, status and reason."""
        schedule = socket.schedule
        if status == "accepted" and socket.reported in ("not-obeyed", "unverified"):
            return []  # renewed, and no better known
        socket.status, socket.why = status, detail
        said = f"{status} {detail}" if status == "not-sent" else status
        if schedule is None or socket.reported == said or (detail == "unchanged" and socket.reported is not None):
            return []
        socket.reported = said
        return [Report(Outcome(schedule.id, schedule.asset, status, now.wall, detail))]

    def _judged(self, socket: Socket, verdict: Verdict | None, now: Instant) -> list[Effect]:
        """What the meter says of a limit that was accepted; silence if it is kept."""
        lease, schedule = socket.lease, socket.schedule
        if verdict is None or lease is None:
            return []
        socket.judged = lease.schedule_id
        if verdict.kind == "obeyed" or schedule is None or schedule.id != lease.schedule_id:
            return []
        return self._report(socket, verdict.kind, verdict.detail, now)

    def _placed(self, evse: int | None) -> list[Effect]:
        """There is such an EVSE, listed or not; a restart must know it: a limit of ours for the whole station would be one for it too."""
        if not evse or evse in self._places or len(self._places) >= PLACES:
            return []
        self._places = (*self._places, evse)
        return self._able(Capabilities(connectors=evse)) if evse > (self._said.connectors or 1) else []

    def _able(self, said: Capabilities) -> list[Effect]:
        new = merged(self._said, said)
        if new == self._said:
            return []
        self._said, self._abilities = new, self._quirks.capabilities(new)
        return [Remember(abilities_fact(new))]
