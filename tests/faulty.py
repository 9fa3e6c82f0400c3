"""A twistd whose world has faults that a test switches on and off, by files in the folder that the broker runs in.

`slow` there: each commit takes 50 ms longer (as on an SD card), told one byte each in `slowed`. `step` holds seconds: the wall clock is
that far off from now on, as it is when somebody sets it, or on a box without a clock of its own.
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

real, step = time.time, [0.0]

def watch():
    while True:
        try:
            step[0] = float(open("step").read())
        except (OSError, ValueError):
            pass
        time.sleep(0.02)

threading.Thread(target=watch, daemon=True).start()
time.time = lambda: real() + step[0]

from broker.net.ledger import Ledger
commit = Ledger.commit

def slow(ledger):
    if os.path.exists("slow"):
        time.sleep({SLOW_COMMIT_S})
        with open("slowed", "ab") as told:
            told.write(b".")
    commit(ledger)

Ledger.commit = slow
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
    (folder / "step.new").write_text(f"{seconds}")
    os.replace(folder / "step.new", folder / "step")
