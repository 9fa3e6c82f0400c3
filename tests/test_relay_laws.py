"""The relay's laws as properties of whatever both sides, we, the disk and the clock may do, and wherever it ends.

A `World` plays a made-up conversation against a relay and writes down what came and what was told, in order. It keeps its
own books of which CALLs are open, kept by nothing but what was said on the wires; the laws are read off the record.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from playbook import our_id, our_ids
from strategies import EVENT, GUARDED, LIVE, PLAIN, SECRET, SHOWN, START, STOP, Step, conversations, entrustings, traffic

from broker.calls import FORGET_S, REUSE_S
from broker.model.traffic import CALL, NOTHING, Exchange, Interest
from broker.ocpp.frames import Frame, frame
from broker.relay import FORWARD, Answered, Counted, Effects, Guarded, Held, Relay, Saw, Sent, Tell, spelled_out
from broker.waiting import MOST, MOST_BYTES

HOLD, CALL_TIMEOUT, COMMIT_WAIT = 5.0, 60.0, 0.25
GRAIN = 1e-6  # of a float
EVERYTHING = Interest(
    at_call=frozenset({SHOWN, STOP, EVENT}),
    at_answer=frozenset({START, EVENT, GUARDED}),
    promised=frozenset({START, STOP, EVENT}),
    guarded=frozenset({GUARDED}),
    proof=frozenset({LIVE, SHOWN}),
    entrusting=frozenset({SECRET}),
)
law = settings(max_examples=150, deadline=None)


@dataclass(eq=False)
class Came:
    """A frame of the CPMS on its way to the station."""

    frame: Frame
    at: float
    sort: str
    answers: Asked | None = None
    told_at: float | None = None
    place: int = -1


@dataclass(eq=False)
class Spoken:
    """A frame of the station on its way to the CPMS."""

    frame: Frame
    at: float
    answers: Asked | None = None
    told_at: float | None = None

    @property
    def waits(self) -> bool:
        """By its own right."""
        return self.told_at is None and self.answers is not None and bool(self.answers.tokens)


@dataclass(eq=False)
class Asked:
    """A CALL that one side sent, and what became of it."""

    frame: Frame
    id: str
    at: float
    order: int
    tokens: set[int] = field(default_factory=set)
    broken: bool = False


class World:
    """A relay between two peers that do what the steps say."""

    def __init__(self, interest: Interest, *, reuse: bool = False) -> None:
        self.reuse = reuse  # the station uses ids again while they are open
        self.relay = Relay(interest, new_id=our_ids(), hold=HOLD, call_timeout=CALL_TIMEOUT, commit_wait=COMMIT_WAIT)
        self.now, self.serial = 1000.0, 0
        self.spoken: list[Spoken] = []
        self.to_cpms: list[Frame] = []
        self.came: list[Came] = []
        self.told = 0
        self.strays: list[Frame] = []  # told to the station, but neither the CPMS's nor ours
        self.cpms_open: list[Asked] = []
        self.station_open: list[Asked] = []
        self.entrusted: dict[bytes, int] = {}
        self.closing = False
        self.ours_sent: list[str] = []
        self.ours_open: list[int] = []
        self.injected: list[int] = []
        self.settled: Counter[int] = Counter()
        self.saw: list[Exchange] = []
        self.guards: dict[int, Came] = {}
        self.uncommitted: list[int] = []
        self.counted: Counter[str] = Counter()
        self.only_forwarded = True
        self.complaints: list[str] = []
        self.unpromised = 0
        self.latest: Came | None = None
        self.answering: Asked | None = None

    @property
    def from_station(self) -> list[Frame]:
        return [spoken.frame for spoken in self.spoken]

    # -------------------------------------------------------- what happens

    def play(self, steps: list[Step], *, flush: bool = False) -> World:
        for step in steps:
            self.act(step)
        if flush:
            self.wait(1000.0)
        self.closing = True
        self.do(self.relay.closed(self.now))
        return self

    def act(self, step: Step) -> None:
        getattr(self, "_" + step.what.replace(" ", "_"))(step)

    def _station_calls(self, step: Step) -> None:
        id = step.which if self.reuse else f"s{self.serial}"
        self.station(f'[2,"{id}","{step.text}",')

    def _station_says(self, step: Step) -> None:
        self.station(step.text)

    def _station_answers(self, step: Step) -> None:
        asked = self._answered(self.cpms_open, step.which)
        if asked is not None:
            self.station(f'[{step.text},"{asked.id}",', answers=asked)

    def _station_bursts(self, step: Step) -> None:
        for n in range(step.which):
            self.station(f'[2,"b{n}","{PLAIN}",')

    def _station_answers_ours(self, step: Step) -> None:
        if self.ours_sent:
            newest_first = self.ours_sent[::-1]
            self.station(f'[{step.text},"{newest_first[step.which % len(newest_first)]}",', ours=True)

    def _cpms_calls(self, step: Step) -> None:
        self.cpms(f'[2,"{step.which}","{step.text}",', "call")

    def _cpms_bursts(self, step: Step) -> None:
        for n in range(step.which):
            self.cpms(f'[2,"{n}","{PLAIN}",', "call")

    def _cpms_says(self, step: Step) -> None:
        self.cpms(step.text, "answer" if step.text.startswith("[3") else "other")

    def _cpms_answers(self, step: Step) -> None:
        asked = self._answered(self.station_open, step.which)
        if asked is not None:
            self.cpms(f'[{step.text},"{asked.id}",', "answer", asked)

    def _inject(self, step: Step) -> None:
        token = len(self.injected) + 1
        self.injected.append(token)
        self.do(self.relay.inject(self.now, token, GUARDED, {}, step.seconds, 30.0))

    def _committed(self, step: Step, kept: bool = True) -> None:
        if self.uncommitted:
            token = self.uncommitted.pop(step.which % len(self.uncommitted))
            theirs = (one.answers for one in (*self.came, *self.spoken) if one.answers)
            for asked in (*self.station_open, *self.cpms_open, *theirs):
                asked.broken = asked.broken or (token in asked.tokens and not kept)
                asked.tokens.discard(token)
            self.do(self.relay.committed(self.now, token, kept))

    def _lost(self, step: Step) -> None:
        self._committed(step, kept=False)

    def _passed(self, step: Step) -> None:
        if self.guards:
            token = sorted(self.guards)[step.which % len(self.guards)]
            del self.guards[token]
            self.do(self.relay.passed(self.now, token))

    def _wait(self, step: Step) -> None:
        self.wait(step.seconds)

    def wait(self, seconds: float) -> None:
        """Time goes by, and the relay is woken exactly when it asked for it."""
        end = self.now + seconds
        while (wake := self.relay.wake_at) is not None and wake <= end:
            self.now = max(self.now, wake)
            self.do(self.relay.tick(self.now))
            after = self.relay.wake_at
            if after is not None and after <= self.now:
                self.complaints.append("a tick left something overdue")
                break
        self.now = end

    # -------------------------------------------------------- the wires

    def station(self, start: str, *, ours: bool = False, answers: Asked | None = None) -> None:
        message = self._numbered(start)
        if not ours:
            self.spoken.append(Spoken(message, self.now, answers))
        if message.head is not None and message.head.kind == CALL:
            self._open(self.station_open, Asked(message, message.head.id, self.now, self.serial))
        effects = self.relay.from_station(self.now, message)
        self.do(spelled_out(effects, "cpms", message), plain=effects is FORWARD or message.head is None)
        waiting = [one for one in self.spoken if one.told_at is None]
        if len(waiting) > MOST:
            self.complaints.append("too many are held")
        if waiting and not waiting[0].waits:
            self.complaints.append("a frame of the station waits for nothing")

    def cpms(self, start: str, sort: str, answers: Asked | None = None) -> None:
        message = self._numbered(start)
        self.latest = Came(message, self.now, sort, answers)
        self.came.append(self.latest)
        effects = self.relay.from_cpms(self.now, message)
        self.answering = answers
        self.do(spelled_out(effects, "station", message), plain=effects is FORWARD or message.head is None)
        self.answering = None
        if sum(came.told_at is None for came in self.came) > MOST:
            self.complaints.append("too many are held")

    def do(self, effects: Effects, *, plain: bool = False) -> None:
        self.only_forwarded = self.only_forwarded and (plain or not effects)
        tells = [isinstance(effect, Tell) for effect in effects]
        if tells != sorted(tells, reverse=True):  # else a wish that follows from the rest could get before a frame
            self.complaints.append("a frame was told last")
        for effect in sorted(effects, key=lambda effect: isinstance(effect, Tell)):  # the books first
            match effect:
                case Tell("cpms", told):
                    self._tell_cpms(told)
                case Tell(_, told):
                    self._tell_station(told)
                case Saw(exchange):
                    self._saw(exchange)
                case Guarded(token, exchange):
                    assert self.latest is not None
                    assert exchange == Exchange("cpms", GUARDED, self.latest.frame.text, None, 0, None)
                    self.guards[token] = self.latest
                case Answered(token, outcome, _):
                    self.settled[token] += 1
                    if token in self.ours_open:
                        self.ours_open.remove(token)
                    elif outcome not in ("no-slot", "closed"):
                        self.complaints.append(f"{outcome} to one of ours that was not open")
                case Sent(token):
                    self.ours_open.append(token)
                    if len(self.ours_open) > 1:
                        self.complaints.append("two of ours are open")
                case Counted(what):
                    self.counted[what] += 1
                case Held(seconds):
                    if not 0 <= seconds <= HOLD + GRAIN:
                        self.complaints.append(f"held for {seconds}")

    def _tell_cpms(self, told: Frame) -> None:
        self.to_cpms.append(told)
        spoken = next((spoken for spoken in self.spoken if spoken.frame is told), None)
        if spoken is None:
            return
        spoken.told_at = self.now
        if spoken.answers is None:
            return
        self.unpromised += bool(spoken.answers.tokens or spoken.answers.broken)
        hurried = self.closing or self.counted["hold-full"]
        if spoken.answers.tokens and self.now - spoken.at < COMMIT_WAIT - GRAIN and not hurried:
            self.complaints.append("the station's answer went before its commit")

    def _tell_station(self, told: Frame) -> None:
        came = next((came for came in self.came if came.frame is told), None)
        if came is None:
            self._tell_ours(told)
            return
        if came.told_at is not None:
            self.complaints.append("told twice")
        came.told_at, came.place = self.now, self.told
        self.told += 1
        self.unpromised += came.answers is not None and bool(came.answers.tokens or came.answers.broken)
        if came.sort == "call" and told.head is not None:
            token = self.entrusted.pop(told.text, None)
            self._open(self.cpms_open, Asked(told, told.head.id, self.now, 0, set() if token is None else {token}))
            if self.ours_open:
                self.complaints.append("a CALL of the CPMS went while ours was open")
            guard = next((token for token, guarded in self.guards.items() if guarded is came), None)
            if guard is not None:
                del self.guards[guard]
                if self.now - came.at < HOLD - GRAIN and not self.counted["hold-full"]:
                    self.complaints.append("a guarded CALL went before it was passed")
        if came.answers is not None and came.answers.tokens and self.now - came.at < COMMIT_WAIT - GRAIN and not self.counted["hold-full"]:
            self.complaints.append("an answer went before its commit")

    def _tell_ours(self, told: Frame) -> None:
        if told.head is None or told.head.kind != CALL or told.head.id in self.ours_sent or not told.head.id.startswith("ocb-"):
            self.strays.append(told)
            return
        self.ours_sent.append(told.head.id)
        if any(self.now < asked.at + CALL_TIMEOUT - GRAIN for asked in self.cpms_open):
            self.complaints.append("ours went over a CALL of the CPMS")
        if any(came.told_at is None and came.answers and came.answers.tokens for came in self.came):
            self.complaints.append("ours overtook an answer that waits for its commit")

    def _saw(self, exchange: Exchange) -> None:
        self.saw.append(exchange)
        if exchange.token is None:
            return
        self.uncommitted.append(exchange.token)
        if exchange.sender == "cpms":
            self.entrusted[exchange.call] = exchange.token
        for asked in (*self.station_open, self.answering):
            if asked is not None and asked.frame.text == exchange.call:
                asked.tokens.add(exchange.token)

    def _numbered(self, start: str) -> Frame:
        """No two frames are alike, so that each can be recognised at the other end."""
        self.serial += 1
        return frame(f'{start}{{"n":{self.serial}}}]'.encode())

    def _open(self, asked: list[Asked], one: Asked) -> None:
        """One more; who uses an id again after a minute has given the first CALL up."""
        asked[:] = [other for other in asked if other.id != one.id or other.at > self.now - REUSE_S]
        asked.append(one)

    def _answered(self, asked: list[Asked], which: int) -> Asked | None:
        """One of these is answered now. Of two with one id it is the older; after five minutes none is."""
        asked[:] = [one for one in asked if one.at > self.now - FORGET_S]
        if not asked:
            return None
        id = asked[which % len(asked)].id
        one = next(one for one in asked if one.id == id)
        asked.remove(one)
        return one


# ---------------------------------------------------------------- the laws


@law
@given(conversations)
def test_1_the_cpms_gets_what_the_station_sent_and_nothing_else(steps: list[Step]) -> None:
    world = World(EVERYTHING, reuse=True).play(steps)
    assert world.to_cpms == world.from_station


@law
@given(conversations)
def test_2_the_station_gets_what_the_cpms_sent_and_nothing_else_but_ours(steps: list[Step]) -> None:
    world = World(EVERYTHING, reuse=True).play(steps, flush=True)
    assert world.strays == []
    assert [came for came in world.came if came.told_at is None] == []
    assert not [complaint for complaint in world.complaints if "told" in complaint]


@law
@given(conversations)
def test_2_only_answers_overtake_and_only_what_the_law_lets_them(steps: list[Step]) -> None:
    world = World(EVERYTHING).play(steps, flush=True)
    for place, later in enumerate(world.came):
        for earlier in world.came[:place]:
            if later.place < earlier.place:
                assert later.sort == "answer"
                older = later.answers and earlier.answers and later.answers.order < earlier.answers.order
                assert earlier.sort == "call" or (earlier.sort == "answer" and older)


@law
@given(conversations)
def test_3_the_cpms_and_we_are_one_sender(steps: list[Step]) -> None:
    world = World(EVERYTHING).play(steps)
    assert [complaint for complaint in world.complaints if "ours" in complaint] == []


@law
@given(conversations)
def test_4_nothing_waits_for_ever(steps: list[Step]) -> None:
    world = World(EVERYTHING, reuse=True).play([*steps, Step("wait", seconds=1000.0)])
    assert world.relay.wake_at is None
    assert "a tick left something overdue" not in world.complaints
    assert all(came.told_at is not None and came.told_at - came.at <= HOLD + GRAIN for came in world.came)
    assert all(one.told_at is not None and one.told_at - one.at <= COMMIT_WAIT + GRAIN for one in world.spoken)
    if not any(came.sort == "other" for came in world.came):
        assert all(came.told_at - came.at <= COMMIT_WAIT + GRAIN for came in world.came if came.sort == "answer" and came.told_at)
    assert not [complaint for complaint in world.complaints if "held" in complaint]


@law
@given(conversations)
def test_4_without_ours_and_without_a_guard_only_promises_make_anything_wait(steps: list[Step]) -> None:
    unguarded = Interest(EVERYTHING.at_call, EVERYTHING.at_answer, EVERYTHING.promised)
    world = World(unguarded).play([step for step in steps if step.what != "inject"], flush=True)
    assert all(came.told_at is not None and came.told_at - came.at <= COMMIT_WAIT + GRAIN for came in world.came)


@law
@given(conversations)
def test_5_each_of_ours_is_settled_once_wherever_it_ends(steps: list[Step]) -> None:
    world = World(EVERYTHING, reuse=True).play(steps)
    assert world.settled == Counter(world.injected)
    assert not [complaint for complaint in world.complaints if "not open" in complaint]
    assert world.relay.wake_at is None


@law
@given(conversations, st.lists(st.integers(1, 5), max_size=5))
def test_5_answers_to_ours_end_here_also_after_a_restart(steps: list[Step], numbers: list[int]) -> None:
    world = World(NOTHING, reuse=True)
    for number in numbers:  # ours of an earlier life
        world.ours_sent.append(our_id(900 + number))
        world.act(Step("station answers ours", text="3"))
    world.play(steps)
    assert world.to_cpms == world.from_station


@law
@given(conversations)
def test_write_ahead_no_promised_answer_goes_before_its_commit(steps: list[Step]) -> None:
    world = World(EVERYTHING).play(steps)
    assert "an answer went before its commit" not in world.complaints


@law
@given(conversations)
def test_write_ahead_each_answer_that_goes_without_its_commits_is_counted_once(steps: list[Step]) -> None:
    world = World(EVERYTHING).play(steps, flush=True)
    assert world.counted["unpromised"] == world.unpromised


@law
@given(entrustings)
def test_write_ahead_no_answer_of_the_station_goes_before_its_commit_and_nothing_waits_for_less(steps: list[Step]) -> None:
    world = World(EVERYTHING, reuse=True).play(steps)
    assert not [complaint for complaint in world.complaints if "the station" in complaint or "told" in complaint]
    assert world.to_cpms == world.from_station, "also what waited when it closed, in its order"
    assert world.relay.wake_at is None


@law
@given(entrustings)
def test_write_ahead_nothing_of_the_station_waits_for_ever_and_what_goes_too_early_is_counted(steps: list[Step]) -> None:
    world = World(EVERYTHING, reuse=True).play(steps, flush=True)
    assert all(one.told_at is not None and one.told_at - one.at <= COMMIT_WAIT + GRAIN for one in world.spoken)
    assert world.counted["unpromised"] == world.unpromised
    assert not [complaint for complaint in world.complaints if "overdue" in complaint]


@law
@given(entrustings, st.integers(1, 70), st.booleans())
def test_write_ahead_only_so_much_waits_behind_it(steps: list[Step], n: int, big: bool) -> None:
    world = World(EVERYTHING, reuse=True)
    for step in [*steps, Step("cpms calls", 7, SECRET), Step("station answers", -1, "3"), Step("station bursts", n)]:
        world.act(step)
    if big:
        world.station(f'[2,"big","{PLAIN}","{"x" * MOST_BYTES}",')
    waiting = [one.frame for one in world.spoken if one.told_at is None]
    assert len(waiting) <= MOST
    assert len(waiting) == 1 or sum(len(frame.text) for frame in waiting) <= MOST_BYTES
    assert "too many are held" not in world.complaints


@law
@given(entrustings)
def test_without_an_entrusting_call_nothing_ever_waits_for_the_cpms(steps: list[Step]) -> None:
    world = World(Interest(EVERYTHING.at_call, EVERYTHING.at_answer, EVERYTHING.promised, EVERYTHING.guarded, EVERYTHING.proof))
    for step in steps:
        world.act(step)
        assert world.to_cpms == world.from_station


@law
@given(conversations)
def test_8_a_guarded_call_waits_to_be_passed(steps: list[Step]) -> None:
    world = World(EVERYTHING).play(steps, flush=True)
    assert "a guarded CALL went before it was passed" not in world.complaints


@law
@given(conversations)
def test_the_tap_is_shown_each_exchange_once_and_paired_as_it_was(steps: list[Step]) -> None:
    world = World(EVERYTHING).play(steps, flush=True)
    calls = [sent for sent in world.from_station if sent.head is not None and sent.head.kind in (CALL, 6)]
    shown = [exchange.call for exchange in world.saw if exchange.answer is None and exchange.sender == "station"]
    assert shown == [call.text for call in calls if call.head is not None and call.head.action in EVERYTHING.at_call]
    answered = [exchange for exchange in world.saw if exchange.answer and exchange.sender == "station"]
    expected = [
        (came.answers.frame.text, came.frame.text)
        for came in world.came
        if came.answers is not None and came.answers.frame.head is not None and came.answers.frame.head.action in EVERYTHING.at_answer
    ]
    if not world.counted["untapped"]:
        assert [(exchange.call, exchange.answer) for exchange in answered] == expected
    assert sum(exchange.call == b"" for exchange in world.saw if exchange.sender == "station") <= 1


@law
@given(entrustings)
def test_an_entrusting_call_is_shown_once_and_its_answer_with_its_token_and_without_it(steps: list[Step]) -> None:
    world = World(EVERYTHING).play(steps, flush=True)
    asked = {
        exchange.token: exchange.call for exchange in world.saw if exchange.sender == "cpms" and exchange.action == SECRET and exchange.call
    }
    assert list(asked.values()) == [came.frame.text for came in world.came if came.frame.head and came.frame.head.action == SECRET]
    told = [(exchange.asked, exchange.call, exchange.answer) for exchange in world.saw if exchange.asked is not None]
    answers = {spoken.answers.frame.text: spoken.frame.text for spoken in world.spoken if spoken.answers is not None}
    if not world.counted["untapped"]:
        assert told == [(token, b"", answers[asked[token]]) for token, _, _ in told]
        assert len(told) == sum(text in answers for text in asked.values())


@law
@given(traffic)
def test_without_interest_everything_goes_straight_on(steps: list[Step]) -> None:
    world = World(NOTHING).play(steps)
    assert world.only_forwarded
    assert world.saw == []
    assert set(world.counted) <= {"opaque"}
    assert [came.frame for came in sorted(world.came, key=lambda came: came.place)] == [came.frame for came in world.came]
    assert world.to_cpms == world.from_station
