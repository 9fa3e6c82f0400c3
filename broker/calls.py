"""CALLs that went by and are not answered yet, of one side of a link, oldest first.

Ids are unique for their sender only, and not even that in the field: two open CALLs of one id are answered in order, unless
the first is so old that its sender must have given it up. A CALL is forgotten after five minutes, or when too many are open;
its answer is relayed all the same, but no longer understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

FORGET_S: Final = 300.0  # the most patient CPMS seen waits two minutes for an answer
REUSE_S: Final = 60.0  # a sender that uses an id again after that does not expect the first answer any more
KEPT_BYTES: Final = 64 * 1024  # of one CALL kept for its answer's sake, or of that answer: a larger one goes untapped


class Promise(set[int]):
    """The commits that an answer must wait for, by their tokens. `broken`: one of them failed, so the answer goes unpromised."""

    broken = False

    def settle(self, token: int, kept: bool) -> None:
        """This one is waited for no longer."""
        if token in self:
            self.discard(token)
            self.broken = self.broken or not kept

    def forget(self) -> None:
        """Nothing is waited for any more, and who does not wait has said so."""
        self.clear()
        self.broken = False


@dataclass(slots=True, eq=False)
class OpenCall:
    """A CALL that waits for its answer."""

    id: str
    action: str
    since: float
    """Monotonic seconds at which it went on."""
    order: int = 0
    """Its place among the station's CALLs that are followed."""
    text: bytes | None = None
    """The whole CALL, if it is wanted together with its answer."""
    promised: bool = False
    """The answer waits until what both together taught is on disk."""
    proves: bool = False
    """A CALLRESULT proves that both ends live."""
    tokens: Promise = field(default_factory=Promise)
    """Commits that the answer must wait for."""
    shown: int | None = None
    """Of one that entrusts the station with something: the token under which it was shown. Its text is not kept."""


class OpenCalls:
    """At most `most` of them. A list: there are one or two, but for a peer that never answers."""

    __slots__ = ("_most", "calls")

    def __init__(self, most: int) -> None:
        self._most = most
        self.calls: list[OpenCall] = []
        """Oldest first; to be looked at, not to be changed."""

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[OpenCall]:
        return iter(self.calls)

    def __contains__(self, id: str) -> bool:
        return any(call.id == id for call in self.calls)

    @property
    def newest_since(self) -> float | None:
        """When the newest of them went on; None when all are answered."""
        return self.calls[-1].since if self.calls else None

    def add(self, call: OpenCall) -> bool:
        """Remember this one; False if another had to be forgotten for it."""
        self.forget(call.since - FORGET_S)
        if call.id in self:
            self.calls = [other for other in self.calls if other.id != call.id or other.since > call.since - REUSE_S]
        room = len(self.calls) < self._most
        if not room:
            del self.calls[0]
        self.calls.append(call)
        return room

    def take(self, id: str) -> OpenCall | None:
        """The oldest with this id, which is thereby answered."""
        for place, call in enumerate(self.calls):
            if call.id == id:
                del self.calls[place]
                return call
        return None

    def forget(self, until: float) -> None:
        """Forget those that went on at `until` or before."""
        while self.calls and self.calls[0].since <= until:
            del self.calls[0]

    def clear(self) -> None:
        self.calls.clear()
