"""TLS handshakes of stations that failed: one line for the operator, with what to do, and a count.

In: what OpenSSL says of the handshake, and what we found wrong with a client certificate. A station that cannot get in at this
stage has no name yet but for its certificate's, so its address is all else there is to find it by.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from OpenSSL import SSL
from twisted.logger import Logger

from broker.net.leantls import LeanTLS, LeanTLSFactory
from broker.net.refusing import Kind

log = Logger()

JUDGED: Final = "refused at the TLS handshake: {judged}, from {address}"
FAILED: Final = "refused at the TLS handshake: a connection from {address} {why}"
WORDS: Final = {
    "unsupported protocol": "speaks no TLS version of this port's: give old stations a port of their own with minTLS=",
    "version too low": "speaks no TLS version of this port's: give old stations a port of their own with minTLS=",
    "no shared cipher": "knows no cipher suite of this port's: give old stations a port of their own with legacySuites=yes",
    "peer did not return a certificate": "shows no client certificate, which this port asks for (clientCAs=)",
    "http request": "speaks HTTP without TLS: it must dial wss://",
    "wrong version number": "does not speak TLS",
    "unknown ca": "does not trust our certificate: give it the CA's, or us one that it trusts",
    "certificate unknown": "does not take our certificate: see that it names the host that stations dial",
    "bad certificate": "does not take our certificate: see that it names the host that stations dial",
    "certificate expired": "takes our certificate for expired: renew it, or see the station's clock",
}
"""What OpenSSL's reason for a failed handshake ends with → what it means here."""


class Refusing(LeanTLS):
    """One connection; a handshake that fails is told of."""

    factory: Any  # StationsFactory
    judged = ""
    """What is wrong with the client's certificate."""

    def _tlsShutdownFinished(self, reason: Any) -> None:
        # A SysCallError is a peer that went away: it was not refused.
        if not self._handshakeDone and reason is not None and isinstance(reason.value, SSL.Error) and not reason.check(SSL.SysCallError):
            self.factory.refused(self, reason.value)
        super()._tlsShutdownFinished(reason)


class StationsFactory(LeanTLSFactory):
    """Makes them. `contexts`: a reload looks at their files at once."""

    protocol = Refusing
    contexts: Any = None

    def refused(self, connection: Refusing, problem: SSL.Error) -> None:
        """Have it counted, and said unless there were many of its kind, by those behind."""
        address, judged = str(getattr(connection.transport.getPeer(), "host", "?")), connection.judged
        if judged:
            why, line = judged.rpartition(": ")[2], partial(log.warn, JUDGED, judged=judged, address=address)
        else:
            why = in_words(problem)
            line = partial(log.info, FAILED, address=address, why=why)
        told: Any = getattr(self.wrappedFactory, "tls_refused", None)
        if told is None:
            line()
        else:
            told(Kind(f"at the TLS handshake ({why})", "station", address), line)


def in_words(problem: SSL.Error) -> str:
    """OpenSSL's reason, with what it means if we know."""
    reason = str(problem.args[0][-1][2]) if problem.args and problem.args[0] else ""
    known = next((words for end, words in WORDS.items() if reason.endswith(end)), "")
    return known or f"fails at it: {reason or 'no reason given'}"
