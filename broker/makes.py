"""The makes of stations that are known to differ from the standard, each with where it was reported. docs/stations.md is made of this.

Only what was reported of real stations stands here, and only what narrows. What a station refuses without being listed is learned
from its answers (`profiles.ladder`), so a missing line costs a few refused calls, once.
"""

from __future__ import annotations

from typing import Final

from broker.settings import Quirk

EVCC: Final = "https://github.com/evcc-io/evcc/issues/"
HA: Final = "https://github.com/lbbrhzn/ocpp/issues/"

KNOWN: Final[tuple[Quirk, ...]] = (
    Quirk(
        "ABB Terra AC",
        "*abb*",
        top_level=0,
        note="Takes stack level 0 only, though it reports more. Restarts over and over when asked for measurands it does not have.",
        sources=(EVCC + "15493", HA + "1737"),
    ),
    Quirk(
        "ABL eMH",
        "abl*",
        note="Writes JSON with odd blanks; relayed as it comes.",
        sources=(EVCC + "7458",),
    ),
    Quirk(
        "Alfen Eve",
        "*alfen*",
        note="Smart charging must be unlocked per station. Firmware 5 names transactions 9223372036854775807: such an id is never used.",
        sources=("https://github.com/lorenzodonini/ocpp-go/issues/188", "https://github.com/steve-community/steve/issues/740"),
    ),
    Quirk(
        "Autel MaxiCharger",
        "*autel*",
        note="Drops wss without a word unless the CA's file was uploaded to it first.",
        sources=(HA + "1523",),
    ),
    Quirk(
        "Easee",
        "*easee*",
        purposes=("max", "default"),
        max_periods=16,
        writes_per_day=25,
        note="Takes no TxProfile, and its memory bears 25 writes a day: limits stand longer and change seldom.",
        sources=("https://developer.easee.com/docs/ocpp-smart-charging",),
    ),
    Quirk(
        "EVBox",
        "*evbox*",
        purposes=("tx", "default"),
        top_level=6,
        note="Refuses ChargePointMaxProfile.",
        sources=(HA + "221", HA + "1703"),
    ),
    Quirk(
        "FoxESS A series",
        "*foxess*",
        note="Under ocpp2.0.1 it checks SetChargingProfile against the 1.6 schema and refuses it; let the CPMS choose ocpp1.6.",
        sources=(HA + "2050",),
    ),
    Quirk(
        "Garo",
        "*garo*",
        unit="A",
        note="Amperes only, and the number of phases must be said; we always say it.",
        sources=(HA + "1035",),
    ),
    Quirk(
        "go-e",
        "*go-e*",
        note="Several firmwares accept a limit and do not follow it: watch for not-obeyed.",
        sources=(
            "https://github.com/goecharger/go-eCharger-API-v2/issues/105",
            "https://github.com/goecharger/go-eCharger-API-v2/issues/249",
        ),
    ),
    Quirk(
        "Grizzl-E",
        "*grizzl*",
        firmware="*03.09*",
        purposes=("tx", "default"),
        note="Accepts ChargePointMaxProfile without effect; names no subprotocol.",
        sources=(HA + "442",),
    ),
    Quirk(
        "Growatt THOR",
        "*growatt*",
        note="Timestamps are local time without a zone; its clock is learned as if it were off.",
        sources=(EVCC + "10399",),
    ),
    Quirk(
        "Huawei FusionCharge",
        "*huawei*",
        unit="W",
        note="Watts only. Sends meterValue as an object instead of a list.",
        sources=(HA + "1144",),
    ),
    Quirk(
        "Schneider EVlink",
        "*schneider*",
        note="Refuses limits until load balancing by an external system is switched on in its own settings.",
        sources=(HA + "877", HA + "1829"),
    ),
    Quirk(
        "Timxon A0",
        "*timxon*",
        purposes=("default",),
        note="Refuses ChargePointMaxProfile and TxProfile.",
        sources=(HA + "2158",),
    ),
    Quirk(
        "Wallbox Pulsar, Copper",
        "*wallbox*",
        note="Refuses Absolute profiles in some firmwares, and then cannot be managed; wants an empty password.",
        sources=(EVCC + "15581", EVCC + "26186"),
    ),
    Quirk(
        "ZJ Beny",
        "*beny*",
        note="Writes broken JSON after a limit changed; relayed as it comes, not read.",
        sources=(HA + "1078",),
    ),
)
