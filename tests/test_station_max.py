"""A limit for the whole station is one for the sum of its sockets, and stations share it out as they like: ours stay right under each way.

What the CPMS alone allows is a set: every sharing-out in which each socket keeps to its own profiles and all together keep to
ChargePointMaxProfile or ChargingStationMaxProfile (1.6 3.13.1, 2.x K01). Ours only lower single sockets of a station that has several,
so what is possible with ours must be in that set: whoever gets what another one left. Held against the simulated station's own reading
of its profiles, second by second, with equal shares, with the first come first served, and with what one leaves given to the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_injector_laws import OURS, Does, orders, versions
from test_two_masters import CASES, Hostile, hostile, played

from broker.sim.composite import cap, own

Shares = Callable[[list[float], float], list[float]]
TINY = 0.0501  # a limit on the wire has one decimal


def equally(most: list[float], whole: float) -> list[float]:
    """Each the same share, whether it can use it or not."""
    return [min(one, whole / len(most)) for one in most]


def first_come(most: list[float], whole: float) -> list[float]:
    """The first takes what it may, the next what is left."""
    shares: list[float] = []
    for one in most:
        shares.append(min(one, max(0.0, whole - sum(shares))))
    return shares


def what_is_left(most: list[float], whole: float) -> list[float]:
    """Equal shares, and what one cannot use goes to the others."""
    shares = dict.fromkeys(range(len(most)), 0.0)
    hungry, left = sorted(shares, key=lambda n: most[n]), whole
    while hungry:
        n = hungry[0]
        shares[n] = min(most[n], left / len(hungry))
        left -= shares[n]
        hungry.pop(0)
    return [shares[n] for n in range(len(most))]


WAYS: dict[str, Shares] = {"equally": equally, "first": first_come, "last": lambda m, w: first_come(m[::-1], w)[::-1], "left": what_is_left}


class Summed(Hostile):
    """Three sockets, or two, and a law about all of them together."""

    bound = 0

    def law(self) -> None:
        super().law()
        theirs = [one for one in self.held.profiles if one.id not in OURS]
        assert not [one for one in self.held.profiles if one.id in OURS and one.evse == 0], "ours for the whole station"
        for after in (0, 1, 59, 61, 301, 599, 899, 901, 1201):
            at = self.now.wall + after
            top = cap(self.held.profiles, self.sockets[1], at)
            whole = float("inf") if top is None else top.amps
            alone = [own(theirs, socket, at, self.running(n)).amps for n, socket in self.sockets.items()]
            ours = [own(self.held.profiles, socket, at, self.running(n)).amps for n, socket in self.sockets.items()]
            self.bound += top is not None and ours != alone
            if top is None:
                continue
            for name, share in WAYS.items():
                with_ours, without = share(ours, whole), share(alone, whole)
                # What is shared out with ours might have been shared out without.
                assert all(mine <= most + TINY for mine, most in zip(with_ours, alone, strict=True)), name
                assert sum(with_ours) <= whole + TINY, name
                assert sum(with_ours) <= sum(without) + TINY * len(ours), name


def amount(world: Summed) -> list[float]:
    """What each socket may take now, by itself."""
    return [own(world.held.profiles, socket, world.now.wall, world.running(n)).amps for n, socket in world.sockets.items()]


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(versions, orders, st.integers(2, 3), st.lists(hostile, max_size=20))
def test_whatever_way_a_station_shares_out_its_sum_ours_never_raise_it(version: str, purposes: Any, evses: int, story: list[Does]) -> None:
    played(Summed(version, purposes, evses), [Does("cpms-sets", 0, 0, 20.0), Does("plug", 1), Does("wish", 1, 6, 16.0), *story])


@pytest.mark.parametrize("version", ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"])
def test_ours_on_one_socket_leaves_more_to_the_others_within_what_the_cpms_allows(version: str) -> None:
    story = [Does("cpms-sets", 0, 0, 20.0), Does("plug", 1), Does("wish", 0, 6, 6.0), Does("wait", c=61.0), Does("wait", c=61.0)]
    world = played(Summed(version, ("tx", "default"), 2), story)
    first, second = amount(world)
    assert (first <= 6.0, second) == (True, 40.0)
    assert world.bound, "else the law would hold of nothing"
    assert what_is_left([first, second], 20.0) == [first, 20.0 - first]
    assert equally([first, second], 20.0) == [first, 10.0]


def test_no_socket_is_let_above_the_sum_even_if_it_is_alone() -> None:
    """The sum bounds each: a single car may have it all, and ours allows no more than that."""
    world = played(Summed("ocpp1.6", ("tx", "default"), 2), [Does("cpms-sets", 0, 0, 10.0), Does("wait", c=61.0)])
    ours = [one for one in world.held.profiles if one.id in OURS]
    assert ours
    assert max(period.limit for one in ours for period in one.periods) <= 10.0


def test_the_ways_to_share() -> None:
    assert equally([6.0, 40.0], 20.0) == [6.0, 10.0]
    assert first_come([16.0, 40.0], 20.0) == [16.0, 4.0]
    assert what_is_left([6.0, 40.0, 40.0], 20.0) == [6.0, 7.0, 7.0]
