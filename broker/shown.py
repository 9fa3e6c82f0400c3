"""What the admin side answers, in an operator's words: JSON-able data in, lines of text out. Ids of drivers are never in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from broker.ocpp.times import text


def stations_table(stations: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line per station, in columns."""
    rows = [("STATION", "STATE", "VERSION", "MODE", "SITE", "SINCE")]
    rows += [
        (f"{one['tenant']}/{one['id']}", one["state"], one["version"] or "-", one["mode"] or "-", one["site"] or "-", one["since"] or "-")
        for one in stations
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def station_page(one: Mapping[str, Any]) -> list[str]:
    """All that is known of one station."""
    name = f"{one['tenant']}/{one['id']}"
    if one["state"] == "connected":
        lines = [f"{name}: connected since {one['since']} as {one['link']}, {one['version']}, from {one['address']}"]
    else:
        lines = [f"{name}: away"]
    listed = "" if one["listed"] else ", not listed"
    lines.append(f"  mode {one['mode']}{listed}" + (f", site {one['site']}" if one["site"] else ""))
    learned = one["learned"] or {}  # away, it is not remembered
    boot = learned.get("boot") or {}
    if boot:
        firmware, serial = boot["firmware"] or "not said", boot["serial"] or "not said"
        lines.append(f"  {boot['vendor']} {boot['model']}, firmware {firmware}, serial {serial}")
    running = {t["evse"]: t for t in learned.get("transactions", [])}
    for asset in one["evses"]:
        number = asset["evse"]
        lines += _evse(asset, running.get(number), learned.get("latest", {}).get(str(number)), learned.get("limits", {}).get(str(number)))
    if one["state"] != "connected" and "left" in one:
        lines += _left(one["left"])
    if learned.get("withdrawing"):
        lines.append(f"  ours that are being cleared: profiles {', '.join(map(str, learned['withdrawing']))}")
    if learned.get("tap_failures"):
        lines.append(f"  {learned['tap_failures']} messages could not be read")
    return lines


def _evse(asset: Mapping[str, Any], running: Any, latest: Any, limits: Any) -> list[str]:
    most = f"at most {asset['max_amps']:g} A, " if asset["max_amps"] is not None else ""
    lines = [f"  EVSE {asset['evse']} ({asset['asset']}): {most}{asset['phases']} phase{'s' if asset['phases'] > 1 else ''}"]
    if running is not None:
        lines.append(_line("charges", f"since {running['started_at']}, transaction {running['ocpp_id'] or 'without an id'}"))
    if latest is not None:
        lines.append(_line("meter", ", ".join(_meter(latest)) or "nothing yet"))
    return lines + (_limits(limits) if limits is not None else [])


def _left(left: Mapping[str, Any] | None) -> list[str]:
    """What may stand at a station that is away."""
    if left is None:
        return ["  what of ours stands there is not known: the store does not answer"]
    lines = [
        f"  ours {'stands' if one['sure'] else 'may stand'} there, EVSE {one['evse']}: {_amount(one['limit'], one['unit'])}"
        f" as {one['purpose']}, profile {one['profile']}, {'until ' + one['until'] if one['until'] else 'without an end'}"
        for one in left["profiles"]
    ]
    lines += [f"  operator, EVSE {one['evse']}: at most {one['amps']:g} A until {one['until']}" for one in left["operator"]]
    lines = lines or ["  nothing of ours stands there"]
    return lines + [f"  released since {left['released']}: nothing of ours is sent until `release --undo`"] * bool(left["released"])


def _meter(latest: Mapping[str, Any]) -> list[str]:
    power, energy = latest["power_w"], latest["energy_wh"]
    said = [f"{power / 1000:.2f} kW"] if power is not None else []
    return said + ([f"{energy / 1000:.3f} kWh"] if energy is not None else [])


def _limits(limits: Mapping[str, Any]) -> list[str]:
    """Who wants what, what is sent, why and until when."""
    asked, own, allowed, sent = limits["asked"], limits.get("operator"), limits["allowed"], limits["sent"]
    lines = []
    if limits.get("released"):
        lines.append(_line("released", f"since {limits['released']}: nothing of ours is sent until `release --undo`"))
    lines.append(_line("engine asks", _amount(asked["limit"], asked["unit"]) + f" (schedule {asked['schedule']})" if asked else "nothing"))
    if own:
        lines.append(_line("operator", f"at most {own['amps']:g} A until {own['until']}"))
    allows = _amount(allowed["limit"], allowed["unit"], "any") if allowed["known"] else f"not known: {allowed['why']}"
    lines.append(_line("CPMS allows", allows))
    lines.append(_line("we sent", _sent(sent) if sent else "nothing that stands"))
    if limits.get("would"):
        lines.append(_line("would send", _would(limits["would"])))
    if "fallback" in limits:
        below = limits["fallback"]
        lines.append(_line("fallback", f"{_amount(below['limit'], below['unit'])} without an end, profile {below['profile']}"))
    if "no_fallback" in limits:
        lines.append(_line("fallback", f"none: {limits['no_fallback']}"))
    why = f": {limits['why']}" if limits["why"] else ""
    return [*lines, _line("because", f"{limits['status']}{why}")]


def _sent(sent: Mapping[str, Any]) -> str:
    amount, until = _amount(sent["limit"], sent["unit"]), text(sent["until"])
    return f"{amount} as {sent['purpose']}, profile {sent['profile']}, until {until}{_changes(sent)}"


def _would(would: Mapping[str, Any]) -> str:
    """In shadow mode."""
    refused = would.get("refused")
    return f"nothing: {refused}" if refused else f"{_amount(would['limit'], would['unit'])}{_changes(would)}"


def _changes(sent: Mapping[str, Any]) -> str:
    """Why it is not what was asked; nothing if it is."""
    return f" ({', '.join(sent['why'])})" if sent.get("why") else ""


def _amount(limit: float | None, unit: str, none: str = "no limit now") -> str:
    return none if limit is None else f"{limit:g} {unit}"


def _line(name: str, said: str) -> str:
    return f"    {name:<12} {said}"


def left_lines(said: Mapping[str, Any]) -> list[str]:
    """Where profiles of ours are left, and what they wait for."""
    lines = [f"{one['station']} {one['state']}" + (f" (ends {one['until']})" if one["until"] else "") for one in said["stations"]]
    more = said["left"] - len(lines)
    return lines + [f"and {more} more"] * (more > 0)


def letter_lines(letters: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the engine refused, and why; one line each."""
    lines = [f"{one['id']}  {one['at']}  {one['station']}  {one['kind']}: {one['why']}  {json.dumps(one['body'])}" for one in letters]
    return lines or ["no dead letters"]


def tail_line(one: Mapping[str, Any]) -> str:
    """One line of a stream: when, who to whom, and the frame."""
    if "event" in one:
        frames = f" {one['frames']} frames: shown were only the others" if "frames" in one else ""
        return f"{one['at']}  -- {one['event']}{frames}"
    said = json.dumps(one["frame"], ensure_ascii=False) if "frame" in one else f"({one['unreadable']} bytes that cannot be shown)"
    return f"{one['at']}  {one['from']:>7} > {one['to']:<7}  {said}"


def report_page(said: Mapping[str, Any]) -> list[str]:
    """What shadow mode would have done."""
    if not said["stations"]:
        return [f"{said['tenant']}: nothing was decided in shadow mode yet"]
    span = f"{said['from']} to {said['until']}" if said["from"] else "no meter values yet"
    lines = [f"{said['tenant']}: {len(said['stations'])} stations in shadow mode, {span}"]
    sent = f"{said['would_send']} would have been sent, {said['clamped']} of them clamped"
    lines.append(_line("schedules", f"{said['schedules']}, of which {sent}"))
    lines += [_line("changed", f"{name}: {n}") for name, n in said["changed"].items()]
    lines += [_line("refused", f"{name}: {n}") for name, n in said["refused"].items()]
    lines.append(_line("energy", f"{said['energy_wh'] / 1000:.1f} kWh, of which {said['moved_wh'] / 1000:.1f} kWh to other times"))
    lines.append(_line("peak", f"{said['peak_w'] / 1000:.1f} kW over 15 min; with ours {said['peak_with_ours_w'] / 1000:.1f} kW"))
    return lines
