"""A configuration reads as its operator meant it; each mistake is found, with its place, in one reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from fnmatch import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import _parse

from broker.config import Mistakes, parse
from broker.config_endpoints import take_apart
from broker.settings import BrokerSettings, ChargingSettings, EngineSettings, EvseSettings, ListenSettings, Settings

FILES = {
    "/etc/b/acme.secret": "s3cret\n",
    "/etc/b/acme.csv": "station,evse,site,asset,max_amps,phases,mode,password_hash\n"
    "CS-1,1,hq,,32,3,,\nCS-1,2,,left,16,1,,\n\nCS-2,,,,,,relay,\n",
}

BROKER = """
[broker]
state = "var/x.sqlite"
hold = "2.5s"
ping = "1m"
max_message = "64KiB"
max_links = 7

[[listen]]
endpoint = "tcp:9000"
"""

TENANT = """
[[tenants]]
name = "acme"
cpms_url = "wss://cpms.example.com/ocpp/"
"""

ENGINE = """
[tenants.engine]
url = "http://127.0.0.1:8090/"
client_id = "acme"
client_secret_file = "acme.secret"
"""

SITE = """
[[tenants.sites]]
name = "hq"
"""

STATION = """
[[tenants.stations]]
id = "CS-7"
evses = { 1 = { asset = "garage", max_amps = 32, phases = 1 } }
"""

WHOLE = BROKER + TENANT + ENGINE + SITE + STATION


def read(text: str, files: Mapping[str, str] = FILES, env: Mapping[str, str] | None = None) -> Settings:
    def contents(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(2, "No such file or directory")
        if files[path] == "binary":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return files[path]

    def find(pattern: str) -> list[str]:
        return [path for path in files if fnmatch(path, pattern)]

    return parse(text, "/etc/b/broker.toml", contents, env or {}, find)


def mistakes(text: str, files: Mapping[str, str] = FILES, env: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        read(text, files, env)
    return list(caught.value.lines)


# ---------------------------------------------------------------- what is read


def test_the_least_configuration() -> None:
    found = read('[[listen]]\nendpoint = "tcp:9000"\n' + TENANT)
    assert found.listen == (ListenSettings("tcp:9000"),)
    assert found.broker == BrokerSettings(state="/etc/b/var/ocppbroker.sqlite", admin_token_file="/etc/b/var/admin-token")
    assert found.tenants["acme"].cpms_url == "wss://cpms.example.com/ocpp"
    unlisted = found.tenants["acme"].station("whoever")
    assert unlisted is not None
    assert unlisted.mode == "relay"


def test_units_and_paths() -> None:
    broker = read(WHOLE).broker
    assert (broker.hold_s, broker.ping_s, broker.max_message, broker.max_links) == (2.5, 60.0, 65536, 7)
    assert broker.state == "/etc/b/var/x.sqlite"


def test_a_tenants_own_cap() -> None:
    assert read(WHOLE).tenants["acme"].max_links is None
    assert read(WHOLE.replace('name = "acme"', 'name = "acme"\nmax_links = 3')).tenants["acme"].max_links == 3


def replacing(more: str, stations: str = "") -> str:
    said = f'name = "acme"\ncredentials = "replace"\ncpms_password_env = "P"\n{more}'
    return WHOLE.replace('name = "acme"', said, 1) + stations


def test_credentials_of_ours_for_the_cpms() -> None:
    tenant = read(replacing('unlisted = "refuse"'), env={"P": "of-the-broker"}).tenants["acme"]
    assert (tenant.credentials, tenant.cpms_user, tenant.cpms_password) == ("replace", "", "of-the-broker")
    assert "of-the-broker" not in repr(tenant)
    assert read(replacing('unlisted = "refuse"\ncpms_user = "us"'), env={"P": "p"}).tenants["acme"].cpms_user == "us"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("", 'tenants[0].unlisted: must be "refuse" with credentials = "replace": any stranger would come to the CPMS'),
        ('unlisted = "refuse"\nsecurity_profile = 2', 'password_hash: is missing, and credentials = "replace" needs it'),
        ('unlisted = "refuse"\ncpms_password_file = "p"', "tenants[0].cpms_password_env: stands besides cpms_password_file"),
    ],
)
def test_our_credentials_are_for_nobody_unknown(more: str, says: str) -> None:
    found = mistakes(replacing(more), env={"P": "p"})
    assert [line for line in found if says in line], found


def test_an_engine() -> None:
    text = WHOLE.replace('client_id = "acme"', 'client_id = "acme"\nbatch = true\nmeasure_every = "30s"\npaths = { site = "/s/{site_id}" }')
    engine = read(text).tenants["acme"].engine
    assert engine == EngineSettings(
        "http://127.0.0.1:8090", "acme", "s3cret", batch=True, measure_every_s=30.0, paths={"site": "/s/{site_id}"}
    )
    assert "s3cret" not in repr(read(text))


def test_a_secret_from_the_environment() -> None:
    text = WHOLE.replace('client_secret_file = "acme.secret"', 'client_secret_env = "ACME"')
    engine = read(text, env={"ACME": "other"}).tenants["acme"].engine
    assert engine is not None
    assert engine.client_secret == "other"
    assert mistakes(text) == ["tenants[0].engine.client_secret_env: ACME is not in the environment"]


def test_charging() -> None:
    text = WHOLE + '[tenants.charging]\npurposes = ["tx", "max"]\nlease = "20m"\nwrite_interval = "5s"\nmin_amps = 8\n'
    text += 'baseline = "seen"\nbelow_min = "min"\nconflict = "cpms"\nfallback_amps = 10\n'
    wanted = ChargingSettings("seen", ("tx", "max"), 1200.0, 5.0, 8.0, "min", fallback_amps=10.0, conflict="cpms")
    assert read(text).tenants["acme"].charging == wanted


def test_every_setting_has_a_key() -> None:
    """A field that no key sets would be a promise nobody can claim."""
    text = WHOLE + '[tenants.charging]\nbaseline="none"\npurposes=["tx"]\nlease="20m"\nwrite_interval="5s"\nmin_amps=8\nbelow_min="min"\n'
    text += 'conflict="cpms"\nfallback_amps=9\n'
    found, plain = read(text).tenants["acme"].charging, ChargingSettings()
    assert [field.name for field in fields(found) if getattr(found, field.name) == getattr(plain, field.name)] == []
    broker = '[broker]\nstate="a"\nadmin="tcp:1"\nadmin_token_file="b"\nhold="1s"\ndial_timeout="1s"\nping="1s"\ndrain="1s"\n'
    changed = read(
        broker + 'max_message="1KiB"\nmax_links=1\nrate=0\nburst=1\n[broker.alarms]\nname="x"\n[[listen]]\nendpoint="tcp:2"\n' + TENANT
    ).broker
    assert [field.name for field in fields(changed) if getattr(changed, field.name) == getattr(BrokerSettings(), field.name)] == []


@pytest.mark.parametrize(
    ("tenant", "site", "station", "mode"),
    [
        ("", "", "", "shadow"),
        ("smart-charging", "", "", "smart-charging"),
        ("relay", "smart-charging", "", "smart-charging"),
        ("smart-charging", "shadow", "driver-identification", "driver-identification"),
    ],
)
def test_the_nearest_mode_counts(tenant: str, site: str, station: str, mode: str) -> None:
    def said(word: str) -> str:
        return f'mode = "{word}"\n' if word else ""

    text = BROKER + TENANT + said(tenant) + ENGINE + SITE + said(site) + STATION + said(station)
    assert read(text).tenants["acme"].stations["CS-7"].mode == mode


def test_the_only_site_is_every_stations_site() -> None:
    assert read(WHOLE).tenants["acme"].stations["CS-7"].site == "hq"
    assert mistakes(WHOLE + '[[tenants.sites]]\nname = "depot"\n') == [
        'tenants[0].stations[0]: site: is missing, and mode "shadow" needs one (the tenant has 2 sites)'
    ]


def test_a_station_list() -> None:
    text = BROKER + TENANT + 'stations_file = "acme.csv"\n' + ENGINE + SITE
    stations = read(text).tenants["acme"].stations
    assert stations["CS-1"].evses == (EvseSettings(1, "CS-1-1", 32.0, 3), EvseSettings(2, "left", 16.0, 1))
    assert (stations["CS-1"].site, stations["CS-1"].mode) == ("hq", "shadow")
    assert (stations["CS-2"].mode, stations["CS-2"].evses) == ("relay", (EvseSettings(1, "CS-2-1"),))


def test_endpoints_keep_their_meaning_and_their_files_become_absolute() -> None:
    text = WHOLE.replace("tcp:9000", "ocpps:9443:certificate=a.pem,/x/b.pem:privateKey=a.key,b.key:interface=\\\\:\\\\:1")
    endpoint = take_apart(read(text).listen[0].endpoint)
    assert endpoint.files("certificate") == ["/etc/b/a.pem", "/x/b.pem"]
    assert endpoint.files("privateKey") == ["/etc/b/a.key", "/etc/b/b.key"]
    assert (endpoint.positional, endpoint.named["interface"]) == (("9443",), "::1")


def test_included_tenants_start_from_their_own_folder() -> None:
    other = (TENANT + 'stations_file = "list.csv"\ncpms_ca_file = "ca.pem"\n' + ENGINE + SITE).replace('"acme"', '"other"')
    files = {
        **FILES,
        "/etc/b/tenants/o.toml": other,
        "/etc/b/tenants/acme.secret": "else",
        "/etc/b/tenants/list.csv": "station,phases\nX,3\n",
    }
    found = read('include = ["tenants/*.toml"]\n' + WHOLE, files)
    assert list(found.tenants) == ["acme", "other"]
    assert found.tenants["other"].cpms_ca_file == "/etc/b/tenants/ca.pem"
    assert found.tenants["other"].engine.client_secret == "else"  # type: ignore[union-attr]
    files["/etc/b/tenants/o.toml"] = other.replace("wss:", "http:") + "[broker]\n"
    files["/etc/b/tenants/list.csv"] = "station,phases\nX,2\n"
    assert mistakes('include = ["tenants/*.toml"]\n' + WHOLE, files) == [
        "tenants/o.toml: tenants[0].cpms_url: must start with ws:// or wss://",
        "tenants/list.csv:2: phases: must be 1 or 3",
        "tenants/o.toml: broker: is not a key that we know",
    ]


def test_a_mistake_found_late_names_its_file_once() -> None:
    """A row's place names the list already; a table's does not name the included file that it is in."""
    rows = "station,phases\nX,3\nY,3\n"
    here = (TENANT + 'stations_file = "list.csv"\n' + ENGINE + SITE + STATION.replace("CS-7", "X")).replace('"acme"', '"other"')
    files = {**FILES, "/etc/b/tenants/o.toml": here, "/etc/b/tenants/acme.secret": "x", "/etc/b/tenants/list.csv": rows}
    text = 'include = ["tenants/*.toml"]\n' + WHOLE
    assert mistakes(text, files) == ["tenants/list.csv:2: station X is here a second time (first: tenants[0].stations[0])"]
    files["/etc/b/tenants/o.toml"] = here.replace('"X"', '"Z"') + STATION.replace("CS-7", "Z")
    assert mistakes(text, files) == [
        "tenants/o.toml: tenants[0].stations[1]: station Z is here a second time (first: tenants[0].stations[0])"
    ]


# ---------------------------------------------------------------- mistakes


def test_all_mistakes_at_once() -> None:
    text = WHOLE.replace("wss://", "http://").replace('"2.5s"', "5").replace("client_id", "clientid").replace("phases = 1", "phases = 2")
    assert mistakes(text) == [
        'broker.hold: must be a duration like "30s" or "15m", not a number',
        "tenants[0].cpms_url: must start with ws:// or wss://",
        "tenants[0].engine.client_id: is missing",
        "tenants[0].engine.clientid: is not a key that we know (did you mean client_id?)",
        "tenants[0].stations[0].evses.1.phases: must be 1 or 3",
    ]


ONE_MISTAKE = [
    ('state = "var/x.sqlite"', 'quirks_file = "q.toml"', "broker.quirks_file: cannot read q.toml: No such file or directory"),
    ('name = "acme"', 'name = "a/b"', "tenants[0].name: must be 1 to 64 of"),
    ('name = "acme"', 'name = ".."', 'tenants[0].name: must not be "." or ".."'),
    ('name = "acme"', 'name = "acme"\ncredentials = "check"', 'tenants[0].unlisted: must be "refuse" with credentials = "check"'),
    (
        'name = "acme"',
        'name = "acme"\ncredentials = "check"\nunlisted = "refuse"',
        'tenants[0].stations[0]: password_hash: is missing, and credentials = "check" needs it',
    ),
    ('name = "acme"', 'name = "acme"\ncredentials = "replace"', "tenants[0].cpms_password_file: is missing (cpms_password_env may"),
    ('name = "acme"', 'name = "acme"\ncredentials = "replace"\ncpms_user = "a:b"', "tenants[0].cpms_user: must be printable ASCII"),
    ('name = "acme"', 'name = "acme"\ncpms_user = "x"', 'tenants[0].cpms_user: is only for credentials = "replace"'),
    ('name = "acme"', 'name = "acme"\ncpms_password_file = "x"', "tenants[0].cpms_password_file: is only for"),
    ('name = "acme"', 'name = "acme"\nmax_links = 0', "tenants[0].max_links: must be 1 to 1000000"),
    ("max_links = 7", "rate = -1", "broker.rate: must be 0 to 1000000"),
    ("max_links = 7", "burst = 0", "broker.burst: must be 1 to 1000000"),
    ('name = "acme"', 'name = "acme"\nsecurity_profile = 4', "tenants[0].security_profile: must be 0 to 3"),
    ('name = "acme"', 'name = "acme"\nsecurity_profile = true', "tenants[0].security_profile: must be a whole number, not true or false"),
    ('name = "acme"', 'name = "acme"\nsecurity_profile = 2', "tenants acme: security_profile = 2, but each [[listen]]"),
    ('name = "acme"', 'name = "acme"\nunlisted = "refused"', 'tenants[0].unlisted: must be "relay" or "refuse" (did you mean refuse?)'),
    ('name = "acme"', 'name = "acme"\ncertificate_identity = "cn"', "tenants[0].certificate_identity: must be"),
    ('name = "acme"', 'name = "acme"\ncpms_certificate = "x.pem"', "tenants[0].cpms_key_file: is missing"),
    ('name = "acme"', 'name = "acme"\nmode = "smart"', "tenants[0].mode: must be"),
    ('name = "acme"', 'name = "acme"\nstations_file = "none.csv"', "tenants[0].stations_file: cannot read none.csv: No such file"),
    ("wss://cpms.example.com/ocpp/", "wss:///x", "tenants[0].cpms_url: must name a host"),
    ("wss://cpms.example.com/ocpp/", "wss://h:99999/", "tenants[0].cpms_url: must name a host, and a port"),
    ("wss://cpms.example.com/ocpp/", "wss://u:p@h/", "tenants[0].cpms_url: must not hold a user or password"),
    ("wss://cpms.example.com/ocpp/", "wss://h/?a=b", "tenants[0].cpms_url: must not hold a query"),
    ("acme.secret", "none.secret", "tenants[0].engine.client_secret_file: cannot read none.secret: No such file"),
    ('client_secret_file = "acme.secret"', "", "tenants[0].engine.client_secret_file: is missing (client_secret_env"),
    ("client_secret_file", 'client_secret_env = "X"\nclient_secret_file', "tenants[0].engine.client_secret_env: stands besides"),
    ('client_id = "acme"', 'client_id = "acme"\napi = "v2"', 'tenants[0].engine.api: must be "v1"'),
    ('client_id = "acme"', 'client_id = "acme"\npaths = { sit = "/" }', "tenants[0].engine.paths.sit: is not a key that we know (did"),
    ('client_id = "acme"', 'client_id = "acme"\npaths = { site = "x" }', "tenants[0].engine.paths.site: must be a path that starts with /"),
    ('client_id = "acme"', 'client_id = "acme"\nmeasure_every = "1ms"', "tenants[0].engine.measure_every: must be 1s to 15m"),
    ('name = "acme"', "", "tenants[0].name: is missing"),
    ('cpms_url = "wss://cpms.example.com/ocpp/"', "", "tenants[0].cpms_url: is missing"),
    ('name = "acme"', 'name = "acme"\ncpms_key_file = "x.key"', "tenants[0].cpms_certificate: is missing"),
    ('name = "hq"', 'name = "h q"', "tenants[0].sites[0].name: must be 1 to 64 of"),
    ('id = "CS-7"', 'id = "CS/7"', "tenants[0].stations[0].id: must not be"),
    ('id = "CS-7"', 'id = ".."', "tenants[0].stations[0].id: must not be"),
    ('id = "CS-7"', 'id = "CS-7"\nsite = "hqq"', "tenants[0].stations[0]: site: hqq is not a site of this tenant (did you mean hq?)"),
    ('id = "CS-7"', 'id = "CS-7"\npassword_hash = "x"', "tenants[0].stations[0].password_hash: is no Argon2id line"),
    ('id = "CS-7"', 'id = "CS-7"\ncurrent = "AC"', 'tenants[0].stations[0].current: must be "ac" or "dc"'),
    ("1 = {", "0 = {", "tenants[0].stations[0].evses.0: an EVSE's number must be 1 to 999"),
    ("max_amps = 32", "max_amps = 5", "tenants[0].stations[0].evses.1: max_amps: 5 is below min_amps (6)"),
    ("max_amps = 32", "max_amps = 1e9", "tenants[0].stations[0].evses.1.max_amps: must be above 0 and at most 2000"),
    ("max_amps = 32", "max_amps = nan", "tenants[0].stations[0].evses.1.max_amps: must be above 0 and at most 2000"),
    ("tcp:9000", "9000", "listen[0].endpoint: must be a Twisted server endpoint string"),
    ("tcp:9000", "tcp:99999", "listen[0].endpoint: port '99999' must be 0 to 65535"),
    ("tcp:9000", "ocpps:1:certificate=a,b:privateKey=c", "listen[0].endpoint: ocpps: 2 certificates but 1 private keys"),
    ("tcp:9000", "ocpps:1:certificate=a:privateKey=c:crl=d", "listen[0].endpoint: crl: of no use without clientCAs="),
    ("tcp:9000", "ocpps:1:certificate=a:privateKey=c:minTLS=1", 'listen[0].endpoint: minTLS: must be "1.0", "1.1"'),
    ("tcp:9000", "ocpps:1:certificate=a:privateKey=c:crlGrace=1d", "listen[0].endpoint: crlGrace: of no use without crl="),
    ("tcp:9000", "ocpps:1:certificate=a:privateKey=c:clientCAs=b:crl=d:crlGrace=7", "listen[0].endpoint: crlGrace: must be a duration"),
    ("tcp:9000", "ocpps:1:certificate=a:privateKey=c:clientCAs=b:crl=,", "listen[0].endpoint: crl: names no file"),
    ("tcp:9000", "ocpps:1:certificate=a:privateKey=c:legacySuites=1", 'listen[0].endpoint: legacySuites: must be "yes" or "no"'),
    ("tcp:9000", "ocpps:1:certificates=a:privateKey=c", "listen[0].endpoint: certificates: is not a part"),
    ('endpoint = "tcp:9000"', 'endpoint = "tcp:9000"\ntenant = "acne"', "listen[0].tenant: acne is not a tenant (did you mean acme?)"),
    ("[[listen]]", '[[listen]]\nendpoint = "tcp:9000"\n[[listen]]', "listen[1].endpoint: is the same as listen[0].endpoint"),
    ("[broker]", 'include = ["none/*.toml"]\n[broker]', "include: no file fits none/*.toml"),
    ("[broker]", "brokr = 1\n[broker]", "brokr: is not a key that we know (did you mean broker?)"),
]


@pytest.mark.parametrize(("right", "wrong", "says"), ONE_MISTAKE, ids=[says for _, _, says in ONE_MISTAKE])
def test_each_mistake_has_its_place(right: str, wrong: str, says: str) -> None:
    assert right in WHOLE
    found = mistakes(WHOLE.replace(right, wrong, 1))
    assert [line for line in found if line.startswith(says)], found


EVERYWHERE = WHOLE + "[broker.alarms]\n[tenants.charging]\n"


def test_what_is_missing_is_said_once() -> None:
    assert mistakes(WHOLE.replace('cpms_url = "wss://cpms.example.com/ocpp/"', "")) == ["tenants[0].cpms_url: is missing"]


def test_a_station_without_evses_has_one() -> None:
    text = WHOLE.replace('evses = { 1 = { asset = "garage", max_amps = 32, phases = 1 } }', "")
    assert read(text).tenants["acme"].stations["CS-7"].evses == (EvseSettings(1, "CS-7-1"),)


def test_the_most_amps_are_allowed() -> None:
    assert read(WHOLE.replace("max_amps = 32", "max_amps = 2000")).tenants["acme"].stations["CS-7"].evses[0].max_amps == 2000.0


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ("[broker]", "broker"),
        ("[broker.alarms]", "broker.alarms"),
        ("[[listen]]", "listen[0]"),
        ("[[tenants]]", "tenants[0]"),
        ("[tenants.engine]", "tenants[0].engine"),
        ("[tenants.charging]", "tenants[0].charging"),
        ("[[tenants.sites]]", "tenants[0].sites[0]"),
        ("[[tenants.stations]]", "tenants[0].stations[0]"),
    ],
)
def test_a_key_that_nobody_knows_is_a_mistake_in_every_table(table: str, place: str) -> None:
    assert mistakes(EVERYWHERE.replace(f"{table}\n", f"{table}\nunheard_of = 1\n", 1)) == [f"{place}.unheard_of: is not a key that we know"]


def test_what_is_wrong_is_said_line_by_line_also_where_it_is_not_caught() -> None:
    with pytest.raises(Mistakes) as error:
        read(WHOLE.replace("wss:", "http:") + "[nowhere]\n")
    assert tuple(str(error.value).splitlines()) == error.value.lines
    assert len(error.value.lines) == 2


def test_client_certificates_are_asked_for_at_a_port_that_the_tenant_may_use() -> None:
    def found(port: str) -> list[str]:
        text = WHOLE.replace('endpoint = "tcp:9000"', f'endpoint = "{port}"').replace(
            'name = "acme"', 'name = "acme"\nsecurity_profile = 3'
        )
        return [line for line in mistakes(text) if "security_profile" in line]

    tls = "ocpps:9443:certificate=a.pem:privateKey=a.key"
    assert found("tcp:9000") == ["tenants acme: security_profile = 3, but each [[listen]] it may use is without TLS"]
    assert found(tls) == [
        "tenants acme: security_profile = 3, but no [[listen]] it may use asks for client certificates (ocpps: with clientCAs=)"
    ]


@pytest.mark.parametrize(
    ("charging", "says"),
    [
        ('conflict = "ours"', "tenants[0].charging.conflict: "),
        ("fallback_amps = 5", "tenants[0].charging.fallback_amps: must be at least min_amps (6)"),
        ('purposes = ["tx", "tx"]', "tenants[0].charging.purposes: must be some of"),
        ("purposes = []", "tenants[0].charging.purposes: must be some of"),
        ('lease = "1s"', "tenants[0].charging.lease: must be 10s to 24h"),
        ('lease = "15"', "tenants[0].charging.lease: must be a duration"),
        ("min_amps = 0", "tenants[0].charging.min_amps: must be above 0"),
    ],
)
def test_each_mistake_about_charging_has_its_place(charging: str, says: str) -> None:
    (line,) = mistakes(f"{WHOLE}[tenants.charging]\n{charging}\n")
    assert line.startswith(says)


def test_without_a_cpms_that_limits_each_evse_needs_its_own() -> None:
    text = WHOLE.replace("max_amps = 32, ", "") + '[tenants.charging]\nbaseline = "none"\n'
    assert mistakes(text) == ['tenants[0].stations[0].evses.1: max_amps: is missing for EVSE 1, and baseline = "none" needs it']
    assert read(text.replace('name = "hq"', 'name = "hq"\nmode = "relay"')).tenants["acme"].charging.baseline == "none"


def test_what_captures_needs_an_engine() -> None:
    says = ['tenants[0].engine: is missing: what every mode but "relay" captures is for an engine']
    assert mistakes(WHOLE.replace(ENGINE, "")) == says
    assert mistakes(BROKER + TENANT + 'mode = "shadow"\n') == says


def test_names_stand_once() -> None:
    assert mistakes(WHOLE + TENANT) == ["tenants: acme is here 2 times"]
    assert mistakes(WHOLE + STATION) == ["tenants[0].stations[1]: station CS-7 is here a second time (first: tenants[0].stations[0])"]
    assert mistakes(WHOLE + STATION.replace("CS-7", "CS-8")) == [
        "tenants[0].stations[1].evses.1: asset: garage is here a second time (first: tenants[0].stations[0].evses.1)"
    ]
    assert mistakes(WHOLE + SITE) == ["tenants[0].sites[1].name: hq is here a second time"]


def test_a_port_and_a_tenant_are_needed() -> None:
    assert mistakes("") == [
        "listen: is missing: without a [[listen]] no station can dial",
        "tenants: is missing: without a [[tenants]] no station is let in",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [("a =\n", "broker.toml:1: "), ("\n\nx = [1", "broker.toml:3: "), ("a=1\na=2", "broker.toml:2: "), ("x=" + "[" * 9999, "broker.toml:")],
)
def test_what_is_not_toml_is_one_line(text: str, says: str) -> None:
    (line,) = mistakes(text)
    assert line.startswith(says)
    assert "\n" not in line


HASH = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$E8UNQ7rkZUJ4zuoAI9f6gXEG31UMTCevmnL75LAizgU"
LIST = [
    (f'station,evse,password_hash\nA,1,"{HASH}"\nA,2,"{HASH.replace("MDE", "MDA")}"\n', "acme.csv:3: password_hash: acme.csv:2 has an"),
    ("station,phases\nA,2\n", "acme.csv:2: phases: must be 1 or 3"),
    ("station,evse\n\n\nA,x\n", "acme.csv:4: evse: must be 1 to 999"),
    ("station,max_amps\nA,-1\n", "acme.csv:2: max_amps: must be above 0 and at most 2000"),
    ("station,max_amps\nA,nan\n", "acme.csv:2: max_amps: must be above 0 and at most 2000"),
    ("station,max_amps\nA,viel\n", "acme.csv:2: max_amps: must be above 0 and at most 2000"),
    ("station,mode\nA,smrt-charging\n", "acme.csv:2: mode: must be"),
    ("station,site\nA,hqq\n", "acme.csv:2: site: hqq is not a site of this tenant (did you mean hq?)"),
    ("station,evse\n,1\n", "acme.csv:2: station: is missing"),
    ("station,evse\nA,1\nA,1\n", "acme.csv:3: evse: EVSE 1 of A is here twice"),
    ("station,mode\nA,relay\nA,shadow\n", "acme.csv:3: mode: acme.csv:2 says relay"),
    ("station,password_hash\nA,x\n", "acme.csv:2: password_hash: is no Argon2id line"),
    ("station,asset\nA,garage\n", "acme.csv:2: asset: garage is here a second time"),
    ("station\nCS-7\n", "acme.csv:2: station CS-7 is here a second time (first: tenants[0].stations[0])"),
    ("station\nA,1\n", "acme.csv:2: has 2 cells, but the heading has 1"),
    ("statoin\nA\n", "acme.csv:1: statoin: is not a column that we know (did you mean station?)"),
    ("station;evse\nA;1\n", "acme.csv:1: columns must be separated by commas"),
    ("evse\n1\n", "acme.csv:1: station: this column is missing"),
    ("", "acme.csv:1: the heading is missing"),
    ('station\n"A\n', "acme.csv:2: unexpected end of"),
    ("binary", "tenants[0].stations_file: acme.csv is not UTF-8 text"),
]


@pytest.mark.parametrize(("text", "says"), LIST, ids=[says for _, says in LIST])
def test_each_bad_row_has_its_line(text: str, says: str) -> None:
    tenant = TENANT + 'stations_file = "acme.csv"\n'
    (line, *_) = mistakes(BROKER + tenant + ENGINE + SITE + STATION, {**FILES, "/etc/b/acme.csv": text})
    assert line.startswith(says)


@pytest.mark.parametrize("secret", ["", "\n", "two\nlines", "tab\t"])
def test_a_secret_is_one_line_and_is_never_shown(secret: str) -> None:
    assert mistakes(WHOLE, {"/etc/b/acme.secret": secret}) == ["tenants[0].engine.client_secret_file: must hold the secret, one line of it"]


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@settings(max_examples=100, deadline=None)
@given(ANYTHING, st.sampled_from([line for line in WHOLE.splitlines() if " = " in line]))
def test_anything_instead_of_a_value_is_a_mistake_never_a_crash(value: object, line: str) -> None:
    found: tuple[str, ...] = ()
    try:
        read(WHOLE.replace(line, f"{line.split(' = ')[0]} = {as_toml(value)}"))
    except Mistakes as problem:
        found = problem.lines
    assert all(": " in said for said in found)


def as_toml(value: object) -> str:
    """JSON-like values as TOML; what TOML has no word for becomes a date."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return "'" + "".join(letter for letter in value if letter.isprintable() and letter != "'") + "'"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"k{number} = {as_toml(item)}" for number, item in enumerate(value.values())) + "}"
    return "2026-01-01"


@settings(max_examples=200, deadline=None)
@given(st.text("ab:=\\,/", max_size=8), st.dictionaries(st.text("ab", min_size=1, max_size=3), st.text("ab:=\\,/", max_size=8), max_size=3))
def test_an_endpoint_taken_apart_and_put_together_is_the_same(positional: str, named: dict[str, str]) -> None:
    endpoint = take_apart("tcp:9000")._replace(positional=(positional,), named=named)
    assert take_apart(str(endpoint)) == endpoint


@settings(max_examples=200, deadline=None)
@given(st.text("ab:=/", max_size=16))
def test_an_endpoint_is_taken_apart_as_twisted_does(text: str) -> None:
    positional, named = _parse(f"tcp:{text}")
    assert take_apart(f"tcp:{text}") == (positional[0], tuple(positional[1:]), named)


def test_passwords_are_checked_against_the_line_of_the_list_or_of_the_station() -> None:
    text = TENANT + 'mode = "relay"\ncredentials = "check"\nunlisted = "refuse"\nstations_file = "acme.csv"\n'
    text += f'[[tenants.stations]]\nid = "CS-8"\npassword_hash = "{HASH}"\n'
    tenant = read(BROKER + text, {"/etc/b/acme.csv": f'station,evse,password_hash\nCS-7,1,"{HASH}"\nCS-7,2,\n'}).tenants["acme"]
    assert tenant.credentials == "check"
    assert {id: station.password_hash for id, station in tenant.stations.items()} == {"CS-7": HASH, "CS-8": HASH}
    assert HASH not in repr(tenant)


def test_with_certificates_alone_no_password_is_needed() -> None:
    text = WHOLE.replace("tcp:9000", "ocpps:9000:certificate=a:privateKey=b:clientCAs=c")
    text = text.replace('name = "acme"', 'name = "acme"\ncredentials = "check"\nunlisted = "refuse"\nsecurity_profile = 3')
    assert read(text).tenants["acme"].stations["CS-7"].password_hash == ""
