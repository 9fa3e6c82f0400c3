"""The short ways to a socket and from the reactor's events: nothing overtakes, nothing is lost, what does not fit takes the long way."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as twisted_reactor
from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOProtocol

from broker.net import lean
from broker.net.lessons import Lessons
from tests.fakes import until

reactor: Any = twisted_reactor


class Ear(Protocol):
    """Keeps what it hears; `lost` is why it ended."""

    def __init__(self) -> None:
        self.came = b""
        self.lost: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.came += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = reason


class Pair:
    """A TCP connection of this process to itself."""

    async def open(self) -> None:
        self.near, self.far = Ear(), Ear()
        met: Deferred[None] = Deferred()
        far = self.far

        class Meeting(Factory):
            noisy = False

            def buildProtocol(self, address: object) -> Protocol:
                reactor.callLater(0, met.callback, None)
                return far

        self.port = reactor.listenTCP(0, Meeting(), interface="127.0.0.1")
        calling = Factory.forProtocol(lambda: self.near)  # type: ignore[arg-type]
        calling.noisy = False
        await TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port).connect(calling)
        await met

    async def close(self) -> None:
        for ear in (self.near, self.far):
            ear.transport.abortConnection()  # type: ignore[union-attr]
        await self.port.stopListening()


@pytest.fixture
def pair() -> Any:
    opened = Pair()
    pytest_twisted.blockon(pytest_twisted.inlineCallbacks(lambda: (yield Deferred.fromCoroutine(opened.open())))())
    yield opened
    pytest_twisted.blockon(pytest_twisted.inlineCallbacks(lambda: (yield Deferred.fromCoroutine(opened.close())))())


@pytest_twisted.ensureDeferred
async def test_an_idle_socket_is_written_to_at_once(pair: Pair) -> None:
    lean.put(pair.near.transport, b"now")
    assert pair.far.transport.getHandle().recv(100) == b"now"  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_nothing_overtakes_what_is_queued(pair: Pair) -> None:
    pair.near.transport.write(b"first ")  # type: ignore[union-attr]
    lean.put(pair.near.transport, b"second")
    await until(lambda: len(pair.far.came) == 12)
    assert pair.far.came == b"first second"


@pytest_twisted.ensureDeferred
async def test_what_the_kernel_does_not_take_follows_in_order(pair: Pair) -> None:
    pair.near.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # type: ignore[union-attr]
    pieces = [bytes([n]) * 300_000 for n in range(20)]
    for piece in pieces:
        lean.put(pair.near.transport, piece)
    await until(lambda: len(pair.far.came) == 6_000_000, 20)
    assert pair.far.came == b"".join(pieces)


@pytest_twisted.ensureDeferred
async def test_a_socket_that_is_closing_says_what_was_queued_and_then_goes(pair: Pair) -> None:
    pair.near.transport.write(b"good")  # type: ignore[union-attr]
    pair.near.transport.loseConnection()  # type: ignore[union-attr]
    lean.put(pair.near.transport, b"bye")
    await until(lambda: pair.far.lost is not None)
    assert pair.far.came == b"goodbye"
    lean.put(pair.near.transport, b"nobody")  # gone: no error


@pytest_twisted.ensureDeferred
async def test_a_peer_that_reset_is_found_out(pair: Pair) -> None:
    pair.far.transport.abortConnection()  # type: ignore[union-attr]
    for _ in range(3):
        lean.put(pair.near.transport, b"anyone?")
    await until(lambda: pair.near.lost is not None)


@pytest_twisted.ensureDeferred
async def test_an_unwrapped_protocol_still_hears_and_still_learns_of_the_end(pair: Pair) -> None:
    assert pair.near.transport.protocol is not pair.near  # type: ignore[union-attr]
    lean.unwrap(pair.near)
    assert pair.near.transport.protocol is pair.near  # type: ignore[union-attr]
    lean.put(pair.far.transport, b"hello")
    await until(lambda: pair.near.came == b"hello")
    pair.far.transport.loseConnection()  # type: ignore[union-attr]
    await until(lambda: pair.near.lost is not None)


def test_no_transport_but_plain_tcp_is_bypassed() -> None:
    transport = StringTransport()
    lean.put(transport, b"queued")
    assert transport.value() == b"queued"
    assert not issubclass(TLSMemoryBIOProtocol, tcp.Connection)


class Bomb:
    """A selectable that fails twice: when it is read, and when it is told that it is gone."""

    def fileno(self) -> int:
        return self.socket.fileno()

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.read = 0

    def logPrefix(self) -> str:
        return "bomb"

    def doRead(self) -> None:
        self.read += 1
        raise RuntimeError("in reading")

    def connectionLost(self, reason: object) -> None:
        raise RuntimeError("in losing")


def test_events_are_handed_out_whatever_one_of_them_does() -> None:
    own = EPollReactor()
    lean.lighten(own, Lessons())
    failures: list[Any] = []
    publisher: Any = globalLogPublisher
    observer = lambda event: failures.append(event) if event.get("isError") else None  # noqa: E731
    publisher.addObserver(observer)
    one, two = socket.socketpair()
    three, four = socket.socketpair()
    calm, bomb = Bomb(four), Bomb(two)
    calm.doRead = lambda: setattr(calm, "read", len(four.recv(100)))  # type: ignore[method-assign]
    try:
        own.addReader(bomb)
        own.addReader(calm)
        one.send(b"x")
        three.send(b"four")
        for _ in range(3):
            own.doIteration(0)  # type: ignore[attr-defined]
        assert (bomb.read, calm.read) == (1, 4)
        assert [str(event["failure"].value) for event in failures] == ["in reading", "in losing"]
    finally:
        publisher.removeObserver(observer)
        for end in (one, two, three, four):
            end.close()


def test_another_reactor_stays_as_it_is() -> None:
    class Other(EPollReactor):
        pass

    other = Other()
    lean.lighten(other, Lessons())
    assert "doIteration" not in vars(other)


class Failing(Ear):
    def dataReceived(self, data: bytes) -> None:
        raise OSError("a protocol's own trouble")


class Hall:
    """A lightened reactor of its own with a listener, and plain sockets that call it."""

    def __init__(self, ears: list[Ear], lessons: Lessons | None = None) -> None:
        self.reactor: Any = EPollReactor()
        lean.lighten(self.reactor, lessons or Lessons())
        coming = iter(ears)
        factory = Factory.forProtocol(lambda: next(coming))  # type: ignore[arg-type]
        factory.noisy = False
        self.port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.ears = ears
        self.callers = []
        for ear in ears:
            self.callers.append(socket.create_connection(("127.0.0.1", self.port.getHost().port)))
            self.turn(lambda ear=ear: ear.transport is not None)  # type: ignore[misc]

    def turn(self, holds: Any) -> None:
        for _ in range(2000):
            if holds():
                return
            self.reactor.iterate(0.005)
        raise AssertionError("it never came true")

    def close(self) -> None:
        for caller in self.callers:
            caller.close()
        self.turn(lambda: all(ear.lost is not None for ear in self.ears))
        self.port.stopListening()
        self.reactor.iterate(0)


def test_sockets_read_the_short_way_hear_everything_and_learn_how_it_ended() -> None:
    logged: list[Any] = []
    publisher: Any = globalLogPublisher
    observer = lambda event: logged.append(event) if event.get("isError") else None  # noqa: E731
    publisher.addObserver(observer)
    calm, failing, polite, rude = Ear(), Failing(), Ear(), Ear()
    hall = Hall([calm, failing, polite, rude])
    assert {type(ear.transport) for ear in hall.ears} <= lean.PLAIN
    try:
        said = bytes(range(256)) * 1000  # more than one read
        hall.callers[1].sendall(b"x")
        hall.callers[0].sendall(said)
        hall.callers[2].sendall(b"bye")
        hall.callers[2].shutdown(socket.SHUT_WR)
        hall.callers[3].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        hall.callers[3].close()
        hall.turn(lambda: len(calm.came) == len(said) and all(ear.lost is not None for ear in (failing, polite, rude)))
        assert (calm.came, calm.lost) == (said, None)
        assert (polite.came, polite.lost.type) == (b"bye", ConnectionDone)
        assert rude.lost.type is ConnectionLost
        assert failing.lost.type is OSError
        assert [str(event["failure"].value) for event in logged] == ["a protocol's own trouble"]
    finally:
        publisher.removeObserver(observer)
        hall.close()


def test_what_was_heard_is_learned_when_all_sockets_of_a_turn_were_read() -> None:
    lessons, order = Lessons(), []

    class Pupil(Ear):
        name = "pupil"

        def dataReceived(self, data: bytes) -> None:
            order.append("heard")
            lessons.add(self)

        def learn(self) -> None:
            order.append("learned")

    hall = Hall([Pupil(), Pupil(), Pupil()], lessons)
    try:
        for caller in hall.callers:
            caller.sendall(b"x")
        hall.turn(lambda: len(order) >= 6)
        assert order == ["heard"] * 3 + ["learned"] * 3
    finally:
        hall.close()


def test_nothing_there_after_all_is_no_end() -> None:
    ear = Ear()
    hall = Hall([ear])
    lean._read(hall.reactor, ear.transport)  # type: ignore[arg-type]
    assert ear.lost is None
    hall.close()


def test_a_reset_that_comes_between_the_event_and_the_reading_is_an_end() -> None:
    ear = Ear()
    hall = Hall([ear])
    hall.callers[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    hall.callers[0].close()
    lean._read(hall.reactor, ear.transport)  # type: ignore[arg-type]
    assert ear.lost is not None
    assert ear.lost.type is ConnectionLost
    hall.close()
