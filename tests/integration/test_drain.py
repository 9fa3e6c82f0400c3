"""The short form of `make drain`: fifty stations, a broker that is stopped and started, a CPMS that is restarted; all tallies agree."""

from __future__ import annotations

import asyncio
from pathlib import Path

import drain


def test_a_restart_under_fifty_stations_loses_nothing_and_forgets_no_limit(tmp_path: Path) -> None:
    crowd, told = asyncio.run(drain.drain(tmp_path, stations=50, drain_s=2.0, seed=2))
    assert crowd.mistakes() == []
    assert told.exit_status == 0
    # Whoever is starved of time finds its socket closed before it has read why, or was just dialling.
    for codes, code in ((told.codes, 1012), (told.cpms_codes, 1001)):
        assert set(codes) <= {code, 1006}
        assert codes[code] >= 25
    assert told.forgotten == []
    assert told.leases > 0
    assert told.sent_again <= 5, "what stands is not sent again; a station that was cut off just when it was sent one is"
    assert told.spread_s >= 1.0, "not all at once"
    assert told.exit_s <= 2.0 + 5.0 + 8.0, "drain, what a peer may take, and a busy machine"
    assert all(station.links >= 3 for station in crowd.stations)
    assert "Traceback" not in (tmp_path / "broker.log").read_text()
