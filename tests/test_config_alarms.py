"""`[broker.alarms]`: read as meant; each mistake has its place; no secret is in a mistake, a repr or a reload's list."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli import main
from broker.config import Mistakes, parse
from broker.reload import differences
from broker.settings import AlarmSettings, MailSettings, Settings

REST = """
[[listen]]
endpoint = "tcp:9000"
[[tenants]]
name = "acme"
cpms_url = "wss://cpms.example.com/ocpp"
"""
MAIL = 'smtp_host = "mail.example.com"\nmail_from = "broker@example.com"\nmail_to = ["ops@example.com"]\n'
FILES = {"/etc/b/hook": "https://chat.example.com/hooks/s3cret\n", "/etc/b/token": "t0ken\n", "/etc/b/password": "pa ss\n"}


def read(path: str) -> str:
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory")
    return FILES[path]


def settings(text: str) -> Settings:
    return parse(f"[broker.alarms]\n{text}\n{REST}", "/etc/b/broker.toml", read, {"HOOK": "https://env.example.com/x"})


def mistakes(text: str) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        settings(text)
    return list(caught.value.lines)


def test_nothing_said_nobody_told() -> None:
    assert parse(REST, "b", read, {}).broker.alarms == AlarmSettings() == settings("").broker.alarms


def test_all_of_it() -> None:
    said = settings(
        'name = "north"\nwebhook_url_file = "hook"\nwebhook_token_file = "token"\nmin_severity = "critical"\ngather = "5s"\nrepeat = "0s"\n'
        'ca_file = "ca.pem"\nsmtp_tls = "implicit"\nsmtp_user = "broker"\nsmtp_password_file = "password"\n' + MAIL
    ).broker.alarms
    mail = MailSettings("mail.example.com", 465, "broker@example.com", ("ops@example.com",), "implicit", "broker", "pa ss")
    assert said == AlarmSettings("north", "https://chat.example.com/hooks/s3cret", "t0ken", mail, "/etc/b/ca.pem", "critical", 5.0, 0.0)
    assert settings('webhook_url_env = "HOOK"').broker.alarms.webhook_url == "https://env.example.com/x"
    assert settings('webhook_url = "http://127.0.0.1:8080/x?y"').broker.alarms.webhook_url == "http://127.0.0.1:8080/x?y"
    plain = settings(MAIL + 'smtp_tls = "none"').broker.alarms.mail
    assert plain is not None
    assert (plain.port, plain.tls) == (25, "none")


@pytest.mark.parametrize(
    ("said", "host"), [("::1", "::1"), ("[::1]", "::1"), ("[2001:DB8::0:7]", "2001:db8::7"), ("192.0.2.7", "192.0.2.7")]
)
def test_a_mail_server_may_be_an_address_of_either_kind(said: str, host: str) -> None:
    mail = settings(MAIL.replace("mail.example.com", said)).broker.alarms.mail
    assert mail is not None
    assert mail.host == host


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('webhook_url = "ftp://x/"', "broker.alarms.webhook_url: must start with https:// or http:// and name a host"),
        ('webhook_url = "https://[::1/"', "broker.alarms.webhook_url: must start with https:// or http:// and name a host"),
        ('webhook_url = "https://x/ä"', "broker.alarms.webhook_url: must have only ASCII and no space: "),
        ('webhook_url = "https://häuser.example/"', "broker.alarms.webhook_url: must have only ASCII and no space: "),
        ('webhook_url = "https://x/a b"', "broker.alarms.webhook_url: must have only ASCII and no space: "),
        ('webhook_url = "https:///x"', "broker.alarms.webhook_url: must start with https:// or http:// and name a host"),
        ('webhook_url = "https://x:0/"', "broker.alarms.webhook_url: must start with https:// or http:// and name a host"),
        ('webhook_url = "hook.example"', "broker.alarms.webhook_url: must start with https:// or http:// and name a host"),
        ('webhook_url = "https://u:s3cret@x/"', "broker.alarms.webhook_url: must have no user and no fragment (#)"),
        ('webhook_url = "https://x/"\nwebhook_url_env = "HOOK"', "broker.alarms.webhook_url: stands besides webhook_url_file or"),
        ('webhook_token_file = "token"', "broker.alarms.webhook_token_file: stands without webhook_url"),
        ('webhook_url = "https://x/"\nwebhook_token_file = "none"', "broker.alarms.webhook_token_file: cannot read none: No such file"),
        ('smtp_host = "mail"', "broker.alarms.mail_from: is missing"),
        ('smtp_host = "mail"', "broker.alarms.mail_to: must be a list of 1 to 20 addresses"),
        (MAIL.replace("mail.example.com", "::g"), "broker.alarms.smtp_host: must be a host's name or address"),
        (MAIL.replace("mail.example.com", "[::1"), "broker.alarms.smtp_host: must be a host's name or address"),
        (MAIL.replace("mail.example.com", "mail:25"), "broker.alarms.smtp_host: must be a host's name or address"),
        ('mail_to = ["a@b"]', "broker.alarms.smtp_host: is missing"),
        (MAIL.replace("ops@", "ops\\n@"), "broker.alarms.mail_to: must be a list of 1 to 20 addresses"),
        (MAIL + 'smtp_user = "u"', "broker.alarms.smtp_password_file: is missing (smtp_password_env may stand instead)"),
        (MAIL + 'smtp_password_file = "password"', "broker.alarms.smtp_password_file: stands without smtp_user"),
        (MAIL + 'smtp_user = "u"\nsmtp_password_file = "password"\nsmtp_tls = "none"', "broker.alarms.smtp_tls: must be"),
        ('repeat = "5s"', 'broker.alarms.repeat: must be "0s" (never) or at least 60 s'),
        ('webhok_url = "https://x/"', "broker.alarms.webhok_url: is not a key that we know (did you mean webhook_url?)"),
        ('min_severity = "warn"', 'broker.alarms.min_severity: must be "warning" or "critical" (did you mean warning?)'),
        ('name = "a b"', "broker.alarms.name: must be 1 to 64 letters"),
    ],
)
def test_each_mistake_has_its_place(text: str, mistake: str) -> None:
    said = mistakes(text)
    assert any(line.startswith(mistake) for line in said), said
    assert not any(secret in line for line in said for secret in ("s3cret", "t0ken", "pa ss"))


def test_a_reload_says_what_changed_and_no_secret() -> None:
    before = settings('webhook_url_file = "hook"')
    after = settings(
        'webhook_url = "https://x/other"\nwebhook_token_file = "token"\nsmtp_user = "u"\nsmtp_password_file = "password"\n' + MAIL
    )
    lines = [str(change) for change in differences(before, after)]
    assert lines == ["broker alarms: webhook_url: changed", "broker alarms: webhook_token: changed", "broker alarms mail: added"]
    assert [str(change) for change in differences(after, settings(MAIL.replace("mail.", "smtp.")))] == [
        "broker alarms: webhook_url: changed", "broker alarms: webhook_token: changed",
        "broker alarms mail: host: mail.example.com → smtp.example.com", "broker alarms mail: user: u → ",
        "broker alarms mail: password: changed",
    ]  # fmt: skip
    assert not any(secret in repr(after) for secret in ("t0ken", "pa ss", "other"))


def test_check_says_who_is_told_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "password").write_text("pa ss")
    table = '[broker.alarms]\nwebhook_url = "http://chat.example.com/s3cret"\nmin_severity = "critical"\n' + MAIL
    table += 'smtp_user = "u"\nsmtp_password_file = "password"\n'
    (tmp_path / "b.toml").write_text(table + REST)
    assert main(["check", str(tmp_path / "b.toml")]) == 0
    said = capsys.readouterr().out
    assert "alarms         the critical ones told to the webhook at chat.example.com (not encrypted)\n" in said
    assert "alarms         the critical ones mailed to ops@example.com through mail.example.com\n" in said
    assert not any(secret in said for secret in ("s3cret", "pa ss"))
    (tmp_path / "b.toml").write_text(table + 'ca_file = "none.pem"\n' + REST)
    assert main(["check", str(tmp_path / "b.toml")]) == 1
    assert capsys.readouterr().err.startswith("broker.alarms.ca_file: ")
