"""The interface of a lock: a strategy, shared and stateless, gives out leases."""

import logging
import threading
import time
from typing import Protocol, runtime_checkable

from ..errors import LockLost, StoreUnavailable

_log = logging.getLogger("smartredis_wsgi")
_SHORTEST_PAUSE = 0.001


class Lease(Protocol):
    """A lock, held."""

    @property
    def deadline(self) -> float:
        """When it ends by itself, on `time.monotonic`'s clock, in seconds."""

    def release(self) -> None:
        """Give the lock back. Expired, lost or released before is not an error."""

    def extend(self) -> None:
        """Hold it for a whole expiry from now.

        Raises:
            LockLost: It expired, or is another's; it stays so.
        """


@runtime_checkable
class LockStrategy(Protocol):
    """What ``config["lock"]`` may be. Threads share it."""

    def acquire(self, key: str) -> Lease:
        """Wait for the lock, for a bounded time.

        Raises:
            LockTimeout: Others hold it for too long.
            StoreUnavailable: It cannot be asked for.
        """


class Renewal:
    """Extends a lease, in a thread, until it is stopped or the lease is lost.

    It does so after each third of the life that is left.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and wait for an extension that is under way."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._pause()):
            try:
                self._lease.extend()
            except LockLost as lost:
                _log.warning("a lock is no more prolonged: %s", lost)
                return
            except StoreUnavailable:
                continue  # the next turn may reach it while it still lasts

    def _pause(self) -> float:
        left = self._lease.deadline - time.monotonic()
        return min(max(left / 3, _SHORTEST_PAUSE), threading.TIMEOUT_MAX)
