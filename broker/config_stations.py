"""The stations of a tenant: rows of a CSV file and [[tenants.stations]] in, StationSettings out, with every mistake's place.

Both spellings become drafts first; what a draft leaves open (mode, site, an asset's name) is settled in one place for both.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from broker.config_table import Reading, Table, guess, spelled
from broker.model.basics import Mode
from broker.passwords import fault as hash_fault
from broker.settings import EvseSettings

MODES: tuple[Mode, ...] = ("relay", "driver-identification", "shadow", "smart-charging")
CURRENTS: tuple[Literal["ac", "dc"], ...] = ("ac", "dc")
COLUMNS = ("station", "evse", "site", "asset", "max_amps", "phases", "mode", "password_hash")
MAX_EVSE = 999  # beyond any cabinet; keeps our profile ids (10 per EVSE) inside their block
MAX_AMPS = 2000.0  # MCS ends at 3000 A DC on paper; a typing error in A or mA is far above


@dataclass(slots=True)
class Draft:
    """A station as written. `places` says where, for mistakes found later: the station's own place, and one for each EVSE."""

    id: str
    place: str
    mode: Mode | None
    site: str
    current: Literal["ac", "dc"] = "ac"
    evses: list[EvseSettings] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    password_hash: str = field(default="", repr=False)

    def add(self, evse: EvseSettings, place: str) -> bool:
        """False, and nothing added, if this EVSE is there already."""
        if any(known.number == evse.number for known in self.evses):
            return False
        self.evses.append(evse)
        self.places.append(place)
        return True


class Rules(NamedTuple):
    """What a tenant says of all its stations."""

    mode: Mode
    sites: Mapping[str, Mode]
    """Each site's mode, its own or its tenant's."""
    baseline: str
    min_amps: float
    hashes: str = ""
    """Each station must have a `password_hash` where its tenant's `credentials` are this; "" for need not."""


def identity_fault(id: str) -> str:
    """Why no station can dial with this (decoded) identity, or nothing."""
    if not id or id != id.strip():
        return "must be an identity without blanks around it"
    if id in (".", "..") or "/" in id or "\\" in id or any(ord(letter) < 32 or ord(letter) == 127 for letter in id):
        return 'must not be "." or "..", and must not hold /, \\ or control characters'
    return "must not be longer than 255 bytes" if len(id.encode("utf-8", "replace")) > 255 else ""


# ---------------------------------------------------------------- [[tenants.stations]]


def draft_from_table(table: Table) -> Draft | None:
    """One [[tenants.stations]]; None if it has no usable id."""
    id = table.text("id", "", required=True)
    fault = identity_fault(id) if id else ""
    if fault:
        table.wrong("id", fault)
    mode = table.choice("mode", MODES, MODES[0]) if table.has("mode") else None
    table.known.append("mode")
    line = table.text("password_hash", "")
    if line and hash_fault(line):
        table.wrong("password_hash", hash_fault(line))
    current = table.choice("current", CURRENTS, "ac")
    draft = Draft(id, table.place, mode, table.text("site", ""), current, password_hash=line)
    evses = table.table("evses")
    if evses is not None:
        for number in evses.values:
            read_evse(evses, number, draft)
    table.end()
    return draft if id and not fault else None


def read_evse(evses: Table, key: str, draft: Draft) -> None:
    number = int(key) if key.isascii() and key.isdigit() and len(key) < 6 else 0
    if not 1 <= number <= MAX_EVSE:
        evses.wrong(key, f"an EVSE's number must be 1 to {MAX_EVSE}")
        return
    table = evses.table(key)
    if table is None:
        return
    phases = table.take("phases", int, "1 or 3")
    if phases not in (None, 1, 3):
        table.wrong("phases", "must be 1 or 3")
    evse = EvseSettings(number, table.text("asset", ""), table.number("max_amps", 0, MAX_AMPS), 1 if phases == 1 else 3)
    table.end()
    if not draft.add(evse, table.place):
        evses.wrong(key, f"EVSE {number} is here twice")


# ---------------------------------------------------------------- acme.csv


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a station list, cells by column, blanks around them cut."""

    place: str
    cells: Mapping[str, str]
    reading: Reading

    def wrong(self, column: str, what: str) -> None:
        self.reading.mistakes.append(f"{self.place}: {column}: {what}")

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")


def drafts_from_csv(text: str, name: str, reading: Reading) -> list[Draft]:
    """All stations of a list. `name` is the file as mistakes call it."""
    drafts: dict[str, Draft] = {}
    for row in rows_of(text, name, reading):
        fault = identity_fault(row["station"])
        if fault:
            row.wrong("station", fault if row["station"] else "is missing")
            continue
        mode, evse = mode_of(row), evse_of(row)
        draft = drafts.setdefault(row["station"], Draft(row["station"], row.place, mode, row["site"]))
        if row["site"] and row["site"] != (draft.site or row["site"]):
            row.wrong("site", f"{draft.place} says {draft.site}; a station has one site")
        if mode and mode != (draft.mode or mode):
            row.wrong("mode", f"{draft.place} says {draft.mode}; a station has one mode")
        draft.site, draft.mode = draft.site or row["site"], draft.mode or mode
        draft.password_hash = hash_of(row, draft)
        if evse is not None and not draft.add(evse, row.place):
            row.wrong("evse", f"EVSE {evse.number} of {draft.id} is here twice")
    return list(drafts.values())


def rows_of(text: str, name: str, reading: Reading) -> Iterator[Row]:
    """The rows below the heading that are not empty; a row that is no row is noted and left out."""
    lines = csv.reader(text.removeprefix("\ufeff").splitlines(keepends=True), strict=True)
    columns: list[str] | None = None
    try:
        for cells in lines:
            cells = [cell.strip() for cell in cells]
            place = f"{name}:{lines.line_num}"
            if not any(cells):
                continue
            if columns is None:
                columns = cells
                if not heading_fits(cells, place, reading):
                    return
            elif len(cells) > len(columns):
                reading.mistakes.append(f"{place}: has {len(cells)} cells, but the heading has {len(columns)}")
            else:
                yield Row(place, dict(zip(columns, cells, strict=False)), reading)
    except csv.Error as problem:
        reading.mistakes.append(f"{name}:{lines.line_num}: {problem}")
    if columns is None:
        reading.mistakes.append(f"{name}:1: the heading is missing: {','.join(COLUMNS)}")


def heading_fits(columns: list[str], place: str, reading: Reading) -> bool:
    before = len(reading.mistakes)
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        reading.mistakes.append(f"{place}: columns must be separated by commas")
        return False
    for column in columns:
        if column not in COLUMNS:
            reading.mistakes.append(f"{place}: {column or '(empty)'}: is not a column that we know{guess(column, COLUMNS)}")
        elif columns.count(column) > 1:
            reading.mistakes.append(f"{place}: {column}: is there twice")
    if "station" not in columns:
        reading.mistakes.append(f"{place}: station: this column is missing")
    return len(reading.mistakes) == before


def mode_of(row: Row) -> Mode | None:
    for mode in MODES:
        if row["mode"] == mode:
            return mode
    if row["mode"]:
        row.wrong("mode", f"must be {spelled(MODES)}{guess(row['mode'], MODES)}")
    return None


def hash_of(row: Row, draft: Draft) -> str:
    """The station's line; one of its rows has it, or several the same."""
    line = row["password_hash"]
    if line and hash_fault(line):
        row.wrong("password_hash", hash_fault(line))
    elif line and line != (draft.password_hash or line):
        row.wrong("password_hash", f"{draft.place} has another; a station has one password")
    return draft.password_hash or line


def evse_of(row: Row) -> EvseSettings | None:
    number = row["evse"] or "1"
    if not (number.isascii() and number.isdigit() and len(number) < 6 and 1 <= int(number) <= MAX_EVSE):
        row.wrong("evse", f"must be 1 to {MAX_EVSE}")
        return None
    if row["phases"] not in ("", "1", "3"):
        row.wrong("phases", "must be 1 or 3")
    return EvseSettings(int(number), row["asset"], amps_of(row), 1 if row["phases"] == "1" else 3)


def amps_of(row: Row) -> float | None:
    if not row["max_amps"]:
        return None
    try:
        amps = float(row["max_amps"])
    except ValueError:
        amps = -1.0
    if not 0 < amps <= MAX_AMPS:
        row.wrong("max_amps", f"must be above 0 and at most {MAX_AMPS:g}")
        return None
    return amps
