"""Who may come in: paths, tenants, room, security profiles, certificates; and what the log and the counters say of the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import make_pki
import pytest
import pytest_twisted
from fakes import Rig, Wire, accept, answer, clock, delayed, header, nap, until, upgrade
from make_pki import issue
from OpenSSL import SSL
from twisted.internet.defer import fail
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from broker.backoff import FREE
from broker.model.basics import Key
from broker.net.door import offer_of, shown
from broker.request import read
from broker.settings import StationSettings, TenantSettings
from broker.target import parse

BASIC = "Authorization: Basic Q1MtNzpzM2NyZXQ="


def polite(wire: Wire) -> None:
    accept(wire)
    wire.polite = True


# ---------------------------------------------------------------- paths and tenants


@pytest_twisted.ensureDeferred
async def test_what_is_no_path_of_ours_is_404_and_the_cpms_sees_no_connection(rig: Rig) -> None:
    paths = [
        *("/acme/.", "/acme/..", "/acme/%2e", "/acme/%2E%2e", "/acme/x/../y", "/acme/..%2fx", "/../acme/CS-7", "/acme/a;b", "/acme;x/a"),
        *("/acme/a%00", "/acme/a%0d%0aX", "/acme/a%2fb", "/acme/a%5cb", "/acme/a\\b", "/acme/caf\xe9", "/acme/%ff", "/acme/" + "a" * 250),
        *("http://user@broker/acme/CS-7", "http://other/acme/CS-7", "//", "/", "/acme", "/acme/", "/nobody/CS-7", "/acme/a#b", "*"),
        *("/?redirect=http://evil", "/acme?redirect=http://evil", "/ACME/CS-7", "/acme//CS-7//"),
    ]
    for path in paths:
        station = await rig.dial(path)
        head = await station.head()
        assert head.split(b" ")[1] == b"404", path
        assert header(head, b"location") == header(head, b"server") == [], path
        await station.end()
        assert station.buffer == b"", path
    assert rig.cpms.wires == []
    assert rig.world.counts.of == {("refused", "404", "station"): len(paths)}


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "path",
    ["/acme/CS%207", "/acme/A:b@c$d+e=f*g|h,i", "//acme//x/CS-7/?q=%2F..%2f", "http://BROKER/acme/CS-7?a", "/%61cme/CS-7", "/acme/%43S-7"],
)
async def test_the_identity_is_the_same_for_us_and_for_the_cpms(rig: Rig, path: str) -> None:
    await rig.pair(path)
    key, tail = parse(path.encode(), b"broker")
    assert rig.opened[0].key == key
    assert rig.cpms.wires[0].request.split(b"\r\n")[0] == b"GET /ocpp/" + tail + b" HTTP/1.1"


@pytest_twisted.ensureDeferred
async def test_unlisted_stations_as_the_tenant_wants(rig: Rig) -> None:
    rig.tenant(unlisted="refuse", stations={"CS-1": StationSettings("CS-1", "relay")})
    assert await (await rig.dial("/acme/CS-7")).status() == 404
    assert rig.cpms.wires == []
    await rig.pair("/acme/CS-1")


@pytest_twisted.ensureDeferred
async def test_a_port_of_one_tenant(rig: Rig) -> None:
    rig.tenant("other", cpms_url="ws://127.0.0.1:1/ocpp")
    port = await rig.listen(tenant="acme")
    station = await rig.connect(port)
    station.transport.write(upgrade("/CS-7"))
    assert await station.status() == 101
    station = await rig.connect(port)
    station.transport.write(upgrade("/other/CS-8"))
    assert await station.status() == 101
    assert [link.key for link in rig.opened] == [Key("acme", "CS-7"), Key("acme", "CS-8")]


@pytest_twisted.ensureDeferred
async def test_beyond_the_cap_is_503_and_those_within_are_unharmed(lines: list[str]) -> None:
    rig = await Rig(max_links=2).start()
    station, cpms = await rig.pair("/acme/CS-1")
    held: list[Wire] = []
    rig.cpms.on_head = held.append
    await rig.dial("/acme/CS-2")
    await until(lambda: held)
    head = await (await rig.dial("/acme/CS-3")).head()
    assert head.split(b" ")[1] == b"503"
    assert header(head, b"retry-after")
    assert any(line.endswith("refused with 503: the broker is full or stopping") for line in lines)
    station.say(b"x")
    assert await cpms.hear() == b"x"
    held[0].abort()
    await until(lambda: rig.links.taken == 1)
    rig.cpms.on_head = accept
    await rig.pair("/acme/CS-3")
    await rig.stop()


@pytest_twisted.ensureDeferred
async def test_a_tenant_beyond_its_own_cap_gets_503_however_many_come_together_and_the_others_are_unharmed(
    rig: Rig, lines: list[str]
) -> None:
    rig.tenant(max_links=3)
    rig.tenant("other", cpms_url=rig.settings.tenants["acme"].cpms_url)
    station, cpms = await rig.pair("/acme/CS-1")
    held: list[Wire] = []
    rig.cpms.on_head = held.append
    many = [await rig.dial(f"/acme/CS-{n}") for n in range(2, 12)]
    await until(lambda: len([one for one in many if one.gone]) == 8)
    heads = [one.buffer for one in many if one.gone]
    assert {head.split(b" ")[1] for head in heads} == {b"503"}
    assert all(header(head, b"retry-after") == [b"10"] for head in heads)
    await until(lambda: len(held) == 2)
    assert rig.links.taken == 3
    assert rig.world.counts.of == {("refused", "503", "broker"): 8}
    said = [line for line in lines if line.endswith("the broker lets no more than 3 stations of acme in: its max_links")]
    assert len(said) == 5, "as many as are said of one kind"
    station.say(b"x")
    assert await cpms.hear() == b"x"
    held[0].abort()
    await until(lambda: rig.links.taken == 2)
    rig.cpms.on_head = accept
    await rig.pair("/other/CS-1")
    await rig.pair("/acme/CS-20")
    assert await (await rig.dial("/acme/CS-21")).status() == 503


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("whose", ["broker", "tenant"])
async def test_when_all_is_full_a_station_still_takes_its_own_place(whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.links.ALIVE_S", 0.2)
    rig = await Rig(max_links=1 if whose == "broker" else 9).start()
    rig.tenant(max_links=1 if whose == "tenant" else None)
    rig.cpms.on_head = polite
    dead, _ = await rig.pair()
    dead.pongs = False
    assert await (await rig.dial("/acme/CS-8")).status() == 503
    assert await (await rig.dial()).status() == 101
    assert rig.cpms.most_at_once == 1
    await rig.stop()


@pytest_twisted.ensureDeferred
async def test_a_cap_that_is_lowered_keeps_out_who_comes_and_sends_nobody_away(rig: Rig) -> None:
    pairs = [await rig.pair(f"/acme/CS-{n}") for n in range(3)]
    rig.tenant(max_links=1)
    assert await (await rig.dial("/acme/CS-9")).status() == 503
    for station, cpms in pairs:
        station.say(b"x")
        assert await cpms.hear() == b"x"


# ---------------------------------------------------------------- what we are told of a station


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_learned_does_not_keep_a_station_out(rig: Rig) -> None:
    rig.door._known = lambda *_: fail(RuntimeError("disk"))
    station, cpms = await rig.pair()
    station.say(b"x")
    assert await cpms.hear() == b"x"


@pytest_twisted.ensureDeferred
async def test_a_station_that_goes_while_we_look_it_up_leaves_no_half_link(rig: Rig) -> None:
    from twisted.internet.defer import Deferred

    asked: list[Any] = []

    def known(*_: object) -> Any:
        asked.append(Deferred())
        return asked[-1]

    rig.door._known = known
    station = await rig.dial()
    await until(lambda: asked)
    assert rig.links.taken == 1
    station.abort()
    await rig.cpms.wires[0].end()
    await until(lambda: rig.links.taken == 0)
    assert rig.opened == []
    assert rig.world.counts.of == {}, "nobody was refused, and nothing failed"


# ---------------------------------------------------------------- the log


@pytest_twisted.ensureDeferred
async def test_no_line_of_the_log_holds_a_secret_or_more_than_a_line(rig: Rig, lines: list[str]) -> None:
    long = "/acme/" + "%e2%80%ae" * 20 + "x" * 40
    for path in ("/acme/CS-7?token=s3cret", "/acme/a%1b[31ms3cret?s3cret", long, "/s3cret?s3cret", "/acme/" + "y" * 200):
        station = await rig.dial(path, "Authorization: Basic s3cret", "Cookie: s3cret")
        await station.head()
        station.abort()
    await until(lambda: not rig.links.taken)
    rig.cpms.on_head = lambda wire: wire.transport.write(b"HTTP/1.1 401 s3cret\r\nX: s3cret\r\n\r\n")
    await (await rig.dial("/acme/CS-8", "Authorization: Basic s3cret")).head()
    assert any("acme/CS-7#1" in line for line in lines)
    for line in lines:
        assert "s3cret" not in line, line
        assert "\n" not in line
        assert line.isprintable(), ascii(line)
        assert len(line) < 200, line


def test_names_are_shown_short_and_plain() -> None:
    assert shown("CS-7") == "CS-7"
    assert shown("a\x1b[31m\r\n\u202e\ud800") == "a\\x1b[31m\\r\\n\\u202e\\ud800"
    assert len(shown("\u202e" * 4096)) == len(shown("x" * 65)) == 64
    assert shown("x" * 64) == "x" * 64


# ---------------------------------------------------------------- security profiles


@pytest_twisted.ensureDeferred
async def test_the_least_security_profile_over_plain_tcp(rig: Rig) -> None:
    rig.tenant(security_profile=1)
    head = await (await rig.dial()).head()
    assert head.split(b" ")[1] == b"401"
    assert header(head, b"www-authenticate") == [b'Basic realm="ocpp"']
    assert await (await rig.dial("/acme/CS-7", "Authorization: Basic ")).status() == 401
    assert await (await rig.dial("/acme/CS-7", "Authorization: Bearer x")).status() == 401
    assert rig.cpms.wires == []
    await rig.pair("/acme/CS-7", BASIC)
    assert header(rig.cpms.wires[0].request, b"authorization") == [b"Basic Q1MtNzpzM2NyZXQ="]
    for least in (2, 3):
        rig.tenant(security_profile=least)
        assert await (await rig.dial("/acme/CS-8", BASIC)).status() == 403
    assert len(rig.cpms.wires) == 1


@implementer(IOpenSSLClientConnectionCreator)
class Client:
    """Shows a certificate, or none; checks nothing."""

    def __init__(self, shows: make_pki.Issued | None) -> None:
        self.context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        if shows is not None:
            self.context.use_certificate(shows.certificate)
            self.context.use_privatekey(shows.key)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self.context, None)


class Secure:
    """A rig with an `ocpps:` port, another that demands certificates, and stations with certificates of two tenants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cas = {name: issue(name, None) for name in ("acme", "other")}
        for name, ca in self.cas.items():
            ca.write(folder, name)
        both = (folder / "acme.pem").read_bytes() + (folder / "other.pem").read_bytes()
        (folder / "both.pem").write_bytes(both)
        issue("localhost", self.cas["acme"], hosts=["localhost"]).write(folder, "broker")

    async def start(self, tenant: str | None = None) -> Secure:
        self.rig = await Rig().start()
        keys = f"ocpps:0:interface=127.0.0.1:certificate={self.folder}/broker.pem:privateKey={self.folder}/broker.key"
        self.port = await self.rig.listen(keys, tenant)
        self.demanding = await self.rig.listen(f"{keys}:clientCAs={self.folder}/both.pem", tenant)
        return self

    def shows(self, cn: str, ca: str = "acme") -> make_pki.Issued:
        return issue(cn, self.cas[ca], client=True)

    async def dial(self, path: str, *more: str, shows: make_pki.Issued | None = None) -> Wire:
        factory = TLSMemoryBIOFactory(Client(shows), True, Factory.forProtocol(lambda: Wire(True)))
        outer: Any = await TCP4ClientEndpoint(clock, "127.0.0.1", self.demanding if shows else self.port).connect(factory)
        wire: Wire = outer.wrappedProtocol
        self.rig._stations.append(wire)
        wire.transport.write(upgrade(path, *more))
        return wire

    async def status(self, *asks: Any, **shows: Any) -> int:
        return await (await self.dial(*asks, **shows)).status()


@pytest_twisted.async_yield_fixture
async def secure(tmp_path: Path) -> AsyncIterator[Secure]:
    secure = await Secure(tmp_path).start()
    yield secure
    await secure.rig.stop()


@pytest_twisted.ensureDeferred
async def test_profile_2_takes_tls_with_a_password(secure: Secure) -> None:
    secure.rig.tenant(security_profile=2)
    assert await secure.status("/acme/CS-7") == 401
    station = await secure.dial("/acme/CS-7", BASIC)
    assert await station.status() == 101
    cpms = secure.rig.cpms.wires[-1]
    for text in (b"x" * 300_000, b'[2,"1","Heartbeat",{}]'):
        station.say(text)
        assert await cpms.hear() == text
        cpms.say(text)
        assert await station.hear() == text
    cpms.close(4001, "bye")
    assert await station.closed() == (4001, "bye")
    await station.end(1)
    station = await secure.dial("/acme/CS-7", BASIC)
    assert await station.status() == 101
    station.close(1000)
    assert await secure.rig.cpms.wires[-1].closed() == (1000, "")
    await station.end(1)


@pytest_twisted.ensureDeferred
async def test_profile_3_takes_a_certificate_of_this_station_at_this_tenant_only(secure: Secure) -> None:
    rig = secure.rig
    rig.tenant(security_profile=3, station_ca_file=str(secure.folder / "acme.pem"))
    url = rig.settings.tenants["acme"].cpms_url
    rig.tenant("other", cpms_url=url, security_profile=3, station_ca_file=str(secure.folder / "other.pem"))
    assert await secure.status("/acme/CS-7", BASIC) == 403, "no certificate"
    assert await secure.status("/acme/CS-8", shows=secure.shows("CS-7")) == 401, "another station's"
    assert await secure.status("/other/CS-7", shows=secure.shows("CS-7")) == 401, "another tenant's CA"
    assert await secure.status("/acme/CS-7", shows=secure.shows("CS-7", "other")) == 401, "another tenant's CA"
    assert await secure.status("/acme/x/CS-7/../CS-8", shows=secure.shows("CS-8")) == 404
    assert rig.cpms.wires == []
    assert await secure.status("/acme/CS-7", shows=secure.shows("CS-7")) == 101
    assert await secure.status("/acme/CS%207", shows=secure.shows("CS 7")) == 101
    assert await secure.status("/other/CS-7", shows=secure.shows("CS-7", "other")) == 101


@pytest_twisted.ensureDeferred
async def test_who_shows_another_stations_certificate_again_and_again_has_to_wait_and_others_do_not(secure: Secure) -> None:
    secure.rig.tenant(security_profile=3, station_ca_file=str(secure.folder / "acme.pem"))
    wrong = secure.shows("CS-7")
    for _ in range(FREE + 1):
        assert await secure.status("/acme/CS-8", shows=wrong) == 401
    assert await secure.status("/acme/CS-8", shows=wrong) == 429
    assert await secure.status("/acme/CS-7", shows=wrong) == 101


@pytest_twisted.ensureDeferred
async def test_who_the_cpms_refuses_with_401_again_and_again_has_to_wait_and_others_do_not(rig: Rig) -> None:
    refuse = answer(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
    rig.cpms.on_head = refuse
    for _ in range(FREE + 1):
        assert await (await rig.dial("/acme/CS-7", BASIC)).status() == 401
    asked = len(rig.cpms.wires)
    head = await (await rig.dial("/acme/CS-7", BASIC)).head()
    assert head.split(b" ")[1] == b"429"
    assert header(head, b"retry-after") == [b"2"]
    assert len(rig.cpms.wires) == asked, "the CPMS is not asked"
    rig.cpms.on_head = accept
    await rig.pair("/acme/CS-8", BASIC)


@pytest_twisted.ensureDeferred
async def test_a_station_that_the_cpms_took_begins_anew_and_other_refusals_do_not_count(rig: Rig) -> None:
    refusals = {status: answer(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status) for status in (401, 403, 503)}
    for _ in range(3):
        for status in (401, 401, 403, 503):
            rig.cpms.on_head = refusals[status]
            assert await (await rig.dial()).status() == status
        rig.cpms.on_head = polite
        station, _cpms = await rig.pair()
        station.close(1000)
        await station.end()


@pytest_twisted.ensureDeferred
async def test_a_certificate_speaks_for_nobody_if_nothing_says_whose_it_is(secure: Secure) -> None:
    assert await secure.status("/acme/CS-7", shows=secure.shows("CS-7")) == 403
    secure.rig.tenant(station_ca_file=str(secure.folder / "missing.pem"))
    assert await secure.status("/acme/CS-7", shows=secure.shows("CS-7")) == 503
    assert secure.rig.cpms.wires == []


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["station", "cpms"])
async def test_over_tls_too_a_peer_that_reads_nothing_pauses_the_other(secure: Secure, way: str) -> None:
    station = await secure.dial("/acme/CS-7")
    assert await station.status() == 101
    cpms = secure.rig.cpms.wires[-1]
    speaker, hearer = (station, cpms) if way == "station" else (cpms, station)
    lower = hearer.transport.transport if way == "cpms" else hearer.transport
    lower.pauseProducing()
    leg = secure.rig.opened[0]._legs["cpms" if way == "station" else "station"]
    text, said = b"x" * 50_000, 0
    other = secure.rig.opened[0]._legs[way]  # type: ignore[index]
    while other.reading and said < 2000:
        speaker.say(text)
        said += 1
        await nap(0.001)
    assert said < 2000, "it is not read any more"
    assert leg.unsent <= 512 * 1024
    lower.resumeProducing()
    for _ in range(said):
        assert await hearer.hear() == text


FORWARDING = TenantSettings("acme", "ws://cpms")


def test_what_the_cpms_is_offered() -> None:
    request = read(upgrade("/acme/CS-7?q", BASIC, "X: y", "Sec-WebSocket-Extensions: x-other, Permessage-Deflate; client_max_window_bits"))
    offer = offer_of(request, parse(request.target, b"broker"), FORWARDING)
    assert offer.tail == b"CS-7?q"
    assert offer.protocols == ("ocpp1.6",)
    assert dict(offer.headers) == {b"X": b"y", b"Authorization": b"Basic Q1MtNzpzM2NyZXQ="}
    assert offer.deflate
    assert not offer_of(read(upgrade()), parse(b"/acme/CS-7", b"broker"), FORWARDING).deflate


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("said", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n"])
async def test_half_a_client_hello_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr("broker.net.stations.REQUEST_S", 1.5)  # Autobahn rounds down to whole seconds
    secure = await Secure(tmp_path).start()
    silent = await secure.rig.connect(secure.port)
    silent.transport.write(said)
    began = clock.seconds()
    await silent.end(4)
    assert said.startswith(b"GET") or clock.seconds() - began > 0.4
    await secure.rig.stop()


@pytest_twisted.ensureDeferred
async def test_a_refused_tls_station_that_says_no_good_bye_is_cut(secure: Secure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.net.stations.PART_S", 0.2)
    station = await secure.dial("/nobody/CS-7")
    assert await station.status() == 404
    await station.end(10)
    await until(lambda: not [call for call in delayed() if "cut" in str(call)])
