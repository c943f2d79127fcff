"""Sessions that were destroyed, and forgotten: ``python -m illness.eviction``.

Requests load their sessions and pause. All the sessions are destroyed; then others
fill the server's memory, under each policy, so that it evicts the tombstones, too; and
then the requests go on and commit. Nothing may be back.

The control stores a session whole. It heeds a tombstone, and where none is left it
takes what is not there for what has to be written.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from redis import Redis, RedisError
from servers import Server

from smartredis_wsgi import Session, SessionGone, SessionStore, StoreUnavailable

POLICIES = [
    "noeviction",
    *(f"{keys}-{by}" for keys in ("allkeys", "volatile") for by in ("lru", "lfu")),
    *("allkeys-random", "volatile-random", "volatile-ttl"),
]
LIFE = 600.0
SIZE = 1000
SPARE, LOAD = 250_000, 10  # bytes that are free, and how often they are filled


class Found(NamedTuple):
    """After all: of so many that were destroyed, how many tombstones were evicted."""

    destroyed: int
    evicted: int
    refused: int
    back: int
    control_back: int


class Naive:
    """The control: a key holds all of a session, or a tombstone."""

    GONE = b"destroyed"

    def __init__(self, client: Redis) -> None:
        self._client = client

    def load(self, name: str) -> bytes | None:
        found: bytes | None = self._client.get(f"naive:{name}")  # type: ignore[assignment]
        return found

    def save(self, name: str, blob: bytes) -> None:
        if self.load(name) != self.GONE:
            self._client.set(f"naive:{name}", blob, px=round(LIFE * 1000))

    def destroy(self, name: str) -> None:
        self._client.set(f"naive:{name}", self.GONE, px=round(LIFE * 1000))

    def is_back(self, name: str) -> bool:
        return self.load(name) not in (None, self.GONE)


def run(server: Server, policy: str, count: int) -> Found:
    store = SessionStore.from_config(
        url=server.fresh().url, on_gone="raise", delete_expiry=LIFE
    )
    with server.client() as admin, ExitStack() as requests:
        naive = Naive(admin)
        ids = [_new(store, naive) for _ in range(count)]
        sessions = [requests.enter_context(store.open(name)) for name in ids]
        assert all(map(dict, sessions))
        blobs = [naive.load(name) for name in ids]
        for name in ids:
            assert store.destroy(name)
            naive.destroy(name)
        _fill(admin, policy)
        evicted = count - sum(1 for _ in admin.scan_iter("session:*", count=1000))
        refused = sum(map(_is_refused, sessions))
        for name, blob in zip(ids, blobs, strict=True):
            with contextlib.suppress(RedisError):
                naive.save(name, blob or b"")
        admin.config_set("maxmemory", 0)
        admin.config_set("maxmemory-policy", "noeviction")
        back, control = _count(store, ids), sum(map(naive.is_back, ids))
    return Found(count, evicted, refused, back, control)


def _new(store: SessionStore, naive: Naive) -> str:
    with store.open() as session:
        session["user"] = "ann"
    naive.save(session.id, b"ann")
    return session.id


def _is_refused(session: Session) -> bool:
    """Whether a late commit is, as the session is gone."""
    session["late"] = True
    try:
        session.save()
    except (SessionGone, StoreUnavailable):
        session.forget()
        return True
    return False


def _fill(admin: Redis, policy: str) -> None:
    """Write what expires, as others would, until the memory was filled so often."""
    admin.config_set("maxmemory-policy", policy)
    used: int = admin.info("memory")["used_memory"]  # type: ignore[index]
    admin.config_set("maxmemory", used + SPARE)
    for turn in range(LOAD * SPARE // 10_000):
        pipe = admin.pipeline(transaction=False)
        for number in range(10):
            pipe.set(f"other {turn} {number}", b"x" * 1000, px=3_600_000)
        pipe.execute(raise_on_error=False)


def _count(store: SessionStore, ids: Sequence[str]) -> int:
    """How many are there."""
    found = 0
    for name in ids:
        with store.open(name) as session:
            found += bool(session)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=SIZE)
    count: int = parser.parse_args().sessions
    print("policy            destroyed  evicted  refused  back  control: back")
    with Server("valkey") as server:
        for policy in POLICIES:
            found = run(server, policy, count)
            print("{:<16} {:>10} {:>8} {:>8} {:>5} {:>14}".format(policy, *found))
            if found.back or (found.evicted and not found.control_back):
                raise SystemExit(f"{policy}: {found}")


if __name__ == "__main__":
    main()
