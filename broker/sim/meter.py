"""A socket's meter, and how its station words what it reads: watts and seconds in; sampled values of OCPP 1.6 or 2.x out.

The register is the exact integral of the simulated power. Makers word the same reading differently, and all of these are
heard on real wires: kWh or Wh, power or only currents and voltages, phases as `L1` or `L1-N`, a state of charge or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

REGISTER = "Energy.Active.Import.Register"


@dataclass(slots=True)
class Meter:
    """Wh since it was made."""

    register_wh: float = 0.0

    def add(self, watts: float, seconds: float) -> None:
        self.register_wh += watts * seconds / 3600.0


class Sample(NamedTuple):
    """One moment at a socket."""

    register_wh: float
    watts: float
    amps: float
    """Per phase in use."""
    phases: int
    volts: float
    soc_percent: float
    offered_amps: float
    dc: bool = False


@dataclass(frozen=True, slots=True)
class Manner:
    """How a maker words it."""

    kwh: bool = False
    phase_names: tuple[str, str, str] = ("L1", "L2", "L3")
    power: bool = True
    soc: bool = False
    offered: bool = False
    location: str = ""


class Value(NamedTuple):
    measurand: str
    number: float
    unit: str
    phase: str = ""
    location: str = ""


def values(sample: Sample, manner: Manner) -> Iterator[Value]:
    """What a periodic sample says, rounded as meters do."""
    register = sample.register_wh
    said, unit = (round(register / 1000, 3), "kWh") if manner.kwh else (round(register), "Wh")
    yield Value(REGISTER, said, unit, "", manner.location)
    if manner.power:
        yield Value("Power.Active.Import", round(sample.watts), "W", "", manner.location)
    names = ("",) if sample.dc else manner.phase_names[: sample.phases]
    for name in names:
        yield Value("Current.Import", round(sample.amps, 2), "A", name, manner.location)
        yield Value("Voltage", round(sample.volts, 1), "V", name if name.endswith("-N") or not name else f"{name}-N", manner.location)
    if manner.soc:
        yield Value("SoC", round(sample.soc_percent), "Percent", "", "EV")
    if manner.offered:
        yield Value("Current.Offered", round(sample.offered_amps, 1), "A")


def sampled_16(sample: Sample, manner: Manner, context: str) -> list[dict[str, Any]]:
    """1.6's sampledValue: numbers as text."""
    return [
        {"value": str(one.number), "context": context}
        | {"measurand": one.measurand, "unit": one.unit}
        | ({"phase": one.phase} if one.phase else {})
        | ({"location": one.location} if one.location else {})
        for one in values(sample, manner)
    ]


def sampled_2(sample: Sample, manner: Manner, context: str) -> list[dict[str, Any]]:
    """2.x's sampledValue: numbers as numbers, units beside them; a Wh need not be said."""
    return [
        {"value": one.number, "context": context, "measurand": one.measurand}
        | ({"unitOfMeasure": {"unit": one.unit}} if one.unit != "Wh" else {})
        | ({"phase": one.phase} if one.phase else {})
        | ({"location": one.location} if one.location else {})
        for one in values(sample, manner)
    ]
