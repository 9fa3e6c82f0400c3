"""A tenant whose passwords are checked here: who comes in, what is asked upstream, and what it costs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from fakes import Rig, header
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock

from broker.backoff import FREE
from broker.model.basics import Key
from broker.net.cpms import Refusal
from broker.net.credentials import AT_ONCE, KNOWN_S, MOST_WAITING, Credentials
from broker.passwords import hashed
from broker.settings import StationSettings

LINE = hashed(b"s3cret", b"0123456789abcdef")
CS7 = Key("acme", "CS-7")


def basic(said: bytes) -> bytes:
    return b"Basic " + b64encode(said)


def authorization(said: bytes) -> str:
    return f"Authorization: {basic(said).decode()}"


@pytest.fixture
def rig(rig: Rig) -> Rig:
    rig.tenant(credentials="check", unlisted="refuse", stations={"CS-7": StationSettings("CS-7", "relay", password_hash=LINE)})
    return rig


@pytest_twisted.ensureDeferred
async def test_the_right_password_comes_in_and_goes_on_as_it_came(rig: Rig) -> None:
    said = authorization(b"CS-7:s3cret")
    _, cpms = await rig.pair("/acme/CS-7", said)
    assert header(cpms.request, b"authorization") == [said.split(": ")[1].encode()]
    assert rig.opened[0].whom == "checked password"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("said", [b"CS-7:wrong", b"CS-8:s3cret", b"CS-7:", b"CS-7", None])
async def test_anything_else_is_401_and_the_cpms_hears_nothing(rig: Rig, said: bytes | None) -> None:
    head = await (await rig.dial("/acme/CS-7", *([authorization(said)] if said is not None else []))).head()
    assert head.split(b" ")[1] == b"401"
    assert header(head, b"www-authenticate") == [b'Basic realm="ocpp"']
    assert rig.cpms.wires == []
    assert rig.world.counts.of == {("refused", "401", "station"): 1}


@pytest_twisted.ensureDeferred
async def test_who_guesses_has_to_wait_and_others_do_not(rig: Rig) -> None:
    rig.tenant(stations={id: StationSettings(id, "relay", password_hash=LINE) for id in ("CS-7", "CS-8")})
    for _ in range(FREE + 1):
        assert await (await rig.dial("/acme/CS-7", authorization(b"CS-7:wrong"))).status() == 401
    head = await (await rig.dial("/acme/CS-7", authorization(b"CS-7:s3cret"))).head()
    assert head.split(b" ")[1] == b"429"
    assert header(head, b"retry-after") == [b"2"]
    await rig.pair("/acme/CS-8", authorization(b"CS-8:s3cret"))


# ---------------------------------------------------------------- what it costs


class Threads:
    """Runs nothing until told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Deferred[Any], Any]] = []

    def __call__(self, what: Any, *arguments: Any) -> Deferred[Any]:
        self.asked.append((Deferred(), (what, arguments)))
        return self.asked[-1][0]


def refused(deferred: Deferred[None]) -> int:
    said: list[Any] = []
    deferred.addErrback(said.append)
    refusal = said[0].value
    assert isinstance(refusal, Refusal)
    return refusal.status


def test_a_password_that_fitted_is_known_for_a_while_and_for_its_line_only() -> None:
    clock, worked = Clock(), []

    def at_once(_: Any, line: str, password: bytes) -> Deferred[Any]:
        worked.append(line)
        return succeed(password == b"s3cret")

    credentials = Credentials(clock.seconds, at_once)

    def check(line: str = LINE, password: bytes = b"s3cret") -> Deferred[None]:
        return ensureDeferred(credentials.check("a", CS7, line, basic(b"CS-7:" + password)))

    check(), check()
    assert worked == [LINE]
    check("another")
    assert worked == [LINE, "another"]
    assert refused(check(password=b"wrong")) == 401
    assert refused(check(password=b"wrong")) == 401
    assert len(worked) == 4, "a wrong one is never known"
    clock.advance(KNOWN_S)
    check()
    assert len(worked) == 5
    assert b"s3cret" not in repr(vars(credentials)).encode()


def test_few_are_worked_at_at_once_and_leaving_frees_no_place() -> None:
    threads = Threads()
    credentials = Credentials(Clock().seconds, threads)
    waiting = [ensureDeferred(credentials.check("a", Key("acme", str(n)), LINE, basic(b"%d:s3cret" % n))) for n in range(MOST_WAITING)]
    assert len(threads.asked) == AT_ONCE
    for one in waiting:
        one.addErrback(lambda _: None)
        one.cancel()
    assert len(threads.asked) == AT_ONCE
    assert refused(ensureDeferred(credentials.check("a", CS7, LINE, basic(b"CS-7:s3cret")))) == 503
    for done, _ in threads.asked:  # grows as places are freed
        done.callback(True)
    assert len(threads.asked) == MOST_WAITING
    ensureDeferred(credentials.check("a", CS7, LINE, basic(b"CS-7:s3cret")))
    assert len(threads.asked) == MOST_WAITING + 1


def test_what_cannot_be_checked_is_our_fault_and_nobody_s_failure() -> None:
    threads = Threads()
    credentials = Credentials(Clock().seconds, threads)
    for _ in range(FREE + 2):
        checked = ensureDeferred(credentials.check("a", CS7, LINE, basic(b"CS-7:s3cret")))
        threads.asked[-1][0].errback(MemoryError())
        assert refused(checked) == 503


# ---------------------------------------------------------------- credentials = "replace"


@pytest_twisted.async_yield_fixture
async def replacing() -> AsyncIterator[Rig]:
    rig = await Rig().start()
    stations = {"CS-7": StationSettings("CS-7", "relay"), "CS-8": StationSettings("CS-8", "relay", password_hash=LINE)}
    rig.tenant(credentials="replace", cpms_password="of-the-broker", unlisted="refuse", stations=stations)
    yield rig
    await rig.stop()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("said", [[], [authorization(b"CS-7:old")], [authorization(b"CS-7:old"), "X-Customer: 7"]])
async def test_the_cpms_is_shown_our_password_and_never_the_stations(replacing: Rig, said: list[str]) -> None:
    _, cpms = await replacing.pair("/acme/CS-7", *said)
    assert header(cpms.request, b"authorization") == [basic(b"CS-7:of-the-broker")]
    assert header(cpms.request, b"x-customer") == [b"7"] * (len(said) == 2)
    assert b"CS-7:old" not in cpms.request


@pytest_twisted.ensureDeferred
async def test_the_cpms_is_shown_a_user_of_the_tenants(replacing: Rig) -> None:
    replacing.tenant(cpms_user="broker-1")
    _, cpms = await replacing.pair("/acme/CS-7")
    assert header(cpms.request, b"authorization") == [basic(b"broker-1:of-the-broker")]


@pytest_twisted.ensureDeferred
async def test_a_changed_password_is_shown_from_the_next_connection_on(replacing: Rig) -> None:
    station, _ = await replacing.pair("/acme/CS-7")
    replacing.tenant(cpms_password="newer")
    assert not replacing.opened[0].over
    station.transport.loseConnection()
    await replacing.opened[0].when_gone()
    _, cpms = await replacing.pair("/acme/CS-7")
    assert header(cpms.request, b"authorization") == [basic(b"CS-7:newer")]


@pytest_twisted.ensureDeferred
async def test_a_station_with_a_password_of_its_own_is_judged_by_it(replacing: Rig) -> None:
    wrong = await (await replacing.dial("/acme/CS-8", authorization(b"CS-8:of-the-broker"))).head()
    assert wrong.split(b" ")[1] == b"401"
    assert replacing.cpms.wires == []
    _, cpms = await replacing.pair("/acme/CS-8", authorization(b"CS-8:s3cret"))
    assert header(cpms.request, b"authorization") == [basic(b"CS-8:of-the-broker")]
