"""A server that is silent: who comes next does not wait for it once more.

::

    answers --no answer in time, to anybody--> silent --the late one comes--> answers
                                               |    ^
                       its time is over: one tries  in vain: for longer

So a dead server costs a process one deadline and not each request.
"""

import time
from typing import Protocol

from redis.exceptions import TimeoutError as RedisTimeoutError

_MOST_TRIES = 5  # timeouts for which it is not asked again


class Late(Protocol):
    """Something that may still be heard of the server."""

    def has_come(self) -> bool:
        """Whether it has, or the server is known to be gone."""

    def close(self) -> None:
        """Nobody listens any more."""


class Unasked(RedisTimeoutError):
    """The server is silent, so that it was not asked at all."""


class Silence:
    """Of one server, or none. Threads share it.

    Args:
        timeout: For so many seconds it is not asked again, and after each try in vain
            for as many more.
    """

    late: Late | None = None
    until = 0.0
    """Before then it is not asked, on time.monotonic's clock; 0: it is not silent."""
    _tries = 0  # in vain, one after the other
    answered = 0.0
    """When the last exchange had its replies."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout

    def check(self) -> None:
        """Go on, if there is none, the late answer has come, or it is time to try.

        Raises:
            Unasked: It is not.
        """
        if not self.until:
            return
        now, late = time.monotonic(), self.late
        if now < self.until and not (late and late.has_come()):
            raise Unasked
        self.until = now + self._timeout  # for others: they wait how this one fares

    def end(self) -> None:
        """The server has answered, or refused to."""
        if self.late:
            self._hear_no_more(None)
        self.until, self._tries = 0.0, 0
        self.answered = time.monotonic()

    def begin(self, since: float, late: Late | None) -> bool:
        """Nothing was heard since then, by one; whether that makes the server silent.

        It does not where another has heard of it meanwhile.
        """
        if self.answered >= since:
            return False
        self._tries = min(self._tries + 1, _MOST_TRIES)
        if late:
            self._hear_no_more(late)
        self.until = time.monotonic() + self._tries * self._timeout
        return True

    def _hear_no_more(self, instead: Late | None) -> None:
        before, self.late = self.late, instead
        if before:
            before.close()
