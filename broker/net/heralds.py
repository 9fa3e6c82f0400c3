"""Who is told of alarms without looking: a webhook, a mailbox. Each has its own queue, so that one that is away holds up no other.

    watchman ─ changes ─▶ each herald's notices ─ message ─▶ webhook | mail ─▶ taken, or the same again later

Nothing here is awaited by anybody: what cannot be told shows in one log line, in a counter and nowhere else.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger
from twisted.python.failure import Failure

from broker.alarms import Changes, Standing
from broker.counts import Counts
from broker.net.mail import Mail
from broker.net.replies import Refused
from broker.net.webhook import Untold, Webhook
from broker.notices import Message, Notices, trial
from broker.settings import AlarmSettings

log = Logger()

LOOK_S: Final = 60.0


class Recipient(Protocol):
    """Takes messages."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message) -> Deferred[None]: ...


def new_id() -> str:
    return uuid.uuid4().hex


class Herald:
    """One recipient's. Never more than one message under way, apart from a test."""

    def __init__(
        self, to: Recipient, settings: AlarmSettings, reactor: Any, counts: Counts, *, standing: Callable[[], int],
        jitter: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self.to = to
        self._reactor, self._counts, self._standing = reactor, counts, standing
        self._notices = Notices(gather_s=settings.gather_s, repeat_s=settings.repeat_s, least=settings.least, jitter=jitter, new_id=new_id)
        self._timer: Any = None
        self._under_way: set[Deferred[Any]] = set()
        self._well = True
        self._stopped = False

    def __len__(self) -> int:
        return len(self._notices)

    def changed(self, changes: Changes, wall: float) -> None:
        self._notices.changed(changes, wall, self._reactor.seconds())
        self._rearm()

    def remind(self, current: Sequence[Standing], wall: float) -> None:
        self._notices.remind(current, wall, self._reactor.seconds())
        self._rearm()

    def _rearm(self) -> None:
        wake_at = None if self._stopped else self._notices.wake_at
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if wake_at is None else self._reactor.callLater(max(0.0, wake_at - self._reactor.seconds()), self._tell)

    def _tell(self) -> None:
        message = self._notices.take(self._standing(), self._reactor.seconds())
        if message is None:
            self._rearm()
        else:
            self._send(message).addCallbacks(self._told, self._untold)

    def _send(self, message: Message) -> Deferred[None]:
        under_way = self.to.send(message)
        self._under_way.add(under_way)

        def ended(result: Any) -> Any:
            self._under_way.discard(under_way)
            self._counts.add("alarm_messages", self.to.name, "failed" if isinstance(result, Failure) else "sent")
            return result

        return under_way.addBoth(ended)

    def _told(self, _: object) -> None:
        if not self._well:
            log.info("alarms: the {to} takes them again", to=self.to.name)
        self._well = True
        self._notices.settle(True, self._reactor.seconds())
        self._rearm()

    def _untold(self, failure: Failure) -> None:
        if self._stopped:
            return
        if not failure.check(Untold):
            log.failure("alarms: the {to} failed: a mistake of ours", failure=failure, to=self.to.name)
        elif self._well:
            log.warn("alarms: cannot be told by {to}, tried again: {why}", to=self.to.name, why=failure.getErrorMessage())
        self._well = False
        self._notices.settle(False, self._reactor.seconds())
        self._rearm()

    def test(self, wall: float) -> Deferred[str]:
        """Tell it of nothing, now; fires with "sent" or with why not."""

        def failed(failure: Failure) -> str:
            if failure.check(Untold):
                return failure.getErrorMessage()
            log.failure("alarms: the {to} failed: a mistake of ours", failure=failure, to=self.to.name)
            return "a mistake of ours: the broker's log says more"

        return self._send(trial(new_id(), wall)).addCallbacks(lambda _: "sent", failed)

    def stop(self) -> None:
        """Give up what is under way and what waits."""
        self._stopped = True
        self._rearm()
        for under_way in list(self._under_way):
            under_way.cancel()


class Heralds:
    """All that the settings name."""

    def __init__(
        self, settings: AlarmSettings, reactor: Any, counts: Counts, wall: Callable[[], float], standing: Callable[[], Sequence[Standing]]
    ) -> None:
        self._reactor, self._counts, self._wall, self._current = reactor, counts, wall, standing
        self._settings = settings
        self._looked_at = float("-inf")
        self.all = self._made()

    def _made(self) -> tuple[Herald, ...]:
        settings, to = self._settings, list[Recipient]()
        if settings.webhook_url:
            to.append(Webhook(settings, self._reactor))
        if settings.mail is not None:
            to.append(Mail(settings, settings.mail, self._reactor, deferToThread))
        return tuple(Herald(one, settings, self._reactor, self._counts, standing=lambda: len(self._current())) for one in to)

    def changed(self, changes: Changes) -> None:
        """The watchman said so."""
        if changes.raised or changes.cleared:
            for herald in self.all:
                herald.changed(changes, self._wall())

    def look(self) -> None:
        """Time passed. Once a minute what stands is gone through: ten thousand alarms are some milliseconds."""
        now = self._reactor.seconds()
        if not self.all or now - self._looked_at < LOOK_S:
            return
        self._looked_at, current = now, self._current()
        for herald in self.all:
            herald.remind(current, self._wall())

    def change(self, settings: AlarmSettings) -> None:
        """From now on these; who is new is told of all that stands."""
        if settings != self._settings:
            self.stop()
            self._settings = settings
            self.all = self._made()
            self.changed(Changes(tuple(self._current())))

    async def test(self) -> dict[str, str]:
        """What became of a test message to each. Raises Refused when nobody is to be told."""
        if not self.all:
            raise Refused(409, "no-recipients", "nobody is told of alarms: name a webhook_url or smtp_host in [broker.alarms]")
        asked = [(herald.to.name, herald.test(self._wall())) for herald in self.all]
        return {name: await told for name, told in asked}

    def stop(self) -> None:
        for herald in self.all:
            herald.stop()
