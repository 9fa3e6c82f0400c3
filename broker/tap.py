"""The observer of one link: exchanges that went by come in, what they meant goes out.

A tap learns from frames that are already on their way. Whatever is wrong with one, nested a hundred thousand deep or
full of wrong types, is the tap's own trouble: it is counted here and never felt by the relay.
"""

from __future__ import annotations

from broker.model.basics import Instant
from broker.model.observations import Observation
from broker.model.traffic import Exchange
from broker.ocpp.dialect import Dialect


class Tap:
    """Reads exchanges in one dialect; with `identify_only` nothing but who began to charge where, and when."""

    __slots__ = ("_read", "failures")

    def __init__(self, dialect: Dialect, identify_only: bool = False) -> None:
        self._read = dialect.identify if identify_only else dialect.observe
        self.failures = 0
        """Exchanges that could not be read."""

    def observe(self, exchange: Exchange, now: Instant) -> tuple[Observation, ...]:
        """What the exchange tells; nothing if it cannot be read. Never raises: RecursionError and MemoryError are Exceptions too."""
        try:
            return self._read(exchange, now)
        except Exception:
            self.failures += 1
            return ()
