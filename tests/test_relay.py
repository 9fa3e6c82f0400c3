"""The relay, conversation by conversation. The laws themselves are properties: test_relay_laws.py."""

from __future__ import annotations

from sys import getrefcount

import pytest
from playbook import our_id, our_ids, play

from broker.model.traffic import NOTHING, Exchange, Interest
from broker.ocpp.frames import Frame, frame
from broker.relay import FORWARD, Answered, Counted, Guarded, Held, Relay, Saw, Sent, Tell, spelled_out

WATCH = Interest(
    at_call=frozenset({"MeterValues", "StopTransaction", "NotifyPeriodicEventStream"}),
    at_answer=frozenset({"StartTransaction", "BootNotification", "SetChargingProfile"}),
    promised=frozenset({"StartTransaction", "StopTransaction"}),
    guarded=frozenset({"SetChargingProfile"}),
    proof=frozenset({"Heartbeat", "MeterValues"}),
)


def relay(interest: Interest = NOTHING) -> Relay:
    return Relay(interest, new_id=our_ids())


# ---------------------------------------------------------------- everything goes on


def test_what_simply_goes_on_is_the_constant() -> None:
    one = relay()
    call, answer = frame(b'[2,"1","Heartbeat",{}]'), frame(b'[3,"1",{}]')
    assert one.from_station(0.0, call) is FORWARD
    assert one.from_cpms(0.0, answer) is FORWARD
    assert one.from_cpms(0.0, call) is FORWARD
    assert one.from_station(0.0, answer) is FORWARD
    assert one.tick(0.0) is not FORWARD
    assert list(FORWARD) == []


def test_without_interest_nothing_is_remembered_of_a_station_that_is_never_answered() -> None:
    one = relay()
    frames = [frame(b'[2,"call-%d","MeterValues",{}]' % n) for n in range(1000)]
    before = [getrefcount(each.head.id) for each in frames if each.head]
    assert all(one.from_station(0.0, each) is FORWARD for each in frames)
    after = [getrefcount(each.head.id) for each in frames if each.head]
    assert after[:-1] == before[:-1]  # of the newest its id, to know when the link is quiet


def test_what_cannot_be_read_goes_on_and_is_counted() -> None:
    play("""
        station > {"not": "a frame"}
                > cpms {"not": "a frame"}
                > counted opaque
        cpms > [7,"1","Whatever",{}]
                > station [7,"1","Whatever",{}]
                > counted opaque
        station > [2,"1"]
                > cpms [2,"1"]
                > counted opaque
    """)


def test_a_binary_frame_goes_on_unread_even_if_it_looks_like_an_answer_of_ours() -> None:
    one = relay()
    binary = frame(f'[3,"{our_id(1)}",{{}}]'.encode(), binary=True)
    assert one.from_station(0.0, binary) == (Tell("cpms", binary), Counted("opaque"))
    assert one.from_cpms(0.0, binary) == (Tell("station", binary), Counted("opaque"))


def test_the_frame_told_is_the_very_frame_that_came() -> None:
    one = relay(WATCH)
    odd = Frame(frame(b'[2,"1","MeterValues",{ "b":1.0e0,"a":"\\u0041" }]').head, b"text", wire=b"raw")
    told = one.from_station(0.0, odd)[0]
    assert isinstance(told, Tell)
    assert told.frame is odd


def test_types_5_and_6_go_on_in_both_directions() -> None:
    play("""
        station > [6,"1","NotifyPeriodicEventStream",{}]
                > cpms [6,"1","NotifyPeriodicEventStream",{}]
        station > [5,"1","GenericError","",{}]
                > cpms [5,"1","GenericError","",{}]
        cpms > [5,"1","GenericError","",{}]
                > station [5,"1","GenericError","",{}]
        cpms > [6,"1","Anything",{}]
                > station [6,"1","Anything",{}]
    """)


def test_answers_nobody_asked_for_go_on() -> None:
    play("""
        station > [3,"nobody",{}]
                > cpms [3,"nobody",{}]
        station > [4,"-1","ProtocolError","",{}]
                > cpms [4,"-1","ProtocolError","",{}]
        cpms > [3,"nobody",{}]
                > station [3,"nobody",{}]
    """)


# ---------------------------------------------------------------- ours


def test_the_conversation_of_the_house() -> None:
    play("""
        station > [2,"1","Heartbeat",{}]
                > cpms    [2,"1","Heartbeat",{}]
        inject SetChargingProfile as ours-1
                > station ours-1
        cpms > [2,"9","Reset",{"type":"Soft"}]
                > (held)
        wait 10
                > station [2,"9","Reset",{"type":"Soft"}]
                > no answer to ours-1 (given-up)
        station > the answer to ours-1
                > counted late-answer
    """)


def test_ours_is_answered_and_the_cpms_never_hears_of_it() -> None:
    play("""
        inject SetChargingProfile as ours-1
                > station ours-1
        station > the answer to ours-1
                > answer to ours-1
        station > the answer to ours-1
                > counted late-answer
        inject SetChargingProfile as ours-2
                > station ours-2
        station > an error to ours-2
                > error to ours-2
    """)


def test_an_answer_to_ours_is_ours_even_if_its_end_is_broken() -> None:
    play("""
        inject GetConfiguration as ours-1
                > station ours-1
        station > [3,"ours-1",{"configurationKey":[
                > answer to ours-1
        station > [3,"ours-1",{"configurationKey":[
                > counted late-answer
    """)


def test_ours_waits_while_a_cpms_call_is_open() -> None:
    play("""
        cpms > [2,"9","Reset",{}]
                > station [2,"9","Reset",{}]
        inject SetChargingProfile as ours-1
                > (nothing)
        station > [3,"9",{}]
                > cpms [3,"9",{}]
                > station ours-1
    """)


def test_ours_waits_for_the_newest_of_two_open_cpms_calls() -> None:
    play("""
        cpms > [2,"8","Reset",{}]
                > station [2,"8","Reset",{}]
        cpms > [2,"9","Reset",{}]
                > station [2,"9","Reset",{}]
        inject SetChargingProfile as ours-1
        station > [3,"9",{}]
                > cpms [3,"9",{}]
        station > [3,"8",{}]
                > cpms [3,"8",{}]
                > station ours-1
    """)


def test_a_cpms_call_that_is_never_answered_is_open_for_a_minute() -> None:
    player = play("""
        cpms > [2,"9","Reset",{}]
                > station [2,"9","Reset",{}]
        inject SetChargingProfile as ours-1 within 100
        wait 59.9
                > (nothing)
        wait 0.1
                > station ours-1
        station > [3,"9",{}]
                > cpms [3,"9",{}]
    """)
    assert player.relay.wake_at == pytest.approx(player.now + 30)


def test_patience_ends_in_no_slot() -> None:
    play("""
        cpms > [2,"9","Reset",{}]
                > station [2,"9","Reset",{}]
        inject SetChargingProfile as ours-1 within 5
        wait 5
                > no answer to ours-1 (no-slot)
        station > [3,"9",{}]
                > cpms [3,"9",{}]
    """)


def test_one_of_ours_at_a_time() -> None:
    play("""
        inject SetChargingProfile as ours-1
                > station ours-1
        inject SetChargingProfile as ours-2
                > no answer to ours-2 (no-slot)
        station > the answer to ours-1
                > answer to ours-1
    """)


def test_a_silent_station_times_out_and_its_late_answer_is_swallowed() -> None:
    play("""
        inject SetChargingProfile as ours-1 answered in 20
                > station ours-1
        wait 20
                > no answer to ours-1 (timeout)
        station > the answer to ours-1
                > counted late-answer
        station > [4,"-1","ProtocolError","",{}]
                > cpms [4,"-1","ProtocolError","",{}]
    """)


def test_after_giving_up_the_station_is_left_alone_until_it_answers() -> None:
    play("""
        inject SetChargingProfile as ours-1
                > station ours-1
        cpms > [2,"9","Reset",{}]
        wait 5
                > station [2,"9","Reset",{}]
                > no answer to ours-1 (given-up)
        inject ClearChargingProfile as ours-2
        station > [3,"9",{}]
                > cpms [3,"9",{}]
        station > the answer to ours-1
                > station ours-2
                > counted late-answer
    """)


def test_after_giving_up_a_station_that_never_answers_is_asked_again_within_hold() -> None:
    play("""
        inject SetChargingProfile as ours-1
                > station ours-1
        cpms > [2,"9","Reset",{}]
        wait 5
                > station [2,"9","Reset",{}]
                > no answer to ours-1 (given-up)
        station > [3,"9",{}]
                > cpms [3,"9",{}]
        inject ClearChargingProfile as ours-2
        wait 4.9
                > (nothing)
        wait 0.1
                > station ours-2
    """)


def test_an_error_that_names_no_call_is_ours_only_while_only_ours_is_open() -> None:
    play("""
        inject SetChargingProfile as ours-1
                > station ours-1
        station > [4,"-1","FormationViolation","",{}]
                > error to ours-1
        cpms > [2,"9","Reset",{}]
                > station [2,"9","Reset",{}]
        station > [4,"-1","FormationViolation","",{}]
                > cpms [4,"-1","FormationViolation","",{}]
    """)


def test_an_error_that_names_no_call_is_not_ours_while_the_cpms_has_one_open_too() -> None:
    play("""
        inject SetChargingProfile as ours-1
                > station ours-1
        cpms > [2,"9","Reset",{}]
        wait 5
                > station [2,"9","Reset",{}]
                > no answer to ours-1 (given-up)
        station > [4,"-1","FormationViolation","",{}]
                > cpms [4,"-1","FormationViolation","",{}]
        station > [3,"9",{}]
                > cpms [3,"9",{}]
        station > [4,"-1","FormationViolation","",{}]
                > counted late-answer
    """)


def test_ids_of_ours_are_ours_only_where_they_can_be() -> None:
    # A station may call its own CALLs so, and the CPMS may be behind another broker like us.
    play("""
        station > [2,"ours-7","Heartbeat",{}]
                > cpms [2,"ours-7","Heartbeat",{}]
        cpms > [3,"ours-7",{}]
                > station [3,"ours-7",{}]
        cpms > [2,"ocb-77777777777777777777777777777777","Reset",{}]
                > station [2,"ocb-77777777777777777777777777777777","Reset",{}]
        station > [3,"ocb-77777777777777777777777777777777",{}]
                > cpms [3,"ocb-77777777777777777777777777777777",{}]
        station > [3,"ocb-77777777777777777777777777777777",{}]
                > counted late-answer
        station > [3,"ocb-short",{}]
                > cpms [3,"ocb-short",{}]
    """)


def test_an_id_by_which_we_could_not_know_our_own_is_refused() -> None:
    with pytest.raises(ValueError, match="32 hex digits"):
        Relay(new_id=lambda: "1").inject(0.0, 1, "Reset", {}, 1.0, 1.0)


def test_a_payload_json_cannot_say_changes_nothing() -> None:
    one = relay()
    with pytest.raises(ValueError, match="JSON"):
        one.inject(0.0, 1, "Reset", {"limit": float("nan")}, 1.0, 1.0)
    assert one.wake_at is None
    assert [type(effect) for effect in one.inject(0.0, 2, "Reset", b'{"limit":6.0}', 1.0, 1.0)] == [Tell, Sent]


# ---------------------------------------------------------------- the CPMS outranks us


def test_cpms_calls_wait_for_ours_in_order_and_answers_overtake_them() -> None:
    play("""
        inject SetChargingProfile as ours-1
                > station ours-1
        cpms > [2,"8","Reset",{}]
                > (held)
        cpms > [2,"9","Reset",{}]
                > (held)
        cpms > [3,"1",{}]
                > station [3,"1",{}]
        station > the answer to ours-1
                > station [2,"8","Reset",{}]
                > station [2,"9","Reset",{}]
                > answer to ours-1
    """)


def test_what_is_neither_call_nor_answer_keeps_its_place() -> None:
    play("""
        inject SetChargingProfile as ours-1
                > station ours-1
        cpms > [6,"1","Stream",{}]
                > station [6,"1","Stream",{}]
        cpms > [2,"8","Reset",{}]
                > (held)
        cpms > [6,"2","Stream",{}]
                > (held)
        cpms > [3,"1",{}]
                > (held)
        station > the answer to ours-1
                > station [2,"8","Reset",{}]
                > station [6,"2","Stream",{}]
                > station [3,"1",{}]
                > answer to ours-1
    """)


def test_the_65th_message_makes_ours_give_way() -> None:
    one = relay()
    one.inject(0.0, 1, "SetChargingProfile", {}, 30.0, 30.0)
    frames = [frame(b'[2,"%d","Reset",{}]' % n) for n in range(65)]
    for each in frames[:-1]:
        assert one.from_cpms(1.0, each) == ()
    effects = one.from_cpms(2.0, frames[-1])
    assert effects[65:67] == (Counted("hold-full"), Answered(1, "given-up", None))
    assert [effect.frame for effect in effects if isinstance(effect, Tell)] == frames
    assert [effect.seconds for effect in effects if isinstance(effect, Held)] == [1.0] * 64 + [0.0]


def test_many_bytes_make_ours_give_way_but_one_message_of_any_size_may_wait() -> None:
    one = relay()
    one.inject(0.0, 1, "SetChargingProfile", {}, 30.0, 30.0)
    big = frame(b'[2,"1","DataTransfer",{"data":"' + b"x" * 300_000 + b'"}]')
    assert one.from_cpms(1.0, big) == ()
    second = frame(b'[2,"2","Reset",{}]')
    told = [effect.frame for effect in one.from_cpms(1.0, second) if isinstance(effect, Tell)]
    assert told == [big, second]


def test_forgetting_the_oldest_of_too_many_open_calls_is_counted() -> None:
    one = relay()
    frames = [frame(b'[2,"%d","Reset",{}]' % n) for n in range(1025)]
    assert all(one.from_cpms(0.0, each) is FORWARD for each in frames[:-1])
    assert one.from_cpms(0.0, frames[-1]) == (Tell("station", frames[-1]), Counted("forgotten"))
    assert one.from_station(0.0, frame(b'[3,"0",{}]')) is FORWARD


# ---------------------------------------------------------------- guarded


def test_a_guarded_call_waits_for_the_injector_and_ours_goes_first() -> None:
    play(
        """
        cpms > [2,"9","SetChargingProfile",{}]
                > guarded SetChargingProfile, token 1
        cpms > [2,"10","Reset",{}]
                > (held)
        inject ClearChargingProfile as ours-1
                > station ours-1
        station > the answer to ours-1
                > answer to ours-1
        passed 1
                > station [2,"9","SetChargingProfile",{}]
                > station [2,"10","Reset",{}]
        station > [3,"9",{}]
                > cpms [3,"9",{}]
                > saw cpms's SetChargingProfile and its answer
        """,
        relay(WATCH),
    )


def test_a_guarded_call_waits_no_longer_than_hold() -> None:
    play(
        """
        cpms > [2,"9","SetChargingProfile",{}]
                > guarded SetChargingProfile, token 1
        wait 1
        inject ClearChargingProfile as ours-1
                > station ours-1
        wait 3.9
                > (nothing)
        wait 0.1
                > station [2,"9","SetChargingProfile",{}]
                > counted unguarded
                > no answer to ours-1 (given-up)
        passed 1
                > (nothing)
        """,
        relay(WATCH),
    )


# ---------------------------------------------------------------- shown, promised


def test_calls_and_answers_are_shown_after_they_went() -> None:
    play(
        """
        station > [2,"1","BootNotification",{}]
                > cpms [2,"1","BootNotification",{}]
        cpms > [3,"1",{"status":"Accepted"}]
                > station [3,"1",{"status":"Accepted"}]
                > saw station's BootNotification and its answer
        station > [2,"2","MeterValues",{}]
                > cpms [2,"2","MeterValues",{}]
                > saw station's MeterValues
        cpms > [3,"2",{}]
                > station [3,"2",{}]
                > saw station's MeterValues proven
        station > [2,"3","Heartbeat",{}]
                > cpms [2,"3","Heartbeat",{}]
        cpms > [3,"3",{}]
                > station [3,"3",{}]
        station > [6,"4","NotifyPeriodicEventStream",{}]
                > cpms [6,"4","NotifyPeriodicEventStream",{}]
                > saw station's NotifyPeriodicEventStream
        """,
        relay(WATCH),
    )


def test_an_error_proves_nothing() -> None:
    play(
        """
        station > [2,"3","Heartbeat",{}]
                > cpms [2,"3","Heartbeat",{}]
        cpms > [4,"3","InternalError","",{}]
                > station [4,"3","InternalError","",{}]
        station > [2,"4","Heartbeat",{}]
                > cpms [2,"4","Heartbeat",{}]
        cpms > [3,"4",{}]
                > station [3,"4",{}]
                > saw station's Heartbeat proven
        """,
        relay(WATCH),
    )


def test_a_promised_answer_waits_until_it_is_on_disk() -> None:
    play(
        """
        station > [2,"1","StartTransaction",{}]
                > cpms [2,"1","StartTransaction",{}]
        cpms > [3,"1",{"transactionId":7}]
                > saw station's StartTransaction and its answer, token 1
        cpms > [2,"9","Reset",{}]
                > (held)
        inject SetChargingProfile as ours-1
                > (nothing)
        committed 1
                > station [3,"1",{"transactionId":7}]
                > station [2,"9","Reset",{}]
        station > [3,"9",{}]
                > cpms [3,"9",{}]
                > station ours-1
        """,
        relay(WATCH),
    )


def test_a_commit_in_the_shadow_of_the_round_trip_holds_nothing() -> None:
    play(
        """
        station > [2,"1","StopTransaction",{}]
                > cpms [2,"1","StopTransaction",{}]
                > saw station's StopTransaction, token 1
        committed 1
        cpms > [3,"1",{}]
                > station [3,"1",{}]
        """,
        relay(WATCH),
    )


def test_an_answer_whose_commit_failed_goes_at_once_and_is_counted_as_unpromised() -> None:
    play(
        """
        station > [2,"1","StopTransaction",{}]
                > cpms [2,"1","StopTransaction",{}]
                > saw station's StopTransaction, token 1
        cpms > [3,"1",{}]
                > (held)
        lost 1
                > station [3,"1",{}]
                > counted unpromised
        wait 1
                > (nothing)
        """,
        relay(WATCH),
    )


def test_a_commit_that_failed_before_the_answer_came_is_counted_when_it_goes() -> None:
    play(
        """
        station > [2,"1","StopTransaction",{}]
                > cpms [2,"1","StopTransaction",{}]
                > saw station's StopTransaction, token 1
        lost 1
                > (nothing)
        cpms > [3,"1",{}]
                > station [3,"1",{}]
                > counted unpromised
        """,
        relay(WATCH),
    )


def test_a_slow_disk_holds_an_answer_for_a_quarter_of_a_second() -> None:
    play(
        """
        station > [2,"1","StopTransaction",{}]
                > cpms [2,"1","StopTransaction",{}]
                > saw station's StopTransaction, token 1
        wait 30
        cpms > [3,"1",{}]
                > (held)
        wait 0.24
                > (nothing)
        wait 0.01
                > station [3,"1",{}]
                > counted unpromised
        committed 1
                > (nothing)
        """,
        relay(WATCH),
    )


def test_two_commits_of_one_exchange_are_both_awaited() -> None:
    both = frozenset({"TransactionEvent"})
    play(
        """
        station > [2,"1","TransactionEvent",{}]
                > cpms [2,"1","TransactionEvent",{}]
                > saw station's TransactionEvent, token 1
        cpms > [3,"1",{}]
                > saw station's TransactionEvent and its answer, token 2
        committed 2
                > (held)
        committed 1
                > station [3,"1",{}]
        """,
        relay(Interest(at_call=both, at_answer=both, promised=both)),
    )


def test_only_an_answer_to_an_older_call_overtakes_a_promised_one() -> None:
    play(
        """
        station > [2,"1","BootNotification",{}]
                > cpms [2,"1","BootNotification",{}]
        station > [2,"2","StopTransaction",{}]
                > cpms [2,"2","StopTransaction",{}]
                > saw station's StopTransaction, token 1
        station > [2,"3","BootNotification",{}]
                > cpms [2,"3","BootNotification",{}]
        cpms > [3,"2",{}]
                > (held)
        cpms > [3,"1",{}]
                > station [3,"1",{}]
                > saw station's BootNotification and its answer
        cpms > [3,"3",{}]
                > saw station's BootNotification and its answer
        cpms > [3,"unknown",{}]
                > (held)
        committed 1
                > station [3,"2",{}]
                > station [3,"3",{}]
                > station [3,"unknown",{}]
        """,
        relay(WATCH),
    )


def test_nothing_overtakes_a_call_that_waits_only_behind_an_answer() -> None:
    play(
        """
        station > [2,"1","BootNotification",{}]
                > cpms [2,"1","BootNotification",{}]
        station > [2,"2","StopTransaction",{}]
                > cpms [2,"2","StopTransaction",{}]
                > saw station's StopTransaction, token 1
        cpms > [3,"2",{}]
                > (held)
        cpms > [2,"9","Reset",{}]
                > (held)
        cpms > [3,"1",{}]
                > saw station's BootNotification and its answer
        committed 1
                > station [3,"2",{}]
                > station [2,"9","Reset",{}]
                > station [3,"1",{}]
        """,
        relay(WATCH),
    )


def test_a_promised_answer_behind_what_it_may_not_overtake_waits_without_haste() -> None:
    play(
        """
        station > [2,"1","StartTransaction",{}]
                > cpms [2,"1","StartTransaction",{}]
        cpms > [2,"9","SetChargingProfile",{}]
                > guarded SetChargingProfile, token 1
        cpms > [6,"s","Stream",{}]
                > (held)
        cpms > [3,"1",{}]
                > saw station's StartTransaction and its answer, token 2
        wait 4.9
                > counted unpromised
        wait 0.1
                > station [2,"9","SetChargingProfile",{}]
                > station [6,"s","Stream",{}]
                > station [3,"1",{}]
                > counted unguarded
        """,
        relay(WATCH),
    )


def test_an_id_used_twice_is_answered_in_order() -> None:
    one = relay(WATCH)
    play(
        """
        station > [2,"1","BootNotification",{"n":1}]
                > cpms [2,"1","BootNotification",{"n":1}]
        station > [2,"1","Unwatched",{"n":2}]
                > cpms [2,"1","Unwatched",{"n":2}]
        cpms > [3,"1",{"n":1}]
                > station [3,"1",{"n":1}]
                > saw station's BootNotification and its answer
        cpms > [3,"1",{"n":2}]
                > station [3,"1",{"n":2}]
        """,
        one,
    )
    assert one.quiet


def test_the_same_id_from_both_sides_is_no_confusion() -> None:
    play(
        """
        station > [2,"1","BootNotification",{}]
                > cpms [2,"1","BootNotification",{}]
        cpms > [2,"1","Reset",{}]
                > station [2,"1","Reset",{}]
        station > [3,"1",{"of":"cpms"}]
                > cpms [3,"1",{"of":"cpms"}]
        cpms > [3,"1",{"of":"station"}]
                > station [3,"1",{"of":"station"}]
                > saw station's BootNotification and its answer
        """,
        relay(WATCH),
    )


def test_a_number_and_a_string_are_the_same_id() -> None:
    play(
        """
        cpms > [2,"5","SetChargingProfile",{}]
                > station [2,"5","SetChargingProfile",{}]
        inject Reset as ours-1
        station > [3,5,{}]
                > cpms [3,5,{}]
                > station ours-1
                > saw cpms's SetChargingProfile and its answer
        """,
        relay(Interest(at_answer=WATCH.at_answer)),
    )


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize(("call", "answer"), [(65_600, 10), (10, 65_600)])
def test_what_is_too_big_goes_untapped(call: int, answer: int) -> None:
    one = relay(WATCH)
    start = frame(b'[2,"1","StartTransaction",{"x":"' + b"x" * call + b'"}]')
    reply = frame(b'[3,"1",{"x":"' + b"x" * answer + b'"}]')
    called, answered = one.from_station(0.0, start), one.from_cpms(0.0, reply)
    assert called[0] == Tell("cpms", start)
    assert answered is FORWARD or answered[0] == Tell("station", reply)
    assert [*called[1:], *answered[1:]] == [Counted("untapped")]
    assert one.wake_at is None


def test_of_too_many_unanswered_calls_the_oldest_goes_untapped() -> None:
    one = relay(WATCH)
    for n in range(40):
        effects = one.from_station(0.0, frame(b'[2,"%d","BootNotification",{}]' % n))
        assert (Counted("untapped") in effects) == (n >= 32)
    assert one.from_cpms(0.0, frame(b'[3,"0",{}]')) is FORWARD
    assert any(isinstance(effect, Saw) for effect in one.from_cpms(0.0, frame(b'[3,"39",{}]')))


def test_kept_calls_of_both_sides_share_one_bound() -> None:
    one = relay(Interest(at_answer=WATCH.at_answer))
    for n in range(20):
        one.from_station(float(n), frame(b'[2,"%d","BootNotification",{}]' % n))
    counted = [one.from_cpms(50.0, frame(b'[2,"%d","SetChargingProfile",{}]' % n)) for n in range(20)]
    assert sum(Counted("untapped") in effects for effects in counted) == 8
    assert one.from_cpms(50.0, frame(b'[3,"0",{}]')) is FORWARD


def test_after_five_minutes_an_answer_is_relayed_but_not_understood() -> None:
    play(
        """
        station > [2,"1","BootNotification",{}]
                > cpms [2,"1","BootNotification",{}]
        wait 300
        station > [2,"2","BootNotification",{}]
                > cpms [2,"2","BootNotification",{}]
        cpms > [3,"1",{}]
                > station [3,"1",{}]
        """,
        relay(WATCH),
    )


# ---------------------------------------------------------------- the end, and a change of mind


def test_closing_settles_ours_and_lets_go_what_only_waited() -> None:
    play(
        """
        inject SetChargingProfile as ours-1
                > station ours-1
        cpms > [2,"9","Reset",{}]
                > (held)
        close
                > station [2,"9","Reset",{}]
                > no answer to ours-1 (closed)
        station > [2,"2","Heartbeat",{}]
                > (nothing)
        cpms > [2,"10","Reset",{}]
                > (nothing)
        inject SetChargingProfile as ours-2
                > no answer to ours-2 (closed)
        close
                > (nothing)
        """
    )


def test_closing_breaks_no_promise() -> None:
    play(
        """
        station > [2,"1","StopTransaction",{}]
                > cpms [2,"1","StopTransaction",{}]
                > saw station's StopTransaction, token 1
        cpms > [3,"1",{}]
        cpms > [2,"9","Reset",{}]
        close
                > (nothing)
        """,
        relay(WATCH),
    )


def test_closing_settles_a_wish_that_waits() -> None:
    play("""
        cpms > [2,"9","Reset",{}]
                > station [2,"9","Reset",{}]
        inject SetChargingProfile as ours-1
        close
                > no answer to ours-1 (closed)
    """)


def test_quiet_means_nothing_is_open() -> None:
    one = relay()
    assert one.quiet
    one.from_station(0.0, frame(b'[2,"1","Heartbeat",{}]'))
    assert not one.quiet
    one.from_cpms(0.0, frame(b'[3,"1",{}]'))
    assert one.quiet
    one.from_cpms(0.0, frame(b'[2,"9","Reset",{}]'))
    assert not one.quiet
    one.from_station(0.0, frame(b'[3,"9",{}]'))
    one.inject(0.0, 1, "Reset", {}, 1.0, 1.0)
    assert not one.quiet
    one.tick(1.0)
    assert one.quiet


def test_a_call_that_is_shown_and_done_with_is_its_exchange_alone() -> None:
    """The short form says what the long one would; a CALL that is followed, or may be one, takes the long one."""
    one = relay(WATCH)
    one.seat(0.0, Interest(at_call=WATCH.at_call, at_answer=WATCH.at_answer, promised=WATCH.promised), prove=False)
    meter, start = frame(b'[2,"1","MeterValues",{}]'), frame(b'[2,"2","StartTransaction",{}]')
    shown = Exchange("station", "MeterValues", meter.text, None, 0, None)
    assert one.from_station(0.0, meter) == shown
    assert spelled_out(shown, "cpms", meter) == (Tell("cpms", meter), Saw(shown))
    assert spelled_out(FORWARD, "cpms", meter) == (Tell("cpms", meter),)
    assert one.wake_at is None
    assert one.from_station(1.0, start) == (Tell("cpms", start),)
    assert one.from_station(2.0, meter) == (Tell("cpms", meter), Saw(shown))
    stream = frame(b'[6,"3","NotifyPeriodicEventStream",{}]')
    assert one.from_station(3.0, stream) == Exchange("station", "NotifyPeriodicEventStream", stream.text, None, 0, None)


def test_a_tick_forgets_what_nobody_will_answer_any_more() -> None:
    one = relay(WATCH)
    one.from_cpms(0.0, frame(b'[2,"1","Reset",{}]'))
    assert one.tick(299.0) == ()
    assert not one.quiet
    assert one.tick(300.0) == ()
    assert one.quiet


def test_the_interest_may_change_while_the_link_lives() -> None:
    one = relay(WATCH)
    assert one.seat(0.0, NOTHING, prove=False) == ()
    assert one.from_station(0.0, frame(b'[2,"1","MeterValues",{}]')) is FORWARD
    one.seat(0.0, WATCH, prove=False)
    assert [type(effect) for effect in one.from_station(0.0, frame(b'[2,"2","MeterValues",{}]'))] == [Tell, Saw]
    assert [type(effect) for effect in one.from_cpms(0.0, frame(b'[2,"3","SetChargingProfile",{}]'))] == [Guarded]


def test_what_the_one_who_learned_before_held_back_goes_and_its_wish_is_settled_unsent() -> None:
    one = relay(WATCH)
    one.from_cpms(0.0, frame(b'[2,"1","Reset",{}]'))  # open at the station: ours must wait
    one.inject(0.0, 7, "ClearChargingProfile", {}, 30.0, 30.0)
    held = frame(b'[2,"3","SetChargingProfile",{}]')
    assert [type(effect) for effect in one.from_cpms(0.0, held)] == [Guarded]
    effects = one.seat(1.0, NOTHING, prove=False)
    assert Tell("station", held) in effects
    assert Answered(7, "no-slot", None) in effects
    assert [type(effect) for effect in effects if not isinstance(effect, Held)] == [Tell, Answered]
    assert one.tick(100.0) == ()
