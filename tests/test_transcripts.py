"""Every odd station we have read of: what it sends goes on byte for byte, and of what it means as much is learned as is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay import OTHER, Replay, Transcript, read

FILES = sorted((Path(__file__).parent / "transcripts" / "odd").glob("*.jsonl"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def transcript(request: pytest.FixtureRequest) -> Transcript:
    return read(request.param)


def test_each_says_whose_it_is_where_that_was_said_and_what_it_expects(transcript: Transcript) -> None:
    head = transcript.head
    assert head["vendor"]
    assert head["oddity"]
    assert head["source"].startswith("https://")
    assert head["expect"]
    times = [line["at"] for line in transcript.lines]
    assert times == sorted(times)


def test_every_frame_goes_on_byte_for_byte_in_its_order(transcript: Transcript) -> None:
    replay = Replay(transcript.head).play(transcript.lines)
    for leg, other in OTHER.items():
        assert replay.heard[other] == [line["text"].encode() for line in transcript.lines if line["leg"] == leg]


def test_what_it_means_is_learned_and_nothing_else(transcript: Transcript) -> None:
    expected = {name: what for name, what in transcript.head["expect"].items() if name != "dc"}
    assert Replay(transcript.head).play(transcript.lines).learned() == expected


def test_a_replay_is_deterministic(transcript: Transcript) -> None:
    first, second = (Replay(transcript.head).play(transcript.lines) for _ in range(2))
    assert first.records == second.records


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 38
