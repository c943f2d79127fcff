"""What happens to sessions, told to whoever listens: for metrics and traces.

The option `on_event` takes a function that is called with an `Event`, in the thread of
the request that it happened to. Without one nothing is made, and nothing called.
"""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

_log = logging.getLogger("smartredis_wsgi")

MEANINGS = {
    "loaded": "a session was loaded, in so many seconds; fields: how many",
    "missing": "the client's id leads to no session: it expired, or was destroyed",
    "created": "a new session was stored, in so many seconds; fields: how many",
    "committed": "changes were stored, in so many seconds; fields: how many changed",
    "merged": "another request had changed the same fields, and both were merged",
    "conflict": "the same, and it was not merged: `SessionConflict`",
    "imported": "the session of another library was taken over; fields: how many",
    "rotated": "the session has another id now; it was committed, too",
    "destroyed": "the session was destroyed, in so many seconds",
    "gone": "the session ended while a request had it",
    "dropped": "changes came too late for a session that is gone",
    "locked": "the lock was taken, after so many seconds",
    "lock_timeout": "others held the lock for too long, so many seconds: `LockTimeout`",
    "lock_lost": "the lock was lost before the commit: `LockLost`",
    "unavailable": "Redis failed, after so many seconds; none if it refused or was not "
    "asked",
    "foreign_reply": "Redis gave an answer to another question, which was thrown away",
}
"""All names of events."""


class Event(NamedTuple):
    """Something that happened. No id, no name of a field, no value is in it."""

    name: str
    handle: str = ""
    """As in a log: it tells the session from others. Empty where none is concerned."""
    seconds: float | None = None
    fields: int | None = None


Listener = Callable[[Event], object]


class Events:
    """Tells a listener, whose failures are logged, each kind of them once."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._known: set[type[BaseException]] = set()

    def tell(
        self,
        name: str,
        handle: str = "",
        since: float | None = None,
        fields: int | None = None,
    ) -> None:
        """Call the listener.

        Args:
            since: When it began, on `time.monotonic`'s clock.
        """
        seconds = None if since is None else time.monotonic() - since
        try:
            self._listener(Event(name, handle, seconds, fields))
        except Exception as failure:
            if type(failure) not in self._known:
                self._known.add(type(failure))
                _log.exception("on_event failed; requests go on without it")
