"""A broker behind TLS with CPMSs of every kind, stations that are Python's own TLS, and a story that waits: certificates that change."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import make_pki
from cryptography import x509
from faults.outside import LATE_S, Cpms, Gone
from faults.test_door import asking
from make_pki import Issued, issue
from net.test_crl import pem, revoking
from running import Running, free_port

PING, PONG = b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0"
ALARM_S = 90.0  # looked at every 10 s, files at each look; the rest is for a busy machine


class Greeter:
    """A CPMS over TLS that shows this certificate. `asked`: requests that came through."""

    def __init__(self, folder: Path, shows: Issued) -> None:
        shows.write(folder, "cpms")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "cpms.pem", folder / "cpms.key")
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.dialled, self.asked = 0, list[bytes]()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = self._listening.accept()
                self.dialled += 1
                one.settimeout(10)
                with contextlib.suppress(OSError), self._context.wrap_socket(one, server_side=True) as secure:
                    self.asked.append(secure.recv(4096))

    def close(self) -> None:
        self._listening.close()


class Rig:
    """A broker with a port for everybody and one for certificates, both over TLS; a tenant that works, and three whose CPMS is no good."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pki = folder, folder / "pki"
        make_pki.make(self.pki, stations=())
        self.authority, self.foreign = issue("Stations", None), issue("Others", None)
        self.authority.write(self.pki, "stations")
        self.good = issue("CS-7", self.authority, client=True)
        self.bad = {
            "expired": issue("CS-7", self.authority, client=True, days=(-30, -1)),
            "not yet": issue("CS-7", self.authority, client=True, days=(1, 30)),
            "revoked": issue("CS-7", self.authority, client=True),
            "of a foreign CA": issue("CS-7", self.foreign, client=True),
            "a server's": issue("CS-7", self.authority),
        }
        (self.pki / "list.pem").write_bytes(pem(revoking(self.authority, self.bad["revoked"])))
        cpms_ca = make_pki.issue("CPMSs", None)
        cpms_ca.write(self.pki, "cpmss")
        hosts, make = ["127.0.0.1"], [("wrong", ["example.com"], cpms_ca, (-1.0, 30.0)), ("untrusted", None, self.foreign, (-1.0, 30.0))]
        make.append(("expired", None, cpms_ca, (-30.0, -1.0)))
        self.cpmss = {name: Greeter(self.pki, issue(name, ca, hosts=named or hosts, days=days)) for name, named, ca, days in make}
        self.port, self.strict, self.cpms_port = free_port(), free_port(), free_port()
        ours = f"certificate={self.pki}/broker-ec.pem:privateKey={self.pki}/broker-ec.key"
        config = f"""
[[listen]]
endpoint = "ocpps:{self.port}:interface=127.0.0.1:{ours}"
[[listen]]
endpoint = "ocpps:{self.strict}:interface=127.0.0.1:{ours}:clientCAs={self.pki}/stations.pem:crl={self.pki}/list.pem"
[[tenants]]
name = "acme"
cpms_url = "ws://127.0.0.1:{self.cpms_port}/ocpp"
station_ca_file = "{self.pki}/stations.pem"
"""
        for name, one in self.cpmss.items():
            config += f'[[tenants]]\nname = "{name}"\ncpms_url = "wss://127.0.0.1:{one.port}"\ncpms_ca_file = "{self.pki}/cpmss.pem"\n'
        self.broker = Running(folder, config)

    def alarms(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.broker.get("/api/v1/alarms")["alarms"]}

    def dial(self, port: int, path: str, shows: Issued | None = None, change: Callable[[ssl.SSLContext], None] = lambda _: None) -> Dialled:
        """A station's whole handshake. Raises OSError when TLS fails."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        change(context)
        if shows is not None:
            shows.write(self.folder, "shown")
            context.load_cert_chain(self.folder / "shown.pem", self.folder / "shown.key")
        secure = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))
        secure.settimeout(30)
        secure.sendall(asking(path))
        return Dialled(secure)


class Dialled:
    """A station's connection: what it was answered, and whose certificate it saw."""

    def __init__(self, secure: ssl.SSLSocket) -> None:
        self.secure = secure
        self.said = secure.recv(4096)
        self.alpn = secure.selected_alpn_protocol()
        shown = secure.getpeercert(binary_form=True)
        assert shown is not None
        self.serial = x509.load_der_x509_certificate(shown).serial_number

    def close(self) -> None:
        self.secure.close()


def with_cpms(rig: Rig, story: Callable[[], None], lives: str = "") -> None:
    """The story in a thread, a CPMS beside it, which answers pings on this station's connection."""

    async def whole() -> None:
        async with Cpms(rig.cpms_port) as cpms:

            async def live() -> None:
                with contextlib.suppress(Gone, TimeoutError):
                    await (await cpms.peer(lives)).hear(3600)

            living = asyncio.create_task(live())
            await asyncio.to_thread(story)
            living.cancel()

    asyncio.run(whole())


class Renewal:
    """Runs from the beginning on, beside the other tests, for it mostly waits. `result` raises what went wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1)
        self.told = self._thread.submit(self._whole)

    def _whole(self) -> tuple[str, str]:
        """The log and the metrics when it was over."""
        rig = Rig(self._folder)
        with rig.broker:
            renewed(rig)
            return rig.broker.log.read_text(), str(rig.broker.get("/metrics"))


def renewed(rig: Rig) -> None:
    """What is renewed is used; what does not load or ends soon is an alarm, which clears itself; who is connected notices nothing."""
    ca = issue("New CA", None)

    def renew(days: float) -> int:
        new = issue("localhost", ca, hosts=("127.0.0.1",), days=(-1, days))
        new.write(rig.pki, "broker-ec")
        return new.certificate.serial_number

    def publish(due: float) -> None:
        (rig.pki / "list.pem").write_bytes(pem(revoking(rig.authority, rig.bad["revoked"], due=due)))

    def until(holds: Callable[[], object], within_s: float, living: Dialled) -> None:
        end = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end, "it did not come about"
            living.secure.sendall(PONG)
            time.sleep(0.2)  # the process has its own clock

    def shown() -> int:
        one = rig.dial(rig.port, "/acme/R53-new")
        one.close()
        return one.serial

    def story() -> None:
        living = rig.dial(rig.port, "/acme/R53")
        ending = renew(5)
        (rig.pki / "list.pem").write_text("no list")
        until(lambda: shown() == ending, 60.0 + LATE_S, living)
        until(lambda: {"certificate", "files"} <= rig.alarms().keys(), ALARM_S, living)
        assert {rig.alarms()[name]["fault"] for name in ("certificate", "files")} == {"operator"}
        one = rig.dial(rig.strict, "/acme/CS-7", rig.good)
        assert one.said.startswith(b"HTTP/1.1 101 "), "a broken list locks nobody out"
        one.close()
        with contextlib.suppress(OSError):
            assert rig.dial(rig.strict, "/acme/CS-7", rig.bad["revoked"]).said == b"", "nor is anybody let in by it"
        lasting = renew(300)
        publish(due=-1)
        until(lambda: "crl" in rig.alarms() and not {"files", "certificate"} & rig.alarms().keys(), ALARM_S, living)
        one = rig.dial(rig.strict, "/acme/CS-7", rig.good)
        assert one.said.startswith(b"HTTP/1.1 101 "), "overdue by a day: within crlGrace"
        one.close()
        publish(due=30)
        until(lambda: "crl" not in rig.alarms(), ALARM_S, living)
        until(lambda: shown() == lasting, 60.0 + LATE_S, living)
        living.secure.sendall(PING)
        said = b""
        while b"\x8a\x00" not in said:
            said += (more := living.secure.recv(4096))
            assert more, "it was not dropped"
        living.close()

    with_cpms(rig, story, "R53")
