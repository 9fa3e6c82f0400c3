"""Recorded conversations through the core: passed byte for byte, learned from, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.cli import main
from broker.model.observations import Boot, Metered, ProfileSeen, StatusSeen, TransactionSeen
from broker.ocpp.dialects import BY_NAME
from broker.replay import Said, dialect_of, in_words, read_transcript, replay

FOLDER = Path(__file__).parent / "transcripts"
FILES = sorted(FOLDER.glob("*.jsonl"))


def kinds(name: str) -> list[type]:
    said = read_transcript((FOLDER / name).read_text())
    return [type(one.observation) for one in replay(said, dialect_of(said)).learned]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_frame_is_passed_as_it_came_and_twice_the_same_is_learned(file: Path) -> None:
    said = read_transcript(file.read_text())
    first, second = (replay(said, dialect_of(said)) for _ in range(2))
    for leg in ("station", "cpms"):
        assert [one.text for one in first.told if one.leg == leg] == [one.text for one in said if one.leg == leg]
    assert first == second
    assert first.unreadable == 0
    assert first.learned


def test_what_is_learned() -> None:
    assert [kind for kind in kinds("plain-1.6.jsonl") if kind in (Boot, StatusSeen, ProfileSeen, Metered)] == [
        Boot, StatusSeen, ProfileSeen, Metered,
    ]  # fmt: skip
    seen = kinds("plain-2.0.1.jsonl")
    assert seen[0] is Boot
    assert seen.count(TransactionSeen) >= 2


def test_no_id_token_is_shown() -> None:
    for file in FILES:
        said = read_transcript(file.read_text())
        assert "MASKED" not in "\n".join(in_words(replay(said, dialect_of(said)).learned))


def test_the_version_is_told_by_what_the_station_says() -> None:
    assert dialect_of(read_transcript((FOLDER / "plain-2.0.1.jsonl").read_text())).name == "ocpp2.0.1"
    assert dialect_of(read_transcript((FOLDER / "plain-1.6.jsonl").read_text())).name == "ocpp1.6"
    assert dialect_of([]).name == "ocpp1.6"


def test_what_tail_writes_is_read_and_what_is_ours_is_passed_over() -> None:
    frame = '{"at": "2026-01-01T00:00:00.500Z", "from": "%s", "to": "%s", "frame": [2, "1", "Heartbeat", {}]}'
    lines = [frame % ("station", "cpms"), frame % ("broker", "station"), frame % ("station", "broker"), '{"at": 1, "event": "away"}', ""]
    assert read_transcript("\n".join(lines)) == [Said(1767225600.5, "station", '[2, "1", "Heartbeat", {}]')]


ODD = [
    "nothing",
    "[]",
    '{"at": NaN, "leg": "cpms", "text": ""}',
    '{"at": "soon", "leg": "cpms", "text": ""}',
    '{"at": 1, "leg": "station", "text": 7}',
    '{"at": "x"}',
    '{"at": "x", "event": "away"}',
    '{"event": "away"}',
    '{"at": 1}',
    '{"leg": "station"}',
]


@pytest.mark.parametrize("line", ODD)
def test_a_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2: must be "):
        read_transcript(f'{{"at": 1, "leg": "station", "text": "x"}}\n{line}')


@given(st.lists(st.tuples(st.floats(0, 1e9), st.sampled_from(["station", "cpms"]), st.text(max_size=30) | st.just('[3,"1",{}]'))))
def test_whatever_was_said_in_whatever_time_nothing_is_lost(said: list[tuple[float, str, str]]) -> None:
    encodable = [Said(at, leg, text) for at, leg, text in sorted(said) if text.isascii()]  # type: ignore[arg-type]
    told = replay(encodable, BY_NAME["ocpp1.6"]).told
    assert sorted(one.text for one in told) == sorted(one.text for one in encodable)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["replay", str(FOLDER / "plain-1.6.jsonl")]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].startswith("13 frames passed, ")
    assert main(["replay", "--json", "--ocpp", "ocpp1.6", str(FOLDER / "plain-1.6.jsonl")]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 13
    assert main(["replay", str(tmp_path / "nowhere")]) == 1
    (tmp_path / "odd").write_bytes(b"\xff")
    assert main(["replay", str(tmp_path / "odd")]) == 1
    assert "is not UTF-8 text" in capsys.readouterr().err
