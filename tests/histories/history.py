"""What the processes tell, made into operations of each field."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from .model import UNKNOWN, Operation

Ident = tuple[int, int]
"""A process, and a number that it gave."""


class Invoked(NamedTuple):
    """Told before a write is made. A read is told when its value is there."""

    ident: Ident
    field: str
    operation: Operation


class Ended(NamedTuple):
    """Told when it is known what became of writes: done by then, or (None) never."""

    idents: tuple[Ident, ...]
    returned: int | None


Event = Invoked | Ended


class History:
    """The operations of one session, as they become known."""

    def __init__(self) -> None:
        self._known: dict[Ident, Invoked] = {}
        self.dropped = 0
        """Writes of which the request was told that they were not made."""

    def tell(self, event: Event) -> None:
        if isinstance(event, Invoked):
            self._known[event.ident] = event
            return
        for ident in event.idents:
            invoked = self._known.pop(ident)
            if event.returned is None:
                self.dropped += 1
                continue
            operation = invoked.operation._replace(returned=event.returned)
            self._known[ident] = invoked._replace(operation=operation)

    def by_field(self) -> dict[str, list[Operation]]:
        operations = defaultdict(list)
        for invoked in self._known.values():
            operations[invoked.field].append(invoked.operation)
        return operations

    @property
    def operations(self) -> int:
        return len(self._known)

    @property
    def unknown(self) -> int:
        """How many operations nobody knows the outcome of."""
        known = self._known.values()
        return sum(event.operation.returned == UNKNOWN for event in known)
