"""Two who hold one lock at the same time: ``python -m illness.holders``.

A holder reads a counter and is kept from writing it until another has got the lock,
counted on and left; then it counts on, too. How it comes that there are two:

* *clock*: the lock expires, and the first one's clock jumps back by an hour;
* *restart*: the lock's servers, or two of the three, forget what they had;
* *stopped*: the lock expires while the first one's process is stopped (SIGSTOP), when
  it is about to send its commit.

The control takes the same locks, and trusts in them.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol
from unittest import mock

import redis
from servers import Server, wait_until

from smartredis_wsgi import LockLost, Redlock, SessionStore, SingleNodeLock

EXPIRY = 0.25
LONG = 60.0
SECONDS = 20.0
COUNT = 40
Between = Callable[[], object]


class Found(NamedTuple):
    """Of so many double holders, what became of those who came too late."""

    forced: int
    refused: int
    overwrote: int


class StoppingConnection(redis.Connection):
    """A connection of a process that stops before it sends, once it is told to."""

    is_armed = False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if StoppingConnection.is_armed:
            StoppingConnection.is_armed = False
            os.kill(os.getpid(), signal.SIGSTOP)
        super().send_packed_command(command, check_health)


class Ground:
    """A server for the records, and three for locks."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self.server = self._open.enter_context(Server("valkey"))
        self.nodes = [self._open.enter_context(Server("valkey")) for _ in range(3)]

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def strategy(self, name: str, expiry: float) -> Any:
        if name == "redlock":
            return Redlock([node.url for node in self.nodes], expiry=expiry)
        place = self.server if name == "single" else self.nodes[0]
        return SingleNodeLock(place.url, expiry=expiry)

    def forget(self) -> None:
        for node in self.nodes[:2]:
            node.kill()
            node.start()

    def await_expiry(self) -> None:
        for server in (self.server, *self.nodes):
            with server.client() as admin:
                wait_until(lambda a=admin: not a.keys("lock:*"), SECONDS, "its expiry")  # type: ignore[misc]


class Holder(Protocol):
    """Whoever counts under a lock."""

    def make(self) -> str:
        """A new counter's name; it is 0."""

    def count(self, name: str, between: Between) -> bool:
        """Whether it could, as far as one is told."""

    def look(self, name: str) -> int:
        """Where the counter is."""


class Ours:
    def __init__(self, ground: Ground, lock: str, expiry: float) -> None:
        near = lock == "single"
        self._store = SessionStore.from_config(
            client=_client(ground.server),
            lock=lock if near else ground.strategy(lock, expiry),
            lock_expiry=expiry,
        )

    def make(self) -> str:
        with self._store.open() as session:
            session["n"] = 0
        return session.id

    def count(self, name: str, between: Between) -> bool:
        try:
            with self._store.open(name) as session:
                read = session["n"]
                between()
                session["n"] = read + 1
        except LockLost:
            return False
        return True

    def look(self, name: str) -> int:
        with self._store.open(name) as session:
            return int(session["n"])


class Trusting:
    def __init__(self, ground: Ground, lock: str, expiry: float) -> None:
        self._client = _client(ground.server)
        self._lock = ground.strategy(lock, expiry)
        self._made = 0

    def make(self) -> str:
        self._made += 1
        name = f"{{counter {self._made}}}"
        self._client.set(name, 0, px=60_000)
        return name

    def count(self, name: str, between: Between) -> bool:
        lease = self._lock.acquire(name)
        read = self.look(name)
        between()
        self._client.set(name, read + 1, px=60_000)
        lease.release()
        return True

    def look(self, name: str) -> int:
        return int(self._client.get(name) or 0)  # type: ignore[arg-type]


def _client(server: Server) -> redis.Redis:
    return redis.Redis.from_url(server.url, connection_class=StoppingConnection)


def _nothing() -> None:
    """Between the read and the write of somebody who is not disturbed."""


def by_clock(ground: Ground, holder: Holder, name: str) -> bool:
    with ExitStack() as until_then:

        def between() -> None:
            ground.await_expiry()
            assert holder.count(name, _nothing)
            until_then.enter_context(_an_hour_ago())

        return holder.count(name, between)


@contextmanager
def _an_hour_ago() -> Iterator[None]:
    now = time.monotonic

    def then() -> float:
        return now() - 3600

    with mock.patch("time.monotonic", then):
        yield


def by_restart(ground: Ground, holder: Holder, name: str) -> bool:
    def between() -> None:
        ground.forget()
        assert holder.count(name, _nothing)

    return holder.count(name, between)


def by_stop(ground: Ground, holder: Holder, name: str) -> bool:
    def between() -> None:
        StoppingConnection.is_armed = True

    child = os.fork()
    if child == 0:
        status = 2
        try:
            status = int(holder.count(name, between))
        finally:
            os._exit(status)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    ground.await_expiry()
    assert holder.count(name, _nothing)
    os.kill(child, signal.SIGCONT)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 1), code
    return bool(code)


CASES: list[tuple[str, str, Callable[[Ground, Holder, str], bool]]] = [
    ("clock", "single", by_clock),
    ("clock", "single, elsewhere", by_clock),
    ("clock", "redlock", by_clock),
    ("restart", "single, elsewhere", by_restart),
    ("restart", "redlock", by_restart),
    ("stopped", "single", by_stop),
    ("stopped", "single, elsewhere", by_stop),
    ("stopped", "redlock", by_stop),
]
HOLDERS: dict[str, type[Ours] | type[Trusting]] = {"ours": Ours, "control": Trusting}


def run(ground: Ground, case: int, kind: str, count: int) -> Found:
    """So many double holders, one after the other."""
    why, lock, force = CASES[case]
    holder = HOLDERS[kind](ground, lock, LONG if why == "restart" else EXPIRY)
    refused = overwrote = 0
    for _ in range(count):
        name = holder.make()
        is_done = force(ground, holder, name)
        refused += not is_done
        overwrote += is_done and holder.look(name) != 2
        assert is_done or holder.look(name) == 1
    return Found(count, refused, overwrote)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    count: int = parser.parse_args().count
    print("why      lock               forced  LockLost  overwrote  control: overwrote")
    with Ground() as ground:
        for case, (why, lock, _) in enumerate(CASES):
            ours, theirs = (run(ground, case, kind, count) for kind in HOLDERS)
            line = "{:<8} {:<18} {:>6} {:>9} {:>10} {:>19}"
            print(line.format(why, lock, *ours, theirs.overwrote), flush=True)
            if ours.overwrote or not theirs.overwrote:
                raise SystemExit(f"{why}, {lock}: {ours}, control {theirs}")


if __name__ == "__main__":
    main()
