"""How a CALL of ours went: what stands now, what the engine hears, whom an operator must wake.

set ─▶ accepted
 │ └▶ refused: the next rung; after the last one an hour's rest
 └▶ no answer: it may stand all the same; again, later each time
"""

from __future__ import annotations

import re
from typing import Final

from broker.clears import BACK_OFF_S, SHORT_S
from broker.deciding import Deciding
from broker.leases import Lease
from broker.model.basics import Instant
from broker.model.orders import Alarm, Remember
from broker.model.records import Fact
from broker.ocpp.dialect import Verdict
from broker.profiles.ladder import Rung
from broker.sockets import Socket
from broker.standing import Effect, Job

RATE_S: Final = 60.0  # 2.1 stations may refuse more than one profile a minute


class Judging(Deciding):
    """One station's answers to ours."""

    __slots__ = ()

    def _was_set(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        socket, lease = job.socket, job.lease
        assert socket is not None
        assert lease is not None
        old, verdict = socket.lease, self._speech.verdict(answer) if answer is not None else None
        if verdict is not None and verdict.status:
            if outcome == "answer" and verdict.accepted:
                return self._was_accepted(socket, lease, job.changes, now)
            kept = old.fact() if old is not None and old.profile_id == lease.profile_id else lease.gone()
            return [Remember(kept), *self._was_refused(socket, lease, verdict, now)]
        if outcome == "no-slot":  # it was never sent
            return [Remember(old.fact() if old is not None and old.profile_id == lease.profile_id else lease.gone())]
        # It may have taken it all the same: what may stand is remembered, and cleared or replaced later.
        if old is not None and old.profile_id != lease.profile_id:
            self._clears.add(old.profile_id)
        socket.lease = lease.or_(old)
        if outcome == "given-up":
            socket.failures, socket.not_before_mono = max(1, socket.failures), now.mono + SHORT_S
            return []
        if outcome == "closed":
            return []
        socket.failed(now.mono, "no-answer", outcome)
        return self._report(socket, "no-answer", outcome, now)

    def _made_way(self, job: Job, stood: Lease | None) -> int:
        """The EVSE where ours made way by this set or clear; 0: none did, also where another of ours is still to be cleared."""
        if job.socket is None or job.kind not in ("set", "clear"):
            return 0
        also = job.lease is not None and stood is not None and stood.profile_id != job.lease.profile_id and stood.profile_id in self._clears
        return 0 if also else job.socket.evse.number

    def _was_accepted(self, socket: Socket, lease: Lease, changes: tuple[str, ...], now: Instant) -> list[Effect]:
        old, running = socket.lease, self._open_on(socket.evse.number)
        socket.accepted(lease, now.mono, self._charging.write_interval_s)
        self._wellness.well("unmanaged", now.mono)
        socket.transaction = running.uid if running is not None else None
        if running is not None and running.live:
            socket.watch(now)
        if socket.schedule is not None and not self._guards.waits_on(lease.evse):
            self._clears.done(lease.profile_id)
        elif socket.schedule is None:  # it ended, or was taken back, while this was under way
            self._clears.add(lease.profile_id)
        if old is not None and old.profile_id != lease.profile_id:
            self._clears.add(old.profile_id)
        if self._version != "ocpp1.6":  # its rate limit is the station's, not a socket's
            for other in self._sockets.values():
                other.not_before_mono = max(other.not_before_mono, socket.not_before_mono)
        schedule = socket.schedule
        said = (
            self._report(socket, "accepted", ", ".join(changes), now) if schedule is not None and schedule.id == lease.schedule_id else []
        )
        assert socket.lease is not None
        return [Remember(socket.lease.fact()), *said]

    def _was_refused(self, socket: Socket, lease: Lease, verdict: Verdict, now: Instant) -> list[Effect]:
        """The next rung; after the last one the station is left alone for an hour, and somebody is told."""
        why = f"{verdict.status} {verdict.reason}".strip()
        if "RateLimit" in verdict.reason:
            said = re.search(r"\d{1,4}", verdict.reason)
            socket.failures, socket.not_before_mono = 1, now.mono + max(RATE_S, float(said.group()) if said else 0.0)
            return self._report(socket, "rejected", why, now)
        running = self._open_on(socket.evse.number)
        if lease.purpose == "tx" and (running is None or running.ocpp_id != lease.transaction_id):
            return []  # it ended meanwhile: no wonder
        effects: list[Effect] = [Remember(self._ladder.refuse(Rung(lease.purpose, lease.stack_level)))]
        if self._rung(socket) is None:
            socket.not_before_mono, socket.failures = now.mono + BACK_OFF_S, 1
            text = f"the station refuses every charging profile we may use ({why}): it is left alone for an hour"
            effects += [Remember(self._ladder.forgive()), Alarm("unmanaged", text)]
        return [*effects, *self._report(socket, "rejected", why, now)]

    def _was_cleared(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        """Accepted and Unknown both mean that it is not there any more."""
        verdict = self._speech.verdict(answer) if outcome == "answer" and answer is not None else None
        if verdict is None or verdict.status not in ("Accepted", "Unknown"):
            failures = self._clears.failed(job.place, now.mono, short=outcome in ("given-up", "no-slot"))
            text = (
                f"the station does not clear our profile {job.place}: its limit ends by itself, then the CPMS's holds; look at the station"
            )
            return [Alarm("release", text)] if failures == 3 else []
        self._clears.done(job.place)
        self._wellness.well("release", now.mono)
        if job.socket is not None and job.socket.lease is not None and job.socket.lease.profile_id == job.place:
            job.socket.lease = None
        return [Remember(Fact("lease", str(job.place), None))]

    def _was_read(self, job: Job, outcome: str, answer: bytes | None, now: Instant) -> list[Effect]:
        """What the station says is in force. An error is a refusal."""
        if outcome in ("answer", "error"):
            running = job.place > 0 and self._open_on(job.place) is not None
            told = self._speech.composite(job.place, answer or b"")
            return [Remember(fact) for fact in self._limits.answered(told, now.mono, running)]
        if job.socket is not None and outcome != "closed":
            job.socket.failed(now.mono, "no-answer", "GetCompositeSchedule")
            return self._report(job.socket, "no-answer", "GetCompositeSchedule", now)
        return []
