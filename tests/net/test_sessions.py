"""TLS toward a CPMS is gone on with, for a while and only what was verified: real handshakes, on a clock of the test's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from OpenSSL import SSL
from tlsends import Ends
from tlsports import Caller, Open, Port, owned

from broker.net.sessions import USED_S
from broker.net.tls import CpmsTLS
from broker.settings import TenantSettings

TENANT = TenantSettings(name="acme", cpms_url="wss://localhost/ocpp")


class Dialling:
    """A CPMS, and dials of it; `reused` tells whether a dial went on with what an earlier one began."""

    def __init__(self, port: Port, folder: Path, newest: int = SSL.TLS1_3_VERSION) -> None:
        self.now, self.port, self.newest = 100.0, port, newest
        self.ca = folder / "cpms-ca.pem"
        self.tls = CpmsTLS(replace(TENANT, cpms_ca_file=str(self.ca)), lambda: self.now)
        self.tls.options.look_every_s = 0

    async def dial(self, keep: bool = True) -> bool:
        caller: Caller = await self.port.dial(self.tls)
        transport: Any = caller.transport
        if keep:
            self.tls.sessions.keep(transport)
        return bool(SSL._lib.SSL_session_reused(transport.getHandle()._ssl))  # type: ignore[attr-defined]  # pyOpenSSL does not say it


async def dialling(ports: Open, folder: Path, pki: Path) -> Dialling:
    for name in ("cpms", "cpms-ca"):
        owned(pki, name).write(folder, name)
    return Dialling(await ports(folder, certificate=f"{folder}/cpms.pem", privateKey=f"{folder}/cpms.key"), folder)


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest_twisted.ensureDeferred
async def test_the_second_dial_goes_on_with_the_first(ports: Open, pki: Path, tmp_path: Path, newest: int) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    cpms.port.endpoint.contexts.get().set_max_proto_version(newest)
    assert [await cpms.dial(), await cpms.dial(), await cpms.dial()] == [False, True, True]


@pytest_twisted.ensureDeferred
async def test_only_what_came_through_is_kept_and_a_failure_lets_it_go(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    assert [await cpms.dial(keep=False), await cpms.dial(), await cpms.dial()] == [False, False, True]
    cpms.tls.sessions.forget()
    assert [await cpms.dial(), await cpms.dial()] == [False, True]


@pytest_twisted.ensureDeferred
async def test_after_ten_minutes_certificates_are_looked_at_again(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    assert not await cpms.dial()
    cpms.now += USED_S - 1
    assert await cpms.dial(), "and does not prolong it"
    cpms.now += 1
    assert [await cpms.dial(), await cpms.dial()] == [False, True]


@pytest_twisted.ensureDeferred
async def test_one_that_goes_on_is_no_new_beginning(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    await cpms.dial()
    resumed: Caller = await cpms.port.dial(cpms.tls)
    cpms.now += USED_S
    cpms.tls.sessions.keep(resumed.transport)
    assert not await cpms.dial()


@pytest_twisted.ensureDeferred
async def test_new_files_mean_a_new_look(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    assert [await cpms.dial(), await cpms.dial()] == [False, True]
    stale: Caller = await cpms.port.dial(cpms.tls)
    owned(pki, "stations-ca").write(tmp_path, "cpms-ca")  # another authority: the CPMS is not trusted any more
    os.utime(cpms.ca, (1, 1))
    cpms.now += 10
    with pytest.raises(Exception, match=r"(?i)certificate|verif"):
        await cpms.dial()
    cpms.tls.sessions.keep(stale.transport)  # what was verified by the old authority does not come back by the back door
    with pytest.raises(Exception, match=r"(?i)certificate|verif"):
        await cpms.dial()


def test_where_the_connection_that_began_was_cut_the_next_dial_goes_on_all_the_same(pki: Path) -> None:
    """OpenSSL resumes nothing of one that is freed without a good-bye; a load balancer ends many so."""
    cpms, resumed = Ends(pki, b"X25519:P-256"), []
    for _ in range(4):
        resumed.append(cpms.dial()[1])
        del cpms.alive[:-1]
    assert resumed == [False, True, True, True]


@pytest_twisted.ensureDeferred
async def test_what_comes_through_after_a_dial_failed_brings_nothing_back(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    await cpms.dial()
    late: Caller = await cpms.port.dial(cpms.tls)
    cpms.tls.sessions.forget()
    cpms.tls.sessions.keep(late.transport)
    assert not await cpms.dial()


@pytest_twisted.ensureDeferred
async def test_what_went_on_is_used_no_longer_than_what_it_went_on_with(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    await cpms.dial()
    cpms.now += USED_S - 1
    assert [await cpms.dial(), await cpms.dial()] == [True, True]
    cpms.now += 1
    assert not await cpms.dial()


@pytest_twisted.ensureDeferred
async def test_where_the_cpms_knows_it_no_more_the_next_dial_is_a_new_beginning(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    assert [await cpms.dial(), await cpms.dial()] == [False, True]
    os.utime(tmp_path / "cpms.pem", (1, 1))  # it was started anew
    cpms.now += USED_S - 1
    assert [await cpms.dial(), await cpms.dial()] == [False, True]
    cpms.now += USED_S - 1
    assert await cpms.dial(), "whose certificate was looked at then"


@pytest_twisted.ensureDeferred
async def test_one_that_went_on_just_before_the_end_does_not_last_longer_with_the_next(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    await cpms.dial()
    late: Caller = await cpms.port.dial(cpms.tls)
    cpms.now += USED_S
    await cpms.dial()
    new = cpms.tls.sessions._session
    cpms.tls.sessions.keep(late.transport)
    assert cpms.tls.sessions._session is new


@pytest_twisted.ensureDeferred
async def test_dials_side_by_side_begin_one_session(ports: Open, pki: Path, tmp_path: Path) -> None:
    cpms = await dialling(ports, tmp_path, pki)
    one, other = [await cpms.port.dial(cpms.tls), await cpms.port.dial(cpms.tls)]
    cpms.tls.sessions.keep(one.transport)
    cpms.now += 1
    cpms.tls.sessions.keep(other.transport)
    cpms.now += USED_S - 1
    assert not await cpms.dial(), "ten minutes from the first"
