"""What hypothesis makes up: spellings of OCPP-J frames, and whole conversations."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

# ---------------------------------------------------------------- frames, in every legal spelling

blanks = st.text(" \t\n\r", max_size=3)
"""JSON's white space."""


def escaped(text: str, which: set[int]) -> str:
    """A JSON string in which the characters at these places are \\u escapes."""
    parts = [f"\\u{ord(char):04x}" if at in which and ord(char) < 0x10000 else json.dumps(char)[1:-1] for at, char in enumerate(text)]
    return f'"{"".join(parts)}"'


@st.composite
def json_strings(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text, spelled as a JSON string with escapes here and there."""
    text = draw(texts)
    some = draw(st.one_of(st.just(set()), st.sets(st.integers(0, max(0, len(text) - 1)))))
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=False)
    return escaped(text, some)


ids = st.one_of(st.uuids().map(str), st.integers(0, 99).map(str), st.text(max_size=40).filter(lambda text: _encodable(text)))
numbers = st.one_of(st.integers().map(str), st.sampled_from(["5.0", "-0", "1e3", "2.5E-7", "-1"]))
kinds = st.one_of(st.integers(0, 9).map(str), st.sampled_from(["2.0", "3e0", "30e-1", "2.5", '"3"', '"2.0"', '"x"', "null", "-3", "1e400"]))
payloads: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def _encodable(text: str) -> bool:
    return not any(0xD800 <= ord(char) <= 0xDFFF for char in text)


@st.composite
def spelled_arrays(draw: st.DrawFn) -> bytes:
    """A valid JSON array that may or may not be an OCPP-J frame, in some spelling."""
    ident = st.one_of(json_strings(ids), json_strings(ids), numbers, st.sampled_from(["null", "true", "[]", '{"id":"1"}', '"\\ud800"']))
    third = st.one_of(json_strings(st.sampled_from(["Heartbeat", "Start\u00e9", ""])), numbers, st.sampled_from(["null", "{}"]))
    rest = payloads.map(json.dumps)
    elements = [draw(each) for each in (kinds, ident, third, rest, rest)][: draw(st.integers(0, 5))]
    spaced = ",".join(draw(blanks) + element + draw(blanks) for element in elements)
    mark = draw(st.sampled_from(["", "", "", "\ufeff"]))
    return f"{mark}{draw(blanks)}[{spaced}]{draw(blanks)}".encode()


# ---------------------------------------------------------------- conversations


class Step(NamedTuple):
    """Something that happens. What it refers to ("the n-th open CALL") is looked up when it is played."""

    what: str
    which: int = 0
    text: str = ""
    seconds: float = 0.0


PLAIN, LIVE, SHOWN, GUARDED, SECRET = "Reset", "Heartbeat", "MeterValues", "SetChargingProfile", "ChangeConfiguration"
START, STOP, EVENT = "StartTransaction", "StopTransaction", "TransactionEvent"
"""Promised: learned at the answer, at the CALL, at both."""
ACTIONS = (PLAIN, LIVE, SHOWN, GUARDED, SECRET, START, STOP, EVENT)

_which = st.integers(0, 3)
_actions = st.sampled_from(ACTIONS)
_call_ids = st.integers(0, 5)  # few, so that they are reused while open
_waits = st.sampled_from([0.0, 0.01, 0.1, 0.1, 0.25, 1.0, 1.0, 5.0, 31.0, 61.0])

station_steps = st.one_of(
    st.builds(Step, st.just("station calls"), _call_ids, _actions),
    st.builds(Step, st.just("station answers"), _which, st.sampled_from(["3", "3", "4"])),
    st.builds(Step, st.just("station answers"), _which, st.sampled_from(["3", "3", "4"])),
    st.builds(Step, st.just("station bursts"), st.sampled_from([2, 70])),
    st.builds(
        Step,
        st.just("station says"),
        text=st.sampled_from(['[6,"s","MeterValues",', "[7,", "{", '[5,"1","","",', '[3,"x",', '[4,"-2","","",']),
    ),
)
cpms_steps = st.one_of(
    st.builds(Step, st.just("cpms calls"), _call_ids, _actions),
    st.builds(Step, st.just("cpms answers"), _which, st.sampled_from(["3", "3", "4"])),
    st.builds(Step, st.just("cpms answers"), _which, st.sampled_from(["3", "3", "4"])),
    st.builds(
        Step,
        st.just("cpms says"),
        text=st.sampled_from(['[6,"s","Stream",', "[7,", '[5,"1","","",', '[3,"x",', '[3,"ocb-' + "0" * 31 + '1",']),
    ),
    st.builds(Step, st.just("cpms bursts"), st.sampled_from([2, 70])),
)
our_steps = st.one_of(
    st.builds(Step, st.just("inject"), seconds=st.sampled_from([0.0, 1.0, 30.0, 100.0])),
    st.builds(Step, st.just("station answers ours"), _which, st.sampled_from(["3", "3", "4"])),
)
store_steps = st.one_of(
    st.builds(Step, st.just("committed"), _which), st.builds(Step, st.just("lost"), _which), st.builds(Step, st.just("passed"), _which)
)
time_steps = st.builds(Step, st.just("wait"), seconds=_waits)

entrusting_steps = st.one_of(
    st.builds(Step, st.just("cpms calls"), _call_ids, st.sampled_from([SECRET, SECRET, PLAIN])),
    st.builds(Step, st.just("station answers"), _which, st.sampled_from(["3", "3", "4"])),
    st.builds(Step, st.just("station calls"), _call_ids, _actions),
    st.builds(Step, st.just("station answers ours"), _which, st.just("3")),
)

traffic = st.lists(st.one_of(station_steps, cpms_steps, time_steps), max_size=40)
"""Both sides talk; nothing is ours."""
conversations = st.lists(
    st.one_of(station_steps, cpms_steps, our_steps, our_steps, store_steps, time_steps),
    min_size=12,  # shorter ones hardly ever bring two rules together
    max_size=50,
)
"""Everything at once. Where it ends, the link closes."""
entrustings = st.lists(
    st.one_of(entrusting_steps, entrusting_steps, entrusting_steps, station_steps, our_steps, store_steps, time_steps),
    min_size=8,
    max_size=40,
)
"""The same, but for a CPMS that entrusts its station with much."""
