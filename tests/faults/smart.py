"""The lines of a tenant whose stations are captured and steered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def smart(folder: Path, engine_url: str, ids: list[str], modes: Mapping[str, str] = {}) -> str:
    """One socket for each id, called `<id>-1`; `modes`: of those that have one of their own."""
    (folder / "secret").write_text("s3cret\n")
    every = [*ids, *(id for id in modes if id not in ids)]
    listed = "".join(
        f'[[tenants.stations]]\nid = "{id}"\nmode = "{modes.get(id, "smart-charging")}"\n'
        f'evses = {{ 1 = {{ asset = "{id}-1", max_amps = 32 }} }}\n'
        for id in every
    )
    return f"""mode = "smart-charging"
[tenants.engine]
url = "{engine_url}"
client_id = "acme"
client_secret_file = "secret"
measure_every = "1s"
[[tenants.sites]]
name = "hq"
{listed}"""
