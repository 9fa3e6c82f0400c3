"""`make demo`: a simulated fleet, its CPMS and an engine, and the real broker between them, for two and a half minutes.

The broker is a process of its own (`twistd -n ocppbroker`), told nothing of the simulation but addresses. First the cars charge
as they like, then the engine plans; at the end a summary says, with numbers, what held. Exit 0 only if all of it did.
`DEMO_SECONDS=n` bounds the whole; Ctrl-C ends it early, with the summary.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from broker.sim import proof
from broker.sim.play import SECONDS, SHORTEST, Demo
from broker.sim.proof import Claim
from broker.sim.table import Screen


def seconds_wanted(text: str) -> float:
    """DEMO_SECONDS. ValueError if it is no number of seconds."""
    seconds = float(text) if text else SECONDS
    if not SHORTEST <= seconds <= 3600:
        raise ValueError(f"DEMO_SECONDS must be {SHORTEST:.0f} to 3600")
    return seconds


def log_to(folder: Path) -> None:
    """The simulation's own warnings; the broker's log is the broker's."""
    # Any: Twisted declares these by zope interfaces, which mypy does not read.
    everything: Any = textFileLogObserver((folder / "simulation.log").open("w", encoding="utf-8"))
    warnings: Any = LogLevelFilterPredicate(LogLevel.warn)
    observer: Any = FilteringLogObserver(everything, [warnings])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def run(reactor: Any, seconds: float) -> int:
    """Exit code: 0 every claim holds, 1 not."""
    folder = Path(tempfile.mkdtemp(prefix="ocppbroker-demo-"))
    log_to(folder)
    demo = Demo(reactor, seconds, Screen(sys.stdout))
    codes: list[int] = []

    def done(result: list[Claim] | Failure) -> None:
        codes.append(report(result, folder))
        reactor.stop()

    def interrupted(number: int, _: Any) -> None:
        if demo.ended.called:  # a second time: no patience left
            demo.kill()
            os._exit(128 + number)
        reactor.callFromThread(demo.end)

    def listen() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupted)

    reactor.callWhenRunning(listen)
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(demo.run(folder)).addBoth(done))
    reactor.run()
    return codes[0] if codes else 1


def report(result: list[Claim] | Failure, folder: Path) -> int:
    """Print the summary, or why there is none. The files are kept only if something is to be found in them."""
    if isinstance(result, Failure):
        print(f"demo: {result.getErrorMessage()}; see {folder}", file=sys.stderr)
        if not result.check(RuntimeError):
            result.printTraceback(file=sys.stderr)
        return 1
    print("\nSummary\n" + "\n".join(proof.summary(result)), flush=True)
    if all(claim.ok for claim in result):
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    print(f"The broker's log and configuration are in {folder}")
    return 1


def main() -> int:
    try:
        seconds = seconds_wanted(os.environ.get("DEMO_SECONDS", ""))
    except ValueError as problem:
        print(f"demo: {problem}", file=sys.stderr)
        return 2
    return run(the_reactor, seconds)


if __name__ == "__main__":
    sys.exit(main())
