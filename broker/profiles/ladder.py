"""Which kind of charging profile a station takes from us: purposes in the operator's order, each with the stack levels worth a try.

Stations refuse for reasons of their own (some take only one purpose, some only level 0, whatever they report), so a refused rung
is remembered and the next one tried. Our level is above whatever the CPMS uses for that purpose: at the same one, OCPP 1.6 would
let ours replace the CPMS's profile, and 2.x would refuse it; below it, ours would not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Final, NamedTuple

from broker.model.basics import EMPTY
from broker.model.observations import Capabilities
from broker.model.records import Fact

IDS: Final = 9_120_000  # our block of profile ids: + 10 × EVSE + the purpose's place
PLACES: Final = {"max": 1, "tx": 2, "default": 3, "fallback": 4}
SAID_NOTHING: Final = Capabilities()
ABILITIES: Final = tuple(field.name for field in fields(Capabilities))


class Rung(NamedTuple):
    purpose: str
    level: int

    def __str__(self) -> str:
        return f"{self.purpose}:{self.level}"


class Ladder:
    """One station's."""

    __slots__ = ("_refused", "purposes")

    def __init__(self, purposes: Iterable[str], facts: Iterable[Fact] = ()) -> None:
        self.purposes = tuple(purposes)
        """Tried in this order."""
        self._refused: frozenset[str] = EMPTY
        for fact in facts:
            if (fact.topic, fact.name) == ("quirk", "rung") and isinstance(fact.value, list):
                self._refused = frozenset(str(rung) for rung in fact.value)

    def rungs(self, top: int | None, used: Callable[[str], int | None]) -> Iterator[Rung]:
        """From the best on. `top`: the highest stack level the station reports; `used`: the highest of the CPMS's, by purpose."""
        for purpose in self.purposes:
            taken = used(purpose)
            lowest = 0 if taken is None else taken + 1
            for level in dict.fromkeys((lowest if top is None else top, lowest)):
                rung = Rung(purpose, level)
                if lowest <= level and (top is None or level <= top) and str(rung) not in self._refused:
                    yield rung

    def refuse(self, rung: Rung) -> Fact:
        """The station does not take it."""
        self._refused |= {str(rung)}
        return Fact("quirk", "rung", sorted(self._refused))

    def forgive(self) -> Fact:
        """None is left: in time all are tried again."""
        self._refused = EMPTY
        return Fact("quirk", "rung", None)


def profile_id(purpose: str, evse: int, max_external: int | None) -> int:
    """Stable, so that an update replaces; above the ids that a 2.1 station keeps for external constraints."""
    return max(IDS, (max_external or 0) + 1) + 10 * evse + PLACES[purpose]


def merged(known: Capabilities, said: Capabilities) -> Capabilities:
    """Field by field, what was said last."""
    return replace(known, **{name: value for name, value in asdict(said).items() if value is not None})


def abilities_fact(known: Capabilities) -> Fact:
    told = {name: sorted(value) if isinstance(value, frozenset) else value for name, value in asdict(known).items()}
    return Fact("capability", "capability", told)


def abilities_of(facts: Iterable[Fact]) -> Capabilities:
    """What was known before; fields of another version of ours are passed over."""
    value = next((fact.value for fact in facts if fact.topic == "capability" and isinstance(fact.value, Mapping)), {})
    known: dict[str, Any] = {name: value[name] for name in ABILITIES if name in value}
    if isinstance(known.get("units"), list):
        known["units"] = frozenset(str(unit) for unit in known["units"]) or None
    return Capabilities(**known) if known else SAID_NOTHING
