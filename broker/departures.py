"""What the CPMS changed in a station so that it does not come back to us as it is: another password, URL, security profile, root, id.

Exchanges of the CPMS's come in as they go by; out come alarms, each saying what was changed and what breaks when, never the value; and
new passwords, whose fate hangs on the tenant's credentials, which others know. What was not accepted changed nothing.
"""

from __future__ import annotations

from typing import Final

from broker.model.observations import SettingTaken
from broker.model.orders import Alarm, NewPassword
from broker.model.traffic import CALLRESULT, Exchange
from broker.ocpp.dialect import Dialect
from broker.ocpp.exchanges import answer, payload

TEXTS: Final = {
    "url": "its CPMS set another URL ({names}): after its next reboot it dials that one and leaves the broker, if it is not the broker's",
    "security-profile": "its CPMS set another security profile ({names}): after its next reboot it dials with it, and is refused where the "
    "port it dials, or the tenant's security_profile, does not fit",
    "root-certificate": "its CPMS changed the root certificates it trusts ({names}): from its next connection it may refuse the broker's "
    "certificate",
    "identity": "its CPMS gave it another identity ({names}): from its next connection it comes under a name that may not be listed",
}
"""Alarm name → what is wrong, and when it will show. What to do: `broker.alarms.KINDS`."""


class Departures:
    """One link's. Never raises: what cannot be read is counted."""

    __slots__ = ("_changes", "failures")

    def __init__(self, dialect: Dialect) -> None:
        self._changes = dialect.changes
        self.failures = 0
        """Exchanges that could not be read."""

    def saw(self, exchange: Exchange) -> tuple[Alarm | NewPassword, ...]:
        """An exchange went by."""
        if exchange.sender != "cpms" or exchange.kind != CALLRESULT or exchange.action not in self._changes.actions:
            return ()
        try:
            taken = self._changes.taken(exchange.action, payload(exchange), answer(exchange) or {})
        except Exception:  # whatever it is, it may quote what is secret
            self.failures += 1
            return ()
        passwords = [NewPassword(one.password) for one in taken if one.what == "password"]
        return (*passwords, *_alarms(taken))


def _alarms(taken: tuple[SettingTaken, ...]) -> list[Alarm]:
    """One for each thing that was changed, however often."""
    names: dict[str, list[str]] = {}
    for one in taken:
        if one.what in TEXTS and one.name not in names.setdefault(one.what, []):
            names[one.what].append(one.name)
    return [Alarm(what, TEXTS[what].format(names=", ".join(found))) for what, found in names.items()]
