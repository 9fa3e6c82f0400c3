"""What TLS costs a station's connect: with it minus without it, of the broker and of ports that do next to nothing else.

`python bench/handshakes.py [STATIONS [ROUNDS]]`: CPU µs per connect, everyone in turn, medians. EC certificates, TLS 1.3, no session
resumed: each station comes for the first time. `bare` is Twisted and pyOpenSSL alone; `s_server` is OpenSSL's own, which has no way
without TLS: its whole cost stands there, its page of text included.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from contestants import PATHS, Contestant, broker, nginx, peer, s_server
from measure import FIRST, Load, Unfit, cpu_s, started

ROOT = Path(__file__).parent.parent
WHO = [
    Contestant("s_server", s_server, "" if shutil.which("openssl") else "openssl"),
    Contestant("nginx", nginx, "" if shutil.which("nginx", path=PATHS) else "nginx"),
    Contestant("bare", peer("bare")),
    Contestant("broker, relay", broker("relay"), prefix="/b"),
    Contestant("broker, smart-charging", broker("smart-charging"), prefix="/b"),
]


def connects(one: Contestant, load: Load, pki: Path, stations: int, tls: bool) -> float:
    """CPU µs for each of so many stations that connect, 50 at a time. The first fifty, for whom much is loaded, are not counted."""
    target = int(tls), one.prefix or "-"
    with started(one, load, pki, stations, tls=tls) as (pid, port):
        load.ask("fleet", FIRST, FIRST, port, *target)
        load.ask("close")
        time.sleep(0.5)
        before = cpu_s(pid)
        load.ask("fleet", stations, 50, port, *target)
        spent = cpu_s(pid) - before
        load.ask("close")
        return spent / stations * 1e6


def main(stations: int, rounds: int) -> None:
    found: dict[tuple[str, bool], list[float]] = {}
    here = [one for one in WHO if not one.missing]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        pki = Path(name)
        subprocess.run([sys.executable, str(ROOT / "certs" / "make_pki.py"), str(pki)], check=True, stdout=subprocess.DEVNULL)
        load = Load(pki, pki)
        for _ in range(rounds):
            for one in here:
                for tls in (False, True) if one.name != "s_server" else (True,):
                    found.setdefault((one.name, tls), []).append(connects(one, load, pki, stations, tls))
        load.process.terminate()
    middle = {at: statistics.median(each) for at, each in found.items()}
    print(f"{'CPU µs per connect':24}{'ws':>8}{'wss':>8}{'TLS':>8}{'× bare':>8}")
    bare = middle["bare", True] - middle["bare", False]
    for one in here:
        plain = middle.get((one.name, False), 0.0)
        spent = middle[one.name, True] - plain
        print(f"{one.name:24}{plain:8.0f}{middle[one.name, True]:8.0f}{spent:8.0f}{spent / bare:8.2f}", flush=True)


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:3] or ("1000", "3")))
    except Unfit as problem:
        sys.exit(f"handshakes: {problem}")
