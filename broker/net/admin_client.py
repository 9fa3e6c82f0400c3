"""How a command finds the running broker and asks it: the admin endpoint and the token come from the broker's own configuration.

In: settings, a method, a path, a body. Out: the answer's JSON, or `Unanswered`, which says what is wrong and what to do.
Blocking, for the console only: nothing here runs inside the broker. The token is in no error text.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from broker.config_endpoints import take_apart
from broker.settings import Settings

PATIENCE_S: Final = 15.0  # a broker that is under load answers within one
MOST_BYTES: Final = 64 * 1024 * 1024  # of one answer; a page of a thousand stations has 300 kB
MOST_LINE: Final = 1024 * 1024  # of a stream
ANYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class Unanswered(Exception):
    """The broker could not be asked, or refused: a line for each mistake of the configuration, then one that says why.

    `code`: the refusal's, "" if there is none.
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class _Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """The one thing that differs."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def path_of(tenant: str, station: str, *more: str) -> str:
    """`/api/v1/stations/{tenant}/{id}/…`, whatever letters an identity has."""
    return "/".join(["/api/v1/stations", *(quote(part, safe="") for part in (tenant, station, *more))])


class AdminClient:
    """One running broker's admin side. Raises Unanswered for whatever goes wrong."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = settings.broker.admin
        self._token = _token(settings.broker.admin_token_file)

    def get(self, path: str) -> Any:
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Any = None, patience_s: float = PATIENCE_S) -> Any:
        """The JSON of one answer."""
        connection = self._connection(patience_s)
        try:
            answer = self._asked(connection, method, path, body)
            text = answer.read(MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as problem:
            raise self._unreachable(problem) from None
        finally:
            connection.close()
        return self._said(answer.status, text)

    def stream(self, path: str, silence_s: float) -> Iterator[Any]:
        """The JSON of each line, as it comes, until the broker ends it. At most so many seconds of silence."""
        connection = self._connection(silence_s)
        try:
            answer = self._asked(connection, "GET", path, None)
            if answer.status != 200:
                self._said(answer.status, answer.read(MOST_LINE))
            while line := answer.readline(MOST_LINE):
                if line.strip():
                    yield self._said(200, line)
        except (OSError, http.client.HTTPException) as problem:
            raise self._unreachable(problem) from None
        finally:
            connection.close()

    def _asked(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        text = None
        if body is not None:
            text, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection.request(method, path, text, headers)
        return connection.getresponse()

    def _said(self, status: int, text: bytes) -> Any:
        try:
            said = json.loads(text)
        except ValueError:
            raise Unanswered(f"what answers at {self._endpoint} is no broker of ours (HTTP {status}): check broker.admin") from None
        if status >= 400:
            fault = said.get("error", {}) if isinstance(said, dict) else {}
            if status == 401:
                raise Unanswered("the broker does not take the token in broker.admin_token_file: is it this broker's file?", "unauthorized")
            mistakes = said.get("mistakes", ()) if isinstance(said, dict) else ()
            raise Unanswered("\n".join([*map(str, mistakes), str(fault.get("message", f"HTTP {status}"))]), str(fault.get("code", "")))
        return said

    def _connection(self, patience_s: float) -> http.client.HTTPConnection:
        endpoint = take_apart(self._endpoint)
        if endpoint.kind == "unix":
            return _Unix(endpoint.named.get("address") or endpoint.positional[0], patience_s)
        if endpoint.kind not in ("tcp", "tcp6"):
            raise Unanswered(f"broker.admin is {endpoint.kind}:, which no command can dial: use tcp:, tcp6: or unix:")
        port = endpoint.named.get("port") or endpoint.positional[0]
        interface = endpoint.named.get("interface", "::1" if endpoint.kind == "tcp6" else "")
        return http.client.HTTPConnection(ANYWHERE.get(interface, interface), int(port), timeout=patience_s)

    def _unreachable(self, problem: Exception) -> Unanswered:
        if isinstance(problem, TimeoutError):
            return Unanswered(
                f"nobody answers at {self._endpoint}: does the broker hang, or run on a machine out of reach? Its log says more"
            )
        why = getattr(problem, "strerror", None) or type(problem).__name__
        return Unanswered(f"no running broker at {self._endpoint} ({why}): start it, or give its configuration with --config")


def _token(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            token = file.read(4096).strip()
    except (OSError, ValueError) as problem:
        why = getattr(problem, "strerror", None) or "is not text"
        raise Unanswered(f"broker.admin_token_file {path}: {why}: a running broker makes it; run this as the broker's user") from None
    if not token or not token.isascii() or not token.isprintable():
        raise Unanswered(f"broker.admin_token_file {path}: holds no token: delete it and start the broker again, a new one is made")
    return token
