"""The text of a Twisted server endpoint (`ocpps:9443:certificate=a.pem`), taken apart far enough to check it and to place its files.

In: the string an operator wrote. Out: the same string with every file's path absolute, or what is wrong with it. Twisted parses
it again when the port opens; here nothing is opened.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.config_table import SECONDS, Table, amount, guess, spelled

OCPPS_KEYS = ("certificate", "privateKey", "clientCAs", "crl", "crlGrace", "minTLS", "legacySuites", "interface", "backlog")
MIN_TLS = ("1.0", "1.1", "1.2", "1.3")
CRL_GRACE_S = 7 * 86400.0  # a CA's operator is back from a long weekend, and our alarm was heard
FILES = {
    "ocpps": ("certificate", "privateKey", "clientCAs", "crl"),
    "ssl": ("privateKey", "certKey", "extraCertChain", "dhParameters"),
    "unix": ("address",),
}
PLAIN = ("tcp", "tcp6", "unix")


class Endpoint(NamedTuple):
    """`kind:positional:…:key=value:…`, unescaped."""

    kind: str
    positional: tuple[str, ...]
    named: dict[str, str]

    def files(self, key: str) -> list[str]:
        """A comma-separated list of paths."""
        return [name for name in self.named.get(key, "").split(",") if name]

    @property
    def encrypted(self) -> bool:
        """False for the kinds that we know to be plain."""
        return self.kind not in PLAIN

    def __str__(self) -> str:
        named = [f"{key}={escape(value)}" for key, value in self.named.items()]
        return ":".join([self.kind, *map(escape, self.positional), *named])


def escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:").replace("=", "\\=")


def take_apart(text: str) -> Endpoint:
    """Twisted's own grammar: `:` parts, the first `=` of a part names it, a backslash takes the next character as it is."""
    parts: list[tuple[str | None, str]] = []
    key: str | None = None
    word = ""
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            word += next(letters, "")
        elif letter == ":":
            parts.append((key, word))
            key, word = None, ""
        elif letter == "=" and key is None:
            key, word = word, ""
        else:
            word += letter
    parts.append((key, word))
    return Endpoint(parts[0][1], tuple(value for name, value in parts[1:] if name is None), {k: v for k, v in parts if k is not None})


def endpoint_text(table: Table, key: str, default: str = "") -> str:
    """The endpoint string under `key`, its files' paths made absolute; the default after noting a mistake."""
    text = table.text(key, default, required=not default)
    if not text:
        return default
    endpoint = take_apart(text)
    wrong = faults(endpoint)
    for what in wrong:
        table.wrong(key, what)
    if wrong:
        return default
    return str(placed(endpoint, table))


def faults(endpoint: Endpoint) -> list[str]:
    if not endpoint.kind.isidentifier() or not (endpoint.positional or endpoint.named):
        return ['must be a Twisted server endpoint string like "tcp:9000"']
    if endpoint.kind in ("tcp", "tcp6", "ssl", "ocpps") and not is_port(endpoint.positional[0] if endpoint.positional else "0"):
        return [f"port {endpoint.positional[0]!r} must be 0 to 65535"]
    return ocpps_faults(endpoint) if endpoint.kind == "ocpps" else []


def is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:6]) <= 65535


def ocpps_faults(endpoint: Endpoint) -> list[str]:
    """Every mistake in an endpoint of ours, one line each. The plugin's parser refuses with the same words."""
    wrong = []
    if len(endpoint.positional) != 1:
        wrong.append("ocpps: takes one port, then key=value parts (write a colon inside a value as \\:)")
    for key in endpoint.named:
        if key not in OCPPS_KEYS:
            wrong.append(f"{key}: is not a part that ocpps: knows{guess(key, OCPPS_KEYS)}; it knows {spelled(OCPPS_KEYS)}")
    certificates, keys = endpoint.files("certificate"), endpoint.files("privateKey")
    if not certificates or not keys:
        wrong.append("ocpps: needs certificate= and privateKey=")
    elif len(certificates) != len(keys):
        wrong.append(f"ocpps: {len(certificates)} certificates but {len(keys)} private keys: one key for each, in the same order")
    if "clientCAs" in endpoint.named and not endpoint.files("clientCAs"):
        wrong.append("clientCAs: names no file")
    if not is_port(endpoint.named.get("backlog", "0")):
        wrong.append("backlog: must be a whole number")
    return wrong + security_faults(endpoint)


def security_faults(endpoint: Endpoint) -> list[str]:
    """Of revocation lists and of what is allowed to old stations."""
    wrong, named = [], endpoint.named
    if "crl" in named and not endpoint.files("crl"):
        wrong.append("crl: names no file")
    if "crl" in named and "clientCAs" not in named:
        wrong.append("crl: of no use without clientCAs=: without it no client certificate is asked for")
    if "crlGrace" in named and "crl" not in named:
        wrong.append("crlGrace: of no use without crl=")
    if amount(named.get("crlGrace", "7d"), SECONDS) is None:
        wrong.append(f'crlGrace: must be a duration like "7d", not {named["crlGrace"]!r}')
    if named.get("minTLS", "1.2") not in MIN_TLS:
        wrong.append(f"minTLS: must be {spelled(MIN_TLS)}, not {named['minTLS']!r}")
    if named.get("legacySuites", "no") not in ("yes", "no"):
        wrong.append(f'legacySuites: must be "yes" or "no", not {named["legacySuites"]!r}')
    return wrong


def crl_grace_s(endpoint: Endpoint) -> float:
    """How long an overdue revocation list may still be used."""
    grace_s = amount(endpoint.named.get("crlGrace", ""), SECONDS)
    return CRL_GRACE_S if grace_s is None else grace_s


class Concessions(NamedTuple):
    """What a port allows to old stations that is weaker than what we speak otherwise."""

    old_tls: bool
    """TLS below 1.2: for 1.6 only."""
    rsa_suites: bool

    def __str__(self) -> str:
        """For an operator: nothing, or what it allows and to whom."""
        weak = [what for is_so, what in ((self.old_tls, "TLS below 1.2"), (self.rsa_suites, "suites without forward secrecy")) if is_so]
        return f"{' and '.join(weak)} allowed: for old stations only{', OCPP 1.6 only' if self.old_tls else ''}" if weak else ""


def concessions(endpoint: Endpoint) -> Concessions:
    named = endpoint.named if endpoint.kind == "ocpps" else {}
    return Concessions(named.get("minTLS") in ("1.0", "1.1"), named.get("legacySuites") == "yes")


def placed(endpoint: Endpoint, table: Table) -> Endpoint:
    """The same endpoint with absolute paths."""
    keys = FILES.get(endpoint.kind, ())
    positional = endpoint.positional
    if endpoint.kind == "unix" and positional:
        positional = (table.reading.path(positional[0]), *positional[1:])
    named = {
        key: ",".join(table.reading.path(name) for name in endpoint.files(key)) if key in keys else value
        for key, value in endpoint.named.items()
    }
    return Endpoint(endpoint.kind, positional, named)
