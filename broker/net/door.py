"""Who may come in, and as whom: one handshake from its request to a link whose CPMS has accepted.

    path ─▶ tenant ─▶ security profile ─▶ password ─▶ room ─▶ identity free ─▶ CPMS dialled (and what was known of the station read) ─▶ link

Each step may refuse, with a status, a reason for the log and whose fault it is. Nothing here looks into a frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger

from broker import passlines
from broker import request as requests
from broker import target as targets
from broker.counts import Counts
from broker.model.basics import Instant, Key
from broker.net.clientcert import chains_to, needs_new_tls, peer_identity, speaks_old_tls
from broker.net.cpms import GAVE_UP, CpmsLeg, Offer, Refusal, Upstream, basic
from broker.net.credentials import Credentials
from broker.net.link import Link, Observer, Surroundings
from broker.net.links import Links
from broker.net.newpasswords import Lines
from broker.net.pem import CannotLoad
from broker.net.refusing import Kind, Refused
from broker.net.stations import StationLeg, Whole
from broker.net.tls import client_options
from broker.passwords import names_another
from broker.refusals import Refusals
from broker.reload import placed
from broker.settings import ListenSettings, Settings, StationSettings, TenantSettings

log = Logger()

NAME_MOST: Final = 64
_BASIC: Final = re.compile(rb"(?i:basic):? +[!-~]+").fullmatch  # `Basic:` is a station's own spelling


class Known(Protocol):
    """Makes the observer of a station that is about to connect; None when nothing is to be observed."""

    def __call__(
        self, key: Key, station: StationSettings, tenant: TenantSettings, subprotocol: str | None, opened: Instant, flapping: bool
    ) -> Deferred[Observer | None]: ...


class Passwords(Protocol):
    """What a station's password may fit: `newpasswords.NewPasswords`."""

    async def lines(self, key: Key, listed: str) -> Lines: ...

    def came(self, key: Key, line: str, known: Lines) -> None: ...


class Listed:
    """The station list's alone."""

    async def lines(self, key: Key, listed: str) -> Lines:
        return Lines((listed,))

    def came(self, key: Key, line: str, known: Lines) -> None:
        """Nothing follows."""


def shown(name: str) -> str:
    """A name from outside as one short line for the log."""
    if len(name) <= NAME_MOST and name.isprintable():
        return name
    escaped = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)
    return escaped if len(escaped) <= NAME_MOST else escaped[: NAME_MOST - 1] + "…"


class Entrance:
    """Implements `stations.Door`."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        links: Links,
        world: Surroundings,
        known: Known,
        opened: Callable[[Link], None],
        given: Passwords | None = None,
    ) -> None:
        self._settings = settings
        self._links = links
        self._world = world
        self._known = known
        self._opened = opened
        self._counts: Counts = world.counts
        self._given = given or Listed()
        self._credentials = Credentials(world.reactor.seconds)
        self._upstreams: dict[tuple[Any, ...], Upstream] = {}
        self._refusals: dict[str, Refusals] = {}  # by tenant
        self._said = Refused(world.reactor)

    def enter(self, leg: StationLeg, request: requests.Request, listen: ListenSettings) -> Deferred[Whole]:
        """See `stations.Door`."""
        return cast("Deferred[Whole]", ensureDeferred(self._enter(leg, request, listen)))

    def refused(self, leg: StationLeg, refusal: Refusal) -> None:
        """Count it, and say it in one line unless there were many of its kind."""
        if refusal.status == GAVE_UP:
            return
        self._counts.add("refused", str(refusal.status), refusal.whose)
        who = getattr(leg, "who", "") or "a connection"
        self._said.handshake(who, leg.address, refusal.status, refusal.whose, refusal.why)

    def tls_refused(self, kind: Kind, line: Callable[[], None]) -> None:
        """Before there was a request."""
        self._counts.add("refused", "tls", "station")
        self._said.say(kind, line)

    def stop(self) -> None:
        """Nobody comes any more: say what of refusals was left unsaid."""
        self._said.stop()

    async def _enter(self, leg: StationLeg, request: requests.Request, listen: ListenSettings) -> Link:
        settings = self._settings()
        try:
            target = targets.parse(request.target, request.one(b"host") or b"", listen.tenant)
        except targets.NoSuchPath as wrong:
            raise Refusal(404, f"asked for no path of ours: {wrong}", "station") from None
        key = target.key
        leg.who = shown(str(key))  # type: ignore[attr-defined]
        tenant = settings.tenants.get(key.tenant)
        station = tenant.station(key.station) if tenant is not None else None
        if tenant is None or station is None:
            raise Refusal(404, "named an unknown tenant or station", "station")
        with self._credentials.judged(leg.address, key):
            self._security(leg, request, listen, tenant, key)
        if request.protocols and all(map(needs_new_tls, request.protocols)):
            _only_new_tls(leg)
        identity = peer_identity(leg.transport)
        whom = f"certificate {shown(identity.cn)}" if identity is not None else leg.address
        if identity is None and passlines.judged(tenant, station):
            await self._password(leg.address, key, station.password_hash, request.one(b"authorization"))
            whom = "checked password"
        elif identity is None and names_another(request.one(b"authorization"), key.station):
            self._counts.add("other_user_names")  # the CPMS judges it
        self._room(key, tenant)
        await self._links.claim(key, whom)
        try:
            with self._credentials.judged(leg.address, key):
                link = await self._connect(leg, request, target, tenant, station, whom)
        finally:
            self._links.leave(key)
        self._credentials.passed(leg.address, key)
        return link

    async def _password(self, address: str, key: Key, listed: str, header: bytes | None) -> None:
        """It fits the station list's line, or one that its CPMS gave it since. Raises Refusal."""
        known = await self._given.lines(key, listed)
        try:
            line = await self._credentials.which(address, key, known.lines, header)
        except Refusal as refusal:
            if refusal.status == 401 and not known.sure:
                why = "cannot say whether this is its newest password: the store does not answer"
                raise Refusal(503, why, "broker", (("Retry-After", "30"),)) from None
            raise
        self._given.came(key, line, known)

    def _room(self, key: Key, tenant: TenantSettings) -> None:
        """Room in the broker, and in what its tenant may have; to be asked right before the place is claimed, with no wait between."""
        most, later = self._settings().broker.max_links, (("Retry-After", "10"),)
        if self._links.draining or not self._links.has_room(key, most, None):
            raise Refusal(503, "is full or stopping", "broker", later)
        if not self._links.has_room(key, most, tenant.max_links):
            raise Refusal(503, f"lets no more than {tenant.max_links} stations of {tenant.name} in: its max_links", "broker", later)

    async def _connect(
        self,
        leg: StationLeg,
        request: requests.Request,
        target: targets.Target,
        tenant: TenantSettings,
        station: StationSettings,
        whom: str,
    ) -> Link:
        key = target.key
        flapping = self._links.flapping(key)
        cpms = await self._dialled(tenant, request, target)
        try:
            if needs_new_tls(cpms.subprotocol or ""):
                _only_new_tls(leg)
            observer = await self._observer(key, station, tenant, cpms.subprotocol, flapping)
            if self._links.draining:
                raise Refusal(503, "came while we are stopping", "broker", (("Retry-After", "10"),))
        except BaseException:  # cancelled, or stopping: the CPMS must not keep half a link
            cpms.cut()
            raise
        link = Link(key, f"{shown(str(key))}#{self._links.number()}", leg, cpms, observer, self._world, address=leg.address)
        for one in (leg, cpms):
            one.ration(self._settings().broker.rate, self._settings().broker.burst)
        link.whom = whom
        link.place = placed(tenant, station, self._settings().quirks)
        link.subprotocol = leg.subprotocol = cpms.subprotocol
        self._links.add(link)
        self._opened(link)
        return link

    async def _dialled(self, tenant: TenantSettings, request: requests.Request, target: targets.Target) -> CpmsLeg:
        """Raises Refusal; what the CPMS itself refuses is remembered, until it takes somebody."""
        refusals = self._refusals.setdefault(tenant.name, Refusals())
        try:
            cpms = await self._upstream(tenant).dial(offer_of(request, target, tenant))
        except Refusal as refusal:
            if refusal.whose == "cpms":
                refusals.refused(target.key.station, refusal.status)
            raise
        refusals.accepted()
        return cpms

    async def _observer(
        self, key: Key, station: StationSettings, tenant: TenantSettings, subprotocol: str | None, flapping: bool
    ) -> Observer | None:
        """Who learns from the link; nobody, if that fails: then it is relayed only."""
        opened = Instant(self._world.reactor.seconds(), self._world.wall())
        try:
            return await self._known(key, station, tenant, subprotocol, opened, flapping)
        except CancelledError:  # the station went away
            raise
        except Exception:
            log.failure("{who} is relayed only: what was known of it cannot be read, which is our fault", who=shown(str(key)))
            self._counts.add("tap_failures")
            return None

    def forget(self) -> None:
        """The settings changed: a CPMS that nobody dials any more is forgotten. What is being dialled goes on."""
        wanted = {self._at(tenant) for tenant in self._settings().tenants.values()}
        self._refusals = {name: one for name, one in self._refusals.items() if name in self._settings().tenants}
        self._upstreams = {at: upstream for at, upstream in self._upstreams.items() if at in wanted}

    def failures(self) -> dict[str, int]:
        """Tenant → dials of its CPMS in a row that found nobody; only of those that were dialled."""
        upstreams = {name: self._upstreams.get(self._at(tenant)) for name, tenant in self._settings().tenants.items()}
        return {name: upstream.failures for name, upstream in upstreams.items() if upstream is not None}

    def refusing(self) -> dict[str, str]:
        """Tenant → what to say of a CPMS that takes nobody."""
        tenants = self._settings().tenants
        return {name: one.said for name, one in self._refusals.items() if name in tenants and one.said}

    def _at(self, tenant: TenantSettings) -> tuple[Any, ...]:
        """What makes one CPMS another, as far as dialling goes."""
        broker = self._settings().broker
        files = (tenant.cpms_ca_file, tenant.cpms_certificate, tenant.cpms_key_file)
        return (tenant.cpms_url, *files, broker.dial_timeout_s, broker.max_message)

    def _upstream(self, tenant: TenantSettings) -> Upstream:
        """One for each CPMS as configured; made when it is first dialled."""
        broker = self._settings().broker
        timeout_s, max_message = broker.dial_timeout_s, broker.max_message
        at = self._at(tenant)
        if at not in self._upstreams:
            tls, reactor = client_options(tenant), self._world.reactor
            self._upstreams[at] = Upstream(tenant.cpms_url, tls, reactor, timeout_s=timeout_s, max_message=max_message)
        return self._upstreams[at]

    def _security(self, leg: StationLeg, request: requests.Request, listen: ListenSettings, tenant: TenantSettings, key: Key) -> None:
        """The tenant's least security profile; and a client certificate speaks for its own station at its own tenant only."""
        secure = ISSLTransport.providedBy(leg.transport)
        identity = peer_identity(leg.transport)
        least = tenant.security_profile
        if least >= 2 and not secure:
            raise Refusal(403, f"came without TLS, but {tenant.name} asks for security profile {least}", "station")
        if least == 3 and identity is None:
            raise Refusal(403, f"came without a client certificate, but {tenant.name} asks for security profile 3", "station")
        if least in (1, 2) and identity is None and not _BASIC(request.one(b"authorization") or b""):
            ask = (("WWW-Authenticate", 'Basic realm="ocpp"'),)
            raise Refusal(401, f"came without a password, but {tenant.name} asks for it", "station", ask)
        if identity is None:
            return
        if key.station not in identity.names(tenant.certificate_identity):
            raise Refusal(401, f"shows a certificate whose {tenant.certificate_identity} is another station's", "station")
        if tenant.station_ca_file is not None:
            try:
                ours = chains_to(leg.transport, tenant.station_ca_file)
            except CannotLoad as why:
                raise Refusal(503, f"cannot be checked: {why}", "broker") from None
            if not ours:
                raise Refusal(401, f"shows a certificate that is not from {tenant.name}'s CA", "station")
        elif listen.tenant is None:
            raise Refusal(403, f"shows a certificate, but nothing says that it is {tenant.name}'s: set station_ca_file", "broker")


def _only_new_tls(leg: StationLeg) -> None:
    """TLS below 1.2, where a port allows it, is for OCPP 1.6 (security whitepaper, A00.FR.312); 2.x knows none."""
    if speaks_old_tls(leg.transport):
        raise Refusal(403, "speaks OCPP 2.x over TLS below 1.2, which only 1.6 stations may", "station")


def offer_of(request: requests.Request, target: targets.Target, tenant: TenantSettings) -> Offer:
    """What the CPMS is asked, as the station asked us; with an account of the tenant's where its credentials are replaced."""
    shown = [(b"Authorization", value) for value in request.all(b"authorization")]
    if tenant.credentials == "replace":
        shown = [basic(tenant.cpms_user or target.key.station, tenant.cpms_password)]
    deflate = any(b"permessage-deflate" in value.lower() for value in request.all(b"sec-websocket-extensions"))
    return Offer(target.tail, (*request.forwarded(), *shown), tuple(request.protocols), deflate)
