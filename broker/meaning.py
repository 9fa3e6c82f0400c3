"""What a configuration means, for `ocppbroker check`: in an operator's words, or for machines. Never with a secret in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from broker.config_endpoints import concessions, take_apart
from broker.net.expiry import Certificate, Findings
from broker.settings import AlarmSettings, ListenSettings, Settings, TenantSettings


def in_words(name: str, settings: Settings, found: Findings, now: datetime) -> list[str]:
    """The configuration in an operator's words."""
    lines = [f"{name} is fine."]
    lines += [f"  stations dial  {_port(port)}" for port in settings.listen]
    lines += [f"  admin          {settings.broker.admin}, token in {settings.broker.admin_token_file}"]
    lines += [f"  state          {settings.broker.state}"]
    lines += [f"  alarms         {told}" for told in _told(settings.broker.alarms)]
    for tenant in settings.tenants.values():
        lines += _tenant(tenant)
    return lines + [_certificate(certificate, now) for certificate in found.certificates]


def for_machines(settings: Settings, found: Findings) -> dict[str, Any]:
    """The same for machines. No secrets."""
    return {
        "listen": [{"endpoint": port.endpoint, "tenant": port.tenant} for port in settings.listen],
        "admin": settings.broker.admin,
        "state": settings.broker.state,
        "tenants": [
            {
                "name": tenant.name,
                "cpms_url": tenant.cpms_url,
                "engine_url": tenant.engine.url if tenant.engine else None,
                "sites": list(tenant.sites),
                "stations": dict(Counter(station.mode for station in tenant.stations.values())),
                "unlisted": tenant.unlisted,
            }
            for tenant in settings.tenants.values()
        ],
        "certificates": [
            {"file": certificate.file, "subject": certificate.subject, "ends": certificate.ends.isoformat()}
            for certificate in found.certificates
        ],
    }


def engines_in_words(online: Mapping[str, Sequence[str]]) -> list[str]:
    """One line for each engine that was asked."""
    said = {name: f"{len(lines)} at odds" if lines else "logged in; it knows what we map" for name, lines in online.items()}
    return [f"engine of {name}: {words}" for name, words in said.items()]


def _told(alarms: AlarmSettings) -> list[str]:
    """Who is told, without what may be secret."""
    least = "all" if alarms.least == "warning" else "the critical ones"
    told = []
    if alarms.webhook_url:
        parts = urlsplit(alarms.webhook_url)
        told.append(f"{least} told to the webhook at {parts.hostname}{' (not encrypted)' if parts.scheme == 'http' else ''}")
    if alarms.mail is not None:
        plain = " (not encrypted)" if alarms.mail.tls == "none" else ""
        told.append(f"{least} mailed to {', '.join(alarms.mail.to)} through {alarms.mail.host}{plain}")
    return told


def _port(port: ListenSettings) -> str:
    endpoint = take_apart(port.endpoint)
    where = ":".join([endpoint.kind, *endpoint.positional])
    path = "/<station>" if port.tenant else "/<tenant>/<station>"
    certificates = ", client certificates required" if endpoint.files("clientCAs") else ""
    certificates += " and checked against lists of revoked ones" if endpoint.files("crl") else ""
    certificates += f", {concessions(endpoint)}" if any(concessions(endpoint)) else ""
    return f"{where} with path {path}{f' (only {port.tenant})' if port.tenant else ''}{certificates}"


def _tenant(tenant: TenantSettings) -> list[str]:
    modes = Counter(station.mode for station in tenant.stations.values())
    listed = ", ".join(f"{count} {mode}" for mode, count in sorted(modes.items())) or "none"
    unlisted = "relayed only" if tenant.unlisted == "relay" else "refused"
    lines = [
        f"tenant {tenant.name}",
        f"  CPMS           {tenant.cpms_url}/<station>",
        f"  stations       listed: {listed}; others: {unlisted}; security profile {tenant.security_profile} at least",
    ]
    if tenant.credentials != "forward":
        lines.append(f"  credentials    {_credentials(tenant)}")
    if tenant.sites:
        lines.append(f"  sites          {', '.join(tenant.sites)}")
    if tenant.engine is not None:
        plain = " (not encrypted)" if tenant.engine.url.lower().startswith("http:") else ""
        lines.append(f"  engine         {tenant.engine.url}{plain} as {tenant.engine.client_id}, API {tenant.engine.api}")
    if modes["smart-charging"] or modes["shadow"]:
        ours = tenant.charging
        lines.append(
            f"  limits of ours stand {ours.lease_s:g} s unless renewed, as {', then '.join(ours.purposes)}; "
            f"what the CPMS allows: {ours.baseline}; at least {ours.min_amps:g} A, below that: {ours.below_min}"
        )
    return lines


def _credentials(tenant: TenantSettings) -> str:
    if tenant.credentials == "check":
        return "passwords are checked here, and go on to the CPMS"
    shown = f"the CPMS is shown {tenant.cpms_user or 'the station id'} and cpms_password"
    if tenant.security_profile == 3:
        return f"certificates are checked here; {shown}"
    unjudged = sum(not station.password_hash for station in tenant.stations.values())
    if not unjudged:
        return f"passwords are checked here; {shown}"
    return f"{shown}; of {unjudged} stations no password is checked: whoever reaches the port and knows their id comes in as them"


def _certificate(certificate: Certificate, now: datetime) -> str:
    days = (certificate.ends - now).days
    soon = "  RENEW IT" if days < 14 else ""
    return f"certificate {certificate.file}: {certificate.subject}, ends {certificate.ends:%Y-%m-%d} (in {days} days){soon}"
