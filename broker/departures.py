"""What the CPMS changed in a station so that it does not come back to us as it is: another password, URL, security profile, root, id.

Exchanges of the CPMS's come in as they go by; out come alarms, each saying what was changed and what breaks when, never the value; and
new passwords, whose fate hangs on the tenant's credentials, which others know. What was not accepted changed nothing.

Where the station's password is judged here, CALLs that may give one are shown as they go to the station (`entrusting`): the passwords are
handed on at once, to be on disk before the answer goes on, and what stays here until the answer is the rest.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Final

from broker.model.observations import SettingTaken
from broker.model.orders import Alarm, NewPassword, PasswordsAnswered, PasswordsSent, Write
from broker.model.traffic import CALLRESULT, Exchange, Interest
from broker.ocpp.dialect import Dialect, Wanted
from broker.ocpp.exchanges import answer, payload

MOST_ASKED: Final = 32  # unanswered CALLs, as many as a relay keeps; of more the oldest's answer tells nothing

TEXTS: Final = {
    "url": "its CPMS set another URL ({names}): after its next reboot it dials that one and leaves the broker, if it is not the broker's",
    "security-profile": "its CPMS set another security profile ({names}): after its next reboot it dials with it, and is refused where the "
    "port it dials, or the tenant's security_profile, does not fit",
    "root-certificate": "its CPMS changed the root certificates it trusts ({names}): from its next connection it may refuse the broker's "
    "certificate",
    "identity": "its CPMS gave it another identity ({names}): from its next connection it comes under a name that may not be listed",
}
"""Alarm name → what is wrong, and when it will show. What to do: `broker.alarms.KINDS`."""


@lru_cache(16)
def entrusting(interest: Interest, actions: frozenset[str]) -> Interest:
    """The same, and these CALLs also as they go: for a station whose password is judged here. One for all links, as the other is."""
    return replace(interest, entrusting=actions)


class Departures:
    """One link's. Never raises: what cannot be read is counted."""

    __slots__ = ("_asked", "_changes", "failures")

    def __init__(self, dialect: Dialect) -> None:
        self._changes = dialect.changes
        self._asked: dict[int, Wanted] | None = None  # by token; most stations are never asked
        self.failures = 0
        """Exchanges that could not be read."""

    def asked(self, exchange: Exchange) -> tuple[PasswordsSent | Write, ...]:
        """An entrusting CALL goes to the station. One order always comes of it, with its token."""
        token = exchange.token
        assert token is not None
        try:
            wanted = self._changes.wanted(exchange.action, payload(exchange))
        except Exception:  # whatever it is, it may quote what is secret
            self.failures += 1
            wanted = ()
        self._remember(token, tuple((place, replace(one, password=b"")) for place, one in wanted))
        passwords = tuple(one.password for _, one in wanted if one.what == "password")
        return (PasswordsSent(token, passwords),) if passwords else (Write((), (), token),)

    def saw(self, exchange: Exchange) -> tuple[Alarm | NewPassword | PasswordsAnswered, ...]:
        """An exchange went by."""
        if exchange.sender != "cpms" or exchange.action not in self._changes.actions:
            return ()
        try:
            if exchange.asked is not None:
                return self._answered(exchange, exchange.asked)
            if exchange.kind != CALLRESULT:
                return ()
            wanted = self._changes.wanted(exchange.action, payload(exchange))
            taken = [one for _, one in self._changes.accepted(exchange.action, wanted, answer(exchange) or {})]
        except Exception:
            self.failures += 1
            return ()
        passwords = [NewPassword(one.password) for one in taken if one.what == "password"]
        return (*passwords, *_alarms(taken))

    def _answered(self, exchange: Exchange, token: int) -> tuple[Alarm | PasswordsAnswered, ...]:
        """What was asked came in pieces: the passwords went on when it was. An error took nothing."""
        wanted = (self._asked or {}).pop(token, ())
        said = answer(exchange)
        accepted = self._changes.accepted(exchange.action, wanted, said) if said is not None else ()
        taken = tuple(one in accepted for one in wanted if one[1].what == "password")
        passwords = [PasswordsAnswered(token, taken)] if taken else []
        return (*passwords, *_alarms([one for _, one in accepted]))

    def _remember(self, token: int, wanted: Wanted) -> None:
        if wanted:
            self._asked = self._asked or {}
            self._asked[token] = wanted
            if len(self._asked) > MOST_ASKED:
                del self._asked[min(self._asked)]


def _alarms(taken: list[SettingTaken]) -> list[Alarm]:
    """One for each thing that was changed, however often."""
    names: dict[str, list[str]] = {}
    for one in taken:
        if one.what in TEXTS and one.name not in names.setdefault(one.what, []):
            names[one.what].append(one.name)
    return [Alarm(what, TEXTS[what].format(names=", ".join(found))) for what, found in names.items()]
