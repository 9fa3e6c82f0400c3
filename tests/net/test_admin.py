"""The operator's HTTP side, asked over treq's in-memory wire."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from treq.testing import StubTreq

from broker.net.admin import Views, read_token, tree

TOKEN = "t0ken-of-the-operator"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def views(missing: str = "") -> Views:
    page = {"stations": [{"tenant": "acme", "id": "CS-7"}], "next": None}
    return Views(
        ready=lambda: missing,
        status=lambda: {"links": 1},
        stations=lambda after, limit, tenant, state: {**page, "asked": [after, limit, tenant, state]},
        station=lambda tenant, station: {"id": station} if (tenant, station) == ("acme", "CS 7") else None,
        metrics=lambda: b"ocppbroker_links 1\n",
    )


async def get(path: str, headers: dict[str, str] | None = None, missing: str = "", method: str = "GET") -> tuple[int, Any]:
    answer = await StubTreq(tree(views(missing), TOKEN)).request(method, f"http://broker{path}", headers=headers or {})
    body = await answer.content()
    assert answer.headers.getRawHeaders("server") == ["ocppbroker"]
    return answer.code, json.loads(body) if body.startswith(b"{") else body


@pytest_twisted.ensureDeferred
async def test_alive_and_ready_need_no_token() -> None:
    assert await get("/healthz") == (200, {"alive": True})
    assert await get("/readyz") == (200, {"ready": True, "missing": ""})
    code, body = await get("/readyz", missing="the store does not accept writes")
    assert (code, body["missing"]) == (503, "the store does not accept writes")


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/status", "/api/v1/stations", "/api/v1/stations/acme/CS%207"])
@pytest_twisted.ensureDeferred
async def test_everything_else_needs_the_token(path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer"}):
        code, body = await get(path, headers)
        assert code == 401
        assert body["error"]["code"] == "unauthorized"
    code, _ = await get(path, BEARER)
    assert code == 200


@pytest_twisted.ensureDeferred
async def test_what_is_asked_reaches_the_view_decoded() -> None:
    _, body = await get("/api/v1/stations?after=acme%2FCS-1&limit=7&tenant=acme&state=connected", BEARER)
    assert body["asked"] == ["acme/CS-1", 7, "acme", "connected"]
    assert await get("/api/v1/stations/acme/CS%207", BEARER) == (200, {"id": "CS 7"})


@pytest.mark.parametrize(
    ("path", "code", "what"),
    [
        ("/api/v1/stations?limit=0", 400, "bad-limit"),
        ("/api/v1/stations?limit=²", 400, "bad-limit"),
        ("/api/v1/stations?limit=1001", 400, "bad-limit"),
        ("/api/v1/stations?state=odd", 400, "bad-state"),
        ("/api/v1/stations/acme/none", 404, "unknown-station"),
        ("/api/v1/stations/acme", 404, "not-found"),
        ("/", 404, "not-found"),
        ("/healthz/x", 404, "not-found"),
        ("/readyz/x", 404, "not-found"),
        ("/metrics/x", 404, "not-found"),
        ("/api/v1/status/x/y", 404, "not-found"),
        ("/api/v1/alarms/x", 404, "not-found"),
        ("/api/v2", 404, "not-found"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_mistake_is_told_as_json(path: str, code: int, what: str) -> None:
    got, body = await get(path, BEARER)
    assert (got, body["error"]["code"]) == (code, what)


@pytest_twisted.ensureDeferred
async def test_only_reading_is_possible() -> None:
    code, body = await get("/api/v1/status", BEARER, method="POST")
    assert (code, body["error"]["code"]) == (405, "method-not-allowed")


def test_the_token_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "var" / "admin-token"
    made = read_token(str(path))
    assert len(made) >= 32
    assert read_token(str(path)) == made
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    path.write_text("\n")
    with pytest.raises(ValueError, match="empty"):
        read_token(str(path))
