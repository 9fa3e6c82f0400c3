"""OCPP 2.1: to the tap what 2.0.1 is, with its own smart charging; the new measurands are known to `samples`."""

from __future__ import annotations

from broker.model.traffic import Interest
from broker.ocpp.charging2 import CHARGING_21
from broker.ocpp.dialect import Charging
from broker.ocpp.v201 import V201, wants


class V21(V201):
    """`broker.ocpp.dialect.Dialect` for OCPP 2.1."""

    name: str = "ocpp2.1"
    charging: Charging = CHARGING_21
    interest: Interest = wants(CHARGING_21)
