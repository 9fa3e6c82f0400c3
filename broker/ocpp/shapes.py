"""Meter values as nearly every station writes them, read by their shape: the words are understood once, then only numbers are read.

A station says the same words in every MeterValues: the same measurands, units and phases in the same order; only the values and the
time are new. So the words of all samples of one moment, taken together, are a *shape*. What it means (which value is the register,
which three are the currents) is worked out once, by the tolerant reader's own rules, and kept for all stations that talk alike.

What is not plain (a value that is no number as JSON or msgspec would have it, a field of a wrong type, a shape in which the meaning
hangs on the values) is left to `broker.ocpp.samples`, which reads everything: here None is the answer to it. Both say the same of
whatever both can read, which is tested by playing both.
"""

from __future__ import annotations

from math import isfinite
from operator import attrgetter, itemgetter
from typing import Any, Final, Literal

import msgspec

from broker.model.observations import Reading
from broker.ocpp import fields, samples, times
from broker.ocpp.measurands import NOTHING, Quantity, understood


class Unit(msgspec.Struct, frozen=True, gc=False):
    """2.x's unitOfMeasure."""

    unit: str = ""
    multiplier: int = 0


class Sample(msgspec.Struct, gc=False):
    """A sampledValue; absent and empty mean the same."""

    value: float
    measurand: str = ""
    unit: str = ""
    phase: str = ""
    location: str = ""
    format: str = ""
    context: str = ""
    unitOfMeasure: Unit | None = None


class Moment(msgspec.Struct):
    """A meterValue."""

    timestamp: str = ""
    sampledValue: list[Sample] = []


Words = tuple[tuple[Any, ...], ...]

MOST_SAMPLES: Final = 32  # in one moment: three phases of everything are some twenty
MOST_SHAPES: Final = 256  # known at once; stations of one make share theirs. Beyond it they are learnt anew
LONGEST: Final = 50  # characters of a word in OCPP

_words_of: Final = attrgetter("measurand", "unit", "phase", "location", "format", "context", "unitOfMeasure")
_value_of: Final = attrgetter("value")
_known: dict[Words, tuple[_Plan, ...] | None] = {}


class MeterValues16(msgspec.Struct):
    """A MeterValues of 1.6, as far as it is read."""

    connectorId: Any
    meterValue: list[Moment]
    transactionId: Any = None


class MeterValues2(msgspec.Struct):
    """A MeterValues of 2.x."""

    evseId: Any
    meterValue: list[Moment]


meter_values_16: Final = msgspec.json.Decoder(tuple[Literal[2, 6], str, str, MeterValues16], strict=False).decode
meter_values_2: Final = msgspec.json.Decoder(tuple[Literal[2, 6], str, str, MeterValues2], strict=False).decode
"""A whole frame. Raise msgspec.DecodeError for what is not plain."""


def readings(meter_values: object) -> tuple[Reading, ...]:
    """As `samples.readings`, and faster where it is plain."""
    if not meter_values:
        return ()
    try:
        moments = msgspec.convert(meter_values, list[Moment], strict=False)
    except (ValueError, OverflowError, RecursionError):  # msgspec.ValidationError is a ValueError; so is half of a surrogate pair
        return samples.readings(meter_values)
    found = plain(moments)
    return samples.readings(meter_values) if found is None else found


def plain(moments: list[Moment]) -> tuple[Reading, ...] | None:
    """Their readings, in the order in which they were said; None if a more careful reader is needed."""
    found: list[Reading] = []
    ats: set[float] = set()
    for moment in moments:
        words = tuple(map(_words_of, moment.sampledValue))
        try:
            plans = _known[words]  # looked up once: the words are hashed anew each time
        except KeyError:
            plans = _learn(words)
        if plans is None:
            return None
        values = [*map(_value_of, moment.sampledValue), None]
        at = times.parse(moment.timestamp)
        if at is not None:
            if at in ats:  # one moment in pieces
                return None
            ats.add(at)
        for plan in plans:
            reading = plan.read(at, values)
            if reading is None:
                return None
            found.append(reading)
    return tuple(found)


def _learn(words: Words) -> tuple[_Plan, ...] | None:
    """What these mean together; None if it takes the values to say, or if there is more than stations say."""
    if len(words) > MOST_SAMPLES or any(len(word) > LONGEST for one in words for word in one if isinstance(word, str)):
        return None
    if any(one[-1] is not None and (len(one[-1].unit) > LONGEST or one[-1].multiplier) for one in words):
        return None
    try:
        plans: tuple[_Plan, ...] | None = _plans(words)
    except _NotPlain:
        plans = None
    if len(_known) >= MOST_SHAPES:
        _known.clear()
    _known[words] = plans
    return plans


class _NotPlain(Exception):
    """What it means hangs on the values."""


def _plans(words: Words) -> tuple[_Plan, ...]:
    """One for each context that says anything. The tolerant reader sorts places in the list as it would sort values."""
    buckets: dict[str, dict[str, Quantity]] = {}
    factors = [1.0] * len(words)
    for index, (measurand, unit, phase, location, format, context, measure) in enumerate(words):
        said = unit if measure is None else fields.text(measure.unit) or unit
        meaning = understood(*map(fields.text, (measurand, said, phase, location, format, context)))
        bucket = buckets.setdefault(meaning.context, {})
        if meaning.kind:
            bucket.setdefault(meaning.kind, Quantity()).put(meaning.rank, meaning.phase, index)
            factors[index] = meaning.factor
    return tuple(_Plan(context, bucket, factors) for context, bucket in buckets.items() if bucket)


class _Plan:
    """Where in the list of values each part of one reading stands. The last place of the list holds None: what was not said."""

    __slots__ = ("_amperes", "_offered", "_power", "_powers", "_register", "_scaled", "_soc", "_used", "_volts", "context")

    def __init__(self, context: str, bucket: dict[str, Quantity], factors: list[float]) -> None:
        self.context = context
        energy, power, current, voltage, soc, shown, offered = (
            bucket.pop(kind, NOTHING) for kind in ("energy", "power", "current", "voltage", "soc", "shown soc", "offered")
        )
        carrying = {n for n, place in enumerate(current.phases) if place is not None}
        powered = {n for n, place in enumerate(power.phases) if place is not None}
        bucket.pop("factor", None)  # of use only where power must be reckoned
        if bucket or (energy.whole is None and energy.known()) or voltage.pairs != NOTHING.pairs:
            raise _NotPlain  # fed back, or summed up, or line to line
        if power.whole is None and not (powered >= carrying if powered else current.whole is None and not carrying):
            raise _NotPlain  # a phase without power that may be in use, or power that must be reckoned
        self._register = _place(energy.whole)
        self._power = _place(power.whole)
        self._powers = tuple(map(_place, power.known())) if power.whole is None else ()
        self._amperes = itemgetter(*_phases(current))
        self._volts = itemgetter(*_phases(voltage))
        self._soc = tuple(map(_place, (soc.whole, shown.whole))) if soc.whole is not None or shown.whole is not None else ()
        self._offered = tuple(map(_place, offered.known() if offered.whole is None else [offered.whole]))
        used = {self._register, self._power, *self._powers, *_phases(current), *_phases(voltage), *self._soc, *self._offered} - {_NOT_SAID}
        if not used - {*self._soc}:
            raise _NotPlain  # it may say nothing at all
        self._used = tuple(used)
        self._scaled = tuple((place, factors[place]) for place in used if factors[place] != 1.0)

    def read(self, at: float | None, values: list[Any]) -> Reading | None:
        """None if a value is beyond every meter, or no number."""
        for place, factor in self._scaled:
            values[place] = samples.scaled(values[place], factor)
        sum_of_all = 0.0
        for place in self._used:
            sum_of_all += values[place]
        if not isfinite(sum_of_all):
            return None
        power = values[self._power]
        if self._powers:
            power = 0
            for place in self._powers:
                power += values[place]
        soc = offered = None
        if self._soc:
            soc = next((value for value in (values[place] for place in self._soc) if value is not None and 0 <= value <= 100), None)
        if self._offered:
            offered = max(values[place] for place in self._offered)
        return Reading(at, values[self._register], power, self._amperes(values), self._volts(values), soc, offered, self.context)


_NOT_SAID: Final = -1


def _place(index: float | None) -> int:
    return _NOT_SAID if index is None else int(index)


def _phases(quantity: Quantity) -> tuple[int, int, int]:
    first, second, third = map(_place, samples.per_phase(quantity.phases, quantity.whole))
    return first, second, third
