"""The log for people: letter for letter what Twisted would have written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from running import Running, free_port
from twisted.logger import LogLevel, formatEventAsClassicLogText, formatTime
from twisted.python.failure import Failure

from broker.net.textlog import Seconds, as_line

FORMATS = st.sampled_from(
    ["{link} open: {n}", "plain", "", "{link.x}", "{link!r:>9} {n:g}", "{n[0]}", "{absent}", "{call()}", "{call}", "{", "{}", "{{n}}"]
)
VALUES = st.one_of(st.text(), st.integers(), st.none(), st.lists(st.integers(), max_size=2), st.just("two\nlines"))
MORE = st.fixed_dictionaries(
    {},
    optional={
        "log_system": st.text(max_size=5),
        "log_level": st.sampled_from([LogLevel.info, LogLevel.critical]),
        "log_namespace": st.sampled_from(["broker.net.link", None]),
        "log_time": st.one_of(st.none(), st.floats(0, 4e9)),
        "log_failure": st.just(Failure(KeyError("x"))),
    },
)


@given(st.one_of(FORMATS, st.binary(max_size=5), st.text(max_size=9)), VALUES, VALUES, MORE)
@example("{link} open", "two\nlines", 1, {"log_level": LogLevel.info, "log_time": 5.0, "log_namespace": "broker.net.link"})
@example("{call()}", "", 1, {"log_level": LogLevel.info, "log_time": 5.0})
def test_every_line_is_twisteds(words: Any, link: Any, n: Any, more: dict[str, Any]) -> None:
    event = {"log_format": words, "link": link, "n": n, "call": lambda: 5, **more}
    ours, theirs = as_line(event), formatEventAsClassicLogText(event)
    if theirs is not None and "Unable to format" in theirs:  # it tells where objects are, and when
        assert ours is not None
        assert ours.split(":")[0] == theirs.split(":")[0]
    else:
        assert ours == theirs


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=20))
def test_times_are_never_those_of_another_second(times: list[float]) -> None:
    seconds = Seconds()
    assert [seconds(at) for at in times] == [formatTime(at) for at in times]
    assert seconds(None) == formatTime(None)


def test_the_service_writes_it_where_it_is_told(tmp_path: Path) -> None:
    port = free_port()
    listen = f'[[listen]]\nendpoint = "tcp:{port}:interface=127.0.0.1"\n'
    config = f'{listen}[[tenants]]\nname = "a"\ncpms_url = "ws://127.0.0.1:1"\nmode = "relay"\n'
    with Running(tmp_path, config) as broker:
        assert broker.stop() == 0
    lines = broker.log.read_text().splitlines()
    ours = [line for line in lines if "[broker.service#info] ocppbroker" in line]
    assert len(ours) == 1
    assert ours[0].startswith(time.strftime("%Y-"))
    assert ours[0].endswith(f"stations dial tcp:{port}:interface=127.0.0.1")
