"""OCPP 1.6: what its messages mean.

The transactionId is the CPMS's and comes with StartTransaction's answer, so that exchange is shown at its answer; a
StopTransaction says all it has to say in its CALL. A connector n of 1.6 is EVSE n with one connector; 0 is the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broker.model.basics import Instant
from broker.model.observations import Authorized, Boot, Metered, Proven, StatusSeen, TransactionSeen
from broker.model.traffic import Exchange, Interest
from broker.ocpp import fields, shapes, times
from broker.ocpp.changes16 import CHANGES
from broker.ocpp.charging16 import CHARGING
from broker.ocpp.dialect import Changes, Charging
from broker.ocpp.exchanges import Observations, Payload, Quick, Reader, observe, payload

_TRANSACTION: Final = frozenset({"StartTransaction", "StopTransaction"})
_AT_CALL: Final = frozenset({"StopTransaction", "MeterValues", "StatusNotification"})
_AT_ANSWER: Final = frozenset({"BootNotification", "Authorize", "StartTransaction"})


class V16:
    """`broker.ocpp.dialect.Dialect` for OCPP 1.6."""

    name: str = "ocpp1.6"
    charging: Charging = CHARGING
    changes: Changes = CHANGES
    interest: Interest = Interest(
        at_call=_AT_CALL,
        at_answer=_AT_ANSWER | CHARGING.actions | CHANGES.actions,
        promised=_TRANSACTION,
        guarded=frozenset({"SetChargingProfile", "ClearChargingProfile", "RemoteStartTransaction"}),
        proof=_TRANSACTION | {"Heartbeat", "MeterValues", "StatusNotification"},
    )
    identification: Interest = Interest(
        at_call=frozenset({"StartTransaction"}), at_answer=CHANGES.actions, promised=frozenset({"StartTransaction"})
    )

    def observe(self, exchange: Exchange, now: Instant) -> Observations:
        """What an exchange tells. ValueError for frames and payloads that are not what their action says."""
        return observe(exchange, _READERS, self.charging, _QUICK)

    def identify(self, exchange: Exchange, now: Instant) -> Observations:
        """Who starts to charge where, and when: idTag, connectorId and timestamp of a StartTransaction, nothing else."""
        if exchange.sender != "station" or exchange.action != "StartTransaction" or not exchange.call:
            return ()
        return (_started(payload(exchange)),)


def transaction_id(value: object) -> str | None:
    """1.6's transactionId as decimal digits, whatever it was written as; also -1, 0 and 2^63-1, which mean nothing."""
    number = fields.whole(value)
    return None if number is None else str(number)


def _boot(call: Payload, answer: Payload | None) -> Observations:
    said = answer or {}
    return (
        Boot(
            status=fields.text(said.get("status")),
            vendor=fields.text(call.get("chargePointVendor")),
            model=fields.text(call.get("chargePointModel")),
            serial=fields.text(call.get("chargePointSerialNumber")) or fields.text(call.get("chargeBoxSerialNumber")),
            firmware=fields.text(call.get("firmwareVersion")),
            clock=times.parse(said.get("currentTime")),
        ),
    )


def _authorize(call: Payload, answer: Payload | None) -> Observations:
    id_token = fields.name(call.get("idTag"))
    if id_token is None or answer is None:
        return ()
    return (Authorized(id_token, fields.text(fields.mapping(answer.get("idTagInfo")).get("status"))),)


def _started(call: Payload, **more: Any) -> TransactionSeen:
    evse = fields.place(call.get("connectorId"))
    if evse is None:
        raise ValueError("StartTransaction without a connector")
    return TransactionSeen(
        phase="started",
        transaction_id=more.pop("transaction_id", None),
        evse=evse,
        connector=1,
        at=times.parse(call.get("timestamp")),
        at_text=fields.text(call.get("timestamp")),
        id_token=fields.name(call.get("idTag")),
        **more,
    )


def _start_transaction(call: Payload, answer: Payload | None) -> Observations:
    if answer is None:  # a CALLERROR: there is no transaction; the station will send it again (1.6 3.7.1)
        return ()
    status = fields.text(fields.mapping(answer.get("idTagInfo")).get("status"))
    started = _started(
        call,
        transaction_id=transaction_id(answer.get("transactionId")),
        meter_wh=fields.number(call.get("meterStart")),
        accepted=status in ("", "Accepted"),  # refused is only what the CPMS refuses in words
    )
    return started, Proven("StartTransaction")


def _stop_transaction(call: Payload, answer: Payload | None) -> Observations:
    return (
        TransactionSeen(
            phase="ended",
            transaction_id=transaction_id(call.get("transactionId")),
            evse=None,
            connector=None,
            at=times.parse(call.get("timestamp")),
            at_text=fields.text(call.get("timestamp")),
            meter_wh=fields.number(call.get("meterStop")),
            reason=fields.text(call.get("reason")) or "Local",  # the default, 1.6 6.49
            readings=shapes.readings(call.get("transactionData")),
        ),
    )


def _meter_values(call: Payload, answer: Payload | None) -> Observations:
    evse = fields.place(call.get("connectorId"))
    if evse is None:
        raise ValueError("MeterValues without a connector")
    found = shapes.readings(call.get("meterValue"))
    return (Metered(evse, found, transaction_id(call.get("transactionId"))),) if found else ()


def _quick_meter_values(frame: bytes) -> Observations | None:
    """The same of what is plain; None of everything else."""
    try:
        call = shapes.meter_values_16(frame)[3]
    except (ValueError, RecursionError):  # DecodeError is a ValueError
        return None
    evse = fields.place(call.connectorId)
    found = None if evse is None else shapes.plain(call.meterValue)
    if evse is None or found is None:
        return None
    return (Metered(evse, found, transaction_id(call.transactionId)),) if found else ()


def _status_notification(call: Payload, answer: Payload | None) -> Observations:
    evse = fields.place(call.get("connectorId"))
    status = fields.text(call.get("status"))
    if evse is None or not status:
        raise ValueError("StatusNotification without a connector or a status")
    return (StatusSeen(evse, 1, status, times.parse(call.get("timestamp"))),)


_READERS: Final[Mapping[str, Reader]] = {
    "BootNotification": _boot,
    "Authorize": _authorize,
    "StartTransaction": _start_transaction,
    "StopTransaction": _stop_transaction,
    "MeterValues": _meter_values,
    "StatusNotification": _status_notification,
}

_QUICK: Final[Mapping[str, Quick]] = {"MeterValues": _quick_meter_values}
