"""Follows a CPMS that gives its stations other passwords: hashed in a thread, on disk at once, and counting from the next connection.

    link ─ sent ─▶ hash ─▶ store, pending ─▶ the station's answer may go on          link ─ answered ─▶ store: it is one, or never was
    door ─ lines ─▶ (what is under way for this station, at most 2 s) ─▶ store ─▶ what counts

A password is on disk before the CPMS hears that the station took it, unless the disk is slow or broken: then the answer goes, counted.
A station that dials again at once is waited with. What the station took and cannot be stored is an alarm.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred, fail, succeed
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from broker import passlines
from broker.model.basics import Key
from broker.model.orders import Alarm, NewPassword, Passwords, PasswordsSent
from broker.model.records import Fact
from broker.passwords import hashed
from broker.settings import Settings, StationSettings, TenantSettings

log = Logger()

AT_ONCE: Final = 2  # threads; 19 MiB each
MOST: Final = 1024  # stations with a change under way: 15 s of work; beyond it an alarm
MOST_EACH: Final = 4  # changes under way of one station, and as many answers
MOST_SENT: Final = 4096  # sent and not answered, of which we know more than the disk does: beyond it the oldest stays pending
WAIT_S: Final = 2.0  # how long a station that dials waits for what is under way, and for the store
SALT: Final = 16

LOST: Final = (
    "its CPMS gave it another password, whose hash could not be stored: from its next connection it sends that one, and is refused "
    "here until its password_hash is changed"
)
REPLACED: Final = (
    "its CPMS gave it another password, but is shown cpms_password by us: if it now asks for the new one, it refuses the station from its "
    "next connection"
)
TAKEN: Final = "{key}: its CPMS gave it another password: its hash is stored, and counts from now on; the one before too until it is used"
REFUSED: Final = "{key}: did not take the password that its CPMS gave it: it counts no more"


class Lines(NamedTuple):
    """What a station's password may fit."""

    lines: tuple[str, ...]
    """The newest first."""
    sure: bool = True
    """False: the store does not answer, and may know a newer one."""


class TooMuch(Exception):
    """More changes are under way than there may be: this one is not followed."""


class NotHashed(Exception):
    """A password that the station took could not be hashed when it was sent, and is known no more."""


class Sent:
    """What became of what one CALL of the CPMS's gave."""

    __slots__ = ("lines", "stored")

    def __init__(self) -> None:
        self.lines: list[str] = []
        """In their order; fewer than were sent if not all could be hashed."""
        self.stored = False


class NewPasswords:
    """All stations'. `facts` and `write`: the store's, of one station; `alarm`: as `Watchman.of_station`."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        facts: Callable[[Key], Deferred[list[Fact]]],
        write: Callable[[Key, tuple[Fact, ...]], Deferred[None]],
        alarm: Callable[[Key, Alarm], None],
        reactor: Any,
        in_thread: Callable[..., Deferred[Any]] = deferToThread,
    ) -> None:
        self._settings, self._facts, self._write, self._alarm = settings, facts, write, alarm
        self._reactor, self._in_thread = reactor, in_thread
        self._slots = DeferredSemaphore(AT_ONCE)
        self._sent: OrderedDict[tuple[str, int], Sent] = OrderedDict()
        self._queues: dict[Key, list[Callable[[], Awaitable[None]]]] = {}
        self._waiting: dict[Key, list[Deferred[None]]] = {}

    def heard(self, key: Key, link: str, order: Passwords) -> Deferred[None]:
        """What a link saw. Fires when it is on disk, for what was sent; fails if that cannot be. The rest nobody waits for."""
        if isinstance(order, NewPassword):
            self.given(key, order.password)
        elif isinstance(order, PasswordsSent):
            return self.sent(key, (link, order.token), order.passwords)
        else:
            self.answered(key, (link, order.token), order.taken)
        return succeed(None)

    def given(self, key: Key, password: bytes) -> None:
        """The station accepted this password from its CPMS, and nobody saw it sent."""
        if self._taken(key) and not self._enter(key, partial(self._kept, key, [password])):
            self._alarm(key, Alarm("password", LOST))

    def sent(self, key: Key, name: tuple[str, int], passwords: tuple[bytes, ...]) -> Deferred[None]:
        """These go to the station. `name`: of a link and a CALL, under which the answer comes."""
        if not self._follows(key):
            return succeed(None)
        done: Deferred[None] = Deferred()
        sent = self._sent[name] = Sent()
        if len(self._sent) > MOST_SENT:
            self._sent.popitem(last=False)
        if len(passwords) >= passlines.MOST or not self._enter(key, partial(self._pend, key, sent, list(passwords), done)):
            return fail(TooMuch())
        return done

    def answered(self, key: Key, name: tuple[str, int], taken: tuple[bool, ...]) -> None:
        """The station took those of them, in their order, or did not."""
        follows = self._taken(key) if any(taken) else self._follows(key)
        sent = self._sent.pop(name, Sent())
        entered = follows and self._enter(key, partial(self._settle_sent, key, sent, taken), 2 * MOST_EACH)
        if follows and not entered and any(taken) and not sent.stored:
            self._alarm(key, Alarm("password", LOST))

    def came(self, key: Key, line: str, known: Lines) -> None:
        """The station came in with the password of `line`."""
        if known.lines[-1] != line:
            self._enter(key, partial(self._settle, key, line))

    async def lines(self, key: Key, listed: str) -> Lines:
        """What counts for this station, once what is under way for it is done; after `WAIT_S` without that."""
        if key in self._queues:
            waiting: Deferred[None] = Deferred()
            self._waiting.setdefault(key, []).append(waiting)
            await waiting.addTimeout(WAIT_S, self._reactor).addErrback(lambda _: None)
        try:
            return Lines(passlines.lines_of(await self._facts(key).addTimeout(WAIT_S, self._reactor), listed))
        except Exception:
            return Lines((listed,), sure=False)

    # ------------------------------------------------------------ one after the other, for each station

    def _enter(self, key: Key, work: Callable[[], Awaitable[None]], most: int = MOST_EACH) -> bool:
        queue = self._queues.get(key)
        if queue is not None and len(queue) < most:
            queue.append(work)
            return True
        if queue is not None or len(self._queues) >= MOST:
            return False
        self._queues[key] = [work]
        ensureDeferred(self._drain(key))
        return True

    async def _drain(self, key: Key) -> None:
        queue = self._queues[key]
        while queue:
            try:
                await queue[0]()
            except Exception as error:  # its text is not told: it may quote
                log.error("{key}: which passwords count could not be stored: {kind}", key=str(key), kind=type(error).__name__)
            del queue[0]
        del self._queues[key]
        for waiting in self._waiting.pop(key, []):
            if not waiting.called:
                waiting.callback(None)

    async def _kept(self, key: Key, passwords: list[bytes]) -> None:
        """One that the station took already."""
        try:
            new = await self._hashed(passwords)
            listed = self._listed(key)
            await self._write(key, (passlines.given(await self._known(key, listed), new, listed),))
        except Exception:
            self._alarm(key, Alarm("password", LOST))
            raise
        log.info(TAKEN, key=str(key))

    async def _pend(self, key: Key, sent: Sent, passwords: list[bytes], done: Deferred[None]) -> None:
        try:
            while passwords:
                sent.lines.append(await self._hashed(passwords))
            listed = self._listed(key)
            await self._write(key, (passlines.sent(await self._known(key, listed), sent.lines, listed),))
            sent.stored = True
        except Exception as error:
            done.errback(error)
            raise
        done.callback(None)

    async def _settle_sent(self, key: Key, sent: Sent, answered: tuple[bool, ...]) -> None:
        """After `_pend`, which may have failed. What is pending counts already, so nothing is lost if this fails then."""
        taken = [line for line, took in zip(sent.lines, answered, strict=False) if took]
        refused = [line for line in sent.lines if line not in taken]
        try:
            if len(taken) < sum(answered):
                raise NotHashed
            listed = self._listed(key)
            await self._write(key, (passlines.answered(await self._known(key, listed), taken, refused, listed),))
        except Exception:
            if any(answered) and not sent.stored:
                self._alarm(key, Alarm("password", LOST))
            raise
        log.info(TAKEN if taken else REFUSED, key=str(key))

    async def _hashed(self, passwords: list[bytes]) -> str:
        """The first of these, which then is nowhere any more."""
        line: str = await self._slots.run(self._in_thread, hashed, passwords.pop(0), secrets.token_bytes(SALT))
        return line

    async def _settle(self, key: Key, line: str) -> None:
        listed = self._listed(key)
        fact = passlines.came(await self._known(key, listed), line, listed)
        if fact is not None:
            await self._write(key, (fact,))
            log.info("{key}: came with a password that its CPMS gave it: those before count no more", key=str(key))

    async def _known(self, key: Key, listed: str) -> passlines.Kept:
        return passlines.kept(await self._facts(key), listed)

    def _taken(self, key: Key) -> bool:
        """The station took another one: whether that is followed."""
        tenant, station = self._place(key)
        if tenant is not None and station is not None and tenant.credentials == "replace":
            self._alarm(key, Alarm("password", REPLACED))
        return self._follows(key)

    def _follows(self, key: Key) -> bool:
        tenant, station = self._place(key)
        return tenant is not None and station is not None and passlines.followed(tenant, station)

    def _listed(self, key: Key) -> str:
        _, station = self._place(key)
        return station.password_hash if station is not None else ""

    def _place(self, key: Key) -> tuple[TenantSettings | None, StationSettings | None]:
        tenant = self._settings().tenants.get(key.tenant)
        return tenant, tenant.station(key.station) if tenant is not None else None
