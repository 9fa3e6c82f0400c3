"""The log for machines: one JSON object a line, `{"time", "level", "link", "text"}`; with `--log-format json`.

Log events come in as Twisted's logger has them; a line goes out. `time` is RFC 3339 UTC with milliseconds; `link` is the link the event
is about (`acme/CS-7#3`), or null; a failure's traceback is in `failure`. Nothing is in a line that is not in the text format's.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any, TextIO, cast

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, formatEvent
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile


def as_line(event: LogEvent) -> str | None:
    """The event as one line with its end; None if it says nothing."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if not text and failure is None:
        return None
    level = event.get("log_level")
    at = datetime.fromtimestamp(float(event.get("log_time") or 0.0), UTC)
    link = event.get("link")
    said: dict[str, Any] = {
        "time": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
        "level": level.name if level is not None else "info",
        "link": link if isinstance(link, str) else None,
        "text": text,
    }
    if isinstance(failure, Failure):
        said["failure"] = failure.getTraceback()
    return json.dumps(said) + "\n"  # all ASCII: no terminal, no encoding and no half of a surrogate pair is in its way


class Destination:
    """Where the one log of this process goes. twistd takes its observer's name only, so it cannot be an argument."""

    name = "-"

    @classmethod
    def choose(cls, logfile: str | None, daemon: bool) -> None:
        """As twistd would."""
        cls.name = logfile or ("twistd.log" if daemon else "-")

    @classmethod
    def opened(cls) -> Any:
        """To be written to."""
        return sys.stdout if cls.name == "-" else LogFile.fromFullPath(cls.name)


def to(logfile: str | None, daemon: bool) -> str:
    """From now on `observer` writes to twistd's `--logfile`, or to standard output. Returns its name, for twistd's `--logger`."""
    Destination.choose(logfile, daemon)
    return f"{__name__}.{observer.__name__}"


def observer() -> ILogObserver:
    """What twistd asks for before it begins to log."""
    return cast(ILogObserver, FileLogObserver(cast(TextIO, Destination.opened()), as_line))
