"""A peer that hung up while nobody read it: seen all the same, over real sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest
import pytest_twisted
from fakes import Rig, until
from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Server
from twisted.internet.testing import StringTransport

from broker.net.hangup import hung_up


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as door, socket.create_connection(door.getsockname()) as one:
        other, _ = door.accept()
        with other:
            yield one, other


def connection(sock: socket.socket) -> Server:
    """Twisted's transport for a socket, which nobody reads."""
    one = Server(sock, Protocol(), ("127.0.0.1", 0), None, 0, reactor)
    one.stopReading()
    return one


@pytest.mark.parametrize("how", ["half", "close", "reset"])
def test_an_end_is_seen_behind_what_is_unread(pair: tuple[socket.socket, socket.socket], how: str) -> None:
    ours, peer = pair
    peer.sendall(bytes(1000))
    assert not hung_up(connection(ours))
    if how == "half":
        peer.shutdown(socket.SHUT_WR)
    else:
        if how == "reset":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    assert hung_up(connection(ours))


def test_of_what_is_no_socket_nobody_knows_and_a_closed_one_is_at_its_end(pair: tuple[socket.socket, socket.socket]) -> None:
    assert not hung_up(StringTransport())
    one = connection(pair[0])
    pair[0].close()
    assert hung_up(one)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_station_that_said_too_much_and_hung_up_is_let_in_again_at_once(how: str) -> None:
    """Not read for its flood, the old one cannot show its end; the newcomer is not told that it lives."""
    rig = await Rig(rate=1, burst=5).start()
    old, cpms = await rig.pair()
    for n in range(3000):
        old.say(b"%d" % n)
    assert await cpms.hear() == b"0"
    if how == "reset":
        old.abort()
    else:
        old.transport.loseConnection()
    await until(lambda: old.gone)
    new = await rig.dial()
    await until(lambda: new.buffer, 4.0)  # it need not be pinged; its CPMS has so long for its good-bye
    assert await new.status() == 101
    await until(lambda: cpms.gone)
    new.say(b"I am back")
    await until(lambda: len(rig.links) == 1)
    await rig.stop()
