"""Every live link, by identity; and how they are all ended when the broker stops.

One identity has one link. A second connection of it is judged by `claim`: the old one is pinged; dead, it goes; alive, the new
one is refused, unless the old one has been silent for long or the same peer asks again and again. The new one is let in when the
old one's sockets are closed, so that the CPMS never sees two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from twisted.internet.task import deferLater
from twisted.logger import Logger

from broker.model.basics import Key
from broker.net.cpms import Refusal
from broker.net.link import LINGER_S, Link

log = Logger()

ALIVE_S: Final = 5.0  # how long the old one has to answer a ping
DORMANT_S: Final = 900.0  # an old one that sent no OCPP message for so long gives way
PERSIST_S: Final = 60.0
PERSIST: Final = 3  # tries of one address within PERSIST_S that win over an old one that lives
FLAP_S: Final = 300.0
FLAP: Final = 3  # connections within FLAP_S after which a station is left alone
RECENT: Final = 100_000  # identities whose connects are remembered; beyond it the longest unseen are forgotten
RESTART: Final = 1012


class Links:
    """All of them. `reactor` gives time and timers."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._links: dict[Key, Link] = {}
        self._ending: dict[Key, set[Link]] = {}  # over, but a socket of theirs is still open
        self._entering: set[Key] = set()
        self._places: dict[str, set[Key]] = {}  # of each tenant, the identities that have a link or are entering
        self._connects: dict[Key, tuple[float, ...]] = {}
        self._tries: dict[tuple[Key, str], deque[float]] = {}
        self._number = 0
        self.draining = False
        self._on_over = self._over  # bound once, not once for each link
        self.on_duplicate: Callable[[Key, str], None] = lambda key, whom: None
        """Told the identity, and who was refused because another lives under it."""

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def get(self, key: Key) -> Link | None:
        return self._links.get(key)

    @property
    def taken(self) -> int:
        """Links, and stations whose CPMS is being asked."""
        return len(self._links) + len(self._entering)

    def has_room(self, key: Key, most: int, most_of_tenant: int | None) -> bool:
        """Whether one more may `claim`, now, before anything else happens: so many links in all, so many of its tenant (None: all).

        A station whose link is still there needs no other place: it takes its own, once that link has given way.
        """
        places = self._places.get(key.tenant, ())
        if key in places:
            return True
        return self.taken < most and (most_of_tenant is None or len(places) < most_of_tenant)

    def number(self) -> int:
        """A new link's number."""
        self._number += 1
        return self._number

    def add(self, link: Link) -> None:
        """It is whole, or about to be; it takes itself out again when it is over."""
        self._links[link.key] = link
        self._takes_place(link.key)
        link.on_over = self._on_over
        # Its place is the newest one. A tuple: an empty deque is 600 bytes.
        self._connects[link.key] = (*self._connects.pop(link.key, ()), self._reactor.seconds())[-FLAP:]
        while len(self._connects) > RECENT:
            del self._connects[next(iter(self._connects))]

    def _over(self, link: Link) -> None:
        if self._links.get(link.key) is link:  # only its own teardown may clear its place
            del self._links[link.key]
            self._may_give_place(link.key)
        if not link.gone:
            self._ending.setdefault(link.key, set()).add(link)
            link.when_gone().addCallback(lambda _: self._ended(link))

    def _ended(self, link: Link) -> None:
        ending = self._ending[link.key]
        ending.discard(link)
        if not ending:
            del self._ending[link.key]

    def flapping(self, key: Key) -> bool:
        """It would be at least the third connection within five minutes."""
        recent = [at for at in self._connects.get(key, ()) if at > self._reactor.seconds() - FLAP_S]
        return len(recent) + 1 >= FLAP

    async def claim(self, key: Key, whom: str) -> None:
        """The right to enter as this identity, until `leave`. `whom`: who asks, as far as can be told: an address, or whose certificate.

        Raises Refusal (409) if another one has it and lives. Cancelled when the new one goes away.
        """
        if key in self._entering:
            raise Refusal(409, "is already connecting", "station")
        self._entering.add(key)
        self._takes_place(key)
        try:
            old = self._links.get(key)
            if old is not None:
                await self._contest(old, key, whom)
            for ending in tuple(self._ending.get(key, ())):
                await ending.when_gone()
        except BaseException:
            self.leave(key)
            raise

    def leave(self, key: Key) -> None:
        """It entered, or gave up."""
        self._entering.discard(key)
        self._may_give_place(key)

    def _takes_place(self, key: Key) -> None:
        self._places.setdefault(key.tenant, set()).add(key)

    def _may_give_place(self, key: Key) -> None:
        """Its link ended, or it does not enter any more: its place is free, unless it is there for the other reason."""
        places = self._places.get(key.tenant)
        if places is None or key in self._links or key in self._entering:
            return
        places.discard(key)
        if not places:
            del self._places[key.tenant]

    async def _contest(self, old: Link, key: Key, whom: str) -> None:
        persistent = whom == old.whom and self._persists(key, whom)
        dormant = old.silent_s >= DORMANT_S
        if not persistent and not dormant and await old.alive(ALIVE_S):
            self.on_duplicate(key, whom)
            raise Refusal(409, "is connected already, and that connection lives", "station")
        why = "asked again and again" if persistent else "silent for long" if dormant else "dead"
        log.info("{link} gives way to a new connection: {why}", link=old.name, why=why)
        self._tries.pop((key, whom), None)
        old.replace("replaced")

    def _persists(self, key: Key, whom: str) -> bool:
        now = self._reactor.seconds()
        tries = self._tries.setdefault((key, whom), deque(maxlen=PERSIST))
        tries.append(now)
        while len(self._tries) > RECENT:
            del self._tries[next(iter(self._tries))]
        return len(tries) == PERSIST and tries[0] > now - PERSIST_S

    async def drain(self, seconds: float, more: float = 5.0) -> None:
        """Close every link with 1012 once nothing is open on it, spread over `seconds`; after most of `more` in any case."""
        self.draining = True
        began = self._reactor.seconds()
        pace = seconds / max(1, len(self))
        # Each link has its own moment, so that a fleet does not come back all at once.
        waiting = [(began + n * pace, link) for n, link in enumerate(self)]
        last = began + seconds + more - LINGER_S - 1.0
        while waiting:
            now = self._reactor.seconds()
            later = []
            for at, link in waiting:
                if now >= last or (now >= at and link.quiet):
                    link.close(RESTART, "restart")
                elif not link.over:
                    later.append((at, link))
            waiting = later
            if waiting:
                await deferLater(self._reactor, 0.05, lambda: None)
        for ending in [link for links in self._ending.values() for link in links]:
            await ending.when_gone()
