"""Checking a station's password: the hash is worked out in a thread, a few at a time, and a password that fitted is known for a while.

A password is kept nowhere: what is known is a keyed hash of it, with a key that lives as long as the process.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from broker import passwords
from broker.backoff import Backoff
from broker.model.basics import Key
from broker.net.cpms import Refusal

log = Logger()

AT_ONCE: Final = 2  # threads; 19 MiB each
MOST_WAITING: Final = 256  # some 3 s of work: who comes later is asked to come again
KNOWN_S: Final = 600.0  # a whole fleet that dials again after an outage costs no hashes
MOST_KNOWN: Final = 20_000
ASK: Final = (("WWW-Authenticate", 'Basic realm="ocpp"'),)


class Credentials:
    """`seconds`: a clock that never goes back; `in_thread` runs a function elsewhere."""

    def __init__(self, seconds: Callable[[], float], in_thread: Callable[..., Deferred[Any]] = deferToThread) -> None:
        self._seconds, self._in_thread = seconds, in_thread
        self._slots = DeferredSemaphore(AT_ONCE)
        self._waiting = 0
        self._secret = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._backoff = Backoff()

    async def check(self, address: str, key: Key, line: str, header: bytes | None) -> None:
        """Returns if `header` holds the password of `key` that `line` was made of. Raises Refusal."""
        await self.which(address, key, (line,), header)

    async def which(self, address: str, key: Key, lines: tuple[str, ...], header: bytes | None) -> str:
        """The line of these that the password of `key` in `header` was made into. Raises Refusal."""
        self._too_soon(self._backoff.of_pair(address, key, self._seconds()))
        try:
            password = passwords.password_of(header, key.station)
        except passwords.NotThisStation as why:
            raise self._wrong(address, key, str(why)) from None
        fitting = next((line for line in lines if self._known.get(self._proof(key, line, password), 0.0) > self._seconds()), None)
        if fitting is None:
            self._too_soon(self._backoff.of_address(address, self._seconds()))
            fitting = await self._fitting(lines, password)
            if fitting is None:
                raise self._wrong(address, key, "shows a wrong password")
            self._learn(self._proof(key, fitting, password))
        self._backoff.passed(address, key)
        return fitting

    async def _fitting(self, lines: tuple[str, ...], password: bytes) -> str | None:
        for line in lines:
            if await self._fits(line, password):
                return line
        return None

    @contextmanager
    def judged(self, address: str, key: Key) -> Iterator[None]:
        """Around what judges credentials elsewhere (a certificate's name, the CPMS): who was told 401 too often waits. Raises Refusal.

        Of this station from this address only: what the CPMS does to one says nothing of the others behind the same address.
        """
        self._too_soon(self._backoff.of_pair(address, key, self._seconds()))
        try:
            yield
        except Refusal as refusal:
            if refusal.status == 401:
                self._backoff.failed(address, key, self._seconds())
            raise

    def passed(self, address: str, key: Key) -> None:
        """They were the right ones."""
        self._backoff.passed(address, key)

    def _wrong(self, address: str, key: Key, why: str) -> Refusal:
        self._backoff.failed(address, key, self._seconds())
        return Refusal(401, why, "station", ASK)

    def _too_soon(self, wait_s: float) -> None:
        if wait_s > 0:
            raise Refusal(429, "came too soon after wrong credentials", "station", (("Retry-After", str(ceil(wait_s))),))

    def _proof(self, key: Key, line: str, password: bytes) -> bytes:
        parts = (key.tenant.encode(), key.station.encode(), line.encode(), password)
        return hmac.digest(self._secret, b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")

    def _learn(self, proof: bytes) -> None:
        self._known.pop(proof, None)
        self._known[proof] = self._seconds() + KNOWN_S
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    async def _fits(self, line: str, password: bytes) -> bool:
        """In a thread. A station that leaves does not free its place before the work is done, or leaving would get round the bound."""
        if self._waiting >= MOST_WAITING:
            raise Refusal(503, "came while too many passwords are being checked", "broker", (("Retry-After", "5"),))
        self._waiting += 1
        answer: Deferred[bool] = Deferred()
        self._slots.run(self._in_thread, passwords.fits, line, password).addBoth(self._done, answer)
        try:
            return await answer
        except Exception as error:
            log.error("A password cannot be checked, which is our fault: {kind}", kind=type(error).__name__)
            raise Refusal(503, "cannot be checked now", "broker", (("Retry-After", "30"),)) from None

    def _done(self, result: Any, answer: Deferred[bool]) -> None:
        self._waiting -= 1
        answer.callback(result)
