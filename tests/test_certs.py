"""The development PKI: complete, private, and what each certificate says."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import make_pki
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pki")
    make_pki.main([str(folder), "--station", "CS-7", "--station", "a b/c"])
    return folder


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.mark.parametrize(
    ("leaf", "authority"),
    [
        ("broker-rsa", "broker-ca-rsa"),
        ("broker-ec", "broker-ca-ec"),
        ("cpms", "cpms-ca"),
        ("cpms-client", "cpms-ca"),
        ("station-CS-7", "stations-ca"),
        ("station-a_b_c", "stations-ca"),
    ],
)
def test_each_leaf_is_signed_by_its_authority_and_has_its_key(folder: Path, leaf: str, authority: str) -> None:
    certificate = load(folder / f"{leaf}.pem")
    certificate.verify_directly_issued_by(load(folder / f"{authority}.pem"))
    key = load_pem_private_key((folder / f"{leaf}.key").read_bytes(), None)
    assert key.public_key() == certificate.public_key()


def test_a_station_is_named_by_its_certificate(folder: Path) -> None:
    certificate = load(folder / "station-a_b_c.pem")
    assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "a b/c"
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_the_broker_is_dialled_by_this_machines_names(folder: Path) -> None:
    names = load(folder / "broker-ec.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_keys_are_readable_by_their_owner_only(folder: Path) -> None:
    modes = {stat.S_IMODE(key.stat().st_mode) for key in folder.glob("*.key")}
    assert modes == {0o600}


def test_what_it_writes_is_never_committed(folder: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    paths = [f"certs/{file.name}" for file in folder.iterdir()]
    ignored = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")
    assert set(paths) <= {line.strip('"') for line in ignored}
