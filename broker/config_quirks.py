"""`quirks_file`: an operator's own lines for the table of makes, as `[[quirks]]` tables; the keys are those of `settings.Quirk`."""

from __future__ import annotations

from typing import Final, Literal, cast

from broker.config_table import Table, spelled
from broker.settings import Purpose, Quirk

PURPOSES: Final[tuple[Purpose, ...]] = ("max", "tx", "default")
UNITS: Final = ("any", "A", "W")


def read_quirks(table: Table) -> tuple[Quirk, ...]:
    """All lines of one file."""
    lines = tuple(read_quirk(line) for line in table.tables("quirks"))
    table.end()
    return lines


def read_quirk(table: Table) -> Quirk:
    unit = table.choice("unit", UNITS, "any")
    vendor = table.text("vendor", "*", required=True)
    line = Quirk(
        name=table.text("name", vendor),
        vendor=vendor,
        model=table.text("model", "*"),
        firmware=table.text("firmware", "*"),
        purposes=read_purposes(table),
        top_level=table.whole("top_level", 0, 0, 1000) if table.has("top_level") else None,
        max_periods=table.whole("max_periods", 2, 2, 1024) if table.has("max_periods") else None,
        unit=None if unit == "any" else cast(Literal["A", "W"], unit),
        writes_per_day=table.whole("writes_per_day", 24, 1, 100_000) if table.has("writes_per_day") else None,
        note=table.text("note", ""),
        sources=table.strings("sources") or (),
    )
    for key in ("top_level", "max_periods", "writes_per_day"):
        table.known.append(key)
    table.end()
    return line


def read_purposes(table: Table) -> tuple[Purpose, ...] | None:
    said = table.strings("purposes")
    if said is None:
        return None
    if not said or not set(said) <= set(PURPOSES):
        table.wrong("purposes", f"must be some of {spelled(PURPOSES)}")
        return None
    return tuple(purpose for purpose in PURPOSES if purpose in said)
