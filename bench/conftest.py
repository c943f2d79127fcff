"""Servers for the benchmarks, in processes of their own, and sites that use them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from driver import Browser, fill, site

from smartredis_wsgi import SessionMiddleware

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from servers import Server

LOCKS = ["none", "single", "redlock"]
MASTERS = 3


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with Server("valkey") as server:
        yield server.url


@pytest.fixture(scope="session")
def masters() -> Iterator[list[str]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Server("valkey")).url for _ in range(MASTERS)]


@pytest.fixture(params=LOCKS)
def app(
    request: pytest.FixtureRequest, benchmark: Any, url: str, masters: list[str]
) -> SessionMiddleware:
    """A site, once with each lock strategy, which is the benchmark's group."""
    benchmark.group = f"lock: {request.param}"
    nodes = masters if request.param == "redlock" else None
    return SessionMiddleware(
        site, url=url, lock=request.param, lock_nodes=nodes, timeout=10
    )


@pytest.fixture
def browser(app: SessionMiddleware) -> Browser:
    """A client whose session is filled."""
    browser = Browser(app)
    browser.request(fill)
    return browser
