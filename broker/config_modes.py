"""From drafts to stations: whose mode counts, which site a station has, what each mode needs, and that no name stands twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.config_stations import Draft, Rules
from broker.config_table import Reading, guess
from broker.model.basics import Mode
from broker.settings import EvseSettings, StationSettings


def settle(drafts: Sequence[Draft], rules: Rules, reading: Reading) -> dict[str, StationSettings]:
    """Every draft with its mode, site and assets; mistakes noted in `reading`. Drafts of one id: the first one stays."""
    stations: dict[str, StationSettings] = {}
    assets: dict[str, str] = {}
    first: dict[str, str] = {}
    for draft in drafts:
        if draft.id in stations:
            note(reading, draft.place, f"station {draft.id} is here a second time (first: {first[draft.id]})")
            continue
        first[draft.id] = draft.place
        site = site_of(draft, rules, reading)
        mode: Mode = draft.mode or rules.sites.get(site or "", rules.mode)
        if mode != "relay" and site is None and not draft.site:
            note(reading, draft.place, f'site: is missing, and mode "{mode}" needs one (the tenant has {len(rules.sites)} sites)')
        if rules.hashes and not draft.password_hash:
            note(reading, draft.place, f'password_hash: is missing, and credentials = "{rules.hashes}" needs it')
        evses = tuple(named(draft, evse) for evse in draft.evses) or (EvseSettings(1, f"{draft.id}-1"),)
        places = draft.places or [draft.place]
        for evse, place in zip(evses, places, strict=True):
            if evse.asset in assets:
                note(reading, place, f"asset: {evse.asset} is here a second time (first: {assets[evse.asset]})")
            assets.setdefault(evse.asset, place)
            check_amps(evse, place, mode, rules, reading)
        stations[draft.id] = StationSettings(
            draft.id, mode, site, draft.current, tuple(sorted(evses, key=lambda e: e.number)), draft.password_hash
        )
    return stations


def note(reading: Reading, place: str, what: str) -> None:
    """A CSV row's place (`acme.csv:17`) names its file already; a table's place needs the included file before it."""
    if ".csv:" in place or not reading.included:
        reading.mistakes.append(f"{place}: {what}")
    else:
        reading.wrong(place, what)


def site_of(draft: Draft, rules: Rules, reading: Reading) -> str | None:
    """The site it names, or the tenant's only one."""
    if draft.site and draft.site not in rules.sites:
        note(reading, draft.place, f"site: {draft.site} is not a site of this tenant{guess(draft.site, list(rules.sites))}")
        return None
    if draft.site:
        return draft.site
    return next(iter(rules.sites)) if len(rules.sites) == 1 else None


def named(draft: Draft, evse: EvseSettings) -> EvseSettings:
    return evse if evse.asset else replace(evse, asset=f"{draft.id}-{evse.number}")


def check_amps(evse: EvseSettings, place: str, mode: Mode, rules: Rules, reading: Reading) -> None:
    """`max_amps` is the only ceiling when the CPMS is said to set none; below `min_amps` nothing but 0 would be left."""
    if mode not in ("shadow", "smart-charging"):
        return
    if evse.max_amps is None and rules.baseline == "none":
        note(reading, place, f'max_amps: is missing for EVSE {evse.number}, and baseline = "none" needs it')
    if evse.max_amps is not None and evse.max_amps < rules.min_amps:
        note(reading, place, f"max_amps: {evse.max_amps:g} is below min_amps ({rules.min_amps:g})")
