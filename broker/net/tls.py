"""TLS on both sides. In: files an operator names. Out: connections that speak TLS 1.2 or 1.3 and nothing weaker.

Toward stations: `ocpps:9443:certificate=rsa.pem,ec.pem:privateKey=rsa.key,ec.key:clientCAs=stations-ca.pem`, an endpoint of our
own, because Twisted's `ssl:` cannot ask for client certificates, hold an RSA and an EC certificate at once, or survive a client
that offers ALPN. Toward the CPMS: the system's roots or the tenant's, the host's name always checked.

Files are looked at again on new connections, at most every few seconds. New files mean a new context for new connections (a
context that has served must not change); a connection that lives keeps its own. Files that do not load keep the last good ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.internet import defer
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.ssl import Certificate as TwistedCertificate
from twisted.internet.ssl import TLSVersion, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.logger import Logger
from twisted.plugin import IPlugin
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.config_endpoints import Endpoint, ocpps_faults
from broker.net.leantls import LeanTLSFactory
from broker.net.pem import CannotLoad, Watched, load_certificates, load_pair
from broker.settings import TenantSettings

BACKLOG = 2048  # Twisted's 50 makes a thousand stations that redial at once wait 8 s
SESSION_S = 600  # a resumed session keeps the client certificate it began with: not for long
EXPIRES_SOON = timedelta(days=14)
SUITES = ":".join(
    f"ECDHE-{key}-{cipher}" for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305") for key in ("ECDSA", "RSA")
)
"""TLS 1.2: forward secret and authenticated only; OCPP's two ECDSA suites are among them. All of TLS 1.3's are such."""


# ---------------------------------------------------------------- toward stations


def server_context(endpoint: Endpoint, log: Logger) -> SSL.Context:
    """A context as `endpoint` wants it. Raises CannotLoad."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(SUITES.encode())
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_select_callback(choose_protocol)
    context.set_session_id(os.urandom(16))
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    context.set_timeout(SESSION_S)
    for certificate, key in zip(endpoint.files("certificate"), endpoint.files("privateKey"), strict=True):
        chain, private = load_pair(certificate, key)
        soon(certificate, chain[0], log)
        try:
            context.use_certificate_chain_file(certificate)
            context.use_privatekey(private)
            context.check_privatekey()
        except SSL.Error as problem:
            raise CannotLoad(f"{certificate}: OpenSSL refuses it: {reason_of(problem)}") from None
    authorities = [authority for file in endpoint.files("clientCAs") for authority in load_certificates(file)]
    if authorities:
        demand_certificates(context, authorities, log)
    return context


def choose_protocol(_: SSL.Connection, offered: list[bytes]) -> Any:
    """Without a callback Twisted's default refuses every client that offers anything; with this one the handshake always goes on."""
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def demand_certificates(context: SSL.Context, authorities: Sequence[x509.Certificate], log: Logger) -> None:
    """Only clients with a certificate under one of `authorities` get in (security profile 3)."""
    store = context.get_cert_store()
    assert store is not None
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an intermediate CA may be the one that is trusted
    # A ticket holds the leaf only; the cache keeps the chain too, which `chains_to` needs on a resumed session.
    context.set_options(SSL.OP_NO_TICKET)

    def judge(_: SSL.Connection, certificate: crypto.X509, error: int, depth: int, fine: int) -> bool:
        if not fine:
            log.warn("refused at the TLS handshake: client certificate {subject}: {why}", subject=shown(certificate), why=named(error))
        return bool(fine)

    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, judge)


def soon(file: str, leaf: x509.Certificate, log: Logger) -> None:
    left = leaf.not_valid_after_utc - datetime.now(UTC)
    if left < EXPIRES_SOON:
        log.warn("ALARM certificate-expires: {file} ends on {end}", file=file, end=f"{leaf.not_valid_after_utc:%Y-%m-%d}")


@implementer(IOpenSSLServerConnectionCreator)
class StationsTLS:
    """Makes the server's end of each new connection with the newest files that are good."""

    def __init__(self, contexts: Watched[SSL.Context]) -> None:
        self.contexts = contexts

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self.contexts.get(), None)


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """A TCP port with TLS as `endpoint` wants it. `listen` fails with CannotLoad when a file is of no use."""

    log = Logger()

    def __init__(self, reactor: Any, endpoint: Endpoint) -> None:
        self.reactor = reactor
        named = endpoint.named
        interface = named.get("interface", "")
        inner = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
        self.port: Any = inner(reactor, int(endpoint.positional[0]), int(named.get("backlog", BACKLOG)), interface)
        files = [file for key in ("certificate", "privateKey", "clientCAs") for file in endpoint.files(key)]
        self.contexts = Watched(files, lambda: server_context(endpoint, self.log), reactor.seconds, self.log)

    def listen(self, protocolFactory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        try:
            wrapped = self.wrapped(protocolFactory)
        except CannotLoad:
            return defer.fail(Failure())
        listening: defer.Deferred[IListeningPort] = self.port.listen(wrapped)
        return listening

    def wrapped(self, protocolFactory: IProtocolFactory) -> LeanTLSFactory:
        """The factory behind this TLS. Raises CannotLoad."""
        self.contexts.get()
        creator: Any = StationsTLS(self.contexts)  # mypy does not read zope's implementer
        factory: Any = LeanTLSFactory(creator, False, protocolFactory, self.reactor)
        factory.contexts = self.contexts  # a reload looks at the files at once
        return cast(LeanTLSFactory, factory)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class OcppsParser:
    """`ocpps:` in any Twisted endpoint string; found through `twisted/plugins`."""

    prefix = "ocpps"

    def parseStreamServer(self, reactor: Any, *args: str, **kwargs: str) -> TLSServerEndpoint:
        endpoint = Endpoint("ocpps", args, kwargs)
        for fault in ocpps_faults(endpoint):
            raise ValueError(fault)
        return TLSServerEndpoint(reactor, endpoint)


# ---------------------------------------------------------------- who dialled us


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """Whom a client certificate speaks for. It was verified against the port's client CAs; whether it fits a tenant is `chains_to`."""

    cn: str
    serial_number: str
    """The subject's serialNumber attribute, not the certificate's number."""
    sans: tuple[str, ...]
    """DNS names of the subjectAltName."""
    organisation: str

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
        organisation=attribute(certificate, NameOID.ORGANIZATION_NAME),
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


def named(error: int) -> str:
    """OpenSSL's word for a verification error."""
    words = {code: name for name, code in vars(SSL.X509VerificationCodes).items() if isinstance(code, int)}
    return words.get(error, f"error {error}").removeprefix("ERR_").replace("_", " ").lower()


def reason_of(problem: SSL.Error) -> str:
    return "; ".join(str(part[2]) for part in problem.args[0]) if problem.args and problem.args[0] else "no reason given"


# ---------------------------------------------------------------- toward the CPMS


@implementer(IOpenSSLClientConnectionCreator)
class CpmsTLS:
    """Makes the client's end of each dial of one tenant. While its files were never good, every dial fails as untrusted."""

    log = Logger()

    def __init__(self, tenant: TenantSettings, seconds: Callable[[], float]) -> None:
        self.tenant = tenant
        files = [file for file in (tenant.cpms_ca_file, tenant.cpms_certificate, tenant.cpms_key_file) if file]
        self.options = Watched(files, self.make, seconds, self.log)
        self.said = ""

    def make(self) -> Any:
        host = urlsplit(self.tenant.cpms_url).hostname or ""
        roots = load_certificates(self.tenant.cpms_ca_file) if self.tenant.cpms_ca_file else []
        own_trust = trustRootFromCertificates([TwistedCertificate(crypto.X509.from_cryptography(one)) for one in roots])
        trust = own_trust if roots else platformTrust()
        extra: dict[str, Any] = {"raiseMinimumTo": TLSVersion.TLSv1_2}
        if self.tenant.cpms_certificate and self.tenant.cpms_key_file:
            chain, private = load_pair(self.tenant.cpms_certificate, self.tenant.cpms_key_file)
            ours = [crypto.X509.from_cryptography(one) for one in chain]
            extra.update(certificate=ours[0], extraCertChain=ours[1:], privateKey=crypto.PKey.from_cryptography_key(private))
        return optionsForClientTLS(host, trustRoot=trust, extraCertificateOptions=extra)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        try:
            connection: SSL.Connection = self.options.get().clientConnectionForTLS(tlsProtocol)
        except CannotLoad as problem:
            # Raised here it would leave the dial without an end: Twisted asks while it makes the connection.
            if str(problem) != self.said:
                self.said = str(problem)
                self.log.error("ALARM tls-files: {tenant}: {problem}", tenant=self.tenant.name, problem=self.said)
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_verify(SSL.VERIFY_PEER, lambda *_: False)
            return SSL.Connection(context, None)
        return connection


def client_options(tenant: TenantSettings, seconds: Callable[[], float] = time.monotonic) -> IOpenSSLClientConnectionCreator | None:
    """How to dial this tenant's CPMS with TLS; None for ws://. Make it once per tenant: it watches the files itself."""
    if not tenant.cpms_url.lower().startswith("wss:"):
        return None
    return cast(IOpenSSLClientConnectionCreator, CpmsTLS(tenant, seconds))  # mypy does not read zope's implementer
