"""What an operator should know, as data: a bounded book of alarms, each raised, counted, and cleared.

In: that something is wrong (again), that it is over, and what stands now of a kind that can be asked for. Out: what changed, for
the log, and all that stands. An alarm that nobody takes back ends by itself when it was not repeated for its time-to-live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, NamedTuple

Whose = Literal["station", "cpms", "engine", "broker", "operator"]
Severity = Literal["warning", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("warning", "critical")
"""critical: cars do not charge, a fuse is not protected, or what is captured is lost, now or soon."""

MOST: Final = 10_000  # some 5 MB; a fleet with more alarms than this has one cause, and the commonest name says which
DAY_S: Final = 24 * 3600.0  # a station that is wrong in silence for a day is right, or tells us again
WEEK_S: Final = 7 * DAY_S  # what shows at a reboot shows within a week, or was seen to
QUIET_S: Final = 600.0  # two stations with one id redial within minutes: after so long without, there is one


class Kind(NamedTuple):
    """What an alarm's name means. `ttl_s`: it ends when not repeated for so long; None: it stands until it is cleared."""

    fault: Whose
    do: str
    ttl_s: float | None = None
    severity: Severity = "warning"


KINDS: Final[Mapping[str, Kind]] = {
    "clock": Kind("station", "check the station's time source and the CPMS's currentTime", DAY_S),
    "unmanaged": Kind("station", "see `ocppbroker show`: find out why it keeps nothing of ours", DAY_S),
    "release": Kind("station", "see `ocppbroker show`: clear what is left at the station, or wait for its end", DAY_S),
    "fallback": Kind("station", "see `ocppbroker show`: protect its fuse by other means", DAY_S, "critical"),
    "duplicate": Kind("station", "find the two stations with one id, and give one another", QUIET_S),
    "password": Kind(
        "cpms", "let the password that the CPMS gave the station be known here: password_hash, or cpms_password", WEEK_S, "critical"
    ),
    "url": Kind("cpms", "set the broker's URL in the station again, from the CPMS or at the station", WEEK_S, "critical"),
    "security-profile": Kind("cpms", "see that a port of ours and security_profile fit, or take it back from the CPMS", WEEK_S),
    "root-certificate": Kind("cpms", "see that the broker's certificate is from a CA that the station trusts", WEEK_S),
    "identity": Kind("cpms", "list the station under its new id, or take it back from the CPMS", WEEK_S),
    "cpms": Kind("cpms", "ask the CPMS's operator; check cpms_url with `ocppbroker probe`", None, "critical"),
    "engine": Kind("engine", "ask the engine's operator; check engine.url with `ocppbroker check --online`"),
    "schedules": Kind("engine", "ask the engine's operator why it does not answer for this site: /api/v1/status says with what"),
    "outbox": Kind("engine", "see why the engine does not take what it is told: the log names it"),
    "dead-letters": Kind("engine", "see `ocppbroker dead-letters`: put right what is refused, then --replay, or --drop"),
    "store": Kind(
        "operator", "make the disk and the file writable: what is captured waits in memory, as far as there is room", None, "critical"
    ),
    "damaged": Kind(
        "operator", "see the disk and who writes to its folder; then move the file that was kept away, or delete it", None, "critical"
    ),
    "disk": Kind("operator", "make room on the disk under `state`", None, "critical"),
    "descriptors": Kind("operator", "raise LimitNOFILE (ulimit -n): two for each link, and a hundred", None, "critical"),
    "certificate": Kind("operator", "renew the certificate"),
    "crl": Kind("operator", "fetch the CA's newest list into its file (crl=); see why it was not renewed", None, "critical"),
    "files": Kind("operator", "put a file in its place that loads: `ocppbroker check` says more"),
}
"""Every alarm there is; a name that is not here is `OTHER`."""

OTHER: Final = Kind("broker", "see the text, and tell us: this name is not in our table", DAY_S)


@dataclass(frozen=True, slots=True)
class Standing:
    """One alarm. Times are seconds since 1970; `subject` is a tenant, `tenant/station` or a file."""

    name: str
    subject: str
    since: float
    last: float
    count: int
    fault: str
    text: str
    do: str
    told_mono: float = 0.0
    """When that was by a clock that nobody sets; for the book alone."""

    def plain(self) -> dict[str, Any]:
        """Plain, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "told_mono"}


class Changes(NamedTuple):
    """For the log: one line each."""

    raised: tuple[Standing, ...] = ()
    cleared: tuple[Standing, ...] = ()


class Book:
    """All alarms that stand, `most` at most; beyond it the oldest of the commonest name goes, counted in `given_up`."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._of: dict[tuple[str, str], Standing] = {}
        self._names: Counter[str] = Counter()
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._of)

    def raise_(
        self, name: str, subject: str, text: str, now: float, mono: float | None = None, *, fault: str = "", do: str = ""
    ) -> Changes:
        """It is wrong, or wrong again: then it stands since when it did, and counts one more. Fault and do: from `KINDS` unless given.

        `now` is shown; what ends by its time ends by `mono`, which nobody sets (without it, by `now`).
        """
        kind = KINDS.get(name, OTHER)
        before = self._of.get((name, subject))
        told_mono = now if mono is None else mono
        if before is not None:
            self._of[name, subject] = replace(before, last=now, count=before.count + 1, text=text, told_mono=told_mono)
            return Changes()
        self._make_room()
        new = Standing(name, subject, now, now, 1, fault or kind.fault, text, do or kind.do, told_mono)
        self._of[name, subject] = new
        self._names[name] += 1
        return Changes((new,))

    def clear(self, name: str, subject: str) -> Changes:
        """It is over; nothing if it did not stand."""
        gone = self._of.pop((name, subject), None)
        if gone is None:
            return Changes()
        self._names[name] -= 1
        return Changes((), (gone,))

    def stand(self, name: str, found: Mapping[str, str], now: float, mono: float | None = None) -> Changes:
        """Of this name these stand now (subject → text), and no others. Seen again is not once more: only `last` moves."""
        gone = [subject for at, subject in self._of if at == name and subject not in found] if self._names[name] else []
        cleared = [one for subject in gone for one in self.clear(name, subject).cleared]
        raised: list[Standing] = []
        for subject, text in found.items():
            before = self._of.get((name, subject))
            if before is None:
                raised += self.raise_(name, subject, text, now, mono).raised
            else:
                self._of[name, subject] = replace(before, last=now, text=text)
        return Changes(tuple(raised), tuple(cleared))

    def expire(self, mono: float) -> Changes:
        """What was not repeated within its time-to-live is over."""
        old = [at for at, one in self._of.items() if (ttl := KINDS.get(one.name, OTHER).ttl_s) is not None and mono - one.told_mono >= ttl]
        return Changes((), tuple(one for at in old for one in self.clear(*at).cleared))

    def get(self, name: str, subject: str) -> Standing | None:
        """The alarm, if it stands."""
        return self._of.get((name, subject))

    def current(self) -> list[Standing]:
        """All, by name and subject."""
        return [one for _, one in sorted(self._of.items())]

    def counted(self) -> dict[str, int]:
        """Name → how many stand; each known name is there."""
        return {**dict.fromkeys(KINDS, 0), **self._names}

    def _make_room(self) -> None:
        while self._of and len(self._of) >= self._most:
            name = max(self._names, key=lambda one: self._names[one])
            oldest = min((one for one in self._of.values() if one.name == name), key=lambda one: one.since)
            self.clear(name, oldest.subject)
            self.given_up += 1


def lines(alarms: list[dict[str, Any]]) -> list[str]:
    """For people, from `plain`: one line each."""
    said = [f"{one['name']}  {one['subject']}  {one['count']} ×  the {one['fault']}'s: {one['text']}  → {one['do']}" for one in alarms]
    return said or ["no alarms"]
