"""A lock on one Redis: ``SET key token NX PX ms``, in python-redis-lock's protocol.

A waiter blocks on the lock's signal (BLPOP) and tries again when it comes, or after
`retry_time` where no signal comes because the holder died. Redis wakes them in their
order, and who comes later does not get in before them. What the holder wants to do
first and last may travel with the lock: see the riders.
"""

import functools
import math
import random
import time
from enum import Enum
from typing import Any

from ..errors import LockLost, LockTimeout, StoreUnavailable
from ..wire import Call, NotAsked, Patience, Script, Wire, in_ms
from . import protocol

_ACQUIRE = Script.named("acquire")
_EXTEND = Script.named("extend")
_WAITER_SECONDS = 1.0  # for so long one who does not come back counts as waiting


@functools.cache
def _release_after(*digests: str) -> Script:
    """The release that travels behind these scripts.

    It is known to a server only together with them. Otherwise a server that lost a
    commit's script, but not this one, would release before the commit is sent again.
    """
    behind = b"".join(f"\n-- behind {digest}".encode() for digest in digests)
    return Script.of(protocol.RELEASE_SOURCE + behind)


class _Outcome(Enum):
    HELD = b"held"
    BUSY = b"busy"
    CROWDED = b"crowded"
    NOTHING = b"nothing"


class SingleNodeLock:
    """A strategy on one Redis, a plain client, Sentinel's or a Cluster's.

    In a Cluster a lock's name has to hold a hash tag, as those of sessions do.

    Args:
        client: A redis-py client, or a URL.
        expiry: Life of a lock, in seconds.
        wait: LockTimeout after so many seconds.
        retry_time: Longest pause between tries where no signal wakes, in seconds.
        max_waiters: LockTimeout at once where so many wait already.
        timeout: Longest wait for an answer, in seconds, where `client` is a URL.
    """

    def __init__(
        self,
        client: Any,
        *,
        expiry: float = 5.0,
        wait: float = 10.0,
        retry_time: float = 0.1,
        max_waiters: int | None = None,
        timeout: float = 1.0,
    ) -> None:
        self.wire = client if isinstance(client, Wire) else Wire(client, timeout)
        self.expiry = expiry
        self._wait = wait
        self._retry_time = retry_time
        self._max_waiters = max_waiters or 0

    def acquire(self, key: str) -> "SingleNodeLease":
        """Take the lock, or wait for it. One round trip where it is free.

        Each turn of a waiter is two more. Where the reply is lost, what it may have
        taken is released, or expires.

        Raises:
            LockTimeout: It stayed taken for `wait`, or too many wait.
            StoreUnavailable: Redis does not answer.
        """
        lease = self.acquire_with(key)
        assert lease  # there is no record whose absence could prevent it
        return lease

    def acquire_with(
        self,
        key: str,
        *riders: Call[Any],
        record: str | None = None,
        patience: Patience | None = None,
    ) -> "SingleNodeLease | None":
        """As `acquire`; the riders run under the lock, in the same round trip.

        Args:
            patience: What the request has left for Redis, waiting for others aside.
            record: No lock is taken, and nothing returned, where this key is no hash.
                The riders have run then, too.
        """
        lease = SingleNodeLease(self, key, patience)
        try:
            outcome = self._wait_for(lease, record or lease.lock_key, riders)
        except (LockTimeout, NotAsked):
            raise
        except BaseException:  # whether it was taken is not known
            lease.release_if_possible()
            raise
        return lease if outcome is _Outcome.HELD else None

    def _wait_for(
        self, lease: "SingleNodeLease", record: str, riders: tuple[Call[Any], ...]
    ) -> _Outcome:
        end, patience = time.monotonic() + self._wait, lease.patience
        while True:
            left = max(0.0, end - time.monotonic())
            call = self._attempt(lease, record, left)
            lease.deadline = time.monotonic() + self.expiry
            self.wire.run(call, *riders, patience=patience)
            patience = None  # waiting for others is not waiting for Redis
            if call.result is _Outcome.CROWDED:
                most = f"{self._max_waiters} wait for the lock"
                raise LockTimeout(f"{most} already; lock_max_waiters")
            if call.result is not _Outcome.BUSY:
                return call.result
            if not left:
                raise LockTimeout(f"the lock was taken for {self._wait:g} s; lock_wait")
            pause = self._retry_time * random.uniform(0.8, 1)
            self.wire.wait(protocol.signal_key(lease.name), min(left, pause))

    def _attempt(
        self, lease: "SingleNodeLease", record: str, left: float
    ) -> Call[_Outcome]:
        turn = min(left, self._retry_time + _WAITER_SECONDS)
        expiry_ms, most = in_ms(self.expiry), f"{self._max_waiters}"
        waiters = protocol.waiters_key(lease.name)
        signal = protocol.signal_key(lease.name)
        return Call(
            _ACQUIRE,
            [lease.lock_key, waiters, record, signal],
            (lease.token, expiry_ms, most, f"{math.ceil(turn * 1000)}"),
            lambda answer: _Outcome(answer[0]),
        )


class SingleNodeLease:
    """A lock held on one Redis."""

    def __init__(
        self, strategy: SingleNodeLock, name: str, patience: Patience | None = None
    ) -> None:
        self.name, self.token, self.patience = name, protocol.new_token(), patience
        self.lock_key = protocol.lock_key(name)
        self.deadline = 0.0
        self._strategy = strategy

    def release(self, *riders: Call[Any]) -> None:
        """Give it back, after the riders have run; one round trip for all.

        Another's lock is never deleted. Expired or released before is not an error.

        Raises:
            StoreUnavailable: Redis does not answer; the lock expires by itself.
        """
        keys = [self.lock_key, protocol.signal_key(self.name)]
        arguments = (self.token, protocol.SIGNAL_MS)
        script = _release_after(*(rider.script.digest for rider in riders))
        call = Call(script, keys, arguments, lambda _: None, echoes=False)
        wire = self._strategy.wire
        try:
            wire.run(*riders, call, patience=self.patience)
        except StoreUnavailable:
            if riders:
                raise
            wire.tell(call)

    def release_if_possible(self) -> None:
        try:
            self.release()
        except StoreUnavailable:
            return  # it expires

    def extend(self) -> None:
        """Hold it for a whole expiry from now. One round trip.

        Raises:
            LockLost: It expired, or is another's.
            StoreUnavailable: Redis does not answer.
        """
        begun, expiry = time.monotonic(), self._strategy.expiry
        arguments = self.token, in_ms(expiry)
        call = Call(_EXTEND, [self.lock_key], arguments, lambda answer: bool(answer[0]))
        self._strategy.wire.run(call)
        if not call.result:
            raise LockLost("the lock expired before it was extended")
        self.deadline = begun + expiry
