"""Is a station well again? When the cause of each of its alarms was last seen to be gone, on this link.

An alarm is over when something happened since that a station which ails cannot do; silence proves nothing. Who raised the alarm may
be an observer of an earlier link: so it is asked for by the moment the alarm was last told. Moments are monotonic seconds.
"""

from __future__ import annotations


class Wellness:
    """One station's. Of one name several parts (EVSEs) may ail; it is well when the last of them is."""

    __slots__ = ("_ill", "_seen")

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._ill: dict[str, set[int]] = {}

    def ill(self, name: str, part: int = 0) -> None:
        """This part of it ails."""
        self._ill.setdefault(name, set()).add(part)

    def well(self, name: str, mono: float, part: int = 0) -> None:
        """This part was just seen to be well."""
        ailing = self._ill.get(name, set())
        ailing.discard(part)
        if not ailing:
            self._seen[name] = mono

    def since(self, name: str, raised_at: float) -> bool:
        """Was it seen to be well after that moment?"""
        return self._seen.get(name, float("-inf")) > raised_at
