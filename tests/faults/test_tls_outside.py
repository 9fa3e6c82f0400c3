"""The running service's TLS, from outside: Python's own TLS as stations and as CPMSs, and certificates that change under it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.tls import ALARM_S, PING, Renewal, Rig, with_cpms
from make_pki import Issued


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    one = Rig(tmp_path_factory.mktemp("tls"))
    with one.broker:
        yield one
        assert one.broker.stop() == 0
        assert "Traceback" not in one.broker.log.read_text()
    for cpms in one.cpmss.values():
        cpms.close()


@pytest.mark.parametrize("offers", [[], ["http/1.1"], ["h2"], ["ocpp1.6"], ["h2", "http/1.1"], [f"p{n}" for n in range(200)]])
def test_row_50_whatever_alpn_a_client_offers_it_is_let_in(rig: Rig, offers: list[str]) -> None:
    def story() -> None:
        one = rig.dial(rig.port, "/acme/R50", change=lambda context: context.set_alpn_protocols(offers) if offers else None)
        assert one.said.startswith(b"HTTP/1.1 101 ")
        assert one.alpn == ("http/1.1" if "http/1.1" in offers else None)
        one.close()

    with_cpms(rig, story)


def only(version: ssl.TLSVersion, ciphers: str = "") -> Callable[[ssl.SSLContext], None]:
    def change(context: ssl.SSLContext) -> None:
        context.minimum_version, context.maximum_version = version, version
        context.set_ciphers(ciphers or "DEFAULT:@SECLEVEL=0")

    return change


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_row_51_56_suites_of_ocpp_are_there_and_weak_ones_and_old_versions_are_not(rig: Rig) -> None:
    def story() -> None:
        for suite in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"):
            one = rig.dial(rig.port, "/acme/R51", change=only(ssl.TLSVersion.TLSv1_2, suite))
            assert one.said.startswith(b"HTTP/1.1 101 ")
            one.close()
        for suite in ("AES128-GCM-SHA256", "AES256-SHA", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"):
            with pytest.raises(OSError, match=r"(?i)handshake|alert|eof|reset"):
                rig.dial(rig.port, "/acme/R51", change=only(ssl.TLSVersion.TLSv1_2, suite))
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises(OSError, match=r"(?i)version|alert|eof|reset|protocol"):
                rig.dial(rig.port, "/acme/R51", change=only(version))

    with_cpms(rig, story)


def test_row_52_a_certificate_that_is_no_good_is_refused_with_a_line_that_says_why(rig: Rig) -> None:
    def refused(shows: Issued | None, path: str = "/acme/CS-7") -> bytes:
        try:
            one = rig.dial(rig.strict, path, shows)
        except OSError:
            return b"tls"
        one.close()
        return one.said[9:12]

    def story() -> None:
        one = rig.dial(rig.strict, "/acme/CS-7", rig.good)
        assert one.said.startswith(b"HTTP/1.1 101 ")
        for name, shows in rig.bad.items():
            assert refused(shows) in (b"tls", b""), name  # under TLS 1.3 the client hears of it after its own part
        assert refused(None) in (b"tls", b"")
        assert refused(rig.good, "/acme/CS-8") == b"401", "another's path"
        one.secure.sendall(PING)
        assert one.secure.recv(2) == b"\x8a\x00", "who was let in is unharmed"
        one.close()

    with_cpms(rig, story)
    log = rig.broker.log.read_text()
    for word in ("expired", "not yet valid", "revoked", "taken back", "shows no client certificate", "another station's"):
        assert word in log or word in ("revoked", "taken back"), word
    assert "revoked" in log or "taken back" in log


def test_row_55_a_cpms_that_is_not_who_it_should_be_is_502_and_hears_nothing(rig: Rig) -> None:
    for name, cpms in rig.cpmss.items():
        one = rig.dial(rig.port, f"/{name}/R55")
        assert one.said.startswith(b"HTTP/1.1 502 "), name
        one.close()
        assert (cpms.dialled, [said for said in cpms.asked if said]) == (1, []), name


@pytest.mark.timeout(400)
def test_row_53_54_what_is_renewed_is_used_and_what_does_not_load_or_ends_soon_is_an_alarm(renewal: Renewal) -> None:
    """Each alarm clears itself; what loaded last stays in use; who is connected notices nothing. Asserted in `tls.renewed`."""
    log, metrics = renewal.told.result(380)
    for name in ("certificate", "files", "crl"):
        assert log.count(f"alarm {name} of") >= 2, "raised, and cleared"
        assert f'ocppbroker_alarms{{name="{name}"}} 0.0' in metrics
    assert "Traceback" not in log


def test_row_54_a_list_that_does_not_load_at_a_start_costs_its_own_port_alone(tmp_path: Path) -> None:
    """The last good one went with the process: a fetch that failed some time ago must not keep every station out after a reboot."""
    rig = Rig(tmp_path)
    file = rig.pki / "list.pem"
    good = file.read_bytes()
    file.write_bytes(b"<html>502 Bad Gateway</html>")

    def let_in() -> bool:
        try:
            one = rig.dial(rig.strict, "/acme/CS-7", rig.good)
        except OSError:
            return False
        one.close()
        return one.said.startswith(b"HTTP/1.1 101 ")

    def until(holds: Callable[[], object]) -> None:
        end = time.monotonic() + ALARM_S
        while not holds():
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.5)  # the process has its own clock

    def story() -> None:
        one = rig.dial(rig.port, "/acme/R54")
        assert one.said.startswith(b"HTTP/1.1 101 ")
        one.close()
        assert not let_in(), "who knows whether it is revoked?"
        until(lambda: "files" in rig.alarms())
        assert str(file) in rig.alarms()["files"]["text"]
        file.write_bytes(good)
        until(let_in)

    with rig.broker:
        with_cpms(rig, story)
        log = rig.broker.log.read_text()
        assert f"until it loads, stations are refused at port {rig.strict}" in log
        assert "client certificate 'CS-7': unable to get crl, from 127.0.0.1" in log
        assert "Traceback" not in log
    for cpms in rig.cpmss.values():
        cpms.close()
