"""A CPMS and dials of it over TLS, joined in memory: which group was agreed on, what was gone on with, how long the first message was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL import SSL

from broker.net import keyshares
from broker.net.sessions import Sessions


class Ends:
    """A CPMS that takes these groups, and dials of it that follow each other as the broker's do."""

    def __init__(self, pki: Path, groups: bytes) -> None:
        self.server = SSL.Context(SSL.TLS_SERVER_METHOD)
        self.server.use_certificate_chain_file(str(pki / "cpms.pem"))
        self.server.use_privatekey_file(str(pki / "cpms.key"))
        self.server.set_session_id(b"cpms")
        self.take(groups)
        self.client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        self.client.load_verify_locations(str(pki / "cpms-ca.pem"))
        self.client.set_verify(SSL.VERIFY_PEER, lambda *judged: bool(judged[-1]))
        self.sessions = Sessions(lambda: 0.0)
        self.alive: list[SSL.Connection] = []  # OpenSSL resumes no session of a connection that was freed without a good-bye

    def take(self, groups: bytes) -> None:
        assert keyshares._openssl.SSL_CTX_set1_curves_list(self.server._context, groups)  # type: ignore[attr-defined]

    def dial(self, keep: bool = True) -> tuple[str | None, bool, int]:
        """The group agreed on, whether a session was gone on with, and how many bytes the first message had."""
        near, far, protocol = SSL.Connection(self.client, None), SSL.Connection(self.server, None), Dialled()
        protocol.connection = near
        self.alive.append(near)
        self.sessions.begin(near, protocol, "options")
        near.set_connect_state()
        far.set_accept_state()
        first = said = turn(near)
        while said:
            far.bio_write(said)
            said = turn(far)
            if said:
                near.bio_write(said)
                said = turn(near)
        near.send(b"hello")
        far.bio_write(near.bio_read(2**16))
        assert far.recv(100) == b"hello"
        if keep:
            self.sessions.keep(protocol)
        return near.get_group_name(), bool(keyshares._openssl.SSL_session_reused(near._ssl)), len(first)  # type: ignore[attr-defined]


class Dialled:
    began_with: object = None
    connection: Any

    def getHandle(self) -> Any:
        return self.connection


def turn(one: SSL.Connection) -> bytes:
    """What it says next, in the handshake or, after it, of tickets."""
    try:
        one.do_handshake()
        one.recv(100)
    except SSL.WantReadError:
        pass
    try:
        return one.bio_read(2**16)
    except SSL.WantReadError:
        return b""
