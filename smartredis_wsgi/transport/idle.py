"""Connections that nobody uses now: the one that was used last is used next."""

import os
import time
import weakref
from collections import deque
from typing import Any

_IDLE_SECONDS = 60.0  # a connection that nobody needed for so long is closed


class Idle:
    """A stack of connections. Threads share it; a fork begins with none."""

    def __init__(self) -> None:
        self._stack: deque[tuple[float, Any]] = deque()
        self._pid = os.getpid()
        weakref.finalize(self, _close_all, self._stack)

    def take(self) -> Any:
        """A connection for one exchange; None if there is none."""
        if self._pid != os.getpid():  # those of before the fork are the parent's
            self._stack.clear()
            self._pid = os.getpid()
        try:
            since, connection = self._stack.pop()
        except IndexError:
            return None
        if since < time.monotonic() - _IDLE_SECONDS:  # and so are the others
            connection.disconnect()
            self.close()
            return None
        return connection

    def give(self, connection: Any, now: float) -> None:
        """One whose replies were all read. Whoever is idle for too long is closed."""
        self._stack.append((now, connection))
        try:
            if self._stack[0][0] < now - _IDLE_SECONDS:
                _close_oldest(self._stack)
        except IndexError:  # another thread has taken it
            return

    def close(self) -> None:
        _close_all(self._stack)


def _close_all(connections: deque[tuple[float, Any]]) -> None:
    while connections:
        _close_oldest(connections)


def _close_oldest(connections: deque[tuple[float, Any]]) -> None:
    try:
        _, connection = connections.popleft()
    except IndexError:  # another thread was faster
        return
    connection.disconnect()


def is_open(connection: Any) -> bool:
    """Whether it has a socket, which redis-py tells by a public name since 8.0."""
    told = getattr(connection, "is_connected", None)
    return connection._sock is not None if told is None else bool(told)
