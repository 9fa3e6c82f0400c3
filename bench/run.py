"""The broker and its peers in one run: CPU per exchange, connects, storms, memory, latency. `make bench`, `make bench-full`.

Rounds are interleaved and medians told: only ratios within one run mean anything. An exchange is a CALL and its CALLRESULT. The
broker runs as it would for a customer in smart-charging mode: tap, store and the engine's feed on. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from contestants import Contestant, all_of_them
from measure import Figures, Load, Unfit, fleet_share, measure, median, most_stations, storm

ROOT = Path(__file__).parent.parent
HEADS = {
    "µs/exchange": 12, "× nginx": 9, "× websockets": 13, "per s": 9, "KiB/station": 12,
    "connects": 10, "+boot+close": 12,  # both per second of CPU: with the CPMS dialled; and with BootNotification and good-bye as well
    "p50 µs": 8, "p99 µs": 8,
}  # fmt: skip
COLUMNS = " " * 24 + "".join(f"{head:>{width}}" for head, width in HEADS.items())
BROKER = "broker, smart-charging"


def table(title: str, results: dict[str, list[Figures]]) -> dict[str, Figures]:
    """Say the medians; returns them."""
    found = {name: median(rounds) for name, rounds in results.items() if rounds}
    print(f"\n{title}\n\n{COLUMNS}")
    for name, got in found.items():
        ratios = [f"{got.cpu_us / found[peer].cpu_us:.2f}" if peer in found else "–" for peer in ("nginx", "websockets relay")]
        row = f"{name:24}{got.cpu_us:12.1f}{ratios[0]:>9}{ratios[1]:>13}{got.per_s:9.0f}{got.kib:12.1f}"
        row += f"{got.connects:10.0f}{got.cycles:12.0f}{got.p50_us:8.0f}{got.p99_us:8.0f}"
        print(row + (f"   {got.failed:.0f} failed" if got.failed else ""), flush=True)
    return found


def rounds(
    who: list[Contestant], load: Load, pki: Path, options: argparse.Namespace, tls: bool, upstream_tls: bool
) -> dict[str, list[Figures]]:
    """Everyone in turn, again and again."""
    results: dict[str, list[Figures]] = {one.name: [] for one in who}
    for number in range(options.rounds):
        for one in who:
            try:
                got = measure(one, load, pki, options.stations, options.exchanges, tls=tls, upstream_tls=upstream_tls)
            except Unfit as problem:
                print(f"  {one.name}: {problem}", flush=True)
                continue
            results[one.name].append(got)
            print(f"  round {number + 1}: {one.name}: {got.cpu_us:.1f} µs", flush=True)
    return results


def storms(who: list[Contestant], load: Load, pki: Path, stations: int, count: int) -> None:
    print(f"\nA storm of {stations} stations, seconds until all have their 101 (CPU seconds of the proxy)\n", flush=True)
    for one in who:
        for tls in (False, True):
            if one.tls or not tls:
                got = sorted(storm(one, load, pki, stations, tls=tls) for _ in range(count))[count // 2]
                lost = f", {got[2]:.0f} failed" if got[2] else ""
                print(f"{one.name:24}{'wss' if tls else 'ws':5}{got[0]:8.2f} ({got[1]:.2f}){lost}", flush=True)


def growth(one: Contestant, load: Load, pki: Path, sizes: list[int]) -> list[tuple[int, Figures]]:
    """Cost per exchange must not depend on how many stations there are."""
    print(f"\n{one.name}: fleets of growing size\n\n{'stations':>10}{'µs/exchange':>13}{'µs/connect':>13}{'KiB/station':>13}", flush=True)
    curve = []
    for size in sizes:
        got = measure(one, load, pki, size, max(40_000, size * 5), tls=False, brief=True)
        curve.append((size, got))
        lost = f"   {got.failed:.0f} failed" if got.failed else ""
        print(f"{size:10}{got.cpu_us:13.1f}{got.connect_us:13.0f}{got.kib:13.1f}{lost}", flush=True)
    return curve


def plot(path: Path, plain: dict[str, Figures], curve: list[tuple[int, Figures]]) -> None:
    """Bars of CPU per exchange, and the curve if there is one; a PNG."""
    try:
        import matplotlib
    except ImportError:
        print("\nno plot: pip install matplotlib (it is in the bench extra)")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2 if curve else 1, figsize=(11 if curve else 7, 3.5), squeeze=False)
    bars, line = axes[0][0], axes[0][-1]
    bars.barh(list(plain), [got.cpu_us for got in plain.values()], color=["#2a6" if "broker" in name else "#999" for name in plain])
    bars.set_xlabel("CPU µs per exchange, ws")
    bars.invert_yaxis()
    if curve:
        line.plot([size for size, _ in curve], [got.cpu_us for _, got in curve], "o-", color="#2a6")
        line.set_xlabel("stations")
        line.set_ylabel("CPU µs per exchange")
        line.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"\nplot: {path}")


def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        pki = Path(name)
        subprocess.run([sys.executable, str(ROOT / "certs" / "make_pki.py"), str(pki)], check=True, stdout=subprocess.DEVNULL)
        load = Load(pki, pki)
        here = [one for one in all_of_them() if not options.only or any(word in one.name for word in options.only)]
        for one in here:
            if one.missing:
                print(f"{one.name} takes no part: {one.missing} is not installed")
        here = [one for one in here if not one.missing]
        ours = [one for one in here if one.name == BROKER]
        what = f"{options.stations} stations, {options.exchanges} exchanges, medians of {options.rounds} interleaved rounds"
        plain = table(f"ws: {what}", rounds(here, load, pki, options, tls=False, upstream_tls=False))
        curve: list[tuple[int, Figures]] = []
        if not options.plain:
            some = [one for one in here if one.tls and one.name != "broker, relay"]
            table(f"wss toward the station: {what}", rounds(some, load, pki, options, tls=True, upstream_tls=False))
            options.rounds = 1 if not options.full else options.rounds
            table("wss on both legs", rounds(ours, load, pki, options, tls=True, upstream_tls=True))
            for size in (1000, options.storm):
                storms([one for one in here if one.name in ("nginx", BROKER)], load, pki, size, 3 if options.full else 1)
        if options.full and ours:
            most = min(10_000, most_stations())
            curve = growth(ours[0], load, pki, [100, 300, 1000, 3000, most])
            share, kib = fleet_share(ours[0], load, pki, most, 120)
            what = f"{most:,} stations, a MeterValues each minute and a heartbeat every five"
            print(f"\n{what}: {share:.0%} of a core, {kib:.1f} KiB/station")
        plot(Path(options.plot), plain, curve)
        load.process.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stations", type=int, default=1000)
    parser.add_argument("--exchanges", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--storm", type=int, default=5000)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="contestants whose name has one of these words")
    parser.add_argument("--plain", action="store_true", help="ws only: no TLS, no storm")
    parser.add_argument("--full", action="store_true", help="fleets of 100 to 10,000 as well")
    parser.add_argument("--plot", default="bench.png")
    try:
        main(parser.parse_args())
    except Unfit as problem:
        sys.exit(f"bench: {problem}")
