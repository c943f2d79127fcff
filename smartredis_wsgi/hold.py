"""What one request holds: the lock, taken and released once, and its patience."""

import logging
import time
from typing import Any

from .engine import Engine
from .errors import LockLost, LockTimeout, StoreUnavailable
from .ids import Address
from .locks import Lease
from .locks.single import SingleNodeLease, SingleNodeLock
from .locks.strategy import Renewal
from .store import Basis, Kind, Loaded
from .wire import Call, Patience

_log = logging.getLogger("smartredis_wsgi")


class Hold:
    """A lease, or none. Calls that could travel with the lock's do."""

    lease: Lease | None = None
    """The lock, while it is held."""
    _near: SingleNodeLease | None = None  # the lease, if it is on the records' Redis
    _renewal: Renewal | None = None
    _exclusive = False  # the record was loaded under the lease

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.patience = Patience(engine.config.timeout)
        """For how long the request may still wait, for other Redis servers too."""

    def take(
        self, address: Address, known: bool, load: Call[Any] | None = None
    ) -> None:
        """Take the session's lock, and run the load under it.

        None is taken where there is no record: an id that nobody knows makes no key.
        With a lock of the records' own Redis that is one round trip.

        Args:
            known: There was a record, so there is no need to look first.

        Raises:
            LockTimeout: Others hold it for too long.
        """
        begun = time.monotonic()
        try:
            self._take(address, known, load)
        except LockTimeout:
            self._tell("lock_timeout", address.handle, begun)
            raise
        if self.lease:
            self._tell("locked", address.handle, begun)
        self._exclusive = bool(load and self.lease)
        if self.lease and self._engine.config.lock_renew:
            self._renewal = Renewal(self.lease)

    def _take(self, address: Address, known: bool, load: Call[Any] | None) -> None:
        loads = [load] if load else []
        if self._engine.near_lock:
            self._take_near(self._engine.near_lock, address, loads)
        elif known or self._finds(load or self._engine.records.load(address.record)):
            self._take_far(address, loads)

    def _take_near(
        self, lock: SingleNodeLock, address: Address, loads: list[Call[Any]]
    ) -> None:
        name, record = self._engine.lock_name(address), self._engine.record_key(address)
        self.lease = self._near = lock.acquire_with(
            name, *loads, record=record, patience=self.patience
        )

    def _finds(self, load: Call[Loaded]) -> bool:
        self.run(load)
        return load.result.kind is Kind.ALIVE

    def _take_far(self, address: Address, loads: list[Call[Any]]) -> None:
        begun = time.monotonic()
        try:
            self.lease = self._engine.lock.acquire(self._engine.lock_name(address))
        except StoreUnavailable:
            self._tell("unavailable", since=begun)
            raise
        for load in loads:
            self.run(load)

    def run(self, call: Call[Any], last: bool = False) -> None:
        """Run a call; after the last one the lease is released.

        Raises:
            StoreUnavailable: No answer, or the request has waited for Redis too long.
        """
        if last and self._near:
            self._near.release(call)
            self._let_go()
        else:
            self._engine.wire.run(call, patience=self.patience)
            if last and self.lease:
                self.release()

    def ask(self, *calls: Call[Any]) -> None:
        """Run calls that have nothing to do with the lease, in one round trip."""
        self._engine.wire.run(*calls, patience=self.patience)

    def basis(self, loaded: Loaded) -> Basis:
        """What a commit asks of the record: that it is the one that was loaded.

        If it was loaded under the lease, also that it was not changed since. And that
        nobody else has the lock now: where the commit's script can't see that, the
        lease's deadline tells.

        Raises:
            LockLost: The deadline is over.
        """
        version = loaded.version if self._exclusive else None
        if self._near:
            lock, token = self._near.lock_key, self._near.token
            return Basis(loaded.incarnation, version, lock, token)
        if self.lease and self.lease.deadline < time.monotonic():
            raise LockLost("the lock expired before the commit; nothing was written")
        return Basis(loaded.incarnation, version)

    def release(self) -> None:
        """Release the lease, if there is one; what can't be released, expires."""
        lease = self.lease
        if lease:
            self._let_go()
            try:
                lease.release()
            except StoreUnavailable as error:
                _log.warning("a lock is left to expire: %s", error)

    def _let_go(self) -> None:
        if self._renewal:
            self._renewal.stop()
        self.lease = self._near = self._renewal = None
        self._exclusive = False

    def _tell(self, name: str, handle: str = "", since: float | None = None) -> None:
        if self._engine.events:
            self._engine.events.tell(name, handle, since)
