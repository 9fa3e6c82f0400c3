"""What is to be told of alarms to one recipient who does not look: gathered, bounded, tried again with care, told in order.

    raised, cleared ─▶ waiting ─ gathered for some seconds ─▶ one message ─▶ sent
                                                                  └▶ failed: the same again, later each time

Of one alarm only the newest state waits: one that was raised and cleared within a message's gathering is told once, with both its
times. A message that was begun stays as it is, with its id, until it was taken: a recipient that sees an id twice saw it before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

from broker.alarms import KINDS, OTHER, SEVERITIES, Changes, Severity, Standing
from broker.ocpp.times import text as time_text

MOST: Final = 1000  # alarms that wait to be told; beyond it the oldest goes and is counted
MOST_IN_ONE: Final = 100  # of one message: 40 kB
FIRST_S: Final = 2.0
CAP_S: Final = 300.0  # the longest pause between two tries: who is back hears within five minutes
MOST_TEXT: Final = 500  # characters of an alarm's text; some of it is a station's own words


class Notice(NamedTuple):
    """One alarm's news. `at`: when, in seconds since 1970."""

    event: Literal["raised", "cleared", "standing", "test"]
    alarm: Standing
    at: float


class Message(NamedTuple):
    """What is sent at once. `lost`: how many before it were given up, because too many waited."""

    id: str
    notices: tuple[Notice, ...]
    standing: int
    """How many alarms stand in all."""
    lost: int = 0


class Notices:
    """One recipient's. `jitter` returns a number in [0, 1); `now` is monotonic seconds, `wall` seconds since 1970."""

    def __init__(
        self, *, gather_s: float, repeat_s: float, least: Severity, jitter: Callable[[], float], new_id: Callable[[], str]
    ) -> None:
        self._gather_s, self._repeat_s, self._least = gather_s, repeat_s, SEVERITIES.index(least)
        self._jitter, self._new_id = jitter, new_id
        self._waiting: dict[tuple[str, str], Notice] = {}
        self._told: dict[tuple[str, str], float] = {}  # of what stands: when it was last put here
        self._begun: Message | None = None
        self._busy = False
        self._not_before = 0.0
        self._failures = self._lost = 0

    def __len__(self) -> int:
        return len(self._waiting) + (len(self._begun.notices) if self._begun is not None else 0)

    def changed(self, changes: Changes, wall: float, now: float) -> None:
        """What was raised and what is over; what is below the least severity is not told."""
        for one in changes.raised:
            self._add(Notice("raised", one, wall), now)
        for one in changes.cleared:
            self._add(Notice("cleared", one, wall), now)

    def remind(self, current: Sequence[Standing], wall: float, now: float) -> None:
        """What has stood untold for `repeat` is told again; also what was put aside when too much waited."""
        standing = {(one.name, one.subject): one for one in current}
        self._told = {at: told for at, told in self._told.items() if at in standing}
        if self._repeat_s:
            for at, one in standing.items():
                if at not in self._waiting and now - self._told.setdefault(at, now) >= self._repeat_s:
                    self._add(Notice("standing", one, wall), now)

    def _add(self, notice: Notice, now: float) -> None:
        if SEVERITIES.index(severity_of(notice.alarm.name)) < self._least:
            return
        at = (notice.alarm.name, notice.alarm.subject)
        if not self._waiting and self._begun is None:
            self._not_before = max(self._not_before, now + self._gather_s)
        self._waiting.pop(at, None)
        self._waiting[at] = notice
        if notice.event != "cleared":
            self._told[at] = now  # what does not stand any more is forgotten at the next `remind`
        while len(self._waiting) > MOST:
            del self._waiting[next(iter(self._waiting))]
            self._lost += 1

    # ------------------------------------------------------------ sending

    @property
    def wake_at(self) -> float | None:
        """When `take` will give something; None while nothing waits, or something is on its way."""
        return None if self._busy or not len(self) else self._not_before

    def take(self, standing: int, now: float) -> Message | None:
        """What is to be sent now, if anything; it must be settled. `standing`: how many alarms stand in all."""
        wake_at = self.wake_at
        if wake_at is None or now < wake_at:
            return None
        if self._begun is None:
            some = list(self._waiting)[:MOST_IN_ONE]
            notices = tuple(self._waiting.pop(at) for at in some)
            self._begun, self._lost = Message(self._new_id(), notices, standing, self._lost), 0
        self._busy = True
        return self._begun

    def settle(self, sent: bool, now: float) -> None:
        """What became of it. Raises ValueError when nothing was on its way."""
        if not self._busy:
            raise ValueError("nothing was on its way")
        self._busy = False
        if sent:
            self._begun, self._failures = None, 0
            self._not_before = now + self._gather_s
        else:
            self._failures += 1
            self._not_before = now + FIRST_S + self._jitter() * min(CAP_S - FIRST_S, FIRST_S * 2.0 ** min(self._failures, 10))


def severity_of(name: str) -> Severity:
    return KINDS.get(name, OTHER).severity


def trial(id: str, wall: float) -> Message:
    """What a test sends: it is told apart by its event and name."""
    text = "this is a test: whoever reads it will hear of alarms"
    return Message(id, (Notice("test", Standing("test", "broker", wall, wall, 1, "operator", text, "nothing"), wall),), 0)


# ---------------------------------------------------------------- in words


def headline(message: Message, who: str) -> str:
    """One line: a mail's subject."""
    counts = {event: sum(one.event == event for one in message.notices) for event in ("raised", "cleared", "standing", "test")}
    said = ", ".join(f"{n} {event}" for event, n in counts.items() if n)
    if len(message.notices) == 1:
        (one,) = message.notices
        said = f"{one.event}: {one.alarm.name} of {one.alarm.subject}"
    return _clean(f"[{who}] {said}", 200)


def lines(message: Message) -> Iterable[str]:
    """For people."""
    for event, alarm, at in message.notices:
        when = f"since {time_text(alarm.since)}" + (f" until {time_text(at)}" if event == "cleared" else "")
        yield _clean(f"{event.upper()}  {alarm.name} of {alarm.subject}, {severity_of(alarm.name)}, {when}")
        yield _clean(f"    the {alarm.fault}'s: {alarm.text}")
        if event != "cleared":
            yield _clean(f"    {alarm.do}")
    if message.lost:
        yield f"{message.lost} more were not kept: too many waited. `ocppbroker alarms` says what stands."
    yield f"{message.standing} alarms stand."


def plain(message: Message, who: str) -> dict[str, Any]:
    """For machines; `text` is what chat systems show."""
    alarms = [
        {
            "event": event, "name": alarm.name, "subject": _clean(alarm.subject), "severity": severity_of(alarm.name),
            "fault": alarm.fault, "text": _clean(alarm.text), "do": alarm.do, "since": time_text(alarm.since), "count": alarm.count,
            "cleared": time_text(at) if event == "cleared" else None,
        }
        for event, alarm, at in message.notices
    ]  # fmt: skip
    text = "\n".join([headline(message, who), *lines(message)])
    return {"id": message.id, "broker": who, "text": text, "alarms": alarms, "standing": message.standing, "lost": message.lost}


def _clean(text: str, most: int = MOST_TEXT) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
