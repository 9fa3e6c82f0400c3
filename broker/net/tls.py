"""TLS on both sides. In: files an operator names. Out: connections that speak TLS 1.2 or 1.3, and nothing weaker unless a port asks.

Toward stations: `ocpps:9443:certificate=rsa.pem,ec.pem:privateKey=rsa.key,ec.key:clientCAs=stations-ca.pem`, an endpoint of our
own, because Twisted's `ssl:` cannot ask for client certificates, hold an RSA and an EC certificate at once, or survive a client
that offers ALPN. Toward the CPMS: the system's roots or the tenant's, the host's name always checked.

Files are looked at again on new connections, at most every few seconds. New files mean a new context for new connections (a
context that has served must not change); a connection that lives keeps its own. Files that do not load keep the last good ones;
telling of them is the watchman's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import urlsplit

from cryptography import x509
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

from broker.config_endpoints import Endpoint, concessions, crl_grace_s, ocpps_faults
from broker.net.clientcert import shown
from broker.net.crl import NONE_KNOWN, Lists, load_lists
from broker.net.handshakes import StationsFactory
from broker.net.pem import CannotLoad, Watched, load_certificates, load_pair
from broker.net.sessions import Sessions
from broker.settings import TenantSettings

log = Logger()

BACKLOG = 2048  # Twisted's 50 makes a thousand stations that redial at once wait 8 s
SESSION_S = 600  # a resumed session keeps the client certificate it began with: not for long
VERSIONS = {"1.0": SSL.TLS1_VERSION, "1.1": SSL.TLS1_1_VERSION, "1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
SUITES = ":".join(
    f"ECDHE-{key}-{cipher}" for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305") for key in ("ECDSA", "RSA")
)
"""TLS 1.2: forward secret and authenticated only; OCPP's two ECDSA suites are among them. All of TLS 1.3's are such."""
OLD_SUITES = "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"
"""Only with `minTLS` below 1.2, which knows no authenticated encryption: forward secret at least."""
RSA_SUITES = "AES128-GCM-SHA256:AES256-GCM-SHA384"
"""Only with `legacySuites`: OCPP's two TLS_RSA suites. Who gets the key later reads what was said before."""
OLD_RSA_SUITES = "AES128-SHA:AES256-SHA"


# ---------------------------------------------------------------- toward stations


def server_context(endpoint: Endpoint, lists: Lists | None = None) -> SSL.Context:
    """A context as `endpoint` wants it; what `lists` revoke is refused. Raises CannotLoad."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    speak(context, endpoint)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_select_callback(choose_protocol)
    context.set_session_id(os.urandom(16))
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    context.set_timeout(SESSION_S)
    for certificate, key in zip(endpoint.files("certificate"), endpoint.files("privateKey"), strict=True):
        _, private = load_pair(certificate, key)
        try:
            context.use_certificate_chain_file(certificate)
            context.use_privatekey(private)
            context.check_privatekey()
        except SSL.Error as problem:
            raise CannotLoad(f"{certificate}: OpenSSL refuses it: {reason_of(problem)}") from None
    authorities = client_authorities(endpoint)
    if authorities:
        demand_certificates(context, authorities, lists)
    return context


def speak(context: SSL.Context, endpoint: Endpoint) -> None:
    """Its versions and suites. What is weak is there only where the endpoint asks for it by name."""
    allowed = concessions(endpoint)
    suites = SUITES
    context.set_min_proto_version(VERSIONS[endpoint.named.get("minTLS", "1.2")])
    if allowed.old_tls:
        suites += ":" + OLD_SUITES
    if allowed.rsa_suites:
        suites += ":" + RSA_SUITES + (":" + OLD_RSA_SUITES if allowed.old_tls else "")
    if allowed.old_tls:
        suites += ":@SECLEVEL=0"  # OpenSSL has no TLS below 1.2 above level 0: its handshake is signed with SHA-1
    context.set_cipher_list(suites.encode())


def client_authorities(endpoint: Endpoint) -> list[x509.Certificate]:
    """Of `clientCAs`. Raises CannotLoad."""
    return [authority for file in endpoint.files("clientCAs") for authority in load_certificates(file)]


def revocation_lists(endpoint: Endpoint) -> Lists:
    """Of `crl`. Raises CannotLoad."""
    return load_lists(endpoint.files("crl"), client_authorities(endpoint), timedelta(seconds=crl_grace_s(endpoint)))


def choose_protocol(_: SSL.Connection, offered: list[bytes]) -> Any:
    """Without a callback Twisted's default refuses every client that offers anything; with this one the handshake always goes on."""
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def demand_certificates(context: SSL.Context, authorities: Sequence[x509.Certificate], lists: Lists | None) -> None:
    """Only clients with a certificate under one of `authorities` get in (security profile 3)."""
    store = context.get_cert_store()
    assert store is not None
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an intermediate CA may be the one that is trusted
    if lists is not None:
        lists.put_into(store)
    # A ticket holds the leaf only; the cache keeps the chain too, which `chains_to` needs on a resumed session.
    context.set_options(SSL.OP_NO_TICKET)

    def judge(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, fine: int) -> bool:
        if fine:
            return True
        shows = certificate.to_cryptography()
        if lists is not None and lists.forgives(shows, error, depth, shows in authorities, datetime.now(UTC)):
            return True
        connection.get_app_data().judged = f"client certificate {shown(certificate)}: {named(error)}"  # `handshakes` tells of it
        return False

    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, judge)


def named(error: int) -> str:
    """OpenSSL's word for a verification error."""
    words = {code: name for name, code in vars(SSL.X509VerificationCodes).items() if isinstance(code, int)}
    return words.get(error, f"error {error}").removeprefix("ERR_").replace("_", " ").lower()


def reason_of(problem: SSL.Error) -> str:
    return "; ".join(str(part[2]) for part in problem.args[0]) if problem.args and problem.args[0] else "no reason given"


@implementer(IOpenSSLServerConnectionCreator)
class StationsTLS:
    """Makes the server's end of each new connection with the newest files that are good."""

    def __init__(self, contexts: Watched[SSL.Context]) -> None:
        self.contexts = contexts

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self.contexts.get(), None)


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """A TCP port with TLS as `endpoint` wants it. `listen` fails with CannotLoad when a file is of no use, but for a list of revoked
    certificates: at a start no last good one is known, so stations with certificates are refused at this port, by name, until it loads."""

    _starts = False

    def __init__(self, reactor: Any, endpoint: Endpoint) -> None:
        self.reactor = reactor
        named = endpoint.named
        interface = named.get("interface", "")
        inner = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
        self.port: Any = inner(reactor, int(endpoint.positional[0]), int(named.get("backlog", BACKLOG)), interface)
        self.lists = Watched(endpoint.files("crl"), lambda: revocation_lists(endpoint), reactor.seconds)
        files = [file for key in ("certificate", "privateKey", "clientCAs", "crl") for file in endpoint.files(key)]
        self.contexts = Watched(files, lambda: self.context(endpoint), reactor.seconds)

    def context(self, endpoint: Endpoint) -> SSL.Context:
        """With the newest lists that are good: a broken list does not hold up a certificate's renewal. Raises CannotLoad."""
        if not self.lists.files:
            return server_context(endpoint)
        try:
            return server_context(endpoint, self.lists.newest())
        except CannotLoad as why:
            if not self._starts or self.lists.made is not None:
                raise
            log.error("{why}: until it loads, stations are refused at port {port}", why=str(why), port=endpoint.positional[0])
            return server_context(endpoint, NONE_KNOWN)

    def listen(self, protocolFactory: IProtocolFactory) -> defer.Deferred[IListeningPort]:
        self._starts = True
        try:
            wrapped = self.wrapped(protocolFactory)
        except CannotLoad:
            return defer.fail(Failure())
        listening: defer.Deferred[IListeningPort] = self.port.listen(wrapped)
        return listening

    def wrapped(self, protocolFactory: IProtocolFactory) -> StationsFactory:
        """The factory behind this TLS. Raises CannotLoad."""
        self.contexts.get()
        creator: Any = StationsTLS(self.contexts)  # mypy does not read zope's implementer
        factory = StationsFactory(creator, False, protocolFactory, self.reactor)
        factory.contexts = self.contexts  # a reload looks at the files at once
        return factory


@implementer(IPlugin, IStreamServerEndpointStringParser)
class OcppsParser:
    """`ocpps:` in any Twisted endpoint string; found through `twisted/plugins`."""

    prefix = "ocpps"

    def parseStreamServer(self, reactor: Any, *args: str, **kwargs: str) -> TLSServerEndpoint:
        endpoint = Endpoint("ocpps", args, kwargs)
        for fault in ocpps_faults(endpoint):
            raise ValueError(fault)
        return TLSServerEndpoint(reactor, endpoint)


# ---------------------------------------------------------------- toward the CPMS


@implementer(IOpenSSLClientConnectionCreator)
class CpmsTLS:
    """Makes the client's end of each dial of one tenant. While its files were never good, every dial fails as untrusted."""

    def __init__(self, tenant: TenantSettings, seconds: Callable[[], float]) -> None:
        self.tenant = tenant
        files = [file for file in (tenant.cpms_ca_file, tenant.cpms_certificate, tenant.cpms_key_file) if file]
        self.options = Watched(files, self.make, seconds)
        self.sessions = Sessions(seconds)

    def make(self) -> Any:
        host = urlsplit(self.tenant.cpms_url).hostname or ""
        roots = load_certificates(self.tenant.cpms_ca_file) if self.tenant.cpms_ca_file else []
        own_trust = trustRootFromCertificates([TwistedCertificate(crypto.X509.from_cryptography(one)) for one in roots])
        trust = own_trust if roots else platformTrust()
        extra: dict[str, Any] = {"raiseMinimumTo": TLSVersion.TLSv1_2, "enableSessionTickets": True}
        if self.tenant.cpms_certificate and self.tenant.cpms_key_file:
            chain, private = load_pair(self.tenant.cpms_certificate, self.tenant.cpms_key_file)
            ours = [crypto.X509.from_cryptography(one) for one in chain]
            extra.update(certificate=ours[0], extraCertChain=ours[1:], privateKey=crypto.PKey.from_cryptography_key(private))
        return optionsForClientTLS(host, trustRoot=trust, extraCertificateOptions=extra)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        try:
            options = self.options.get()
            connection: SSL.Connection = options.clientConnectionForTLS(tlsProtocol)
        except CannotLoad:
            # Raised here it would leave the dial without an end: Twisted asks while it makes the connection.
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            context.set_verify(SSL.VERIFY_PEER, lambda *_: False)
            return SSL.Connection(context, None)
        self.sessions.begin(connection, tlsProtocol, options)
        return connection


def client_options(tenant: TenantSettings, seconds: Callable[[], float] = time.monotonic) -> IOpenSSLClientConnectionCreator | None:
    """How to dial this tenant's CPMS with TLS; None for ws://. Make it once per tenant: it watches the files itself."""
    if not tenant.cpms_url.lower().startswith("wss:"):
        return None
    return cast(IOpenSSLClientConnectionCreator, CpmsTLS(tenant, seconds))  # mypy does not read zope's implementer
