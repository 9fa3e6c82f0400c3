"""A leg that pays for each frame that comes, and is not read while it cannot: `broker.net.bucket` on a socket.

Both ways in pay alike, the short path and Autobahn's, and a control frame as much as a message. Of a message in fragments the last
one pays as a message does, and the others a little: some stacks cut what is long into pieces of a KiB.
"""

from __future__ import annotations

from typing import Any, Final

from broker.net.bucket import FREE, Bucket
from broker.net.pulse import Pulse

RATE: Final = 16  # a reason not to read, beside those of `broker.net.leg`: it said more than it may
FRAGMENT: Final = 1 / 20  # of a token: 8 MiB in pieces of 1 KiB is within a burst, and a flood of empty ones is a flood


class Paced:
    """Mixed into both legs."""

    factory: Any
    pulse: Pulse
    current_frame: Any
    parted: bool
    bucket: Bucket = FREE
    _paused: Any = None

    def ration(self, rate: int, burst: int) -> None:
        """From here on it may say `rate` frames/s, and `burst` at once; a rate of 0 is no bound."""
        self.bucket = Bucket(rate, burst, self.pulse.clock()) if rate else FREE

    def unration(self) -> None:
        """Its end has come: what it said already must not wait for tokens any more."""
        self.bucket = FREE
        if self._paused is not None:
            self._paused.cancel()
            self._paused = None
            self.read(True, RATE)

    def onFrameEnd(self) -> Any:
        """Autobahn has worked on a whole frame, or on a fragment."""
        price = 1.0 if self.current_frame.fin else FRAGMENT
        more = super().onFrameEnd()  # type: ignore[misc]
        self.pay(price)
        return more

    def pay(self, price: float = 1.0) -> None:
        """For one frame, in tokens."""
        self.bucket.left -= price
        if self.bucket.left < 1.0 and self._paused is None:
            self._pause()

    def _pause(self) -> None:
        wait = self.bucket.wait(self.pulse.clock())
        if wait:
            self.read(False, RATE)
            self._paused = self.factory.reactor.callLater(wait, self._resume)

    def _resume(self) -> None:
        self._paused = None
        self.bucket.fill(self.pulse.clock())
        self.read(True, RATE)
        self._go_on()

    def read(self, on: bool, why: int) -> None:
        """Read from the socket, or not, for this reason."""
        raise NotImplementedError

    def _go_on(self) -> None:
        raise NotImplementedError
