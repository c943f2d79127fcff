"""The lock, as one request holds it: taken, proven at the commit, released once."""

import logging
import time
from typing import Any

from .engine import Engine
from .errors import LockLost, StoreUnavailable
from .ids import Address
from .locks import Lease
from .locks.single import SingleNodeLease
from .locks.strategy import Renewal
from .store import Basis, Loaded
from .wire import Call

_log = logging.getLogger("smartredis_wsgi")


class Hold:
    """A lease, or none. Calls that could travel with the lock's do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lease: Lease | None = None
        self._renewal: Renewal | None = None
        self._exclusive = False

    def __bool__(self) -> bool:
        return self._lease is not None

    def take(self, address: Address, load: Call[Loaded] | None = None) -> None:
        """Take the session's lock, and run the load under it.

        With a lock of the records' own Redis that is one round trip, and none is taken
        where there is no record. A record loaded under the lock is *exclusive*.

        Raises:
            LockTimeout: Others hold it for too long.
        """
        engine, name = self._engine, self._engine.lock_name(address)
        loads = [load] if load else []
        if engine.near_lock:
            record = engine.records.key(address.record)
            self._lease = engine.near_lock.acquire_with(name, *loads, record=record)
        else:
            self._lease = engine.lock.acquire(name)
            try:
                engine.wire.run(*loads)
            except BaseException:
                self.release()  # a lock without its load would pass for a fresh one
                raise
        self._exclusive = bool(load and self._lease)
        if self._lease and engine.config.lock_renew:
            self._renewal = Renewal(self._lease, engine.config.lock_expiry / 3)

    def run(self, call: Call[Any], last: bool) -> None:
        """Run a call; after the last one the lease is released."""
        lease = self._lease
        if last and isinstance(lease, SingleNodeLease) and self._engine.near_lock:
            lease.release(call)
            self._let_go()
        else:
            self._engine.wire.run(call)
            if last:
                self.release()

    def basis(self, loaded: Loaded) -> Basis:
        """What a commit asks of the record: that it is the one that was loaded.

        If it was loaded under the lease, also that it was not changed since. And that
        nobody else has the lock now: where the commit's script can't see that, the
        lease's deadline tells.

        Raises:
            LockLost: The deadline is over.
        """
        lease, incarnation = self._lease, loaded.incarnation
        version = loaded.version if self._exclusive else None
        if isinstance(lease, SingleNodeLease) and self._engine.near_lock:
            return Basis(incarnation, version, lease.lock_key, lease.token)
        if lease and lease.deadline < time.monotonic():
            raise LockLost("the lock expired before the commit; nothing was written")
        return Basis(incarnation, version)

    def release(self) -> None:
        """Release the lease, if there is one; what can't be released, expires."""
        lease = self._lease
        self._let_go()
        if lease:
            try:
                lease.release()
            except StoreUnavailable as error:
                _log.warning("a lock is left to expire: %s", error)

    def _let_go(self) -> None:
        if self._renewal:
            self._renewal.stop()
        self._lease, self._renewal, self._exclusive = None, None, False
