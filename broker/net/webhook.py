"""One message of alarms as a POST of JSON to an address that the operator named; 2xx means taken.

Never redirected: the token is for that address alone. Each message has a connection of its own, for there are few. No error text
holds the address's path or query (many chat systems' address is the secret), the token, or what was answered.
"""

from __future__ import annotations

import json
from typing import Any, Final, cast
from urllib.parse import urlsplit

from OpenSSL import crypto
from OpenSSL.SSL import Error as TlsError
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, platformTrust, trustRootFromCertificates
from twisted.python.failure import Failure
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS
from twisted.web.iweb import IAgent

from broker.net.addressed import addressed
from broker.net.pem import CannotLoad, load_certificates
from broker.notices import Message, plain
from broker.settings import AlarmSettings

CONNECT_S: Final = 5.0
TOTAL_S: Final = 10.0
MOST_ANSWER: Final = 64 * 1024  # it says nothing that we need; so much is read for a connection's proper end


class Untold(Exception):
    """It was not taken. The text is one line for a log: no secret, nothing that the recipient wrote."""


def roots(ca_file: str | None) -> Any:
    """Whom to trust. Raises Untold."""
    if ca_file is None:
        return platformTrust()
    try:
        return trustRootFromCertificates([Certificate(crypto.X509.from_cryptography(one)) for one in load_certificates(ca_file)])
    except CannotLoad as problem:
        raise Untold(f"broker.alarms.ca_file: {problem}") from None


def why(error: BaseException) -> str:
    """What went wrong on the way, in words of ours or of the operating system's."""
    reasons = getattr(error, "reasons", None)
    inner = reasons[0].value if isinstance(reasons, list) and reasons else error
    if isinstance(inner, TlsError) or type(inner).__module__.startswith("service_identity"):
        return "its certificate is not trusted or not for this host, or it speaks no TLS"
    return str(inner) if isinstance(inner, ConnectError) else type(inner).__name__


class _Rest(Protocol):
    """An answer's body, let go."""

    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred(lambda _: self._cut())
        self._left = MOST_ANSWER

    def dataReceived(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._cut()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.over.called:
            self.over.callback(None)  # the status was read: whatever ends the rest

    def _cut(self) -> None:
        cut = getattr(self.transport, "abortConnection", None) or getattr(self.transport, "loseConnection", None)
        if cut is not None:
            cut()


class Webhook:
    """One recipient."""

    name = "webhook"

    def __init__(self, settings: AlarmSettings, reactor: Any) -> None:
        self._settings, self._reactor = settings, reactor
        self._where = urlsplit(settings.webhook_url).hostname or "?"

    def send(self, message: Message) -> Deferred[None]:
        """Fails with Untold. It may be cancelled."""
        return ensureDeferred(self._send(message))

    async def _send(self, message: Message) -> None:
        policy = BrowserLikePolicyForHTTPS(trustRoot=roots(self._settings.ca_file))
        http = HTTPClient(cast(IAgent, Agent(self._reactor, policy, connectTimeout=CONNECT_S)))
        headers: dict[bytes | str, bytes | str] = {
            "Content-Type": "application/json",
            "User-Agent": "ocppbroker",
            "Idempotency-Key": message.id,
        }
        if self._settings.webhook_token:
            headers["Authorization"] = f"Bearer {self._settings.webhook_token}"
        body = json.dumps(plain(message, self._settings.name)).encode()
        begun = self._reactor.seconds()
        asked = ensureDeferred(self._post(http, headers, body))
        try:
            status = await asked.addTimeout(TOTAL_S, self._reactor)
        except Exception as error:
            late = self._reactor.seconds() - begun >= TOTAL_S - 0.001
            raise Untold(f"{self._where}: {'no answer in time' if late else why(error)}") from None
        if not 200 <= status < 300:
            hint = ": check webhook_url and webhook_token" if status in (401, 403, 404) else ""
            raise Untold(f"{self._where}: answers {status}{hint}")

    async def _post(self, http: HTTPClient, headers: dict[bytes | str, bytes | str], body: bytes) -> int:
        url = addressed(self._settings.webhook_url)
        response = await http.request(
            "POST", url, headers=headers, data=body, allow_redirects=False, unbuffered=True, reactor=self._reactor
        )
        rest = _Rest()
        response.deliverBody(rest)
        await rest.over
        return int(response.code)
