"""credentials = "replace": a station comes in by its own rules, and the CPMS is shown credentials of ours, over real sockets."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig, Wire, header
from twisted.logger import formatEvent, globalLogPublisher

from broker.passwords import hashed
from broker.settings import StationSettings

OURS = "cpms-s3cret"
OWN = "Authorization: Basic " + b64encode(b"CS-7:own-s3cret").decode()
WRONG = "Authorization: Basic " + b64encode(b"CS-7:wrong").decode()


@pytest.fixture
def rig(rig: Rig) -> Rig:
    rig.tenant(credentials="replace", cpms_password=OURS, unlisted="refuse", stations={"CS-7": StationSettings("CS-7", "relay")})
    return rig


@pytest.fixture
def events() -> Iterator[list[str]]:
    """What the log is given, formatted and raw."""
    said: list[str] = []

    def observe(event: Any) -> None:
        said.append(f"{formatEvent(event)} {event!r}")

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)


def shown(cpms: Wire) -> list[bytes]:
    return header(cpms.request, b"authorization")


def basic(said: str) -> list[bytes]:
    return [b"Basic " + b64encode(said.encode())]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("own", [[], [OWN], ["authorization: Bearer x"]])
async def test_whatever_the_station_shows_the_cpms_sees_ours_and_no_other(rig: Rig, own: list[str], events: list[str]) -> None:
    _, cpms = await rig.pair("/acme/CS-7", *own)
    assert shown(cpms) == basic(f"CS-7:{OURS}")
    encoded = basic(f"CS-7:{OURS}")[0].decode()
    assert events
    assert not [line for line in events if OURS in line or encoded in line or "own-s3cret" in line]


@pytest_twisted.ensureDeferred
async def test_as_another_user(rig: Rig) -> None:
    rig.tenant(cpms_user="broker")
    _, cpms = await rig.pair("/acme/CS-7", OWN)
    assert shown(cpms) == basic(f"broker:{OURS}")


@pytest_twisted.ensureDeferred
async def test_a_new_password_counts_from_the_next_connection(rig: Rig) -> None:
    stations = {id: StationSettings(id, "relay") for id in ("CS-7", "CS-8")}
    rig.tenant(stations=stations)
    station, cpms = await rig.pair()
    rig.tenant(cpms_password="newer")
    rig.door.forget()
    station.say(b"x")
    assert await cpms.hear() == b"x", "an open link keeps what it was opened with"
    _, later = await rig.pair("/acme/CS-8")
    assert shown(later) == basic("CS-8:newer")


@pytest_twisted.ensureDeferred
async def test_a_station_with_a_hash_is_asked_for_its_own_password(rig: Rig) -> None:
    line = hashed(b"own-s3cret", b"0123456789abcdef")
    rig.tenant(stations={"CS-7": StationSettings("CS-7", "relay", password_hash=line)})
    assert await (await rig.dial("/acme/CS-7", WRONG)).status() == 401
    assert rig.cpms.wires == []
    _, cpms = await rig.pair("/acme/CS-7", OWN)
    assert shown(cpms) == basic(f"CS-7:{OURS}")


@pytest_twisted.ensureDeferred
async def test_the_tenant_s_security_profile_is_still_asked_of_the_station(rig: Rig) -> None:
    rig.tenant(security_profile=1)
    assert await (await rig.dial("/acme/CS-7")).status() == 401
    assert rig.cpms.wires == []
    await rig.pair("/acme/CS-7", OWN)
