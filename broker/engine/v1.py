"""The engine's API, version 1, as pure JSON: records go out, schedules come in. `docs/engine-api.yaml` is the contract.

Units: energy Wh, power W, current A per phase, voltage V, times RFC 3339 UTC with milliseconds. What is not known is left out,
never sent as 0. Every record bears a key made from what it tells, so that a repeat, also after a restart, is the same record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from hashlib import sha1
from typing import Any, Final, NamedTuple
from uuid import UUID

from broker.model.basics import Key
from broker.model.records import OpenTransaction, Outcome, Record, RecordKind
from broker.model.schedules import Schedule, Step
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
MOST_W: Final = 1e6
AHEAD_S: Final = 48 * 3600.0
MOST_STEPS: Final = 1024
STATES: Final = frozenset({"Started", "Updated", "SuspendedEV", "Ended"})
LAST: Final = 253_402_300_799.0  # the end of the year 9999: what is later cannot be written down
RFC3339: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,18})?([Zz]|[+-][0-9]{2}:[0-9]{2})")


def derived(*parts: object) -> str:
    """A UUIDv5 over these parts: the same for the same parts, anywhere, for ever (RFC 9562 5.5; `uuid.uuid5` takes twice as long)."""
    digest = bytearray(sha1(_SPACE + "\x1f".join(map(str, parts)).encode("utf-8", "replace"), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50  # version 5
    digest[8] = digest[8] & 0x3F | 0x80  # the variant that all of them are
    said = digest.hex()
    return f"{said[:8]}-{said[8:12]}-{said[12:16]}-{said[16:20]}-{said[20:]}"


class Parsed(NamedTuple):
    """An answer to a poll for schedules."""

    cursor: str
    schedules: tuple[Schedule, ...]
    refused: tuple[Outcome, ...]


class Refused(ValueError):
    """This schedule is refused whole; the text names the field."""


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
        """The schedules in an answer; each is taken or refused whole, with the field that is wrong.

        `now`: seconds since 1970 UTC. Raises ValueError, in one clear line, if the answer itself cannot be read.
        """
        if not isinstance(body, dict) or not isinstance(body.get("schedules"), list) or not isinstance(body.get("cursor"), str):
            raise ValueError('the engine\'s answer is not {"schedules": [...], "cursor": "..."}')
        if len(body["cursor"]) > 1024 or (body["cursor"] and not _name(body["cursor"])):
            raise ValueError("the engine's cursor is longer than 1024 characters, or no text")
        taken: list[Schedule] = []
        refused: list[Outcome] = []
        for one in body["schedules"]:
            if not isinstance(one, dict):
                raise ValueError("a schedule of the engine is not an object")
            id, asset = _name(one.get("id"))[:64], _name(one.get("asset_id"))[:256]
            try:
                taken.append(_schedule(one, assets, now))
            except Refused as why:
                refused.append(Outcome(id, asset, "refused", now, str(why)))
        return Parsed(body["cursor"], tuple(taken), tuple(refused))


def _singular(kind: str) -> str:
    """The settings name the paths as the API does, in the plural."""
    return kind if kind == "schedules" else kind.removesuffix("s")


def _record(kind: RecordKind, body: Mapping[str, Any], *about: object) -> Record:
    flat = [part for one in about for part in (one if isinstance(one, Key) else (one,))]
    return Record(derived(kind, *flat), kind, body)


def _name(value: Any) -> str:
    """A text that can be stored and sent; "" for everything else (half of a surrogate pair is legal JSON, and no text)."""
    return value if isinstance(value, str) and value.encode("utf-8", "replace").decode() == value else ""


def _schedule(one: Mapping[str, Any], assets: Container[str], now: float) -> Schedule:
    """Raises Refused."""
    id, asset, unit = _name(one.get("id")), _name(one.get("asset_id")), one.get("unit", "W")
    if not 1 <= len(id) <= 64:
        raise Refused("id: must be 1 to 64 characters")
    if asset not in assets:
        raise Refused("asset_id: no such asset here")
    if unit not in ("W", "A"):
        raise Refused("unit: must be W or A")
    phases, transaction = one.get("phases"), one.get("transactionId")
    if phases is not None and (isinstance(phases, bool) or phases not in (1, 2, 3)):
        raise Refused("phases: must be 1, 2 or 3")
    if transaction is not None and not _name(transaction):
        raise Refused("transactionId: must be a string")
    until = _time(one.get("valid_until"), "valid_until")
    if until <= now:
        raise Refused("valid_until: is in the past")
    steps = _steps(one.get("periods"), now)
    if until <= steps[0].at:
        raise Refused("valid_until: is before the first period")
    issued = _time(one.get("issued_at"), "issued_at")
    return Schedule(id, asset, issued, until, str(unit), steps, transaction, None if phases is None else int(phases))


def _steps(periods: Any, now: float) -> tuple[Step, ...]:
    if not isinstance(periods, list) or not 1 <= len(periods) <= MOST_STEPS:
        raise Refused(f"periods: must be a list of 1 to {MOST_STEPS}")
    steps: list[Step] = []
    for n, period in enumerate(periods):
        if not isinstance(period, dict):
            raise Refused(f"periods[{n}]: must be an object")
        at, limit = _time(period.get("start"), f"periods[{n}].start"), period.get("limit")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or limit != limit:
            raise Refused(f"periods[{n}].limit: must be a number")
        if limit < 0:
            raise Refused(f"periods[{n}].limit: discharging is not supported")
        if limit > MOST_W:  # infinity too
            raise Refused(f"periods[{n}].limit: is above {MOST_W:.0f}")
        if steps and at <= steps[-1].at:
            raise Refused(f"periods[{n}].start: must rise strictly")
        steps.append(Step(at, float(limit)))
    if steps[0].at > now + AHEAD_S:
        raise Refused("periods[0].start: is more than 48 h ahead")
    return tuple(steps)


def _time(value: Any, field: str) -> float:
    at = times.parse(value) if isinstance(value, str) and RFC3339.fullmatch(value) else None
    if at is None or at > LAST:
        raise Refused(f"{field}: must be a date and time with its offset (RFC 3339)")
    return at
