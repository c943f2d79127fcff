"""Every lock strategy keeps one contract; each keeps some promises of its own.

The contract is two suites that the strategies' tests inherit: what holds for all of
them, and what holds for those that exclude. What sessions make of a lock stands last.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
import redis as redis_py
import redis_lock
from conftest import Backend
from doubles import FlakyProxy, counting_client, slow_connection
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import Cluster, Monitor, Server, wait_until

from smartredis_wsgi import (
    ConfigError,
    LockLost,
    LockStrategy,
    LockTimeout,
    NoLock,
    Redlock,
    Session,
    SessionMiddleware,
    SessionStore,
    SingleNodeLock,
    StoreUnavailable,
)
from smartredis_wsgi.config import Config
from smartredis_wsgi.ids import new_id
from smartredis_wsgi.locks import redlock
from smartredis_wsgi.locks.strategy import Renewal
from smartredis_wsgi.wire import Patience

NAME = "{cart}blue"
OTHER = "{cart}green"
LOCK, SIGNAL = f"lock:{NAME}", f"lock-signal:{NAME}"
SOON = 10.0  # by then what has to happen has happened, on any machine
LONG = {"wait": 60.0, "retry_time": 50.0, "timeout": 120.0}  # no poll within 25 s


@dataclass
class Ground:
    """What a strategy stands on: how to make one, and the servers it uses."""

    make: Callable[..., Any]
    clients: list[Any] = field(default_factory=list)

    def tokens(self, name: str = NAME) -> list[bytes | None]:
        return [client.get(f"lock:{name}") for client in self.clients]

    def is_free(self, name: str = NAME) -> bool:
        return not any(self.tokens(name))

    def lose(self, name: str = NAME) -> None:
        for client in self.clients:
            client.delete(f"lock:{name}")

    def usurp(self, name: str = NAME) -> None:
        for client in self.clients:
            client.set(f"lock:{name}", b"another", px=60_000)

    def left_ms(self, name: str = NAME) -> list[int]:
        return [client.pttl(f"lock:{name}") for client in self.clients]


def _await_free(ground: Ground, name: str = NAME) -> None:
    wait_until(lambda: ground.is_free(name), SOON, "the lock's expiry")


def _await_blocked(client: redis_py.Redis, waiters: int = 1) -> None:
    """Returns when so many clients block in a BLPOP."""
    wait_until(
        lambda: client.info("clients")["blocked_clients"] == waiters,
        SOON,
        f"{waiters} waiting",
    )


# -- the contract --------------------------------------------------------------------


class LockContract:
    """What every strategy promises, also one that excludes nobody."""

    def test_it_satisfies_the_protocol(self, ground: Ground) -> None:
        assert isinstance(ground.make(), LockStrategy)

    def test_a_lease_ends_in_the_future(self, ground: Ground) -> None:
        lease = ground.make().acquire(NAME)
        assert lease.deadline > time.monotonic()
        lease.release()

    def test_a_held_lease_can_be_extended(self, ground: Ground) -> None:
        lease = ground.make().acquire(NAME)
        assert lease.extend() is None
        assert lease.deadline > time.monotonic()
        lease.release()

    def test_releasing_twice_is_silent(self, ground: Ground) -> None:
        lease = ground.make().acquire(NAME)
        assert lease.release() is None
        assert lease.release() is None

    def test_it_can_be_taken_again_after_a_release(self, ground: Ground) -> None:
        lock = ground.make(wait=0)
        lock.acquire(NAME).release()
        lock.acquire(NAME).release()

    def test_one_strategy_holds_several_keys_at_once(self, ground: Ground) -> None:
        lock = ground.make(wait=0)
        leases = [lock.acquire(NAME), lock.acquire(OTHER)]
        for lease in leases:
            lease.release()


class ExclusiveLockContract(LockContract):
    """What every strategy promises that lets one in at a time."""

    def test_it_excludes_others(self, ground: Ground) -> None:
        lease = ground.make().acquire(NAME)
        before = ground.tokens()
        with pytest.raises(LockTimeout):
            ground.make(wait=0.05).acquire(NAME)
        assert ground.tokens() == before
        lease.release()

    def test_it_excludes_its_own_second_acquire(self, ground: Ground) -> None:
        lock = ground.make(wait=0)
        lease = lock.acquire(NAME)
        with pytest.raises(LockTimeout):
            lock.acquire(NAME)
        lease.release()

    def test_a_key_excludes_no_other_key(self, ground: Ground) -> None:
        lease = ground.make().acquire(NAME)
        other = ground.make(wait=0).acquire(OTHER)
        other.release()
        assert any(ground.tokens(NAME))
        lease.release()

    def test_a_waiter_gets_it_after_the_release(self, ground: Ground) -> None:
        held = ground.make().acquire(NAME)
        waiting = threading.Event()

        def take() -> Any:
            waiting.set()
            return ground.make(wait=30).acquire(NAME)

        with ThreadPoolExecutor() as pool:
            future = pool.submit(take)
            assert waiting.wait(SOON)
            assert not future.done()
            held.release()
            lease = future.result(SOON)
        assert any(ground.tokens())
        lease.release()
        assert ground.is_free()

    def test_a_release_leaves_no_lock(self, ground: Ground) -> None:
        ground.make().acquire(NAME).release()
        assert ground.is_free()

    def test_every_lock_has_an_expiry_in_milliseconds(self, ground: Ground) -> None:
        lease = ground.make(expiry=0.15).acquire(NAME)
        for left in ground.left_ms():
            assert left == -2 or 0 < left <= 150  # -2: it has just expired
        _await_free(ground)
        lease.release()

    def test_a_holder_that_died_keeps_it_for_the_expiry_at_most(
        self, ground: Ground
    ) -> None:
        ground.make(expiry=0.15).acquire(NAME)
        ground.make(wait=30).acquire(NAME).release()

    def test_releasing_an_expired_lock_is_silent(self, ground: Ground) -> None:
        lease = ground.make(expiry=0.15).acquire(NAME)
        _await_free(ground)
        assert lease.release() is None

    def test_a_release_never_deletes_anothers_lock(self, ground: Ground) -> None:
        late = ground.make(expiry=0.15).acquire(NAME)
        _await_free(ground)
        lease = ground.make(expiry=60).acquire(NAME)
        theirs = ground.tokens()
        late.release()
        assert ground.tokens() == theirs
        assert any(theirs)
        lease.release()

    def test_an_extension_prolongs_the_lock_and_its_deadline(
        self, ground: Ground
    ) -> None:
        lease = ground.make(expiry=60).acquire(NAME)
        for client in ground.clients:
            client.pexpire(LOCK, 30_000)
        before = lease.deadline
        lease.extend()
        assert lease.deadline > before
        assert all(30_000 < left <= 60_000 for left in ground.left_ms())
        lease.release()

    def test_the_deadline_is_no_later_than_the_servers_own(
        self, ground: Ground
    ) -> None:
        lease = ground.make(expiry=60).acquire(NAME)
        for _ in range(2):
            left = min(left + 1 for left in ground.left_ms()) / 1000
            assert lease.deadline <= time.monotonic() + left
            lease.extend()
        lease.release()

    def test_a_lock_that_expired_cannot_be_extended(self, ground: Ground) -> None:
        lease = ground.make(expiry=0.15).acquire(NAME)
        _await_free(ground)
        with pytest.raises(LockLost):
            lease.extend()
        assert ground.is_free()

    def test_a_lock_that_was_deleted_cannot_be_extended(self, ground: Ground) -> None:
        lease = ground.make().acquire(NAME)
        ground.lose()
        with pytest.raises(LockLost):
            lease.extend()
        assert ground.is_free()

    def test_a_lock_that_is_anothers_cannot_be_extended(self, ground: Ground) -> None:
        lease = ground.make(expiry=120).acquire(NAME)
        ground.usurp()
        with pytest.raises(LockLost):
            lease.extend()
        assert set(ground.tokens()) == {b"another"}
        assert all(left <= 60_000 for left in ground.left_ms())
        lease.release()
        assert set(ground.tokens()) == {b"another"}

    def test_every_lease_has_a_token_of_its_own(self, ground: Ground) -> None:
        lock = ground.make()
        tokens = set()
        for _ in range(3):
            lease = lock.acquire(NAME)
            tokens.update(ground.tokens())
            lease.release()
        assert len(tokens) == 3

    def test_the_lock_lies_at_the_key_that_python_redis_lock_uses(
        self, ground: Ground
    ) -> None:
        lease = ground.make().acquire(NAME)
        found = [list(client.scan_iter(match="lock*")) for client in ground.clients]
        assert found == [[LOCK.encode()]] * len(ground.clients)
        lease.release()

    def test_threads_that_share_a_strategy_are_let_in_one_at_a_time(
        self, ground: Ground
    ) -> None:
        lock, inside, seen = ground.make(wait=60, retry_time=0.01), [], []

        def visit(number: int) -> None:
            lease = lock.acquire(NAME)
            inside.append(number)
            seen.append(len(inside))
            inside.remove(number)
            lease.release()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(visit, range(16)))
        assert seen == [1] * 16


class TestNoLock(LockContract):
    @pytest.fixture
    def ground(self) -> Ground:
        return Ground(lambda **_: NoLock())

    def test_it_excludes_nobody(self) -> None:
        lock = NoLock()
        first, second = lock.acquire(NAME), lock.acquire(NAME)
        first.release()
        second.extend()

    def test_its_lease_never_ends(self) -> None:
        assert NoLock().acquire(NAME).deadline == math.inf


class TestSingleNodeLock(ExclusiveLockContract):
    @pytest.fixture
    def ground(self, backend: Backend) -> Ground:
        client = backend.client
        return Ground(lambda **limits: SingleNodeLock(client, **limits), [client])


class TestSingleNodeLockOnACluster(ExclusiveLockContract):
    @pytest.fixture
    def ground(self, cluster: Cluster) -> Iterator[Ground]:
        node = cluster.nodes[0]
        with contextlib.closing(
            redis_py.RedisCluster(host="127.0.0.1", port=node.port)
        ) as client:
            yield Ground(lambda **limits: SingleNodeLock(client, **limits), [client])


class TestRedlock(ExclusiveLockContract):
    @pytest.fixture(params=[3, 5])
    def ground(
        self, request: pytest.FixtureRequest, masters: list[Server]
    ) -> Iterator[Ground]:
        with _redlock_ground(masters[: request.param]) as ground:
            yield ground


@contextlib.contextmanager
def _redlock_ground(servers: list[Server]) -> Iterator[Ground]:
    urls = [server.url for server in servers]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        yield Ground(lambda **limits: Redlock(urls, **limits), clients)


_OPTIONS = {
    "expiry": "lock_expiry",
    "wait": "lock_wait",
    "retry_time": "retry_time",
    "max_waiters": "lock_max_waiters",
    "timeout": "timeout",
}


@pytest.mark.parametrize("strategy", [SingleNodeLock, Redlock])
def test_a_strategy_that_is_told_nothing_keeps_to_the_options_defaults(
    strategy: type,
) -> None:
    config = Config.build({"url": "redis://localhost"})
    _, *limits = inspect.signature(strategy).parameters.values()
    assert {"expiry", "wait", "retry_time"} <= {limit.name for limit in limits}
    for limit in limits:
        assert limit.default == getattr(config, _OPTIONS[limit.name])
        assert limit.kind is limit.KEYWORD_ONLY


# -- SingleNodeLock ------------------------------------------------------------------


@pytest.fixture
def patient(real: Backend) -> Iterator[redis_py.Redis]:
    """A client of each real server that no block is too long for."""
    assert real.server
    with real.server.client(socket_timeout=120) as client:
        yield client


def _plain(client: redis_py.Redis) -> redis_lock.Lock:
    return redis_lock.Lock(client, NAME, expire=60)


def test_python_redis_lock_is_excluded_while_we_hold_the_lock(
    patient: redis_py.Redis,
) -> None:
    lease = SingleNodeLock(patient).acquire(NAME)
    assert not _plain(patient).acquire(blocking=False)
    lease.release()
    assert _plain(patient).acquire(blocking=False)


def test_python_redis_lock_excludes_us_while_it_holds_the_lock(
    patient: redis_py.Redis,
) -> None:
    plain = _plain(patient)
    assert plain.acquire()
    with pytest.raises(LockTimeout):
        SingleNodeLock(patient, wait=0.05).acquire(NAME)
    plain.release()
    SingleNodeLock(patient, wait=0).acquire(NAME).release()


def test_python_redis_locks_release_wakes_us(patient: redis_py.Redis) -> None:
    plain = _plain(patient)
    assert plain.acquire()
    with ThreadPoolExecutor() as pool:
        future = pool.submit(SingleNodeLock(patient, **LONG).acquire, NAME)
        _await_blocked(patient)
        plain.release()
        future.result(SOON).release()


def test_our_release_wakes_python_redis_lock(patient: redis_py.Redis) -> None:
    lease = SingleNodeLock(patient).acquire(NAME)
    plain = _plain(patient)
    with ThreadPoolExecutor() as pool:
        future = pool.submit(plain.acquire)
        _await_blocked(patient)
        lease.release()
        assert future.result(SOON)
    plain.release()


def test_our_release_wakes_our_waiter_by_the_signal(patient: redis_py.Redis) -> None:
    lease = SingleNodeLock(patient).acquire(NAME)
    with ThreadPoolExecutor() as pool:
        future = pool.submit(SingleNodeLock(patient, **LONG).acquire, NAME)
        _await_blocked(patient)
        lease.release()
        future.result(SOON).release()


def test_waiters_are_woken_one_after_the_other(patient: redis_py.Redis) -> None:
    lease = SingleNodeLock(patient).acquire(NAME)
    lock = SingleNodeLock(patient, **LONG)
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(lambda: lock.acquire(NAME).release()) for _ in range(3)]
        _await_blocked(patient, 3)
        lease.release()
        for future in futures:
            future.result(SOON)


def test_a_waiter_on_a_cluster_is_woken_by_the_signal(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    options = {"host": "127.0.0.1", "port": node.port, "socket_timeout": 120}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(
            contextlib.closing(redis_py.RedisCluster(**options))
        )
        nodes = [stack.enter_context(node.client()) for node in cluster.nodes]
        pool = stack.enter_context(ThreadPoolExecutor())
        lease = SingleNodeLock(client).acquire(NAME)
        future = pool.submit(SingleNodeLock(client, **LONG).acquire, NAME)
        wait_until(
            lambda: sum(n.info("clients")["blocked_clients"] for n in nodes) == 1,
            SOON,
            "the waiter",
        )
        lease.release()
        future.result(SOON).release()


def test_a_waiter_blocks_on_the_signal_of_its_lock(server: Server) -> None:
    with server.client(socket_timeout=120) as client, Monitor(server) as monitor:
        lease = SingleNodeLock(client).acquire(NAME)
        with ThreadPoolExecutor() as pool:
            future = pool.submit(SingleNodeLock(client, **LONG).acquire, NAME)
            _await_blocked(client)
            lease.release()
            future.result(SOON).release()
    blocked = [line for line in monitor.lines() if '"blpop"' in line.lower()]
    assert len(blocked) == 1
    assert f'"{SIGNAL}"' in blocked[0]


def test_a_signal_that_nobody_waited_for_expires(redis: redis_py.Redis) -> None:
    SingleNodeLock(redis).acquire(NAME).release()
    assert 0 < redis.pttl(SIGNAL) <= 1000


def test_a_lock_that_was_waited_for_lasts_when_it_is_given(server: Server) -> None:
    expiry = 0.5
    with (
        server.client(socket_timeout=120) as client,
        ThreadPoolExecutor() as pool,
    ):
        lease = SingleNodeLock(client).acquire(NAME)
        future = pool.submit(
            SingleNodeLock(client, expiry=expiry, **LONG).acquire, NAME
        )
        _await_blocked(client)
        over = time.monotonic() + expiry
        wait_until(lambda: time.monotonic() > over, SOON, "a wait over the expiry")
        lease.release()
        waited = future.result(SOON)
        now, left = time.monotonic(), client.pttl(LOCK) / 1000
        assert left > 0
        assert waited.deadline > now
        waited.release()


def test_a_waiter_whose_client_has_no_patience_gets_a_timeout_all_the_same(
    server: Server,
) -> None:
    with server.client(socket_timeout=0.1) as client:
        lease = SingleNodeLock(client).acquire(NAME)
        with pytest.raises(LockTimeout):
            SingleNodeLock(client, wait=0.5, retry_time=1).acquire(NAME)
        lease.release()


def test_a_free_lock_costs_one_round_trip_and_its_release_another(
    server: Server,
) -> None:
    with counting_client(server.url) as client:
        lock = SingleNodeLock(client)
        for _ in range(2):  # the server does not know the scripts, then it does
            client.trips.reset()
            lease = lock.acquire(NAME)
            assert client.trips.count == 1
            lease.extend()
            assert client.trips.count == 2
            lease.release()
            assert client.trips.count == 3


def test_a_url_serves_as_well_as_a_client(
    server: Server, redis: redis_py.Redis
) -> None:
    lease = SingleNodeLock(client=server.url).acquire(NAME)
    assert redis.exists(LOCK)
    lease.release()
    assert not redis.exists(LOCK)


def test_who_comes_where_enough_wait_is_turned_away_at_once(server: Server) -> None:
    with (
        server.client(socket_timeout=120) as client,
        counting_client(server.url, socket_timeout=120) as counted,
        ThreadPoolExecutor() as pool,
    ):
        lease = SingleNodeLock(client).acquire(NAME)
        lock = SingleNodeLock(client, max_waiters=1, **LONG)
        future = pool.submit(lock.acquire, NAME)
        _await_blocked(client)
        with pytest.raises(LockTimeout):
            SingleNodeLock(counted, max_waiters=1, **LONG).acquire(NAME)
        assert counted.trips.count == 1
        lease.release()
        lease = future.result(SOON)
        future = pool.submit(lock.acquire, NAME)  # nobody waits now: there is room
        _await_blocked(client)
        lease.release()
        future.result(SOON).release()


def test_who_gave_up_waiting_takes_nobodys_place(server: Server) -> None:
    with counting_client(server.url) as client:
        lease = SingleNodeLock(client).acquire(NAME)
        for _ in range(2):
            client.trips.reset()
            with pytest.raises(LockTimeout):
                SingleNodeLock(client, wait=0.05, max_waiters=1).acquire(NAME)
            # It was let in to wait: who is turned away never blocks.
            assert "BLPOP" in client.trips.names
        lease.release()


def test_the_list_of_waiters_expires_and_outlives_nobody_on_it(
    server: Server, redis: redis_py.Redis
) -> None:
    key = f"lock-waiters:{NAME}"
    with server.client(socket_timeout=120) as client, ThreadPoolExecutor() as pool:
        lease = SingleNodeLock(redis).acquire(NAME)
        lock = SingleNodeLock(client, max_waiters=1, **LONG)
        future = pool.submit(lock.acquire, NAME)
        _await_blocked(client)
        assert redis.zcard(key) == 1
        assert 0 < redis.pttl(key) < 60_000
        lease.release()
        future.result(SOON).release()
        assert not redis.exists(key)


def test_who_comes_later_waits_behind_those_who_wait(
    server: Server, redis: redis_py.Redis
) -> None:
    with server.client(socket_timeout=120) as client, ThreadPoolExecutor() as pool:
        lock = SingleNodeLock(client, **LONG)
        SingleNodeLock(redis).acquire(NAME)
        first = pool.submit(lock.acquire, NAME)
        _await_blocked(client)
        redis.delete(LOCK)  # free, but who was first does not know it yet
        second = pool.submit(lock.acquire, NAME)
        _await_blocked(client, 2)
        assert not redis.exists(LOCK)
        redis.rpush(SIGNAL, "1")
        lease = first.result(SOON)
        assert redis.get(LOCK) == lease.token
        assert not second.done()
        lease.release()
        second.result(SOON).release()
    assert not redis.exists(f"lock-waiters:{NAME}")


def test_who_was_woken_and_finds_no_record_wakes_the_next(
    server: Server, redis: redis_py.Redis
) -> None:
    redis.hset("record", "a", "b")
    redis.expire("record", 3600)
    with server.client(socket_timeout=120) as client, ThreadPoolExecutor() as pool:
        lock = SingleNodeLock(client, **LONG)
        lease = SingleNodeLock(redis).acquire(NAME)
        first = pool.submit(lock.acquire_with, NAME, record="record")
        _await_blocked(client)
        second = pool.submit(lock.acquire, NAME)
        _await_blocked(client, 2)
        redis.delete("record")
        lease.release()
        assert first.result(SOON) is None
        second.result(SOON).release()


def test_waiting_for_others_takes_nobody_s_patience_with_redis(
    server: Server, redis: redis_py.Redis
) -> None:
    with server.client() as client:
        lease = SingleNodeLock(redis).acquire(NAME)
        lock = SingleNodeLock(client, wait=60.0, retry_time=0.001)
        patience = Patience(1.0)
        with ThreadPoolExecutor() as pool:
            waiter = pool.submit(lock.acquire_with, NAME, patience=patience)
            _await_blocked(client)
            patience.spend(1.0, False)
            lease.release()
            taken = waiter.result(SOON)
        assert taken
        taken.release()


def test_a_waiter_pauses_for_the_retry_time_at_most_and_hardly_for_less(
    server: Server, redis: redis_py.Redis
) -> None:
    with counting_client(server.url) as client:
        lease = SingleNodeLock(redis).acquire(NAME)
        with pytest.raises(LockTimeout):
            SingleNodeLock(client, wait=0.2, retry_time=0.01).acquire(NAME)
        lease.release()
        commands = client.trips.commands
    pauses = [float(words[-1]) for words in commands if words[0] == "BLPOP"]
    assert max(pauses) <= 0.01
    assert min(pauses[:-1]) >= 0.008  # the last one ends with the wait


def test_who_can_not_wait_takes_what_is_free(
    server: Server, redis: redis_py.Redis
) -> None:
    with server.client(socket_timeout=120) as client, ThreadPoolExecutor() as pool:
        SingleNodeLock(redis).acquire(NAME)
        first = pool.submit(SingleNodeLock(client, **LONG).acquire, NAME)
        _await_blocked(client)
        redis.delete(LOCK)
        SingleNodeLock(redis, wait=0).acquire(NAME).release()
        first.result(SOON).release()


def test_those_who_waited_and_died_hold_up_nobody_for_long(
    server: Server, redis: redis_py.Redis
) -> None:
    seconds, _ = redis.time()
    redis.zadd(f"lock-waiters:{NAME}", {"dead": (seconds + 3600) * 1000})
    redis.expire(f"lock-waiters:{NAME}", 3600)
    SingleNodeLock(redis, retry_time=0.05).acquire(NAME).release()
    redis.zadd(f"lock-waiters:{NAME}", {"late": (seconds - 1) * 1000, "dead": 0})
    with counting_client(server.url) as counted:
        SingleNodeLock(counted, **LONG).acquire(NAME).release()
        assert "BLPOP" not in counted.trips.names


def test_a_waiter_that_fails_does_not_count_as_waiting_for_long(
    server: Server, redis: redis_py.Redis
) -> None:
    def now_ms() -> int:
        seconds, microseconds = redis.time()
        return int(seconds * 1000 + microseconds // 1000)

    lease, before = SingleNodeLock(redis).acquire(NAME), now_ms()
    with FlakyProxy(server) as proxy, proxy.client() as client:
        proxy.drop_next_reply()
        with pytest.raises(StoreUnavailable):
            SingleNodeLock(client, wait=3600, max_waiters=1).acquire(NAME)
    ((_, until),) = redis.zrange(f"lock-waiters:{NAME}", 0, -1, withscores=True)
    assert before + 1_100 <= until <= now_ms() + 1_100
    lease.release()


def test_an_acquire_that_is_repeated_on_the_wire_succeeds_again(
    real: Backend,
) -> None:
    assert real.url
    with counting_client(real.url) as client:
        lease = SingleNodeLock(client, expiry=60).acquire(NAME)
        command, *_ = client.trips.commands
        before = real.client.get(LOCK)
        first = real.client.execute_command(*command)
        assert first == real.client.execute_command(*command)
        assert b"held" in first
        assert real.client.get(LOCK) == before
        lease.release()
        assert not real.client.exists(LOCK)


def test_a_lost_reply_to_an_acquire_is_repaired_by_a_client_that_retries(
    server: Server, redis: redis_py.Redis
) -> None:
    with (
        FlakyProxy(server) as proxy,
        proxy.client(retry=Retry(NoBackoff(), 1)) as client,
    ):
        proxy.drop_next_reply()
        lease = SingleNodeLock(client, expiry=60, wait=0).acquire(NAME)
        assert proxy.dropped == 1
        assert redis.exists(LOCK)
        lease.release()
        assert not redis.exists(LOCK)


def test_a_lost_reply_to_an_acquire_blocks_nobody_for_the_expiry(
    server: Server, redis: redis_py.Redis
) -> None:
    with FlakyProxy(server) as proxy, proxy.client() as client:
        proxy.drop_next_reply()
        with pytest.raises(StoreUnavailable):
            SingleNodeLock(client, expiry=60, wait=0).acquire(NAME)
        assert proxy.dropped == 1
        SingleNodeLock(redis, expiry=60, wait=0).acquire(NAME).release()


def test_a_lost_reply_to_a_release_releases(
    server: Server, redis: redis_py.Redis
) -> None:
    with (
        FlakyProxy(server) as proxy,
        proxy.client(retry=Retry(NoBackoff(), 1)) as client,
    ):
        lease = SingleNodeLock(client, expiry=60).acquire(NAME)
        proxy.drop_next_reply()
        lease.release()
        assert proxy.dropped == 1
        assert not redis.exists(LOCK)


def test_a_dead_server_is_store_unavailable(server: Server) -> None:
    with server.client() as client:
        lock = SingleNodeLock(client)
        lease = lock.acquire(NAME)
        server.stop()
        for act in (lease.extend, lease.release, lambda: lock.acquire(NAME)):
            with pytest.raises(StoreUnavailable):
                act()


def test_a_server_that_forgot_the_scripts_is_not_noticed(real: Backend) -> None:
    lock = SingleNodeLock(real.client)
    lock.acquire(NAME).release()
    real.client.script_flush()
    lease = lock.acquire(NAME)
    real.client.script_flush()
    lease.extend()
    real.client.script_flush()
    lease.release()
    assert not real.client.exists(LOCK)


def test_a_waiter_survives_a_server_that_forgets_the_scripts(
    patient: redis_py.Redis,
) -> None:
    lock = SingleNodeLock(patient, **LONG)
    lease = lock.acquire(NAME)
    with ThreadPoolExecutor() as pool:
        future = pool.submit(lock.acquire, NAME)
        _await_blocked(patient)
        patient.script_flush()
        lease.release()
        future.result(SOON).release()
    assert not patient.exists(LOCK)


_HOLDER = """
import sys
from smartredis_wsgi import SingleNodeLock
SingleNodeLock(sys.argv[1], expiry=0.5).acquire(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_the_next_one_gets_the_lock_of_a_process_that_was_killed(
    server: Server, redis: redis_py.Redis
) -> None:
    command = [sys.executable, "-c", _HOLDER, server.url, NAME]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"held\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    SingleNodeLock(redis, wait=30).acquire(NAME).release()


# -- Redlock -------------------------------------------------------------------------


@pytest.fixture
def three(masters: list[Server]) -> list[Server]:
    return masters[:3]


@pytest.fixture
def ground(three: list[Server]) -> Iterator[Ground]:
    with _redlock_ground(three) as ground:
        yield ground


def _lies_on(server: Server) -> bool:
    """Whether the lock lies there, once all that was sent before is executed."""
    assert server.ask(b"PING\r\n") == b"+PONG\r\n"
    with server.client() as client:
        return bool(client.exists(LOCK))


def test_one_dead_master_of_three_is_not_missed(
    ground: Ground, three: list[Server]
) -> None:
    lock = ground.make(wait=0)
    three[0].stop()
    lease = lock.acquire(NAME)
    lease.extend()
    with pytest.raises(LockTimeout):
        lock.acquire(NAME)
    lease.release()
    lock.acquire(NAME).release()
    assert not any(_lies_on(server) for server in three[1:])


def test_two_dead_masters_of_five_are_not_missed(
    masters: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartredis_wsgi.locks.redlock._NODE_SECONDS", 1.0)
    lock = Redlock([server.url for server in masters], wait=0)
    for server in masters[:2]:
        server.stop()
    lease = lock.acquire(NAME)
    lease.extend()
    lease.release()
    assert not any(_lies_on(server) for server in masters[2:])


def test_a_master_has_no_longer_than_its_share_to_be_connected_to(
    three: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each step of its handshake is in time, and the whole is not.
    kind = slow_connection(monkeypatch, 0.02)
    pools = [
        redis_py.ConnectionPool(
            port=server.port, db=1, client_name="ann", connection_class=kind
        )
        for server in three
    ]
    Redlock([redis_py.Redis(connection_pool=pool) for pool in pools])
    assert 0.15 <= time.monotonic() < 0.2


def test_a_master_may_be_dead_from_the_start(
    ground: Ground, three: list[Server]
) -> None:
    three[1].stop()
    ground.make(wait=0).acquire(NAME).release()


def test_a_master_that_comes_back_is_used_again(
    ground: Ground, three: list[Server]
) -> None:
    lock = ground.make(wait=30)
    three[0].stop()
    lock.acquire(NAME).release()
    three[0].start()
    three[1].stop()
    lock.acquire(NAME).release()


@pytest.mark.parametrize("connected", [True, False])
def test_a_paused_master_has_no_ghost_of_the_lock_when_it_goes_on(
    ground: Ground, three: list[Server], connected: bool
) -> None:
    before = ground.make(expiry=60, wait=30)
    before.acquire(NAME).release()
    three[2].pause()
    lock = before if connected else ground.make(expiry=60, wait=30)
    lock.acquire(NAME).release()
    three[2].resume()
    assert not any(_lies_on(server) for server in three)


def test_a_master_that_is_paused_at_the_release_is_released_when_it_goes_on(
    ground: Ground, three: list[Server]
) -> None:
    lease = ground.make(expiry=60, wait=30).acquire(NAME)
    three[2].pause()
    lease.release()
    three[2].resume()
    assert not any(_lies_on(server) for server in three)


def test_a_lock_that_was_refused_leaves_no_ghost_on_paused_masters(
    ground: Ground, three: list[Server]
) -> None:
    lock = ground.make(expiry=60, wait=0)
    for server in three[1:]:
        server.pause()
    with pytest.raises(LockTimeout):
        lock.acquire(NAME)
    for server in three[1:]:
        server.resume()
    assert not any(_lies_on(server) for server in three)


def test_two_dead_masters_of_three_refuse_the_lock_and_leave_nothing_behind(
    ground: Ground, three: list[Server]
) -> None:
    lock = ground.make(expiry=60, wait=0.1)
    for server in three[:2]:
        server.stop()
    with pytest.raises(LockTimeout):
        lock.acquire(NAME)
    assert not _lies_on(three[2])


def test_a_lock_that_others_hold_is_given_back_where_it_was_free(
    ground: Ground,
) -> None:
    for client in ground.clients[:2]:
        client.set(LOCK, b"another", px=60_000)
    with pytest.raises(LockTimeout):
        ground.make(expiry=60, wait=0.1).acquire(NAME)
    assert ground.tokens() == [b"another", b"another", None]


def test_a_minority_does_not_keep_the_majority_from_agreeing(ground: Ground) -> None:
    ground.clients[0].set(LOCK, b"another", px=60_000)
    lease = ground.make(wait=30).acquire(NAME)
    lease.extend()
    lease.release()
    assert ground.tokens() == [b"another", None, None]


def test_the_quorum_is_of_the_masters_configured_not_of_those_alive(
    masters: list[Server],
) -> None:
    lock = Redlock([server.url for server in masters], wait=0.1)
    for server in masters[:3]:
        server.stop()
    with pytest.raises(LockTimeout):  # two of two that are alive agree
        lock.acquire(NAME)
    assert not any(_lies_on(server) for server in masters[3:])


def test_a_lock_on_a_minority_cannot_be_extended(ground: Ground) -> None:
    lease = ground.make(wait=30).acquire(NAME)
    for client in ground.clients[:2]:
        client.delete(LOCK)
    with pytest.raises(LockLost):
        lease.extend()
    lease.release()
    assert ground.is_free()


def test_a_master_that_was_restarted_empty_has_one_vote(
    ground: Ground, three: list[Server]
) -> None:
    three[2].stop()
    lease = ground.make(expiry=60, wait=30).acquire(NAME)
    three[1].stop()
    three[1].start()
    with pytest.raises(LockTimeout):
        ground.make(wait=0.2).acquire(NAME)
    assert not _lies_on(three[1])
    lease.release()


def test_a_server_that_is_named_twice_has_one_vote(three: list[Server]) -> None:
    twice, other, _ = three
    twice.pause()  # it does not answer at the start: it cannot be told then
    lock = Redlock([twice.url, _by_name(twice), other.url], wait=0.2)
    twice.resume()
    other.stop()
    with pytest.raises(LockTimeout):
        lock.acquire(NAME)
    assert not _lies_on(twice)


def test_lost_replies_of_every_master_block_nobody_for_the_expiry(
    ground: Ground, three: list[Server]
) -> None:
    with contextlib.ExitStack() as stack:
        proxies = [stack.enter_context(FlakyProxy(server)) for server in three]
        lock = Redlock([proxy.url for proxy in proxies], expiry=60, wait=30)
        lock.acquire(NAME).release()
        for proxy in proxies:
            proxy.drop_next_reply()
        lease = lock.acquire(NAME)
        assert [proxy.dropped for proxy in proxies] == [1, 1, 1]
        lease.release()
    assert ground.is_free()


def test_who_has_no_time_left_still_releases_while_others_are_answered(
    three: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Redlock([server.url for server in three], expiry=60)
    lease = lock.acquire(NAME)
    now = time.monotonic()
    times = itertools.chain([now], itertools.repeat(now + 9))
    under_way = [
        (node, node.send(redlock._packed("BLPOP", "never", 0.2), now + 9))
        for node in lock._nodes
    ]
    with monkeypatch.context() as patch:
        patch.setattr(redlock.time, "monotonic", lambda: next(times))
        lease.release()
    wait_until(lambda: not any(map(_lies_on, three)), SOON, "the release")
    for node, link in under_way:
        node.receive(link, now + 9, b"")


def test_of_two_silent_masters_the_one_that_is_back_is_asked(
    three: list[Server],
) -> None:
    """Also where it stands behind the other, whose silence takes all the time."""
    first, second, _ = three
    lock = Redlock([server.url for server in three], wait=0)
    lock.acquire(NAME).release()
    for server in (first, second):
        server.pause()
        with contextlib.suppress(LockTimeout):
            lock.acquire(NAME).release()
    second.resume()
    patient = Redlock([server.url for server in three], wait=SOON)
    patient._nodes = lock._nodes
    patient.acquire(NAME).release()
    first.resume()


@pytest.mark.parametrize("failure", [redis_py.ConnectionError, OSError])
def test_a_master_whose_connection_breaks_is_one_master_less(
    three: list[Server], failure: type[Exception]
) -> None:
    broken = False

    class Breaking(redis_py.Connection):
        """No answer comes any more, and nothing can be sent behind that."""

        is_silent = False

        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            if self.is_silent:
                raise failure
            super().send_packed_command(command, check_health)

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            if broken:
                self.is_silent = True
                raise failure
            return super().read_response(*arguments, **options)

    pool = redis_py.ConnectionPool.from_url(three[0].url, connection_class=Breaking)
    with redis_py.Redis(connection_pool=pool) as client:
        lock = Redlock([client, three[1].url, three[2].url], expiry=60, wait=30)
        lock.acquire(NAME).release()
        broken = True
        lease = lock.acquire(NAME)
        lease.extend()
        lease.release()
    assert not any(_lies_on(server) for server in three[1:])


def test_who_is_torn_out_of_asking_leaves_no_lock_behind(
    masters: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Out(BaseException):
        """Such as a greenlet's timeout."""

    lock = Redlock([server.url for server in masters], expiry=60)
    lock.acquire(NAME).release()
    masters[2].pause()  # it reads later what it was asked
    masters[3].stop()
    receive, answers = redlock._Node.receive, itertools.count()

    def torn(self: Any, *arguments: Any) -> Any:
        if next(answers) == 1:
            raise Out
        return receive(self, *arguments)

    monkeypatch.setattr(redlock._Node, "receive", torn)
    with pytest.raises(Out):
        lock.acquire(NAME)
    masters[2].resume()
    alive = [server for server in masters if server is not masters[3]]
    wait_until(lambda: not any(map(_lies_on, alive)), SOON, "the release")


def test_a_load_that_fails_under_its_lock_gives_it_back(
    server: Server, redis: redis_py.Redis
) -> None:
    options = {"url": server.url, "lock": "single", "lock_wait": 0}
    store = SessionStore.from_config(options)
    with store.open() as session:
        session["n"] = 1
    with store.open(session.id) as same:
        assert same["n"] == 1  # so the next load asks plainly first, then the script
    with SessionStore.from_config(options).open(session.id) as other:
        other.set_ttl(600)
    transport = store._engine.wire._transport
    exchange, asked = transport.exchange, itertools.count()

    def failing(*arguments: Any) -> Any:
        if next(asked) == 1:
            raise redis_py.TimeoutError
        return exchange(*arguments)

    with store.open(session.id) as same:
        transport.exchange = failing  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailable):
            same.get("n")
        assert not redis.exists(f"lock:{store.lock_name(session.id)}")
        same["n"] = 2  # it does not wait for its own lock
    with store.open(session.id) as same:
        assert same["n"] == 2


def test_a_black_hole_is_one_master_less(ground: Ground, three: list[Server]) -> None:
    with FlakyProxy(three[0]) as proxy:
        urls = [proxy.url, three[1].url, three[2].url]
        lock = Redlock(urls, expiry=60, wait=30)
        proxy.black_hole()
        lease = lock.acquire(NAME)
        lease.extend()
        lease.release()
    assert ground.is_free()


class StallingConnection(redis_py.Connection):
    """A connection that, when told to, sends only after `stall` returned."""

    stall: Callable[[], None] | None = None

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        stall, StallingConnection.stall = StallingConnection.stall, None
        if stall:
            stall()
        super().send_packed_command(command, check_health)


@pytest.fixture
def stalling(three: list[Server]) -> Iterator[Redlock]:
    """A Redlock whose last master can be made to cost more than the expiry."""
    pool = redis_py.ConnectionPool.from_url(
        three[2].url, connection_class=StallingConnection
    )
    with redis_py.Redis(connection_pool=pool) as slow:
        lock = Redlock([three[0].url, three[1].url, slow], expiry=0.3, wait=0)
        for _ in range(100):  # connected everywhere
            with contextlib.suppress(LockTimeout):
                lock.acquire(OTHER).release()
                break
        yield lock
    StallingConnection.stall = None


def _stall_until_expired(ground: Ground) -> None:
    def is_over() -> bool:
        return not any(ground.tokens()[:2])

    def stall() -> None:
        wait_until(lambda: not is_over(), SOON, "the others' answers")
        wait_until(is_over, SOON, "the others' expiry")

    StallingConnection.stall = stall


def test_a_lock_whose_asking_took_longer_than_it_lasts_is_not_given(
    ground: Ground, stalling: Redlock
) -> None:
    _stall_until_expired(ground)
    with contextlib.suppress(LockTimeout):
        stalling.acquire(NAME)
        assert sum(map(bool, ground.tokens())) >= 2
    assert StallingConnection.stall is None


def test_an_extension_that_took_longer_than_it_lasts_is_a_lock_lost(
    ground: Ground, stalling: Redlock
) -> None:
    for _ in range(100):
        with contextlib.suppress(LockTimeout):
            lease = stalling.acquire(NAME)
            break
    _stall_until_expired(ground)
    with pytest.raises(LockLost):
        lease.extend()
    assert StallingConnection.stall is None


def test_the_deadline_leaves_room_for_the_drift_of_the_clocks(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, now = ground.make(expiry=60, wait=30), time.monotonic()
    lock.acquire(NAME).release()  # connected everywhere
    with monkeypatch.context() as patch:
        patch.setattr(redlock.time, "monotonic", lambda: now)
        lease = lock.acquire(NAME)
        assert lease.deadline == pytest.approx(now + 60 - 0.602, abs=1e-6)
        now += 1
        lease.extend()
        assert lease.deadline == pytest.approx(now + 60 - 0.602, abs=1e-6)
    lease.release()


class NotedConnection(redis_py.Connection):
    """One that is noted when it is made, and when it is to be connected."""

    made: ClassVar[list[NotedConnection]] = []
    connected = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.made.append(self)

    def connect(self) -> None:
        NotedConnection.connected += 1
        super().connect()


@pytest.fixture
def noted() -> Iterator[Callable[[Server | FlakyProxy], redis_py.Redis]]:
    """Clients whose class of connections is `NotedConnection`."""
    NotedConnection.made, NotedConnection.connected = [], 0
    kind = NotedConnection
    with contextlib.ExitStack() as stack:

        def client_of(server: Server | FlakyProxy) -> redis_py.Redis:
            pool = redis_py.ConnectionPool.from_url(server.url, connection_class=kind)
            return stack.enter_context(redis_py.Redis(connection_pool=pool))

        yield client_of


@pytest.mark.parametrize(("expiry", "seconds"), [(0.4, 0.02), (60, 0.05)])
def test_a_master_has_a_twentieth_of_the_expiry_and_50_ms_at_most(
    three: list[Server], noted: Any, expiry: float, seconds: float
) -> None:
    Redlock([noted(server) for server in three], expiry=expiry)
    timeouts = [connection.socket_timeout for connection in NotedConnection.made]
    assert timeouts == [pytest.approx(seconds)] * 3


def test_of_masters_that_were_silent_no_more_are_connected_to_than_there_is_time(
    masters: list[Server], noted: Any
) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(FlakyProxy(server)) for server in masters[2:]]
        for proxy in silent:
            proxy.black_hole()
        clients = [noted(proxy) for proxy in silent]
        lock = Redlock([*clients, *(server.url for server in masters[:2])], wait=0)
        before = NotedConnection.connected
        with pytest.raises(LockTimeout):
            lock.acquire(NAME)  # asks twice: it gives back what it got
    assert before == 3
    assert NotedConnection.connected <= before + 2


def test_an_answer_that_comes_when_the_time_is_over_is_not_waited_for(
    three: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartredis_wsgi.locks.redlock._NODE_SECONDS", 60.0)
    lock = Redlock([server.url for server in three], expiry=3600)
    node, now = lock._nodes[0], time.monotonic()
    for seconds, answer in [(50, 0), (0, None), (-1, None)]:
        link = node.send(redlock._packed("WAIT", "1", "200"), now)
        assert node.receive(link, time.monotonic() + seconds, b"") == answer


def test_who_finds_no_quorum_pauses_for_the_retry_time_at_most_and_never_in_vain(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = time.monotonic(), list[float]()
    monkeypatch.setattr(redlock.time, "sleep", pauses.append)
    monkeypatch.setattr(redlock.time, "monotonic", lambda: now + sum(pauses))
    ground.usurp()
    with pytest.raises(LockTimeout):
        ground.make(wait=0.2, retry_time=0.01).acquire(NAME)
    assert 0 <= min(pauses) < max(pauses) <= 0.01
    pauses.clear()
    with pytest.raises(LockTimeout):
        ground.make(wait=0, retry_time=60).acquire(NAME)
    assert not pauses


def _by_name(server: Server) -> str:
    return server.url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_too_few_or_an_even_number_of_masters_are_refused(
    masters: list[Server], count: int
) -> None:
    urls = [server.url for server in masters[:count]]
    with pytest.raises(ConfigError):
        Redlock(urls)
    with pytest.raises(ConfigError):
        SessionStore.from_config(url=masters[0].url, lock="redlock", lock_nodes=urls)


def test_one_url_twice_is_refused(three: list[Server]) -> None:
    with pytest.raises(ConfigError):
        Redlock([three[0].url, three[1].url, three[0].url])


def test_one_url_twice_is_refused_also_where_the_master_is_down(
    three: list[Server],
) -> None:
    three[0].stop()
    with pytest.raises(ConfigError):
        Redlock([three[0].url, three[1].url, three[0].url])


def test_one_server_under_two_urls_is_refused(three: list[Server]) -> None:
    with pytest.raises(ConfigError):
        Redlock([three[0].url, three[1].url, _by_name(three[0])])
    with pytest.raises(ConfigError):
        Redlock([three[0].url, three[1].url, three[0].url.removesuffix("0") + "1"])


def test_one_server_behind_two_clients_is_refused(three: list[Server]) -> None:
    with (
        three[0].client() as first,
        three[0].client(db=1) as second,
        pytest.raises(ConfigError),
    ):
        Redlock([first, three[1].url, second])


def test_clients_serve_as_masters(three: list[Server]) -> None:
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(server.client(decode_responses=True))
            for server in three
        ]
        lock = Redlock(nodes=clients, wait=30)
        lease = lock.acquire(NAME)
        lease.extend()
        lease.release()
        assert not any(client.exists(LOCK) for client in clients)


# -- sessions under a lock -----------------------------------------------------------


@dataclass
class Locking:
    """Sessions under some strategy: the options for it, and where its locks lie."""

    options: dict[str, Any]
    servers: list[Server]
    clients: list[redis_py.Redis]

    def store(self, **options: Any) -> SessionStore:
        return SessionStore.from_config(
            {"lock_wait": 30, "lock_expiry": 60, **self.options, **options}
        )

    def tokens(self) -> set[bytes]:
        """The tokens of all locks that are held."""
        return {
            client.get(key) or b"expired"
            for client in self.clients
            for key in client.scan_iter(match="lock:*")
        }

    def lose(self) -> None:
        for client in self.clients:
            for key in client.scan_iter(match="lock:*"):
                client.delete(key)

    def await_expiry(self) -> None:
        wait_until(lambda: not self.tokens(), SOON, "the locks' expiry")


@pytest.fixture(params=["single", "redlock"])
def locking(
    request: pytest.FixtureRequest, server: Server, masters: list[Server]
) -> Iterator[Locking]:
    options: dict[str, Any] = {"url": server.url, "lock": request.param}
    servers = [server]
    if request.param == "redlock":
        servers = masters[:3]
        options["lock_nodes"] = [master.url for master in servers]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for server in servers]
        yield Locking(options, servers, clients)


@pytest.fixture
def unlocked(server: Server) -> SessionStore:
    return SessionStore.from_config(url=server.url)


@pytest.fixture
def visit() -> Iterator[contextlib.ExitStack]:
    """Holds one ``store.open()``; ``close()`` is where it ends."""
    with contextlib.ExitStack() as stack:
        yield stack


def _create(store: SessionStore, **fields: Any) -> str:
    with store.open() as session:
        session.update(fields)
        return session.id


def _read(store: SessionStore, session_id: str) -> dict[str, Any]:
    with store.open(session_id) as session:
        return dict(session)


@pytest.mark.parametrize("loss", ["expired", "deleted"])
def test_a_holder_that_lost_the_lock_overwrites_nothing(
    locking: Locking, unlocked: SessionStore, visit: contextlib.ExitStack, loss: str
) -> None:
    session_id = _create(unlocked, n=1, kept="as it was")
    late = locking.store(lock_expiry=0.3 if loss == "expired" else 60)
    session = visit.enter_context(late.open(session_id))
    assert session["n"] == 1
    locking.lose() if loss == "deleted" else locking.await_expiry()
    with locking.store().open(session_id) as theirs:
        theirs["n"] = 2
    session["n"] = 100
    session["more"] = "never"
    with pytest.raises(LockLost):
        visit.close()
    assert _read(unlocked, session_id) == {"n": 2, "kept": "as it was"}


def test_a_holder_that_overslept_writes_nothing_while_another_merely_holds_the_lock(
    locking: Locking, unlocked: SessionStore, visit: contextlib.ExitStack
) -> None:
    session_id = _create(unlocked, n=1)
    session = visit.enter_context(locking.store(lock_expiry=0.3).open(session_id))
    session["n"] += 100
    locking.await_expiry()
    with locking.store().open(session_id) as theirs:
        theirs["n"] += 1
        tokens = locking.tokens()
        with pytest.raises(LockLost):
            visit.close()
        assert locking.tokens() == tokens
    assert _read(unlocked, session_id) == {"n": 2}


def test_a_holder_that_overslept_cannot_save_either(
    locking: Locking, unlocked: SessionStore, visit: contextlib.ExitStack
) -> None:
    session_id = _create(unlocked, n=1)
    session = visit.enter_context(locking.store(lock_expiry=0.3).open(session_id))
    session["n"] += 100
    locking.await_expiry()
    with locking.store().open(session_id) as theirs:
        theirs["n"] += 1
    for again in (session.save, session.save, visit.close):
        with pytest.raises(LockLost):
            again()
    assert _read(unlocked, session_id) == {"n": 2}


def test_a_block_that_lost_the_lock_is_not_written_at_the_requests_end_either(
    locking: Locking, unlocked: SessionStore
) -> None:
    store = locking.store(lock_scope="manual", lock_expiry=60)
    session_id = _create(unlocked, n=1)

    def oversleep(session: Session) -> None:
        with session.lock():
            session["n"] += 100
            locking.lose()
            with store.open(session_id) as other, other.lock():
                other["n"] += 1

    with store.open(session_id) as session, pytest.raises(LockLost):
        oversleep(session)
    assert _read(unlocked, session_id) == {"n": 2}


def test_a_block_that_lost_the_lock_leaves_the_winners_lock_alone(
    locking: Locking, unlocked: SessionStore, visit: contextlib.ExitStack
) -> None:
    store = locking.store(lock_scope="manual")
    session_id = _create(unlocked, n=1)

    def oversleep(session: Session) -> None:
        with session.lock():
            session["n"] += 100
            locking.lose()
            winner = visit.enter_context(store.open(session_id))
            visit.enter_context(winner.lock())
            winner["n"] += 1
            winner.save()
            held.update(locking.tokens())

    held: set[bytes] = set()
    with store.open(session_id) as session:
        with pytest.raises(LockLost):
            oversleep(session)
        assert locking.tokens() == held != set()
    visit.close()
    assert not locking.tokens()


def test_a_request_locks_from_its_first_touch_to_its_commit(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    store = locking.store(lock_scope="request")
    with store.open(session_id) as session:
        assert not locking.tokens()
        assert session["n"] == 1
        held = locking.tokens()
        assert len(held) == 1
        session["n"] = 2
        session.save()
        assert locking.tokens() == held
    assert not locking.tokens()


def test_a_write_is_a_touch_that_locks_the_request(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store().open(session_id) as session:
        session["m"] = 1
        assert len(locking.tokens()) == 1
    assert not locking.tokens()


def test_a_request_that_locked_and_failed_releases(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    store = locking.store()

    def fail() -> None:
        with store.open(session_id) as session:
            session["n"] += 1
            raise KeyError("the application's")

    with pytest.raises(KeyError, match="the application's"):
        fail()
    assert not locking.tokens()
    assert _read(unlocked, session_id) == {"n": 1}


def test_a_request_that_is_locked_out_waits_no_longer_than_it_may(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store().open(session_id) as session:
        session["n"] += 1
        held = locking.tokens()
        with (
            locking.store(lock_wait=0).open(session_id) as other,
            pytest.raises(LockTimeout),
        ):
            other.get("n")
        assert locking.tokens() == held
    assert _read(unlocked, session_id) == {"n": 2}


def test_a_new_session_takes_no_lock(locking: Locking) -> None:
    for session_id in (None, "A" * 59):
        with locking.store().open(session_id) as session:
            session["n"] = 1
            assert not locking.tokens()


def test_a_session_that_was_destroyed_is_locked_no_more(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store().open(session_id) as session:
        assert session["n"] == 1
        session.destroy()
        assert not locking.tokens()


def test_a_session_with_a_new_id_stays_locked_to_the_requests_end(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store().open(session_id) as session:
        session["n"] += 1
        held = locking.tokens()
        session.regenerate_id()
        session.save()
        assert locking.tokens() == held
        with (
            locking.store(lock_wait=0).open(session.id) as other,
            pytest.raises(LockTimeout),
        ):
            other.get("n")
        session["n"] += 1
    assert not locking.tokens()
    assert _read(unlocked, session.id) == {"n": 3}


def test_scope_commit_locks_around_the_commit_only(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with Monitor(locking.servers[0]) as monitor:
        with locking.store(lock_scope="commit").open(session_id) as session:
            session["n"] += 1
            assert not locking.tokens()
            assert not _lock_commands(monitor, "set")
        assert not locking.tokens()
    assert len(_lock_commands(monitor, "set")) == 1
    assert len(_lock_commands(monitor, "del")) == 1
    assert _read(unlocked, session_id) == {"n": 2}


def _lock_commands(monitor: Monitor, command: str) -> list[str]:
    start = f'"{command}" "lock:'
    return [line for line in monitor.lines() if start in line.lower()]


def test_scope_commit_waits_for_the_lock_when_it_commits(
    locking: Locking, unlocked: SessionStore, visit: contextlib.ExitStack
) -> None:
    session_id = _create(unlocked, n=1)
    store = locking.store(lock_scope="commit", lock_wait=0)
    with locking.store().open(session_id) as holder:
        assert holder["n"] == 1
        session = visit.enter_context(store.open(session_id))
        session["n"] += 1
        with pytest.raises(LockTimeout):
            visit.close()
    assert _read(unlocked, session_id) == {"n": 1}


def test_scope_commit_keeps_what_others_wrote_before_it_had_the_lock(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store(lock_scope="commit").open(session_id) as session:
        session["n"] += 1
        with unlocked.open(session_id) as other:
            other["more"] = True
    assert _read(unlocked, session_id) == {"n": 2, "more": True}


def test_scope_commit_takes_no_lock_where_nothing_changed(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store().open(session_id) as holder:
        assert holder["n"] == 1
        store = locking.store(lock_scope="commit", lock_wait=0)
        assert _read(store, session_id) == {"n": 1}


def test_scope_manual_locks_in_the_lock_block_only(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store(lock_scope="manual").open(session_id) as session:
        session["n"] += 1
        assert not locking.tokens()
        with session.lock():
            assert len(locking.tokens()) == 1
            session["n"] += 1
        assert not locking.tokens()
        assert _read(unlocked, session_id) == {"n": 3}
        session["n"] += 1
    assert _read(unlocked, session_id) == {"n": 4}


def test_scope_manual_keeps_what_others_write_after_the_lock_block(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store(lock_scope="manual").open(session_id) as session:
        with session.lock():
            session["n"] += 1
        with unlocked.open(session_id) as other:
            other["more"] = True
        session["n"] += 1
    assert _read(unlocked, session_id) == {"n": 3, "more": True}


def test_scope_manual_waits_for_nobody_outside_of_the_lock_block(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    store = locking.store(lock_scope="manual", lock_wait=0)
    with store.open(session_id) as holder, holder.lock():
        with store.open(session_id) as other:
            other["more"] = other["n"]
            other.save()
            with pytest.raises(LockTimeout), other.lock():
                raise AssertionError("it was let in")
        with contextlib.suppress(LockLost):
            holder.save()
    assert _read(unlocked, session_id) == {"n": 1, "more": 1}


def test_a_lock_block_is_fresh(locking: Locking, unlocked: SessionStore) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store(lock_scope="manual").open(session_id) as session:
        assert session["n"] == 1
        with unlocked.open(session_id) as other:
            other["n"] = 10
        with session.lock():
            session["n"] += 1
    assert _read(unlocked, session_id) == {"n": 11}


def test_a_lock_block_that_raises_is_dropped_and_released(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)

    def fail(session: Session) -> None:
        with session.lock():
            session["n"] += 1
            raise KeyError("the application's")

    with locking.store(lock_scope="manual").open(session_id) as session:
        with pytest.raises(KeyError, match="the application's"):
            fail(session)
        assert not locking.tokens()
        assert session["n"] == 1
    assert _read(unlocked, session_id) == {"n": 1}


def test_a_lock_block_in_a_request_that_locks_uses_the_requests_lock(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    store = locking.store(lock_scope="request", lock_wait=0)
    with Monitor(locking.servers[0]) as monitor:
        with store.open(session_id) as session:
            session["n"] += 1
            held = locking.tokens()
            with session.lock():
                assert locking.tokens() == held
                session["n"] += 1
            assert locking.tokens() == held
            session["n"] += 1
        assert not locking.tokens()
    assert len(_lock_commands(monitor, "del")) == 1
    assert _read(unlocked, session_id) == {"n": 4}


def test_a_lock_block_is_a_touch_that_locks_the_request(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with locking.store(lock_scope="request").open(session_id) as session:
        with session.lock():
            held = locking.tokens()
            session["n"] += 1
        assert locking.tokens() == held != set()
        session["n"] += 1
    assert not locking.tokens()
    assert _read(unlocked, session_id) == {"n": 3}


def test_a_lock_block_in_another_is_released_at_the_outer_end(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    store = locking.store(lock_scope="manual", lock_wait=0)
    with Monitor(locking.servers[0]) as monitor, store.open(session_id) as session:
        with session.lock():
            session["n"] += 1
            held = locking.tokens()
            with session.lock():
                assert locking.tokens() == held
                session["n"] += 1
            assert locking.tokens() == held != set()
            session["n"] += 1
        assert not locking.tokens()
        assert _read(unlocked, session_id) == {"n": 4}
        assert len(_lock_commands(monitor, "del")) == 1


def test_two_nested_middlewares_lock_once(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    seen: list[set[bytes]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["smartredis.session"]
        session["n"] += 1
        seen.append(locking.tokens())
        with session.lock():
            session["n"] += 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    options = {**locking.options, "lock_wait": 0, "cookie_secure": False}
    inner = SessionMiddleware(validator(app), options)
    outer = SessionMiddleware(validator(inner), options)
    assert _request(outer, session_id) == "200 OK"
    assert [len(tokens) for tokens in seen] == [1]
    assert not locking.tokens()
    assert _read(unlocked, session_id) == {"n": 3}


def _request(app: Any, session_id: str, method: str = "GET") -> str:
    """Sends a request with this session; its status."""
    environ = {
        "HTTP_COOKIE": f"sid={session_id}",
        "REQUEST_METHOD": method,
        "QUERY_STRING": "",
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []

    def start_response(status: str, _: Any, __: Any = None) -> Any:
        statuses.append(status)
        return lambda _: None

    body = validator(app)(environ, start_response)
    try:
        assert all(isinstance(item, bytes) for item in body)
    finally:
        body.close()
    return statuses[-1]


def test_a_request_that_is_locked_out_is_answered_503(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    runs: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        runs.append(environ["REQUEST_METHOD"])
        environ["smartredis.session"]["n"] += 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    options = {**locking.options, "lock_wait": 0, "cookie_secure": False}
    middleware = SessionMiddleware(validator(app), options)
    with locking.store().open(session_id) as holder:
        assert holder["n"] == 1
        assert _request(middleware, session_id).startswith("503")
    assert runs == ["GET"]
    assert _read(unlocked, session_id) == {"n": 1}


def test_a_method_that_does_not_lock_reads_while_another_holds_the_lock(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert environ["smartredis.session"]["n"] == 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"read"]

    options = {
        **locking.options,
        "lock_wait": 0,
        "lock_methods": "POST",
        "cookie_secure": False,
    }
    middleware = SessionMiddleware(validator(app), options)
    with locking.store().open(session_id) as holder:
        assert holder["n"] == 1
        held = locking.tokens()
        assert _request(middleware, session_id, "GET") == "200 OK"
        assert locking.tokens() == held


def test_a_lock_that_is_renewed_outlives_its_expiry(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    store = locking.store(lock_expiry=0.9, lock_renew=True)
    client = locking.clients[0]
    renewals = []
    with store.open(session_id) as session:
        session["n"] += 1
        held = locking.tokens()
        (key,) = client.scan_iter(match="lock:*")
        left = client.pttl(key)

        def is_renewed() -> bool:
            nonlocal left
            before, left = left, client.pttl(key)
            renewals.extend([left] if left > before else [])
            return len(renewals) >= 4  # each comes a third of the expiry later

        wait_until(is_renewed, SOON, "four renewals")
        assert locking.tokens() == held
    assert not locking.tokens()
    assert _read(unlocked, session_id) == {"n": 2}


def test_nothing_renews_a_lock_after_its_release(
    locking: Locking, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    before = set(threading.enumerate())
    with locking.store(lock_renew=True).open(session_id) as session:
        session["n"] += 1
        (renewing,) = set(threading.enumerate()) - before
        assert renewing.daemon  # a process that ends does not wait for it
    assert not renewing.is_alive()


@pytest.mark.parametrize(
    ("left", "pause"),
    [(30.0, 10.0), (0.0, 0.001), (-30.0, 0.001), (math.inf, threading.TIMEOUT_MAX)],
)
def test_a_lock_is_renewed_after_a_third_of_the_life_that_is_left(
    monkeypatch: pytest.MonkeyPatch, left: float, pause: float
) -> None:
    pauses: list[float] = []

    class OnlyLooking(Renewal):
        def _run(self) -> None:
            pauses.append(self._pause())

    with monkeypatch.context() as patch:
        patch.setattr("smartredis_wsgi.locks.strategy.time.monotonic", lambda: 100.0)
        OnlyLooking(InProcessLease(threading.Lock(), 100.0 + left)).stop()
    assert pauses == [pause]


def test_a_renewal_that_could_not_reach_the_lock_is_tried_again() -> None:
    tried, reached = itertools.count(), threading.Event()

    class HardToReach(InProcessLease):
        def extend(self) -> None:
            if next(tried) == 0:
                raise StoreUnavailable("just now")
            reached.set()

    renewal = Renewal(HardToReach(threading.Lock(), time.monotonic() + 0.1))
    assert reached.wait(SOON)
    renewal.stop()


def test_a_renewal_that_finds_the_lock_lost_takes_it_from_nobody(
    locking: Locking,
    unlocked: SessionStore,
    visit: contextlib.ExitStack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session_id = _create(unlocked, n=1)
    store = locking.store(lock_expiry=0.3, lock_renew=True)
    session = visit.enter_context(store.open(session_id))
    session["n"] += 100
    locking.lose()
    with locking.store().open(session_id) as theirs:
        theirs["n"] += 1
        held = locking.tokens()
        wait_until(lambda: "no more prolonged" in caplog.text, SOON, "its end")
        assert locking.tokens() == held
    with pytest.raises(LockLost):
        visit.close()
    assert _read(unlocked, session_id) == {"n": 2}


def test_without_a_lock_a_lock_block_notices_who_came_in_between(
    unlocked: SessionStore,
) -> None:
    session_id = _create(unlocked, n=1)

    def oversleep(session: Session) -> None:
        with session.lock():
            session["n"] += 100
            with unlocked.open(session_id) as other:
                other["more"] = True

    with unlocked.open(session_id) as session:
        with pytest.raises(LockLost):
            oversleep(session)
        session.forget()
    assert _read(unlocked, session_id) == {"n": 1, "more": True}


def test_without_a_lock_a_lost_block_is_not_written_at_the_requests_end_either(
    unlocked: SessionStore,
) -> None:
    session_id = _create(unlocked, n=1)

    def oversleep(session: Session) -> None:
        with session.lock():
            session["n"] += 100
            with unlocked.open(session_id) as other:
                other["n"] += 1

    with unlocked.open(session_id) as session, pytest.raises(LockLost):
        oversleep(session)
    assert _read(unlocked, session_id) == {"n": 2}


def test_without_a_lock_a_lock_block_that_nobody_disturbed_is_written(
    unlocked: SessionStore,
) -> None:
    session_id = _create(unlocked, n=1)
    with unlocked.open(session_id) as session:
        with session.lock():
            session["n"] += 1
            with session.lock():
                session["n"] += 1
            session["n"] += 1
        session["n"] += 1
    assert _read(unlocked, session_id) == {"n": 5}


def test_a_worker_with_python_redis_lock_locks_the_session(
    server: Server, unlocked: SessionStore
) -> None:
    store = SessionStore.from_config(url=server.url, lock="single", lock_wait=0)
    session_id = _create(unlocked, n=1)
    with server.client() as client:
        plain = redis_lock.Lock(client, store.lock_name(session_id), expire=60)
        with plain, store.open(session_id) as session, pytest.raises(LockTimeout):
            session.get("n")
        with store.open(session_id) as session:
            session["n"] += 1
            assert not plain.acquire(blocking=False)
        assert plain.acquire(blocking=False)
        plain.release()


def test_the_commit_comes_before_the_release_also_where_only_that_is_known(
    server: Server, unlocked: SessionStore
) -> None:
    store = SessionStore.from_config(url=server.url, lock="single")
    session_id = _create(unlocked, n=1)
    with store.open(session_id) as session:
        session["n"] += 1  # from now on the store takes its scripts for known
    with (
        server.client() as client,
        Monitor(server) as monitor,
        store.open(session_id) as session,
    ):
        session["n"] += 1
        client.script_flush()
        client.script_load(redis_lock.UNLOCK_SCRIPT)  # as the package does
    lines = [line.lower() for line in monitor.lines() if " lua]" in line]
    (released,) = (at for at, line in enumerate(lines) if '"del" "lock:' in line)
    written = [at for at, line in enumerate(lines) if '"hset"' in line]
    assert max(written) < released
    assert _read(unlocked, session_id) == {"n": 3}


# -- a strategy of the user's own ----------------------------------------------------


class InProcess:
    """A strategy of a user's own, for the threads of one process."""

    def __init__(self) -> None:
        self.locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def acquire(self, key: str) -> InProcessLease:
        if not self.locks[key].acquire(timeout=30):
            raise LockTimeout(key)
        return InProcessLease(self.locks[key])


@dataclass
class InProcessLease:
    lock: threading.Lock
    deadline: float = math.inf
    released: int = 0

    def release(self) -> None:
        self.released += 1
        if self.released == 1:
            self.lock.release()

    def extend(self) -> None:
        """It never ends."""


class TestAUsersOwnStrategy(LockContract):
    @pytest.fixture
    def ground(self) -> Ground:
        return Ground(lambda **_: InProcess())


def test_a_users_own_strategy_makes_read_modify_write_exact(
    server: Server, unlocked: SessionStore
) -> None:
    mine = InProcess()
    store = SessionStore.from_config(url=server.url, lock=mine)
    session_id = _create(unlocked, n=0)

    def increment(_: int) -> None:
        with store.open(session_id) as session:
            session["n"] = session["n"] + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(80)))
    assert _read(unlocked, session_id) == {"n": 80}
    assert len(mine.locks) == 1
    assert not any(lock.locked() for lock in mine.locks.values())


def test_a_users_own_strategy_serves_every_scope(
    server: Server, unlocked: SessionStore
) -> None:
    for scope, seen in {"request": True, "commit": False, "manual": False}.items():
        mine = InProcess()
        store = SessionStore.from_config(url=server.url, lock=mine, lock_scope=scope)
        session_id = _create(unlocked, n=1)
        with store.open(session_id) as session:
            session["n"] += 1
            assert any(lock.locked() for lock in mine.locks.values()) is seen
            with session.lock():
                assert any(lock.locked() for lock in mine.locks.values())
                session["n"] += 1
        assert _read(unlocked, session_id) == {"n": 3}
        assert not any(lock.locked() for lock in mine.locks.values())


def test_a_users_own_lease_that_is_over_is_a_lock_lost(
    server: Server, unlocked: SessionStore, visit: contextlib.ExitStack
) -> None:
    class Short(InProcess):
        def acquire(self, key: str) -> InProcessLease:
            lease = super().acquire(key)
            lease.deadline = time.monotonic()
            return lease

    mine = Short()
    store = SessionStore.from_config(url=server.url, lock=mine)
    session_id = _create(unlocked, n=1)
    session = visit.enter_context(store.open(session_id))
    session["n"] += 1
    with pytest.raises(LockLost):
        visit.close()
    assert _read(unlocked, session_id) == {"n": 1}
    assert not any(lock.locked() for lock in mine.locks.values())


def test_a_users_own_lease_that_can_not_be_given_back_fails_no_request(
    server: Server, unlocked: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(InProcessLease):
        def release(self) -> None:
            raise StoreUnavailable("its server is down")

    class AndThenStuck(InProcess):
        def acquire(self, key: str) -> InProcessLease:
            return Stuck(super().acquire(key).lock)

    store = SessionStore.from_config(url=server.url, lock=AndThenStuck())
    session_id = _create(unlocked, n=1)
    with store.open(session_id) as session:
        session["n"] += 1
    assert "left to expire" in caplog.text
    assert _read(unlocked, session_id) == {"n": 2}


def test_a_users_own_lease_is_renewed_within_its_own_expiry(
    server: Server, unlocked: SessionStore
) -> None:
    extended = threading.Event()

    class Brief(InProcessLease):
        def extend(self) -> None:
            extended.set()

    class Briefly(InProcess):
        def acquire(self, key: str) -> InProcessLease:
            return Brief(super().acquire(key).lock, time.monotonic() + 0.3)

    store = SessionStore.from_config(
        url=server.url, lock=Briefly(), lock_renew=True, lock_expiry="1h"
    )
    with store.open(_create(unlocked, n=1)) as session:
        assert session["n"] == 1
        assert extended.wait(SOON)


@pytest.mark.parametrize("scope", ["request", "commit", "manual"])
def test_an_id_that_nobody_knows_takes_no_lock_on_another_redis_either(
    server: Server, unlocked: SessionStore, scope: str
) -> None:
    victim = _create(unlocked, n=1)
    forged = new_id(like=victim)
    mine = InProcess()
    store = SessionStore.from_config(url=server.url, lock=mine, lock_scope=scope)
    with store.open(forged) as session:
        session["n"] = 2
    with store.open(forged) as session:
        assert not session
    with store.open(forged) as session, session.lock():
        session["n"] = 3
    assert not mine.locks
    assert _read(unlocked, victim) == {"n": 1}
    control = store.open(victim)
    with control as session, session.lock():
        session["n"] = 4
    assert mine.locks


def test_a_lock_on_another_redis_is_given_back_where_the_load_under_it_fails(
    server: Server, unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    mine = InProcess()
    with FlakyProxy(server) as proxy, proxy.client() as client:

        class AndThenNoReply(InProcess):
            def acquire(self, key: str) -> InProcessLease:
                lease = mine.acquire(key)
                proxy.drop_next_reply()
                return lease

        store = SessionStore.from_config(client=client, lock=AndThenNoReply())
        with store.open(session_id) as session:
            with pytest.raises(StoreUnavailable):
                session.get("n")
            assert not any(lock.locked() for lock in mine.locks.values())
            session.forget()
    assert proxy.dropped == 1


def test_a_strategy_object_of_ours_serves_on_another_redis_than_the_records(
    server: Server, masters: list[Server], unlocked: SessionStore
) -> None:
    session_id = _create(unlocked, n=1)
    with masters[0].client() as elsewhere:
        lock = SingleNodeLock(elsewhere, expiry=60)
        store = SessionStore.from_config(url=server.url, lock=lock)
        with store.open(session_id) as session:
            session["n"] += 1
            assert len(list(elsewhere.scan_iter(match="lock:*"))) == 1
        assert not list(elsewhere.scan_iter(match="lock:*"))
    assert _read(unlocked, session_id) == {"n": 2}
