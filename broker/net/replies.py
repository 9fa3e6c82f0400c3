"""How the admin side answers: JSON, errors as `{"error": {"code": …, "message": …}}`, and answers that come later."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET, Request

log = Logger()

Answer = bytes | int
"""A body, or NOT_DONE_YET when it comes later."""


class Refused(Exception):
    """What was asked is not done; the text says in one line why, and what to do. `status`: HTTP's."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status, self.code = status, code


def answer(request: Request, body: Any, code: int = 200) -> bytes:
    """A body as JSON."""
    request.setResponseCode(code)
    request.setHeader(b"content-type", b"application/json; charset=utf-8")
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def error(request: Request, status: int, code: str, message: str) -> bytes:
    """A refusal as JSON."""
    return answer(request, {"error": {"code": code, "message": message}}, status)


def later(request: Request, coming: Deferred[Any]) -> int:
    """Answer when it is known. `Refused` becomes an error; whatever else goes wrong is a mistake of ours, logged, and 500."""
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def failed(failure: Failure) -> bytes:
        if isinstance(failure.value, Refused):
            return error(request, failure.value.status, failure.value.code, str(failure.value))
        log.failure("admin: a mistake of ours", failure=failure)
        return error(request, 500, "mistake", "a mistake of ours: the broker's log says more")

    def say(body: bytes) -> None:
        if not gone:
            request.write(body)
            request.finish()

    coming.addCallback(lambda body: answer(request, body)).addErrback(failed).addCallback(say)
    return NOT_DONE_YET
