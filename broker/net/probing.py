"""`ocppbroker probe`: dial a station's CPMS as the station would, through the same code and files, and say what it answered.

The CPMS sees the station connect and, a second later, say good-bye; no message is sent. What the CPMS says meanwhile is counted, not
answered. Never for a station that is connected: most CPMS end the older of two connections.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from twisted.internet.task import deferLater

from broker.model.basics import Key
from broker.net.cpms import CpmsLeg, Offer, Refusal, Upstream
from broker.net.tls import client_options
from broker.settings import BrokerSettings, TenantSettings
from broker.target import NoSuchPath, parse

LISTEN_S: Final = 1.0  # a CPMS that accepts and closes at once does so within that
LEAVE_S: Final = 2.0
PLAIN: Final = ":@$+=*|,~"  # beside letters, digits and -._, what an id keeps in its URL
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
HINTS: Final[Mapping[int, str]] = {
    401: "it does not take these credentials: give the station's own with --password-file",
    403: "it forbids this station: is it enrolled, and is our address allowed there?",
    404: "it does not know this path or station: compare cpms_url with the URL that is in the station",
    429: "it limits how often we may dial: ask for a higher limit for our address",
    502: "what is there is no OCPP server as it should be, or its certificate is not trusted: see cpms_url and cpms_ca_file",
    503: "nobody is there: see cpms_url and the way there",
    504: "nobody answers in time: see cpms_url, a firewall, and dial_timeout",
}


class Probed(NamedTuple):
    """What came of it."""

    url: str
    accepted: bool
    said: str
    """In one line."""
    subprotocol: str | None = None
    status: int = 101
    """What the station would be answered."""

    def for_machines(self) -> dict[str, Any]:
        return self._asdict()


def unfit(tenant: str, station: str, protocols: Iterable[str]) -> str:
    """Why the broker would not let a station of this id in that offers these; "" if it would."""
    path = f"/{quote(tenant, safe=PLAIN)}/{tail_of(station)}".encode()
    try:
        fits = parse(path, b"").key == Key(tenant, station)
    except NoSuchPath as why:
        return f"its path: {why}"
    if not fits:
        return "an id cannot be empty"
    wrong = next((name for name in protocols if not TOKEN(name)), None)
    return "" if wrong is None else f"{wrong!r} is no name of a subprotocol"


def tail_of(station: str) -> str:
    """A station's id as it stands in a URL."""
    return quote(station, safe=PLAIN)


async def probe(
    tenant: TenantSettings,
    station: str,
    broker: BrokerSettings,
    reactor: Any,
    *,
    protocols: tuple[str, ...],
    headers: tuple[tuple[bytes, bytes], ...] = (),
    seconds: Callable[[], float],
) -> Probed:
    """Dial, listen for a second, say good-bye. Never fails."""
    upstream = Upstream(
        tenant.cpms_url, client_options(tenant, seconds), reactor, timeout_s=broker.dial_timeout_s, max_message=broker.max_message
    )
    tail = tail_of(station)
    url = f"{tenant.cpms_url}/{tail}"
    try:
        leg = await upstream.dial(Offer(tail.encode(), headers, protocols, False))
    except Refusal as refusal:
        more = "".join(f"; {name}: {_line(value)}" for name, value in refusal.headers if name == "WWW-Authenticate")
        hint = HINTS.get(refusal.status, "")
        said = f"the {refusal.whose} {refusal.why}{more}: the station would get {refusal.status}"
        return Probed(url, False, f"{said}; {hint}" if hint else said, None, refusal.status)
    await _until(reactor, lambda: leg.gone is not None or leg.parted, LISTEN_S)
    if leg.gone is not None or leg.parted:
        code = leg.gone[0] if leg.gone is not None else 1006
        await _leave(leg, reactor)
        return Probed(url, False, f"accepted, and closed at once with {code}: the CPMS does not want this station", leg.subprotocol)
    await _leave(leg, reactor)
    spoken = f"speaks {leg.subprotocol}" if leg.subprotocol else "chose no subprotocol: most stations leave again"
    return Probed(url, True, f"accepted, {spoken}", leg.subprotocol)


async def _leave(leg: CpmsLeg, reactor: Any) -> None:
    leg.shut(1000)
    await _until(reactor, lambda: leg.parted, LEAVE_S)
    leg.cut()


async def _until(reactor: Any, true: Callable[[], bool], most_s: float) -> None:
    end = reactor.seconds() + most_s
    while not true() and reactor.seconds() < end:
        await deferLater(reactor, 0.05, lambda: None)


def _line(value: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in value)[:200]
