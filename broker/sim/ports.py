"""Ports for processes that are about to listen: of the demo, the tests and the benchmarks."""

from __future__ import annotations

import itertools
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

LOWEST: Final = 10_000
STRIDE: Final = 331  # between the places of processes whose ids follow each other: more than one of them asks for
OUTGOING: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

_given = itertools.count()


def free_port() -> int:
    """A TCP port nobody listens on now. On Linux one that no outgoing connection is given before it is used, and no other process
    that asks here at the same time: each goes through the ports from a place of its own."""
    first = int(OUTGOING.read_text().split()[0]) if OUTGOING.exists() else 0
    while True:
        port = LOWEST + (os.getpid() * STRIDE + next(_given)) % (first - LOWEST) if first > 2 * LOWEST else 0
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
