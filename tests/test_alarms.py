"""The book of alarms: whatever is raised, cleared and forgotten, it holds what stands, and no more than it may."""

from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broker.alarms import DAY_S, KINDS, Book, Changes, lines

NAMES = st.sampled_from(["clock", "cpms", "fallback", "made-up"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["raise", "clear", "expire"]), NAMES, st.sampled_from("abcde"), st.floats(0, DAY_S)), max_size=80
)


@given(STEPS)
def test_the_book_holds_what_was_raised_and_not_taken_back(steps: list[tuple[str, str, str, float]]) -> None:
    book, now = Book(), 0.0
    model: dict[tuple[str, str], list[float]] = {}  # since, last, count
    for what, name, subject, wait in steps:
        now += wait
        if what == "raise":
            new = (name, subject) not in model
            assert bool(book.raise_(name, subject, "text", now).raised) == new
            since, _, count = model.get((name, subject), [now, now, 0])
            model[name, subject] = [since, now, count + 1]
        elif what == "clear":
            assert bool(book.clear(name, subject).cleared) == (model.pop((name, subject), None) is not None)
        else:
            old = {at for at, (_, last, _) in model.items() if at[0] != "cpms" and now - last >= DAY_S}
            assert {(one.name, one.subject) for one in book.expire(now).cleared} == old
            model = {at: seen for at, seen in model.items() if at not in old}
    assert [(one.name, one.subject) for one in book.current()] == sorted(model)
    assert {(one.name, one.subject): [one.since, one.last, one.count] for one in book.current()} == model
    assert sum(book.counted().values()) == len(book) == len(model)


@given(st.lists(st.tuples(NAMES, st.integers(0, 50)), max_size=100), st.integers(1, 8))
def test_it_never_holds_more_than_it_may(raised: list[tuple[str, int]], most: int) -> None:
    book = Book(most)
    for now, (name, subject) in enumerate(raised):
        book.raise_(name, str(subject), "text", now)
        assert len(book) <= most
        assert (name, str(subject)) in {(one.name, one.subject) for one in book.current()}


def test_the_oldest_of_the_commonest_makes_way() -> None:
    book = Book(3)
    for now, (name, subject) in enumerate([("cpms", "x"), ("clock", "a"), ("clock", "b"), ("clock", "c")]):
        book.raise_(name, subject, "text", now)
    assert [(one.name, one.subject) for one in book.current()] == [("clock", "b"), ("clock", "c"), ("cpms", "x")]
    assert book.given_up == 1


def test_what_stands_is_seen_again_without_being_counted_again() -> None:
    book = Book()
    assert [one.subject for one in book.stand("cpms", {"acme": "away", "beta": "away"}, 1.0).raised] == ["acme", "beta"]
    book.raise_("clock", "acme/CS-7", "text", 1.0)
    assert book.stand("cpms", {"acme": "still"}, 11.0).cleared[0].subject == "beta"
    acme = next(one for one in book.current() if one.name == "cpms")
    assert (acme.since, acme.last, acme.count, acme.text) == (1.0, 11.0, 1, "still")
    assert book.counted()["clock"] == 1
    assert book.stand("disk", {}, 12.0) == Changes()


def test_each_says_whose_fault_it_is_and_what_to_do() -> None:
    book = Book()
    for name in KINDS:
        book.raise_(name, "acme", "wrong", 1.0)
    said = lines([one.plain() for one in book.current()])
    assert all(any(kind.do in line and f"the {kind.fault}'s" in line for line in said) for kind in KINDS.values())
    assert lines([]) == ["no alarms"]


def test_what_was_said_last_is_what_it_says() -> None:
    book = Book()
    book.raise_("clock", "acme/CS-7", "jumps", 1.0)
    assert book.raise_("clock", "acme/CS-7", "is unknown", 2.0) == Changes()
    (one,) = book.current()
    assert (one.text, one.since, one.last, one.count) == ("is unknown", 1.0, 2.0, 2)


def test_its_time_to_live_counts_from_when_it_was_last_told() -> None:
    book = Book()
    book.raise_("clock", "acme/CS-7", "text", 0.0)
    book.raise_("clock", "acme/CS-7", "text", DAY_S / 2)
    assert book.expire(DAY_S) == Changes()
    assert [one.since for one in book.expire(DAY_S * 1.5).cleared] == [0.0]


def test_what_ends_by_its_time_ends_by_the_time_that_passes_whatever_the_clock_is_set_to() -> None:
    for set_to in (-DAY_S, 0.0, 10 * DAY_S):
        book = Book()
        book.raise_("clock", "acme/CS-7", "text", 5 * DAY_S, 100.0)
        book.raise_("clock", "acme/CS-7", "text", 5 * DAY_S + set_to, 200.0)
        standing = book.get("clock", "acme/CS-7")
        assert standing is not None
        assert standing.told_mono == 200.0
        assert "told_mono" not in standing.plain()
        assert book.expire(199.0 + DAY_S) == Changes()
        assert [one.since for one in book.expire(200.0 + DAY_S).cleared] == [5 * DAY_S]
        assert book.get("clock", "acme/CS-7") is None


def test_the_operators_guide_explains_each_of_them() -> None:
    guide = (Path(__file__).parent.parent / "docs" / "operators-guide.md").read_text(encoding="utf-8")
    table = guide.partition("\n| name | severity | it means |")[2].partition("\n\n")[0]
    rows = {cells[1].strip("` "): [cell.strip() for cell in cells[2:-1]] for line in table.splitlines()[2:] if (cells := line.split("|"))}
    assert {name: (row[0], row[2]) for name, row in rows.items()} == {name: (kind.severity, kind.fault) for name, kind in KINDS.items()}
    assert all(len(row) == 5 and all(row) for row in rows.values())


def test_each_alarm_that_the_code_raises_has_a_kind() -> None:
    """By name: `Alarm(…)` of a station, a source's keys, and `raise_(…)`."""
    broker = Path(__file__).parent.parent / "broker"
    raised: set[str] = set()
    for file in broker.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if called in ("Alarm", "raise_") and node.args and isinstance(node.args[0], ast.Constant):
                    raised.add(node.args[0].value)
    assert {"clock", "unmanaged", "release", "fallback", "duplicate"} <= raised
    assert raised <= set(KINDS)


def test_what_does_not_end_by_its_time_is_asked_for_at_each_look() -> None:
    """An alarm that neither a source takes back nor a time ends would stand for ever."""
    lasting = {name for name, kind in KINDS.items() if kind.ttl_s is None}
    net = Path(__file__).parent.parent / "broker" / "net"
    sources = "".join((net / name).read_text(encoding="utf-8") for name in ("watchman.py", "letters.py"))
    assert lasting == {name for name in KINDS if f'"{name}": ' in sources}
