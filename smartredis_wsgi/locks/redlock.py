"""A lock on N independent masters, held by whoever has most of them (Redlock).

The published algorithm, "Distributed Locks with Redis": every master is asked at once
for ``SET key token NX PX ms``; the lock is held if a quorum of the *configured* N
agreed and time is left of the expiry once the time that asking took and a clock drift
of 1 % + 2 ms are taken off.

A master that is silent costs min(5 % of the expiry, 50 ms). It may still carry the
command out later. So the release is sent behind it on the same connection, which is
closed then: whatever the master reads, it reads the SET first and the release after it.
"""

import operator
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis import Connection, Redis
from redis.exceptions import RedisError

from ..connect import client_for
from ..errors import ConfigError, LockLost, LockTimeout
from ..transport.held import connect, connection_options
from ..transport.idle import Idle
from ..transport.link import Link, link_of
from ..transport.protocol import NEARLY, Word
from . import protocol

_EXTEND_SOURCE = b"""
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('pexpire', KEYS[1], ARGV[2])
"""
_NODE_SECONDS = 0.05  # a master has no longer than this
_SILENT_SINCE = operator.attrgetter("silent_since")
_PACKER: Any = Connection()  # type: ignore[no-untyped-call]


class Redlock:
    """A strategy on an odd number of independent masters, 3 or more.

    Args:
        nodes: Their URLs or clients. Only addresses are taken from a client:
            connections and deadlines are the lock's own.
        expiry: Life of a lock, in seconds.
        wait: LockTimeout after so many seconds.
        retry_time: Longest pause between tries, in seconds.

    Raises:
        ConfigError: Too few nodes, an even number, or one of them twice. The masters
            that answer are asked for their run_id once, here.
    """

    def __init__(
        self,
        nodes: Sequence[Any],
        *,
        expiry: float = 5.0,
        wait: float = 10.0,
        retry_time: float = 0.1,
    ) -> None:
        if len(nodes) < 3 or len(nodes) % 2 == 0:
            raise ConfigError(
                f"option lock_nodes: {len(nodes)} masters; use an odd number, 3 or more"
            )
        self.expiry, self._wait, self._retry_time = expiry, wait, retry_time
        self._node_seconds = min(0.05 * expiry, _NODE_SECONDS)
        self._nodes = [_Node(address, self._node_seconds) for address in nodes]
        self.quorum = len(nodes) // 2 + 1
        self._check_independent()

    def acquire(self, key: str) -> "RedlockLease":
        """Take the lock, or wait for it. One round trip to all masters at once.

        Where there is no quorum what was taken is given back at once.

        Raises:
            LockTimeout: No quorum within `wait`: others hold it, or masters are down.
        """
        end = time.monotonic() + self._wait
        while True:
            lease = RedlockLease(self, key)
            if lease.take():
                return lease
            pause = random.uniform(0, self._retry_time)
            if time.monotonic() + pause >= end:
                raise LockTimeout(
                    f"no {self.quorum} of {len(self._nodes)} masters gave the lock "
                    f"within {self._wait:g} s; lock_wait"
                )
            time.sleep(pause)

    def ask(self, packed: bytes, packed_undo: bytes = b"") -> list[Any]:
        """What each master answers to a command; None where it didn't, or refused.

        Args:
            packed_undo: Sent behind the command where the answer is missing.
        """
        end = time.monotonic() + self._node_seconds
        nodes = sorted(self._nodes, key=_SILENT_SINCE)
        asked: deque[tuple[_Node, Link | None]] = deque()
        answers = []
        try:
            for node in nodes:
                asked.append((node, node.send(packed, end)))
            while asked:
                node, link = asked[0]
                answers.append(node.receive(link, end, packed_undo))
                asked.popleft()
        except BaseException:  # such as a greenlet's timeout: replies are still to come
            for node, link in asked:
                if link:
                    node.give_up(link, packed_undo)
            raise
        return answers

    def _check_independent(self) -> None:
        infos = [
            str(answer) for answer in self.ask(_packed("INFO", "server")) if answer
        ]
        runs = [info.partition("run_id:")[2][:40] for info in infos]
        places = [node.place for node in self._nodes]
        if len(set(runs)) < len(runs) or len(set(places)) < len(places):
            raise ConfigError(
                "option lock_nodes: two of them are the same server; "
                "use masters that are independent"
            )


def _packed(*command: Word) -> bytes:
    """The same bytes for each master; a connection that is none makes them."""
    return b"".join(_PACKER.pack_command(*command))


class RedlockLease:
    """A lock held on a quorum of masters."""

    def __init__(self, strategy: Redlock, name: str) -> None:
        self.deadline = 0.0
        self._strategy = strategy
        self._token = protocol.new_token()
        self._lock, signal = protocol.lock_key(name), protocol.signal_key(name)
        source, token = protocol.RELEASE_SOURCE, self._token
        self._release = _packed(
            "EVAL", source, "2", self._lock, signal, token, protocol.SIGNAL_MS
        )

    def take(self) -> bool:
        """Ask all masters once; without a quorum, give back what was taken."""
        expiry_ms = round(self._strategy.expiry * 1000)
        packed = _packed("SET", self._lock, self._token, "NX", "PX", f"{expiry_ms}")
        taken = False
        try:
            taken = self._is_agreed(packed, self._release)
        finally:
            if not taken:
                self.release()
        return taken

    def release(self) -> None:
        """Give it back everywhere. One round trip to all masters at once.

        Another's lock is never deleted; a master that is down forgets by itself.
        """
        self._strategy.ask(self._release)

    def extend(self) -> None:
        """Hold it for a whole expiry from now. One round trip to all masters at once.

        Raises:
            LockLost: Fewer than a quorum still had it.
        """
        expiry_ms = round(self._strategy.expiry * 1000)
        packed = _packed(
            "EVAL", _EXTEND_SOURCE, "1", self._lock, self._token, f"{expiry_ms}"
        )
        if not self._is_agreed(packed):
            raise LockLost("the lock was lost on most masters before it was extended")

    def _is_agreed(self, packed: bytes, packed_undo: bytes = b"") -> bool:
        """Whether a quorum said yes while there was time left."""
        begun, expiry = time.monotonic(), self._strategy.expiry
        votes = sum(bool(answer) for answer in self._strategy.ask(packed, packed_undo))
        deadline = begun + expiry - (0.01 * expiry + 0.002)
        agreed = votes >= self._strategy.quorum and time.monotonic() < deadline
        if agreed:
            self.deadline = deadline
        return agreed


class _Node:
    """One master, asked on connections of our own."""

    def __init__(self, address: Any, seconds: float) -> None:
        client = client_for(address, seconds)
        if not isinstance(client, Redis):
            raise ConfigError("option lock_nodes: use plain Redis masters, no Cluster")
        given = client.connection_pool
        self.silent_since = 0.0  # when it was last asked in vain; 0: it answered
        self._seconds = seconds
        kwargs = given.connection_kwargs
        self.place = tuple(map(kwargs.get, ("host", "port", "path")))
        self._kind = given.connection_class
        self._options = connection_options(client, seconds)
        self._idle = Idle()

    def send(self, command: bytes, end: float) -> Link | None:
        """The connection that the command went out on; None where there is none.

        A silent master is not connected to once the others have used up the time; who
        is silent for longest is asked next, as it may be back.
        """
        link = self._idle.take(time.monotonic())
        try:
            if link and self._is_closed(link):
                link = None
            if not link and self.silent_since and time.monotonic() > end:
                return None
            link = link or self._connected()
            link.send(command)
        except (RedisError, OSError):
            self.silent_since = time.monotonic()
            if link:
                link.close()
            return None
        return link

    def _is_closed(self, link: Link) -> bool:
        """Whether the master has closed it; it is made anew then."""
        try:
            is_closed = link.hears(0)
        except RedisError:
            is_closed = True
        if is_closed:
            link.close()
        return is_closed

    def _connected(self) -> Link:
        connection = self._kind(**self._options)
        connect(connection, time.monotonic() + self._seconds)
        return link_of(connection)

    def receive(self, link: Link | None, end: float, undo: bytes) -> Any:
        if link is None:
            return None
        left = end - time.monotonic()
        try:
            # The socket's own deadline will do, unless others have used up the time.
            if left > NEARLY * self._seconds or link.hears(max(0.0, left)):
                (answer,) = link.receive()
                if isinstance(answer, Exception):
                    raise answer
                self._idle.give(link, time.monotonic())
                self.silent_since = 0.0
                return answer
        except (RedisError, OSError):
            pass  # as silence: what it did is not known
        self.give_up(link, undo)
        return None

    def give_up(self, link: Link, undo: bytes) -> None:
        """Close it, behind what undoes the command; others are asked before it now."""
        self.silent_since = time.monotonic()
        try:
            if undo and link.is_open:
                link.send(undo)
        except (RedisError, OSError):
            pass
        finally:
            link.close()
