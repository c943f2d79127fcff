"""One request through the middleware and a real server on loopback, by what it does.

Each of them includes the in-process cost, which test_in_process.py shows alone.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from driver import Browser, fill

from smartredis_wsgi import Session, SessionMiddleware

THREADS = 4

pytestmark = pytest.mark.benchmark(warmup=True, warmup_iterations=100)


def test_untouched(benchmark: Any, browser: Browser) -> None:
    """The session is not touched: no round trip."""
    benchmark(browser.request, lambda _: None)


def test_read(benchmark: Any, browser: Browser) -> None:
    """One field is read; all are loaded."""
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


def test_regenerate(benchmark: Any, browser: Browser) -> None:
    """The session gets a new id."""
    benchmark(browser.request, Session.regenerate_id)


def test_destroy(benchmark: Any, app: SessionMiddleware) -> None:
    """A session is destroyed; that it was made before is not measured."""

    def log_in() -> tuple[tuple[Any, ...], dict[str, Any]]:
        browser = Browser(app)
        browser.request(fill)
        return (browser,), {}

    def log_out(browser: Browser) -> None:
        browser.request(Session.destroy)

    benchmark.pedantic(log_out, setup=log_in, rounds=500)


def test_contended(benchmark: Any, app: SessionMiddleware, browser: Browser) -> None:
    """Four threads at once read the same session and count up: until all are done."""
    browsers = [Browser(app, browser.cookie) for _ in range(THREADS)]
    rounds = count()

    def visit(session: Session) -> None:
        assert session["user"]
        session.incr("visits")

    def all_at_once(pool: ThreadPoolExecutor) -> None:
        next(rounds)
        list(pool.map(lambda browser: browser.request(visit), browsers))

    with ThreadPoolExecutor(THREADS) as pool:
        benchmark.pedantic(all_at_once, args=(pool,), rounds=40)

    counted: list[int] = []
    browser.request(lambda session: counted.append(session["visits"]))
    assert counted == [THREADS * next(rounds)]
