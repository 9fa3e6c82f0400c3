"""The engine's API, version 1, as pure JSON: records go out, schedules come in (`v1_schedules`). `docs/engine-api.yaml` is the contract.

Units: energy Wh, power W, current A per phase, voltage V, times RFC 3339 UTC with milliseconds. What is not known is left out,
never sent as 0. Every record bears a key made from what it tells, so that a repeat, also after a restart, is the same record.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from hashlib import sha1
from typing import Any, Final
from uuid import UUID

from broker.engine.v1_schedules import Parsed, parse_schedules
from broker.model.basics import Key
from broker.model.records import OpenTransaction, Outcome, Record, RecordKind
from broker.ocpp import times
from broker.settings import EngineSettings, EvseSettings

SPACE: Final = UUID("5a3c7a0e-2f0b-5d0c-9b1e-0c9b0a6c1f11")
"""The namespace of every id that we derive; never to be changed: the same observation must keep its id for ever."""
_SPACE: Final = SPACE.bytes

PATHS: Final[Mapping[str, str]] = {
    "login": "/v1/identity/client-login",
    "site": "/v1/sites/{site_id}",
    "measurement": "/v1/measurements",
    "transaction": "/v1/transactions",
    "identification": "/v1/identifications",
    "schedules": "/v1/sites/{site_id}/schedules",
    "outcome": "/v1/outcomes",
    "batch": "/v1/batch",
}
NOMINAL_V: Final = 230.0
STATES: Final = frozenset({"Started", "Updated", "SuspendedEV", "Ended"})


def derived(*parts: object) -> str:
    """A UUIDv5 over these parts: the same for the same parts, anywhere, for ever (RFC 9562 5.5; `uuid.uuid5` takes twice as long)."""
    digest = bytearray(sha1(_SPACE + "\x1f".join(map(str, parts)).encode("utf-8", "replace"), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50  # version 5
    digest[8] = digest[8] & 0x3F | 0x80  # the variant that all of them are
    said = digest.hex()
    return f"{said[:8]}-{said[8:12]}-{said[12:16]}-{said[16:20]}-{said[20:]}"


class V1:
    """The codec for one tenant's engine."""

    def __init__(self, settings: EngineSettings) -> None:
        self._asset_key = settings.asset_key
        self._paths = {**PATHS, **{_singular(kind): path for kind, path in settings.paths.items()}}

    def path(self, kind: str, site: str | None = None) -> str:
        """The path of `kind` (a record's kind, or login, site, schedules, batch)."""
        return self._paths[kind].replace("{site_id}", site or "")

    # ------------------------------------------------------------ out

    def measurement(
        self,
        key: Key,
        site: str,
        evse: EvseSettings,
        *,
        at: float,
        energy_wh: float,
        power_w: float,
        soc_percent: float | None = None,
        currents_a: tuple[float | None, ...] = (),
        voltages_v: tuple[float | None, ...] = (),
    ) -> Record:
        """One asset's values at one moment."""
        body: dict[str, Any] = {"site_id": site, self._asset_key: evse.asset, "timestamp": times.text(at)}
        body |= {"energyValue": round(energy_wh, 3), "powerValue": round(power_w, 3)}
        if soc_percent is not None and 0 <= soc_percent <= 100:
            body["currentStateOfCharge"] = soc_percent
        pins = {}
        for n, amps in enumerate(currents_a[: evse.phases], 1):
            volts = voltages_v[n - 1] if n <= len(voltages_v) else None
            if amps is not None:
                pin = {"currentValue": round(amps, 3), "powerValue": round(amps * (volts or NOMINAL_V), 1)}
                pins[f"pin{n}"] = pin if volts is None else {**pin, "voltageValue": round(volts, 2)}
        if pins:
            body["pins"] = pins
        return _record("measurement", body, key, evse.asset, body["timestamp"])

    def transaction(
        self,
        key: Key,
        site: str,
        evse: EvseSettings,
        transaction: OpenTransaction,
        *,
        state: str,
        at: float,
        stopped_at: float | None = None,
        soc_percent: float | None = None,
        dc: bool = False,
    ) -> Record:
        """A transaction's state. Start and end have one key whatever their time: stored once, however often they are told."""
        body: dict[str, Any] = {
            "site_id": site,
            "assetId": evse.asset,
            "transactionId": transaction.uid,
            "timestamp": times.text(at),
            "transactionState": state if state in STATES else "Updated",
            "startTime": times.text(transaction.started_at),
            "stopTime": None if stopped_at is None else times.text(stopped_at),
        }
        if transaction.id_token is not None:
            body["driverId"] = transaction.id_token
        if dc:
            body["type"] = "dc"
        elif evse.max_amps is not None:
            body["maxPower"] = round(evse.max_amps * NOMINAL_V * evse.phases, 1)
        if transaction.phases is not None and not dc:
            body["noChargingPhases"] = transaction.phases
        if soc_percent is not None and state == "Started":
            body["initialStateOfCharge"] = soc_percent
        # Of changes there may be several in one second: each is told by what it says.
        said = "" if state in ("Started", "Ended") else json.dumps(body, sort_keys=True)
        return _record("transaction", body, key, transaction.uid, state, said)

    def identification(self, key: Key, site: str, evse: EvseSettings, transaction: OpenTransaction, *, at: float) -> Record:
        """Who began to charge, where and when, and nothing else."""
        body = {
            "site_id": site,
            "assetId": evse.asset,
            "transactionId": transaction.uid,
            "driverId": transaction.id_token,
            "timestamp": times.text(at),
            "evse": transaction.evse,
            "connector": transaction.connector,
        }
        return _record("identification", body, key, transaction.uid)

    def outcome(self, tenant: str, outcome: Outcome) -> Record:
        """What became of a schedule."""
        body = {"schedule_id": outcome.schedule, "asset_id": outcome.asset, "status": outcome.status, "timestamp": times.text(outcome.at)}
        if outcome.detail:
            body["detail"] = outcome.detail
        return _record("outcome", body, tenant, outcome.schedule, outcome.asset, outcome.status, outcome.detail, body["timestamp"])

    # ------------------------------------------------------------ in

    def parse_schedules(self, body: Any, assets: Container[str], now: float) -> Parsed:
        """The schedules in an answer to a poll; see `v1_schedules`."""
        return parse_schedules(body, assets, now)


def _singular(kind: str) -> str:
    """The settings name the paths as the API does, in the plural."""
    return kind if kind == "schedules" else kind.removesuffix("s")


def _record(kind: RecordKind, body: Mapping[str, Any], *about: object) -> Record:
    flat = [part for one in about for part in (one if isinstance(one, Key) else (one,))]
    return Record(derived(kind, *flat), kind, body)
