"""Follows a CPMS that gives its stations other passwords: hashed in a thread, on disk at once, and counting from the next connection.

    link ─ given ─▶ hash ─▶ store          door ─ lines ─▶ (what is under way for this station, at most 2 s) ─▶ store ─▶ what counts

The answer by which the station accepted it is not held meanwhile: nothing from a station ever waits. A station that dials again at once
is waited with instead, so only a kill within the milliseconds between can lose a password. What cannot be stored is an alarm.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from broker import passlines, passwords
from broker.model.basics import Key
from broker.model.orders import Alarm
from broker.model.records import Fact
from broker.settings import Settings, StationSettings, TenantSettings

log = Logger()

AT_ONCE: Final = 2  # threads; 19 MiB each
MOST: Final = 1024  # stations with a change under way: 15 s of work; beyond it an alarm
MOST_EACH: Final = 4  # changes under way of one station
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


class Lines(NamedTuple):
    """What a station's password may fit."""

    lines: tuple[str, ...]
    """The newest first."""
    sure: bool = True
    """False: the store does not answer, and may know a newer one."""


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
        self._queues: dict[Key, list[Callable[[], Awaitable[None]]]] = {}
        self._waiting: dict[Key, list[Deferred[None]]] = {}

    def given(self, key: Key, password: bytes) -> None:
        """The station accepted this password from its CPMS."""
        tenant, station = self._place(key)
        if tenant is None or station is None:
            return
        if tenant.credentials == "replace":
            self._alarm(key, Alarm("password", REPLACED))
        follows = passlines.judged(tenant, station) and bool(station.password_hash)
        if follows and not self._enter(key, lambda: self._kept(key, password)):
            self._alarm(key, Alarm("password", LOST))

    def came(self, key: Key, line: str, known: Lines) -> None:
        """The station came in with the password of `line`."""
        if len(known.lines) > 1 and known.lines[0] == line:
            self._enter(key, lambda: self._settle(key, line))

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

    def _enter(self, key: Key, work: Callable[[], Awaitable[None]]) -> bool:
        queue = self._queues.get(key)
        if queue is not None and len(queue) < MOST_EACH:
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

    async def _kept(self, key: Key, password: bytes) -> None:
        try:
            await self._keep(key, password)
        except Exception:
            self._alarm(key, Alarm("password", LOST))
            raise

    async def _keep(self, key: Key, password: bytes) -> None:
        new = await self._slots.run(self._in_thread, passwords.hashed, password, secrets.token_bytes(SALT))
        listed = self._listed(key)
        await self._write(key, (passlines.given(await self._known(key, listed), new, listed),))
        text = "{key}: its CPMS gave it another password: its hash is stored, and counts from now on; the one before too until it is used"
        log.info(text, key=str(key))

    async def _settle(self, key: Key, line: str) -> None:
        listed = self._listed(key)
        fact = passlines.came(await self._known(key, listed), line, listed)
        if fact is not None:
            await self._write(key, (fact,))
            log.info("{key}: came with the password that its CPMS gave it: the one before counts no more", key=str(key))

    async def _known(self, key: Key, listed: str) -> tuple[str, ...]:
        return passlines.lines_of(await self._facts(key), listed)

    def _listed(self, key: Key) -> str:
        _, station = self._place(key)
        return station.password_hash if station is not None else ""

    def _place(self, key: Key) -> tuple[TenantSettings | None, StationSettings | None]:
        tenant = self._settings().tenants.get(key.tenant)
        return tenant, tenant.station(key.station) if tenant is not None else None
