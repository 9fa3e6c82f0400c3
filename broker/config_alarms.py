"""`[broker.alarms]`: who is told of alarms. A table in, `AlarmSettings` out; mistakes are noted with their place."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final, Literal
from urllib.parse import urlsplit

from broker.config_table import Table
from broker.settings import AlarmSettings, MailSettings

ADDRESS: Final = re.compile(r"[!#-'*+\-./0-9=?A-Z^-~]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MOST_TO: Final = 20  # who needs more has a list server
Tls = Literal["starttls", "implicit", "none"]
TLS: Final[tuple[Tls, ...]] = ("starttls", "implicit", "none")
PORTS: Final = {"starttls": 587, "implicit": 465, "none": 25}
MAIL: Final = ("smtp_host", "smtp_port", "smtp_tls", "smtp_user", "smtp_password_file", "smtp_password_env", "mail_from", "mail_to")


def read_alarms(table: Table | None) -> AlarmSettings:
    """Nothing is told to anybody where there is no table."""
    plain = AlarmSettings()
    if table is None:
        return plain
    url = _webhook(table)
    token = table.secret("webhook_token") if _said(table, "webhook_token") else ""
    if token and not token.isascii():
        table.wrong("webhook_token_file", "must hold a token in ASCII")
    settings = AlarmSettings(
        name=table.text("name", plain.name, grammar=NAME, says="must be 1 to 64 letters, digits, '.', '_' or '-'"),
        webhook_url=url,
        webhook_token=token,
        mail=_mail(table),
        ca_file=table.path_or_none("ca_file"),
        least=table.choice("min_severity", ("warning", "critical"), plain.least),
        gather_s=table.seconds("gather", plain.gather_s, "0s", "1h"),
        repeat_s=table.seconds("repeat", plain.repeat_s, "0s", "30d"),
    )
    if 0 < settings.repeat_s < 60:
        table.wrong("repeat", 'must be "0s" (never) or at least 60 s')
    if token and not url and not _said(table, "webhook_url") and not table.has("webhook_url"):
        table.wrong("webhook_token_file", "stands without webhook_url")
    table.end()
    return settings


def _said(table: Table, key: str) -> bool:
    """Besides, both of its keys are known, whether they are here or not."""
    table.known += [f"{key}_file", f"{key}_env"]
    return table.has(f"{key}_file") or table.has(f"{key}_env")


def _webhook(table: Table) -> str:
    """From `webhook_url`, or from a file or variable, for it may be a secret; its text is in no mistake."""
    elsewhere = _said(table, "webhook_url")
    url = table.text("webhook_url", "")
    if url and elsewhere:
        table.wrong("webhook_url", "stands besides webhook_url_file or webhook_url_env: one of them, not both")
        return ""
    url = table.secret("webhook_url") if elsewhere else url
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
        parts = urlsplit("")
    if not good:
        table.wrong("webhook_url", "must start with https:// or http:// and name a host")
        return ""
    if not url.isascii() or " " in url:
        table.wrong("webhook_url", "must have only ASCII and no space: percent-encode its path, and write a host's name as xn--")
        return ""
    if parts.username is not None or parts.fragment:
        table.wrong("webhook_url", "must have no user and no fragment (#): a token belongs in webhook_token_file")
        return ""
    return url


def _host(table: Table) -> str:
    """A name, an IPv4 address, or an IPv6 address with or without brackets, given without."""
    said = table.text("smtp_host", "", required=True)
    bare = said[1:-1] if said[:1] + said[-1:] == "[]" else said
    try:
        return str(IPv6Address(bare))
    except ValueError:
        if said and not HOST.fullmatch(said):
            table.wrong("smtp_host", "must be a host's name or address")
        return said


def _mail(table: Table) -> MailSettings | None:
    used = [key for key in MAIL if table.has(key)]
    table.known += MAIL
    if not used:
        return None
    host = _host(table)
    tls: Tls = table.choice("smtp_tls", TLS, "starttls")
    user = table.text("smtp_user", "")
    password = table.secret("smtp_password") if user or _said(table, "smtp_password") else ""
    if password and not user:
        table.wrong("smtp_password_file", "stands without smtp_user")
    if user and tls == "none":
        table.wrong("smtp_tls", 'must be "starttls" or "implicit" where there is a smtp_user: its password would go unencrypted')
    port = table.whole("smtp_port", PORTS[tls], 1, 65535)
    sender = table.text("mail_from", "", required=True, grammar=ADDRESS, says="must be one address like broker@example.com")
    to = table.strings("mail_to") or ()
    if not to or len(to) > MOST_TO or not all(ADDRESS.fullmatch(one) for one in to):
        table.wrong("mail_to", f'must be a list of 1 to {MOST_TO} addresses like ["ops@example.com"]')
    return MailSettings(host, port, sender, to, tls, user, password)
