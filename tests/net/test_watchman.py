"""Who asks how it stands: on a given clock, from sources as they are, and once with a CPMS that goes and comes on real sockets."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import make_pki
import pytest
import pytest_twisted
from fakes import upgrade
from treq.testing import StubTreq
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock
from wires import House, reactor

from broker.counts import Counts
from broker.model.basics import Key
from broker.model.orders import Alarm
from broker.net.admin import Views, tree
from broker.net.metrics import Gauges, exposition
from broker.net.watchman import SILENT, Files, Watchman, of_cpms, of_engines, of_store
from broker.settings import Settings, TenantSettings


def names(watchman: Watchman) -> list[tuple[str, str]]:
    return [(one["name"], one["subject"]) for one in watchman.current()]


def test_a_state_is_raised_and_cleared_at_the_next_look_and_a_broken_source_hides_nobody() -> None:
    clock, failures = Clock(), {"acme": 9, "beta": 0}

    def broken() -> Any:
        raise OSError("a mistake")

    watchman = Watchman((broken, of_cpms(lambda: failures)), clock, clock.seconds)
    watchman.start()
    clock.advance(10)
    assert names(watchman) == []
    failures["acme"] = 10
    clock.advance(10)
    assert names(watchman) == [("cpms", "acme")]
    failures["acme"] = 0
    clock.advance(10)
    assert names(watchman) == []
    watchman.stop()
    assert not clock.getDelayedCalls()


@pytest_twisted.ensureDeferred
async def test_a_cpms_that_refuses_everybody_is_an_alarm_until_it_takes_one() -> None:
    async with House() as house:
        watchman = Watchman((of_cpms(house.entrance.failures, house.entrance.refusing),), reactor, lambda: 1.0)
        takes, house.cpms.answer = house.cpms.answer, lambda _: b"HTTP/1.1 403 Forbidden\r\n\r\n"
        for _ in range(12):
            assert (await house.answered(upgrade("/acme/CS-1"))).status == 403
        watchman.look()
        assert watchman.current() == [], "it may be that station's own fault"
        for n in (2, 3):
            assert (await house.answered(upgrade(f"/acme/CS-{n}"))).status == 403
        watchman.look()
        (alarm,) = watchman.current()
        assert (alarm["name"], alarm["subject"]) == ("cpms", "acme")
        assert alarm["text"] == "the CPMS refused the last 14 dials of several stations, at last with 403: it takes nobody"
        house.cpms.answer = takes
        await house.open(upgrade("/acme/CS-7"))
        watchman.look()
        assert watchman.current() == []


def test_a_stations_alarm_counts_and_ends_after_a_day_of_silence() -> None:
    clock = Clock()
    watchman = Watchman((), clock, clock.seconds)
    watchman.start()
    for _ in range(2):
        watchman.of_station(Key("acme", "CS-7"), Alarm("clock", "jumps"))
    watchman.duplicate(Key("acme", "CS-8"), "192.0.2.1")
    (first, second) = watchman.current()
    assert (first["name"], first["count"], first["fault"], second["name"]) == ("clock", 2, "station", "duplicate")
    clock.pump([10.0] * 8641)
    assert names(watchman) == []
    watchman.stop()


@pytest.mark.parametrize("step", [-86_400.0, 86_400.0])
def test_a_clock_that_is_set_ends_no_alarm_and_holds_none(step: float) -> None:
    clock, off, asked = Clock(), [0.0], list[float]()
    watchman = Watchman((), clock, lambda: clock.seconds() + 1_800_000_000.0 + off[0])
    watchman.well = lambda key, name, raised_at: bool(asked.append(raised_at))  # type: ignore[func-returns-value]
    watchman.start()
    clock.advance(10)
    watchman.of_station(Key("acme", "CS-7"), Alarm("clock", "jumps"))
    watchman.duplicate(Key("acme", "CS-8"), "192.0.2.1")
    off[0] = step
    clock.pump([10.0] * 59)
    assert names(watchman) == [("clock", "acme/CS-7"), ("duplicate", "acme/CS-8")]
    assert set(asked) == {10.0}
    clock.advance(10)
    assert names(watchman) == [("clock", "acme/CS-7")]
    clock.pump([10.0] * 8_579)
    assert names(watchman) == [("clock", "acme/CS-7")]
    clock.advance(10)
    assert names(watchman) == []
    watchman.stop()


def test_engines_outboxes_stores_and_disks() -> None:
    a = {"breaker": "open", "oldest": None, "reachable": False}
    b = {"breaker": "closed", "oldest": 1.0, "reachable": True}
    away = of_engines(lambda: {"a": a, "b": b}, lambda: 3602.0)()
    assert (list(away["engine"]), list(away["outbox"])) == (["a"], ["b"])
    store: Any = SimpleNamespace(
        disk=SimpleNamespace(used=0.9, level=2, aside=("s.sqlite.corrupt-1", "s.sqlite.corrupt-2")),
        healthy=False,
        silent=False,
        refused="it is full",
        kept=2,
        waiting=1,
    )
    found = of_store(store, "s.sqlite")()
    assert list(found["store"]) == list(found["disk"]) == ["s.sqlite"]
    assert "(it is full)" in found["store"]["s.sqlite"]
    assert "3 writes wait in memory" in found["store"]["s.sqlite"]
    assert "2 files were" in found["damaged"]["s.sqlite"]
    assert "the newest is s.sqlite.corrupt-2" in found["damaged"]["s.sqlite"]
    store.silent = True
    assert "(it has not answered for 30 s)" in of_store(store, "s.sqlite")()["store"]["s.sqlite"]
    disk = SimpleNamespace(used=0.1, level=0, aside=())
    well: Any = SimpleNamespace(disk=disk, healthy=True, silent=False, refused="", kept=0, waiting=9)
    assert of_store(well, "s.sqlite")() == {"store": {}, "disk": {}, "damaged": {}}


def test_a_clock_that_is_set_makes_nothing_old() -> None:
    clock, off = Clock(), [1_800_000_000.0]
    row = {"breaker": "closed", "oldest": 1_800_000_000.0, "reachable": True}
    look = of_engines(lambda: {"a": row}, lambda: clock.seconds() + off[0], clock.seconds)
    assert not look()["outbox"]
    off[0] += 86_400.0
    for _ in range(360):
        clock.advance(10.0)
        assert not look()["outbox"], "it is not an hour old"
    clock.advance(10.0)
    assert look()["outbox"]
    clock.advance(4000.0)
    later = of_engines(lambda: {"a": row}, lambda: clock.seconds() + off[0], clock.seconds)
    assert later()["outbox"], "from before a restart"


def test_a_file_that_does_not_load_is_an_alarm_until_it_does(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "ca.pem"
    tenant = TenantSettings(name="acme", cpms_url="wss://127.0.0.1/ocpp", cpms_ca_file=str(file))
    read: list[object] = []

    def in_thread(*asked: Any) -> Any:
        read.append(asked)
        return maybeDeferred(*asked)

    files = Files(lambda: Settings(tenants={"acme": tenant}), clock.seconds, in_thread)
    assert list(files()["files"]) == ["tenants acme.cpms_ca_file"]
    make_pki.issue("CA", None).write(tmp_path, "ca")
    assert not files()["files"], "seen at once"
    file.write_text("rubbish")
    assert "what was loaded last stays in use" in files()["files"]["tenants acme.cpms_ca_file"]
    assert len(read) == 3
    files()
    assert len(read) == 3, "what did not change is not read"
    clock.advance(3600)
    files()
    assert len(read) == 4, "but hourly"


def test_a_certificate_is_an_alarm_from_two_weeks_before_its_end(tmp_path: Path) -> None:
    authority = make_pki.issue("CA", None, days=(-1, 30))
    authority.write(tmp_path, "ca")
    tenant = TenantSettings(name="acme", cpms_url="wss://127.0.0.1/ocpp", cpms_ca_file=str(tmp_path / "ca.pem"))
    wall = [authority.certificate.not_valid_after_utc.timestamp() - 14 * 86400 - 1]
    files = Files(lambda: Settings(tenants={"acme": tenant}), lambda: wall[0], maybeDeferred)
    files()
    assert files()["certificate"] == {}
    wall[0] += 2
    assert "CN=CA" in files()["certificate"][str(tmp_path / "ca.pem")]


def test_an_engine_that_only_has_schedules_to_give_is_missed_too() -> None:
    """Nothing waits for it, so no breaker opens: five minutes of silence are told, one answer ends it."""
    engine = {"breaker": "closed", "oldest": None, "reachable": False}
    engines = {"acme": engine}
    look = of_engines(lambda: engines, lambda: 0.0)
    assert [len(look()["engine"]) for _ in range(SILENT)] == [0] * (SILENT - 1) + [1]
    engine["reachable"] = True
    assert not look()["engine"]
    engine["reachable"] = False
    assert not look()["engine"]
    for _ in range(SILENT):
        look()
    engines.clear()
    assert not look()["engine"], "it is not configured any more"


def test_a_site_whose_polls_are_not_answered_is_said_though_the_engine_takes_what_it_is_told() -> None:
    poll = {"last_success": None, "why": "503"}
    engines = {"acme": {"breaker": "closed", "oldest": None, "reachable": True, "sites": {"hq": poll, "moon": {"why": ""}}}}
    look = of_engines(lambda: engines, lambda: 0.0)
    assert [list(look()["schedules"]) for _ in range(SILENT)] == [[]] * (SILENT - 1) + [["acme/hq"]]
    poll["why"] = ""
    assert not look()["schedules"]
    poll["why"] = "503"
    assert not look()["schedules"]


def test_a_stations_alarm_ends_when_it_is_well_again_and_nobody_is_asked_in_vain() -> None:
    clock, asked, well = Clock(), list[tuple[str, str, float]](), set[str]()
    watchman = Watchman((), clock, clock.seconds)

    def is_well(key: Key, name: str, raised_at: float) -> bool:
        asked.append((key.station, name, raised_at))
        return name in well

    watchman.well = is_well
    long = "x" * 200
    for station, name in (("CS-7", "clock"), ("CS-7", "release"), (long, "clock")):
        watchman.of_station(Key("acme", station), Alarm(name, "wrong"))
    clock.advance(5)
    watchman.of_station(Key("acme", "CS-7"), Alarm("clock", "wrong"))
    watchman.look()
    assert asked == [("CS-7", "clock", 5.0), ("CS-7", "release", 0.0), (long, "clock", 0.0)]
    well.add("clock")
    watchman.look()
    assert names(watchman) == [("release", "acme/CS-7")]
    assert len(watchman._stations) == 1
    asked.clear()
    watchman.look()
    assert asked == [("CS-7", "release", 0.0)]


def test_a_duplicate_is_over_after_ten_minutes_without() -> None:
    clock = Clock()
    watchman = Watchman((), clock, clock.seconds)
    watchman.start()
    watchman.duplicate(Key("acme", "CS-8"), "192.0.2.1")
    clock.pump([10.0] * 30)
    watchman.duplicate(Key("acme", "CS-8"), "192.0.2.1")
    clock.pump([10.0] * 59)
    assert names(watchman) == [("duplicate", "acme/CS-8")]
    clock.pump([10.0])
    assert names(watchman) == []
    watchman.stop()


@pytest_twisted.ensureDeferred
async def test_a_cpms_that_goes_is_an_alarm_until_it_is_back() -> None:
    async with House() as house:
        watchman = Watchman((of_cpms(house.entrance.failures),), reactor, lambda: 1.0)
        port = house.cpms_port.getHost().port
        await house.cpms_port.stopListening()
        for n in range(10):
            assert (await house.answered(upgrade(f"/acme/CS-{n}"))).status == 503
        watchman.look()
        views = Views(lambda: "", dict, lambda *_: {}, lambda *_: None, lambda: b"", alarms=watchman.current)
        metrics = exposition(Counts(), Gauges(dict, dict, watchman.book.counted))
        asked = StubTreq(tree(views, "token"))
        assert (await asked.get("http://broker/api/v1/alarms")).code == 401
        answer = await asked.get("http://broker/api/v1/alarms", headers={"Authorization": "Bearer token"})
        (alarm,) = json.loads(await answer.content())["alarms"]
        assert (alarm["name"], alarm["subject"], alarm["fault"]) == ("cpms", "acme", "cpms")
        assert b'ocppbroker_alarms{name="cpms"} 1.0' in metrics()
        house.cpms_port = await TCP4ServerEndpoint(reactor, port, interface="127.0.0.1").listen(house.cpms)
        house.entrance._upstreams[next(iter(house.entrance._upstreams))]._probe_at = 0.0  # the second is over
        await house.open(upgrade("/acme/CS-7"))
        watchman.look()
        assert watchman.current() == []
        assert b'ocppbroker_alarms{name="cpms"} 0.0' in metrics()
