"""Who was refused, in the log: a scanner with a hundred handshakes a second gets a few lines a minute. Each is counted all the same.

Per kind of refusal and address the first five of a minute are said in full, then one line says how many more there were.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from broker.sparing import Spared, Sparing

log = Logger()

MORE: Final = "{n} more from {address} were refused {how} within a minute; ocppbroker_refused_total counts each"
OTHERS: Final = "{n} more were refused within a minute, from too many addresses to name; ocppbroker_refused_total counts each"


class Kind(NamedTuple):
    """Refusals that are alike. `how`: `with 404`, `at the TLS handshake`."""

    how: str
    whose: str
    address: str


class Refused:
    """Says them. There is a timer only while something is left unsaid."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._sparing: Sparing[Kind] = Sparing()
        self._waking: Any = None

    def say(self, kind: Kind, line: Callable[[], None]) -> None:
        """One more of this kind, which `line` would say in full."""
        now = self._reactor.seconds()
        self._tell(self._sparing.due(now))
        if self._sparing.happened(kind, now):
            line()
        elif self._waking is None:
            self._wake()

    def handshake(self, who: str, address: str, status: int, whose: str, why: str) -> None:
        """One that got this answer."""
        text = "{who} from {address} refused with {status}: the {whose} {why}"
        line = partial(log.info, text, who=who, address=address, status=status, whose=whose, why=why)
        self.say(Kind(f"with {status}", whose, address), line)

    def stop(self) -> None:
        """Say what was left unsaid; there is no timer afterwards."""
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        self._tell(self._sparing.rest())

    def _wake(self) -> None:
        wake_at, now = self._sparing.wake_at, self._reactor.seconds()
        self._waking = None if wake_at is None else self._reactor.callLater(max(0.0, wake_at - now), self._woken)

    def _woken(self) -> None:
        self._tell(self._sparing.due(self._reactor.seconds()))
        self._wake()

    def _tell(self, spared: list[Spared[Kind]]) -> None:
        for kind, n in spared:
            if kind is None:
                log.info(OTHERS, n=n)
            else:
                log.info(MORE, n=n, address=kind.address, how=kind.how)
