"""A reload: the configuration is read again off the reactor's thread, and what differs is applied, all or nothing.

    SIGHUP, POST /api/v1/reload ─▶ read (in a thread) ─▶ ports bound ─▶ fleet changed ─▶ what changed, in the log

A mistake anywhere (in the text, a certificate that does not load, a port that cannot be bound) is logged with its place, and the old
settings stay in force. Links that live keep what they were opened with; who learns from them is `seating`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred, fail
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.config import Mistakes
from broker.net.expiry import OutOfDate, examine
from broker.net.files import load
from broker.net.ports import Ports
from broker.reload import differences, effective, shown
from broker.settings import Settings

log = Logger()

MOST_WAITING: Final = 16  # who ask for another reload while one is under way share the next

Read = tuple[Settings, Sequence[str]]
"""Settings, and what is not wrong with them but should be known: certificates that are over."""


def read_again(path: str) -> Read:
    """The settings of this file, certificates and keys tried. Blocks. Raises Mistakes."""
    settings = load(path)
    found = examine(settings, datetime.now(UTC)).mistakes
    wrong = [line for line in found if not isinstance(line, OutOfDate)]
    if wrong:
        raise Mistakes(wrong)
    return settings, found


class Reloading:
    """The settings that are in force, and how they become others. `change` tells the running parts."""

    def __init__(
        self, settings: Settings, read: Callable[[], Read], ports: Ports, change: Callable[[Settings], Deferred[None]], reactor: Any
    ) -> None:
        self.settings = settings
        self._read, self._ports, self._change, self._reactor = read, ports, change, reactor
        self._asked: list[Deferred[Sequence[str]]] = []
        self._busy = self._stopped = False

    def signalled(self) -> None:
        """SIGHUP. What comes of it is in the log."""
        self.reload().addErrback(lambda failure: failure.trap(Mistakes) and None)

    def reload(self) -> Deferred[Sequence[str]]:
        """Fires with what changed, one line each; fails with Mistakes, the old settings kept."""
        if self._stopped or len(self._asked) >= MOST_WAITING:
            return fail(Mistakes(["the broker is stopping" if self._stopped else "many reloads wait already: nothing more is to be done"]))
        asked: Deferred[Sequence[str]] = Deferred()
        self._asked.append(asked)
        if not self._busy:
            self._busy = True
            ensureDeferred(self._work())
        return asked

    def stop(self) -> None:
        """Nothing is changed any more."""
        self._stopped = True

    async def _work(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            try:
                changes = await self._once()
            except Exception as error:
                if not isinstance(error, Mistakes):
                    log.failure("reload: a mistake of ours; the old configuration stays in force")
                for one in asked:
                    one.errback(Failure(error, type(error)))
            else:
                for one in asked:
                    one.callback(changes)
        self._busy = False

    def _compare(self, old: Settings) -> tuple[Settings, Sequence[str], list[str]]:
        """In the thread: what is read, what should be known of it, and what differs; of ten thousand stations that takes a while."""
        read, warnings = self._read()
        return read, warnings, shown(differences(old, read))

    async def _once(self) -> list[str]:
        try:
            read, warnings, changes = await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._compare, self.settings)
            if self._stopped:
                raise Mistakes(["the broker is stopping"])
            wanted = effective(self.settings, read)
            open_ports = self._ports.change(wanted.listen)
        except Mistakes as mistakes:
            for line in mistakes.lines:
                log.error("reload: {line}", line=line)
            log.error("reload: {n} mistakes; the old configuration stays in force", n=len(mistakes.lines))
            raise
        self.settings = wanted
        closed = open_ports(wanted.broker.max_message)
        changed = self._change(wanted)
        for line in (*changes, *warnings):
            log.info("reload: {line}", line=line)
        log.info("reload: done, {n}", n=f"{len(changes)} changes" if changes else "nothing changed")
        try:
            await closed
            await changed
        except Exception:
            log.failure("reload: done, but for something of ours that failed: restart when it suits")
        return changes
