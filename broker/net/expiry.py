"""The certificates a configuration names: are they there, do they fit their keys, when do they end? And when is the next list of
revoked ones due? For `ocppbroker check` and the watchman."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cryptography import x509

from broker.config_endpoints import FILES, Endpoint, take_apart
from broker.net.crl import end
from broker.net.pem import CannotLoad, load_certificates, load_pair
from broker.net.tls import revocation_lists, server_context
from broker.settings import Settings, TenantSettings


class Certificate(NamedTuple):
    """One certificate in use."""

    file: str
    subject: str
    ends: datetime


class OutOfDate(str):
    """A mistake that only time made: the file itself is fine."""


class Revocations(NamedTuple):
    """The newest list of one CA: overdue after `due`, no longer used after `ends`; None: it does not say."""

    place: str
    files: str
    issuer: str
    due: datetime | None
    ends: datetime | None

    def overdue(self, now: datetime) -> str:
        """In words; nothing while it is not."""
        if self.due is None or self.ends is None or now <= self.due:
            return ""
        late = f"its list of revoked certificates was due on {self.due:%Y-%m-%d}"
        if now <= self.ends:
            return f"{late}: it is used until {self.ends:%Y-%m-%d %H:%M} UTC, then that CA's stations are refused"
        return f"{late}: it was used until {self.ends:%Y-%m-%d %H:%M} UTC, that CA's stations are refused"


class Findings(NamedTuple):
    certificates: list[Certificate]
    mistakes: list[str]
    """`place: file: why`, as a configuration's mistakes are."""
    revocations: list[Revocations]


def files_of(settings: Settings) -> list[str]:
    """All that `examine` reads."""
    endpoints = [take_apart(port.endpoint) for port in settings.listen]
    named = [file for one in endpoints if one.kind == "ocpps" for key in FILES["ocpps"] for file in one.files(key)]
    tenants = settings.tenants.values()
    theirs = [(one.cpms_ca_file, one.station_ca_file, one.cpms_certificate, one.cpms_key_file) for one in tenants]
    return [*named, *(file for files in ((settings.broker.alarms.ca_file,), *theirs) for file in files if file)]


def examine(settings: Settings, now: datetime) -> Findings:
    """Load every certificate, key and list as the broker would. Opens files; changes nothing."""
    found = Findings([], [], [])
    for number, port in enumerate(settings.listen):
        endpoint = take_apart(port.endpoint)
        if endpoint.kind == "ocpps":
            examine_port(f"listen[{number}].endpoint", endpoint, found, now)
    if settings.broker.alarms.ca_file is not None:
        examine_roots("broker.alarms.ca_file", settings.broker.alarms.ca_file, found, now)
    for tenant in settings.tenants.values():
        examine_tenant(tenant, found, now)
    return found


def examine_port(place: str, endpoint: Endpoint, found: Findings, now: datetime) -> None:
    try:
        server_context(endpoint)
        lists = revocation_lists(endpoint) if endpoint.files("crl") else None
    except CannotLoad as problem:
        found.mistakes.append(f"{place}: {problem}")
        return
    for file in endpoint.files("certificate") + endpoint.files("clientCAs"):
        add(found, place, file, load_certificates(file), now)
    if lists is None:
        return
    for crl in lists.newest():
        issuer, due = crl.issuer.rfc4514_string(), crl.next_update_utc
        one = Revocations(place, ", ".join(endpoint.files("crl")), issuer, due, end(crl, lists.grace))
        found.revocations.append(one)
        if one.overdue(now):
            found.mistakes.append(OutOfDate(f"{place}: {one.files}: {issuer}: {one.overdue(now)}"))


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
