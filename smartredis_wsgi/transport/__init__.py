"""How commands travel: on connections that are held here, or through any client.

Both answer a batch of commands in one round trip, and a refusal is an answer like any
other. Most of what a request costs is the client's own work around its socket. So with
a plain `redis.Redis`, Sentinel's too, connections like its own are made and held here,
beside its pool: redis-py's, with its TLS, its credentials, its parser. A client of
another kind, or of a class that does more, is asked itself: a Cluster's, fakeredis, an
instrumented one. Whatever it is, nobody waits for it any longer than `timeout`.
"""

from typing import Any

from redis import ConnectionPool, Redis
from redis.sentinel import SentinelConnectionPool

from .any_client import AnyClient
from .held import HeldConnections
from .protocol import (
    Command,
    Transport,
    Word,
    is_called,
    is_redis_pys,
    is_refusal,
    is_timeout,
)
from .silence import Unasked

__all__ = [
    "Command",
    "HeldConnections",
    "Transport",
    "Unasked",
    "Word",
    "is_called",
    "is_refusal",
    "is_timeout",
    "transport_for",
]


def transport_for(client: Any, timeout: float) -> Transport:
    """The fastest way that the client allows. No command is sent.

    Args:
        timeout: The longest wait for an answer, in seconds.
    """
    kind = HeldConnections if _is_plain(client) else AnyClient
    return kind(client, timeout)


def _is_plain(client: Any) -> bool:
    """Whether all it does with a command is to send it on a connection of its pool."""
    kind = type(client)
    return (
        isinstance(client, Redis)
        and kind.execute_command is Redis.execute_command
        and kind.pipeline is Redis.pipeline
        and is_redis_pys(Redis.execute_command)
        and is_redis_pys(Redis.pipeline)
        and not {"execute_command", "pipeline"} & vars(client).keys()
        and type(client.connection_pool) in (ConnectionPool, SentinelConnectionPool)
        and "fakeredis" not in kind.__module__
    )
