"""`ocppbroker`: what it says, where it says it, and how it exits."""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import make_pki
import pytest

from broker import passwords
from broker.cli import main
from broker.net import files

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """
[[listen]]
endpoint = "ocpps:9443:certificate=broker-rsa.pem,broker-ec.pem:privateKey=broker-rsa.key,broker-ec.key:clientCAs=stations-ca.pem"
tenant = "acme"
[[tenants]]
name = "acme"
cpms_url = "wss://cpms.example.com"
cpms_ca_file = "cpms-ca.pem"
cpms_certificate = "cpms-client.pem"
cpms_key_file = "cpms-client.key"
station_ca_file = "stations-ca.pem"
security_profile = 3
"""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pki")
    make_pki.make(folder)
    return folder


@pytest.fixture
def config(pki: Path, tmp_path: Path) -> Path:
    for file in pki.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "broker.toml"
    path.write_text(CONFIG)
    return path


def test_the_example_is_fine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["check", "examples/broker.toml"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "listed: 1 relay, 2 shadow, 2 smart-charging" in said.out
    assert "not-a-real-secret" not in said.out


def test_what_a_configuration_means(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    assert main(["check", str(config)]) == 0
    said = capsys.readouterr().out
    assert "ocpps:9443 with path /<station> (only acme), client certificates required" in said
    assert f"certificate {config.parent}/broker-ec.pem: CN=localhost,O=Development, ends " in said
    assert "(in 364 days)" in said
    assert "RENEW IT" not in said


def test_a_port_for_old_stations_says_so(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    config.write_text(CONFIG.replace('stations-ca.pem"\ntenant', 'stations-ca.pem:minTLS=1.0:legacySuites=yes"\ntenant'))
    assert main(["check", str(config)]) == 0
    said = capsys.readouterr().out
    assert "client certificates required, TLS below 1.2 and suites without forward secrecy allowed: for old stations only" in said


def test_a_port_with_a_missing_list_of_revoked_certificates(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    config.write_text(CONFIG.replace('stations-ca.pem"\ntenant', 'stations-ca.pem:crl=list.pem"\ntenant'))
    assert main(["check", str(config)]) == 1
    assert f"listen[0].endpoint: {config.parent}/list.pem: No such file or directory" in capsys.readouterr().err


def test_every_mistake_on_stderr_and_exit_1(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    config.write_text(CONFIG.replace("wss://", "http://") + "unlistd = 1\n")
    assert main(["check", str(config)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "tenants[0].cpms_url: must start with ws:// or wss://",
        "tenants[0].unlistd: is not a key that we know (did you mean unlisted?)",
    ]


def test_json_for_machines(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    assert main(["check", "--json", str(config)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mistakes"] == []
    assert found["tenants"][0]["name"] == "acme"
    assert {Path(certificate["file"]).name for certificate in found["certificates"]} >= {"broker-rsa.pem", "cpms-client.pem"}
    config.write_text("nonsense")
    assert main(["check", "--json", str(config)]) == 1
    (mistake,) = json.loads(capsys.readouterr().out)["mistakes"]
    assert mistake.startswith("broker.toml:1: ")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("broker-ec.pem", None, "listen[0].endpoint: {folder}/broker-ec.pem: No such file or directory"),
        ("broker-ec.key", "rubbish", "listen[0].endpoint: {folder}/broker-ec.key: holds no PEM private key that can be read"),
        ("stations-ca.pem", "rubbish", "listen[0].endpoint: {folder}/stations-ca.pem: holds no PEM certificate that can be read"),
        ("cpms-ca.pem", "", "tenants acme.cpms_ca_file: {folder}/cpms-ca.pem: holds no PEM certificate that can be read"),
        ("cpms-client.key", None, "tenants acme.cpms_certificate: {folder}/cpms-client.key: No such file or directory"),
    ],
)
def test_files_that_are_no_use(capsys: pytest.CaptureFixture[str], config: Path, file: str, content: str | None, says: str) -> None:
    (config.parent / file).unlink()
    if content is not None:
        (config.parent / file).write_text(content)
    assert main(["check", str(config)]) == 1
    assert says.format(folder=config.parent) in capsys.readouterr().err.splitlines()


def test_a_key_of_another_certificate(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    (config.parent / "broker-ec.key").write_bytes((config.parent / "cpms.key").read_bytes())
    assert main(["check", str(config)]) == 1
    assert "broker-ec.key: is not the key of" in capsys.readouterr().err


def test_expiry(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    make_pki.issue("soon", None, days=(-1, 13.5)).write(config.parent, "cpms-ca")
    assert main(["check", str(config)]) == 0
    assert "CN=soon,O=Development" in (out := capsys.readouterr().out)
    assert "(in 13 days)  RENEW IT" in out
    make_pki.issue("over", None, days=(-9, -1)).write(config.parent, "cpms-ca")
    assert main(["check", str(config)]) == 1
    assert f"CN=over,O=Development ended on {datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}" in capsys.readouterr().err


def test_a_configuration_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", str(tmp_path / "none.toml")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/none.toml: cannot be read: No such file or directory\n"
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    assert main(["check", str(tmp_path / "b.toml")]) == 1
    assert "is not UTF-8 text" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [[], ["chekc"], ["check", "--unknown"], ["check", "a", "b"]])
def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str], wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(wrong)
    assert exit.value.code == 2
    assert "usage: ocppbroker" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out.startswith("ocppbroker 0.")


def test_included_files_are_found_on_disk(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    for name in ("b", "a"):
        (tmp_path / "tenants" / f"{name}.toml").write_text(f'[[tenants]]\nname = "{name}"\ncpms_url = "ws://x"\n')
    (tmp_path / "broker.toml").write_text('include = ["tenants/*.toml"]\n[[listen]]\nendpoint = "tcp:0"\n')
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        found = files.load("broker.toml", {})
    finally:
        os.chdir(here)
    assert list(found.tenants) == ["a", "b"]
    assert found.broker.state == f"{tmp_path}/var/ocppbroker.sqlite"


def test_a_line_for_the_station_list(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    assert main(["hash-password", "--password-file", str(tmp_path / "password")]) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
    assert main(["hash-password"]) == 0
    first, second = (next(csv.reader([line]))[0] for line in capsys.readouterr().out.splitlines())
    assert first != second, "each has a salt of its own"
    assert all(passwords.fault(line) == "" and passwords.fits(line, b"s3cret") for line in (first, second))


def test_no_line_without_a_password(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("\n")
    assert main(["hash-password", "--password-file", str(tmp_path / "password")]) == 1
    assert main(["hash-password", "--password-file", str(tmp_path / "none")]) == 1
    said = capsys.readouterr()
    assert "the password is empty" in said.err
    assert "No such file" in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("acme", "a/b"), "acme/a/b: the broker itself would refuse it: its path: a segment holds a dot segment, a slash, a backslash"),
        (
            ("acme", "CS-7", "--protocols", "ocpp1.6, o o"),
            "acme/CS-7: the broker itself would refuse it: 'o o' is no name of a subprotocol",
        ),
    ],
)
def test_no_cpms_is_dialled_for_whom_the_broker_would_refuse(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    (tmp_path / "broker.toml").write_text('[[listen]]\nendpoint = "tcp:0"\n[[tenants]]\nname = "acme"\ncpms_url = "ws://127.0.0.1:1"\n')
    assert main(["probe", str(tmp_path / "broker.toml"), *words]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"ocppbroker: {why}")
    assert said.out == ""
