"""What a meter said, normalised: `meterValue` of either version in, one `Reading` per moment and context out.

Stations spell the same thing in a dozen ways: kWh or Wh, text or number, per phase or in all, power or only volts and
amperes. Defaults and meanings are those of OCPP 1.6 7.31/7.43 and of OCPP 2.x SampledValueType; both versions go
through the same code, because stations also mix them. What is ambiguous is left out: no value is better than a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, sqrt
from typing import Any

from broker.model.observations import Reading
from broker.ocpp import fields, times
from broker.ocpp.measurands import NOTHING, Meaning, Quantity, meaning_of

NOMINAL_V = 230.0  # line to neutral, where a station gives amperes per phase and no volts
IN_USE_A = 0.5  # above it a phase carries a car; below is meter noise
HIGHEST_PHASE_V = 300.0  # no mains has more from line to neutral: such a voltage beside phase currents is line to line
_FURTHEST_MULTIPLIER = 12  # 10^12: what lies beyond is a mistake

Phases = tuple[float | None, float | None, float | None]
_Bucket = dict[str, Quantity]


def readings(meter_values: object) -> tuple[Reading, ...]:
    """The readings in a `meterValue`, in the order in which their moments first appear; never raises.

    Values of one moment in different contexts stay apart: a StopTransaction may carry begin and end under one timestamp.
    """
    buckets: dict[tuple[object, str], tuple[float | None, _Bucket]] = {}
    for index, meter_value in enumerate(fields.several(meter_values)):
        value = fields.mapping(meter_value)
        at = times.parse(value.get("timestamp"))
        moment = f"unreadable {index}" if at is None else at
        newest: str | None = None
        bucket: _Bucket = {}
        for sample in fields.several(value.get("sampledValue")):
            if isinstance(sample, dict):
                meaning = meaning_of(sample)
                if meaning.context != newest:
                    newest = meaning.context
                    bucket = buckets.setdefault((moment, newest), (at, {}))[1]
                if meaning.kind:
                    _keep(sample, meaning, bucket)
    found = (_reading(at, context, bucket) for (_, context), (at, bucket) in buckets.items())
    return tuple(reading for reading in found if reading is not None)


def first_energy(seen: tuple[Reading, ...], context: str) -> float | None:
    """The register in the first reading of that context, else in the first that has one (Wh)."""
    with_energy = [r for r in seen if r.energy_wh is not None]
    return next((r.energy_wh for r in with_energy if r.context == context), with_energy[0].energy_wh if with_energy else None)


def _keep(sample: Mapping[str, Any], meaning: Meaning, bucket: _Bucket) -> None:
    kind, factor, rank, phase, _ = meaning
    measure = sample.get("unitOfMeasure")
    value = _scaled(sample.get("value"), factor, fields.mapping(measure).get("multiplier") if measure is not None else None)
    if value is None:
        return
    quantity = bucket.get(kind)
    if quantity is None:
        quantity = bucket[kind] = Quantity()
    quantity.put(rank, phase, value)


def _scaled(said: object, factor: float, power: object) -> float | None:
    """The value in our unit; None if it is no number. `power`: the multiplier of OCPP 2.x, a power of ten."""
    value = fields.number(said)
    if value is None:
        return None
    value = scaled(value, factor)
    if power:
        multiplier = fields.whole(power)
        if multiplier is None or abs(multiplier) > _FURTHEST_MULTIPLIER:
            return None
        value = value * 10**multiplier if multiplier >= 0 else value / 10**-multiplier
    return value if isfinite(value) else None


def scaled(value: float, factor: float) -> float:
    """Dividing by a power of ten is exact where multiplying by its inverse is not."""
    return value * factor if factor >= 1 else value / round(1 / factor)


def _reading(at: float | None, context: str, bucket: _Bucket) -> Reading | None:
    if not bucket:
        return None
    voltage, current = bucket.get("voltage", NOTHING), bucket.get("current", NOTHING)
    used = {n for n, value in enumerate(current.phases) if value is not None and abs(value) > IN_USE_A}
    found = (
        _sum(bucket.get("energy", NOTHING), used),
        _power(bucket, used),
        per_phase(current.phases, current.whole),
        per_phase(_line_to_neutral(voltage), voltage.whole),
        _soc(bucket),
        _offered(bucket.get("offered", NOTHING)),
    )
    return None if found == _SAYS_NOTHING else Reading(at, *found, context)


_SAYS_NOTHING = (None, None, (None, None, None), (None, None, None), None, None)


def _sum(quantity: Quantity, used: set[int]) -> float | None:
    """The overall value, else the sum of its phases, unless one is missing that carries current."""
    if quantity.whole is not None:
        return quantity.whole
    given = {n for n, value in enumerate(quantity.phases) if value is not None}
    return _finite(sum(quantity.known())) if given and used <= given else None


def _power(bucket: _Bucket, used: set[int]) -> float | None:
    taken = _sum(bucket.get("power", NOTHING), used)
    given = _sum(bucket.get("export", NOTHING), set())
    if taken is None and not given:  # while it feeds back, its amperes are no consumption
        taken = _volts_times_amperes(bucket, used)
    if given is None:
        return taken
    if taken is None:
        return -given if given else None
    return _finite(taken - given)


def _volts_times_amperes(bucket: _Bucket, used: set[int]) -> float | None:
    """Power where the station gives none: the sum over phases, or U·I of a DC or single-phase meter."""
    voltage, current = bucket.get("voltage", NOTHING), bucket.get("current", NOTHING)
    factor = bucket.get("factor", NOTHING)
    volts = _line_to_neutral(voltage)
    if not current.known():
        known = [value for value in volts if value is not None] or [value for value in (voltage.whole,) if value is not None]
        if current.whole is None or len(known) != 1:  # of several phases it may be the sum or the mean: nobody knows
            return None
        return _finite(known[0] * current.whole * _cosine(factor, 0))
    usual = voltage.whole or NOMINAL_V
    usual = usual / sqrt(3) if usual > HIGHEST_PHASE_V else usual
    # a phase without a current has none; one without a voltage has the usual one
    parts = [(volts[n] or usual) * amperes * _cosine(factor, n) for n, amperes in enumerate(current.phases) if amperes is not None]
    return _finite(sum(parts))


def _line_to_neutral(voltage: Quantity) -> list[float | None]:
    if voltage.known():
        return voltage.phases
    return [None if value is None else value / sqrt(3) for value in voltage.pairs]


def _cosine(factor: Quantity, phase: int) -> float:
    value = factor.phases[phase] if factor.phases[phase] is not None else factor.whole
    return value if value is not None and 0 < value <= 1 else 1.0


def per_phase(phases: list[float | None], whole: float | None) -> Phases:
    """An overall value stands for the only phase there is, if no phase was ever named."""
    first, second, third = phases
    return (whole, None, None) if first is second is third is None else (first, second, third)


def _soc(bucket: _Bucket) -> float | None:
    for kind in ("soc", "shown soc"):
        value = bucket.get(kind, NOTHING).whole
        if value is not None and 0 <= value <= 100:
            return value
    return None


def _offered(quantity: Quantity) -> float | None:
    """The limit in force. Phases out of use are offered nothing, so the highest one counts."""
    return quantity.whole if quantity.whole is not None else max(quantity.known(), default=None)


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
