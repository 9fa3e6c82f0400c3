"""A twistd whose world has faults that a test switches on and off, by files in the folder that the broker runs in.

`slow` there: each commit takes 50 ms longer (as on an SD card), or as many seconds as it holds, told one byte each in `slowed`.
`refuse`: none succeeds. `patient`, there from the start: an answer waits for its commit for as many seconds as it holds, in place of
250 ms. `step` holds seconds: the wall clock is that far off from now on, as it is when somebody sets it, or on a box without a clock of
its own. `wound` holds seconds: so much more time has passed since it was started, by every clock.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import running

SLOW_COMMIT_S = 0.05
SCRIPT = f"""#!{sys.executable}
import os, sys, threading, time

wall, mono, off = time.time, time.monotonic, {{"step": 0.0, "wound": 0.0}}

def read(name):
    try:
        before, off[name] = off[name], float(open(name).read())
    except (OSError, ValueError):
        return
    if before != off[name] and "twisted.internet.reactor" in sys.modules:
        # It sleeps until the first of its timers by the clock as it was.
        sys.modules["twisted.internet.reactor"].callFromThread(lambda: None)

def watch():
    while True:
        for name in off:
            read(name)
        time.sleep(0.02)

for name in off:
    read(name)
threading.Thread(target=watch, daemon=True).start()
time.time = lambda: wall() + off["step"] + off["wound"]
time.monotonic = lambda: mono() + off["wound"]

from broker.net.ledger import Ledger
commit = Ledger.commit

def slow(ledger):
    if os.path.exists("slow"):
        time.sleep(float(open("slow").read() or {SLOW_COMMIT_S}))
        with open("slowed", "ab") as told:
            told.write(b".")
    if os.path.exists("refuse"):
        raise OSError("refused")
    commit(ledger)

Ledger.commit = slow
if os.path.exists("patient"):
    from broker.relay import Relay
    Relay.__init__.__kwdefaults__["commit_wait"] = float(open("patient").read())
from twisted.scripts.twistd import run
run()
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on `Running` starts this twistd."""
    script = folder / "faulty-twistd"
    script.write_text(SCRIPT)
    script.chmod(0o700)
    monkeypatch.setattr(running, "TWISTD", script)


def set_clock(folder: Path, seconds: float) -> None:
    """The broker's wall clock is so far off, within some 20 ms."""
    _say(folder, "step", seconds)


def wind(folder: Path, seconds: float) -> None:
    """So much more time passes for the broker, within some 20 ms: whatever was due by then is due, by every clock of its."""
    before = float((folder / "wound").read_text()) if (folder / "wound").exists() else 0.0
    _say(folder, "wound", before + seconds)


def _say(folder: Path, name: str, seconds: float) -> None:
    (folder / f"{name}.new").write_text(f"{seconds}")
    os.replace(folder / f"{name}.new", folder / name)
