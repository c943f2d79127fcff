"""What a request costs in our own process: the answers come from memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from driver import Browser, fill, site
from redis import Redis
from replay import Replay

from smartredis_wsgi import Session, SessionMiddleware

pytestmark = pytest.mark.benchmark(
    group="in process", warmup=True, warmup_iterations=100
)


@pytest.fixture
def app(url: str) -> Iterator[SessionMiddleware]:
    with Redis.from_url(url) as server:
        yield SessionMiddleware(site, client=Replay(server))


def test_driver_alone(benchmark: Any) -> None:
    """No middleware: what the benchmark itself costs, in each of the others too."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["smartredis.session"] = {}
        return site(environ, start_response)

    benchmark(Browser(app).request, lambda _: None)


def test_untouched(benchmark: Any, browser: Browser) -> None:
    """The session is not touched."""
    benchmark(browser.request, lambda _: None)


def test_read(benchmark: Any, browser: Browser) -> None:
    """One field is read."""
    benchmark(browser.request, lambda session: session["user"])


def test_write(benchmark: Any, browser: Browser) -> None:
    """One field is set to another value, nothing is read."""
    numbers = count(1)

    def write(session: Session) -> None:
        session["seen"] = next(numbers)

    benchmark(browser.request, write)


def test_read_and_write(benchmark: Any, browser: Browser) -> None:
    """One field is read, another one changes inside its value."""
    numbers = count(1)

    def read_and_write(session: Session) -> None:
        session["cart"][0]["count"] = next(numbers) + session["user"]["id"]

    benchmark(browser.request, read_and_write)


def test_incr(benchmark: Any, browser: Browser) -> None:
    """One number is raised, nothing is read."""
    benchmark(browser.request, lambda session: session.incr("visits"))


def test_create(benchmark: Any, app: SessionMiddleware) -> None:
    """A client without a cookie gets a session with all fields."""
    benchmark(lambda: Browser(app).request(fill))
