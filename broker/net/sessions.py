"""One CPMS's TLS session, to be gone on with by the next dial: no certificates are sent, verified or kept for it a second time.

A session is one whose certificate and host name were verified when it began, with the files of now; it is used for ten minutes from
there and never prolonged by itself, so that a certificate that is withdrawn is looked at again soon. What the CPMS gives to a dial
that went on is used in its place, no longer than it: OpenSSL resumes none of a connection that ended without a good-bye, as many do
behind a load balancer. A CPMS that knows a session no more just does the whole handshake, which begins another; a dial that fails lets
it go. So long, dials also bring only those keys that it wanted last (`keyshares`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from OpenSSL import SSL

from broker.net.keyshares import bring_classic, wants_classic

USED_S: Final = 600.0  # as long as we let stations resume theirs
_openssl: Any = getattr(SSL, "_lib", None)


class Beginning(NamedTuple):
    """How a dial began: the options that its CPMS is verified by, and until when the session may be used that it tries to go on with."""

    options: object
    until: float | None


class Sessions:
    """At most one. `seconds()` is monotonic."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._session: SSL.Session | None = None
        self._options: object = None
        self._until = 0.0
        self._classic = False
        """Its CPMS agreed on no post-quantum key exchange."""

    def _good(self, options: object) -> bool:
        return self._session is not None and self._options is options and self._seconds() < self._until

    def begin(self, connection: SSL.Connection, protocol: Any, options: object) -> None:
        """A dial begins, with the `options` that follow from the files of now."""
        protocol.began_with = Beginning(options, self._until if self._good(options) else None)
        if self._session is not None and self._good(options):
            connection.set_session(self._session)
            if self._classic:
                bring_classic(connection)

    def keep(self, protocol: Any) -> None:
        """This dial has come through: what was verified on it may be gone on with. One that went on itself proves nothing new."""
        began: Beginning | None = getattr(protocol, "began_with", None)
        if began is None:
            return
        connection = protocol.getHandle()
        if began.until is not None and went_on(connection):
            if not self._good(began.options) or self._until != began.until:
                return
        elif not self._good(began.options) or began.until is not None:
            self._options, self._until = began.options, self._seconds() + USED_S
        else:  # dialled beside the one that was kept
            return
        self._session, self._classic = connection.get_session(), wants_classic(connection)

    def forget(self) -> None:
        """A dial came to nothing: perhaps for its sake."""
        self._session = None


def went_on(connection: SSL.Connection) -> bool:
    """With a session: nothing was verified. Where nobody can say, it is taken for one that did."""
    handle, asks = getattr(connection, "_ssl", None), getattr(_openssl, "SSL_session_reused", None)
    return handle is None or asks is None or bool(asks(handle))
