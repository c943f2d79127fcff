"""The illnesses: how each is brought about, and how it ends.

A *state* lasts from `harm` to `heal` and hits all requests at once; an *accident* hits
one request, at the proxy that it goes by.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from doubles import Fault, FlakyProxy
from redis import Redis
from servers import Cluster, Server, free_port, wait_until

SECONDS = 10.0
LOADING = "LOADING Redis is loading the dataset in memory"
Proxies = Sequence[FlakyProxy]
Harm = Callable[[Server, Proxies], AbstractContextManager[object]]


@contextlib.contextmanager
def killed(server: Server, _: Proxies) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextlib.contextmanager
def cut_off(_: Server, proxies: Proxies) -> Iterator[None]:
    for proxy in proxies:
        proxy.cut()
    yield
    for proxy in proxies:
        proxy.restore()


@contextlib.contextmanager
def paused(server: Server, _: Proxies) -> Iterator[None]:
    """What was sent meanwhile is executed at the end."""
    server.pause()
    try:
        yield
    finally:
        server.resume()
    with server.client() as client:
        for _turn in range(3):  # each turn of its event loop serves all that wait
            client.ping()


@contextlib.contextmanager
def all_paused(cluster: Cluster) -> Iterator[None]:
    with contextlib.ExitStack() as open_:
        for node in cluster.nodes:
            open_.enter_context(paused(node, ()))
        yield
    cluster.wait()


@contextlib.contextmanager
def black_holed(_: Server, proxies: Proxies) -> Iterator[None]:
    for proxy in proxies:
        proxy.black_hole()
    yield
    for proxy in proxies:
        proxy.restore()


@contextlib.contextmanager
def loading(_: Server, proxies: Proxies) -> Iterator[None]:
    for proxy in proxies:
        proxy.refuse(LOADING)
    yield
    for proxy in proxies:
        proxy.restore()


def slow_to_load() -> Server:
    """A server for `reloading`. Redis 6.2 hears nobody so early in a dump."""
    interval = ("--loading-process-events-interval-bytes", "1024")
    return Server("valkey", *interval, "--enable-debug-command", "yes")


@contextlib.contextmanager
def reloading(server: Server, _: Proxies) -> Iterator[None]:
    """A server that reads its dump, and is not done before the end."""
    with server.client() as admin, server.client() as other, ThreadPoolExecutor() as on:
        admin.config_set("key-load-delay", 20_000)
        ballast = {f"ballast {number}": os.urandom(2000) for number in range(1000)}
        admin.mset(ballast)
        reloaded = on.submit(other.execute_command, "DEBUG", "RELOAD")
        wait_until(lambda: _is_loading(server), SECONDS, "LOADING")
        try:
            yield
        finally:
            admin.config_set("key-load-delay", 0)
            reloaded.result(SECONDS)
        admin.delete(*ballast)


def _is_loading(server: Server) -> bool:
    return server.ask(b"GET ballast\r\n").startswith(b"-LOADING")


@contextlib.contextmanager
def read_only(server: Server, _: Proxies) -> Iterator[None]:
    """A replica that has lost its master, as after a failover."""
    with server.client() as admin:
        admin.replicaof("127.0.0.1", free_port())
        try:
            yield
        finally:
            admin.replicaof("NO", "ONE")


@contextlib.contextmanager
def full(server: Server, _: Proxies) -> Iterator[None]:
    with server.client() as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", 1)
        try:
            yield
        finally:
            admin.config_set("maxmemory", 0)


@contextlib.contextmanager
def misconfigured(server: Server, _: Proxies) -> Iterator[None]:
    """A server that can't write its dump: a folder is in the place of the file."""
    with server.client(decode_responses=True) as admin:
        dump = Path(admin.config_get("dir")["dir"], "dump.rdb")
        dump.mkdir()
        admin.config_set("save", "3600 1")
        try:
            admin.bgsave()
            wait_until(lambda: not _saves(admin), SECONDS, "a failed BGSAVE")
            yield
        finally:
            admin.config_set("save", "")
            dump.rmdir()


def _saves(admin: Redis) -> bool:
    told: Any = admin.info("persistence")
    return bool(told["rdb_last_bgsave_status"] != "err")


@contextlib.contextmanager
def without_a_slot(cluster: Cluster) -> Iterator[None]:
    """A Cluster of which one slot is nobody's: each node refuses everything."""
    slot = 16383
    try:
        for node in cluster.nodes:
            with node.client() as admin:
                admin.execute_command("CLUSTER DELSLOTS", slot)
                wait_until(
                    lambda admin=admin: not _is_ok(admin),  # type: ignore[misc]
                    SECONDS,
                    f"{node!r} down",
                )
        yield
    finally:
        with cluster.nodes[-1].client() as admin:
            admin.execute_command("CLUSTER ADDSLOTS", slot)
        cluster.wait()


def _is_ok(admin: Redis) -> bool:
    told: Any = admin.execute_command("CLUSTER INFO")
    state = told.get("cluster_state", told.get(b"cluster_state"))
    return state in ("ok", b"ok")


STATES: dict[str, Harm] = {
    "down": killed,
    "cut off": cut_off,
    "paused": paused,
    "black hole": black_holed,
    "`LOADING`": loading,
    "`READONLY`": read_only,
    "`OOM`": full,
    "`MISCONF`": misconfigured,
}


@contextlib.contextmanager
def some_ill(state: str, servers: Sequence[Server], proxies: Proxies) -> Iterator[None]:
    """All of these are in that state, each behind a proxy."""
    with contextlib.ExitStack() as open_:
        for server, proxy in zip(servers, proxies, strict=True):
            open_.enter_context(STATES[state](server, [proxy]))
        yield


HANGING = {"paused", "black hole", "reply too late"}


def _arming(fault: Fault) -> Callable[[FlakyProxy, Redis], object]:
    return lambda proxy, _: proxy.arm(fault, late=60)


ACCIDENTS: dict[str, Callable[[FlakyProxy, Redis], object]] = {
    "request lost": _arming(Fault.NO_REQUEST),
    "reply lost": _arming(Fault.NO_REPLY),
    "half a reply": _arming(Fault.HALF_REPLY),
    "reply too late": _arming(Fault.LATE_REPLY),
    "scripts flushed": lambda _, admin: admin.script_flush(),
}
NOT_REPEATED = {
    "request lost": ("gives up", "never gives up"),
    "reply lost": ("gives up", "never gives up"),
    "half a reply": ("gives up", "never gives up"),
    "reply too late": ("url", "gives up", "never gives up"),
}
"""The clients that do not send again what such an accident has hit."""
