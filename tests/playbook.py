"""Plays a conversation that is written down as text, and checks that the relay says what is written.

What happens stands at the margin, what the relay wants done for it is indented, in order:

    station > [2,"1","Heartbeat",{}]         a frame of the station; `cpms > …` likewise
            > cpms [2,"1","Heartbeat",{}]    goes on to the CPMS
    inject SetChargingProfile as ours-1      a wish of ours; `within 5` bounds its patience, `answered in 20` the station's
            > station ours-1                 goes to the station
    cpms > [2,"9","Reset",{}]
            > (held)                         nothing is done; so says `(nothing)`
    wait 10                                  ten seconds go by, `tick` being called whenever it was asked for
            > no answer to ours-1 (given-up)
            > station [2,"9","Reset",{}]
    station > the answer to ours-1           an empty CALLRESULT; `an error to ours-1` a CALLERROR
            > counted late-answer
    committed 1, lost 1, passed 1, close     the other inputs

Wherever `ours-1` stands in a frame, the message id of that CALL is meant. `Sent` and `Held` are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import ndiff
from textwrap import dedent

from broker.model.traffic import OURS, Exchange
from broker.ocpp.frames import frame
from broker.relay import Answered, Counted, Effects, Guarded, Held, Relay, Saw, Sent, Tell, spelled_out


def our_ids() -> Callable[[], str]:
    """Ids of ours in order: `our_id(1)`, `our_id(2)`, …"""
    numbers = iter(range(1, 1_000_000))
    return lambda: our_id(next(numbers))


def our_id(number: int) -> str:
    return f"{OURS}{number:032x}"


class Player:
    """A relay, a clock, and what was said so far."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.now = 1000.0

    def do(self, line: str) -> Iterable[str]:
        """What the relay wants done when this happens, as text."""
        word, _, rest = line.partition(" ")
        rest = rest.strip().removeprefix("> ").strip()
        if word in ("station", "cpms"):
            message = frame(self._frame_text(rest).encode())
            effects = self.relay.from_station(self.now, message) if word == "station" else self.relay.from_cpms(self.now, message)
            return self._lines(spelled_out(effects, "cpms" if word == "station" else "station", message))
        if word == "inject":
            return self._lines(self._inject(rest))
        if word in ("committed", "lost"):
            return self._lines(self.relay.committed(self.now, int(rest), word == "committed"))
        if word == "passed":
            return self._lines(self.relay.passed(self.now, int(rest)))
        if word == "close":
            return self._lines(self.relay.closed(self.now))
        assert word == "wait", line
        return self._wait(float(rest))

    def _inject(self, text: str) -> Effects:
        match = re.fullmatch(r"(\w+) as ours-(\d+)(?: within ([\d.]+))?(?: answered in ([\d.]+))?", text)
        assert match, text
        action, number, wait, timeout = match.groups()
        return self.relay.inject(self.now, int(number), action, {}, float(wait or 30), float(timeout or 30))

    def _wait(self, seconds: float) -> Iterable[str]:
        end = self.now + seconds
        while self.relay.wake_at is not None and self.relay.wake_at <= end:
            self.now = max(self.now, self.relay.wake_at)
            yield from self._lines(self.relay.tick(self.now))
            assert self.relay.wake_at is None or self.relay.wake_at > self.now, "a tick left something overdue"
        self.now = end

    def _frame_text(self, text: str) -> str:
        text = re.sub(r"^the answer to (ours-\d+)$", r'[3,"\1",{}]', text)
        text = re.sub(r"^an error to (ours-\d+)$", r'[4,"\1","GenericError","",{}]', text)
        return re.sub(r"ours-(\d+)", lambda match: our_id(int(match[1])), text)

    def _lines(self, effects: Effects) -> list[str]:
        return [line for effect in effects if (line := _line(effect))]


def _line(effect: object) -> str:
    match effect:
        case Tell(leg, told):
            text = re.sub(OURS + "0{24}([0-9a-f]{8})", lambda id: f"ours-{int(id[1], 16)}", told.text.decode())
            ours = re.match(r'\[2,"(ours-\d+)"', text) if leg == "station" else None
            return f"{leg} {ours[1] if ours else text}"
        case Saw(exchange):
            return f"saw {_shown(exchange)}"
        case Guarded(token, exchange):
            return f"guarded {exchange.action}, token {token}"
        case Answered(token, outcome, answer):
            return f"{outcome} to ours-{token}" if answer is not None else f"no answer to ours-{token} ({outcome})"
        case Counted(what):
            return f"counted {what}"
        case Held() | Sent():
            return ""
    raise AssertionError(effect)


def _shown(exchange: Exchange) -> str:
    answer = {0: "", 3: " and its answer", 4: " and its error"}[exchange.kind]
    if exchange.asked is not None:
        answer += f" to token {exchange.asked}"
    elif not exchange.call:
        answer = " proven"
    token = f", token {exchange.token}" if exchange.token is not None else ""
    return f"{exchange.sender}'s {exchange.action}{answer}{token}"


def play(conversation: str, relay: Relay | None = None) -> Player:
    """Play it all; fails with the difference between what was written and what was said."""
    player = Player(relay or Relay(new_id=our_ids()))
    written: list[str] = []
    said: list[str] = []
    for line in dedent(conversation).strip().splitlines():
        text = " ".join(line.split())
        if not text or text.startswith("#"):
            continue
        if not line[0].isspace():
            written.append(text)
            said.append(text)
            said += [f"        > {effect}" for effect in player.do(line.strip())]
        elif text not in ("> (nothing)", "> (held)"):
            text = text.removeprefix("> ")
            written.append(f"        > {text}")
    assert said == written, "\n" + "\n".join(ndiff(written, said))
    return player
