"""An operator at the console of a running broker: he looks, limits, takes it back, lets go; the station and the disk bear him out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from console import World, amps, cleared, soon


def test_looking_limiting_taking_back_letting_go(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            assert (await world.says("stations", "--state", "away"))[1].splitlines()[1].split()[:2] == ["acme/S", "away"]
            tail = await world.begin("tail", "acme", "S", "--record", "seen.jsonl")
            record = tmp_path / "seen.jsonl"
            assert await soon(lambda: record.exists() and record.read_text())
            async with world.station() as station:
                await station.arrive()
                transaction = await station.begin("DEADBEEF")
                await station.measure(transaction, 11000)
                assert await soon(lambda: amps(station) == 10.0), station.profiles

                code, said, _ = await world.says("limit", "acme", "S", "--amps", "8", "--for", "10m")
                assert code == 0
                assert said.startswith("acme/S: at most 8 A on EVSE 1 until 20")
                assert await soon(lambda: amps(station) == 8.0), station.profiles
                limits = (await world.data("show", "acme", "S"))["learned"]["limits"]["1"]
                assert (limits["asked"]["limit"], limits["operator"]["amps"], limits["allowed"]["limit"]) == (6900.0, 8.0, 20.0)
                assert (limits["sent"]["limit"], limits["status"]) == (8.0, "accepted")
                why = limits["decisions"][-1]
                assert (why["operator"]["amps"], why["sent"]["limit"], why["outcome"]) == (8.0, 8.0, "accepted")
                assert why["until"] > why["at"]
                page = (await world.says("show", "acme", "S"))[1]
                assert "operator     at most 8 A until" in page
                assert "we sent      8 A as max" in page
                world.broker.kill()
            _, complaint = await asyncio.wait_for(tail.communicate(), 30)
            assert (tail.returncode, b"the broker ended the stream" in complaint) == (1, True), complaint
            world.broker.start()

            async with world.station() as station:  # it comes back without a boot, and the operator's limit holds
                await station.measure(transaction, 5000)
                kept = await world.data("show", "acme", "S")
                assert kept["learned"]["limits"]["1"]["operator"]["amps"] == 8.0
                await asyncio.sleep(12)  # our own CALLs may begin 10 s after a connect
                await station.measure(transaction, 5000)
                assert amps(station) in (None, 8.0)
                assert (await world.data("clear", "acme", "S"))["limits"]["1"]["operator"] is None
                assert await soon(lambda: amps(station) == 10.0), station.profiles
            assert await soon(lambda: world.broker.get("/api/v1/stations/acme/S")["state"] == "away")
            assert (await world.data("show", "acme", "S"))["left"]["profiles"][0]["sure"], "it is known what stands there"

            code, said, complaint = await world.says("release", "acme", "--wait", "1s")
            assert (code, said.splitlines()[0].split(" (")[0]) == (1, "acme/S away")
            assert "profiles of ours are left at 1 stations" in complaint
            waiting = await world.begin("release", "acme", "S")
            async with world.station() as station:
                await station.measure(transaction, 5000)
                said_last, _ = await asyncio.wait_for(waiting.communicate(), 30)
                assert waiting.returncode == 0
                assert said_last.decode().endswith("all profiles of ours are gone, and no more are sent\n")
                assert len(cleared(station)) == 1
                assert station.profiles == []
                code, _, complaint = await world.says("limit", "acme", "S", "--amps", "8", "--for", "10m")
                assert (code, complaint.count("\n")) == (1, 1)
                assert "acme/S is released" in complaint
                assert (await world.data("release", "acme", "S", "--undo"))["released"] is False
                assert await soon(lambda: amps(station) == 10.0), station.profiles
            shown = record.read_text()
            assert "DEADBEEF" not in shown
            assert '"idTag": "token-1"' in shown
            lines = [json.loads(line) for line in shown.splitlines()]
            assert [line["event"] for line in lines if "event" in line] == ["away", "connected"]
            ours = [line["frame"] for line in lines if line.get("from") == "broker"]
            assert {frame[2] for frame in ours} >= {"GetConfiguration", "GetCompositeSchedule", "SetChargingProfile"}
            assert any(line.get("to") == "broker" and line["frame"][0] == 3 for line in lines)

    asyncio.run(story())


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            for command, why in (
                (("limit", "acme", "Shadow", "--amps", "8", "--for", "10m"), 'acme/Shadow is in mode "shadow"'),
                (("limit", "acme", "S", "--amps", "8", "--for", "1s"), "for_s: must be from 60 s"),
                (("limit", "acme", "S", "--amps", "-1", "--for", "10m"), "amps: must be from 0"),
                (("limit", "acme", "S", "--amps", "8", "--for", "10m", "--evse", "2"), "evse: S has 1"),
                (("limit", "acme", "none", "--amps", "8", "--for", "10m"), "acme/none is not in the station list"),
                (("clear", "acme", "Shadow"), 'acme/Shadow is in mode "shadow"'),
                (("release", "none"), "there is no tenant none"),
                (("show", "acme", "none"), "neither listed nor connected"),
                (("tail", "none", "S"), "none/S is neither listed nor let in"),
                (("stations", "--config", "nowhere.toml"), "nowhere.toml: cannot be read"),
            ):
                code, said, complaint = await world.says(*command)
                assert (code, said, complaint.count("\n")) == (1, "", 1), (command, said, complaint)
                assert complaint.startswith("ocppbroker: ")
                assert why in complaint
            assert (await world.says("limit", "acme", "S", "--amps", "8", "--for", "soon"))[0] == 2
            (tmp_path / "var" / "token").write_text("another\n")
            code, _, complaint = await world.says("stations")
            assert (code, "does not take the token" in complaint) == (1, True)
            world.broker.kill()
            code, _, complaint = await world.says("stations")
            assert code == 1
            assert "no running broker at" in complaint

    asyncio.run(story())


def test_what_shadow_mode_would_have_done(tmp_path: Path) -> None:
    async def story() -> None:
        async with World(tmp_path) as world:
            assert (await world.says("shadow-report", "acme"))[1] == "acme: nothing was decided in shadow mode yet\n"
            async with world.station("Shadow", "ocpp2.0.1") as station:
                await station.arrive()
                transaction = await station.begin("DEADBEEF")
                await station.measure(transaction, 11000)
                said = await world.data("shadow-report", "acme")
                for _ in range(100):
                    if said["schedules"]:
                        break
                    await asyncio.sleep(0.1)
                    said = await world.data("shadow-report", "acme")
                assert (said["schedules"], said["would_send"], list(said["stations"])) == (1, 1, ["Shadow"])
                assert station.profiles == []
                page = (await world.says("shadow-report", "acme"))[1]
                assert "1, of which 1 would have been sent, 0 of them clamped" in page

    asyncio.run(story())
