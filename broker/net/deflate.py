"""permessage-deflate (RFC 7692) that keeps no more of zlib between two messages than what was agreed needs: nothing, or one window.

A compressor of Autobahn's default is 256 KiB, for each leg and for as long as the connection lives; what it remembers of earlier
messages saves some hundred bytes of the next. Ours forgets: each message is compressed by itself, which is any sender's right
(7.1.1), with a window as large as an OCPP message. A decompressor must remember what its peer may refer to: toward the CPMS we ask
for a peer that forgets as well, toward a station, whose bytes cost money, for a small window. Who agrees to neither costs 40 KiB.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

from autobahn.websocket.compress import (
    PerMessageDeflate,
    PerMessageDeflateOffer,
    PerMessageDeflateOfferAccept,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)

WINDOW_BITS: Final = 12  # 4 KiB: a long MeterValues, or the last few
MEMORY_LEVEL: Final = 5  # 34 KiB while a message is compressed, from the free list; zlib's own 8 is seven times slower to set up
WORTH: Final = 96  # bytes: what is shorter hardly gets shorter, and may go uncompressed (RFC 7692, 6)
OFFERS: Final = (PerMessageDeflateOffer(request_no_context_takeover=True), PerMessageDeflateOffer())
"""What a CPMS is asked for; the second for one that cannot forget, and must then decline the first (7.1.1.1)."""
OFFERED: Final = ", ".join(offer.get_extension_string() for offer in OFFERS).encode()


class Deflate(PerMessageDeflate):
    """One leg's, in place of the one that Autobahn made of what was agreed."""

    def __init__(self, agreed: PerMessageDeflate) -> None:
        vars(self).update(vars(agreed))
        ours, theirs = agreed.server_max_window_bits, agreed.client_max_window_bits
        self._forgets = agreed.client_no_context_takeover
        if not agreed._is_server:
            ours, theirs = theirs, ours
            self._forgets = agreed.server_no_context_takeover
        self._bits = min(ours, WINDOW_BITS)

    def start_compress_message(self) -> None:
        self._compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -self._bits, MEMORY_LEVEL)

    def end_compress_message(self) -> bytes:
        end: bytes = super().end_compress_message()
        self._compressor = None
        return end

    def end_decompress_message(self) -> None:
        super().end_decompress_message()
        if self._forgets:
            self._decompressor = None


def hinted(params: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """A station's offer without its hint that it would use a smaller window anyway: a larger one must not be the answer (7.1.2.2)."""
    hint = params.get("client_max_window_bits", [True])[0]
    if hint is True or int(hint) >= WINDOW_BITS:
        return params
    return {name: values for name, values in params.items() if name != "client_max_window_bits"}


def accept_offer(offers: list[object]) -> object | None:
    """The first permessage-deflate offer of a station, with a small window if it lets us choose."""
    for offer in offers:
        if isinstance(offer, PerMessageDeflateOffer):
            return PerMessageDeflateOfferAccept(offer, request_max_window_bits=WINDOW_BITS if offer.accept_max_window_bits else 0)
    return None


def accept_response(response: object) -> object | None:
    """What a CPMS chose."""
    return PerMessageDeflateResponseAccept(response) if isinstance(response, PerMessageDeflateResponse) else None
