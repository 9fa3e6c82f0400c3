"""The text of a Twisted server endpoint (`ocpps:9443:certificate=a.pem`), taken apart far enough to check it and to place its files.

In: the string an operator wrote. Out: the same string with every file's path absolute, or what is wrong with it. Twisted parses
it again when the port opens; here nothing is opened.
"""

from __future__ import annotations

from typing import NamedTuple

from broker.config_table import Table, guess, spelled

OCPPS_KEYS = ("certificate", "privateKey", "clientCAs", "interface", "backlog")
OCPPS_NOT_YET = {
    "crl": "refuses client certificates that a revocation list names",
    "crlGrace": "says how long an outdated revocation list may still be used",
    "minTLS": "lets old 1.6 stations use TLS 1.0 or 1.1 on a port of their own",
    "legacySuites": "lets old stations use the TLS_RSA suites on a port of their own",
}
FILES = {
    "ocpps": ("certificate", "privateKey", "clientCAs"),
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
        if key in OCPPS_NOT_YET:
            wrong.append(f"{key}: not yet: {OCPPS_NOT_YET[key]}")
        elif key not in OCPPS_KEYS:
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
    return wrong


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
