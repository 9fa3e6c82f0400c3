"""What the words of a sample mean: `measurand`, `unit`, `phase`, `location`, `format` and `context` in, one `Meaning` out.

Each combination of words is made sense of once; a `Quantity` keeps what was said of one measurand from the best location. The
words and their defaults are those of OCPP 1.6 7.31/7.43 and of OCPP 2.x SampledValueType; both versions go through the same
tables, because stations also mix them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from broker.ocpp import fields

PERIODIC = "Sample.Periodic"
REGISTER = "Energy.Active.Import.Register"

_ENERGY = {"": 1.0, "wh": 1.0, "kwh": 1e3}
_POWER = {"": 1.0, "w": 1.0, "kw": 1e3}
_CURRENT = {"": 1.0, "a": 1.0, "ma": 1e-3}
_VOLTAGE = {"": 1.0, "v": 1.0, "kv": 1e3}
_PERCENT = {"": 1.0, "percent": 1.0, "%": 1.0}
_FACTOR = {"": 1.0, "percent": 1e-2, "%": 1e-2}

# measurand in lower case → what it is to us, and its units with their factors; every other measurand is passed over
_MEASURANDS: Mapping[str, tuple[str, Mapping[str, float]]] = {
    REGISTER.lower(): ("energy", _ENERGY),
    "power.active.import": ("power", _POWER),
    "power.active.export": ("export", _POWER),
    "power.factor": ("factor", _FACTOR),
    "current.import": ("current", _CURRENT),
    "current.offered": ("offered", _CURRENT),
    "current.import.offered": ("offered", _CURRENT),
    "voltage": ("voltage", _VOLTAGE),
    "soc": ("soc", _PERCENT),
    "display.presentsoc": ("shown soc", _PERCENT),
}
_PHASES = {"L1": 0, "L2": 1, "L3": 2, "L1-N": 0, "L2-N": 1, "L3-N": 2}
_PAIRS = {"L1-L2": 0, "L2-L3": 1, "L3-L1": 2}
# The outlet is what the car gets; the rest only where nothing nearer to it was measured.
_LOCATIONS = {"": 0, "outlet": 0, "cable": 1, "inlet": 2, "ev": 3, "body": 4, "upstream": 5}
_ELSEWHERE = 6


class Quantity:
    """All values of one measurand at one moment, from the best location that gave any."""

    __slots__ = ("pairs", "phases", "rank", "whole")

    def __init__(self) -> None:
        self._begin(_ELSEWHERE)

    def _begin(self, rank: int) -> None:
        self.rank = rank
        self.whole: float | None = None
        self.phases: list[float | None] = [None, None, None]
        self.pairs: list[float | None] = [None, None, None]

    def put(self, rank: int, phase: str, value: float) -> None:
        """Keep a value, the last one if it is said twice; N, and phases that nobody knows, are passed over."""
        known = not phase or phase in _PHASES or phase in _PAIRS
        if rank > self.rank or not known:
            return
        if rank < self.rank:
            self._begin(rank)
        if not phase:
            self.whole = value
        elif phase in _PHASES:
            self.phases[_PHASES[phase]] = value
        else:
            self.pairs[_PAIRS[phase]] = value

    def known(self) -> list[float]:
        return [value for value in self.phases if value is not None]


NOTHING = Quantity()


class Meaning(NamedTuple):
    """What a sample's words say of its value. `kind` "": it is passed over."""

    kind: str
    factor: float
    rank: int
    phase: str
    context: str


_MOST_KNOWN = 1024  # a station says the same words in every sample, and so do all of its make; beyond it, learnt anew
_LONGEST_KNOWN = 50  # characters of a word in OCPP
_known: dict[tuple[Any, ...], Meaning] = {}


def meaning_of(sample: Mapping[str, Any]) -> Meaning:
    """Each combination of words is made sense of once."""
    said = sample.get
    measure = said("unitOfMeasure")
    unit = said("unit") if measure is None else fields.text(fields.mapping(measure).get("unit")) or said("unit")
    words = (said("measurand"), unit, said("phase"), said("location"), said("format"), said("context"))
    try:
        return _known[words]
    except (KeyError, TypeError):  # new, or no words at all
        meaning = understood(*map(fields.text, words))
    if all(word is None or (isinstance(word, str) and len(word) <= _LONGEST_KNOWN) for word in words):
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[words] = meaning
    return meaning


def understood(measurand: str, unit: str, phase: str, location: str, format: str, context: str) -> Meaning:
    """What these words say, each as `fields.text` gives it; "" is what is not said."""
    kind, units = _MEASURANDS.get((measurand or REGISTER).lower(), ("", {}))
    factor = units.get(unit.lower().replace(" ", ""))
    if factor is None or format.lower() == "signeddata":  # a unit that it does not have; a blob, even if it looks like a number
        kind = ""
    rank = 0 if kind in ("soc", "shown soc") else _LOCATIONS.get(location.lower(), _ELSEWHERE)  # only the car has a state of charge
    return Meaning(kind, factor or 0.0, rank, phase.upper().replace(" ", ""), context or PERIODIC)
