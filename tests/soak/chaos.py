"""What befalls the servers while the processes work."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from illness.states import full, killed, paused, read_only
from redis import Redis, RedisError
from servers import Server, wait_until

SECONDS = 30.0
KEEPING = ("--appendonly", "yes", "--appendfsync", "no")
"""So that a server which is killed has all it acknowledged when it starts again."""


def _flush_scripts(admin: Redis) -> None:
    admin.script_flush()


def _close_connections(admin: Redis) -> None:
    admin.client_kill_filter(_type="normal", skipme=True)


MOMENTS: dict[str, Callable[[Redis], None]] = {
    "scripts flushed": _flush_scripts,
    "connections closed by the server": _close_connections,
}
STATES: dict[str, Callable[[Server, list], AbstractContextManager[object]]] = {  # type: ignore[type-arg]
    "server paused": paused,
    "server full": full,
    "server read-only": read_only,
    "server killed": killed,
}
OFTEN = {
    "scripts flushed": 6,
    "connections closed by the server": 6,
    "server paused": 3,
    "server full": 3,
    "server read-only": 3,
    "server killed": 1,
}


class Chaos:
    """A thread that lets one thing after the other befall one of the servers.

    At the end of the ``with`` block all are well again.
    """

    def __init__(self, servers: Sequence[Server], dice: random.Random) -> None:
        self._servers, self._dice = servers, dice
        is_cluster = len(servers) > 1  # whose nodes are nobody's replica by REPLICAOF
        without = {"server read-only", "server killed"} if is_cluster else set()
        self._often = {kind: n for kind, n in OFTEN.items() if kind not in without}
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self.done: Counter[str] = Counter()

    def __enter__(self) -> Chaos:
        self._thread = threading.Thread(target=self._rage, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(SECONDS)
        if self._failure:
            raise self._failure
        for server in self._servers:
            with server.client() as admin:
                wait_until(lambda admin=admin: _answers(admin), SECONDS, "recovery")  # type: ignore[misc]

    def _rage(self) -> None:
        try:
            while not self._over.wait(self._dice.uniform(0.02, 0.2)):
                server = self._dice.choice(self._servers)
                (kind,) = self._dice.choices(*zip(*self._often.items(), strict=True))
                self._befall(server, kind)
                self.done[kind] += 1
        except BaseException as failure:
            self._failure = failure

    def _befall(self, server: Server, kind: str) -> None:
        if kind in MOMENTS:
            with server.client() as admin:
                MOMENTS[kind](admin)
        else:
            with STATES[kind](server, []):
                self._over.wait(self._dice.uniform(0.02, 0.2))


def _answers(admin: Redis) -> bool:
    try:
        return bool(admin.ping())
    except RedisError:
        return False
