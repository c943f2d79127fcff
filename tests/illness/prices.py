"""What safety costs a request that meets no illness: ``python -m illness.prices``.

Prints the medians, in microseconds, of requests made in turn: without it and with it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from servers import HOST, Server, wait_for_link

from smartredis_wsgi import SessionStore

from .waits import own_class, that_retries

TURNS = 500


class Price(NamedTuple):
    """In seconds, of each turn."""

    without: list[float]
    with_it: list[float]

    def __str__(self) -> str:
        medians = (1e6 * statistics.median(seconds) for seconds in self)
        return "{:>9.0f} {:>9.0f}".format(*medians)


Act = Callable[[SessionStore], float]
"""One request: its seconds."""


def read(session_id: str, store: SessionStore) -> float:
    begun = time.perf_counter()
    with store.open(session_id) as session:
        session.get("n")
    return time.perf_counter() - begun


def destroy(store: SessionStore) -> float:
    session_id = new_session(store)
    begun = time.perf_counter()
    store.destroy(session_id)
    return time.perf_counter() - begun


def rotate(store: SessionStore) -> float:
    session_id = new_session(store)
    begun = time.perf_counter()
    with store.open(session_id) as session:
        session.regenerate_id()
    return time.perf_counter() - begun


def new_session(store: SessionStore) -> str:
    with store.open() as session:
        session["n"] = 1
    return session.id


def price(act: Act, without: SessionStore, with_it: SessionStore, turns: int) -> Price:
    pairs = [(act(without), act(with_it)) for _ in range(turns + turns // 10)]
    without_it, with_that = zip(*pairs[turns // 10 :], strict=True)
    return Price(list(without_it), list(with_that))


@contextmanager
def copied(server: Server) -> Iterator[None]:
    """While a replica copies it."""
    with Server(server.name) as replica, replica.client() as admin:
        admin.replicaof(HOST, server.port)
        wait_for_link(replica)
        yield


def prices(turns: int) -> Iterator[tuple[str, Price]]:
    with Server("valkey", "--repl-diskless-sync-delay", "0") as server:
        asked, handed_over = (
            SessionStore.from_config(timeout=1.0, **make(server, 1.0))
            for make in (own_class, that_retries)
        )
        reads = partial(read, new_session(asked))
        yield "a question handed over: read", price(reads, asked, handed_over, turns)
        one = SessionStore.from_config(url=server.url)
        two = SessionStore.from_config(url=server.url, wait_replicas=1)
        with copied(server):
            for act in (destroy, rotate):
                found = price(act, one, two, turns)
                yield f"wait_replicas=1: {act.__name__}", found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=TURNS)
    print(f"{'median, in µs':<31}{'without':>9} {'with':>9}")
    for name, found in prices(parser.parse_args().turns):
        print(f"{name:<31}{found}", flush=True)


if __name__ == "__main__":
    main()
