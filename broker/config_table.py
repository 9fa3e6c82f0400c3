"""One TOML table on its way into a dataclass: each key is taken once, each mistake is noted with its place, and nothing stops.

In: the table as tomllib made it, and the place it stands at (`tenants[1].engine`). Out: values of the right kind, or the key's
default after a mistake was noted, so that every mistake of a file is found in one reading. `end` reports the keys nobody took.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T", bound=str)

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
AMOUNT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s?([A-Za-z]+)")


@dataclass(slots=True)
class Reading:
    """One file being read: where it is, how to read what it names, and the mistakes of all files so far."""

    base: str
    """The folder relative paths start from."""
    read: Callable[[str], str] = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    mistakes: list[str]
    included: str = ""
    """`tenants/acme.toml` for an included file, nothing for the main one."""

    def wrong(self, place: str, what: str) -> None:
        self.mistakes.append(f"{self.included}: {place}: {what}" if self.included else f"{place}: {what}")

    def shown(self, name: str) -> str:
        """How `name`, as this file says it, is called in a mistake: as seen from the main file."""
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.included), name))

    def path(self, name: str) -> str:
        """`name` as seen from this file's folder."""
        return posixpath.normpath(posixpath.join(self.base, name))

    def contents(self, place: str, name: str) -> str | None:
        """The text of a file that `place` names; None after noting why it cannot be read."""
        try:
            return self.read(self.path(name))
        except UnicodeDecodeError:
            self.wrong(place, f"{name} is not UTF-8 text")
        except (OSError, ValueError) as problem:
            self.wrong(place, f"cannot read {name}: {getattr(problem, 'strerror', None) or 'not a usable file name'}")
        return None


def spelled(places: Sequence[str]) -> str:
    return ", ".join(f'"{place}"' for place in places[:-1]) + (" or " if len(places) > 1 else "") + f'"{places[-1]}"'


def guess(word: str, known: Sequence[str]) -> str:
    """` (did you mean …?)`, or nothing."""
    near = get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def amount(text: str, units: Mapping[str, float]) -> float | None:
    """`"15m"` in the base unit; None if it is not a number with one of `units`."""
    match = AMOUNT.fullmatch(text.strip())
    if match is None or match[2] not in units:
        return None
    return float(match[1]) * units[match[2]]


class Table:
    """The keys of one table. Every method takes a key and returns its value, or the default when absent or wrong."""

    def __init__(self, values: Any, place: str, reading: Reading) -> None:
        self.place = place
        self.reading = reading
        self.known: list[str] = []
        self.values: dict[str, Any] = {}
        if isinstance(values, dict):
            self.values = values
        else:
            reading.wrong(place, f"must be a table, not {kind_of(values)}")

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def wrong(self, key: str, what: str) -> None:
        self.reading.wrong(self.at(key), what)

    def has(self, key: str) -> bool:
        return key in self.values

    def take(self, key: str, kind: type | tuple[type, ...], name: str) -> Any:
        """The value if it is of `kind`; None if absent, or wrong and noted."""
        self.known.append(key)
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(key, f"must be {name}, not {kind_of(value)}")
            return None
        return value

    def text(self, key: str, default: str, *, required: bool = False, grammar: re.Pattern[str] | None = None, says: str = "") -> str:
        value = self.take(key, str, "a string")
        if value is None:
            if required and not self.has(key):
                self.wrong(key, "is missing")
            return default
        if not value.strip():
            self.wrong(key, "must not be empty")
        elif grammar is not None and not grammar.fullmatch(value):
            self.wrong(key, says)
        elif grammar is None and not value.isprintable():
            self.wrong(key, "must not hold control characters")
        else:
            return str(value)
        return default

    def choice(self, key: str, options: Sequence[T], default: T) -> T:
        value = self.take(key, str, "a string")
        if value is None:
            return default
        for option in options:
            if value == option:
                return option
        self.wrong(key, f"must be {spelled(options)}{guess(value, options)}")
        return default

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, bool, "true or false")
        return default if value is None else bool(value)

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        value = self.take(key, int, "a whole number")
        if value is None:
            return default
        if not low <= value <= high:
            self.wrong(key, f"must be {low} to {high}")
            return default
        return int(value)

    def number(self, key: str, low: float, high: float) -> float | None:
        """Above `low`, at most `high`; None if absent."""
        value = self.take(key, (int, float), "a number")
        if value is None:
            return None
        if not low < value <= high:
            self.wrong(key, f"must be above {low:g} and at most {high:g}")
            return None
        return float(value)

    def seconds(self, key: str, default: float, low: str, high: str) -> float:
        return self.measured(key, default, SECONDS, low, high, 'a duration like "30s" or "15m"')

    def size(self, key: str, default: int, low: str, high: str) -> int:
        return int(self.measured(key, default, BYTES, low, high, 'a size like "64KiB" or "8MiB"'))

    def measured(self, key: str, default: float, units: Mapping[str, float], low: str, high: str, name: str) -> float:
        value = self.take(key, str, name)
        if value is None:
            return default
        found = amount(value, units)
        if found is None:
            self.wrong(key, f"must be {name}")
        elif not (amount(low, units) or 0) <= found <= (amount(high, units) or 0):
            self.wrong(key, f"must be {low} to {high}")
        else:
            return found
        return default

    def path(self, key: str, default: str) -> str:
        """A file's name, made to start from the folder of the file that says it."""
        return self.reading.path(self.text(key, default))

    def path_or_none(self, key: str) -> str | None:
        value = self.text(key, "")
        return self.reading.path(value) if value else None

    def secret(self, key: str) -> str:
        """From `<key>_file` or `<key>_env`; exactly one is needed. One line; its text never reaches a mistake."""
        file, variable = self.text(f"{key}_file", ""), self.text(f"{key}_env", "")
        said = self.has(f"{key}_file"), self.has(f"{key}_env")
        if said == (False, False):
            self.wrong(f"{key}_file", f"is missing ({key}_env may stand instead)")
        elif said == (True, True):
            self.wrong(f"{key}_env", f"stands besides {key}_file: one of them, not both")
        elif variable and variable not in self.reading.env:
            self.wrong(f"{key}_env", f"{variable} is not in the environment")
        elif variable or file:
            from_file = None if variable else self.reading.contents(self.at(f"{key}_file"), file)
            found = self.reading.env[variable] if variable else from_file
            if found is not None:
                return self.one_line(f"{key}_env" if variable else f"{key}_file", found)
        return ""

    def one_line(self, key: str, text: str) -> str:
        secret = text.strip("\r\n")
        if not secret.strip() or not secret.isprintable():
            self.wrong(key, "must hold the secret, one line of it")
            return ""
        return secret

    def strings(self, key: str) -> tuple[str, ...] | None:
        value = self.take(key, list, "a list of strings")
        if value is None:
            return None
        if not all(isinstance(item, str) and item for item in value):
            self.wrong(key, "must be a list of strings")
            return None
        return tuple(value)

    def table(self, key: str) -> Table | None:
        value = self.take(key, dict, "a table")
        return None if value is None else Table(value, self.at(key), self.reading)

    def tables(self, key: str) -> list[Table]:
        """The tables of `[[key]]`."""
        value = self.take(key, list, f"written as [[{self.at(key)}]]")
        return [Table(item, f"{self.at(key)}[{number}]", self.reading) for number, item in enumerate(value or ())]

    def end(self) -> None:
        for key in self.values:
            if key not in self.known:
                self.wrong(key, f"is not a key that we know{guess(key, self.known)}")


def kind_of(value: object) -> str:
    names = {bool: "true or false", str: "a string", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")
