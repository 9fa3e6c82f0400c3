"""A CPMS that reads profiles back while ours come and go, over a real relay and a real observer: what it hears is what the station said
to it, byte for byte and in order, and nothing that the station said to us, however late or often it says that.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from readback import composite, reports

from broker.engine.v1 import V1
from broker.model.basics import Instant, Key
from broker.model.orders import Inject, Pass, Write
from broker.model.schedules import Schedule, Step
from broker.observer import Seat, Watching
from broker.ocpp import times
from broker.ocpp.dialects import BY_NAME
from broker.ocpp.frames import frame
from broker.relay import Answered, Guarded, Relay, Saw, Tell, spelled_out
from broker.settings import ChargingSettings, EngineSettings, EvseSettings, StationSettings, TenantSettings
from broker.sim.cars import Socket
from broker.sim.held import Held, read

NOON = 1_768_046_400.0
OURS = range(9_120_000, 9_130_000)
SPACES = (" ", "", "  ")


class Line:
    """A station that holds profiles, its CPMS, and us between them; links come and go."""

    def __init__(self, version: str) -> None:
        self.version, self.old = version, version == "ocpp1.6"
        self.held, self.socket = Held(version, (1,)), Socket(1, max_amps=40.0)
        self.mono, self.numbers, self.links = 0.0, itertools.count(1), 0
        self.sent: dict[str, list[bytes]] = {"station": [], "cpms": []}
        self.heard: dict[str, list[bytes]] = {"station": [], "cpms": []}
        self.asked: deque[tuple[str, str, Any]] = deque()
        self.ours: list[bytes] = []
        self.todo: deque[Any] = deque()
        self.connect()

    @property
    def now(self) -> Instant:
        return Instant(self.mono, NOON + self.mono)

    def connect(self) -> None:
        engine = EngineSettings("http://engine", "acme", "secret")
        station = StationSettings("CS-7", "smart-charging", "hq", "ac", (EvseSettings(1, "socket-1", 32.0, 3),))
        charging = ChargingSettings(baseline="seen", purposes=("max", "default"))
        tenant = TenantSettings("acme", "ws://c", mode="smart-charging", engine=engine, charging=charging, stations={"CS-7": station})
        seat = Seat(Key("acme", "CS-7"), station, tenant, BY_NAME[self.version], V1(engine))
        self.observer = Watching(seat, (), opened=self.now, flapping=False, shadow=False, new_token=lambda: next(self.numbers))
        self.relay = Relay(self.observer.interest, new_id=lambda: f"ocb-{next(self.numbers):032x}")
        self.says("station", [2, f"h{next(self.numbers)}", "Heartbeat", {}])
        self.says("cpms", [3, json.loads(self.sent["station"][-1])[1], {"currentTime": times.text(NOON + self.mono)}])
        at = times.text(NOON + self.mono)
        told = (
            {"connectorId": 1, "errorCode": "NoError", "status": "Available", "timestamp": at}
            if self.old
            else {"evseId": 1, "connectorId": 1, "connectorStatus": "Available", "timestamp": at}
        )
        self.says("station", [2, f"h{next(self.numbers)}", "StatusNotification", told])
        self.says("cpms", [3, json.loads(self.sent["station"][-1])[1], {}])

    # ------------------------------------------------------------ what goes by

    def says(self, leg: str, message: Any) -> None:
        text = json.dumps(message, separators=("," + SPACES[len(self.sent[leg]) % 3], ":")).encode()
        self.sent[leg].append(text)
        came = frame(text)
        effects = (self.relay.from_station if leg == "station" else self.relay.from_cpms)(self.mono, came)
        self.do(spelled_out(effects, "cpms" if leg == "station" else "station", came))

    def do(self, effects: Any) -> None:
        self.todo.extend(effects)
        while self.todo:
            self.one(self.todo.popleft())

    def one(self, effect: Any) -> None:
        match effect:
            case Tell("station", told):
                self.heard["station"].append(told.text)
                kind, id, *rest = json.loads(told.text)
                if kind == 2:
                    self.asked.append((id, rest[0], rest[1]))
            case Tell("cpms", told):
                self.heard["cpms"].append(told.text)
            case Saw(exchange):
                self.todo.extend(self.observer.saw(exchange, self.now))
            case Guarded(token, exchange):
                self.todo.extend(self.observer.guarded(token, exchange, self.now))
            case Answered(token, outcome, answer):
                self.todo.extend(self.observer.answered(token, outcome, answer, self.now))
            case Write(_, _, token) if token is not None:
                self.todo.extend(self.relay.committed(self.mono, token))
            case Pass(token):
                self.todo.extend(self.relay.passed(self.mono, token))
            case Inject():
                self.todo.extend(self.relay.inject(self.mono, effect.token, effect.action, effect.payload, effect.wait_s, effect.timeout_s))

    # ------------------------------------------------------------ who does what

    def waits(self, seconds: float) -> None:
        end = self.mono + seconds
        for _ in range(50):
            at = min((at for at in (self.relay.wake_at, self.observer.wake_at) if at is not None), default=end)
            if at >= end:
                break
            self.mono = max(self.mono, at)
            self.do(self.relay.tick(self.mono))
            self.do(self.observer.tick(self.now))
        self.mono = end

    def wants(self, amps: float) -> None:
        wanted = Schedule(f"s{next(self.numbers)}", "socket-1", self.now.wall, self.now.wall + 7200, "A", (Step(self.now.wall - 1, amps),))
        self.do(self.observer.wish(wanted, self.now))

    def cpms(self, what: int) -> None:
        plan = {"chargingRateUnit": "A", "startSchedule": times.text(NOON), "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 20.0}]}
        told = {"stackLevel": 0, "chargingProfilePurpose": "TxDefaultProfile", "chargingProfileKind": "Absolute"}
        calls: list[tuple[str, Any]] = [
            ("GetCompositeSchedule", {"connectorId" if self.old else "evseId": 1, "duration": 600}),
            ("GetConfiguration", {}) if self.old else ("GetChargingProfiles", {"requestId": 1, "chargingProfile": {}}),
            ("SetChargingProfile", {"connectorId": 1, "csChargingProfiles": {**told, "chargingProfileId": 1, "chargingSchedule": plan}})
            if self.old
            else ("SetChargingProfile", {"evseId": 1, "chargingProfile": {**told, "id": 1, "chargingSchedule": [{"id": 1, **plan}]}}),
            ("ClearChargingProfile", {}),
        ]
        self.says("cpms", [2, f"c{next(self.numbers)}", *calls[what % 4]])

    def station(self, how: int) -> None:
        """It answers the oldest CALL: properly, not at all, or twice."""
        if not self.asked:
            return
        id, action, payload = self.asked.popleft()
        answer, more = self.obeys(action, payload)
        for _ in range((1, 1, 1, 0, 2)[how]):
            self.says("station", [3, id, answer])
        for told in more:
            self.says("station", [2, f"r{next(self.numbers)}", "ReportChargingProfiles", told])

    def obeys(self, action: str, payload: Any) -> tuple[Any, list[Any]]:
        if action == "SetChargingProfile":
            evse = payload.get("connectorId", payload.get("evseId"))
            said = payload.get("csChargingProfiles", payload.get("chargingProfile"))
            return {"status": "Rejected" if self.held.set(read(evse, said, self.now.wall), {}) else "Accepted"}, []
        if action == "ClearChargingProfile":
            return {"status": "Accepted" if self.held.clear(payload.get("id", payload.get("chargingProfileId"))) else "Unknown"}, []
        if action == "GetCompositeSchedule":
            return composite(self.version, self.held.profiles, self.socket, 1, self.now.wall, None, 600), []
        if action == "GetChargingProfiles":
            return {"status": "Accepted"}, reports(self.held.profiles)
        return ({"configurationKey": []} if self.old else {"getVariableResult": []}), []

    def reconnects(self) -> None:
        """What the station was asked on the old link it may answer on the new one."""
        self.do(self.relay.closed(self.mono))
        self.connect()

    def check(self) -> None:
        def to_us(text: bytes) -> bool:
            kind, id, *_ = json.loads(text)
            return kind in (3, 4) and id.startswith("ocb-")

        self.ours = [text for text in self.heard["station"] if b'"ocb-' in text]
        assert self.heard["cpms"] == [text for text in self.sent["station"] if not to_us(text)]
        theirs = [text for text in self.heard["station"] if b'"ocb-' not in text]
        assert theirs == [text for text in self.sent["cpms"] if text in set(theirs)], "altered, or out of order"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(BY_NAME)),
    st.lists(
        st.one_of(
            st.tuples(st.just("cpms"), st.integers(0, 3)),
            st.tuples(st.just("station"), st.integers(0, 4)),
            st.tuples(st.just("station"), st.just(0)),
            st.tuples(st.just("waits"), st.sampled_from([0.1, 6.0, 31.0, 70.0, 700.0])),
            st.tuples(st.just("wants"), st.sampled_from([6.0, 10.0, 16.0])),
            st.tuples(st.just("reconnects")),
        ),
        max_size=40,
    ),
)
def test_what_the_cpms_hears_is_what_the_station_said_to_it_and_nothing_else(version: str, story: list[tuple[Any, ...]]) -> None:
    line = Line(version)
    line.wants(16.0)
    line.waits(11.0)
    for what, *more in story:
        getattr(line, what)(*more)
        line.check()
    line.waits(100.0)
    line.check()
    assert len(set(line.heard["station"]) & set(line.sent["cpms"])) == len(set(line.sent["cpms"])), "lost"


def test_ours_are_seen_by_who_reads_them_and_only_their_ids_are_ours() -> None:
    """Else all of the above would hold of nothing."""
    line = Line("ocpp2.0.1")
    line.wants(16.0)
    line.waits(11.0)
    for _ in range(4):
        line.station(0)
    assert [one.id in OURS for one in line.held.profiles] == [True]
    line.cpms(1)
    line.station(0)
    line.check()
    (report,) = [text for text in line.heard["cpms"] if b"ReportChargingProfiles" in text]
    assert [one["id"] in OURS for one in json.loads(report)[3]["chargingProfile"]] == [True]
    assert len(line.ours) >= 2
