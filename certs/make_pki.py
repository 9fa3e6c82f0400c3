"""A development PKI in one command: `python certs/make_pki.py [FOLDER] [--host NAME …] [--station ID …]`.

Makes, next to this file unless told otherwise (valid for a year, overwritten each time):

    stations-ca.pem   stations-ca.key     the CA of the stations' own certificates: `clientCAs=` of an ocpps: port
    station-<ID>.pem  station-<ID>.key    a station's certificate, CN = its id (security profile 3)
    broker-ca.pem                         what a station must trust to dial the broker: the two CAs below
    broker-ca-rsa.pem broker-ca-rsa.key   RSA all the way, for old stations
    broker-ca-ec.pem  broker-ca-ec.key    EC all the way
    broker-rsa.pem    broker-rsa.key      the broker's certificate, RSA
    broker-ec.pem     broker-ec.key       the broker's certificate, EC: both together serve every station
    cpms-ca.pem       cpms-ca.key         the CA of a CPMS: `cpms_ca_file`
    cpms.pem          cpms.key            the CPMS's certificate
    cpms-client.pem   cpms-client.key     what the broker shows the CPMS: `cpms_certificate`, `cpms_key_file`

For trying things out: the keys lie there unencrypted (mode 0600), and none of them is ever committed.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Private

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        plain = serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)

    def write(self, folder: Path, name: str) -> None:
        """`name`.pem and `name`.key, the key first and readable by its owner only."""
        key = folder / f"{name}.key"
        key.unlink(missing_ok=True)
        with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(self.key_pem)
        (folder / f"{name}.pem").write_bytes(self.pem)


def new_key(kind: str) -> Private:
    """`ec` (P-256) or `rsa` (2048 bits, the longest that old 1.6 stations must be able to use)."""
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Development"), x509.NameAttribute(NameOID.COMMON_NAME, name)])


def issue(
    name: str,
    signer: Issued | None,
    *,
    kind: str = "ec",
    hosts: Sequence[str] = (),
    client: bool = False,
    ca: bool = False,
    days: tuple[float, float] = (-1, 365),
) -> Issued:
    """A certificate for `name`: a server's (with its `hosts`), a client's, or a CA's. Without a `signer` it is a root CA.
    `days` from now: begin, end."""
    ca = ca or signer is None
    key, now = new_key(kind), datetime.now(UTC)
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    authority = signer.key if signer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject(name))
        .issuer_name(signer.certificate.subject if signer else subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([host_name(host) for host in hosts]), critical=False)
    return Issued(builder.sign(authority, hashes.SHA256()), key)


def usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make(folder: Path, hosts: Sequence[str] = LOCAL, stations: Sequence[str] = ("CS-1",)) -> list[str]:
    """Everything of the list above into `folder`; the names written."""
    folder.mkdir(parents=True, exist_ok=True)
    stations_ca, cpms_ca, ec_ca = (issue(f"Development {who} CA", None) for who in ("stations", "CPMS", "broker EC"))
    rsa_ca = issue("Development broker RSA CA", None, kind="rsa")
    made = {
        "stations-ca": stations_ca,
        "broker-ca-rsa": rsa_ca,
        "broker-ca-ec": ec_ca,
        "cpms-ca": cpms_ca,
        "broker-rsa": issue(hosts[0], rsa_ca, kind="rsa", hosts=hosts),
        "broker-ec": issue(hosts[0], ec_ca, hosts=hosts),
        "cpms": issue(hosts[0], cpms_ca, hosts=hosts),
        "cpms-client": issue("ocppbroker", cpms_ca, client=True),
    }
    made.update({f"station-{re.sub(r'[^A-Za-z0-9._-]', '_', id)}": issue(id, stations_ca, client=True) for id in stations})
    for name, issued in made.items():
        issued.write(folder, name)
    (folder / "broker-ca.pem").write_bytes(rsa_ca.pem + ec_ca.pem)
    return list(made)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Makes a development PKI; see the top of this file.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--host", action="append", help="a name or address the broker and CPMS are dialled by (default: this machine)")
    parser.add_argument("--station", action="append", help="a station's id (default: CS-1)")
    chosen = parser.parse_args(arguments)
    names = make(chosen.folder, chosen.host or LOCAL, chosen.station or ("CS-1",))
    print(f"wrote {len(names)} certificates and their keys into {chosen.folder}: {', '.join(names)}")


if __name__ == "__main__":
    main()
