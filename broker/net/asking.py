"""The console asks the running broker to read its configuration again, over the admin side, found by that configuration."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Final

from broker.config_endpoints import take_apart
from broker.net.admin import read_token
from broker.settings import Settings

WAIT_S: Final = 60.0


class CannotAsk(Exception):
    """One line that says why, and what to do."""


def admin_url(settings: Settings) -> str:
    """Where the admin side of this configuration answers, from this machine. Raises CannotAsk for what is no TCP port."""
    endpoint = take_apart(settings.broker.admin)
    port = endpoint.positional[0] if endpoint.positional else endpoint.named.get("port", "")
    if endpoint.kind not in ("tcp", "tcp6") or not port.isdigit():
        raise CannotAsk(f"broker.admin is {endpoint.kind}: from here only tcp: can be asked; send the process a SIGHUP instead")
    host = endpoint.named.get("interface", "") or "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ask_to_reload(settings: Settings) -> Sequence[str]:
    """What changed, one line each. Raises CannotAsk, its text a line for each mistake."""
    url = admin_url(settings)
    try:
        token = read_token(settings.broker.admin_token_file)
    except (OSError, ValueError) as error:
        raise CannotAsk(f"the admin token cannot be read: {error}") from None
    request = urllib.request.Request(f"{url}/api/v1/reload", method="POST", headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=WAIT_S) as answer:
            return [str(line) for line in json.load(answer)["changes"]]
    except urllib.error.HTTPError as refused:
        raise CannotAsk(_why(refused.code, refused.read())) from None
    except (OSError, ValueError, KeyError) as error:
        raise CannotAsk(f"no broker answers at {url}: {getattr(error, 'reason', None) or type(error).__name__}: is it running?") from None


def _why(status: int, body: bytes) -> str:
    try:
        said: Any = json.loads(body)
        return "\n".join([*map(str, said.get("mistakes", ())), str(said["error"]["message"])])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the broker answers {status}"
