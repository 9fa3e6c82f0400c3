"""One service with innocents for all rows that leave it as it was; its log is looked through when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.outside import Innocents, Outside, Service
from faults.slow import Slow
from faults.tls import Renewal


@pytest.fixture(scope="session")
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder: Path = tmp_path_factory.mktemp("service")
    with Service(folder) as service:
        innocents = Innocents(service)
        yield Outside(service, innocents)
        innocents.stop()
        assert service.stop() == 0
        assert service.errors() == []


@pytest.fixture
def outside(_service: Outside) -> Iterator[Outside]:
    """The service that all share; after each row it still lives and its log holds no error."""
    yield _service
    assert _service.service.get("/readyz")["ready"]
    assert _service.service.errors() == []


@pytest.fixture(scope="session", autouse=True)
def slow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow | None]:
    """The stories that wait run from the beginning on, if any test wants them; and to their end, whichever of them were wanted."""
    wanted = any("slow" in getattr(item, "fixturenames", ()) and item.path.name == "test_waiting.py" for item in request.session.items)
    slow = Slow(tmp_path_factory.mktemp("slow")) if wanted else None
    yield slow
    if slow is not None:
        slow.of("all")


@pytest.fixture(scope="session", autouse=True)
def renewal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Renewal | None:
    """The same, for certificates that change."""
    wanted = any(item.name.startswith("test_row_53_54") for item in request.session.items)
    return Renewal(tmp_path_factory.mktemp("renewal")) if wanted else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They are judged last."""
    items.sort(key=lambda item: item.path.parent.name == "faults" and (item.path.name == "test_waiting.py" or "row_53_54" in item.name))
