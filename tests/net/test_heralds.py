"""Alarms told to real servers on loopback: a webhook and a mail server, well, down, slow, refusing, and with the wrong certificate."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from treq.testing import StubTreq
from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.ssl import Certificate as TwistedCertificate
from twisted.internet.ssl import CertificateOptions, KeyPair
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from wires import reactor, soon
from zope.interface import implementer

from broker.alarms import Book, Changes
from broker.counts import Counts
from broker.net import mail as mailing
from broker.net import webhook as hooking
from broker.net.admin import Views, tree
from broker.net.heralds import Herald, Heralds
from broker.net.mail import Mail
from broker.net.replies import Refused
from broker.net.webhook import Untold, Webhook
from broker.notices import trial
from broker.settings import AlarmSettings, MailSettings

CA = trustme.CA()
OURS = CA.issue_cert("127.0.0.1", "localhost", "::1")
OTHER = CA.issue_cert("other.example.com")
TOKEN, PASSWORD = "t0ken-of-ours", "pass word-of-ours"


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    CA.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[str]]:
    """All that is logged; no secret may be in it, whatever a test does."""
    said: list[str] = []

    def observe(event: Any) -> None:
        text = str(event.get("log_format") or "").format_map({**event})
        said.append(f"{text} {event.get('log_failure', '')} {event.get('log_text', '')}")

    globalLogPublisher.addObserver(observe)
    yield said
    globalLogPublisher.removeObserver(observe)
    assert not any("AttributeError" in line or "Unhandled" in line for line in said)
    assert not any(secret in line for line in said for secret in (TOKEN, PASSWORD, "hooks/s3cret"))


class Hook(Resource):
    """A webhook that keeps what it is told. `status`: what it answers; 0: nothing, ever."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.told: list[Any] = []
        self.tokens: list[str | None] = []

    def render_POST(self, request: Request) -> Any:
        assert request.content is not None
        self.told.append(json.loads(request.content.read()))
        self.tokens.append(request.getHeader("authorization"))
        request.setResponseCode(self.status or 200)
        request.setHeader("location", "http://127.0.0.1:1/elsewhere")
        return b"x" * 200_000 if self.status else NOT_DONE_YET


class Served:
    """`hook` on loopback, with or without TLS."""

    def __init__(self, certificate: trustme.LeafCert | None = None, at: str = "127.0.0.1") -> None:
        self.hook = Hook()
        site = Site(self.hook)
        site.log = lambda request: None  # the server's own log is not ours
        if certificate is None:
            self._port = reactor.listenTCP(0, site, interface=at)
        else:
            key = KeyPair.load(certificate.private_key_pem.bytes(), 1).original
            chain = [TwistedCertificate.loadPEM(pem.bytes()).original for pem in certificate.cert_chain_pems]
            self._port = reactor.listenSSL(0, site, CertificateOptions(privateKey=key, certificate=chain[0]), interface=at)
        scheme = "http" if certificate is None else "https"
        host = f"[{at}]" if ":" in at else at
        self.url = f"{scheme}://{host}:{self._port.getHost().port}/hooks/s3cret"

    async def __aenter__(self) -> Served:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._port.stopListening()


class Post:
    """What the mail server's answers hang on."""

    def __init__(self, refuse: str = "") -> None:
        self.refuse, self.mails = refuse, list[Any]()

    async def handle_DATA(self, server: Any, talk: Any, envelope: Any) -> str:
        if self.refuse:
            return self.refuse
        self.mails.append(envelope)
        return "250 taken"


class PostOffice(Controller):
    """aiosmtpd in its own thread. `tls`: as `smtp_tls`; `user`: asks for a password."""

    def __init__(
        self, post: Post, tls: str = "none", certificate: trustme.LeafCert = OURS, user: bool = False, at: str = "127.0.0.1"
    ) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        self._more: dict[str, Any] = {"tls_context": context, "require_starttls": True} if tls == "starttls" else {}
        if user:
            self._more |= {"authenticator": self._authenticate, "auth_required": True, "auth_require_tls": tls == "starttls"}
        super().__init__(post, hostname=at, port=0, ssl_context=context if tls == "implicit" else None, ready_timeout=10)

    def factory(self) -> SMTP:
        return SMTP(self.handler, **self._more)

    @staticmethod
    def _authenticate(server: Any, talk: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"broker", PASSWORD.encode())
        return AuthResult(success=good, handled=False)

    def _trigger_server(self) -> None:
        """It dials itself, and must be told where."""
        self.port = self.at
        super()._trigger_server()

    async def __aenter__(self) -> PostOffice:
        await deferToThread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await deferToThread(self.stop)

    @property
    def at(self) -> int:
        assert self.server is not None
        return int(self.server.sockets[0].getsockname()[1])


def mail(port: int, tls: Any = "none", user: str = "", password: str = "", host: str = "127.0.0.1", **more: Any) -> Mail:
    one = MailSettings(host, port, "broker@example.com", ("ops@example.com", "night@example.com"), tls, user, password)
    settings = AlarmSettings(mail=one, **more)
    return Mail(settings, one, reactor, deferToThread)


async def why(sent: Any) -> str:
    with pytest.raises(Untold) as caught:
        await sent
    text = str(caught.value)
    assert text.isprintable()
    assert not any(secret in text for secret in (TOKEN, PASSWORD, "s3cret"))
    return text


MESSAGE = trial("id-1", 1_800_000_000.0)


# ---------------------------------------------------------------- the webhook


@pytest_twisted.ensureDeferred
async def test_a_webhook_is_told_with_its_token() -> None:
    async with Served() as served:
        await Webhook(AlarmSettings("north", served.url, TOKEN), reactor).send(MESSAGE)
        (told,) = served.hook.told
        assert (told["id"], told["broker"], told["alarms"][0]["event"]) == ("id-1", "north", "test")
        assert told["text"].startswith("[north] test: test of broker\n")
        assert served.hook.tokens == [f"Bearer {TOKEN}"]


@pytest_twisted.ensureDeferred
async def test_a_webhook_over_tls_is_told_only_if_it_is_the_one_that_was_named(ca_file: str) -> None:
    async with Served(OURS) as served:
        await Webhook(AlarmSettings(webhook_url=served.url, ca_file=ca_file), reactor).send(MESSAGE)
        assert len(served.hook.told) == 1
        untrusted = await why(Webhook(AlarmSettings(webhook_url=served.url), reactor).send(MESSAGE))
        assert "its certificate is not trusted" in untrusted
        missing = await why(Webhook(AlarmSettings(webhook_url=served.url, ca_file=ca_file + "x"), reactor).send(MESSAGE))
        assert missing.startswith("broker.alarms.ca_file: ")
        assert len(served.hook.told) == 1
    async with Served(OTHER) as served:
        assert "certificate" in await why(Webhook(AlarmSettings(webhook_url=served.url, ca_file=ca_file), reactor).send(MESSAGE))
        assert served.hook.told == []


@pytest_twisted.ensureDeferred
async def test_a_webhook_that_refuses_redirects_or_is_away_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Served() as served:
        hook = Webhook(AlarmSettings(webhook_url=served.url, webhook_token=TOKEN), reactor)
        for served.hook.status, said in (
            (401, "127.0.0.1: answers 401: check webhook_url and webhook_token"),
            (302, "127.0.0.1: answers 302"),
            (500, "127.0.0.1: answers 500"),
        ):
            assert await why(hook.send(MESSAGE)) == said
        monkeypatch.setattr(hooking, "TOTAL_S", 0.2)
        served.hook.status = 0
        assert await why(hook.send(MESSAGE)) == "127.0.0.1: no answer in time"
    monkeypatch.undo()
    assert "refused" in await why(hook.send(MESSAGE))


# ---------------------------------------------------------------- mail


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest_twisted.ensureDeferred
async def test_a_mail_is_sent_with_tls_and_password(tls: str, ca_file: str) -> None:
    post = Post()
    async with PostOffice(post, tls, user=tls == "starttls") as office:
        user = ("broker", PASSWORD) if tls == "starttls" else ("", "")
        await mail(office.at, tls, *user, ca_file=ca_file, name="north").send(MESSAGE)
    (envelope,) = post.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == ("broker@example.com", ["ops@example.com", "night@example.com"])
    letter = message_from_bytes(envelope.content, policy=default)
    assert (letter["Subject"], letter["Message-ID"], letter["Auto-Submitted"]) == (
        "[north] test: test of broker", "<id-1@example.com>", "auto-generated",
    )  # fmt: skip
    assert "TEST  test of broker, warning, since 2027-01-15T08:00:00.000Z" in letter.get_content()


@pytest_twisted.ensureDeferred
async def test_a_mail_server_that_is_not_who_it_says_gets_neither_mail_nor_password(ca_file: str) -> None:
    post = Post()
    for tls in ("starttls", "implicit"):
        async with PostOffice(post, tls, OTHER) as office:
            said = await why(mail(office.at, tls, "broker", PASSWORD, ca_file=ca_file).send(MESSAGE))
            assert said == "127.0.0.1: its certificate is not trusted or not for this host, or it speaks no TLS"
    async with PostOffice(post, "none") as office:
        assert "TLS" in await why(mail(office.at, "starttls", "broker", PASSWORD, ca_file=ca_file).send(MESSAGE))
    assert post.mails == []


@pytest_twisted.ensureDeferred
async def test_a_mail_server_that_refuses_or_is_away_says_why(ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with PostOffice(Post(), "starttls", user=True) as office:
        wrong = await why(mail(office.at, "starttls", "broker", "another", ca_file=ca_file).send(MESSAGE))
        assert wrong.startswith("127.0.0.1: answers 535 ")
    async with PostOffice(Post(f"554 {PASSWORD} is no password")) as office:
        assert await why(mail(office.at, "none", "", PASSWORD).send(MESSAGE)) == "127.0.0.1: answers 554"
    async with PostOffice(Post("451 later\x1b[31m please")) as office:
        assert await why(mail(office.at).send(MESSAGE)) == "127.0.0.1: answers 451 later [31m please"
        port = office.at
    assert "refused" in await why(mail(port).send(MESSAGE))
    silent = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")  # waits for us, as we for it
    monkeypatch.setattr(mailing, "TOTAL_S", 0.2)
    assert await why(mail(silent.getHost().port).send(MESSAGE)) == "127.0.0.1: no answer in time"
    await silent.stopListening()


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest_twisted.ensureDeferred
async def test_recipients_that_have_an_ipv6_address_only(tls: str, ca_file: str) -> None:
    """By address, and by a name that has no other."""
    post = Post()
    async with Served(OURS if tls == "implicit" else None, "::1") as served, PostOffice(post, tls, at="::1") as office:
        await Webhook(AlarmSettings(webhook_url=served.url, ca_file=ca_file), reactor).send(MESSAGE)
        await mail(office.at, tls, host="::1", ca_file=ca_file).send(MESSAGE)
        before = reactor.installNameResolver(Six())
        try:
            await mail(office.at, tls, host="localhost", ca_file=ca_file).send(MESSAGE)
            assert await why(mail(25, host="nowhere.example.com").send(MESSAGE)) == "nowhere.example.com: no such host is known"
        finally:
            reactor.installNameResolver(before)
    assert (len(served.hook.told), len(post.mails)) == (1, 2)


@implementer(IHostnameResolver)
class Six:
    """A name server that knows localhost, by its IPv6 address only."""

    def resolveHostName(self, receiver: Any, host: str, *_: object, **__: object) -> None:
        receiver.resolutionBegan(None)
        if host == "localhost":
            receiver.addressResolved(IPv6Address("TCP", "::1", 0))
        receiver.resolutionComplete()


# ---------------------------------------------------------------- the whole way


def heralds(settings: AlarmSettings, book: Book, counts: Counts | None = None) -> Heralds:
    return Heralds(settings, reactor, counts or Counts(), lambda: 1_800_000_000.0, book.current)


@pytest_twisted.ensureDeferred
async def test_raised_and_cleared_reach_both_and_the_one_that_is_away_holds_up_nobody(logged: list[str]) -> None:
    book, counts, post = Book(), Counts(), Post()
    async with Served() as served, PostOffice(post) as office:
        served.hook.status = 503
        one = MailSettings("127.0.0.1", office.at, "broker@example.com", ("ops@example.com",), "none")
        told = heralds(AlarmSettings(webhook_url=served.url, mail=one, gather_s=0.05), book, counts)
        for n in range(20):
            told.changed(book.raise_("clock", f"acme/CS-{n}", "jumps", 1.0))
        assert await soon(lambda: post.mails and served.hook.told)
        told.changed(book.clear("clock", "acme/CS-3"))
        assert await soon(lambda: len(post.mails) == 2)
        assert "20 raised" in message_from_bytes(post.mails[0].content, policy=default)["Subject"]
        assert message_from_bytes(post.mails[1].content, policy=default)["Subject"] == "[ocppbroker] cleared: clock of acme/CS-3"
        served.hook.status = 200
        assert await soon(lambda: len(served.hook.told) > 1 and served.hook.told[-1]["alarms"][0]["event"] == "cleared", 30)
        assert served.hook.told[0]["id"] == served.hook.told[1]["id"] != served.hook.told[-1]["id"]
        assert len(served.hook.told[1]["alarms"]) == 20
        assert served.hook.told[-1]["standing"] == 19
        assert counts.of[("alarm_messages", "mail", "sent")] == 2
        assert counts.of[("alarm_messages", "webhook", "failed")] >= 1
        assert sum("cannot be told by webhook" in line for line in logged) == 1
        assert sum("the webhook takes them again" in line for line in logged) == 1
        told.stop()


@pytest_twisted.ensureDeferred
async def test_a_reload_tells_the_new_one_what_stands_and_the_old_one_no_more() -> None:
    book = Book()
    async with Served() as old, Served() as new:
        told = heralds(AlarmSettings(webhook_url=old.url, gather_s=60), book)
        told.changed(book.raise_("cpms", "acme", "away", 1.0))
        (before,) = told.all
        assert before._timer is not None
        told.change(AlarmSettings(webhook_url=new.url, gather_s=0))
        assert before._timer is None
        assert await soon(lambda: new.hook.told)
        assert [one["subject"] for one in new.hook.told[0]["alarms"]] == ["acme"]
        assert old.hook.told == []
        told.stop()


@pytest_twisted.ensureDeferred
async def test_a_stop_leaves_nothing_behind() -> None:
    book = Book()
    async with Served() as served:
        served.hook.status = 0
        told = heralds(AlarmSettings(webhook_url=served.url, gather_s=0), book)
        told.changed(book.raise_("cpms", "acme", "away", 1.0))
        assert await soon(lambda: served.hook.told)
        before = len(reactor.getDelayedCalls())
        told.stop()
        told.changed(book.raise_("engine", "acme", "away", 1.0))
        assert len(reactor.getDelayedCalls()) <= before
        assert all(herald._timer is None and not herald._under_way for herald in told.all)


@pytest_twisted.ensureDeferred
async def test_a_test_says_of_each_what_became_of_it() -> None:
    async with Served() as served:
        one = MailSettings("127.0.0.1", 1, "broker@example.com", ("ops@example.com",), "none")
        told = heralds(AlarmSettings(webhook_url=served.url, mail=one), Book())
        views = Views(lambda: "", dict, lambda *_: {}, lambda *_: None, lambda: b"", test_alarms=lambda: _deferred(told.test))
        asked = StubTreq(tree(views, "token"))
        assert (await asked.post("http://broker/api/v1/alarms/test")).code == 401
        assert served.hook.told == []
        said = await told.test()
        assert said["webhook"] == "sent"
        assert "refused" in said["mail"]
        assert served.hook.told[0]["alarms"][0]["event"] == "test"
        right = {"Authorization": "Bearer token"}
        for method, path, code in (("POST", "", 405), ("GET", "/test", 404), ("POST", "/tset", 404), ("GET", "", 200)):
            assert (await asked.request(method, f"http://broker/api/v1/alarms{path}", headers=right)).code == code
    with pytest.raises(Refused, match="nobody is told of alarms"):
        await heralds(AlarmSettings(), Book()).test()


def _deferred(coroutine: Callable[[], Any]) -> Any:
    return pytest_twisted.defer.ensureDeferred(coroutine())


def test_what_stands_is_told_again_once_a_day() -> None:
    clock, book, told = Clock(), Book(), list[str]()

    class Kept:
        name = "webhook"

        def send(self, message: Any) -> Any:
            told.extend(f"{one.event} {one.alarm.subject}" for one in message.notices)
            return pytest_twisted.defer.succeed(None)

    all_of_them = Heralds(AlarmSettings(), clock, Counts(), clock.seconds, book.current)
    all_of_them.all = (Herald(Kept(), AlarmSettings(gather_s=5), clock, Counts(), standing=lambda: len(book)),)
    for subject in ("acme", "beta"):
        all_of_them.changed(book.raise_("cpms", subject, "away", 0.0))
    for _ in range(86_400 // 10 + 10):
        clock.advance(10.0)
        all_of_them.look()
        if clock.seconds() == 50_000:
            all_of_them.changed(book.clear("cpms", "beta"))
    assert told == ["raised acme", "raised beta", "cleared beta", "standing acme"]


def test_a_recipient_of_ours_that_breaks_is_said_and_tried_again(logged: list[str]) -> None:
    clock, tried = Clock(), list[str]()

    class Broken:
        name = "webhook"

        def send(self, message: Any) -> Any:
            tried.append(message.id)
            return pytest_twisted.defer.fail(RuntimeError("a mistake"))

    herald = Herald(Broken(), AlarmSettings(gather_s=5), clock, Counts(), standing=lambda: 1, jitter=lambda: 0.5)
    herald.changed(Changes(Book().raise_("cpms", "acme", "away", 1.0).raised), 1.0)
    clock.pump([1.0] * 60)
    assert len(tried) > 3
    assert len(set(tried)) == 1
    assert any("a mistake of ours" in line for line in logged)
    herald.stop()
    assert not clock.getDelayedCalls()
