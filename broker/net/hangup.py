"""Has the peer of a socket hung up? Asked of the kernel: whoever is not read, because it said too much or because the other side does
not read, cannot show it, as its end lies behind what it said before.
"""

from __future__ import annotations

import select
from typing import Any, Final

from broker.net.lean import below

END: Final = getattr(select, "POLLRDHUP", 0)  # Linux; elsewhere only a reset is seen, which is never asked for by name


def hung_up(transport: Any) -> bool:
    """It ended its side, or reset the connection. False for what is no TCP socket, with or without TLS: nobody knows."""
    socket = below(transport)
    if socket is None:
        return False
    if socket.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(socket.fileno(), END)
    return bool(poll.poll(0))
