"""Which records plain commands read as well as the script that loads.

The script prolongs a record where that is due, and leaves large fields where they lie.
Of a record that was lately read here, is small, and is not due before some time,
HGETALL and PTTL say the same, for half of the server's work. Whether it still is such a
one is told by what they bring: so nothing that another process did is missed, but it
may be read once more, by the script.
"""

import time
from typing import NamedTuple

_MOST = 10_000  # records; about 2 MB


class Familiar(NamedTuple):
    """What is known of such a record."""

    ttl: bytes
    """As its META has it: another one makes it another record."""
    least_ms: int
    """It is to be prolonged if it lies for less."""
    until: float
    """That will be then, on `time.monotonic`'s clock."""


class Familiars:
    """Such records by their names. Threads share it."""

    def __init__(self) -> None:
        self._known: dict[str, Familiar] = {}

    def note(self, name: str, ttl: bytes, left_ms: int, least_ms: int) -> None:
        if len(self._known) >= _MOST:
            for oldest in list(self._known)[: _MOST // 10]:
                self._known.pop(oldest, None)
        until = time.monotonic() + (left_ms - least_ms) / 1000
        self._known[name] = Familiar(ttl, least_ms, until)

    def find(self, name: str) -> Familiar | None:
        known = self._known.get(name)
        return known if known and time.monotonic() < known.until else None

    def forget(self, name: str) -> None:
        self._known.pop(name, None)
