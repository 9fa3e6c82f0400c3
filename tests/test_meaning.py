"""What `ocppbroker check` says that a configuration means: every decision in words, and no secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from broker.meaning import engines_in_words, for_machines, in_words
from broker.net.expiry import Certificate, Findings
from broker.settings import (
    AlarmSettings,
    BrokerSettings,
    ChargingSettings,
    EngineSettings,
    ListenSettings,
    MailSettings,
    Settings,
    StationSettings,
    TenantSettings,
)

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
NOTHING = Findings([], [], [])
SECRETS = ("s3cret-engine", "s3cret-cpms", "s3cret-hook", "s3cret-token", "s3cret-mail")


def tenant(**more: Any) -> TenantSettings:
    return TenantSettings(**{"name": "acme", "cpms_url": "wss://cpms/ocpp", **more})


def said(*tenants: TenantSettings, **broker: Any) -> str:
    listen = broker.pop("listen", ())
    settings = Settings(BrokerSettings(**broker), listen, {one.name: one for one in tenants})
    return "\n".join(in_words("broker.toml", settings, NOTHING, NOW))


def stations(**modes: Any) -> dict[str, StationSettings]:
    return {name: StationSettings(name, mode) for name, mode in modes.items()}


def test_the_whole_of_a_small_one() -> None:
    one = tenant(stations=stations(a="shadow", b="relay", c="relay"), sites=("hq", "lot"), security_profile=2)
    assert said(one, listen=(ListenSettings("tcp:9000"),)).splitlines() == [
        "broker.toml is fine.",
        "  stations dial  tcp:9000 with path /<tenant>/<station>",
        "  admin          tcp:8080:interface=127.0.0.1, token in var/admin-token",
        "  state          var/ocppbroker.sqlite",
        "tenant acme",
        "  CPMS           wss://cpms/ocpp/<station>",
        "  stations       listed: 2 relay, 1 shadow; others: relayed only; security profile 2 at least",
        "  sites          hq, lot",
        "  limits of ours stand 900 s unless renewed, as max, then tx, then default; what the CPMS allows: ask; "
        "at least 6 A, below that: pause",
    ]


def test_no_limits_where_nobody_is_limited() -> None:
    relayed = said(tenant(stations=stations(a="relay"), unlisted="refuse"))
    assert "limits of ours" not in relayed
    assert "listed: 1 relay; others: refused;" in relayed
    assert "listed: none;" in said(tenant())
    ours = ChargingSettings(lease_s=60.0, purposes=("tx",), baseline="none", min_amps=8.0, below_min="min")
    charged = said(tenant(stations=stations(a="smart-charging"), charging=ours))
    assert "limits of ours stand 60 s unless renewed, as tx; what the CPMS allows: none; at least 8 A, below that: min" in charged


@pytest.mark.parametrize(
    ("endpoint", "bound", "words"),
    [
        ("tcp:9000:interface=127.0.0.1", None, "tcp:9000 with path /<tenant>/<station>"),
        ("ocpps:9443:certificate=a:privateKey=b", "acme", "ocpps:9443 with path /<station> (only acme)"),
        (
            "ocpps:1:certificate=a:privateKey=b:clientCAs=c:crl=d",
            None,
            "ocpps:1 with path /<tenant>/<station>, client certificates required and checked against lists of revoked ones",
        ),
        (
            "ocpps:1:certificate=a:privateKey=b:minTLS=1.0",
            None,
            "ocpps:1 with path /<tenant>/<station>, TLS below 1.2 allowed: for old stations only, OCPP 1.6 only",
        ),
    ],
)
def test_a_port(endpoint: str, bound: str | None, words: str) -> None:
    assert f"  stations dial  {words}\n" in said(listen=(ListenSettings(endpoint, bound),))


@pytest.mark.parametrize(("url", "plain"), [("http://engine", True), ("HTTP://engine", True), ("https://engine", False)])
def test_an_engine_that_is_not_encrypted_says_so(url: str, plain: bool) -> None:
    words = said(tenant(engine=EngineSettings(url, "id-7", SECRETS[0])))
    assert f"engine         {url}{' (not encrypted)' if plain else ''} as id-7, API v1" in words


HASHED = {"a": StationSettings("a", "relay", password_hash="$argon2id$x")}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"credentials": "check"}, "passwords are checked here, and go on to the CPMS"),
        ({"credentials": "replace", "stations": HASHED}, "passwords are checked here; the CPMS is shown the station id and cpms_password"),
        (
            {"credentials": "replace", "stations": HASHED, "security_profile": 3, "cpms_user": "box"},
            "certificates are checked here; the CPMS is shown box and cpms_password",
        ),
        (
            {"credentials": "replace", "stations": {**HASHED, **stations(b="relay", c="relay")}},
            "the CPMS is shown the station id and cpms_password; of 2 stations no password is checked: whoever reaches the port",
        ),
    ],
)
def test_whose_password_goes_where(more: dict[str, Any], words: str) -> None:
    assert f"  credentials    {words}" in said(tenant(**more))
    assert "credentials" not in said(tenant())


def test_who_is_told_of_alarms() -> None:
    def told(**more: Any) -> list[str]:
        return [line[17:] for line in said(alarms=AlarmSettings(**more)).splitlines() if line.startswith("  alarms  ")]

    mail = MailSettings("mx", 25, "from@x", ("a@x", "b@x"), password=SECRETS[4])
    assert told() == []
    assert told(webhook_url="https://hook.example/s3cret-hook") == ["all told to the webhook at hook.example"]
    assert told(webhook_url="http://hook.example/x", least="critical") == [
        "the critical ones told to the webhook at hook.example (not encrypted)"
    ]
    assert told(mail=mail) == ["all mailed to a@x, b@x through mx"]
    assert told(mail=MailSettings("mx", 25, "from@x", ("a@x",), tls="none")) == ["all mailed to a@x through mx (not encrypted)"]


@pytest.mark.parametrize(("days", "soon"), [(13.9, True), (14.1, False)])
def test_a_certificate_that_ends_soon_is_to_be_renewed(days: float, soon: bool) -> None:
    found = Findings([Certificate("a.pem", "CN=a", NOW + timedelta(days=days))], [], [])
    (line,) = in_words("broker.toml", Settings(), found, NOW)[3:]
    assert line == f"certificate a.pem: CN=a, ends 2026-01-24 (in {int(days)} days){'  RENEW IT' if soon else ''}"


def test_what_the_engines_said() -> None:
    assert engines_in_words({"acme": [], "other": ["a", "b"]}) == [
        "engine of acme: logged in; it knows what we map",
        "engine of other: 2 at odds",
    ]


def test_machines_are_told_the_same_and_nobody_a_secret() -> None:
    alarms = AlarmSettings(
        webhook_url=f"https://hook/{SECRETS[2]}", webhook_token=SECRETS[3], mail=MailSettings("mx", 25, "f", ("t",), password=SECRETS[4])
    )
    one = tenant(
        engine=EngineSettings("https://engine", "id", SECRETS[0]), credentials="replace", cpms_password=SECRETS[1], sites=("hq",),
        stations=stations(a="shadow", b="shadow"),
    )  # fmt: skip
    settings = Settings(BrokerSettings(alarms=alarms), (ListenSettings("tcp:1", "acme"),), {"acme": one, "bare": tenant(name="bare")})
    found = Findings([Certificate("a.pem", "CN=a", NOW)], [], [])
    told = for_machines(settings, found)
    assert told["listen"] == [{"endpoint": "tcp:1", "tenant": "acme"}]
    assert (told["admin"], told["state"]) == (settings.broker.admin, settings.broker.state)
    assert told["tenants"][0] == {
        "name": "acme",
        "cpms_url": "wss://cpms/ocpp",
        "engine_url": "https://engine",
        "sites": ["hq"],
        "stations": {"shadow": 2},
        "unlisted": "relay",
    }
    assert told["tenants"][1]["engine_url"] is None
    assert told["certificates"] == [{"file": "a.pem", "subject": "CN=a", "ends": "2026-01-10T12:00:00+00:00"}]
    everything = json.dumps(told) + "\n".join(in_words("broker.toml", settings, found, NOW))
    assert [secret for secret in SECRETS if secret in everything] == []
