"""An engine that knows nothing of us: Python's own HTTP server, held to docs/engine-api.yaml and to nothing else.

Every body that it is sent is validated against the schema of its path; what does not fit is answered 422 and kept in `faults`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from contract import validator

KINDS = {f"/v1/{kind.lower()}s": kind for kind in ("Measurement", "Transaction", "Identification", "Outcome")}
LOGIN = "/v1/identity/client-login"
TOKEN = "token-of-the-engine"


class StrangerEngine:
    """`limits_w`: asset → the limit that its schedule asks for; `sites`: asset → its site."""

    def __init__(self, secret: str, sites: dict[str, str], limits_w: dict[str, float]) -> None:
        self.sites, self.limits_w = sites, limits_w
        self.got: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS.values()}
        self.faults: list[str] = []
        self.logins = 0
        self.keys: dict[tuple[str, str], bytes] = {}
        self._basic = "Basic " + base64.b64encode(secret.encode()).decode()
        self._validators = {kind: validator(kind) for kind in KINDS.values()}
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._requests())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def registers(self, asset: str) -> list[float]:
        """What it was told of an asset's meter, Wh, in order."""
        return [told["energyValue"] for told in list(self.got["Measurement"]) if told["asset_id"] == asset]

    async def hears(self, last: Mapping[str, float], most_s: float = 60.0) -> None:
        """Return once it was told of each asset's last register and of its transaction's end, or when the time is up: a test says so."""
        end = time.monotonic() + most_s
        while not all(self._heard(asset, wh) for asset, wh in last.items()) and time.monotonic() < end:
            await asyncio.sleep(0.1)

    def _heard(self, asset: str, wh: float) -> bool:
        states = [told["transactionState"] for told in list(self.got["Transaction"]) if told["assetId"] == asset]
        return states[-1:] == ["Ended"] and self.registers(asset)[-1:] == [wh]

    def stop(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def login(self, authorization: str, body: bytes) -> tuple[int, Any]:
        if authorization != self._basic or parse_qs(body.decode()) != {"grant_type": ["client_credentials"]}:
            self.faults.append("a login that is not as documented")
            return 401, {"detail": "who?"}
        self.logins += 1
        return 200, {"access_token": TOKEN, "type": "bearer", "expires_in": 3600}

    def store(self, path: str, key: str, body: bytes) -> tuple[int, Any]:
        kind = KINDS[path]
        with self._lock:
            if not key or len(key) > 64:
                self.faults.append(f"{kind}: Idempotency-Key {key!r}")
            if (path, key) in self.keys:
                if self.keys[path, key] != body:
                    self.faults.append(f"{kind}: one key, two bodies")
                return 200, {}
            self.keys[path, key] = body
            told = json.loads(body)
            mistakes = [error.message for error in self._validators[kind].iter_errors(told)]
            if mistakes:
                self.faults.append(f"{kind}: {mistakes}")
                return 422, {"detail": mistakes}
            self.got[kind].append(told)
            return 200, {}

    def schedules(self, site: str, after: str, wait: float) -> tuple[int, Any]:
        if after:  # nothing new, ever
            self._closing.wait(min(wait, 20.0))
            return 200, {"cursor": after, "schedules": []}
        now = datetime.now(UTC)
        until = (now + timedelta(hours=1)).isoformat()
        schedules = [
            {
                "id": f"plan-{asset}",
                "asset_id": asset,
                "issued_at": now.isoformat(),
                "valid_until": until,
                "unit": "W",
                "periods": [{"start": now.isoformat(), "limit": limit}],
            }
            for asset, limit in self.limits_w.items()
            if self.sites[asset] == site
        ]
        return 200, {"cursor": "1", "schedules": schedules}

    def _requests(engine) -> type[BaseHTTPRequestHandler]:
        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one segment: the second of two would wait 40 ms for an ACK

            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"] or 0)
                body = self.rfile.read(size)
                if len(body) < size:  # who asked was killed in the midst of it
                    self.close_connection = True
                    return
                authorization = self.headers["Authorization"] or ""
                if self.path == LOGIN:
                    self._answer(*engine.login(authorization, body))
                elif self._known(authorization) and self.path in KINDS:
                    self._answer(*engine.store(self.path, self.headers["Idempotency-Key"] or "", body))

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                asked = {name: values[0] for name, values in parse_qs(url.query).items()}
                parts = url.path.split("/")
                if not self._known(self.headers["Authorization"] or ""):
                    return
                if parts[:3] == ["", "v1", "sites"] and parts[4:] == ["schedules"]:
                    self._answer(*engine.schedules(parts[3], asked.get("after", ""), float(asked.get("wait", "0"))))
                elif parts[:3] == ["", "v1", "sites"] and len(parts) == 4:
                    devices = [{"name": asset} for asset, site in engine.sites.items() if site == parts[3]]
                    self._answer(200, {"site_id": parts[3], "configurations": {"site_configuration": {"device_list": devices}}})
                else:
                    self._answer(404, {})

            def _known(self, authorization: str) -> bool:
                if authorization == f"Bearer {TOKEN}":
                    return True
                engine.faults.append(f"{self.path}: without the token")
                self._answer(401, {})
                return False

            def _answer(self, code: int, body: Any) -> None:
                told = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        return Requests
