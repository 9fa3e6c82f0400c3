"""A frame as it may be shown: id tokens, passwords and certificates taken out, the rest as it was.

In: a frame's text. Out: the same OCPP-J array as JSON, an id token replaced by `token-1`, `token-2`, … so that the same driver
can be followed through one showing without being known. Text that anybody may have written anything into is replaced by its
length, and what cannot be read is not shown at all, only measured.

`engine_body` does the same to what the engine is told: there only what is known to be harmless is shown.

Where tokens stand: 1.6 and 2.x name them alike (`idTag`, `parentIdTag`, `idToken`, `groupIdToken`); passwords stand in
configuration values (`AuthorizationKey`, `BasicAuthPassword`) and network profiles.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

TOKENS: Final = frozenset({"idtag", "parentidtag", "idtoken", "groupidtoken", "additionalidtoken", "emaid", "customeridentifier"})
SECRETS: Final = frozenset(
    {
        "data", "password", "apnpassword", "apnusername", "user", "pin", "certificate", "certificatechain", "csr", "exirequest",
        "exiresponse", "personalmessage", "additionalinfo", "info", "techinfo", "vendorerrorcode", "message", "content", "location",
        "basicauthpassword", "remotelocation", "uri", "url", "requeststarturl", "ocppcsmsurl", "imsi", "iccid",
    }
)  # fmt: skip
"""Passwords and keys, and text that may hold them or a driver's name."""
VALUES: Final = ("authorizationkey", "password", "secret", "pin", "token", "idtag", "master", "free", "rfid", "card", "url")
"""A configuration key or variable whose value is not shown: any that holds one of these words."""
WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
"""What an action or an error's code looks like; anything else in their place is anybody's text."""
PLAIN: Final = frozenset(
    {
        "site_id", "assetId", "asset_id", "transactionId", "timestamp", "transactionState", "startTime", "stopTime", "type", "evse",
        "connector", "schedule_id", "status",
    }
)  # fmt: skip
"""What is shown of a body for the engine besides numbers: no other text is, whoever it is about."""
MOST_SHOWN: Final = 128
DEEPEST: Final = 32  # OCPP nests seven deep
ALIASES: Final = 1000  # tokens told apart in one showing; beyond it they are all alike


class Masks:
    """One showing's: who is `token-1` there."""

    def __init__(self) -> None:
        self._aliases: dict[str, str] = {}

    def shown(self, text: bytes) -> Any:
        """The frame as JSON-able data, or `{"unreadable": <bytes>}`."""
        try:
            frame = json.loads(text, parse_constant=lambda _: None)
            if not isinstance(frame, list) or len(frame) < 2 or frame[0] not in (2, 3, 4, 5, 6) or not isinstance(frame[1], str):
                return {"unreadable": len(text)}
            return [*frame[:2], *self._rest(frame[0], frame[2:])]
        except (ValueError, RecursionError):
            return {"unreadable": len(text)}

    def _rest(self, kind: int, rest: list[Any]) -> list[Any]:
        """An error's description is anybody's text; its code, and an action, are words of the protocol."""
        if kind == 3:
            return [self._payload(part) for part in rest]
        word = [part if isinstance(part, str) and WORD.fullmatch(part) else _measured(part) for part in rest[:1]]
        return [*word, *(self._payload(part) if kind in (2, 6) else _measured(part) for part in rest[1:])]

    def _payload(self, part: Any) -> Any:
        return self._masked(part, "", 0) if isinstance(part, dict) else _measured(part)

    def _masked(self, value: Any, name: str, depth: int) -> Any:
        if depth > DEEPEST or (name in SECRETS and isinstance(value, str | dict | list)):
            return _measured(value)
        if isinstance(value, dict):
            hides = self._hides(value)
            return {key: _measured(inner) if key in hides else self._masked(inner, key.lower(), depth + 1) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._masked(inner, name, depth + 1) for inner in value]
        if name in TOKENS and value is not None and value != "":
            return self._alias(str(value))
        return self._aliases.get(value, value) if isinstance(value, str) else value

    def _hides(self, value: dict[str, Any]) -> set[str]:
        """The keys of a configuration value, or a variable's, that is a secret by its neighbour's name."""
        said = value.get("key"), value.get("variable"), value.get("component")
        names = [part.get("name") if isinstance(part, dict) else part for part in said]
        if any(word in name.lower() for name in names if isinstance(name, str) for word in VALUES):
            return {key for key in value if key.lower() in ("value", "attributevalue")}
        return set()

    def _alias(self, token: str) -> str:
        alias = self._aliases.get(token)
        if alias is None:
            if len(self._aliases) >= ALIASES:
                return "token"
            alias = self._aliases[token] = f"token-{len(self._aliases) + 1}"
        return alias


def engine_body(body: str) -> Any:
    """What the engine was to be told, without the driver; `{"unreadable": <characters>}` for what is no JSON object."""
    try:
        said = json.loads(body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        said = None
    return {key: _engine_value(key, value, 0) for key, value in said.items()} if isinstance(said, dict) else {"unreadable": len(body)}


def _engine_value(key: str, value: Any, depth: int) -> Any:
    if isinstance(value, dict) and depth < DEEPEST:
        return {inner: _engine_value(inner, one, depth + 1) for inner, one in value.items()}
    if isinstance(value, int | float) or value is None:
        return value
    shown = isinstance(value, str) and key in PLAIN and len(value) <= MOST_SHOWN and value.isprintable()
    return value if shown else _measured(value)


def _measured(value: Any) -> Any:
    if isinstance(value, str):
        return f"<{len(value)} characters>" if value else value
    return f"<{len(json.dumps(value))} characters>" if value else value
