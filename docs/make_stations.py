"""Writes docs/stations.md from the table that the broker itself uses: `python docs/make_stations.py`."""

from __future__ import annotations

from pathlib import Path

from broker.makes import KNOWN
from broker.settings import Quirk

HEAD = """# Stations: what is known of which make

Made from `broker/makes.py` by `python docs/make_stations.py`; change that, not this. A line is recognised by what the station says
of itself in BootNotification. What follows for our limits only ever narrows what is tried: fewer purposes, lower stack levels, fewer
periods, fewer writes. The relay knows none of it: every frame passes as it came.

Your own lines go into a file that `[broker] quirks_file` names, and stand before these:

```toml
[[quirks]]
vendor = "Acme*"                  # patterns as in a shell, in any case; also model, firmware
name = "Acme wallboxes"           # what it is called in `show`; the vendor's pattern without
purposes = ["tx", "default"]      # the only ones it takes
top_level = 3                     # the highest stack level
max_periods = 10
unit = "A"
writes_per_day = 50               # a lease of ours then stands 36 h / 50, and a wish waits 24 h / 50 for the next
note = "ours refuse everything else"
sources = ["https://example.com/where-it-is-said"]
```

A station that no line fits is tried by the standard, and what it refuses is remembered.

| make | recognised by | what follows | to know | reported |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(row(line) for line in KNOWN)


def row(line: Quirk) -> str:
    who = f"vendor `{line.vendor}`"
    who += f", model `{line.model}`" if line.model != "*" else ""
    who += f", firmware `{line.firmware}`" if line.firmware != "*" else ""
    sources = " ".join(f"[{number}]({source})" for number, source in enumerate(line.sources, 1))
    return f"| {line.name} | {who} | {follows(line)} | {line.note} | {sources} |\n"


def follows(line: Quirk) -> str:
    said = []
    if line.purposes is not None:
        said.append(f"only {', '.join(line.purposes)}")
    if line.top_level is not None:
        said.append(f"stack level at most {line.top_level}")
    if line.max_periods is not None:
        said.append(f"at most {line.max_periods} periods")
    if line.unit is not None:
        said.append(f"{line.unit} only")
    if line.writes_per_day is not None:
        said.append(f"{line.writes_per_day} writes a day")
    return "; ".join(said) or "nothing"


if __name__ == "__main__":
    (Path(__file__).parent / "stations.md").write_text(page(), encoding="utf-8")
