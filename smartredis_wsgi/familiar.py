"""Which records plain commands read as well as the script that loads.

The script prolongs a record where that is due, and leaves large fields where they lie.
Of a record that was lately read here and is not due before some time, HGETALL and PTTL
say the same if it is small, for half of the server's work. If it is large, HMGET of the
names of its small fields does, as long as no commit has come: so only of one that was
found unchanged once. Whether a record still is as it was is told by what comes: nothing
that another process did is missed, but it may be read once more, by the script.
"""

import time
from typing import Any, NamedTuple

_MOST = 10_000  # records; some 2 MB


class Familiar(NamedTuple):
    """What is known of such a record."""

    ttl: bytes
    """As its META has it: another one makes it another record."""
    least_ms: int
    """It is to be prolonged if it lies for less."""
    until: float
    """That will be then, on `time.monotonic`'s clock."""
    version: int = 0
    """Of one that is large; another one makes it another record."""
    names: tuple[bytes, ...] = ()
    """Of its META and its small fields, if it is large."""
    left: tuple[bytes, ...] = ()
    """Of the others."""


class Familiars:
    """Such records by their names. Threads share it."""

    def __init__(self) -> None:
        self._known: dict[str, Familiar] = {}
        self._met: dict[str, int] = {}  # versions of large ones, when last loaded

    def note(self, name: str, known: Familiar) -> None:
        """Keep it; a large one if it was of this version when it was noted before."""
        if not known.names or self._met.get(name) == known.version:
            _keep(self._known, name, known)
        else:
            _keep(self._met, name, known.version)

    def find(self, name: str) -> Familiar | None:
        known = self._known.get(name)
        return known if known and time.monotonic() < known.until else None

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    def changed(self, name: str, is_large: bool) -> None:
        """It is about to be written to: another version, or large from now on."""
        known = self._known.get(name)
        if known and (known.names or is_large):
            self.forget(name)


def _keep(table: dict[str, Any], name: str, what: Any) -> None:
    if len(table) >= _MOST:
        for oldest in list(table)[: _MOST // 10]:
            table.pop(oldest, None)
    table[name] = what
