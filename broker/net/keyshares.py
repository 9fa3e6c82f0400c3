"""What a dial's first TLS message brings for the key exchange: no key that its CPMS did not want a moment ago.

OpenSSL 3.5 and later begin with two keys, one of them post-quantum (X25519MLKEM768), and keep both for as long as the connection lives:
9.6 KiB of it, for nothing where the CPMS takes the other. So a dial that follows one on which the CPMS took another leaves that key
out. It is still the first that is offered by name: a CPMS that has come to want it asks for it (RFC 8446, 4.1.4). What may be agreed on,
and in which order we would like it, never changes.
"""

from __future__ import annotations

from typing import Any, Final

from OpenSSL import SSL

_NAMED_ONLY: Final = b"?X25519MLKEM768/DEFAULT"  # its first mention counts: without a star, so without a key; then all the others as ever
_openssl: Any = getattr(SSL, "_lib", None)  # pyOpenSSL itself sets groups only for a whole context, and only a single one


def wants_classic(connection: SSL.Connection) -> bool:
    """The peer of this finished handshake agreed on a key exchange that is not post-quantum. False if nobody can say."""
    try:
        group = connection.get_group_name()
    except (AttributeError, NotImplementedError):  # pyOpenSSL before 26, OpenSSL before 3.2
        return False
    return group is not None and "MLKEM" not in group.upper()


def bring_classic(connection: SSL.Connection) -> None:
    """Before its handshake: leave the post-quantum key at home. An OpenSSL that has no such key goes on as it is."""
    handle, choose = getattr(connection, "_ssl", None), getattr(_openssl, "SSL_set1_curves_list", None)
    if handle is not None and choose is not None and not choose(handle, _NAMED_ONLY):
        _openssl.ERR_clear_error()
