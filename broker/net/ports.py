"""The ports that stations dial: opened at the start, and opened, kept, changed or closed by a reload, all or none.

A port whose address stays keeps its socket: only what is behind it (tenant, TLS, certificates) changes, for the next connection.
Links that live are never touched here. New ports are bound before anything else changes, so that one that cannot be bound changes
nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

from broker.config import Mistakes
from broker.config_endpoints import take_apart
from broker.net.pem import CannotLoad
from broker.net.stations import StationFactory
from broker.settings import ListenSettings

log = Logger()

BACKLOG = 2048  # connections the kernel holds until we accept them


def listen_at(reactor: Any, endpoint: str, factory: Any) -> Any:
    """The open port. Raises Mistakes in one line."""
    opened: list[Any] = []
    failures: list[Any] = []
    text = endpoint
    if endpoint.startswith(("tcp:", "tcp6:", "ssl:")) and "backlog=" not in endpoint:
        text += f":backlog={BACKLOG}"  # Twisted's 50 makes a thousand stations that come back at once wait for seconds
    try:
        serverFromString(reactor, text).listen(factory).addCallbacks(opened.append, failures.append)
    except Exception as error:
        raise Mistakes([f"{endpoint}: cannot listen there: {error}"]) from None
    if failures or not opened:
        why = failures[0].getErrorMessage() if failures else "it does not open at once"
        raise Mistakes([f"{endpoint}: cannot listen there: {why}"])
    return opened[0]


@dataclass(slots=True, eq=False)
class _Open:
    """One of them."""

    listen: ListenSettings
    port: Any
    factory: StationFactory

    @property
    def address(self) -> tuple[str, ...]:
        return _address(self.listen.endpoint)


def _address(endpoint: str) -> tuple[str, ...]:
    """Where it listens, for the two kinds whose socket can be kept; else the whole text."""
    parts = take_apart(endpoint)
    return (*parts.positional, parts.named.get("interface", "")) if parts.kind in ("tcp", "ocpps") else (endpoint,)


class Ports:
    """`stations` makes the factory of one listener."""

    def __init__(self, reactor: Any, stations: Callable[[ListenSettings], StationFactory]) -> None:
        self._reactor, self._stations = reactor, stations
        self._open: list[_Open] = []

    def open(self, listen: ListenSettings) -> None:
        """Bind it. Raises Mistakes."""
        self._open.append(self._bound(listen))

    def _bound(self, listen: ListenSettings) -> _Open:
        factory = self._stations(listen)
        return _Open(listen, listen_at(self._reactor, listen.endpoint, factory), factory)

    def change(self, listen: Sequence[ListenSettings]) -> Callable[[int], Deferred[Any]]:
        """Prepare for these instead. Raises Mistakes, and then nothing has changed.

        Returns what makes it so (given `max_message`), without fail; its Deferred fires when the ports that went are closed.
        """
        kept, gone = _paired(self._open, listen)
        mistakes: list[str] = []
        behind: list[tuple[_Open, Any]] = []
        fresh: list[_Open] = []
        for to, one in zip(listen, kept, strict=True):
            try:
                if one is None:
                    self._behind(to, self._stations(to))  # a start may do without a list of revoked certificates, a change may not
                    fresh.append(self._bound(to))
                elif one.listen.endpoint != to.endpoint:
                    behind.append((one, self._behind(to, one.factory)))
            except Mistakes as wrong:
                mistakes += wrong.lines
        if mistakes:
            self._close(fresh)
            raise Mistakes(mistakes)
        staying = [(one, to) for one, to in zip(kept, listen, strict=True) if one is not None]
        return lambda max_message: self._make_so(gone, staying, behind, fresh, max_message)

    def _behind(self, to: ListenSettings, factory: StationFactory) -> Any:
        """What accepts on a socket that is kept."""
        if take_apart(to.endpoint).kind != "ocpps":
            return factory
        try:
            endpoint: Any = serverFromString(self._reactor, to.endpoint)
            return endpoint.wrapped(factory)
        except CannotLoad as why:
            raise Mistakes([f"{to.endpoint}: {why}"]) from None

    def _make_so(
        self, gone: list[_Open], kept: list[tuple[_Open, ListenSettings]], behind: list[tuple[_Open, Any]], fresh: list[_Open], most: int
    ) -> Deferred[Any]:
        for one, accepts in behind:
            one.port.factory = accepts
        for one, to in kept:
            one.listen = one.factory.listen = to
            one.factory.limit(most)
            _look(one.port.factory)
        self._open = [one for one, _ in kept] + fresh
        return self._close(gone)

    def close(self) -> Deferred[Any]:
        """All of them; nothing new is accepted."""
        gone, self._open = self._open, []
        return self._close(gone)

    def _close(self, gone: Sequence[_Open]) -> Deferred[Any]:
        def ill(failure: Any, endpoint: str) -> None:
            log.failure("{endpoint} did not close", failure=failure, endpoint=endpoint)

        stopping = [(one, one.port.stopListening()) for one in gone]
        waiting = [stop.addErrback(ill, one.listen.endpoint) for one, stop in stopping if isinstance(stop, Deferred)]
        return gatherResults(waiting)


def _paired(old: Sequence[_Open], new: Sequence[ListenSettings]) -> tuple[list[_Open | None], list[_Open]]:
    """For each new one the old one whose socket it keeps, if any: the most alike first; and the old ones that go."""
    left = list(old)
    kept: list[_Open | None] = [None] * len(new)
    alike: tuple[Callable[[_Open, ListenSettings], bool], ...] = (
        lambda one, to: one.listen == to,
        lambda one, to: one.listen.endpoint == to.endpoint,
        lambda one, to: one.address == _address(to.endpoint),
    )
    for same in alike:
        for n, to in enumerate(new):
            one = next((one for one in left if same(one, to)), None) if kept[n] is None else None
            if one is not None:
                left.remove(one)
                kept[n] = one
    return kept, left


def _look(accepts: Any) -> None:
    """Certificates that changed on disk are read now."""
    contexts = getattr(accepts, "contexts", None)
    if contexts is not None:
        contexts.look()
