"""No lock: everybody gets it at once. The store's own checks are what protects."""

import math
from typing import NamedTuple


class NoLease(NamedTuple):
    deadline: float = math.inf

    def release(self) -> None:
        """Nothing is held."""

    def extend(self) -> None:
        """It never ends."""


class NoLock:
    """A strategy that excludes nobody. No round trip."""

    def acquire(self, key: str) -> NoLease:  # noqa: ARG002
        return NoLease()
