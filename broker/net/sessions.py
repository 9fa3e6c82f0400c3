"""One CPMS's TLS session, to be gone on with by the next dial: no certificates are sent, verified or kept for it a second time.

A session is one whose certificate and host name were verified when it began, with the files of now; it is used for ten minutes from
there and never prolonged by itself, so that a certificate that is withdrawn is looked at again soon. A CPMS that does not know it
any more just does the whole handshake; a dial that fails lets it go. So long, dials also bring only those keys that it wanted then
(`keyshares`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL

from broker.net.keyshares import bring_classic, wants_classic

USED_S: Final = 600.0  # as long as we let stations resume theirs


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
        protocol.began_with = None if self._good(options) else options
        if self._session is not None and self._good(options):
            connection.set_session(self._session)
            if self._classic:
                bring_classic(connection)

    def keep(self, protocol: Any) -> None:
        """This dial has come through: what was verified on it may be gone on with. One that went on itself proves nothing new."""
        options = getattr(protocol, "began_with", None)
        if options is not None and not self._good(options):
            connection = protocol.getHandle()
            self._session, self._classic = connection.get_session(), wants_classic(connection)
            self._options, self._until = options, self._seconds() + USED_S

    def forget(self) -> None:
        """A dial came to nothing: perhaps for its sake."""
        self._session = None
