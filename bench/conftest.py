"""The servers for pytest-benchmark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from world import World


def pytest_configure(config: pytest.Config) -> None:
    """What other packages warn of is not ours to mend."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World() as world:
        yield world
