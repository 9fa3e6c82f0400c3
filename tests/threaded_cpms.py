"""A CPMS on `websockets`' threads, for tests that themselves wait in a thread of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol


class ThreadedCpms:
    """Keeps what it hears. `came` and `said` are for those that do more."""

    def __init__(self, *versions: Subprotocol) -> None:
        self.heard: list[str] = []
        self.on_heard: Callable[[str], None] = lambda _: None
        self._server = serve(self._live, "127.0.0.1", 0, subprotocols=versions)
        self.port = self._server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/ocpp"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _live(self, link: ServerConnection) -> None:
        self.came(link)
        try:
            for text in link:
                self.heard.append(str(text))
                self.on_heard(str(text))
                self.said(link, str(text))
        except ConnectionClosed:
            return

    def came(self, link: ServerConnection) -> None:
        """A station connected."""

    def said(self, link: ServerConnection, text: str) -> None:
        """It said this."""

    def stop(self) -> None:
        self._server.shutdown()
