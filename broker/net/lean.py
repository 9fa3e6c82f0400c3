"""The same as Twisted's, with less on the way: how a reactor's events are handed out, how bytes come from a
socket and go to one.

Nothing here changes what is said or in which order; everything falls back on Twisted's own path where the short one does not fit.
"""

from __future__ import annotations

import gc
import select
from typing import Any, Final, cast

from twisted.internet import main, tcp
from twisted.internet.epollreactor import EPollReactor
from twisted.python import log

from broker.net.lessons import Lessons

MOST_EVENTS: Final = 1024  # taken from the kernel at once: timers have their turn in between, however many stations there are

PLAIN: Final = frozenset({tcp.Server, tcp.Client})  # sockets that are read as Twisted reads them
GARBAGE: Final = (50_000, 20, 20)  # a fleet is a million objects that stay: to look through them all the time finds nothing


def lighten(reactor: Any, lessons: Lessons) -> None:
    """Hand out an epoll reactor's events without a log context around each, which nothing of ours reads; others stay as they are.

    What was learned from them is looked at after all of them. And look for garbage less often.
    """
    gc.set_threshold(*GARBAGE)
    if type(reactor) is EPollReactor:
        cast(Any, reactor).doIteration = _Iteration(reactor, lessons)


class _Iteration:
    """Waits for events and hands them to `_doReadOrWrite`, as `EPollReactor.doPoll` does. A failure there is logged there."""

    def __init__(self, reactor: Any, lessons: Lessons) -> None:
        self._reactor = reactor
        self._lessons = lessons
        self._poller: select.epoll = reactor._poller

    def __call__(self, timeout: float | None) -> None:
        reactor = self._reactor
        selectables, deal_with = reactor._selectables, reactor._doReadOrWrite
        # Interrupted by a signal, it goes on waiting for the rest of the time (PEP 475).
        events = self._poller.poll(-1 if timeout is None else timeout, min(len(selectables), MOST_EVENTS) or 1)
        self._lessons.begin()
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is None:  # closed by what came before it
                continue
            try:
                if event == select.EPOLLIN and type(selectable) in PLAIN:
                    _read(reactor, selectable)
                else:
                    deal_with(selectable, fd, event)
            except Exception:  # in telling a protocol that its connection is gone
                log.err()
        self._lessons.end()


def _read(reactor: Any, connection: tcp.Connection) -> None:
    """There is something to read, and nothing else: what `_doReadOrWrite` and `doRead` come to then."""
    why: Any = None
    try:
        data = connection.socket.recv(connection.bufferSize)
    except BlockingIOError:
        return
    except OSError:
        why = main.CONNECTION_LOST
    else:
        try:
            if data:
                cast(Any, connection.protocol).dataReceived(data)
            else:
                why = main.CONNECTION_DONE
        except BaseException as failure:  # a protocol's own: its connection goes, and nothing else does
            why = failure
            log.err()
    if why is not None:
        reactor._disconnectSelectable(connection, why, True)


def below(transport: Any) -> tcp.Connection | None:
    """The TCP socket of a transport, with or without TLS between; None if it is none."""
    socket = transport if isinstance(transport, tcp.Connection) else getattr(transport, "transport", None)
    return socket if isinstance(socket, tcp.Connection) else None


def unwrap(protocol: Any) -> None:
    """A socket hands what it reads to `protocol`, or to the TLS above itself, from now on; not through the endpoint that connected it."""
    transport = protocol.transport
    if not isinstance(transport, tcp.Connection):
        protocol, transport = transport, getattr(transport, "transport", None)
    if isinstance(transport, tcp.Connection) and not transport.TLS:
        transport.protocol = protocol


def put(transport: Any, data: bytes) -> None:
    """Write: if nothing is queued, to the socket at once, else the reactor would be asked to come back for it."""
    # Not `hasattr(…, "dataBuffer")`: a TLS transport passes that on to the socket below it, and this would go out in plain text.
    if not isinstance(transport, tcp.Connection):
        getattr(type(transport), "write_now", type(transport).write)(transport, data)
        return
    # Connected, staying so, without a TLS of its own (startTLS), and with nothing that waits to be written before.
    if transport.connected and not (
        transport.dataBuffer or transport._tempDataBuffer or transport.TLS
        or transport.disconnecting or transport.disconnected or transport._writeDisconnected
    ):  # fmt: skip
        try:
            sent = transport.socket.send(data)
        except OSError:  # full, or gone: Twisted finds out which, and tells
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    transport.write(data)
