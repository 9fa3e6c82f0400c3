"""Whom a client certificate speaks for. In: a transport that TLS has verified. Out: the names in its certificate, and whether its
chain ends at a tenant's own CA. Nothing here decides who gets in: `door` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto

from broker.net.pem import load_certificates


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """Whom a client certificate speaks for. It was verified against the port's client CAs; whether it fits a tenant is `chains_to`."""

    cn: str
    serial_number: str
    """The subject's serialNumber attribute, not the certificate's number."""
    sans: tuple[str, ...]
    """DNS names of the subjectAltName."""

    def names(self, rule: str) -> tuple[str, ...]:
        """The station ids it may use under a tenant's `certificate_identity`: CN | serialNumber | SAN."""
        found = {"CN": (self.cn,), "serialNumber": (self.serial_number,), "SAN": self.sans}.get(rule, ())
        return tuple(name for name in found if name)


def peer_identity(transport: Any) -> CertificateIdentity | None:
    """Of the client certificate on this transport; None without TLS or without a certificate."""
    chain = peer_chain(transport)
    return identity_of(chain[0]) if chain else None


def identity_of(certificate: x509.Certificate) -> CertificateIdentity:
    try:
        names = tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, ValueError):
        names = ()
    return CertificateIdentity(
        cn=attribute(certificate, NameOID.COMMON_NAME),
        serial_number=attribute(certificate, NameOID.SERIAL_NUMBER),
        sans=names,
    )


def attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    """A subject attribute; "" if it is absent, unreadable, or there twice (then nobody can say who it is)."""
    try:
        found = [str(one.value) for one in certificate.subject.get_attributes_for_oid(oid)]
    except ValueError:
        return ""
    return found[0] if len(found) == 1 else ""


def peer_chain(transport: Any) -> list[x509.Certificate]:
    """What the client presented, its own certificate first; empty without TLS or certificates."""
    connection = getattr(transport, "getHandle", lambda: None)()
    if not isinstance(connection, SSL.Connection):
        return []
    leaf = connection.get_peer_certificate(as_cryptography=True)
    chain = connection.get_peer_cert_chain(as_cryptography=True) or []
    return [leaf, *(one for one in chain if one != leaf)] if leaf is not None else []


def chains_to(transport: Any, ca_file: str) -> bool:
    """The client's certificate ends at a CA of `ca_file` (a tenant's `station_ca_file`). Raises CannotLoad if that file is of no use."""
    chain = peer_chain(transport)
    return bool(chain) and verified(chain, load_certificates(ca_file))


def verified(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> bool:
    store = crypto.X509Store()
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    presented = [crypto.X509.from_cryptography(one) for one in chain]
    try:
        crypto.X509StoreContext(store, presented[0], presented[1:]).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


def shown(certificate: crypto.X509) -> str:
    """A stranger's subject as a log line may hold it: escaped, one line, cut."""
    return ascii(identity_of(certificate.to_cryptography()).cn)[:66]


def speaks_old_tls(transport: Any) -> bool:
    """TLS below 1.2 on this transport, as a port with `minTLS` may allow; False without TLS."""
    connection = getattr(transport, "getHandle", lambda: None)()
    return isinstance(connection, SSL.Connection) and connection.get_protocol_version() < SSL.TLS1_2_VERSION


def needs_new_tls(subprotocol: str) -> bool:
    """OCPP 2.x, which knows no TLS below 1.2."""
    return subprotocol.startswith("ocpp2")
