from __future__ import annotations

import pytest

from broker.model.traffic import Interest
from broker.ocpp.dialect import Dialect
from broker.ocpp.dialects import BY_NAME


def test_the_three_we_understand() -> None:
    assert list(BY_NAME) == ["ocpp1.6", "ocpp2.0.1", "ocpp2.1"]
    assert all(name == dialect.name for name, dialect in BY_NAME.items())


@pytest.mark.parametrize("dialect", BY_NAME.values(), ids=BY_NAME)
def test_interests_hold_together(dialect: Dialect) -> None:
    for interest in (dialect.interest, dialect.identification):
        assert isinstance(interest, Interest)
        assert interest.promised
        assert interest.promised <= interest.at_call | interest.at_answer
        assert not interest.guarded & (interest.promised | interest.at_call | interest.proof), "guarded CALLs are the CPMS's"
    assert dialect.interest.guarded <= dialect.charging.actions, "what is guarded must be read"
    assert not dialect.charging.actions & (dialect.interest.at_call | dialect.interest.proof)


def test_no_version_takes_another_s_name() -> None:
    assert len({id(dialect) for dialect in BY_NAME.values()}) == 3
