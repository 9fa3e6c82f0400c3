"""The log for people: Twisted's own lines, letter for letter, at a fifth of their cost; three of them are a third of a short connection.

What is not plain (a failure, a call in the format, a system of its own) is Twisted's to word.
"""

from __future__ import annotations

import signal
from typing import Final, TextIO, cast

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, formatEventAsClassicLogText, formatTime

from broker.net.jsonlog import Destination

_NOT_PLAIN: Final = frozenset({"log_failure", "log_flattened", "log_system"})


class Seconds:
    """Times as Twisted words them, to the second: words of the same second are the same."""

    def __init__(self) -> None:
        self._at = -1
        self._words = ""

    def __call__(self, when: float | None) -> str:
        if when is None:
            return formatTime(when)
        if int(when) != self._at or when < 0:
            self._at, self._words = int(when), formatTime(when)
        return self._words


_seconds: Final = Seconds()


def as_line(event: LogEvent) -> str | None:
    """The event as one line with its end; None if it says nothing."""
    words, level = event.get("log_format"), event.get("log_level")
    if type(words) is not str or level is None or not _NOT_PLAIN.isdisjoint(event):
        return formatEventAsClassicLogText(event, _seconds)
    try:
        text = words.format_map(event)
    except Exception:  # Twisted says then what could not be worded
        return formatEventAsClassicLogText(event, _seconds)
    if not text:
        return None
    said = text.replace("\n", "\n\t")
    return f"{_seconds(event.get('log_time'))} [{event.get('log_namespace', '-')}#{level.name}] {said}\n"


def to(logfile: str | None, daemon: bool) -> str:
    """From now on `observer` writes to twistd's `--logfile`, or to standard output. Returns its name, for twistd's `--logger`."""
    Destination.choose(logfile, daemon)
    return f"{__name__}.{observer.__name__}"


def observer() -> ILogObserver:
    """What twistd asks for before it begins to log. SIGUSR1 begins a new file, as with twistd's own."""
    out = Destination.opened()
    if hasattr(out, "rotate") and not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: _rotate(out))
    return cast(ILogObserver, FileLogObserver(cast(TextIO, out), as_line))


def _rotate(out: object) -> None:
    from twisted.internet import reactor

    reactor.callFromThread(out.rotate)  # type: ignore[attr-defined]
