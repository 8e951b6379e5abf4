"""A service for each test, with a person of each role."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.served import Served, service_in


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A service with a made-up engine."""
    with service_in(tmp_path) as made:
        yield made
