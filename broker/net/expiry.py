"""The certificates a configuration names: are they there, do they fit their keys, when do they end? For `ocppbroker check`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, cast

from cryptography import x509
from twisted.logger import Logger, LogPublisher

from broker.config_endpoints import take_apart
from broker.net.pem import CannotLoad, load_certificates, load_pair
from broker.net.tls import server_context
from broker.settings import Settings, TenantSettings


class Certificate(NamedTuple):
    """One certificate in use."""

    file: str
    subject: str
    ends: datetime


class OutOfDate(str):
    """A mistake that only time made: the file itself is fine."""


class Findings(NamedTuple):
    certificates: list[Certificate]
    mistakes: list[str]
    """`place: file: why`, as a configuration's mistakes are."""


def examine(settings: Settings, now: datetime) -> Findings:
    """Load every certificate and key as the broker would. Opens files; changes nothing."""
    found = Findings([], [])
    for number, port in enumerate(settings.listen):
        endpoint = take_apart(port.endpoint)
        if endpoint.kind == "ocpps":
            place = f"listen[{number}].endpoint"
            try:
                server_context(endpoint, Logger(observer=cast(Any, LogPublisher())))  # what is soon over is said below, not logged
            except CannotLoad as problem:
                found.mistakes.append(f"{place}: {problem}")
            else:
                for file in endpoint.files("certificate") + endpoint.files("clientCAs"):
                    add(found, place, file, load_certificates(file), now)
    if settings.broker.alarms.ca_file is not None:
        examine_roots("broker.alarms.ca_file", settings.broker.alarms.ca_file, found, now)
    for tenant in settings.tenants.values():
        examine_tenant(tenant, found, now)
    return found


def examine_roots(place: str, file: str, found: Findings, now: datetime) -> None:
    try:
        add(found, place, file, load_certificates(file), now)
    except CannotLoad as problem:
        found.mistakes.append(f"{place}: {problem}")


def examine_tenant(tenant: TenantSettings, found: Findings, now: datetime) -> None:
    for key in ("cpms_ca_file", "station_ca_file"):
        file = getattr(tenant, key)
        if file:
            examine_roots(f"tenants {tenant.name}.{key}", file, found, now)
    if tenant.cpms_certificate and tenant.cpms_key_file:
        place = f"tenants {tenant.name}.cpms_certificate"
        try:
            add(found, place, tenant.cpms_certificate, load_pair(tenant.cpms_certificate, tenant.cpms_key_file)[0], now)
        except CannotLoad as problem:
            found.mistakes.append(f"{place}: {problem}")


def add(found: Findings, place: str, file: str, chain: list[x509.Certificate], now: datetime) -> None:
    """All of a file's certificates; one whose time is over, or not come yet, is a mistake."""
    for certificate in chain:
        entry = Certificate(file, certificate.subject.rfc4514_string(), certificate.not_valid_after_utc)
        if entry in found.certificates:
            continue
        found.certificates.append(entry)
        if entry.ends < now:
            found.mistakes.append(OutOfDate(f"{place}: {file}: {entry.subject} ended on {entry.ends:%Y-%m-%d}"))
        elif certificate.not_valid_before_utc > now:
            begins = certificate.not_valid_before_utc
            found.mistakes.append(OutOfDate(f"{place}: {file}: {entry.subject} begins on {begins:%Y-%m-%d}"))
