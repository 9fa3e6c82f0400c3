"""An answer of the station that waits for the disk, and what waits behind it. The laws are in test_relay_laws.py."""

from __future__ import annotations

from playbook import our_ids, play

from broker.calls import KEPT_BYTES
from broker.effects import FORWARD, Counted, Effects, Tell
from broker.model.traffic import Exchange, Interest
from broker.ocpp.frames import Frame, frame
from broker.relay import Relay, Saw
from broker.waiting import MOST, MOST_BYTES
from broker.watch import MOST_KEPT

WATCH = Interest(
    at_call=frozenset({"MeterValues"}),
    at_answer=frozenset({"ChangeConfiguration", "SetChargingProfile"}),
    entrusting=frozenset({"ChangeConfiguration"}),
)
GIVEN = frame(b'[2,"1","ChangeConfiguration",{"value":"s3cret"}]')
TAKEN = frame(b'[3,"1",{}]')


ENTRUSTED = """
        cpms > [2,"1","ChangeConfiguration",{}]
                > station [2,"1","ChangeConfiguration",{}]
                > saw cpms's ChangeConfiguration, token 1
"""
"""How each of these conversations begins."""


def relay(interest: Interest = WATCH) -> Relay:
    return Relay(interest, new_id=our_ids())


def told(effects: Effects) -> list[Frame]:
    return [effect.frame for effect in effects if isinstance(effect, Tell)]


def test_what_is_on_disk_when_the_answer_comes_does_not_make_it_wait() -> None:
    play(
        ENTRUSTED
        + """
        committed 1
                > (nothing)
        station > [3,"1",{}]
                > cpms [3,"1",{}]
                > saw cpms's ChangeConfiguration and its answer to token 1
        station > [2,"9","Heartbeat",{}]
                > cpms [2,"9","Heartbeat",{}]
        """,
        relay(),
    )


def test_an_answer_waits_for_the_commit_and_all_that_the_station_says_waits_behind_it() -> None:
    play(
        ENTRUSTED
        + """
        station > [3,"1",{}]
                > saw cpms's ChangeConfiguration and its answer to token 1
        station > [2,"2","MeterValues",{}]
                > saw station's MeterValues
        station > [6,"3","Stream",{}]
                > (held)
        station > rubbish
                > counted opaque
        # toward the station nothing waits meanwhile
        cpms > [2,"4","Reset",{}]
                > station [2,"4","Reset",{}]
        station > [3,"4",{}]
                > (held)
        committed 1
                > cpms [3,"1",{}]
                > cpms [2,"2","MeterValues",{}]
                > cpms [6,"3","Stream",{}]
                > cpms rubbish
                > cpms [3,"4",{}]
        station > [2,"5","Heartbeat",{}]
                > cpms [2,"5","Heartbeat",{}]
        """,
        relay(),
    )


def test_a_slow_disk_costs_a_quarter_of_a_second_and_is_counted() -> None:
    play(
        ENTRUSTED
        + """
        wait 3
        station > [3,"1",{}]
                > saw cpms's ChangeConfiguration and its answer to token 1
        wait 0.2
        station > [2,"2","Heartbeat",{}]
                > (held)
        wait 0.04
                > (nothing)
        wait 0.02
                > cpms [3,"1",{}]
                > cpms [2,"2","Heartbeat",{}]
                > counted unpromised
        committed 1
                > (nothing)
        """,
        relay(),
    )


def test_a_broken_disk_makes_nothing_wait_and_is_counted() -> None:
    play(
        ENTRUSTED
        + """
        lost 1
                > (nothing)
        station > [3,"1",{}]
                > cpms [3,"1",{}]
                > counted unpromised
                > saw cpms's ChangeConfiguration and its answer to token 1
        """,
        relay(),
    )


def test_ours_may_go_to_a_station_whose_answer_waits() -> None:
    """It has answered: nobody's CALL is open there. Its answer to ours ends here and waits for nobody."""
    play(
        ENTRUSTED
        + """
        inject SetChargingProfile as ours-1
        station > [3,"1",{}]
                > station ours-1
                > saw cpms's ChangeConfiguration and its answer to token 1
        station > the answer to ours-1
                > answer to ours-1
        committed 1
                > cpms [3,"1",{}]
        """,
        relay(),
    )


def test_a_link_that_closes_lets_go_what_waits() -> None:
    play(
        ENTRUSTED
        + """
        station > [3,"1",{}]
                > saw cpms's ChangeConfiguration and its answer to token 1
        station > [2,"2","Heartbeat",{}]
                > (held)
        close
                > cpms [3,"1",{}]
                > cpms [2,"2","Heartbeat",{}]
                > counted unpromised
        station > [2,"3","Heartbeat",{}]
                > (nothing)
        committed 1
                > (nothing)
        """,
        relay(),
    )


def test_a_link_that_closes_while_both_sides_wait_tells_frames_first() -> None:
    play(
        ENTRUSTED
        + """
        station > [3,"1",{}]
                > saw cpms's ChangeConfiguration and its answer to token 1
        inject SetChargingProfile as ours-1
                > station ours-1
        cpms > [2,"2","Reset",{}]
                > (held)
        close
                > cpms [3,"1",{}]
                > station [2,"2","Reset",{}]
                > counted unpromised
                > no answer to ours-1 (closed)
        """,
        relay(),
    )


def test_quiet_is_a_link_only_when_nothing_waits() -> None:
    one = relay()
    one.from_cpms(0.0, GIVEN)
    assert one.from_station(0.0, TAKEN) == (Saw(Exchange("cpms", "ChangeConfiguration", b"", TAKEN.text, 3, None, 1)),)
    assert (one.quiet, one.wake_at) == (False, 0.25)
    assert told(one.committed(0.1, 1)) == [TAKEN]
    assert (one.quiet, one.wake_at) == (True, None)
    assert one.from_station(0.2, frame(b'[2,"2","Heartbeat",{}]')) is FORWARD


def test_too_many_frames_let_all_go_also_when_the_last_is_an_answer_that_waits_itself() -> None:
    one = relay()
    second, answer = frame(b'[2,"x","ChangeConfiguration",{}]'), frame(b'[3,"x",{}]')
    one.from_cpms(0.0, GIVEN)
    one.from_cpms(0.0, second)
    said = [TAKEN, *(frame(b'[2,"%d","Heartbeat",{}]' % n) for n in range(MOST - 1)), answer]
    effects = [one.from_station(0.0, each) for each in said]
    assert [told(each) for each in effects[:-1]] == [[]] * MOST
    assert told(effects[-1]) == said
    assert effects[-1].count(Counted("unpromised")) == 2
    assert effects[-1].count(Counted("hold-full")) == 1
    assert one.wake_at is None


def test_many_bytes_let_all_go_but_one_message_of_any_size_may_wait() -> None:
    one = relay()
    one.from_cpms(0.0, GIVEN)
    big, small = frame(b'[3,"1",{"x":"' + b"x" * MOST_BYTES + b'"}]'), frame(b'[2,"2","Heartbeat",{}]')
    assert told(one.from_station(0.0, big)) == []
    assert told(one.from_station(0.0, small)) == [big, small]


def test_what_a_call_entrusted_is_not_kept_here() -> None:
    one = relay()
    one.from_cpms(0.0, GIVEN)
    (opened,) = one._watch.opened
    assert (opened.text, opened.shown) == (b"", 1)


def test_one_too_big_to_be_shown_waits_for_nothing() -> None:
    one = relay()
    big = frame(b'[2,"1","ChangeConfiguration",{"value":"' + b"x" * KEPT_BYTES + b'"}]')
    assert one.from_cpms(0.0, big) == (Tell("station", big), Counted("untapped"))
    assert one.from_station(0.0, TAKEN) is FORWARD


def test_one_that_too_many_others_pushed_out_waits_all_the_same() -> None:
    one = relay()
    one.from_cpms(0.0, GIVEN)
    for n in range(MOST_KEPT):
        one.from_cpms(1.0, frame(b'[2,"k%d","SetChargingProfile",{}]' % n))
    assert told(one.from_station(2.0, TAKEN)) == []
    assert told(one.committed(2.1, 1)) == [TAKEN]


def test_who_learns_next_does_not_let_it_go_early() -> None:
    one = relay()
    one.from_cpms(0.0, GIVEN)
    one.from_station(0.0, TAKEN)
    assert told(one.seat(0.0, Interest(), prove=False)) == []
    assert told(one.committed(0.1, 1)) == [TAKEN]
