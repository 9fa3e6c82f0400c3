"""What a reload changes: every difference is named, nothing else is, and no secret ever."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from broker.model.basics import Key
from broker.reload import AT_A_RESTART, MOST_SHOWN, Change, Place, differences, effective, place, shown
from broker.settings import (
    BrokerSettings,
    ChargingSettings,
    EngineSettings,
    EvseSettings,
    ListenSettings,
    Settings,
    StationSettings,
    TenantSettings,
)

names = st.sampled_from(["a", "b", "c"])
modes = st.sampled_from(["relay", "driver-identification", "shadow", "smart-charging"])
SECRETS = ["hunter2", "correct-horse"]

evses = st.builds(EvseSettings, number=st.integers(1, 3), asset=names, max_amps=st.sampled_from([None, 16.0, 32.0]))
stations = st.builds(
    StationSettings, id=names, mode=modes, site=st.sampled_from([None, "hq"]),
    evses=st.lists(evses, max_size=3, unique_by=lambda e: e.number)
    .map(tuple), password_hash=st.sampled_from(["", *SECRETS]),
)  # fmt: skip
engines = st.builds(
    EngineSettings, url=st.sampled_from(["http://one", "http://two"]), client_id=names, client_secret=st.sampled_from(SECRETS),
    batch=st.booleans(), paths=st.dictionaries(names, names, max_size=1),
)  # fmt: skip
chargings = st.builds(ChargingSettings, baseline=st.sampled_from(["ask", "none"]), lease_s=st.sampled_from([60.0, 900.0]))


def by_name(things: st.SearchStrategy, key: str) -> st.SearchStrategy:  # type: ignore[type-arg]
    return st.lists(things, max_size=3, unique_by=lambda one: getattr(one, key)).map(lambda all: {getattr(one, key): one for one in all})


tenants = st.builds(
    TenantSettings, name=names, cpms_url=st.sampled_from(["ws://x", "ws://y"]), mode=modes, unlisted=st.sampled_from(["relay", "refuse"]),
    engine=st.none() | engines, charging=chargings, sites=st.lists(names, max_size=2).map(tuple), stations=by_name(stations, "id"),
)  # fmt: skip
settings = st.builds(
    Settings,
    broker=st.builds(BrokerSettings, state=names, admin=names, hold_s=st.sampled_from([1.0, 5.0])),
    listen=st.lists(st.builds(ListenSettings, endpoint=names, tenant=st.none() | names), max_size=3).map(tuple),
    tenants=by_name(tenants, "name"),
)


@given(settings)
def test_the_same_settings_differ_in_nothing(one: Settings) -> None:
    assert differences(one, one) == ()


@given(settings, settings)
def test_other_settings_differ_in_something_and_back_again_in_the_same_places(old: Settings, new: Settings) -> None:
    there, back = differences(old, new), differences(new, old)
    ports = sorted(old.listen, key=str) != sorted(new.listen, key=str)
    same = old == replace(new, listen=old.listen) and [*old.tenants] == [*new.tenants]
    if not same or ports:
        assert bool(there) == (old != new if not same else ports)
    assert sorted(change.place for change in there) == sorted(change.place for change in back)
    swapped = {"added": "removed", "removed": "added"}
    whole = sorted((change.place, swapped[change.what]) for change in there if change.what in swapped)
    assert whole == sorted((change.place, change.what) for change in back if change.what in swapped)


@given(settings, tenants, st.permutations(SECRETS))
def test_of_a_secret_only_that_it_changed_is_said(whole: Settings, one: TenantSettings, secrets: list[str]) -> None:
    """Whatever else is the same or changed: the engine's secret, and a station's password."""
    sides = []
    for secret in secrets:
        station = StationSettings("s", "relay", password_hash=secret)
        tenant = replace(one, engine=EngineSettings("http://one", "a", secret), stations={**one.stations, "s": station})
        sides.append(replace(whole, tenants={**whole.tenants, one.name: tenant}))
    lines = shown(differences(*sides))
    assert sum("client_secret" in line for line in lines) == 1
    assert sum("password_hash" in line for line in lines) == 1
    assert not any(secret in line for line in lines for secret in SECRETS)


@given(settings, settings)
def test_no_secret_is_in_a_line(old: Settings, new: Settings) -> None:
    for line in shown(differences(old, new)):
        assert not any(secret in line for secret in SECRETS)
        assert "\n" not in line


@given(settings, settings)
def test_what_is_in_force_afterwards_differs_from_the_file_only_in_what_needs_a_restart(old: Settings, new: Settings) -> None:
    wanted = effective(old, new)
    left = differences(wanted, new)
    assert all(change.at_a_restart for change in left)
    assert {change.what.split(":")[0] for change in left} <= AT_A_RESTART
    assert all(getattr(wanted.broker, name) == getattr(old.broker, name) for name in AT_A_RESTART)
    assert set(left) == {change for change in differences(old, new) if change.at_a_restart}


@given(settings, settings, names, names)
def test_a_link_whose_place_is_the_same_is_left_alone_and_any_change_of_its_own_is_seen(
    old: Settings, new: Settings, tenant: str, id: str
) -> None:
    key = Key(tenant, id)
    before, after = place(old, key), place(new, key)
    if before is not None and after is not None and before != after:
        named = [change.place for change in differences(old, new)]
        assert any(at == f"tenant {tenant}" or at.startswith((f"tenant {tenant} ", f"station {key}")) for at in named)
    of = new.tenants.get(tenant)
    assert (after is None) == (of is None or (id not in of.stations and of.unlisted == "refuse"))


def test_a_secret_that_changed_is_said_without_it() -> None:
    engine = EngineSettings("http://e", "me", "hunter2")
    old = Settings(tenants={"acme": TenantSettings("acme", "ws://c", engine=engine)})
    new = Settings(tenants={"acme": TenantSettings("acme", "ws://c", engine=replace(engine, client_secret="correct-horse"))})
    assert list(map(str, differences(old, new))) == ["tenant acme engine: client_secret: changed"]


def test_a_line_names_place_key_and_both_values() -> None:
    station = StationSettings("CS-7", "shadow", "hq", "ac", (EvseSettings(1, "g", 32.0),))
    tenant = TenantSettings("acme", "ws://c", stations={"CS-7": station})
    changed = replace(station, mode="smart-charging", evses=(EvseSettings(1, "g", None), EvseSettings(2, "h")))
    old, new = Settings(tenants={"acme": tenant}), Settings(tenants={"acme": replace(tenant, stations={"CS-7": changed})})
    assert list(map(str, differences(old, new))) == [
        "station acme/CS-7: mode: shadow → smart-charging",
        "station acme/CS-7 evse 1: max_amps: 32 → none",
        "station acme/CS-7 evse 2: added",
    ]
    moved = replace(new, broker=BrokerSettings(state="elsewhere", hold_s=2.0))
    assert list(map(str, differences(new, moved))) == [
        "broker: state: var/ocppbroker.sqlite → elsewhere (only at a restart)",
        "broker: hold_s: 5 → 2",
    ]


def test_a_long_list_is_cut_with_how_many_more() -> None:
    lines = shown([Change(f"station acme/{n}", "added") for n in range(MOST_SHOWN + 7)])
    assert len(lines) == MOST_SHOWN + 1
    assert lines[-1] == "and 7 more"


def test_what_only_the_cpms_side_is_about_moves_no_link() -> None:
    engine = EngineSettings("http://e", "me", "hunter2")
    station = StationSettings("CS-7", "shadow", "hq", "ac", (EvseSettings(1, "g", 32.0),))
    tenant = TenantSettings("acme", "ws://c", engine=engine, stations={"CS-7": station})
    old = Settings(tenants={"acme": tenant})
    new = Settings(tenants={"acme": replace(tenant, cpms_url="ws://d", cpms_ca_file="/ca", unlisted="refuse")})
    assert place(old, Key("acme", "CS-7")) == place(new, Key("acme", "CS-7"))
    slower = replace(tenant, charging=ChargingSettings(lease_s=60.0))
    assert place(old, Key("acme", "CS-7")) != place(Settings(tenants={"acme": slower}), Key("acme", "CS-7"))


def test_an_open_link_keeps_what_it_was_let_in_with() -> None:
    """A new password's hash is no new observer: nothing that is under way is disturbed."""
    engine = EngineSettings("http://one", "acme", "hunter2")
    station = StationSettings("CS-7", "shadow", "hq", evses=(EvseSettings(1, "garage"),))

    def with_hash(line: str) -> Settings:
        tenant = TenantSettings("acme", "ws://x", engine=engine, sites=("hq",), stations={"CS-7": replace(station, password_hash=line)})
        return Settings(tenants={"acme": tenant})

    old, new = with_hash("hunter2"), with_hash("correct-horse")
    assert place(old, Key("acme", "CS-7")) == place(new, Key("acme", "CS-7"))
    assert [change.place for change in differences(old, new)] == ["station acme/CS-7"]


def test_a_link_whose_station_is_judged_from_now_on_is_told() -> None:
    """Passwords that the CPMS gives are followed from then on, not only from the next connection."""
    station = StationSettings("CS-7", "shadow", "hq", evses=(EvseSettings(1, "garage"),), password_hash="hunter2")
    engine = EngineSettings("http://one", "acme", "hunter2")
    places = []
    for credentials in ("forward", "check", "replace"):
        tenant = TenantSettings("acme", "ws://x", engine=engine, sites=("hq",), stations={"CS-7": station}, credentials=credentials)  # type: ignore[arg-type]
        places.append(place(Settings(tenants={"acme": tenant}), Key("acme", "CS-7")))
    forward, check, replaced = places
    assert [one.judged for one in places if one is not None] == [False, True, True]
    assert forward != check == replaced


def test_a_station_that_is_relayed_only_has_nothing_of_its_tenant() -> None:
    relayed = Place(StationSettings("CS-7", "relay"), "acme")
    assert relayed.tenant is None
    engine = EngineSettings("https://engine", "acme", "secret")
    seen = relayed._replace(engine=engine).tenant
    assert seen is not None
    assert (seen.name, seen.mode, seen.engine, seen.cpms_url) == ("acme", "relay", engine, "")


def test_several_values_are_said_as_a_list() -> None:
    before = TenantSettings("acme", "ws://cpms", charging=ChargingSettings(purposes=("max", "tx")))
    after = replace(before, charging=ChargingSettings(purposes=("tx",)))
    lines = shown(differences(Settings(tenants={"acme": before}), Settings(tenants={"acme": after})))
    assert [line for line in lines if "purposes" in line] == ["tenant acme charging: purposes: max, tx → tx"]
