"""Who learns from each link: made when a station connects, and made anew under a living link when the settings change.

    store ─ facts ─▶ make(place) ─▶ observer ─▶ link            settings changed ─▶ settle ─▶ (the same, in mid-conversation)

A new observer knows what a restart would know, from the store; so nothing is handed over but what the link itself has proven. Nobody
waits meanwhile: until the new one is ready, the old one learns. A station that left smart-charging has ours cleared (`leaving`); one
that is not allowed any more is closed with 1008, at a quiet moment and not all at once, within a minute.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from broker.engine.v1 import V1
from broker.leaving import Leaving, standing
from broker.makes import KNOWN
from broker.model.basics import Key
from broker.model.records import Fact
from broker.model.schedules import Schedule
from broker.net.link import LINGER_S, Link, Observer
from broker.net.links import Links
from broker.observer import Identifying, Seat, Watching
from broker.ocpp.dialects import BY_NAME
from broker.reload import Place, place
from broker.settings import Settings

log = Logger()

READ_S: Final = 5.0  # and a link that lives, which learns on meanwhile
AT_ONCE: Final = 16  # readings of the store: ten thousand links whose mode changes must not crowd out what stations wait for
AGAIN_S: Final = 0.05  # what was read is outdated already: read again
GOODBYE_S: Final = 50.0  # with what a peer may take over its good-bye less than the promised minute
SPREAD_S: Final = 30.0  # over which a removed fleet's good-byes are spread
PACE_S: Final = 0.02  # between two of them, where they are few
IN_A_ROW: Final = 50  # links looked at before frames have their turn: a millisecond
LOOK_S: Final = 0.5
POLICY: Final = 1008


class Seating:
    """All links'. `latest`: the engine's newest schedule for an asset of a tenant; `orders`: an operator's, for a station;
    `heard`: when a tenant's engine last answered about a site, monotonic; None: nobody need have heard it."""

    def __init__(
        self,
        links: Links,
        reactor: Any,
        *,
        settings: Callable[[], Settings],
        codecs: Callable[[], Mapping[str, V1]],
        facts: Callable[[Key], Deferred[list[Fact]]],
        latest: Callable[[str, str], Schedule | None],
        orders: Callable[[Key], Sequence[Fact]] = lambda _: (),
        heard: Callable[[str, str | None], float | None] | None = None,
    ) -> None:
        self._links, self._reactor = links, reactor
        self._settings, self._codecs, self._facts, self._latest = settings, codecs, facts, latest
        self._orders, self._heard = orders, heard
        self._tokens = 0
        self._new_token = self.token  # bound once, not once for each link; so are those who vouch for a site
        self._vouchers: dict[tuple[str, str | None], Callable[[], float | None]] = {}
        self._leaving: set[Link] = set()
        self._turns = DeferredSemaphore(AT_ONCE)
        self._broken_until = 0.0

    def token(self) -> int:
        """A name for a CALL of ours, never used twice."""
        self._tokens += 1
        return self._tokens

    def make(self, seat: Seat, facts: Iterable[Fact], *, proven: bool = False, **life: Any) -> Observer:
        """Who learns from a link that sits there; `life`: when it opened, and whether it is one of a series."""
        mode, known = seat.station.mode, list(facts)
        if mode == "smart-charging":
            return Watching(seat, known, shadow=False, new_token=self._new_token, engine_heard=self._vouched(seat), **life)
        ours = standing(known)
        inner: Observer
        if mode == "driver-identification":
            inner = Identifying(seat, known)
        else:
            inner = Watching(seat, [fact for fact in known if fact.topic != "lease"], shadow=True, new_token=self._new_token, **life)
        return Leaving(inner, seat.dialect, ours, proven=proven, new_token=self.token, **life) if ours else inner

    def _vouched(self, seat: Seat) -> Callable[[], float | None] | None:
        heard, at = self._heard, (seat.key.tenant, seat.station.site)
        if heard is None:
            return None
        if at not in self._vouchers:
            self._vouchers[at] = partial(heard, *at)
        return self._vouchers[at]

    # ------------------------------------------------------------ the settings changed

    def settle_all(self) -> Deferred[None]:
        """Every link is put where the settings now want it; fires when each was looked at."""
        self._vouchers.clear()
        settled = ensureDeferred(self._settle_all())
        return settled.addErrback(lambda failure: log.failure("some links keep who learned: our fault", failure=failure))

    async def _settle_all(self) -> None:
        links, gone = list(self._links), 0
        for n, link in enumerate(links, 1):
            if not link.over:
                self.settle(link, gone * min(PACE_S, SPREAD_S / len(links)))
                gone += link in self._leaving
            if n % IN_A_ROW == 0:  # frames go first
                await self._pause(0.0)

    def settle(self, link: Link, after_s: float = 0.0) -> None:
        """This one is put where the settings want it; `after_s`: when its good-bye may come, if there is to be one."""
        wanted = place(self._settings(), link.key)
        if wanted is None:
            if link not in self._leaving:
                self._leaving.add(link)
                self._follow(link, self._say_good_bye(link, after_s))
        elif wanted != link.place:
            link.place = wanted
            self._follow(link, self._seat(link))

    def opened(self, link: Link) -> None:
        """A link is whole. The settings may have changed while its CPMS was dialled; and ours may stand where only relaying is wanted."""
        if link.place is not None and link.place == place(self._settings(), link.key):
            if link.place.engine is None and link.subprotocol in BY_NAME:
                self._follow(link, self._clear_leftovers(link))
        else:
            self.settle(link)

    def _follow(self, link: Link, work: Any) -> None:
        ensureDeferred(work).addErrback(lambda failure: log.failure("{link} keeps who learned: our fault", failure=failure, link=link.name))

    async def _seat(self, link: Link) -> None:
        """The observer of its place, from what is known now."""
        facts = await self._known(link)
        if link.over:
            return
        at = link.place
        tenant = at.tenant if at is not None else None
        if at is None or tenant is None:
            self._seat_leaving(link, facts)
            return
        dialect, codec = BY_NAME.get(link.subprotocol or ""), self._codecs().get(link.key.tenant)
        if dialect is None or codec is None:
            return
        old = link.observer
        proven = isinstance(old, Watching | Leaving) and old.proven
        seat = Seat(link.key, at.station, tenant, dialect, codec, (*at.quirks, *KNOWN), at.judged)
        made = self.make(seat, facts, opened=link.opened, flapping=False, proven=proven)
        new = made.inner if isinstance(made, Leaving) else made
        if isinstance(new, Watching):
            older = old.inner if isinstance(old, Leaving) else old
            new.inherit(proven, older if isinstance(older, Watching) else None)
        link.seat(made, prove=not proven)
        self.tell(link, at)

    def _seat_leaving(self, link: Link, facts: list[Fact]) -> None:
        """Nobody learns any more; ours goes."""
        dialect, ours, old = BY_NAME.get(link.subprotocol or ""), standing(facts), link.observer
        if dialect is None or not ours:
            link.seat(None, prove=False)
            return
        proven = isinstance(old, Watching | Leaving) and old.proven
        leaving = Leaving(None, dialect, ours, opened=link.opened, flapping=False, proven=proven, new_token=self.token)
        link.seat(leaving, prove=not proven)

    async def _clear_leftovers(self, link: Link) -> None:
        facts = await self._known(link)
        if standing(facts) and not link.over and link.observer is None:
            self._seat_leaving(link, facts)

    async def _known(self, link: Link) -> list[Fact]:
        """What the store knows, and nothing was learned since; a broken one is not waited for, and one that hangs once for all."""
        while True:
            async with self._turns_of():
                written = link.facts_written
                if self._reactor.seconds() < self._broken_until:
                    return []
                asked = self._reactor.seconds()
                try:
                    facts = await self._facts(link.key).addTimeout(READ_S, self._reactor)
                except Exception:
                    if self._reactor.seconds() >= asked + READ_S:
                        self._broken_until = self._reactor.seconds() + READ_S
                    return []
            if link.facts_written == written or link.over:
                return facts
            await self._pause(AGAIN_S)

    @asynccontextmanager
    async def _turns_of(self) -> AsyncIterator[None]:
        await self._turns.acquire()
        try:
            yield
        finally:
            self._turns.release()

    def tell(self, link: Link, at: Place) -> None:
        """What an operator decided, and the newest schedules for its sockets."""
        orders = self._orders(link.key)
        if orders:
            link.steer(orders)
        for evse in at.station.evses:
            schedule = self._latest(link.key.tenant, evse.asset)
            if schedule is not None:
                link.wish(schedule)

    # ------------------------------------------------------------ good-byes

    async def _say_good_bye(self, link: Link, after_s: float) -> None:
        """Not allowed any more: what of ours stands there is cleared first, if the station does that in time."""
        try:
            begun = self._reactor.seconds()
            link.place = None
            await self._seat(link)
            while not link.over and self._reactor.seconds() < begun + GOODBYE_S and not self._ready(link, begun + after_s):
                await self._pause(max(LOOK_S, begun + after_s - self._reactor.seconds()))
        finally:
            self._leaving.discard(link)
        if place(self._settings(), link.key) is None:
            link.close(POLICY, "not allowed any more", LINGER_S)
        else:  # taken back meanwhile
            self.settle(link)

    def _ready(self, link: Link, not_before: float) -> bool:
        withdrawing = isinstance(link.observer, Leaving) and not link.observer.done
        return link.quiet and not withdrawing and bool(self._reactor.seconds() >= not_before)

    async def _pause(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds, lambda: None)
