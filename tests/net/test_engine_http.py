"""The engine's HTTP client against the simulated engine over loopback, and against servers with worse manners."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
import pytest_twisted
import trustme
from contract import fits
from fakes import until
from OpenSSL.crypto import FILETYPE_PEM
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair
from twisted.logger import globalLogPublisher

from broker.counts import Counts
from broker.engine.v1 import V1
from broker.net import engine_wire
from broker.net.engine_http import EngineClient, Trouble, verdict
from broker.net.engine_wire import Answer, retry_after
from broker.outbox import Row, Verdict
from broker.settings import EngineSettings
from broker.sim.engine import SimAsset, SimEngine

AT = "2026-01-10T06:00:00.000Z"
MEASUREMENT = {"site_id": "hq", "asset_id": "A-1", "timestamp": AT, "energyValue": 51230, "powerValue": 10950}
STARTED = {
    "site_id": "hq",
    "assetId": "A-1",
    "transactionId": "t-1",
    "timestamp": AT,
    "transactionState": "Started",
    "startTime": AT,
    "driverId": "BADGE",
}


def row(kind: str = "measurement", body: Any = None, key: str = "k-1", seq: int = 1) -> Row:
    return Row(seq, "CS-7", key, kind, json.dumps(MEASUREMENT if body is None else body))


def client_of(url: str, counts: Counts | None = None, **settings: Any) -> EngineClient:
    engine = EngineSettings(**{"url": url, "client_id": "demo", "client_secret": "demo-secret", **settings})
    return EngineClient(engine, V1(engine), reactor, counts=counts)


class Pair:
    """A simulated engine and a client of it."""

    def __init__(self, **engine: Any) -> None:
        self.engine = SimEngine(reactor, {"hq": 22_080.0}, {"A-1": SimAsset("hq"), "A-2": SimAsset("hq")}, **engine)
        self.counts = Counts()
        self.url = ""

    async def __aenter__(self) -> Pair:
        self.url = await self.engine.listen()
        self.client = client_of(self.url, self.counts)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.stop()
        await self.engine.stop()


class Rude(Protocol):
    """Says the same bytes to whoever says anything."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.factory.says)  # type: ignore[attr-defined, union-attr]


class Serving:
    """Listens on loopback and answers each request with these bytes."""

    def __init__(self, says: bytes) -> None:
        self.factory = Factory.forProtocol(Rude)
        self.factory.says = says  # type: ignore[attr-defined]

    async def __aenter__(self) -> str:
        self.port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        return f"http://127.0.0.1:{self.port.getHost().port}"

    async def __aexit__(self, *_: object) -> None:
        await self.port.stopListening()


async def trouble(asked: Deferred[Any]) -> Trouble:
    with pytest.raises(Trouble) as caught:
        await asked
    return caught.value


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Everything that is logged, as text."""
    lines: list[str] = []

    def see(event: dict[str, Any]) -> None:
        lines.append(repr(event))

    globalLogPublisher.addObserver(see)
    yield lines
    globalLogPublisher.removeObserver(see)


# ---------------------------------------------------------------- telling


@pytest_twisted.ensureDeferred
async def test_a_row_is_told_once_however_often_it_is_posted() -> None:
    async with Pair() as pair:
        assert await pair.client.post(row()) == Verdict("stored", 200)
        assert await pair.client.post(row()) == Verdict("stored", 200)
        assert await pair.client.post(row("transaction", STARTED)) == Verdict("stored", 200)
        assert pair.engine.measurements == [MEASUREMENT]
        assert pair.engine.transactions == [STARTED]
        assert pair.engine.repeats == 1
        assert pair.counts.of["engine_requests", "login", "200"] == 1
        assert pair.counts.of["engine_requests", "measurement", "200"] == 2


@pytest.mark.parametrize(("at", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
@pytest_twisted.ensureDeferred
async def test_each_kind_goes_to_its_path_under_a_base_with_a_path_of_its_own(at: str, host: str) -> None:
    asked: list[bytes] = []

    class Listening(Protocol):
        def dataReceived(self, data: bytes) -> None:
            asked.append(data)
            body = b'{"access_token":"t"}'
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))  # type: ignore[union-attr]

    port = reactor.listenTCP(0, Factory.forProtocol(Listening), interface=at)  # type: ignore[attr-defined]
    base = f"{host}:{port.getHost().port}"
    client = client_of(f"http://{base}/base/", paths={"outcomes": "/x/outcomes"})
    await client.post(row("outcome", {}, key="k-9"))
    await client.schedules("hq", "c 1&x", 55)
    await client.stop()
    await port.stopListening()
    login, outcome, schedules = (one.decode() for one in asked)
    assert f"\r\nhost: {base}\r\n" in login.lower()
    assert login.startswith("POST /base/v1/identity/client-login HTTP/1.1")
    assert "Authorization: Basic ZGVtbzpkZW1vLXNlY3JldA==" in login
    assert "Content-Type: application/x-www-form-urlencoded" in login
    assert login.endswith("grant_type=client_credentials")
    assert outcome.startswith("POST /base/x/outcomes HTTP/1.1")
    for line in ("Idempotency-Key: k-9", "Content-Type: application/json", "Authorization: Bearer t"):
        assert line.lower() in outcome.lower()
    assert outcome.endswith("\r\n\r\n{}")
    assert schedules.split(" ")[1] in (
        "/base/v1/sites/hq/schedules?wait=55&after=c%201%26x",
        "/base/v1/sites/hq/schedules?wait=55&after=c+1%26x",
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "stored"),
        (201, "stored"),
        (204, "stored"),
        (409, "stored"),
        (400, "poison"),
        (422, "poison"),
        (403, "poison"),
        (404, "poison"),
        (413, "poison"),
        (401, "unauthorised"),
        (408, "retry"),
        (425, "retry"),
        (429, "retry"),
        (500, "retry"),
        (503, "retry"),
        (302, "retry"),
    ],
)
def test_what_a_status_means(status: int, kind: str) -> None:
    assert verdict(Answer(status, b"")).kind == kind
    assert verdict(Answer(status, b"")).status == status


@pytest.mark.parametrize(("status", "kind"), [(503, "retry"), (429, "retry"), (422, "poison"), (404, "poison"), (302, "retry")])
@pytest_twisted.ensureDeferred
async def test_a_status_over_the_wire(status: int, kind: str) -> None:
    async with Pair() as pair:
        pair.engine.faults.status = status
        pair.engine.faults.retry_after = "7"
        said = await pair.client.post(row())
        assert (said.kind, said.status) == (kind, status)
        assert said.retry_after == (7.0 if kind == "retry" else None)


@pytest_twisted.ensureDeferred
async def test_a_complaint_names_the_field_and_never_its_content() -> None:
    async with Pair() as pair:
        said = await pair.client.post(row("transaction", {**STARTED, "assetId": "BADGE"}))
        assert said == Verdict("poison", 422, None, "body.assetId: value_error")
    loud = json.dumps({"detail": [{"loc": ["body", "driverId"], "type": "string_type", "msg": "BADGE is bad", "input": "BADGE"}]}).encode()
    assert verdict(Answer(422, loud)).detail == "body.driverId: string_type"
    assert verdict(Answer(422, b'{"detail":"BADGE"}')).detail == ""
    assert verdict(Answer(400, b"BADGE")).detail == ""


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_lost_is_asked_for_again_and_stored_once() -> None:
    async with Pair() as pair:
        pair.engine.faults.lose_answers = 1
        first = await pair.client.post(row())
        assert (first.kind, first.status) == ("retry", 0)
        assert (await pair.client.post(row())).kind == "stored"
        assert len(pair.engine.measurements) == 1


@pytest_twisted.ensureDeferred
async def test_an_engine_that_is_not_there_is_a_retry() -> None:
    async with Pair() as pair:
        pass
    client = client_of(pair.url)
    said = await client.post(row())
    assert (said.kind, said.status) == ("retry", 0)
    assert "refused" in said.detail
    await client.stop()
    said = await client.post(row())
    assert (said.kind, said.detail) == ("retry", "the broker stops")


@pytest_twisted.ensureDeferred
async def test_an_engine_whose_certificate_nobody_vouches_for_hears_nothing() -> None:
    heard: list[bytes] = []

    class Listening(Protocol):
        def dataReceived(self, data: bytes) -> None:
            heard.append(data)

    issued = trustme.CA().issue_cert("127.0.0.1")
    key = KeyPair.load(issued.private_key_pem.bytes(), FILETYPE_PEM).original
    certificate = Certificate.loadPEM(issued.cert_chain_pems[0].bytes()).original
    context = CertificateOptions(privateKey=key, certificate=certificate)
    port = reactor.listenSSL(0, Factory.forProtocol(Listening), context, interface="127.0.0.1")  # type: ignore[attr-defined]
    client = client_of(f"https://127.0.0.1:{port.getHost().port}")
    said = await client.post(row())
    assert (said.kind, said.status) == ("retry", 0)
    assert "certificate verify failed" in said.detail
    assert heard == []
    await client.stop()
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_an_engine_that_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pair() as pair:
        await pair.client.post(row())
        pair.engine.faults.delay_s = 60.0
        wire = pair.client._wire
        ask = wire.ask
        monkeypatch.setattr(wire, "ask", lambda *a, **k: ask(*a, **{**k, "timeout": 0.1}))
        said = await pair.client.post(row(key="k-2"))
        assert said == Verdict("retry", 0, None, "the engine did not answer in time")
        assert pair.counts.of["engine_requests", "measurement", "timeout"] == 1
        pair.engine.faults.delay_s = 0.0


@pytest.mark.parametrize(
    "says",
    [
        b"HELLO\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot json!",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"access_token":"a b"}',
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    ],
)
@pytest_twisted.ensureDeferred
async def test_rubbish_of_any_kind_is_a_retry(says: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = engine_wire.Wire.ask
    monkeypatch.setattr(engine_wire.Wire, "ask", lambda *a, **k: ask(*a, **{**k, "timeout": 0.3}))
    async with Serving(says) as url:
        client = client_of(url)
        said = await client.post(row())
        assert (said.kind, said.status) == ("retry", 0)
        await client.stop()


@pytest_twisted.ensureDeferred
async def test_an_endless_answer_is_cut_at_a_mebibyte() -> None:
    async with Serving(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000) as url:
        client = client_of(url)
        assert "longer than" in (await client.post(row())).detail
        await client.stop()


@pytest_twisted.ensureDeferred
async def test_sixteen_rows_at_once_share_one_login() -> None:
    async with Pair() as pair:
        said = await gatherResults([pair.client.post(row(key=f"k-{n}")) for n in range(16)])
        assert {one.kind for one in said} == {"stored"}
        assert pair.engine._api.logins == 1
        assert len(pair.engine.measurements) == 16


# ---------------------------------------------------------------- who we are


@pytest_twisted.ensureDeferred
async def test_a_refused_token_is_renewed_once_for_all_and_the_rows_go_through() -> None:
    async with Pair() as pair:
        await pair.client.post(row())
        pair.engine.revoke()
        said = await gatherResults([pair.client.post(row(key=f"k-{n}")) for n in range(8)])
        assert {one.kind for one in said} == {"stored"}
        assert pair.engine._api.logins == 2
        # Who hears late that the old token was refused uses the new one.
        assert await pair.client._tokens.get(refused="sim-1") == "sim-2"
        assert pair.engine._api.logins == 2


@pytest_twisted.ensureDeferred
async def test_a_token_that_never_works_is_unauthorised_after_one_more_login() -> None:
    async with Pair() as pair:
        pair.engine.expires_in = 0
        said = await pair.client.post(row())
        assert (said.kind, said.status) == ("unauthorised", 401)
        assert pair.engine._api.logins == 2


@pytest_twisted.ensureDeferred
async def test_a_login_that_is_refused_is_unauthorised_and_one_that_fails_a_retry(logged: list[str]) -> None:
    async with Pair(client_secret="other") as pair:
        said = await pair.client.post(row())
        assert (said.kind, said.status) == ("unauthorised", 401)
        pair.engine.faults.login_status = 503
        said = await pair.client.post(row())
        assert (said.kind, said.status) == ("retry", 503)
        assert (await trouble(pair.client.schedules("hq", None, 0))).status == 503
    assert "demo-secret" not in "".join(logged) + said.detail


@pytest_twisted.ensureDeferred
async def test_a_token_is_renewed_before_it_ends_and_used_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pair(expires_in=100) as pair:
        await pair.client.post(row())
        tokens = pair.client._tokens
        now = reactor.seconds()  # type: ignore[attr-defined]
        assert 79 <= tokens._renew_at - now <= 80.5
        tokens._renew_at = now - 1
        pair.engine.faults.login_status = 500
        for n in range(3):
            assert (await pair.client.post(row(key=f"early-{n}"))).kind == "stored"
        assert pair.engine._api.logins == 2
        pair.engine.faults.login_status = 0
        tokens._renew_at = now - 1
        assert (await pair.client.post(row(key="again"))).kind == "stored"
        assert (await pair.client.post(row(key="again-2"))).kind == "stored"
        assert pair.engine._api.logins == 3
        assert tokens._token == "sim-3"


@pytest_twisted.ensureDeferred
async def test_neither_secrets_nor_id_tokens_are_logged(logged: list[str]) -> None:
    async with Pair() as pair:
        await pair.client.post(row("transaction", STARTED))
        pair.engine.faults.rubbish = b"BADGE demo-secret sim-1"
        await trouble(pair.client.site("hq"))
        pair.engine.faults.down = True
        await pair.client.post(row("transaction", STARTED, key="k-3"))
        tell = repr(pair.client._tokens) + repr(pair.client._wire)
    assert not [line for line in [*logged, tell] if "BADGE" in line or "demo-secret" in line or "sim-1" in line]


# ---------------------------------------------------------------- asking


@pytest_twisted.ensureDeferred
async def test_a_long_poll_is_answered_when_there_is_news() -> None:
    async with Pair() as pair:
        first = await pair.client.schedules("hq", None, 0)
        assert first["schedules"] == []
        asked = pair.client.schedules("hq", first["cursor"], 55)
        await pair.client.post(row("transaction", STARTED))
        news = await asked
        assert [one["asset_id"] for one in news["schedules"]] == ["A-1"]
        assert all(fits("Schedule", one) for one in news["schedules"])
        assert (await pair.client.site("hq"))["site_id"] == "hq"


@pytest.mark.parametrize(("rubbish", "what"), [(b"<html>", "rubbish"), (b"", "rubbish"), (b"[" * 5000, "rubbish")])
@pytest_twisted.ensureDeferred
async def test_rubbish_for_schedules_is_trouble(rubbish: bytes, what: str) -> None:
    async with Pair() as pair:
        pair.engine.faults.rubbish = rubbish or b" "
        assert (await trouble(pair.client.schedules("hq", None, 0))).what == what


@pytest_twisted.ensureDeferred
async def test_stopping_ends_a_long_poll_at_once() -> None:
    async with Pair() as pair:
        asked = pair.client.schedules("hq", None, 55)
        await pair.client.post(row())
        stopping = ensureDeferred(pair.client.stop())
        await until(lambda: stopping.called, 1.0)
        assert (await trouble(asked)).what == "stopped"
        assert (await pair.client.post(row(key="late"))).detail == "the broker stops"
        assert len(pair.engine.measurements) == 1


# ---------------------------------------------------------------- many at once


@pytest_twisted.ensureDeferred
async def test_a_batch_settles_each_row_by_itself() -> None:
    async with Pair() as pair:
        rows = [row(key="a"), row("transaction", {"assetId": "A-1"}, key="b"), row("transaction", STARTED, key="c")]
        said = await pair.client.post_batch(rows)
        assert [(one.kind, one.status) for one in said] == [("stored", 200), ("poison", 422), ("stored", 200)]
        assert pair.engine.measurements == [MEASUREMENT]
        assert pair.engine.transactions == [STARTED]
        pair.engine.faults.status = 503
        assert {one.kind for one in await pair.client.post_batch(rows)} == {"retry"}
        pair.engine.faults.status = 0
        pair.engine.faults.rubbish = b'{"a":1}'
        assert {one.kind for one in await pair.client.post_batch(rows)} == {"retry"}
        pair.engine.faults.rubbish = b'[{"key":"a","status":200},{"key":"c","status":"x"},7]'
        assert [one.kind for one in await pair.client.post_batch(rows)] == ["stored", "retry", "retry"]


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("999999", 3600.0),
        (formatdate(1_000_030, usegmt=True), 30.0),
        (formatdate(999_000, usegmt=True), 0.0),
        ("-3", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("9" * 400, None),
        ("\u0662", 2.0),
    ],
)
def test_retry_after_as_seconds_or_as_a_date(said: str | None, means: float | None) -> None:
    assert retry_after(said, 1_000_000.0) == means


def test_the_answers_of_the_simulated_engine_and_our_rows_fit_the_contract() -> None:
    assert fits("Measurement", MEASUREMENT)
    assert fits("Transaction", STARTED)
    assert not fits("Transaction", {"assetId": 1})
