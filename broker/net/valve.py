"""Back-pressure between the two sockets of a link: who does not read is not sent to, and who would send to it is not read."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Valve:
    """Closes the other leg's tap while this leg's peer does not read."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Callable[[bool], None]) -> None:
        self._turn = turn

    def pauseProducing(self) -> None:
        self._turn(True)

    def resumeProducing(self) -> None:
        self._turn(False)

    def stopProducing(self) -> None:
        """The transport goes: its protocol is told by itself."""
