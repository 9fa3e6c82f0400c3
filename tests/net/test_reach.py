"""One connection to a host: which of its addresses are tried, when, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from fakes import FakeCpms, Wound, until
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from broker.net.reach import HEAD_START_S, reach


class Try:
    """A connector at one address."""

    def __init__(self, host: str, factory: Any) -> None:
        self.host, self.factory, self.over = host, factory, False
        self.transport = SimpleNamespace()

    def disconnect(self) -> None:
        self.over = True
        self.fails()

    def fails(self, why: Exception | None = None) -> None:
        self.factory.clientConnectionFailed(self, Failure(why or ConnectionRefusedError(self.host)))

    def connects(self) -> Any:
        return self.factory.buildProtocol(None)


class Net(Clock):
    """A reactor whose names have these addresses, once `found` is called."""

    def __init__(self, *addresses: str) -> None:
        super().__init__()
        self.addresses = addresses
        self.tries: list[Try] = []
        self.nameResolver = self
        self.asked: list[str] = []
        self.found: Callable[[], None] = lambda: None

    def resolveHostName(self, receiver: Any, host: str, port: int) -> None:
        self.asked.append(host)
        receiver.resolutionBegan(SimpleNamespace(name=host))

        def found() -> None:
            for address in self.addresses:
                receiver.addressResolved(IPv4Address("TCP", address, port))
            receiver.resolutionComplete()

        self.found = found

    def connectTCP(self, host: str, port: int, factory: Any, timeout: object) -> Try:
        assert (port, timeout) == (443, None), "who dials has a timer of its own"
        self.tries.append(Try(host, factory))
        return self.tries[-1]


def begun(net: Net, host: str = "cpms.example.com") -> tuple[Callable[[], object], list[Failure]]:
    told: list[Failure] = []
    stop = reach(net, host, 443, "the protocol", None, told.append)
    net.found()
    return stop, told


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_is_dialled_straight_away(host: str) -> None:
    net = Net()
    _, told = begun(net, host)
    assert ([one.host for one in net.tries], net.asked) == ([host], [])
    assert net.tries[0].connects() == "the protocol"
    assert (told, net.getDelayedCalls()) == ([], [])


def test_the_first_that_answers_in_time_is_the_only_one_tried() -> None:
    net = Net("a", "b")
    _, told = begun(net)
    assert net.asked == ["cpms.example.com"]
    net.advance(HEAD_START_S * 0.9)
    assert net.tries[0].connects() == "the protocol"
    net.advance(9)
    assert ([one.host for one in net.tries], told, net.getDelayedCalls()) == (["a"], [], [])


def test_a_silent_one_has_a_head_start_and_is_given_up_when_another_answers() -> None:
    net = Net("a", "b", "c")
    _, told = begun(net)
    net.advance(HEAD_START_S)
    assert [one.host for one in net.tries] == ["a", "b"]
    assert net.tries[1].connects() == "the protocol"
    assert [one.over for one in net.tries] == [True, False]
    assert net.tries[0].connects() is None, "it comes too late"
    net.advance(9)
    assert (len(net.tries), told) == (2, [])


def test_after_one_that_fails_the_next_is_tried_at_once_and_the_last_failure_is_told_once() -> None:
    net = Net("a", "b", "c")
    _, told = begun(net)
    net.advance(HEAD_START_S * 0.5)
    net.tries[0].fails()
    assert [one.host for one in net.tries] == ["a", "b"]
    net.advance(HEAD_START_S * 0.9)
    assert len(net.tries) == 2, "each has its own head start"
    net.tries[1].fails()
    net.advance(9)
    assert told == []
    net.tries[2].fails(OSError("the last"))
    assert [str(one.value) for one in told] == ["the last"]
    assert net.getDelayedCalls() == []


def test_while_one_is_still_tried_nobody_is_told_that_another_failed() -> None:
    net = Net("a", "b")
    _, told = begun(net)
    net.advance(HEAD_START_S)
    net.tries[1].fails()
    assert told == []
    assert net.tries[0].connects() == "the protocol"


def test_a_name_without_an_address_and_one_that_cannot_be() -> None:
    net = Net()
    _, told = begun(net)
    assert [one.type for one in told] == [DNSLookupError]
    net = Net("a")
    _, told = begun(net, "x" * 64 + ".example.com")
    assert (net.asked, told) == ([], [])
    net.advance(0)
    assert [one.type for one in told] == [DNSLookupError]
    stop, told = begun(net, "x" * 64 + ".example.com")
    stop()
    net.advance(0)
    assert told == [], "nobody waits any more"


def test_who_stops_hears_nothing_and_leaves_nothing_behind() -> None:
    net = Net("a", "b", "c")
    stop, told = begun(net)
    net.advance(HEAD_START_S)
    stop()
    assert ([one.over for one in net.tries], net.getDelayedCalls()) == ([True, True], [])
    net.advance(9)
    assert (len(net.tries), told) == (2, [])

    net = Net("a")
    stop = reach(net, "cpms.example.com", 443, "the protocol", None, told.append)
    stop()
    net.found()
    assert (net.tries, told) == ([], []), "the name was still being looked up"


@pytest_twisted.ensureDeferred
async def test_of_a_real_name_the_address_that_listens_is_found() -> None:
    """As `localhost` is on many a machine: nobody is there at its first address."""
    cpms, up = FakeCpms(), Deferred[None]()
    port = await cpms.start()

    class Ours(Protocol):
        def connectionMade(self) -> None:
            up.callback(None)

    wound: Any = Wound()
    wound.nameResolver = names = Net("127.0.0.2", "127.0.0.1")
    protocol = Ours()
    reach(wound, "localhost", port, protocol, None, up.errback)
    names.found()
    await up
    assert protocol.transport is not None
    assert protocol.transport.getPeer().host == "127.0.0.1"
    protocol.transport.abortConnection()
    await until(lambda: cpms.wires and cpms.wires[0].gone)
    assert wound.getDelayedCalls() == []
    await cpms.stop()
