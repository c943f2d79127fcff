"""How long requests wait for a server that is paused: ``python -m illness.waits``.

For each kind of client two figures: what the longest request took that was under way
when the server fell silent, and what those took that came later (the median and the
longest). Of the request's own time, waiting for a lock is not a part: nobody has it.
What is longer than it should be is marked, and makes the exit status 1.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import redis
import valkey
from doubles import CustomRedis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from servers import HOST, Cluster, Server

from smartredis_wsgi import SessionStore, StoreUnavailable

TIMEOUT = 1.0
TURNS = 20
FIRST_LIMIT, LATER_LIMIT = TIMEOUT + 0.1, 0.005
STUBBORN = Retry(ConstantBackoff(1), 10)


class Waits(NamedTuple):
    """In seconds."""

    first: float
    later: list[float]

    @property
    def are_short(self) -> bool:
        return self.first <= FIRST_LIMIT and max(self.later) <= LATER_LIMIT


def url(server: Server, _: float) -> dict[str, Any]:
    return {"url": server.url}


def own_class(server: Server, timeout: float) -> dict[str, Any]:
    client = CustomRedis.from_url(server.url, socket_timeout=timeout, retry=None)
    return {"client": client}


def that_retries(server: Server, timeout: float) -> dict[str, Any]:
    client = CustomRedis.from_url(
        server.url, socket_timeout=timeout, retry=STUBBORN, retry_on_timeout=True
    )
    return {"client": client}


def other_pool(server: Server, _: float) -> dict[str, Any]:
    pool = redis.BlockingConnectionPool.from_url(server.url, socket_timeout=3600)
    return {"client": redis.Redis(connection_pool=pool)}


def of_valkey(server: Server, _: float) -> dict[str, Any]:
    return {"client": valkey.Valkey.from_url(server.url)}


def cluster_url(cluster: Cluster, _: float) -> dict[str, Any]:
    return {"url": cluster.url}


def of_cluster(cluster: Cluster, _: float) -> dict[str, Any]:
    return {"client": redis.RedisCluster(host=HOST, port=cluster.nodes[0].port)}


ALONE: dict[str, Callable[[Server, float], dict[str, Any]]] = {
    "url": url,
    "own class, as short": own_class,
    "own class, 10 retries": that_retries,
    "other pool, an hour": other_pool,
    "valkey-py, no end": of_valkey,
}
IN_CLUSTER: dict[str, Callable[[Cluster, float], dict[str, Any]]] = {
    "Cluster URL": cluster_url,
    "RedisCluster, defaults": of_cluster,
}


@contextmanager
def all_paused(servers: list[Server]) -> Iterator[None]:
    with ExitStack() as open_:
        for server in servers:
            server.pause()
            open_.callback(server.resume)
        yield


def measure(
    servers: list[Server],
    options: dict[str, Any],
    lock: str,
    timeout: float,
    turns: int,
) -> Waits:
    store = SessionStore.from_config(timeout=timeout, lock=lock, **options)
    with store.open() as session:
        session["n"] = 1
    _request(store, session.id)
    with all_paused(servers):
        first, *later = [_request(store, session.id) for _ in range(turns + 1)]
    return Waits(first, later)


def _request(store: SessionStore, session_id: str) -> float:
    begun = time.monotonic()
    try:
        with store.open(session_id) as session:
            dict(session)
            session.incr("n")
    except StoreUnavailable:
        pass
    return time.monotonic() - begun


def main() -> None:
    print(f"timeout {TIMEOUT:g} s; in ms     first    later  longest")
    _show("at most", Waits(FIRST_LIMIT, [LATER_LIMIT]))
    fine = True
    with Server("valkey") as server, Cluster("valkey") as cluster:
        places: list[tuple[str, list[Server], dict[str, Any], str]] = []
        for lock in ("none", "single"):
            for name, make in ALONE.items():
                places.append((name, [server], make(server, TIMEOUT), lock))
            for name, make_in in IN_CLUSTER.items():
                options = make_in(cluster, TIMEOUT)
                places.append((name, cluster.nodes, options, lock))
        for name, servers, options, lock in places:
            cluster.wait()
            waits = measure(servers, options, lock, TIMEOUT, TURNS)
            _show(f"{name}{', lock' * (lock != 'none')}", waits)
            fine &= waits.are_short
    raise SystemExit(0 if fine else 1)


def _show(name: str, waits: Waits) -> None:
    middle, most = statistics.median(waits.later), max(waits.later)
    figures = (1000 * seconds for seconds in (waits.first, middle, most))
    line = f"{name:<29}{{:>8.1f}} {{:>8.2f}} {{:>8.2f}}".format(*figures)
    print(line + " !" * (not waits.are_short), flush=True)


if __name__ == "__main__":
    main()
