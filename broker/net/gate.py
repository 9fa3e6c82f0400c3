"""Who may use the admin side: whoever sends its token. One address that guesses is not listened to for a while.

In: an Authorization header and the address it came from. Out: "in", "out" (no token, or a wrong one) or "wait" (too many wrong
ones from there: the token is not even looked at, so that guessing goes no faster than the limit). The token is compared in
constant time, and is in no answer and no log line.
"""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Literal

TRIES: Final = 20  # a wrong token in a script that scrapes every few seconds is noticed by its owner long before
WINDOW_S: Final = 60.0
ADDRESSES: Final = 1000  # remembered; beyond it the one that failed longest ago is forgotten

Verdict = Literal["in", "out", "wait"]


class Gate:
    """One token. `seconds`: monotonic."""

    def __init__(self, token: str, seconds: Callable[[], float] = time.monotonic) -> None:
        self._token = token.encode()
        self._seconds = seconds
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def judge(self, authorization: bytes | None, address: str) -> Verdict:
        """Whether this request may go on. A request without any token is no guess, and is not counted."""
        now = self._seconds()
        failed = self._failed.get(address)
        if failed is not None and len(failed) == TRIES and failed[0] > now - WINDOW_S:
            return "wait"
        scheme, _, given = (authorization or b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token):
            return "in"
        if authorization:
            self._count(address, now)
        return "out"

    def _count(self, address: str, now: float) -> None:
        failed = self._failed.setdefault(address, deque(maxlen=TRIES))
        failed.append(now)
        self._failed.move_to_end(address)
        if len(self._failed) > ADDRESSES:
            self._failed.popitem(last=False)
