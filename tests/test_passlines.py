"""Which passwords count: laws over any sequence of what a CPMS gives, what a station comes with, and what the operator writes."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import passlines
from broker.model.records import Fact
from broker.passwords import hashed
from broker.settings import StationSettings, TenantSettings

LINES = [hashed(b"password-%d" % n, b"%016d" % n) for n in range(3)]
LISTED, OTHER = LINES[0], LINES[1]
ALONE = passlines.Kept((LISTED,))


def line(n: int) -> str:
    """One like another, but made in no time."""
    return LISTED[:-43] + b64encode(b"%032d" % n).decode().rstrip("=")


def stored(fact: Fact | None) -> list[Fact]:
    return [] if fact is None else [Fact(fact.topic, fact.name, json.loads(json.dumps(fact.value)))]


class Station:
    """A station whose CPMS gives it passwords, and what is known of it here."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.own, self.after_reboot = LISTED, ""
        self.given, self.taken = 0, 0

    @property
    def known(self) -> passlines.Kept:
        return passlines.kept(self.facts, LISTED)

    def send(self, how: str) -> None:
        self.given += 1
        new = line(self.given)
        if self.taken == 2 and how != "refused":  # between two connections no more are held
            return
        self.taken += how != "refused" and how != "unanswered"
        self.facts = stored(passlines.sent(self.known, [new], LISTED))
        assert new in self.known.lines, "it may take it before we hear of it"
        if how.endswith("unanswered"):
            self.own = new if how == "taken, unanswered" else self.own
            self.after_reboot = "" if how == "taken, unanswered" else self.after_reboot
            self.come()
        else:
            self.own = new if how == "taken" else self.own
            self.after_reboot = new if how == "at reboot" else "" if how == "taken" else self.after_reboot
            answer = ([new], []) if how != "refused" else ([], [new])
            self.facts = stored(passlines.answered(self.known, *answer, LISTED))
            assert (new in self.known.lines) == (how != "refused")
            assert new not in self.known.pending

    def reboot(self) -> None:
        self.own, self.after_reboot = self.after_reboot or self.own, ""
        self.come()

    def come(self) -> None:
        assert self.own in self.known.lines, "locked out"
        before = self.known.lines
        self.facts = stored(passlines.came(self.known, self.own, LISTED)) or self.facts
        assert self.known.lines == before[: before.index(self.own) + 1], "what was before it counts no more"
        assert self.own not in self.known.pending
        self.taken = int(bool(self.after_reboot))


HOW = ["taken", "at reboot", "refused", "unanswered", "taken, unanswered"]


@given(st.lists(st.sampled_from([*HOW, "unanswered", "reboot", "come"]), max_size=30))
def test_a_station_is_never_locked_out_whatever_its_cpms_gives_it(steps: list[str]) -> None:
    station = Station()
    for step in steps:
        if step in HOW:
            station.send(step)
        else:
            getattr(station, step)()
        known = station.known
        assert station.own in known.lines
        assert not station.after_reboot or station.after_reboot in known.lines
        assert 1 <= len(known.lines) <= passlines.MOST
        assert known.pending <= set(known.lines)
    station.reboot()


def test_of_too_many_the_newest_stays_and_the_newest_taken_and_the_one_it_last_came_with() -> None:
    known = ALONE
    for n in range(1, 9):
        (fact,) = stored(passlines.given(known, line(n), LISTED) if n < 4 else passlines.sent(known, [line(n)], LISTED))
        known = passlines.kept([fact], LISTED)
    assert known == passlines.Kept((line(8), line(3), line(2), LISTED), frozenset({line(8)}))


def test_one_that_could_not_be_stored_when_it_was_sent_is_stored_when_it_was_taken() -> None:
    (fact,) = stored(passlines.answered(ALONE, [line(1), line(2)], [], LISTED))
    assert passlines.kept([fact], LISTED) == passlines.Kept((line(2), line(1), LISTED))


def test_of_several_that_one_call_gives_each_has_its_own_fate() -> None:
    (fact,) = stored(passlines.sent(ALONE, [line(1), line(2)], LISTED))
    known = passlines.kept([fact], LISTED)
    assert known == passlines.Kept((line(2), line(1), LISTED), frozenset({line(1), line(2)}))
    (fact,) = stored(passlines.answered(known, [line(1)], [line(2)], LISTED))
    assert passlines.kept([fact], LISTED) == passlines.Kept((line(1), LISTED))


def test_who_comes_with_something_else_changes_nothing() -> None:
    assert passlines.came(ALONE, line(1), LISTED) is None
    assert passlines.came(ALONE, LISTED, LISTED) is None


def test_a_refusal_never_leaves_a_station_without_any() -> None:
    (fact,) = stored(passlines.answered(passlines.Kept((line(1),)), [], [line(1)], LISTED))
    assert passlines.kept([fact], LISTED) == ALONE


def test_who_changes_the_station_list_has_the_last_word() -> None:
    facts = stored(passlines.sent(ALONE, [LINES[2]], LISTED))
    assert passlines.lines_of(facts, LISTED) == (LINES[2], LISTED)
    assert passlines.kept(facts, OTHER) == passlines.Kept((OTHER,))


@pytest.mark.parametrize("pending", [None, 1, "x", [[]], [{}, "x", None]])
def test_pending_ones_that_are_damaged_count_as_taken(pending: object) -> None:
    fact = Fact("password", "lines", {"listed": LISTED, "lines": [OTHER, LISTED], "pending": pending})
    assert passlines.kept([fact], LISTED) == passlines.Kept((OTHER, LISTED))


@pytest.mark.parametrize(
    "value",
    [None, 1, [], {}, {"listed": LISTED}, {"listed": LISTED, "lines": None}, {"listed": LISTED, "lines": [1, "x", None]}],
)  # fmt: skip
def test_a_fact_that_is_damaged_is_none(value: object) -> None:
    assert passlines.lines_of([Fact("password", "lines", value)], LISTED) == (LISTED,)


def test_whose_passwords_are_looked_at_and_followed() -> None:
    with_line, without = StationSettings("A", "relay", password_hash=LISTED), StationSettings("B", "relay")
    for credentials, expected in (("forward", (False, False)), ("check", (True, True)), ("replace", (True, False))):
        tenant = TenantSettings("acme", "ws://x", credentials=credentials)  # type: ignore[arg-type]
        assert (passlines.judged(tenant, with_line), passlines.judged(tenant, without)) == expected
        assert (passlines.followed(tenant, with_line), passlines.followed(tenant, without)) == (expected[0], False)
