"""OCPP 2.0.1: what its messages mean.

A transaction is told by TransactionEvents, each complete in its CALL: begin, changes and end, readings and all. They may
come late and out of order (`offline`, `seqNo`), and who charges or where may be known only in a later one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, Literal

from broker.model.basics import Instant
from broker.model.observations import Authorized, Boot, Metered, Reading, StatusSeen, TransactionSeen
from broker.model.traffic import Exchange, Interest
from broker.ocpp import device, fields, reports, samples, shapes, times
from broker.ocpp.changes2 import CHANGES
from broker.ocpp.charging2 import CHARGING_201
from broker.ocpp.dialect import Changes, Charging
from broker.ocpp.exchanges import Observations, Payload, Quick, Reader, observe, payload

Phase = Literal["started", "updated", "ended"]

_TRANSACTION: Final = frozenset({"TransactionEvent"})
_AT_CALL: Final = _TRANSACTION | {"MeterValues", "StatusNotification"}
_AT_ANSWER: Final = frozenset({"BootNotification", "Authorize"})
_PHASES: Final[Mapping[object, Phase]] = {"Started": "started", "Updated": "updated", "Ended": "ended"}
_STOPS: Final = ("StopAuthorized", "RemoteStop")  # events whose idToken, if any, is of whoever stops


def wants(charging: Charging) -> Interest:
    """What full capture wants to see in OCPP 2.x."""
    return Interest(
        at_call=_AT_CALL | frozenset(reports.READERS) | frozenset(device.READERS),
        at_answer=_AT_ANSWER | charging.actions | CHANGES.actions,
        promised=_TRANSACTION,
        guarded=frozenset({"SetChargingProfile", "ClearChargingProfile", "RequestStartTransaction"}),
        proof=_AT_CALL | {"Heartbeat"},
    )


class V201:
    """`broker.ocpp.dialect.Dialect` for OCPP 2.0.1."""

    name: str = "ocpp2.0.1"
    charging: Charging = CHARGING_201
    changes: Changes = CHANGES
    interest: Interest = wants(CHARGING_201)
    identification: Interest = Interest(at_call=_TRANSACTION, at_answer=CHANGES.actions, promised=_TRANSACTION)

    def observe(self, exchange: Exchange, now: Instant) -> Observations:
        """What an exchange tells. ValueError for frames and payloads that are not what their action says."""
        return observe(exchange, _READERS, self.charging, _QUICK)

    def identify(self, exchange: Exchange, now: Instant) -> Observations:
        """Who charges where, and when: eventType, timestamp, transactionId, evse, idToken, seqNo and offline, nothing else."""
        if exchange.sender != "station" or exchange.action != "TransactionEvent" or not exchange.call:
            return ()
        return (_event(payload(exchange)),)


def _boot(call: Payload, answer: Payload | None) -> Observations:
    said, station = answer or {}, fields.mapping(call.get("chargingStation"))
    return (
        Boot(
            status=fields.text(said.get("status")),
            vendor=fields.text(station.get("vendorName")),
            model=fields.text(station.get("model")),
            serial=fields.text(station.get("serialNumber")),
            firmware=fields.text(station.get("firmwareVersion")),
            clock=times.parse(said.get("currentTime")),
        ),
    )


def _authorize(call: Payload, answer: Payload | None) -> Observations:
    id_token = _token(call)
    if id_token is None or answer is None:
        return ()
    return (Authorized(id_token, fields.text(fields.mapping(answer.get("idTokenInfo")).get("status"))),)


def _token(call: Payload) -> str | None:
    token = fields.mapping(call.get("idToken"))
    return None if token.get("type") == "NoAuthorization" else fields.name(token.get("idToken"))


def _event(call: Payload) -> TransactionSeen:
    """A TransactionEvent as far as identification needs it; ValueError without a known eventType and a transactionId."""
    event = call.get("eventType")
    phase = _PHASES.get(event) if isinstance(event, str) else None
    id = fields.name(fields.mapping(call.get("transactionInfo")).get("transactionId"))
    if phase is None or id is None:
        raise ValueError("TransactionEvent without a known eventType or a transactionId")
    evse = fields.mapping(call.get("evse"))
    stops = phase == "ended" or call.get("triggerReason") in _STOPS
    return TransactionSeen(
        phase=phase,
        transaction_id=id,
        evse=fields.place(evse.get("id")) or None,  # 0 is the whole station, where nobody charges
        connector=fields.place(evse.get("connectorId")) or None,
        at=times.parse(call.get("timestamp")),
        at_text=fields.text(call.get("timestamp")),
        id_token=None if stops else _token(call),
        seq_no=fields.whole(call.get("seqNo")),
        offline=call.get("offline") is True,
    )


def _transaction_event(call: Payload, answer: Payload | None) -> Observations:
    seen, about = _event(call), fields.mapping(call.get("transactionInfo"))
    readings = shapes.readings(call.get("meterValue"))
    reason = fields.text(about.get("stoppedReason")) or "Local"  # what its absence means
    return (
        replace(
            seen,
            meter_wh=_register(seen.phase, readings),
            charging_state=fields.text(about.get("chargingState")) or None,
            phases=_phases(call.get("numberOfPhasesUsed")),
            reason=reason if seen.phase == "ended" else None,
            readings=readings,
        ),
    )


def _register(phase: Phase, readings: tuple[Reading, ...]) -> float | None:
    """The meter at the transaction's begin or end: 2.x has no field for it, but a context. An end may carry the whole history."""
    if phase == "started":
        return samples.first_energy(readings, "Transaction.Begin")
    return samples.first_energy(readings[::-1], "Transaction.End") if phase == "ended" else None


def _phases(value: object) -> int | None:
    number = fields.whole(value)
    return number if number in (1, 2, 3) else None


def _meter_values(call: Payload, answer: Payload | None) -> Observations:
    evse = fields.place(call.get("evseId"))
    if evse is None:
        raise ValueError("MeterValues without an EVSE")
    found = shapes.readings(call.get("meterValue"))
    return (Metered(evse, found),) if found else ()


def _quick_meter_values(frame: bytes) -> Observations | None:
    """The same of what is plain; None of everything else."""
    try:
        call = shapes.meter_values_2(frame)[3]
    except (ValueError, RecursionError):  # DecodeError is a ValueError
        return None
    evse = fields.place(call.evseId)
    found = None if evse is None else shapes.plain(call.meterValue)
    if evse is None or found is None:
        return None
    return (Metered(evse, found),) if found else ()


def _status_notification(call: Payload, answer: Payload | None) -> Observations:
    evse, connector = fields.place(call.get("evseId")), fields.place(call.get("connectorId"))
    status = fields.text(call.get("connectorStatus"))
    if evse is None or connector is None or not status:
        raise ValueError("StatusNotification without an EVSE, a connector or a status")
    return (StatusSeen(evse, connector, status, times.parse(call.get("timestamp"))),)


_READERS: Final[Mapping[str, Reader]] = {
    "BootNotification": _boot,
    "Authorize": _authorize,
    "TransactionEvent": _transaction_event,
    "MeterValues": _meter_values,
    "StatusNotification": _status_notification,
    **reports.READERS,
    **device.READERS,
}

_QUICK: Final[Mapping[str, Quick]] = {"MeterValues": _quick_meter_values}
