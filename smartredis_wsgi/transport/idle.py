"""Connections that nobody uses now: the one that was used last is used next."""

import weakref
from collections import deque

from .forks import begins_anew_in_forks
from .link import Link

_IDLE_SECONDS = 60.0  # a connection that nobody needed for so long is closed


class Idle:
    """A stack of connections. Threads share it; a fork begins with none."""

    def __init__(self) -> None:
        self._stack: deque[tuple[float, Link]] = deque()
        begins_anew_in_forks(self)
        weakref.finalize(self, _close_all, self._stack)

    def take(self, now: float) -> Link | None:
        """A connection for one exchange; None if there is none."""
        try:
            since, link = self._stack.pop()
        except IndexError:
            return None
        if since < now - _IDLE_SECONDS:  # and so are the others
            link.close()
            self.close()
            return None
        return link

    def give(self, link: Link, now: float) -> None:
        """One whose replies were all read. Whoever is idle for too long is closed."""
        self._stack.append((now, link))
        try:
            if self._stack[0][0] < now - _IDLE_SECONDS:
                _close_oldest(self._stack)
        except IndexError:  # another thread has taken it
            return

    def begin_anew(self) -> None:
        self._stack.clear()

    def close(self) -> None:
        _close_all(self._stack)


def _close_all(links: deque[tuple[float, Link]]) -> None:
    while links:
        _close_oldest(links)


def _close_oldest(links: deque[tuple[float, Link]]) -> None:
    try:
        _, link = links.popleft()
    except IndexError:  # another thread was faster
        return
    link.close()
