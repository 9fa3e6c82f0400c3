"""The OCPP versions we understand, by WebSocket subprotocol: the only list. Any other version is relayed, and not tapped."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from broker.ocpp.dialect import Dialect
from broker.ocpp.v16 import V16
from broker.ocpp.v21 import V21
from broker.ocpp.v201 import V201

_KNOWN: Final[tuple[Dialect, ...]] = (V16(), V201(), V21())

BY_NAME: Final[Mapping[str, Dialect]] = MappingProxyType({dialect.name: dialect for dialect in _KNOWN})
