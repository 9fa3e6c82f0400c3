"""`make scan`: sslyze, and testssl.sh where there is one, against the TLS port of a broker that runs. Exit 1 if either finds a weakness.

    python tests/scan.py PYTHON      PYTHON: an interpreter that has sslyze, apart from the project's own

What is not the port's is left out: that the certificates of `certs/make_pki.py` are of no public CA.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import make_pki
from running import Running, free_port

CONFIG = """
[[listen]]
endpoint = "ocpps:{port}:interface=127.0.0.1:certificate=broker-rsa.pem,broker-ec.pem:privateKey=broker-rsa.key,broker-ec.key"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:9/ocpp"
mode = "relay"
"""
SCANS = (
    *("sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "compression", "reneg", "robot", "heartbleed"),
    *("openssl_ccs", "fallback", "early_data"),
)
MOST_S = 600.0
SELF_MADE = ("cert_chain_of_trust", "cert_revocation", "cert_trust")  # of testssl.sh's findings
SAFE = ("_GCM_", "_CHACHA20_POLY1305_")


def weaknesses(found: dict[str, Any]) -> list[str]:
    """In sslyze's answer. A scan that did not complete is one too: nobody knows."""
    wrong = [f"{name}: {one['status']}" for name, one in found.items() if one["status"] not in ("COMPLETED", "NOT_SCHEDULED")]
    result = {name: one["result"] for name, one in found.items() if one["result"] is not None}
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        wrong += [f"{version}: spoken" for _ in result[f"{version}_cipher_suites"]["accepted_cipher_suites"]]
    for version in ("tls_1_2", "tls_1_3"):
        suites = [one["cipher_suite"]["name"] for one in result[f"{version}_cipher_suites"]["accepted_cipher_suites"]]
        forward_secret = "TLS_ECDHE_" if version == "tls_1_2" else "TLS_"
        wrong += [
            f"{version}: {suite}" for suite in suites if not suite.startswith(forward_secret) or not any(safe in suite for safe in SAFE)
        ]
        wrong += [] if suites else [f"{version}: not spoken"]
    expected = {
        ("tls_compression", "supports_compression"): False,
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos"): False,
        ("heartbleed", "is_vulnerable_to_heartbleed"): False,
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection"): False,
        ("tls_1_3_early_data", "supports_early_data"): False,
        ("tls_fallback_scsv", "supports_fallback_scsv"): True,
        ("robot", "robot_result"): "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
    }
    return wrong + [f"{scan}: {what} is {result[scan][what]}" for (scan, what), right in expected.items() if result[scan][what] != right]


def sslyze(python: str, port: int, folder: Path) -> list[str]:
    command = [python, "-m", "sslyze", f"--json_out={folder}/sslyze.json", "--mozilla_config=disable", *(f"--{scan}" for scan in SCANS)]
    subprocess.run([*command, f"127.0.0.1:{port}"], check=True, timeout=MOST_S, stdout=subprocess.DEVNULL)
    (server,) = json.loads((folder / "sslyze.json").read_text())["server_scan_results"]
    return [f"sslyze: {wrong}" for wrong in weaknesses(server["scan_result"])]


def testssl(command: str, port: int, folder: Path) -> list[str]:
    options = ["--quiet", "--color", "0", "--warnings", "off", "--jsonfile", f"{folder}/testssl.json", "--severity", "MEDIUM"]
    subprocess.run([command, *options, f"https://127.0.0.1:{port}"], check=False, timeout=MOST_S, stdout=subprocess.DEVNULL)
    found = json.loads((folder / "testssl.json").read_text())
    weak = [one for one in found if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL") and not one["id"].startswith(SELF_MADE)]
    return [f"testssl.sh: {one['severity']}: {one['id']}: {one['finding']}" for one in weak]


def main(python: str) -> int:
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pki.make(folder)
        with Running(folder, CONFIG.format(port=port)) as broker:
            wrong = sslyze(python, port, folder)
            script = shutil.which("testssl") or shutil.which("testssl.sh")
            wrong += testssl(script, port, folder) if script else []
            stopped = broker.stop()
        wrong += ["the broker's log has an error"] if stopped or "Traceback" in broker.log.read_text() else []
    said = "\n".join(wrong) or f"sslyze{' and testssl.sh' if script else ' (testssl.sh is not installed)'}: no weakness"
    sys.stdout.write(said + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
