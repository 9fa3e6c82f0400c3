"""How long somebody who showed wrong credentials has to wait: per address and identity, so that nobody can lock a station out.

Failures and the time in, seconds to wait out. An address as a whole waits only once it failed with many identities in a minute.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from broker.model.basics import Key

FREE: Final = 3  # a typing error is tried again by hand
MOST_S: Final = 60.0  # a password put right is taken within a minute
QUIET_S: Final = 600.0  # after that much silence it begins anew
WINDOW_S: Final = 60.0
IDENTITIES: Final = 20  # more within WINDOW_S: not a site with some wrong passwords, but somebody who tries names
MOST_KEPT: Final = 10_000  # pairs, and addresses; beyond it the longest silent are forgotten


class Backoff:
    """`now`: seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, Key], tuple[int, float]] = OrderedDict()
        self._addresses: OrderedDict[str, OrderedDict[Key, float]] = OrderedDict()

    def of_pair(self, address: str, key: Key, now: float) -> float:
        """Seconds until this station may try again from there; 0: now."""
        return max(0.0, self._pairs.get((address, key), (0, 0.0))[1] - now)

    def of_address(self, address: str, now: float) -> float:
        """Seconds until anybody whose password is not known yet may try from there; 0: now."""
        failed = list(self._addresses.get(address, {}).values())
        return max(0.0, failed[-IDENTITIES - 1] + WINDOW_S - now) if len(failed) > IDENTITIES else 0.0

    def failed(self, address: str, key: Key, now: float) -> None:
        """Wrong credentials were shown."""
        count, until = self._pairs.pop((address, key), (0, now))
        count = 1 if now - until > QUIET_S else count + 1
        self._pairs[address, key] = (count, now + (min(MOST_S, 2.0 ** min(count - FREE, 10)) if count > FREE else 0.0))
        names = self._addresses.pop(address, OrderedDict())
        names.pop(key, None)
        names[key] = now
        self._addresses[address] = names
        for kept, most in ((self._pairs, MOST_KEPT), (self._addresses, MOST_KEPT), (names, IDENTITIES + 1)):
            while len(kept) > most:
                kept.popitem(last=False)

    def passed(self, address: str, key: Key) -> None:
        """The right ones were."""
        self._pairs.pop((address, key), None)
