"""Locks, each as one function: take the lock of that name, and get what releases it.

A lock is made of URLs: that of one server, or those of Redlock's masters. Every lock
lives for five seconds, is waited for as long as it takes, and is not renewed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redis import Redis

Take = Callable[[str], Callable[[], object]]

EXPIRY = 5
PATIENCE = 60.0  # longer than any contender waits

RELEASE = """
if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end
return 0
"""


def raw(urls: Sequence[str]) -> Take:
    """SET NX PX, once, and the script that releases it: the least a lock can cost."""
    client = _client(urls[0])
    release = client.register_script(RELEASE)

    def take(name: str) -> Callable[[], object]:
        token = secrets.token_urlsafe(18)
        if not client.set(f"raw:{name}", token, nx=True, px=EXPIRY * 1000):
            raise RuntimeError("it is taken")
        return partial(release, [f"raw:{name}"], [token])

    return take


def single(urls: Sequence[str]) -> Take:
    from smartredis_wsgi import SingleNodeLock

    lock = SingleNodeLock(urls[0], expiry=EXPIRY, wait=PATIENCE, timeout=PATIENCE)
    return lambda name: lock.acquire(f"ours:{name}").release


def redlock(urls: Sequence[str]) -> Take:
    from smartredis_wsgi import Redlock

    lock = Redlock(list(urls), expiry=EXPIRY, wait=PATIENCE)
    return lambda name: lock.acquire(name).release


def python_redis_lock(urls: Sequence[str]) -> Take:
    import redis_lock

    client = _client(urls[0])

    def take(name: str) -> Callable[[], object]:
        lock = redis_lock.Lock(client, f"python-redis-lock:{name}", expire=EXPIRY)
        lock.acquire()
        return lock.release

    return take


def redis_py(urls: Sequence[str]) -> Take:
    """With redis-py's own pause between two tries: 100 ms."""
    client = _client(urls[0])

    def take(name: str) -> Callable[[], object]:
        lock = client.lock(f"redis-py:{name}", timeout=EXPIRY)
        lock.acquire()
        return lock.release

    return take


def redlock_py(urls: Sequence[str]) -> Take:
    import redlock

    locks = redlock.Redlock([_client(url) for url in urls])

    def take(name: str) -> Callable[[], object]:
        lock: Any = locks.lock(f"redlock-py:{name}", EXPIRY * 1000)
        if not lock:
            raise RuntimeError("it is taken")
        return partial(locks.unlock, lock)

    return take


def pottery(urls: Sequence[str]) -> Take:
    from pottery import Redlock

    masters = {_client(url) for url in urls}

    def take(name: str) -> Callable[[], object]:
        lock = Redlock(key=name, masters=masters, auto_release_time=EXPIRY)
        lock.acquire()
        return lock.release

    return take


def _client(url: str) -> Redis:
    return Redis.from_url(url, socket_timeout=PATIENCE)
