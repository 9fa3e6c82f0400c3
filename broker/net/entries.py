"""What the store is given and gives, as the text that its file holds. Nothing that it cannot hold gets further than here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from broker.model.basics import Key
from broker.model.records import Fact, Record
from broker.net.ledger import Entry


def entry(key: Key, records: Sequence[Record], facts: Sequence[Fact]) -> Entry:
    """As text. Raises TypeError, ValueError or RecursionError for what JSON and UTF-8 cannot hold."""
    for text in (*key, *(record.key for record in records), *(fact.name for fact in facts)):
        text.encode()
    return Entry(
        key.tenant,
        key.station,
        tuple((record.key, record.kind, _json(record.body)) for record in records),
        tuple((fact.topic, fact.name, None if fact.value is None else _json(fact.value)) for fact in facts),
    )


def known(rows: Sequence[tuple[Any, str, str]]) -> list[Fact]:
    """One that is no JSON any more is not known any more; it is no reason to know nothing."""
    facts: list[Fact] = []
    for topic, name, value in rows:
        with suppress(ValueError, RecursionError):
            facts.append(Fact(topic, name, json.loads(value)))
    return facts


def about(rows: Sequence[tuple[str, str, str]], topic: str) -> list[tuple[str, Fact]]:
    """(station id, fact) of each row of a topic that can be read."""
    return [(station, fact) for station, name, value in rows for fact in known([(topic, name, value)])]


def _json(value: Any) -> str:
    if isinstance(value, Mapping):
        value = dict(value)
    return _COMPACT(value)


_COMPACT: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # `json.dumps` would make one each time
