"""Revocation lists: which client certificates their CA has taken back. In: the files of `crl=`. Out: lists for OpenSSL to judge by.

What is revoked is OpenSSL's to say (RFC 5280, 6.3). Ours is what happens when a list is overdue: it is used for `crlGrace` longer,
with an alarm, and only then are its CA's stations refused, each by name. So a CA that forgets to publish locks nobody out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from OpenSSL import SSL, crypto

from broker.net.pem import CannotLoad, contents

LONGEST: Final = 4 * 1024 * 1024  # bytes of one file: some 75,000 revoked certificates, 0.2 s to read, in which nothing is relayed
_BLOCK: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists that belong together, each signed by its CA. `grace`: how long after its due date one is still used."""

    crls: tuple[x509.CertificateRevocationList, ...]
    grace: timedelta

    def newest(self) -> list[x509.CertificateRevocationList]:
        """One of each CA: the one that is due last."""
        found: dict[x509.Name, x509.CertificateRevocationList] = {}
        for one in self.crls:
            other = found.setdefault(one.issuer, one)
            if other.next_update_utc is not None and (one.next_update_utc is None or one.next_update_utc > other.next_update_utc):
                found[one.issuer] = one
        return list(found.values())

    def usable(self, issuer: x509.Name, now: datetime) -> bool:
        """The newest list of this CA, due or overdue, may be used at `now`."""
        ends = [end(one, self.grace) for one in self.newest() if one.issuer == issuer]
        return any(one is None or now <= one for one in ends)

    def put_into(self, store: crypto.X509Store) -> None:
        """From now on `store` refuses what is revoked."""
        for one in self.crls:
            store.add_crl(one)
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)

    def forgives(self, certificate: x509.Certificate, error: int, depth: int, trusted: bool, now: datetime) -> bool:
        """What OpenSSL finds wrong with a list, not with the certificate at `depth` (0: the station's own), is no reason to refuse it.
        `trusted`: it is one of the port's own CAs, whose parent need not be known."""
        codes = SSL.X509VerificationCodes
        if error == codes.ERR_CRL_HAS_EXPIRED:
            return self.usable(certificate.issuer, now)
        if error == codes.ERR_CRL_NOT_YET_VALID:  # our clock is behind; what it revokes is revoked
            return True
        if error == codes.ERR_CRL_SIGNATURE_FAILURE:  # there is nobody above it whose key to check with
            return trusted and depth > 0
        return error == codes.ERR_UNABLE_TO_GET_CRL and depth > 0  # of a CA whose list the operator did not give


NONE_KNOWN: Final = Lists((), timedelta())
"""What a list would say cannot be known: then every client certificate is refused, for lack of one."""


def end(crl: x509.CertificateRevocationList, grace: timedelta) -> datetime | None:
    """Until when it may be used; None: no end is written in it."""
    due = crl.next_update_utc
    return None if due is None else min(due, datetime.max.replace(tzinfo=due.tzinfo) - grace) + grace


def load_lists(files: Sequence[str], authorities: Sequence[x509.Certificate], grace: timedelta) -> Lists:
    """The lists of `files` (PEM, several in one if wanted, or DER), for ports whose client CAs are `authorities`. Raises CannotLoad:
    also for a list that its CA did not sign, and if a CA that issues to stations has none: its stations would all be refused."""
    crls = []
    for file in files:
        for crl in read_lists(file):
            signers = [one for one in authorities if one.subject == crl.issuer]
            if signers and not any(signed_by(crl, one) for one in signers):
                raise CannotLoad(f"{file}: {crl.issuer.rfc4514_string()} did not sign its list: fetch it again")
            crls.append(crl)
    parents = {one.issuer for one in authorities if one.issuer != one.subject}
    for authority in authorities:
        if authority.subject not in parents and not any(one.issuer == authority.subject for one in crls):
            raise CannotLoad(f"{', '.join(files)}: no list of {authority.subject.rfc4514_string()}, which is one of clientCAs")
    return Lists(tuple(crls), grace)


def read_lists(file: str) -> list[x509.CertificateRevocationList]:
    """All of a file, in its order. Raises CannotLoad."""
    text = contents(file, LONGEST)
    try:
        if b"-----BEGIN" in text:
            found = [x509.load_pem_x509_crl(block) for block in _BLOCK.findall(text)]
        else:
            found = [x509.load_der_x509_crl(text)]
        for one in found:
            one.issuer, one.next_update_utc, one.signature_algorithm_oid  # noqa: B018  # read lazily: now is when it may fail
    except ValueError:
        found = []
    if not found:
        raise CannotLoad(f"{file}: holds no revocation list (PEM or DER) that can be read")
    return found


def signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # keys that cannot sign raise TypeError
    except (TypeError, ValueError):
        return False
